"""The pose reader: heat maps and places, the error in percent of body height, its file, and its training."""

import numpy as np
import pytest
import torch

from mimicmotion.dwpose.keypoints import pose_from_arrays
from mimicmotion.errors import InputError, SetupError
from mimicmotion.puppets import clips as puppets
from mimicmotion.puppets import pose_reader
from mimicmotion.puppets.pose_reader import PoseReader, ReaderConfig, load_reader, save_reader
from mimicmotion.training import loop, reader
from mimicmotion.training.evaluation_options import ReaderOptions

HEIGHT, WIDTH = 192, 128
SMALL = ReaderConfig(widths=(8, 8, 8))


def pose(points, scores):
    """A pose whose first 14 joints are at `points` (14, 2), in 0..1."""
    body = np.concatenate([points, np.full((4, 2), 0.5)])[None].astype(np.float32)
    body_score = np.concatenate([scores, np.ones(4)])[None].astype(np.float32)
    return pose_from_arrays(
        body, body_score, np.zeros((1, 2, 21, 2)), np.zeros((1, 2, 21)), np.zeros((1, 68, 2)), np.zeros((1, 68))
    )


def joints(seed=0):
    return torch.rand(2, 14, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([100.0, 160.0]) + 14


def test_places_are_finer_than_a_cell():
    heat = reader.wanted_heat(joints(), HEIGHT // 4, WIDTH // 4)
    assert (pose_reader.places(heat.log()) - joints()).abs().max() < 0.6


def test_of_two_places_the_hotter_one_is_read():
    one, other = (reader.wanted_heat(joints(seed), HEIGHT // 4, WIDTH // 4) for seed in (0, 1))
    assert (pose_reader.places((0.7 * one + 0.3 * other).log()) - joints(0)).norm(dim=-1).median() < 1


def test_heat_maps_have_a_cell_for_four_pixels():
    logits = PoseReader(SMALL)(torch.rand(2, 3, HEIGHT, WIDTH))
    assert logits.shape == (2, 14, HEIGHT // 4, WIDTH // 4)


def test_the_network_is_small():
    assert sum(p.numel() for p in PoseReader().parameters()) < 520_000


def test_hidden_and_outside_joints_are_not_seen():
    points, scores = np.full((14, 2), 0.25), np.full(14, 0.9)
    scores[3], points[5], points[6] = 0.2, (1.1, 0.5), (0.5, -0.01)
    places, seen = pose_reader.true_joints([pose(points, scores)], HEIGHT, WIDTH)
    assert np.flatnonzero(~seen[0]).tolist() == [3, 5, 6]
    assert places[0, 0] == pytest.approx((0.25 * WIDTH, 0.25 * HEIGHT))


def test_the_error_is_in_percent_of_body_height(monkeypatch):
    points, scores = np.full((14, 2), 0.5), np.full(14, 0.9)
    scores[0] = 0.1
    poses = [pose(points, scores)] * 2
    found = np.full((2, 14, 2), (0.5 * WIDTH + 3, 0.5 * HEIGHT + 4))
    found[:, 0] = 0  # hidden: it does not count
    monkeypatch.setattr(pose_reader, "read_joints", lambda *_: found)
    error, each = pose_reader.pose_error(None, np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), poses, body_height=50)
    assert error == pytest.approx(10)
    assert np.isnan(each[:, 0]).all() and each[0, 1] == pytest.approx(10)


def test_a_clip_without_a_seen_joint_is_an_error():
    nobody = [pose(np.full((14, 2), 0.5), np.zeros(14))]
    with pytest.raises(ValueError, match="no joint is seen"):
        pose_reader.pose_error(None, np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), nobody, 100)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="192 x 128"):
        pose_reader.read_joints(PoseReader(SMALL), np.zeros((1, 64, 64, 3), np.uint8))


class TestFile:
    @pytest.fixture
    def path(self, tmp_path):
        torch.manual_seed(0)
        save_reader(PoseReader(SMALL), tmp_path / "reader.safetensors", {"steps": 3})
        return tmp_path / "reader.safetensors"

    def test_it_comes_back_in_half_precision(self, path):
        torch.manual_seed(0)
        expected = PoseReader(SMALL)
        loaded = load_reader(path)
        assert loaded.config == SMALL
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, expected.state_dict()[name].half().float()), name

    def test_a_missing_one_says_how_to_train_it(self, tmp_path):
        with pytest.raises(SetupError, match=r"train_tiny\.py reader"):
            load_reader(tmp_path / "reader.safetensors")

    @pytest.mark.parametrize("suffix", [".safetensors", ".json"])
    def test_a_damaged_one_is_named(self, path, suffix):
        path.with_suffix(suffix).write_bytes(b"{}")
        with pytest.raises(InputError, match=r"reader\.safetensors"):
            load_reader(path)


class TestTraining:
    def test_validation_people_are_never_drawn(self, monkeypatch):
        drawn, make_clip = [], puppets.make_clip

        def noted(seed, *size):
            drawn.append(seed)
            return make_clip(seed, *size)

        monkeypatch.setattr("mimicmotion.puppets.make_clip", noted)
        one, two = (reader.draw_batch(SMALL, 3, torch.Generator().manual_seed(7)) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        assert len(set(drawn)) == 3 and not set(drawn) & set(puppets.VALIDATION_SEEDS)

    def test_spoiled_pictures_stay_pictures_of_the_same(self):
        picture = puppets.make_clip(0, 1).frames[0]
        pictures = (torch.from_numpy(picture).permute(2, 0, 1) / 255).repeat(6, 1, 1, 1)
        spoiled = reader.spoil(pictures, torch.Generator().manual_seed(0))
        assert spoiled.min() >= 0 and spoiled.max() <= 1
        changes = (spoiled - pictures).abs().mean(dim=(1, 2, 3))
        assert changes.min() > 0.005 and changes.max() < 0.25 and changes.std() > 0

    def test_blur_of_nothing_is_nothing(self):
        picture = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(reader.blur(picture, 0), picture)
        assert reader.blur(picture, 2).std() < 0.5 * picture.std()
        assert torch.allclose(reader.blur(torch.full((3, 20, 20), 0.4), 2), torch.tensor(0.4))

    def test_the_loss_is_least_at_the_truth(self):
        seen = torch.ones(2, 14, dtype=torch.bool)
        right, wrong = (reader.wanted_heat(joints(seed), 48, 32).clamp(min=1e-9).log() for seed in (0, 1))
        (good, numbers), (bad, _) = (reader.reader_loss(logits, joints(0), seen) for logits in (right, wrong))
        assert good < bad and numbers["pixels"] < 0.6

    def test_unseen_joints_do_not_count(self):
        seen = torch.zeros(2, 14, dtype=torch.bool)
        seen[:, 2] = True
        logits = torch.zeros(2, 14, 48, 32, requires_grad=True)
        reader.reader_loss(logits, joints(), seen)[0].backward()
        assert logits.grad[:, 2].abs().sum() > 0 and logits.grad[:, :2].abs().sum() == 0

    def test_three_steps_end_with_a_reader(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reader, "SHEET_CLIPS", 2)
        options = ReaderOptions(run_dir=tmp_path, steps=3, batch=2, device="cpu", reader=tmp_path / "r.safetensors")
        reader.train_reader(options)
        assert isinstance(load_reader(options.reader), PoseReader)
        assert [line["step"] for line in loop.read_losses(options.folder / "loss.jsonl")] == [1, 2, 3]
        assert '"validation_pose_error_percent"' in (tmp_path / "r.json").read_text()
        assert (options.folder / "sheet-0000003.jpg").stat().st_size > 1000

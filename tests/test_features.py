"""Sizes, pictures and poses of a run: the published table and the laws around it."""

import logging

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.config import ReferenceSettings
from mimicmotion.dwpose import align_pose, draw_pose, empty_pose, save_poses
from mimicmotion.errors import InputError
from mimicmotion.features import (
    DrawnPoses,
    Geometry,
    align_to_reference,
    batches,
    detect_poses,
    fit_picture,
    follow,
    frame_geometry,
    load_reference,
    picture_to_frame,
    read_frame,
    read_poses,
    save_driving_poses,
)
from mimicmotion.video.picture_file import EXIF_ORIENTATION
from mimicmotion.video.source import open_video
from tests.conftest import dancing_poses, write_clip, write_pose_file


class FakeDetector:
    """Answers with the poses of a list, one after the other, and counts its calls."""

    name, fingerprint = "fake", "fake 1"

    def __init__(self, poses):
        self.poses, self.calls, self.resets = list(poses), [], 0

    def reset(self):
        self.resets += 1

    def __call__(self, frames):
        self.calls.append(len(frames))
        return [self.poses.pop(0) for _ in frames]


# width, height, resolution -> frame width, height | resized width, height (MimicMotion's inference.py)
TABLE = [
    ((1080, 1920, 576), (576, 1024), (576, 1024)),
    ((1920, 1080, 576), (1024, 576), (1024, 576)),
    ((1000, 1000, 576), (1024, 576), (1024, 1024)),
    ((768, 1024, 576), (576, 1024), (768, 1024)),
    ((1080, 1350, 576), (576, 1024), (820, 1024)),
    ((1080, 1920, 512), (512, 896), (512, 911)),
    ((1080, 1920, 448), (448, 768), None),
    ((1080, 1920, 384), (384, 640), None),
    ((1080, 1920, 768), (768, 1344), None),
    ((320, 480, 128), (128, 192), (128, 192)),
]


@pytest.mark.parametrize(("source", "frame", "resized"), TABLE)
def test_frame_sizes_are_the_published_ones(source, frame, resized):
    width, height, resolution = source
    geometry = frame_geometry(height, width, resolution)
    assert (geometry.width, geometry.height) == frame
    if resized:
        assert (geometry.resized_width, geometry.resized_height) == resized


@given(st.integers(8, 4000), st.integers(8, 4000), st.sampled_from([64, 128, 192, 576]))
def test_the_resized_picture_covers_the_frame_and_hardly_more(height, width, resolution):
    geometry = frame_geometry(height, width, resolution)
    assert geometry.resized_height >= geometry.height
    assert geometry.resized_width >= geometry.width
    assert geometry.resized_height == geometry.height or geometry.resized_width == geometry.width
    assert geometry.height % 64 == geometry.width % 64 == 0


# width, height, resolution, aspect -> frame width, height
SHAPES = [
    ((240, 240, 576, "auto"), (768, 768)),
    ((240, 240, 128, "auto"), (128, 128)),
    ((576, 1024, 576, "auto"), (576, 1024)),
    ((1920, 1080, 576, "auto"), (1024, 576)),
    ((3000, 1000, 576, "auto"), (1344, 448)),
    ((240, 240, 576, "keep"), (768, 768)),
    ((1920, 1080, 576, "9:16"), (576, 1024)),
    ((1080, 1920, 576, "16:9"), (1024, 576)),
    ((1080, 1920, 448, "9:16"), (448, 768)),
    ((1080, 1920, 576, "1:1"), (576, 576)),
    ((1080, 1920, 576, "3:4"), (576, 768)),
    ((1080, 1920, 576, "2.39:1"), (1344, 576)),
]


@pytest.mark.parametrize(("asked", "frame"), SHAPES)
def test_frames_have_the_shape_that_was_asked_for(asked, frame):
    width, height, resolution, aspect = asked
    geometry = frame_geometry(height, width, resolution, aspect)
    assert (geometry.width, geometry.height) == frame


@given(st.integers(8, 4000), st.integers(8, 4000), st.sampled_from([64, 128, 576]), st.sampled_from(["auto", "keep"]))
def test_auto_cuts_no_more_than_published_and_keep_nothing(height, width, resolution, aspect):
    geometry = frame_geometry(height, width, resolution, aspect)
    published = frame_geometry(height, width, resolution)
    assert geometry.height % 64 == geometry.width % 64 == 0
    assert 1 / 4 <= geometry.height * geometry.width / (published.height * published.width) <= 4
    lost = geometry.rows_cut + geometry.columns_cut
    assert lost == 0 if aspect == "keep" else lost <= published.rows_cut + published.columns_cut + 0.02
    # People keep their proportions, but for rounding.
    scale = geometry.resized_height / height if height > width else geometry.resized_width / width
    assert abs(geometry.resized_height - height * scale) <= 1.5
    assert abs(geometry.resized_width - width * scale) <= 1.5


def test_a_whole_picture_lies_on_the_background():
    pixels = np.full((40, 100, 3), 7, np.uint8)
    geometry = Geometry(height=64, width=128, resized_height=51, resized_width=128)
    frame = fit_picture(pixels, geometry, (250, 1, 2))
    rows = [tuple(row) for row in frame[:, 5]]
    assert rows == [(250, 1, 2)] * 6 + [(7, 7, 7)] * 51 + [(250, 1, 2)] * 7
    pose = dancing_poses(1)[0]
    moved = align_pose(pose, picture_to_frame(geometry))["bodies"]["candidate"]
    x, y = pose["bodies"]["candidate"].T
    assert np.allclose(moved, np.stack([x, (y * 51 + 6) / 64], axis=1))


def test_what_is_cut_is_told_with_its_share(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "square.png"
    PIL.Image.new("RGB", (240, 240)).save(path)
    frame = read_frame(path, 576)
    assert (frame.geometry.rows_cut, frame.geometry.columns_cut) == (0.4375, 0)
    (note,) = frame.notes
    assert "240x240 becomes 1024x576" in note and "43.8% of its rows" in note and "--aspect auto" in note
    assert read_frame(path, 576, ReferenceSettings(aspect="auto")).notes == ()
    load_reference(path, 576, lambda _: dancing_poses(1)[0])
    assert [(record.levelname, note in record.getMessage()) for record in caplog.records] == [("WARNING", True)]
    PIL.Image.new("RGB", (90, 100)).save(tmp_path / "nearly.png")
    keep = read_frame(tmp_path / "nearly.png", 64, ReferenceSettings(aspect="keep", background="#0a141e"))
    assert "background" in keep.notes[0] and keep.pixels[0, 0].tolist() == [10, 20, 30]


def test_a_picture_of_the_frames_size_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (192, 128, 3), dtype=np.uint8)
    assert np.array_equal(fit_picture(pixels, frame_geometry(192, 128, 128)), pixels)


def test_pictures_are_resized_like_the_published_ones_and_cropped_in_the_middle():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    geometry = Geometry(height=64, width=32, resized_height=64, resized_width=52)
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].double(), size=(64, 52), mode="bilinear"
    )
    expected = whole[0, :, :, 10:42].permute(1, 2, 0).numpy()
    assert np.abs(fit_picture(pixels, geometry) - expected).max() <= 0.5 + 1e-3


def test_the_reference_is_detected_in_the_frame(tmp_path):
    PIL.Image.new("RGB", (64, 96), (10, 20, 30)).save(tmp_path / "person.png")
    seen = []

    def detect(pixels):
        seen.append(pixels.shape)
        return dancing_poses(1)[0]

    reference = load_reference(tmp_path / "person.png", 64, detect)
    assert seen == [(64, 64, 3)]
    assert np.array_equal(reference.pose["bodies"]["candidate"], dancing_poses(1)[0]["bodies"]["candidate"])


def test_a_sidecar_replaces_detection_and_follows_the_crop(tmp_path):
    PIL.Image.new("RGB", (64, 96), (10, 20, 30)).save(tmp_path / "person.png")
    pose = dancing_poses(1)[0]
    write_pose_file(tmp_path / "person.pose.npz", [pose], fps=0.0)
    reference = load_reference(tmp_path / "person.png", 64, lambda _: pytest.fail("detected"))
    # 64 x 96 becomes 64 x 96, of which the middle 64 rows are kept.
    x, y = pose["bodies"]["candidate"].T
    moved = np.stack([x, (y * 96 - 16) / 64], axis=1)
    assert np.allclose(reference.pose["bodies"]["candidate"], moved, atol=1e-6)


@pytest.mark.parametrize("size", [(96, 65), (64, 96), (192, 128)])
def test_a_sidecar_of_another_picture_is_refused(tmp_path, size):
    PIL.Image.new("RGB", (64, 96)).save(tmp_path / "person.png")
    write_pose_file(tmp_path / "person.pose.npz", dancing_poses(1), size=size, fps=0.0)
    with pytest.raises(InputError, match=rf"made for a picture of {size[1]}x{size[0]}, but .*person\.png is 64x96"):
        load_reference(tmp_path / "person.png", 64, lambda _: pytest.fail("detected"))


def test_a_sidecar_is_compared_with_the_picture_as_it_is_shown(tmp_path):
    image = PIL.Image.new("RGB", (96, 64))
    exif = image.getexif()
    exif[EXIF_ORIENTATION] = 6
    image.save(tmp_path / "person.png", exif=exif)
    write_pose_file(tmp_path / "person.pose.npz", dancing_poses(1), size=(96, 64), fps=0.0)
    assert load_reference(tmp_path / "person.png", 64, lambda _: pytest.fail("detected")).frame.size == (96, 64)


def test_the_poses_of_a_clip_are_no_sidecar(tmp_path):
    PIL.Image.new("RGB", (64, 96)).save(tmp_path / "person.png")
    write_pose_file(tmp_path / "person.pose.npz", dancing_poses(2))
    with pytest.raises(InputError, match="poses of 2 frames"):
        load_reference(tmp_path / "person.png", 64, lambda _: pytest.fail("detected"))


def test_a_reference_without_a_person_is_an_error(tmp_path):
    PIL.Image.new("RGB", (64, 96)).save(tmp_path / "room.png")
    with pytest.raises(InputError, match=r"no person.*room\.png"):
        load_reference(tmp_path / "room.png", 64, lambda _: empty_pose())


def test_detection_goes_in_batches_over_the_sampled_frames(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", count=21))
    detector, counted = FakeDetector(dancing_poses(11)), []
    driving = follow(
        detect_poses(video, detector, sample_stride=2, batch_size=4, progress=counted.append), "clip"
    )
    assert detector.calls == counted == [4, 4, 3]
    assert detector.resets == 1
    assert driving.frame_indices == list(range(0, 21, 2))
    assert (driving.stride, driving.size, len(driving.poses)) == (2, (96, 64), 11)


def test_high_frame_rates_are_thinned_as_published(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", count=24, fps=60))
    driving = follow(detect_poses(video, FakeDetector(dancing_poses(6)), sample_stride=2), "clip")
    assert driving.frame_indices == [0, 4, 8, 12, 16, 20]


def test_a_clip_without_a_person_names_the_clip(tmp_path):
    video = open_video(write_clip(tmp_path / "empty.mp4", count=4))
    with pytest.raises(InputError, match=r"empty\.mp4"):
        follow(detect_poses(video, FakeDetector([empty_pose()] * 4), sample_stride=1), str(video.path))


def test_saved_poses_are_read_to_the_same_bits(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", count=12))
    poses = dancing_poses(6)
    poses[3] = empty_pose()
    detector = FakeDetector(poses)
    driving = follow(detect_poses(video, detector, sample_stride=2), "clip")
    save_driving_poses(tmp_path / "a.npz", driving, video, detector.name, detector.fingerprint)
    again = read_poses(tmp_path / "a.npz", video, sample_stride=2)
    assert again.report == driving.report
    for first, second in zip(driving.poses, again.poses, strict=True):
        assert np.array_equal(draw_pose(first, 64, 64), draw_pose(second, 64, 64))
        assert np.array_equal(first["bodies"]["candidate"], second["bodies"]["candidate"])


@pytest.mark.parametrize("method", ["robust", "linear", "none"])
def test_the_reference_comes_first_and_a_clip_of_its_own_stays(tmp_path, method):
    video = open_video(write_clip(tmp_path / "a.mp4", count=3, size=(64, 64)))
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "person.png")
    pose = dancing_poses(1)[0]
    reference = load_reference(tmp_path / "person.png", 64, lambda _: pose)
    driving = follow(detect_poses(video, FakeDetector([pose] * 3), sample_stride=1), "clip")
    poses, alignment = align_to_reference(driving, reference, method)
    assert len(poses) == 4
    assert poses[0] is reference.pose
    if method == "none":
        assert alignment is None
        assert np.array_equal(poses[1]["bodies"]["candidate"], pose["bodies"]["candidate"])
    else:
        moved = poses[1]["bodies"]["candidate"]
        assert np.allclose(moved, pose["bodies"]["candidate"], atol=1e-4)


def test_poses_are_drawn_once_and_only_when_asked_for(monkeypatch):
    drawn = []

    def draw(pose, *size):
        drawn.append(pose)
        return draw_pose(pose, *size)

    monkeypatch.setattr("mimicmotion.dwpose.draw_pose", draw)
    poses = dancing_poses(5)
    clip = DrawnPoses(poses, 64, 64)
    assert (len(clip), drawn) == (5, [])
    pictures = clip[[0, 3]]
    assert pictures.shape == (2, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    assert np.array_equal(pictures[1].numpy(), draw_pose(poses[3], 64, 64))
    assert torch.equal(clip[[3]][0], pictures[1])
    assert len(drawn) == 2


def test_the_budget_bounds_what_is_kept():
    clip = DrawnPoses(dancing_poses(5), 64, 64, budget=2 * 3 * 64 * 64)
    whole = clip[[0, 1, 2, 3, 4]]
    assert len(clip._kept) == 2
    assert torch.equal(clip[[4]][0], whole[4])


def test_only_the_parts_that_are_asked_for_are_drawn():
    pose = dancing_poses(1)[0] | {"faces": np.full((1, 68, 2), 0.5, np.float32), "faces_score": np.ones((1, 68))}
    clip = DrawnPoses([pose], 64, 64, parts=["face"])
    for drawn in (clip, clip.with_poses([pose])):
        assert np.array_equal(drawn[[0]][0].numpy(), draw_pose(pose, 64, 64, parts=["face"]))
    assert not torch.equal(clip[[0]], DrawnPoses([pose], 64, 64)[[0]])


@pytest.mark.parametrize(
    ("saved", "fps", "asked", "remedy"),
    [
        (range(0, 12, 1), 30, 2, "--sample_stride 1,"),
        (range(0, 12, 3), 30, 2, "--sample_stride 3,"),
        (range(0, 12, 2), 60, 2, "--sample_stride 1,"),
        ([0], 30, 2, "--sample_stride 12,"),
        (range(0, 12, 1), 60, 1, None),  # at 60 frames a second every second one is taken at most
        (range(1, 12, 2), 30, 1, None),
        (range(0, 10, 2), 30, 2, None),
        ([0, 2, 6], 30, 1, None),
    ],
)
def test_saved_poses_of_another_stride_name_the_one_that_fits(tmp_path, saved, fps, asked, remedy):
    video = open_video(write_clip(tmp_path / "a.mp4", count=12, fps=fps))
    save_poses(
        tmp_path / "a.npz", dancing_poses(len(saved)), frame_indices=saved, fps=fps, height=96, width=64, source="a",
        detector="test",
    )  # fmt: skip
    with pytest.raises(InputError, match="save the poses again") as caught:
        read_poses(tmp_path / "a.npz", video, sample_stride=asked)
    assert ("--sample_stride" in str(caught.value)) == (remedy is not None)
    assert (remedy or "") in str(caught.value)
    if remedy:
        fitting = int(remedy.split()[1].rstrip(","))
        assert len(read_poses(tmp_path / "a.npz", video, sample_stride=fitting).poses) == len(saved)


@given(st.integers(0, 20), st.integers(1, 7))
def test_batches_keep_everything_in_order(count, size):
    parts = list(batches(iter(range(count)), size))
    assert [item for part in parts for item in part] == list(range(count))
    assert all(len(part) == size for part in parts[:-1])

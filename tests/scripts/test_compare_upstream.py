"""Both sides in processes of their own, the clone's being a stand-in of the same interface and package name."""

import json

import numpy as np
import pytest

from scripts import compare_upstream

# What a clone offers to its own script, with sums in place of networks: it needs nothing but torch.
LOADER = """
import torch
from types import SimpleNamespace

from ..marks import SCALE


class Network(torch.nn.Linear):
    pass


class Pipeline:
    def __init__(self, config):
        assert set(vars(config)) == {"base_model_path", "ckpt_path"}
        self.unet, self.vae, self.image_encoder, self.pose_net = (Network(1, 1) for _ in range(4))

    def __call__(self, image, image_pose, height, width, num_frames, tile_size, tile_overlap, num_inference_steps,
                 min_guidance_scale, max_guidance_scale, fps, noise_aug_strength, latents, generator, output_type,
                 device):
        assert image[0].size == (width, height) and image_pose.shape == (1, num_frames, 3, height, width)
        assert -1 <= image_pose.min() < image_pose.max() <= 1
        assert latents.shape[1] == tile_size and tile_overlap < tile_size and self.unet.weight.dtype == latents.dtype
        repeats = -(-num_frames // tile_size)
        return SimpleNamespace(frames=SCALE * latents.repeat(1, repeats, 1, 1, 1)[:, :num_frames])

    def decode_latents(self, latents, num_frames, decode_chunk_size):
        return latents[:, :, :3].repeat_interleave(8, 3).repeat_interleave(8, 4).transpose(1, 2).tanh()


def create_pipeline(infer_config, device):
    return Pipeline(infer_config)
"""


@pytest.fixture
def clone(tmp_path):
    package = tmp_path / "clone" / "mimicmotion"
    (package / "utils").mkdir(parents=True)
    for path in (package / "__init__.py", package / "utils" / "__init__.py"):
        path.write_text("")
    (package / "marks.py").write_text("SCALE = 2.0\n")
    (package / "utils" / "loader.py").write_text(LOADER)
    return package.parent


def test_both_sides_read_the_same_and_are_compared(project, clone, tmp_path, capsys, logging_as_before):
    report = tmp_path / "report.json"
    code = compare_upstream.main(
        [
            f"--upstream={clone}", f"--inference_config={project / 'settings.yaml'}", "--frames=3", f"--json={report}",
            "--num_inference_steps=1", "--device=cpu",
        ]
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    figures = json.loads(report.read_text())
    assert figures["upstream"]["seconds"].keys() == {"load", "sampling", "decoding"}
    assert figures["here"]["peak_memory_bytes"] > 10_000_000
    latents = figures["difference"]["latents"]
    assert latents["max_abs_difference"] > 1 and latents["psnr_db"] < 30
    assert "latents: largest difference" in printed.out and "PSNR" in printed.out


def test_a_folder_that_is_no_clone_is_refused(project, tmp_path, capsys, logging_as_before):
    arguments = [f"--upstream={tmp_path}", f"--inference_config={project / 'settings.yaml'}"]
    assert compare_upstream.main(arguments) == 2
    assert f"--upstream {tmp_path}: no mimicmotion/utils/loader.py in it" in capsys.readouterr().err


def test_a_side_that_fails_shows_its_last_lines(clone, tmp_path):
    from mimicmotion.errors import SetupError

    (clone / "mimicmotion" / "utils" / "loader.py").write_text("import a_package_that_is_not_there\n")
    arguments = compare_upstream.parse_arguments([f"--upstream={clone}"])
    task = {"device": "cpu", "dtype": "float32", "base_model_path": "base", "ckpt_path": None}
    (tmp_path / "task.json").write_text(json.dumps(task))
    np.savez(tmp_path / "inputs.npz", picture=0)
    with pytest.raises(SetupError, match=r"(?s)upstream failed with exit code 1.*a_package_that_is_not_there"):
        compare_upstream.run_apart("upstream", tmp_path, arguments)
    arguments.python = str(tmp_path / "nowhere")
    with pytest.raises(SetupError, match="--python names the interpreter"):
        compare_upstream.run_apart("upstream", tmp_path, arguments)


def test_equal_near_and_misshapen_results_are_told_apart(tmp_path):
    latents = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 2, 2)
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for side, added in (("upstream", 0), ("here", 3)):
        np.savez(tmp_path / f"{side}.npz", latents=latents, frames=frames + np.uint8(added))
    found = compare_upstream.differences(tmp_path)
    assert found["latents"] == {"max_abs_difference": 0.0, "range": 2.0, "psnr_db": None}
    # 20 log10(255 / 3)
    assert found["frames"] == {"max_abs_difference": 3.0, "range": 255.0, "psnr_db": 38.59}
    np.savez(tmp_path / "here.npz", latents=latents[:, :2], frames=frames)
    side = {"seconds": {"load": 1, "sampling": 2, "decoding": 3}, "peak_memory_bytes": 2**20}
    found = compare_upstream.differences(tmp_path)
    table = compare_upstream.as_table({"upstream": side, "here": side, "difference": found})
    assert "latents: of different shapes, [1, 3, 4, 2, 2] upstream and [1, 2, 4, 2, 2] here" in table
    assert "frames: equal bit for bit" in table

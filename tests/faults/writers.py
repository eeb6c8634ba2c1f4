"""Every way in which the product writes a file, each as a function of (path, number of the content)."""

import numpy as np
import PIL.Image
import torch

from mimicmotion.dwpose import save_poses
from mimicmotion.feature_cache import save_pt
from mimicmotion.files import atomic_path, write_bytes, write_json, write_tensors
from mimicmotion.latent_concat.entries import save_latents
from mimicmotion.latent_steps.step_files import write_step
from mimicmotion.results import contact_sheet
from mimicmotion.video import VideoWriter
from tests.conftest import dancing_poses


def write_picture(path, number):
    with atomic_path(path) as temporary:
        PIL.Image.fromarray(noise(number)).save(temporary)


def write_array(path, number):
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, frames=noise(number))


def write_poses(path, number):
    save_poses(
        path, dancing_poses(1 + number), frame_indices=range(1 + number), fps=30.0, height=96, width=64, source="x",
        detector="test",
    )  # fmt: skip


def write_latents(path, number):
    facts = {"video_name": "x", "fps": 15.0, "seed": number}
    save_latents(path, torch.full((1, 3, 4, 8, 8), float(number)), facts)


def write_one_step(path, number):
    try:
        write_step(path.parent, path.name.partition(".")[0], noise(number).astype(np.float16), None, {})
    finally:
        path.with_name("step_000_metadata.json").unlink(missing_ok=True)


def write_video(path, number):
    with VideoWriter(path, 15) as writer:
        writer.write(noise(number)[None])


def noise(number):
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)


WRITERS = {
    "x.txt": lambda path, number: write_bytes(path, bytes([number]) * 100_000),
    "x.json": lambda path, number: write_json(path, {"numbers": [number] * 2000}),
    "x.safetensors": lambda path, number: write_tensors(path, {"a": torch.full((999,), number)}, {"k": "v"}),
    "x.pt": lambda path, number: save_pt(path, {"a": torch.full((999,), number)}),
    "x.npz": write_poses,
    "y.npz": write_array,
    "x.png": write_picture,
    "x.jpg": lambda path, number: contact_sheet(path, [("a", [noise(number)])], title="x"),
    "latents.pt": write_latents,
    "step_000.npy.gz": write_one_step,
    "x.mp4": write_video,
}


def contents(tmp_path, name):
    """A folder of its own that holds the old content under `name`, and the bytes of the old and the new content."""
    made = []
    for number in (1, 2):
        folder = tmp_path / f"content-{number}"
        folder.mkdir()
        WRITERS[name](folder / name, number)
        made.append((folder / name).read_bytes())
    assert made[0] != made[1]
    return tmp_path / "content-1" / name, *made


def left(path):
    """The names in the folder."""
    return sorted(entry.name for entry in path.parent.iterdir())

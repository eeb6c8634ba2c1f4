"""The pool: rendered clips in memory-mapped files, drawn once and read by every stage.

frames.npy      uint8 (clips, 16, height, width, 3) RGB; frame 0 is the reference
poses.npy       uint8 of the same shape: the drawn poses
pictures.npy    uint8 (clips, 3, 224, 224): the reference as the image encoder sees it, before normalisation
attributes.npy  float32 (clips, attributes): colours of the person and the background
regions.npy     uint8 (clips, 16, height / 8, width / 8): how much of a latent is hand or face, 255 for all of it
pool.json       the settings, a fingerprint of what the renderer draws, and how many clips are there
"""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.files import require_writable, sha256_json, write_json
from mimicmotion.progress import Progress

MANIFEST = "pool.json"
FRAMES = 16
HEIGHT, WIDTH = 192, 128
LATENT_FACTOR = 8
# MimicMotion (arXiv 2406.19680, section 3.3) raises the loss of hands whose mean confidence passes a threshold.
REGION_CONFIDENCE = 0.7
REGION_MARGIN = 0.02  # of the frame's height, around the outermost keypoints
NOTE_EVERY_S = 5
FINGERPRINT_FRAMES = 4


@dataclass(frozen=True)
class Pool:
    """The arrays of a pool, as described above, read-only."""

    folder: Path
    frames: np.ndarray
    poses: np.ndarray
    pictures: np.ndarray
    attributes: np.ndarray
    regions: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def open_pool(folder: Path, clips: int, processes: int, make_clip: Callable | None = None) -> Pool:
    """The pool in `folder` with at least `clips` clips, rendered first where it is not there or not whole.

    Args:
        processes: workers; 0 renders in this process.
        make_clip: the renderer, `mimicmotion.puppets.clips.make_clip` by default; clip i has the seed i.

    Raises: InputError when the folder holds a pool of another renderer, another size, or damaged files;
        SetupError when it cannot be written.
    """
    if make_clip is None:
        from mimicmotion.puppets import make_clip
    settings = pool_settings(clips, make_clip)
    manifest = read_manifest(folder)
    if manifest is None:
        require_writable(folder)
        manifest = settings | {"rendered": 0}
        _create_files(folder, manifest)
        write_json(folder / MANIFEST, manifest)
    _check_manifest(folder, manifest, settings)
    if manifest["rendered"] < manifest["clips"]:
        _render(folder, manifest, processes, make_clip)
    return Pool(folder, **{name: array[:clips] for name, array in _open_files(folder, manifest, "r").items()})


def pool_settings(clips: int, make_clip: Callable) -> dict:
    """What a pool depends on. The renderer counts by what it draws, not by its code."""
    sample = draw_clip(0, make_clip, FINGERPRINT_FRAMES)
    digests = [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in sample.values()]
    size = {"clips": clips, "frames": FRAMES, "height": HEIGHT, "width": WIDTH}
    return size | {"attributes": len(sample["attributes"]), "renderer": sha256_json(digests)}


def draw_clip(seed: int, make_clip: Callable, frame_count: int = FRAMES) -> dict[str, np.ndarray]:
    """One clip's entry of every file of the pool."""
    from mimicmotion.dwpose import SMALL_CANVAS_SIDE, draw_pose

    clip = make_clip(seed, frame_count, HEIGHT, WIDTH)
    poses = [draw_pose(pose, HEIGHT, WIDTH, SMALL_CANVAS_SIDE) for pose in clip.poses]
    return {
        "frames": clip.frames,
        "poses": np.stack([drawn.transpose(1, 2, 0) for drawn in poses]),
        "pictures": clip_picture(clip.frames[0]),
        "attributes": clip.person.attributes(),
        "regions": np.stack([region_coverage(pose, HEIGHT, WIDTH) for pose in clip.poses]),
    }


def clip_picture(frame: np.ndarray) -> np.ndarray:
    """A frame uint8 (h, w, 3) as the pipeline shows it to the image encoder, uint8 (3, 224, 224)."""
    import torch

    from mimicmotion.pipelines import squash_for_clip

    squashed = squash_for_clip(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255)
    return (squashed[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def region_coverage(pose: dict, height: int, width: int) -> np.ndarray:
    """How much of each latent lies in the boxes of hands and face that are clearly seen, uint8 (h / 8, w / 8)."""
    covered = np.zeros((height, width), np.float32)
    for name in ("hands", "faces"):
        for points, scores in zip(pose[name], pose[f"{name}_score"], strict=True):
            if scores.mean() > REGION_CONFIDENCE:
                margin = REGION_MARGIN * height
                left, top = np.floor(points.min(axis=0) * (width, height) - margin).clip(0).astype(int)
                right, bottom = np.ceil(points.max(axis=0) * (width, height) + margin).clip(0).astype(int)
                covered[top:bottom, left:right] = 255
    cells = covered.reshape(height // LATENT_FACTOR, LATENT_FACTOR, width // LATENT_FACTOR, LATENT_FACTOR)
    return cells.mean(axis=(1, 3)).round().astype(np.uint8)


def read_manifest(folder: Path) -> dict | None:
    """What pool.json says; None where there is no pool. Raises: InputError when it cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        if not 0 <= manifest["rendered"] <= manifest["clips"]:
            raise ValueError("counts do not fit")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete {folder} or name another with --pool") from error


def _check_manifest(folder: Path, manifest: dict, settings: dict) -> None:
    found = {name: manifest.get(name) for name in settings}
    different = [name for name in settings if name != "clips" and found[name] != settings[name]]
    if found["clips"] < settings["clips"]:
        different.append("clips")
    if different:
        lines = ", ".join(f"{name} {str(found[name])[:12]} instead of {str(settings[name])[:12]}" for name in different)
        raise InputError(f"{folder} holds another pool ({lines}); delete it or name another with --pool")


def _shapes(manifest: dict) -> dict[str, tuple[tuple[int, ...], type]]:
    clips, frames, height, width = (manifest[name] for name in ("clips", "frames", "height", "width"))
    latents = (height // LATENT_FACTOR, width // LATENT_FACTOR)
    return {
        "frames": ((clips, frames, height, width, 3), np.uint8),
        "poses": ((clips, frames, height, width, 3), np.uint8),
        "pictures": ((clips, 3, 224, 224), np.uint8),
        "attributes": ((clips, manifest["attributes"]), np.float32),
        "regions": ((clips, frames, *latents), np.uint8),
    }


def _create_files(folder: Path, manifest: dict) -> None:
    for name, (shape, dtype) in _shapes(manifest).items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape).flush()


def _open_files(folder: Path, manifest: dict, mode: str) -> dict[str, np.ndarray]:
    arrays = {}
    for name, (shape, dtype) in _shapes(manifest).items():
        path = folder / f"{name}.npy"
        try:
            arrays[name] = np.load(path, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); delete {folder}") from error
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise InputError(f"{path} does not fit {MANIFEST}; delete {folder}")
    return arrays


def _render(folder: Path, manifest: dict, processes: int, make_clip: Callable) -> None:
    """Renders what is missing, in order; how far it came is noted, so that an interrupted run goes on there."""
    arrays = _open_files(folder, manifest, "r+")
    seeds = range(manifest["rendered"], manifest["clips"])
    progress = Progress("rendering", manifest["clips"], "clip", initial=seeds.start)
    rendered, noted = seeds.start, time.monotonic()
    clips = _drawn_clips(seeds, processes, make_clip)
    try:
        with closing(clips), progress:
            for seed, clip in zip(seeds, clips, strict=True):
                for name, array in clip.items():
                    arrays[name][seed] = array
                rendered = seed + 1
                progress.update()
                if time.monotonic() - noted > NOTE_EVERY_S:
                    _note(folder, manifest, rendered)
                    noted = time.monotonic()
    finally:
        _note(folder, manifest, rendered)


def _note(folder: Path, manifest: dict, rendered: int) -> None:
    # What is mapped outlives this process without a flush; only a crash of the machine could lose it.
    write_json(folder / MANIFEST, manifest | {"rendered": rendered})


def _drawn_clips(seeds: range, processes: int, make_clip: Callable) -> Iterator[dict]:
    draw = partial(draw_clip, make_clip=make_clip)
    if processes < 1:
        yield from map(draw, seeds)
        return
    # Forked workers would inherit the locks of torch's threads.
    with multiprocessing.get_context("spawn").Pool(processes, _prepare_worker) as workers:
        yield from workers.imap(draw, seeds, chunksize=4)


def _prepare_worker() -> None:
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)

"""Rendered sessions on the disk, in files of 50, so that more can be added and a cut loses one file at most.

frames-000000.npy   uint8 (50, 81, 64, 112, 3): the sessions of seeds 0 to 49
frames.json         a digest of what the world draws; files of another world are not read
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.files import atomic_path, require_writable, write_json
from mimicmotion.progress import track
from mimicmotion.worlds import HEIGHT, WIDTH, Walk, draw_session, render

FRAMES = 81  # seven blocks: 9 and six times 12
CHUNK = 50
MANIFEST = "frames.json"


def open_frames(folder: Path, clips: int, walk: Walk) -> np.ndarray | list[np.ndarray]:
    """Memory-mapped frames uint8 (81, 64, 112, 3) of the sessions 0 .. clips - 1; what is missing is rendered.

    Raises: InputError when the folder holds another world or damaged files; SetupError when it cannot be written.
    """
    check_folder(require_writable(folder), MANIFEST, {"world": world_digest(walk)})
    frames: list[np.ndarray] = []
    starts = range(0, clips, CHUNK)
    for first in track(starts, "rendering", len(starts), "file"):
        path = folder / f"frames-{first:06d}.npy"
        if not path.is_file():
            chunk = np.stack([render(draw_session(seed, FRAMES, walk).cameras) for seed in range(first, first + CHUNK)])
            with atomic_path(path) as temporary:
                np.save(temporary, chunk)
        frames.extend(_open(path))
    return frames[:clips]


def world_digest(walk: Walk) -> str:
    """Hexadecimal digest of some sessions and frames: it changes with anything that changes the world."""
    sessions = [draw_session(seed, FRAMES, walk) for seed in range(8)]
    parts = [part for session in sessions for part in (session.keyboard, session.mouse, session.cameras)]
    parts.append(render(sessions[0].cameras[:12]))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def check_folder(folder: Path, name: str, facts: dict) -> None:
    """Notes `facts` in a JSON file of `folder`. Raises: InputError when other ones are noted there."""
    path = folder / name
    try:
        noted = json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); delete {folder}") from error
    if noted is None:
        write_json(path, facts)
    elif noted != facts:
        raise InputError(f"{folder} was made by another world or other weights; delete it or name another --run_dir")


def _open(path: Path) -> np.ndarray:
    try:
        chunk = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it") from error
    if chunk.shape != (CHUNK, FRAMES, HEIGHT, WIDTH, 3) or chunk.dtype != np.uint8:
        raise InputError(f"{path} does not hold sessions; delete it")
    return chunk

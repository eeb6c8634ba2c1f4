"""Which driving videos a folder holds."""

from collections.abc import Sequence
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.video.frame_folder import has_frames

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
VIDEO_SUFFIXES |= {".flv", ".wmv", ".3gp", ".gif", ".webp", ".apng"}
VIDEO_SUFFIXES = frozenset(VIDEO_SUFFIXES)


def find_videos(folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
    """The video files and frame folders in `folder`, sorted by name; hidden ones are left out.

    Args:
        folder: or one video file.
        names: take only these: file names or stems in the folder, or paths of other videos.

    Raises: UsageError for a folder without videos or an unknown name.
    """
    folder = Path(folder)
    found = [folder] if folder.is_file() else [path for path in _entries(folder) if _is_video(path)]
    if names is not None:
        found = _chosen(folder, found, names)
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"no video in {folder}: put {kinds} files or folders of numbered frames there")
    return found


def not_videos(folder: str | Path) -> list[Path]:
    """What `find_videos` leaves out of a folder, sorted by name; hidden files are not mentioned."""
    folder = Path(folder)
    return [] if folder.is_file() else [path for path in _entries(folder) if not _is_video(path)]


def video_stem(path: Path) -> str:
    """What results of this video are called: the file name without its suffix; a folder's whole name."""
    return path.name if path.is_dir() else path.stem


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give a folder of driving videos")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.is_dir():
        return suffix in VIDEO_SUFFIXES or has_frames(path)
    if suffix == ".webp":
        return _is_animated_webp(path)
    return suffix in VIDEO_SUFFIXES


def _is_animated_webp(path: Path) -> bool:
    """By the flag in its header: most files of this name are still pictures."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(21)
    return head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def _chosen(folder: Path, found: list[Path], names: Sequence[str]) -> list[Path]:
    """Of the folder's videos those that are named, in the folder's order; then the paths among the names."""
    there = [path for path in found if any(_is_called(path, name) for name in names)]
    others = [name for name in names if not any(_is_called(path, name) for path in found)]
    unknown = [name for name in others if not Path(name).exists()]
    if unknown:
        listed = ", ".join(path.name for path in found)
        raise UsageError(f"no video called {', '.join(unknown)} in {folder}; there are: {listed}")
    known = {path.resolve() for path in there}
    return there + [path for path in map(Path, dict.fromkeys(others)) if path.resolve() not in known]


def _is_called(path: Path, name: str) -> bool:
    return name in (path.name, video_stem(path))

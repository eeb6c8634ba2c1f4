"""Which driving videos a folder holds."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.files import printable, writable_stem
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
    return [Path(path) for path in video_paths(folder, names)]


def video_paths(folder: str | Path, names: Sequence[str] | None = None) -> list[str]:
    """As `find_videos`; a million paths take 140 MB as texts, and four times that as objects."""
    folder = Path(folder)
    found = [str(folder)] if os.path.isfile(folder) else [path for path in _entries(folder) if _is_video(path)]
    if names is not None:
        found = [str(path) for path in _chosen(folder, [Path(path) for path in found], names)]
    if not found:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"no video in {folder}: put {kinds} files or folders of numbered frames there")
    return found


def not_videos(folder: str | Path) -> list[Path]:
    """What `find_videos` leaves out of a folder, sorted by name; hidden files are not mentioned."""
    folder = Path(folder)
    return [] if os.path.isfile(folder) else [Path(path) for path in _entries(folder) if not _is_video(path)]


def video_stem(path: Path) -> str:
    """What results of this video are called: the file name without its suffix; a folder's whole name.

    Another one where that cannot be written or is too long; see `writable_stem`.
    """
    return writable_stem(_own_stem(path))


def _own_stem(path: Path) -> str:
    return path.name if os.path.isdir(path) else path.stem


def _entries(folder: Path) -> Iterator[str]:
    """What lies in a folder, sorted by name, hidden files aside. Raises: UsageError where it cannot be listed."""
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is not a folder; give a folder of driving videos")
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UsageError(f"the folder {printable(folder)} cannot be listed: {error.strerror}") from error
    inside = str(folder / "x")[:-1]
    return (inside + name for name in names)


def _is_video(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        return suffix in VIDEO_SUFFIXES or has_frames(Path(path))
    if suffix == ".webp":
        return _is_animated_webp(path)
    return suffix in VIDEO_SUFFIXES


def _is_animated_webp(path: str) -> bool:
    """By the flag in its header: most files of this name are still pictures."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(21)
    except OSError:
        return True  # an item that fails with its reason
    return head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def _chosen(folder: Path, found: list[Path], names: Sequence[str]) -> list[Path]:
    """Of the folder's videos those that are named, in the folder's order; then the paths among the names."""
    there = [path for path in found if any(_is_called(path, name) for name in names)]
    others = [name for name in names if not any(_is_called(path, name) for path in found)]
    unknown = [name for name in others if not os.path.lexists(name)]
    if unknown:
        listed = ", ".join(printable(path.name) for path in found)
        raise UsageError(f"no video called {', '.join(unknown)} in {folder}; there are: {listed}")
    known = {os.path.realpath(path) for path in there}
    return there + [path for path in map(Path, dict.fromkeys(others)) if os.path.realpath(path) not in known]


def _is_called(path: Path, name: str) -> bool:
    return name in (path.name, _own_stem(path))

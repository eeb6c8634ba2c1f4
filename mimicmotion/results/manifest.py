"""`manifest.jsonl`, by which a run knows finished results without reading them: a line for each, with its seal.

A seal is a hash over all that decides whether a result is finished, with size, times and inode in place of contents.
As long as it comes out the same, nothing was touched, and the result is what it was when its content was looked at.
Where it does not, nothing is said: the contents decide, as without a manifest. So a torn or foreign line costs the
reading of one result, and the whole file may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from mimicmotion.files import is_settled
from mimicmotion.results.run_log import LONGEST_LINE, append_lines
from mimicmotion.results.sidecar import FORMAT_VERSION

logger = logging.getLogger(__name__)

PATTERN = "manifest*.jsonl"
FLUSH_SECONDS = 5.0
SEAL_VERSION = 1
SEAL_IN_LINE = re.compile(rb'"seal": "([0-9a-f]{32})"')


class Seal(NamedTuple):
    """`digest` is the seal as 32 hexadecimal digits; `changed` are the change times of all files in it, in ns."""

    digest: str
    changed: tuple[int, ...]

    @property
    def settled(self) -> bool:
        """Whether any later change of a file would give another seal; not so within a tick of the last one."""
        return all(map(is_settled, self.changed))


def seal_result(
    output: str | Path,
    made_from: str,
    inputs: Iterable[str | Path],
    wanted: Collection[str] = (),
    companions: Iterable[str] = (),
) -> Seal | None:
    """The seal of a result as its files are now; None where it cannot be finished or cannot be told.

    To be taken before any content is read: a file that changes in between then has another seal afterwards.

    Args:
        output: the mp4; the seal is good for this place only.
        made_from: hash of all that the result depends on beside the content of its inputs.
        inputs: those files, and folders of frames.
        wanted: endings of the companions that must be there.
        companions: endings of all that it may have: one that came or went changes the seal as well.
    """
    output = os.fspath(output)
    base, changed = os.path.splitext(output)[0], []
    try:
        stamps = [_stamp(path, changed) for path in inputs]
        stamps += [_stamp(output, changed), _stamp(base + ".json", changed)]
        for ending in companions:
            try:
                stamps.append(_stamp(base + ending, changed))
            except FileNotFoundError:
                if ending in wanted:
                    return None
                stamps.append(None)
    except (OSError, ValueError):  # absent, not allowed, or no name of a file
        return None
    whole = f"{SEAL_VERSION} {FORMAT_VERSION} {os.path.basename(output)!r} {made_from} {stamps}"
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return Seal(digest, tuple(changed))


def _stamp(path: str | os.PathLike, changed: list[int]) -> tuple:
    """What tells of a touched file; of a folder, that of all that is in it. Its change times go to `changed`.

    Raises: OSError, also for what is neither.
    """
    status = os.stat(path)
    changed.append(status.st_ctime_ns)
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            return tuple((e.name, _stamp(_no_linked_folder(e), changed)) for e in sorted(entries, key=lambda e: e.name))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is neither a file nor a folder")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _no_linked_folder(entry: os.DirEntry) -> os.DirEntry:
    if entry.is_symlink() and entry.is_dir():
        raise OSError(f"{entry.path} may lead in a circle")
    return entry


class Manifest:
    """The seals in a folder of results, read from all of its manifests; new ones go to one of them.

    Nothing is written before `flush`, which a dry run never calls.

    Args:
        folder: the output folder of the run.
        part: of the name of the file that is written; runs that write at the same time from several machines have
            one each.
    """

    def __init__(self, folder: str | Path, part: str = ""):
        self.folder, self.path = Path(folder), Path(folder) / f"manifest{part}.jsonl"
        self._known: set[bytes] = set()
        self._unwritten: list[bytes] = []
        self._flushed = time.monotonic()
        self._broken = False
        for path in sorted(self.folder.glob(PATTERN)):
            self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, seal: Seal) -> bool:
        return bytes.fromhex(seal.digest) in self._known

    def add(self, output: str | Path, seal: Seal) -> None:
        """Notes that the result at `output`, whose content was looked at after `seal` was taken, is finished.

        It is on disk some seconds later; what a crash loses is found by reading the result. A seal that is not settled
        is not noted.
        """
        if seal in self or not seal.settled:
            return
        self._known.add(bytes.fromhex(seal.digest))
        line = {"output": os.path.relpath(output, self.folder), "seal": seal.digest}
        self._unwritten.append(json.dumps(line).encode() + b"\n")

    def flush(self, at_once: bool = False) -> None:
        """Writes what was noted, unless the last time was only now. A disk that fails is a word in the log."""
        if not self._unwritten or (not at_once and time.monotonic() - self._flushed < FLUSH_SECONDS):
            return
        # A thread may note some at the same time.
        lines, self._unwritten = self._unwritten, []
        try:
            append_lines(self.path, b"".join(lines))
        except OSError as error:
            if not self._broken:
                logger.warning("%s cannot be written, so the next run reads its results: %s", self.path, error.strerror)
            self._broken = True
        self._flushed = time.monotonic()

    def _read(self, path: Path) -> None:
        try:
            # A pipe of that name would block.
            if path.is_file():
                with open(path, "rb") as file:
                    while line := file.readline(LONGEST_LINE):
                        if found := SEAL_IN_LINE.search(line):
                            self._known.add(bytes.fromhex(found[1].decode()))
        except OSError as error:
            logger.warning("%s cannot be read, so results are: %s", path, error.strerror)

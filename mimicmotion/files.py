"""Files that others read: written whole or not at all, under names that can be written, known by what they contain."""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import re
import stat
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.errors import SetupError

log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
STALE_SECONDS = 3600
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


NAME_BYTES = 255  # that a file system takes for one name
LONGEST_ENDING = len("_comparison.mp4")  # of the files that share a stem
# What is no UTF-8, moves the cursor, breaks the line or turns the direction of writing.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """`text` as one line that any terminal shows: bytes that are no UTF-8 come as "\\xff", a line break as "\\n"."""
    return UNPRINTABLE.sub(_escaped, _as_utf8(str(text)))


def _escaped(match: re.Match) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(match[0])[1:-1]


def _as_utf8(name: str) -> str:
    """`name` from its bytes, where the locale is not UTF-8 and Python has read them otherwise."""
    try:
        return os.fsencode(name).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a text that was never a file's name
        return name


def writable_name(name: str, ending: int = 0) -> str:
    """`name` where it can be a file's; else one like it that can, and that no other name is given.

    What is unprintable or no UTF-8 is written as %XX, and what is too long is cut. Such a name ends in "~" and 8 digits
    of the hash of the whole.

    Args:
        ending: bytes that are to be added to it.
    """
    text, room = _as_utf8(name), NAME_BYTES - ending
    escaped = UNPRINTABLE.sub(_percent, text)
    if escaped == text and len(text.encode()) <= room:
        return name
    mark = f"~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    cut = escaped.encode()[: room - len(mark)].decode("utf-8", "ignore")
    return os.fsdecode(f"{cut}{mark}".encode())


def _percent(match: re.Match) -> str:
    code = ord(match[0])
    data = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else match[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)


def writable_stem(name: str) -> str:
    """`name` as the stem of a result and of all that lies beside it; see `writable_name`."""
    return writable_name(name, LONGEST_ENDING)


def name_key(name: str) -> str:
    """Equal for names that some file system takes for one: they differ in case or in Unicode's normal form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def why_no_file(path: str | Path) -> str | None:
    """Why `path` cannot be read as a file, as the end of a sentence that begins with it; None for a regular file.

    Opens nothing: a pipe without a writer would never answer.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(mode):
        return None
    kinds = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    what = next((words for words, holds in kinds.items() if holds(mode)), "a device")
    return f"is {what}, not a file"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, since encoders choose the container by it. On an error the temporary
    file is removed and `path` stays as it was.

    Raises: SetupError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise SetupError(f"cannot write {path}: {DISK_ERRORS[error.errno]}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path` atomically. Raises: SetupError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: object) -> None:
    """Writes `value` to `path` as indented JSON, atomically. Raises: SetupError as `atomic_path`."""
    # Names that are no UTF-8 become JSON's own "\udcff", which reads back as the same name.
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of the file's content as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_path(path: str | Path) -> str:
    """The SHA-256 of a file's content, or of the names and contents of all files of a folder."""
    path = Path(path)
    if not path.is_dir():
        return sha256_file(path)
    return sha256_json({str(file.relative_to(path)): sha256_file(file) for file in path.rglob("*") if file.is_file()})


def content_sha256(path: str | Path) -> str:
    """`sha256_path`, remembered by this process for as long as all names, sizes and times stay as they are.

    The change time is among them, so that a file edited with its old date is noticed.
    """
    path = Path(os.path.realpath(path))
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    status = [(str(file), file.stat()) for file in files]
    return _remembered_sha256(path, tuple((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in status))


@functools.lru_cache(maxsize=4096)
def _remembered_sha256(path: Path, _stamps: tuple) -> str:
    return sha256_path(path)


def forget_content_hashes() -> None:
    """Makes `content_sha256` read every file anew."""
    _remembered_sha256.cache_clear()


def cached_sha256(path: str | Path) -> str:
    """The SHA-256 of a file, remembered between runs for as long as its size and times stay as they are.

    Hashing 10 GB takes seconds to minutes. The memory is a JSON file in the user's cache folder; the change time
    is part of its key, so that a file swapped for another with the same size and date is noticed too. Where the
    folder cannot be written the file is hashed each time.

    Raises: SetupError when there is no such file.
    """
    path = Path(os.path.realpath(path))
    if reason := why_no_file(path):
        raise SetupError(f"{path} {reason}")
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    known = _read_hashes()
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        return entry["sha256"]
    digest = sha256_file(path)
    known = _read_hashes() | {str(path): {"stamp": stamp, "sha256": digest}}
    try:
        write_json(_hashes_path(), {name: value for name, value in known.items() if Path(name).exists()})
    except (SetupError, OSError) as error:
        log.debug("the hash of %s is not remembered: %s", path, error)
    return digest


def _hashes_path() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mimicmotion" / "sha256.json"


def _read_hashes() -> dict:
    try:
        known = json.loads(_hashes_path().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def sha256_json(value: object) -> str:
    """The SHA-256 of the canonical JSON of `value`: equal values give equal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def remove_stale_temporaries(folder: str | Path) -> None:
    """Removes what killed runs left behind in `folder`: temporary files more than an hour old."""
    for path in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def require_writable(folder: str | Path) -> Path:
    """Creates `folder` if need be and proves that a file can be written there.

    Raises: SetupError when it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-probe"
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        raise SetupError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error
    return folder


def require_possible(folder: str | Path) -> None:
    """Raises: SetupError when `require_writable` would, as far as that can be told without writing anything."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise SetupError(f"cannot write into {folder}: {there} is no folder; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SetupError(f"cannot write into {folder}: permission is denied; choose another folder")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

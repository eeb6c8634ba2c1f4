"""Files that others read: written whole or not at all, and named by what they contain.

What is being written lies under a temporary name that is locked for as long as its writer lives. The system drops the
lock with the process, however that ends, so a temporary file without one is left over and may go.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.errors import MimicMotionError, SetupError, UsageError, machine_reason

log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
# Exactly the names that `temporary_beside` gives.
TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"\d+-[0-9a-f]{8}(\.[^/.]+)?")

# These concern one file, not whatever is written next.
NAME_ERRORS = {
    errno.EISDIR: "a folder has this name; move it away",
    errno.ENAMETOOLONG: "its name is too long; shorten the name of the input",
}


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, since encoders choose the container by it. On an error the temporary
    file is removed and `path` stays as it was.

    Raises: SetupError when the machine does not let it be written, with the remedy; MimicMotionError where a folder
        has its name, or the name is too long.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path) as temporary:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    except OSError as error:
        if error.errno in NAME_ERRORS:
            raise MimicMotionError(f"cannot write {path}: {NAME_ERRORS[error.errno]}") from error
        reason = machine_reason(error)
        if reason is None:
            raise
        # What is being written may need other files, such as one in the folder for temporary files.
        elsewhere = isinstance(error.filename, str) and Path(error.filename).parent != path.parent
        raise SetupError(f"cannot write {error.filename if elsewhere else path}: {reason}") from error


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yields the name of a new, empty, locked file beside `path` with the same suffix, removed at the end.

    Raises: OSError.
    """
    while True:
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
        descriptor = None
        try:
            # No planted link is followed.
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            # Some network file systems have no locks; `remove_stale_temporaries` gets none there either.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Somebody may have taken it for left over before it was locked.
            if os.fstat(descriptor).st_nlink:
                yield temporary
                return
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if descriptor is not None:
                os.close(descriptor)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path` atomically. Raises: SetupError as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: object) -> None:
    """Writes `value` to `path` as indented JSON, atomically. Raises: SetupError as `atomic_path`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_tensors(path: str | Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file atomically; tensors are contiguous. Raises: SetupError as `atomic_path`."""
    from safetensors.torch import save

    # Not save_file: it has temporary files of its own, which nobody removes after a kill, and hides a full disk.
    write_bytes(path, save(tensors, metadata))


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
    path = Path(path).resolve()
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
    """
    path = Path(path).resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    known = _read_hashes()
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        return entry["sha256"]
    digest = sha256_file(path)
    known = _read_hashes() | {str(path): {"stamp": stamp, "sha256": digest}}
    try:
        remove_stale_temporaries(_hashes_path().parent)
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
    """Removes what killed runs left behind in `folder`: files named as temporary ones that no living writer locks.

    Where the file system has no locks, nothing is removed.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if TEMPORARY_NAME.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            _remove_unlocked(Path(folder) / name)


def _remove_unlocked(path: Path) -> None:
    # For writing, since a lock on NFS needs that; a pipe with such a name would block.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def require_writable(folder: str | Path) -> Path:
    """Creates `folder` if need be, removes what killed runs left there and proves that a file can be written.

    Raises: SetupError when it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder)
        with temporary_beside(folder / "probe") as probe:
            probe.write_bytes(b"probe")
    except OSError as error:
        reason = machine_reason(error) or f"{error.strerror}; choose another folder"
        raise SetupError(f"cannot write into {folder}: {reason}") from error
    return folder


def require_writable_file(path: str | Path, flag: str) -> Path:
    """Proves that a file can be written at `path`, which `flag` names, and makes its folder.

    Raises: UsageError where a folder has its name, SetupError when it cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{flag} {path} is a folder; name a file")
    require_writable(path.parent)
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

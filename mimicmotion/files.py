"""Files that others read: written whole or not at all, and named by what they contain."""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.errors import InputError, SetupError

log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
STALE_SECONDS = 3600
MAX_RECORD = 64 * 2**20
SEAL = "record_sha256"
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


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
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


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
    is part of its key, so that a file swapped for another with the same size and date is noticed too. What the memory
    says counts only where its own checksum is right. Where the folder cannot be written the file is hashed each time.
    A file whose content is not that of its last use is named in the log.
    """
    path = Path(os.path.realpath(path))
    stamp, entry = _stamp(path), _read_hashes().get(str(path))
    if entry and entry["stamp"] == stamp:
        return entry["sha256"]
    digest = sha256_file(path)
    if entry and entry["sha256"] != digest:
        log.warning("%s has another content than when it was last used: its SHA-256 is %s now", path, digest)
    known = _read_hashes() | {str(path): sealed({"path": str(path), "stamp": stamp, "sha256": digest})}
    try:
        write_json(_hashes_path(), {name: value for name, value in known.items() if os.path.exists(name)})
    except (SetupError, OSError) as error:
        log.debug("the hash of %s is not remembered: %s", path, error)
    return digest


def remembered_sha256(path: str | Path) -> str | None:
    """What `cached_sha256` would say without reading the file; None where it would have to."""
    path = Path(os.path.realpath(path))
    entry = _read_hashes().get(str(path))
    return entry["sha256"] if entry and entry["stamp"] == _stamp(path) else None


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _hashes_path() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mimicmotion" / "sha256.json"


def _read_hashes() -> dict[str, dict]:
    """The remembered hashes by path, those whose checksum is right."""
    try:
        known = read_record(_hashes_path()) or {}
    except InputError as error:
        log.debug("remembered hashes are not used: %s", error)
        return {}
    return {name: entry for name, entry in known.items() if _is_memory_of(name, entry)}


def _is_memory_of(name: str, entry: object) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"path", "stamp", "sha256", SEAL}:
        return False
    return entry["path"] == name and isinstance(entry["sha256"], str) and is_sealed(entry)


def read_record(path: str | Path) -> dict | None:
    """The JSON object in a file that anything may have happened to; None where there is no file.

    Raises: InputError with the reason for anything but one JSON object in a regular file of at most 64 MiB.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a folder or no regular file")
        if status.st_size > MAX_RECORD:
            raise InputError(f"{path} has {status.st_size} bytes; at most {MAX_RECORD} are read")
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__}, not a JSON object")
    return record


def sealed(record: dict) -> dict:
    """`record` with a checksum over itself, by which `is_sealed` knows it after it was written and read as JSON."""
    # The checksum is that of the record as it will be read: JSON makes lists of tuples and texts of all keys.
    return record | {SEAL: _seal_of(json.loads(json.dumps(record)))}


def is_sealed(record: dict) -> bool:
    """Whether a record, read as JSON, is to the last value what `sealed` made."""
    return record.get(SEAL) == _seal_of(record)


def _seal_of(record: dict) -> str:
    return sha256_json({name: value for name, value in record.items() if name != SEAL})


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that others read: written whole or not at all, under names that can be written, known by what they contain.

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
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.errors import InputError, MimicMotionError, SetupError, UsageError, machine_reason

log = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
# Exactly the names that `temporary_beside` gives.
TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"\d+-[0-9a-f]{8}(\.[^/.]+)?")
MAX_RECORD = 64 * 2**20
SEAL = "record_sha256"
# How long two changes of a file may have the same time: on Linux's own file systems 10 ms, on those that write whole
# seconds down, such as FAT and old ones on the network, two of these.
FINE_TICK_NS, COARSE_TICK_NS = 20 * 10**6, 2 * 10**9

# These concern one file, not whatever is written next.
NAME_ERRORS = {
    errno.EISDIR: "a folder has this name; move it away",
    errno.ENAMETOOLONG: "its name is too long; shorten the name of the input",
}


NAME_BYTES = 255  # that a file system takes for one name
LONGEST_ENDING = len("_comparison.mp4")  # of the files that share a stem
# Also as pathlib writes it, which makes one slash of two.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
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


def require_local(path: object, what: str = "") -> None:
    """Raises: UsageError for an address such as s3://bucket/folder, which would be a folder called "s3:" here.

    Args:
        what: the setting or flag that names it.
    """
    if ADDRESS.match(str(path)):
        raise UsageError(
            f"{f'{what} is ' if what else ''}{printable(path)}: an address, but files are read and written on this "
            "machine's own or shared disks only. Copy inputs to a disk first and results away afterwards, with "
            "aws s3 sync, gcloud storage rsync or the like; doc/scale_out.md has the lines"
        )


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

    Raises: SetupError when the machine does not let it be written, with the remedy; MimicMotionError where a folder
        has its name, or the name is too long; UsageError for an address.
    """
    path = Path(path)
    require_local(path)
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
    # Names that are no UTF-8 become JSON's own "\udcff", which reads back as the same name.
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


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
    path = Path(os.path.realpath(path))
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    status = [(str(file), file.stat()) for file in files]
    stamps = tuple((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in status)
    if not is_settled(max((s.st_ctime_ns for _, s in status), default=0)):
        return sha256_path(path)
    return _remembered_sha256(path, stamps)


def is_settled(changed_ns: int) -> bool:
    """Whether a file that was last changed at `changed_ns`, by its own clock, would show a change from now on.

    A clock of files goes in ticks: what is changed twice within one has the same time before and after.
    """
    tick = FINE_TICK_NS if changed_ns % 10**9 else COARSE_TICK_NS
    return time.time_ns() - changed_ns > tick


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

    Raises: SetupError when there is no such file.
    """
    path = Path(os.path.realpath(path))
    if reason := why_no_file(path):
        raise SetupError(f"{path} {reason}")
    stamp, entry = _stamp(path), _read_hashes().get(str(path))
    if entry and entry["stamp"] == stamp:
        return entry["sha256"]
    # Where the folder cannot be written this process remembers it all the same.
    digest = content_sha256(path)
    if entry and entry["sha256"] != digest:
        log.warning("%s has another content than when it was last used: its SHA-256 is %s now", path, digest)
    known = _read_hashes() | {str(path): sealed({"path": str(path), "stamp": stamp, "sha256": digest})}
    try:
        remove_stale_temporaries(_hashes_path().parent)
        write_json(_hashes_path(), {name: value for name, value in known.items() if os.path.exists(name)})
    except (MimicMotionError, OSError) as error:
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

    Raises: SetupError when it cannot; UsageError for an address.
    """
    folder = Path(folder)
    require_local(folder)
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


def require_possible(folder: str | Path) -> None:
    """Raises: as `require_writable`, as far as that can be told without writing anything."""
    require_local(folder)
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

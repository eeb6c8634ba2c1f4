"""Values that are costly to compute, kept in a folder that many processes may share.

It knows nothing of pipelines: a value is a dictionary of tensors and plain Python values, named by a level (a kind of
value) and a key that holds all that the value depends on. An entry `<folder>/<level>/<digest>.pt` is written whole or
not at all and trusted only after it was checked; whatever is wrong with the folder, the value is still computed.
"""

import contextlib
import functools
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mimicmotion.errors import InputError, MimicMotionError, SetupError
from mimicmotion.feature_cache.safe_pt import load_pt, to_pt
from mimicmotion.feature_cache.size import add_bytes, forget_size, note_count
from mimicmotion.files import remove_stale_temporaries, sha256_json, write_bytes

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
FIELDS = {"format_version", "level", "key", "source", "value"}
ENTRY_SUFFIX, LOCK_SUFFIX, SET_ASIDE_SUFFIX = ".pt", ".lock", ".corrupt"
OWN_FILE = re.compile(r"[0-9a-f]{64}\.pt(\.corrupt)?|[0-9a-f]{64}\.lock")
MAX_ENTRY_BYTES = 4 * 2**30
PRUNE_TO = 0.9  # of the limit, so that not every further entry prunes again
CLOCK_SLACK = 1.0  # seconds that a file system's clock may be behind ours
LOCK_TIMEOUT = 600.0  # seconds; a lock only saves double work, so a stuck one is passed over
LOCK_REPORT = 10.0

Value = dict[str, Any]


class CacheCorrupt(Exception):
    """An entry that cannot be trusted, and why."""


@dataclass
class LevelStatistics:
    """What the cache did at one level. Seconds of hits are those of reading, of misses those of computing."""

    hits: int = 0
    misses: int = 0
    set_aside: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    hit_seconds: float = 0.0
    miss_seconds: float = 0.0


@dataclass(frozen=True)
class StoredFile:
    """A file of the cache: an entry, or one that was set aside."""

    path: Path
    size: int
    last_used: float

    @property
    def level(self) -> str:
        """The kind of value it holds."""
        return self.path.parent.name

    @property
    def set_aside(self) -> bool:
        """Whether it was found damaged."""
        return self.path.name.endswith(SET_ASIDE_SUFFIX)


@dataclass
class FeatureCache:
    """A folder of computed values, bounded in size.

    folder: made when the first value is stored.
    max_gb: largest sum of all entries in GB of 1e9 bytes, None for no limit. The least recently used go first, never
        one that was used or made since this object was, so that a run may exceed the limit by what it needs itself.
    force_refresh: compute every value once more and store it anew.
    """

    folder: Path
    max_gb: float | None = None
    force_refresh: bool = False
    statistics: dict[str, LevelStatistics] = field(default_factory=dict)

    def __post_init__(self):
        self.folder = Path(self.folder)
        self._started = time.time() - CLOCK_SLACK
        self._refreshed: set[Path] = set()
        self._can_write = True
        self._prune_above = 0.0  # bytes; below, this object has removed all that it may
        for level in level_folders(self.folder):
            remove_stale_temporaries(level)

    def get_or_compute(
        self,
        level: str,
        key: dict,
        compute: Callable[[], Any],
        *,
        pack: Callable[[Any], Value] = dict,
        unpack: Callable[[Value], Any] = dict,
        source: dict | None = None,
    ) -> Any:
        """The value of `key`, from its entry or computed and stored.

        Processes that want the same value wait for the one that computes it. A computed value goes through `pack` and
        `unpack` like a stored one, so that it makes no difference where it came from.

        Args:
            level: kind of value, a folder name.
            key: all that the value depends on: plain values, as for JSON.
            compute: makes the value; its errors are the caller's, and nothing is stored then.
            pack, unpack: value to a dictionary of tensors and plain values and back; tensors come back on the CPU.
                An `unpack` that raises tells that the entry is damaged.
            source: where the value came from, for people who look into the folder; no part of the key.
        """
        statistics = self.statistics.setdefault(level, LevelStatistics())
        path = entry_path(self.folder, level, key)
        found = self._look_up(path, key, unpack, statistics)
        if found is None:
            with self._lock(path):
                found = self._look_up(path, key, unpack, statistics, set_aside=True)
                if found is None:
                    found = (self._make(path, level, key, compute, pack, unpack, source, statistics),)
        return found[0]

    def peek(self, level: str, key: dict, unpack: Callable[[Value], Any] = dict) -> Any:
        """The value of `key` where a sound entry has it, else None, with `force_refresh` always; counts nowhere."""
        if self.force_refresh:
            return None
        try:
            entry, _ = load_entry(entry_path(self.folder, level, key))
            return unpack_entry(entry, unpack) if entry["key"] == key else None
        except (OSError, CacheCorrupt):
            return None

    def _look_up(self, path: Path, key: dict, unpack, statistics: LevelStatistics, set_aside=False) -> tuple | None:
        """The value in a tuple, or None. Damaged entries are set aside under the lock only, where nobody repairs them
        at the same time.
        """
        if self.force_refresh and path not in self._refreshed:
            return None
        start = time.perf_counter()
        try:
            entry, size = load_entry(path)
            if entry["key"] != key:
                raise CacheCorrupt("it belongs to another key")
            value = unpack_entry(entry, unpack)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._go_on_without(error)
            return None
        except CacheCorrupt as error:
            if set_aside:
                self._set_aside(path, error)
                statistics.set_aside += 1
            return None
        with contextlib.suppress(OSError):  # a read-only folder
            os.utime(path)
        statistics.hits += 1
        statistics.bytes_read += size
        statistics.hit_seconds += time.perf_counter() - start
        return (value,)

    def _make(self, path, level, key, compute, pack, unpack, source, statistics: LevelStatistics):
        start = time.perf_counter()
        value = {name: _detached(item) for name, item in pack(compute()).items()}
        entry = {"format_version": FORMAT_VERSION, "level": level, "key": key, "source": source or {}, "value": value}
        statistics.misses += 1
        stored = self._store(path, entry)
        if stored:
            self._refreshed.add(path)
        statistics.bytes_written += stored
        result = unpack(value)
        statistics.miss_seconds += time.perf_counter() - start
        return result

    def _store(self, path: Path, entry: dict) -> int:
        """Writes an entry and makes room for it; its size, 0 when nothing could be written."""
        if not self._can_write:
            return 0
        try:
            require_finite(entry["value"], "value")
            content = to_pt(entry)
        except (CacheCorrupt, TypeError) as error:
            logger.warning("%s is not kept: %s", path.parent.name, error)
            return 0
        try:
            before = _size_of(path)
            write_bytes(path, content)
            self._make_room(len(content) - before)
        except (SetupError, OSError) as error:
            self._go_on_without(error)
            return 0
        return len(content)

    def _make_room(self, change: int) -> None:
        """Prunes where the entries, `change` bytes more than before, exceed the limit. Raises: OSError."""
        try:
            total = add_bytes(self.folder, change, functools.partial(count_entries, self.folder))
        except (OSError, RuntimeError):  # no locks, or a stuck one
            total = count_entries(self.folder)[0] if self.max_gb is not None else 0
        if self.max_gb is None or total <= max(self.max_gb * 1e9, self._prune_above):
            return
        prune(self.folder, self.max_gb, unused_since=self._started)
        total = count_entries(self.folder)[0]
        if total > self.max_gb * 1e9:
            # The rest is the run's own. Looking again pays when there is a good deal more.
            self._prune_above = total / PRUNE_TO

    def _set_aside(self, path: Path, reason: CacheCorrupt) -> None:
        logger.warning("Cache entry %s is set aside and computed again: %s", path, reason)
        with contextlib.suppress(OSError):
            os.replace(path, f"{path}{SET_ASIDE_SUFFIX}")

    def _go_on_without(self, error: Exception) -> None:
        if self._can_write:
            logger.warning("The run goes on without storing into the feature cache %s: %s", self.folder, error)
        self._can_write = False

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Holds the key's lock where the folder has working ones; without, work is done twice at worst."""
        lock = FileLock(path.with_suffix(LOCK_SUFFIX))
        if self._can_write:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _acquire(lock)
            except (OSError, RuntimeError) as error:  # filelock's word for a file system without locks
                self._go_on_without(error)
        try:
            yield
        finally:
            lock.release()


def _acquire(lock: FileLock) -> None:
    """Waits for the lock, with a word in the log now and then, up to LOCK_TIMEOUT."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=min(LOCK_REPORT, LOCK_TIMEOUT))
            return
        logger.info("Waiting for another process that computes %s", Path(lock.lock_file).parent.name)
        if time.monotonic() >= deadline:
            break
    logger.warning("%s has been locked for %.0f s; it is passed over", lock.lock_file, LOCK_TIMEOUT)


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _detached(item):
    # Cloned: saving a view would write the whole storage behind it.
    return item.detach().to("cpu", copy=True).contiguous().clone() if isinstance(item, torch.Tensor) else item


def entry_path(folder: Path, level: str, key: dict) -> Path:
    """Where the entry of a key lies."""
    return Path(folder) / level / f"{sha256_json({'level': level, 'key': key})}{ENTRY_SUFFIX}"


def load_entry(path: Path, max_bytes: int = MAX_ENTRY_BYTES) -> tuple[dict, int]:
    """A checked entry and its size in bytes; see `safe_pt.load_pt` for what is checked first.

    Raises: OSError when it is missing or cannot be opened; CacheCorrupt for anything that is no whole entry of this
    version.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise CacheCorrupt("it is a link")
    try:
        entry = load_pt(path, max_bytes)
    except InputError as error:
        # Another process may have set it aside meanwhile.
        path.lstat()
        raise CacheCorrupt(str(error)) from error
    if "format_version" not in entry:
        raise CacheCorrupt("it is no entry of this cache")
    if entry["format_version"] != FORMAT_VERSION:
        raise CacheCorrupt(f"it has format version {entry['format_version']}, this program uses {FORMAT_VERSION}")
    if set(entry) != FIELDS or not all(isinstance(entry[name], dict) for name in ("key", "source", "value")):
        raise CacheCorrupt("its fields are not those of an entry")
    require_finite(entry["value"], "value")
    return entry, status.st_size


def unpack_entry(entry: dict, unpack: Callable[[Value], Any]) -> Any:
    """`unpack` of the entry's value. Raises: CacheCorrupt when it does not fit."""
    try:
        return unpack(entry["value"])
    except (MimicMotionError, ArithmeticError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as e:
        raise CacheCorrupt(f"its value is not understood ({type(e).__name__}: {e})") from e


def require_finite(value: Any, name: str) -> None:
    """Raises: CacheCorrupt when a tensor within `value` holds NaN or infinity."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CacheCorrupt(f"{name} is not finite")
    elif isinstance(value, dict):
        for key, item in value.items():
            require_finite(item, f"{name}.{key}")


# ----------------------------------------------------------------------------------------------------
# Looking after a folder


def level_folders(folder: Path) -> list[Path]:
    """The levels that `folder` holds, sorted."""
    try:
        return sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def stored_files(folder: Path, levels: list[str] | None = None) -> list[StoredFile]:
    """All entries, those set aside included; the least recently used first."""
    found = []
    for path in _own_files(folder, levels):
        if path.suffix != LOCK_SUFFIX:
            with contextlib.suppress(OSError):  # another process may remove it meanwhile
                status = path.lstat()
                found.append(StoredFile(path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda stored: (stored.last_used, stored.path))


def count_entries(folder: Path) -> tuple[int, int]:
    """Bytes and number of all entries, those set aside included."""
    stored = stored_files(folder)
    return sum(file.size for file in stored), len(stored)


def _own_files(folder: Path, levels: list[str] | None) -> list[Path]:
    names = [level for level in level_folders(folder) if levels is None or level.name in levels]
    return [path for level in names for path in level.iterdir() if OWN_FILE.fullmatch(path.name)]


def prune(
    folder: Path, max_gb: float, *, unused_since: float | None = None, dry_run: bool = False
) -> list[StoredFile]:
    """Removes the least recently used entries of a folder above `max_gb`, down to 90 % of it; returns them.

    unused_since: a time; entries used or made after it stay. Entries whose lock somebody holds stay as well.

    Raises: OSError when a file cannot be removed.
    """
    stored = stored_files(folder)
    total, removed = sum(file.size for file in stored), []
    if total <= max_gb * 1e9:
        if not dry_run:
            note_count(folder, total, len(stored))
        return []
    for file in sorted(stored, key=lambda file: not file.set_aside):
        if total <= PRUNE_TO * max_gb * 1e9:
            break
        if unused_since is not None and file.last_used >= unused_since:
            continue
        if dry_run or _remove_unlocked(file.path):
            removed.append(file)
            total -= file.size
    if not dry_run:
        note_count(folder, total, len(stored) - len(removed))
    return removed


def _remove_unlocked(path: Path) -> bool:
    lock = FileLock(path.parent / f"{path.name[:64]}{LOCK_SUFFIX}")
    try:
        with lock.acquire(timeout=0):
            path.unlink(missing_ok=True)
            # Whoever waits for this very file at this moment computes twice at worst.
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)
    except Timeout:
        return False
    return True


def clear(folder: Path, levels: list[str] | None = None, *, dry_run: bool = False) -> list[StoredFile]:
    """Removes all entries of some or all levels, except those in use; returns them. Other files stay."""
    stored = stored_files(folder, levels)
    removed = [file for file in stored if dry_run or _remove_unlocked(file.path)]
    if not dry_run:
        for path in _own_files(folder, levels):
            if path.suffix == LOCK_SUFFIX:
                _remove_unlocked(path)
        for level in level_folders(folder):
            if levels is None or level.name in levels:
                with contextlib.suppress(OSError):  # something else lies there
                    level.rmdir()
        forget_size(folder)
    return removed


def verify(folder: Path, levels: list[str] | None = None, *, dry_run: bool = False) -> Iterator[tuple[StoredFile, str]]:
    """Yields every entry with what is wrong with it, "" for a sound one; damaged ones are set aside.

    Raises: OSError when an entry cannot be opened or renamed.
    """
    for file in stored_files(folder, levels):
        if file.set_aside:
            continue
        problem = _problem_of(file.path)
        if problem and not dry_run:
            os.replace(file.path, f"{file.path}{SET_ASIDE_SUFFIX}")
        yield file, problem


def _problem_of(path: Path) -> str:
    try:
        entry, _ = load_entry(path)
    except FileNotFoundError:
        return ""  # removed meanwhile
    except CacheCorrupt as error:
        return str(error)
    if entry_path(path.parents[1], path.parent.name, entry["key"]) != path:
        return "its name is not that of its key"
    return ""


def statistics_record(statistics: dict[str, LevelStatistics]) -> dict[str, dict]:
    """The statistics as plain values, for JSON."""
    return {level: asdict(numbers) for level, numbers in statistics.items()}


def statistics_lines(statistics: dict[str, LevelStatistics]) -> list[str]:
    """One line of text per level."""
    return [
        f"{level}: {n.hits} hits ({n.hit_seconds:.3f} s, {n.bytes_read:,} bytes), "
        f"{n.misses} computed ({n.miss_seconds:.3f} s, {n.bytes_written:,} bytes stored)"
        + (f", {n.set_aside} set aside" if n.set_aside else "")
        for level, n in statistics.items()
    ]

"""How many bytes a cache holds, kept in a file of its folder, so that storing an entry looks at no other.

Every store adds what it wrote, under a lock. The file may be deleted at any time: where it is absent or damaged, all
entries are counted. They are also after as many stores as there were entries, which finds what others brought or took
away and costs each store the same, however many there are.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from mimicmotion.errors import InputError
from mimicmotion.files import is_sealed, read_record, sealed

SIZE_NAME, LOCK_NAME = "size.json", "size.lock"
FIELDS = {"bytes", "entries", "stores"}
LEAST_STORES = 100  # between two counts
LOCK_SECONDS = 10.0  # a lock is held for a millisecond, or for one count

Count = Callable[[], tuple[int, int]]


def add_bytes(folder: Path, change: int, count: Count) -> int:
    """Bytes of all entries after a store that made them `change` more.

    count: looks at all entries and gives their bytes and their number.

    Raises: OSError, RuntimeError (filelock's word for no locks) or Timeout where the size cannot be kept.
    """
    with _locked(folder):
        known = _read(folder)
        if known is None or known["stores"] >= max(LEAST_STORES, known["entries"]):
            return _write(folder, *count(), 0)
        return _write(folder, known["bytes"] + change, known["entries"], known["stores"] + 1)


def note_count(folder: Path, total: int, entries: int) -> None:
    """Keeps what somebody counted who has looked at all entries, where a size is kept at all."""
    with contextlib.suppress(OSError, RuntimeError):  # Timeout is an OSError; the next count mends it
        if (folder / SIZE_NAME).exists():
            with _locked(folder):
                _write(folder, total, entries, 0)


def forget_size(folder: Path) -> None:
    """Removes what is kept here; the next store counts."""
    for name in (SIZE_NAME, LOCK_NAME):
        (Path(folder) / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with FileLock(folder / LOCK_NAME).acquire(timeout=LOCK_SECONDS):
        yield


def _read(folder: Path) -> dict | None:
    try:
        known = read_record(folder / SIZE_NAME)
    except InputError:
        return None
    return known if known is not None and set(known).issuperset(FIELDS) and is_sealed(known) else None


def _write(folder: Path, total: int, entries: int, stores: int) -> int:
    # Not with care: one that is torn is counted anew.
    record = sealed({"bytes": total, "entries": entries, "stores": stores})
    (folder / SIZE_NAME).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return total

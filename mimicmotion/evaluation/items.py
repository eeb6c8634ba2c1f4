"""Which clips a folder of results holds, and where what they were made of lies now."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import content_sha256, printable, read_record, why_no_file
from mimicmotion.results import difference, recorded_files

logger = logging.getLogger(__name__)

# Other videos of a result, by what follows its stem.
COMPANIONS = ("_comparison", "_icon", "_current")
MAX_FOLDERS = 20_000


@dataclass(frozen=True)
class Item:
    """A clip that is to be measured.

    Attributes:
        name: its path below the folder, without the suffix, "/" between folders.
        kind: "animation" was made of a driving video, "sentence" of several, "joined" of kept latents, of one clip or
            of several; "plain" has no record.
        record: what its sidecar says; empty for a plain one.
        problem: why it cannot be measured; empty where nothing is known against it.
    """

    name: str
    video: Path
    kind: str
    record: dict = field(default_factory=dict)
    problem: str = ""


def find_items(folder: str | Path, leave_out: Path, plain: bool) -> list[Item]:
    """The clips below a folder, by name; hidden folders and `leave_out` aside.

    Where some have a record, those without one are no results and left out. Where none has, all are plain clips.

    Args:
        plain: whether plain clips can be measured, since there is a truth.

    Raises: UsageError where nothing is to be measured, with the reason.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"no such folder of results: {folder}; name the one that a run wrote to (--output_dir)")
    recorded, without, sessions = [], [], 0
    for video in _videos(folder, leave_out):
        name = printable(video.relative_to(folder).with_suffix("").as_posix())
        if not os.path.lexists(video.with_suffix(".json")):
            without.append(Item(name, video, "plain"))
            continue
        item = _recorded(name, video)
        if item.kind == "session":
            sessions += 1
        else:
            recorded.append(item)
    if sessions:
        logger.info("%d sessions of a world model are left out; evaluate_world measures them", sessions)
    if recorded:
        if without:
            logger.info("%d videos without a record are left out: %s", len(without), _listed(without))
        return recorded
    if not without:
        more = f", but {sessions} sessions of a world model: use evaluate_world" if sessions else ""
        raise UsageError(f"no result lies in {folder}{more}")
    if not plain:
        raise UsageError(
            f"none of the {len(without)} videos in {folder} has a record (.json) beside it, so what they should show "
            "is not known; pass --truth DIR with true videos of the same names, or a folder that a run wrote"
        )
    return without


def _videos(folder: Path, leave_out: Path) -> Iterator[Path]:
    for number, (place, folders, names) in enumerate(os.walk(folder)):
        if number == MAX_FOLDERS:
            raise UsageError(f"{folder} has more than {MAX_FOLDERS:,} folders; name the one that holds the results")
        inner = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inner if Path(place, name).absolute() != leave_out.absolute()]
        stems = {name[:-4] for name in names if name.endswith(".mp4") and not name.startswith(".")}
        for stem in sorted(stems):
            if not any(stem.endswith(end) and stem.removesuffix(end) in stems for end in COMPANIONS):
                yield Path(place, f"{stem}.mp4")


def _recorded(name: str, video: Path) -> Item:
    try:
        record = read_record(video.with_suffix(".json"))
        kind = _kind(record or {})
    except InputError as error:
        return Item(name, video, "animation", problem=str(error))
    if kind is None:
        problem = f"{printable(video.with_suffix('.json'))} is no record of a result"
        return Item(name, video, "animation", problem=problem)
    if kind == "session":
        return Item(name, video, kind, record)
    files = recorded_files(record)
    if files is None:
        return Item(name, video, kind, record, f"its record {printable(video.with_suffix('.json'))} is damaged")
    return Item(name, video, kind, record)


def _kind(record: dict) -> str | None:
    """What a record is of, by the keys that only such records have."""
    if "begun_from" in record:
        return "session"
    if "latent_concat" in record or ("latents" in record and "recipe_sha256" in record):
        return "joined"
    if not isinstance(record.get("settings"), dict) or not isinstance(record.get("inputs"), dict):
        return None
    if "sentence" in record:
        return "sentence"
    return "animation" if "recipe_sha256" in record and isinstance(record["inputs"].get("video"), str) else None


def require_whole(item: Item) -> None:
    """Raises: InputError for what is known against a clip, and where it is no longer what its record says."""
    if item.problem:
        raise InputError(item.problem)
    if item.record:
        reason = difference(item.video, recorded_files(item.record).get(".mp4"))
        if reason:
            raise InputError(f"it is not the result of its record: {reason}")
    elif reason := why_no_file(item.video):
        raise InputError(f"{printable(item.video)} {reason}")


def locate(item: Item, what: str, inputs: str | None) -> Path:
    """Where an input of a result lies now: where it was, or by name in the folder `inputs` and below it; it is the one
    of the record to the last byte.

    Args:
        what: "video" or "reference".

    Raises: InputError where it is not there, or is another.
    """
    wanted = item.record["inputs"].get(what)
    words = {"video": "driving video", "reference": "reference picture"}[what]
    paths = item.record.get("paths")
    paths = paths.get(what) if isinstance(paths, dict) else None
    noted = [paths[key] for key in ("absolute", "given") if isinstance(paths, dict) and isinstance(paths.get(key), str)]
    names = {Path(path).name for path in noted} or {f"{item.video.stem}.mp4"}
    others = [path for path in sorted(Path(inputs).rglob("*")) if path.name in names] if inputs else []
    places = [Path(path) for path in noted] + others
    there = [place for place in places if os.path.exists(place)]
    for place in there:
        try:
            if content_sha256(place) == wanted:
                return place
        except OSError as error:
            raise InputError(f"its {words} {printable(place)} cannot be read: {error.strerror}") from error
    if there:
        raise InputError(f"its {words} {printable(there[0])} is not the one that it was made from; pass --inputs DIR")
    missing = printable(noted[0]) if noted else f"called {' or '.join(map(printable, names))}"
    raise InputError(f"its {words} {missing} is not there; pass --inputs DIR, the folder where it lies now")


def _listed(items: list[Item], most: int = 5) -> str:
    names = ", ".join(item.name for item in items[:most])
    return names if len(items) <= most else f"{names} and {len(items) - most} more"

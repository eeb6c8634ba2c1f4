"""What lies below a folder of results: every video with its record, what was not made and why, what cannot be read.

A record is a file of somebody else as far as this module is concerned: whatever is wrong with one is said on the page
and stops nothing.
"""

import json
import math
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mimicmotion.errors import InputError

VIDEO, RECORD, SHEET = ".mp4", ".json", ".jpg"
# Other videos of a result, by what follows its stem.
COMPANIONS = {"_comparison.mp4": "comparison", "_icon.mp4": "with keys"}
# By the first key that its records have: what kind of result it is, and the key of its settings.
KINDS = {
    "latent_concat": ("joined clips", "latent_concat"),
    "recipe_sha256": ("animation", "settings"),
    "begun_from": ("world", "settings"),
}
SUMMARIES = ("run.json", "encode.json")  # how the items of the last run ended
HISTORY = "runs.jsonl"  # how all items of all runs ended, a line each
NOT_MADE = ("failed", "interrupted", "not run")
MAX_BYTES = 2**25  # of a record: a session of hours lists each of its actions
MAX_FOLDERS = 20_000  # somebody's home folder as output folder must not hold up the end of a run
MAX_DEPTH = 6
MAX_FACTS = 500
MAX_TEXT = 1000
EXACT = 2**53  # whole numbers up to here are exact in a browser


@dataclass(frozen=True)
class Result:
    """One video with its record. Paths are relative to the folder; `facts` are plain values by path."""

    kind: str
    video: Path
    record: Path
    sheet: Path | None
    others: dict[str, Path]
    time: float  # seconds since 1970
    seconds: float | None  # that making it took
    facts: dict[str, object]


@dataclass(frozen=True)
class NotMade:
    """An item that has no result from its last try: failed, interrupted or not run. `command` is the run's."""

    status: str
    video: str
    output: str
    message: str
    time: float
    source: Path
    command: str = ""


@dataclass
class Found:
    """All that lies below `folder`; `problems` has a reason by path, relative too."""

    folder: Path
    results: list[Result] = field(default_factory=list)
    not_made: list[NotMade] = field(default_factory=list)
    problems: dict[Path, str] = field(default_factory=dict)


def find_records(folder: Path) -> Found:
    """Looks through `folder` and all below it, hidden folders and links to folders aside."""
    found = Found(folder)

    def unreadable(error: OSError) -> None:
        found.problems[Path(os.path.relpath(error.filename, folder))] = f"cannot be opened: {error.strerror}"

    for number, (place, folders, names) in enumerate(os.walk(folder, onerror=unreadable)):
        if number == MAX_FOLDERS:
            found.problems[Path()] = f"has more than {MAX_FOLDERS:,} folders; only so many were looked into"
            break
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        _look_into(found, Path(os.path.relpath(place, folder)), set(names))
    return found


def _look_into(found: Found, place: Path, names: set[str]) -> None:
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        # A video without a record is none of the results, and most JSON files of such a folder are no records.
        if suffix == VIDEO and stem + RECORD in names and not name.startswith("."):
            try:
                found.results.append(_result(found.folder, place, stem, names))
            except InputError as error:
                found.problems[place / (stem + RECORD)] = str(error)
    last = {}
    for name in (*SUMMARIES, HISTORY):
        if name in names:
            try:
                items = list(_items(found.folder, place / name, found.problems))
            except InputError as error:
                found.problems[place / name] = str(error)
                continue
            # What is tried again later, with success or without, is no longer what it was.
            last |= {(item.output, item.video): item for item in items}
    found.not_made += [item for item in last.values() if item.status in NOT_MADE]


# ----------------------------------------------------------------------------------------------------
# Results


def _result(folder: Path, place: Path, stem: str, names: set[str]) -> Result:
    """Raises: InputError when the record is none."""
    path = place / (stem + RECORD)
    record, changed = read_json(folder / path)
    if not isinstance(record, dict):
        raise InputError(f"is no record: it holds a {type(record).__name__} instead of an object")
    mark = next((mark for mark in KINDS if mark in record), None)
    if mark is None:
        raise InputError(f"is no record of a result: it has none of {', '.join(KINDS)}")
    kind, settings = KINDS[mark]
    if not isinstance(record.get(settings), dict):
        raise InputError(f"is damaged: its {settings} are no object")
    facts = flat(record)
    return Result(
        kind=kind,
        video=place / (stem + VIDEO),
        record=path,
        sheet=place / (stem + SHEET) if stem + SHEET in names else None,
        others={label: place / (stem + end) for end, label in COMPANIONS.items() if stem + end in names},
        time=_time(facts.get("made.date", facts.get("date")), changed),
        seconds=_sum(record.get("stage_seconds")),
        facts=named_reference(facts) | facts,
    )


def named_reference(facts: dict[str, object]) -> dict[str, object]:
    """The reference picture by its file's name, where a record has it; digits of its hash tell namesakes apart."""
    given, digits = facts.get("paths.reference.given"), facts.get("inputs.reference")
    if not isinstance(given, str) or not isinstance(digits, str):
        return {}
    return {"reference": f"{os.path.basename(given)} {digits[:8]}"}


def read_json(path: Path) -> tuple[object, float]:
    """What a JSON file holds and when it was last changed, in seconds since 1970.

    Raises: InputError that begins with what is wrong with the file.
    """
    text, changed = _read(path)
    try:
        return json.loads(text), changed
    except RecursionError as error:
        raise InputError("is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"is no valid JSON: {error}") from error


def _read(path: Path, only_end: bool = False) -> tuple[bytes, float]:
    """All bytes of a file; or, of one that is too large, its last lines."""
    try:
        status = path.stat()
        # A pipe under this name would block whoever reads it.
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is no regular file")
        if status.st_size <= MAX_BYTES:
            return path.read_bytes(), status.st_mtime
        if not only_end:
            raise InputError(f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        with path.open("rb") as file:
            file.seek(status.st_size - MAX_BYTES)
            return file.read().partition(b"\n")[2], status.st_mtime
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def flat(record: dict) -> dict[str, object]:
    """Plain values by path ("settings.turbo.scheduler"): text, numbers, booleans, None; lists as text.

    What is too long, too deep or too much to be shown is named instead of shown.
    """
    facts: dict[str, object] = {}
    for path, value in _leaves(record, "", MAX_DEPTH):
        if len(facts) == MAX_FACTS:
            facts["..."] = f"more than {MAX_FACTS} values; see the file"
            break
        facts[path[:MAX_TEXT]] = plain(value)
    return facts


def _leaves(record: dict, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        if isinstance(value, dict) and value and depth > 1:
            yield from _leaves(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}", value


def plain(value: object) -> object:
    """A value as a page can show it, and a browser can read it without changing it."""
    if isinstance(value, list | dict) and value:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except RecursionError:
            return "nested too deeply; see the file"
        return text if len(text) <= MAX_TEXT else f"{len(value)} entries; see the file"
    if isinstance(value, list | dict):
        return "none"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) > EXACT:
        return str(value)[:MAX_TEXT]
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}... ({len(value)} characters)"
    return value


def _time(date: object, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(date).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return otherwise


def _sum(seconds: object) -> float | None:
    """The sum of a record's stages; None where it has none."""
    values = list(seconds.values()) if isinstance(seconds, dict) else []
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return round(sum(numbers), 3) if numbers and len(numbers) == len(values) else None


# ----------------------------------------------------------------------------------------------------
# What was not made


def _items(folder: Path, path: Path, problems: dict[Path, str]) -> Iterator[NotMade]:
    """How each item of a summary or of a history ended, oldest first; lines that are damaged go to `problems`.

    Raises: InputError when nothing can be read.
    """
    if path.name == HISTORY:
        text, changed = _read(folder / path, only_end=True)
        lines = [_line(line) for line in text.splitlines()]
        if damaged := sum(line is None for line in lines):
            problems[path] = f"{damaged} of {len(lines)} lines cannot be read"
        lines = [line for line in lines if line]
        runs = {str(line.get("run")): line.get("command") for line in lines if line.get("kind") == "run"}
        items = [line for line in lines if line.get("kind") == "item"]
    else:
        summary, changed = read_json(folder / path)
        items, runs = summary.get("items") if isinstance(summary, dict) else None, {}
        if not isinstance(items, list):
            raise InputError("is no summary of a run: it has no list of items")
    for item in items:
        if isinstance(item, dict):
            status, video, output, message = (
                str(plain(item.get(name, ""))) for name in ("status", "video", "output", "message")
            )
            command = _words(runs.get(str(item.get("run"))))
            yield NotMade(status, video, output, message, _time(item.get("time"), changed), path, command)


def _line(text: bytes) -> dict | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _words(command: object) -> str:
    """A command as one reads it."""
    return str(plain(shlex.join(map(str, command)) if isinstance(command, list) else command or ""))

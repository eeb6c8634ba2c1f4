"""What was run in the folders below a folder, with what, and how it ended: the run logs, read and compared."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.results.run_log import LOG_NAME, read_lines

# What tells two runs apart, beside their settings.
CIRCUMSTANCES = ("folder", "code", "machine", "versions")
RUNNING = "no end"
SHARD = r"(\d{1,7})/(\d{1,7})"  # as config.shard_numbers has it
FINISHED = ("done", "skipped")


@dataclass
class Run:
    """One run. `begun` and `ended` are its first and last line, empty where it has none; `items` those between, if
    they were asked for; `counts` how many results ended in which way; `unlisted` how many of them were skipped and
    have no line.
    """

    id: str
    log: Path
    begun: dict = field(default_factory=dict)
    ended: dict = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    unlisted: int = 0
    items: list[dict] = field(default_factory=list)

    @property
    def time(self) -> str:
        """When it began, ISO 8601."""
        return self.begun.get("time") or self.ended.get("time") or ""

    @property
    def command(self) -> list[str]:
        """The words of its command; empty where Python code called."""
        words = self.begun.get("command")
        return [str(word) for word in words] if isinstance(words, list) else []

    @property
    def settings(self) -> dict:
        """The settings that were not as their defaults, by path."""
        settings = self.begun.get("different_settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def end(self) -> str:
        """Its exit code, or that it was killed or still runs."""
        return str(self.ended["exit_code"]) if "exit_code" in self.ended else RUNNING


@dataclass(frozen=True)
class Summary:
    """What several runs into one folder came to.

    Attributes:
        items: of each result that was begun the last line about it, sorted by its place.
        unlisted: how many more were finished before, of which no line is there.
        planned: how many results the largest of them was to make, the other shards included; at least those begun.
        without_end: which shards of the newest run in shards have no end, and why; "1/1" is an ordinary run.
    """

    items: list[dict]
    planned: int
    without_end: dict[str, str]
    unlisted: int = 0

    @property
    def finished(self) -> int:
        """How many results were there when a run last looked."""
        return sum(item.get("status") in FINISHED for item in self.items) + self.unlisted


def read_history(folder: str | Path, items: bool = False) -> tuple[list[Run], dict[Path, int]]:
    """All runs of all histories in and below `folder`, oldest first, and how many lines of which file are damaged.

    Args:
        items: keep the lines of single results, too.

    Raises: UsageError where there is no history.
    """
    runs, damaged = {}, {}
    for path in run_logs(folder):
        for record in read_lines(path):
            if record is None:
                damaged[path] = damaged.get(path, 0) + 1
                continue
            run = runs.setdefault(record["run"], Run(record["run"], path))
            if record["kind"] == "run":
                run.begun = record
            elif record["kind"] == "end":
                run.ended = record
            elif record["kind"] == "item":
                status = str(record.get("status"))
                run.counts[status] = run.counts.get(status, 0) + 1
                if items:
                    run.items.append(record)
            elif record["kind"] == "skipped" and isinstance(record.get("count"), int):
                run.unlisted += record["count"]
                run.counts["skipped"] = run.counts.get("skipped", 0) + record["count"]
    if not runs and not damaged:
        raise UsageError(f"no {LOG_NAME} in or below {folder}: nothing was run there yet, or it is another folder")
    return sorted(runs.values(), key=lambda run: run.time), damaged


def sum_up(log: Path, runs: Sequence[Run]) -> Summary:
    """What `runs`, oldest first, came to that wrote into `log`."""
    last = _last_items(log, runs)
    planned = (run.begun.get("planned_in_all", run.begun.get("planned")) for run in runs)
    unlisted = _without_line(last, runs)
    whole = max([len(last) + unlisted, *(count for count in planned if isinstance(count, int))])
    return Summary(last, whole, _parts_without_end(runs), unlisted)


def _without_line(last: list[dict], runs: Sequence[Run]) -> int:
    """How many results the newest runs found finished of which no run has a line; at least so many."""
    newest = {str(run.begun.get("shard")): run for run in runs}.values()
    earlier = sum(item["run"] not in {run.id for run in newest} for item in last)
    return max(0, sum(run.unlisted for run in newest) - earlier)


def _last_items(log: Path, runs: Sequence[Run]) -> list[dict]:
    folders, last = {run.id: str(run.begun.get("folder", "")) for run in runs}, {}
    # In the order of the lines: clocks of two machines may differ.
    for record in read_lines(log):
        if record is not None and record["kind"] == "item" and record["run"] in folders:
            name = str(record.get("output", record.get("video", "")))
            # Two runs may have called one folder differently.
            last[os.path.normpath(os.path.join(folders[record["run"]], name))] = record
    return [last[place] for place in sorted(last)]


def _parts_without_end(runs: Sequence[Run]) -> dict[str, str]:
    ends: dict[str, str] = {}
    parts = whole = 0
    for run in runs:
        numbers = re.fullmatch(SHARD, str(run.begun.get("shard", "1/1")), re.ASCII)
        planned = run.begun.get("planned_in_all", run.begun.get("planned"))
        if not numbers or not isinstance(planned, int):
            continue
        # A run of a few results more does not stand for the shards of many.
        if int(numbers[2]) != parts and planned >= whole:
            ends, parts, whole = {}, int(numbers[2]), planned
        if int(numbers[2]) == parts:
            ends[numbers[0]] = "" if "exit_code" in run.ended else "was killed or still runs"
            whole = max(whole, planned)
    names = (f"{number}/{parts}" for number in range(1, parts + 1))
    return {name: why for name in names if (why := ends.get(name, "never began"))}


def run_logs(folder: str | Path) -> Iterator[Path]:
    """The histories in and below `folder`. Raises: UsageError when there is no such folder."""
    if not Path(folder).is_dir():
        raise UsageError(f"no such folder: {folder}; name the folder that results were written to (--output_dir)")
    for place, folders, files in os.walk(folder):
        folders.sort()
        if LOG_NAME in files:
            yield Path(place) / LOG_NAME


def one_run(runs: list[Run], part: str) -> Run:
    """The run whose id has `part` in it; "last" is the newest. Raises: UsageError for none or many."""
    if part == "last" and runs:
        return runs[-1]
    found = [run for run in runs if part in run.id]
    if len(found) != 1:
        newest = ", ".join(run.id for run in runs[-5:])
        which = ", ".join(run.id for run in found[-5:]) or f"the newest are {newest or 'none'}"
        raise UsageError(f"{len(found)} runs are called '{part}': {which}")
    return found[0]


def compare(one: Run, other: Run) -> list[str]:
    """In words, how two runs differ in settings and circumstances; a setting that one does not name is its default."""
    lines = [
        f"{path}: {one.settings.get(path, 'default')}, then {other.settings.get(path, 'default')}"
        for path in sorted({*one.settings, *other.settings})
        if one.settings.get(path, "default") != other.settings.get(path, "default")
    ]
    for name in CIRCUMSTANCES:
        before, after = one.begun.get(name), other.begun.get(name)
        if before != after:
            lines.append(f"{name}: {_shown(before, after)}, then {_shown(after, before)}")
    return lines


def _shown(value: object, beside: object) -> str:
    """A value; of a dictionary only what differs from the one `beside`."""
    if not isinstance(value, dict):
        return str(value)
    other = beside if isinstance(beside, dict) else {}
    return ", ".join(f"{key} {item}" for key, item in value.items() if item != other.get(key)) or "nothing else"

"""From texts such as "seed=1,2" to every combination, each with settings, a name and the results it makes."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from mimicmotion.cli import DEVICE, MODEL, POSE, RUN, TURBO, follow_scheduler, setting_of_flag
from mimicmotion.config import Config, Origin, SweepSettings, lookup, trace_config
from mimicmotion.errors import UsageError
from mimicmotion.results import Job, plan_jobs
from mimicmotion.sweep.names import cell_name, title_of

GROUPS = {"run": RUN, "model": MODEL, "device": DEVICE, "pose": POSE, "turbo": TURBO}
EXAMPLE = "for example --set num_inference_steps=2,4,8 --set seed=1,2"
MOST_CELLS = 10_000
# What a result does not depend on, or what a sweep is about itself.
NOT_SWEPT = ("batch", "feature_cache", "latent_steps", "latent_concat", "streaming", "sweep", "output", "cluster")
NOT_SWEPT = (*NOT_SWEPT, "pose.save_folder", "test_case.ref_video_path")
SWEPT_OUTPUT = ("output.audio", "output.crf")


@dataclass(frozen=True)
class Cell:
    """One combination: the swept settings by path as the user named them, all settings, the results."""

    name: str
    values: dict[str, Any]
    config: Config
    jobs: Sequence[Job]

    @property
    def title(self) -> str:
        """The name for people: "AYS, steps 4, seed 1"."""
        return title_of(self.values)

    def clip_of(self, job: Job) -> str:
        """What tells the clips of a sweep apart, "<folder>/<video stem>"; the same in all cells."""
        return job.output.relative_to(self.config.output.output_dir).with_suffix("").as_posix()


def make_cells(origin: Origin) -> list[Cell]:
    """Every combination of the values of `sweep.settings`, the last setting's values changing fastest; equal ones are
    one. Each has the settings that the main script would have, called with these flags.

    Raises: UsageError for a text that is no setting with values, one that cannot be swept, and the first combination
        with impossible settings or missing inputs, which is named.
    """
    swept = parse_settings(origin.config.sweep.settings or [])
    for path in swept:
        _require_free(origin, path)
    cells: dict[str, Cell] = {}
    for texts in itertools.product(*swept.values()):
        pairs = [f"{path}={text}" for path, text in zip(swept, texts, strict=True)]
        try:
            values, config = _settings(origin, list(swept), pairs)
            cells.setdefault(repr(config), _cell(values, config, origin.config.sweep.output_dir))
        except UsageError as error:
            raise UsageError(f"the cell {', '.join(pairs)}: {error}") from error
    _require_distinct(list(cells.values()))
    return list(cells.values())


def parse_settings(texts: list[str]) -> dict[str, list[str]]:
    """Path of each swept setting -> its values as YAML texts. Raises: UsageError as `make_cells`."""
    swept: dict[str, list[str]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        if not separator or not name.strip():
            raise UsageError(f"--set {text!r} is not NAME=VALUE,VALUE; {EXAMPLE}")
        path = setting_of_flag(name.strip(), GROUPS)
        _require_sweepable(path)
        if any(_overlap(path, other) for other in swept):
            raise UsageError(f"--set names {path} twice; give all of its values at once, {EXAMPLE}")
        swept[path] = split_values(values)
    if not swept:
        raise UsageError(f"nothing to sweep: pass --set, {EXAMPLE}")
    count = 1
    for values in swept.values():
        count *= len(values)
    if count > MOST_CELLS:
        raise UsageError(f"{count} combinations are more than {MOST_CELLS}; sweep fewer values at once")
    return swept


def split_values(text: str) -> list[str]:
    """The texts between the commas that are in no bracket and no quotes. Raises: UsageError for an empty one."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if character == "," and not depth and not quote:
            values.append("")
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not values[-1].strip():
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth = max(0, depth - 1)
        values[-1] += character
    if depth or quote:
        raise UsageError(f"--set: {text!r} has a bracket or a quote that is not closed")
    if not all(value.strip() for value in values):
        raise UsageError(f"--set: {text!r} has an empty value; write null where a setting shall have none")
    return [value.strip() for value in values]


def _settings(origin: Origin, paths: list[str], pairs: list[str]) -> tuple[dict[str, Any], Config]:
    changed = trace_config(origin.config, overrides=pairs)
    cell = Origin(changed.config, origin.sources | changed.sources, origin.file)
    follow_scheduler(cell, origin.file)
    cell.config.sweep = SweepSettings()
    return {path: lookup(cell.config, path) for path in paths}, cell.config


def _cell(values: dict[str, Any], config: Config, folder: str) -> Cell:
    name = cell_name(values)
    config.output.output_dir = str(Path(folder) / name)
    return Cell(name, values, config, plan_jobs(config))


def _require_sweepable(path: str) -> None:
    plain = re.sub(r"\[.*?\]", "", path)
    fixed = any(plain == part or plain.startswith(f"{part}.") for part in NOT_SWEPT) and plain not in SWEPT_OUTPUT
    if fixed:
        raise UsageError(f"--set: {path} cannot be swept: it is the same for all cells, or no result depends on it")
    if any(plain == part.name and (is_dataclass(part.type) or plain == "test_case") for part in fields(Config)):
        raise UsageError(f"--set: {path} is many settings; sweep one of them, such as turbo.scheduler")


def _require_free(origin: Origin, path: str) -> None:
    """A value that somebody gave would be lost in silence."""
    for known, source in origin.sources.items():
        if _overlap(known, path) and source not in (str(origin.file), "the demo"):
            raise UsageError(f"{path} is swept and given as well ({source}); drop one of them")


def _overlap(one: str, other: str) -> bool:
    """Whether two paths name one setting, of one test case at least."""
    if re.sub(r"\[.*?\]", "", one) != re.sub(r"\[.*?\]", "", other):
        return False
    cases = [match[1] for match in (re.search(r"\[(.*?)\]", path) for path in (one, other)) if match]
    return "*" in cases or len(set(cases)) < 2


def _require_distinct(cells: list[Cell]) -> None:
    names: dict[str, Cell] = {}
    for cell in cells:
        other = names.setdefault(cell.name.casefold(), cell)
        if other is not cell:
            raise UsageError(f"two cells would be called {cell.name}: {other.values} and {cell.values}; sweep one less")

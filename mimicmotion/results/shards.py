"""The part of a run's results that one of several machines makes: together they make each result once."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.cli import say
from mimicmotion.config import Config, shard_numbers
from mimicmotion.errors import UsageError
from mimicmotion.results.jobs import Job, Plan
from mimicmotion.results.run_log import recorded

ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
RANKS = ("RANK", "WORLD_SIZE")
BY_HAND = "pass --shard i/N with i from 1 to N"


@dataclass(frozen=True)
class Shard:
    """Number `number`, from 1 on, of `count` parts; 1 of 1 is the whole."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def part(self) -> str:
        """What the name of a file says that is the shard's own: ".2-of-4"; nothing for the whole."""
        return f".{self.number}-of-{self.count}" if self.count > 1 else ""

    def jobs_of(self, jobs: Sequence[Job], folder: str | Path) -> Sequence[Job]:
        """Those of a run's planned jobs that are this shard's, in order; `folder` is the run's output folder."""
        if self.count == 1:
            return jobs
        if isinstance(jobs, Plan):
            return jobs.where(lambda job: _number_of(job, folder, self.count) == self.number)
        return [job for job in jobs if _number_of(job, folder, self.count) == self.number]

    def takes(self, name: str) -> bool:
        """Whether what is called so, "/" between folders, is this shard's."""
        return _number_named(os.fsencode(name), self.count) == self.number

    def facts(self, planned: int) -> dict:
        """What the history says of a run that makes a part of `planned` results."""
        return {"shard": str(self), "planned_in_all": planned} if self.count > 1 else {}

    def run_empty(self, config: Config, folder: str | Path, planned: int) -> int:
        """The run of a shard to which none of `planned` results falls: a word, a line in the history; the exit code."""
        if not config.output.dry_run:
            with recorded(folder, config, 0, **self.facts(planned)):
                pass
        say(f"shard {self}: none of the {planned} results of the whole run falls to it, so there is nothing to do")
        return 0


def choose_shard(config: Config, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that `batch.shard` asks for, "auto" by the variables of a SLURM array or of torchrun.

    Raises: UsageError where these are absent or do not number the parts one after the other.
    """
    text = config.batch.shard
    if text is None:
        return Shard()
    numbers = shard_numbers(text)
    if numbers:
        return Shard(*numbers)
    array, ranks = (all(environment.get(name) for name in names) for names in (ARRAY, RANKS))
    if array and ranks and environment["WORLD_SIZE"] != "1":
        raise UsageError(f"--shard auto: both a SLURM array and RANK of WORLD_SIZE number this process; {BY_HAND}")
    if array:
        return _of_array(environment)
    if ranks:
        rank, count = (_number(environment, name) for name in RANKS)
        if not 0 <= rank < count:
            raise UsageError(f"--shard auto: RANK is {rank}, but WORLD_SIZE {count}; {BY_HAND}")
        return Shard(rank + 1, count)
    absent = [name for name in (*ARRAY, *RANKS) if not environment.get(name)]
    raise UsageError(
        f"--shard auto looked for {', '.join(ARRAY)} (a SLURM array) and for {' and '.join(RANKS)} (torchrun): "
        f"{', '.join(absent)} not set; {BY_HAND}"
    )


def _of_array(environment: Mapping[str, str]) -> Shard:
    task, first, count = (_number(environment, name) for name in ARRAY)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", "1")
    even = first + step * (count - 1)
    last = _number(environment, "SLURM_ARRAY_TASK_MAX", str(max(even, 0)))
    # An array with gaps (--array=3,7,8, to repeat some of many) numbers other parts than the one that it repeats.
    if not step or not even <= last < even + step or task not in range(first, last + 1, step):
        raise UsageError(
            f"--shard auto: the SLURM array has {count} tasks from {first} to {last} in steps of {step}, and this is "
            f"task {task}; take an array without gaps, such as --array=1-{max(count, 1)}, or {BY_HAND}"
        )
    return Shard((task - first) // step + 1, count)


def _number(environment: Mapping[str, str], name: str, otherwise: str = "") -> int:
    text = environment.get(name) or otherwise
    # What a scheduler counts has a few digits.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"--shard auto: {name} is {text!r}, which is no number; {BY_HAND}")
    return int(text)


def _number_of(job: Job, folder: str | Path, count: int) -> int:
    """Which of `count` shards a job falls to."""
    # By a hash and not in turns: tasks of an array start hours apart, and where a video was added meanwhile, turns
    # would deal all out anew and leave some to nobody. Of what no other video has a say in, as one has in a result's
    # name.
    # How long a clip takes, and on which machine, is not known here: work is even where there are many more shards
    # than machines, which take one after the other.
    place = os.path.relpath(job.output.parent, folder)
    name = os.fsencode(os.path.join(place, job.video.name))
    return _number_named(name, count)


def _number_named(name: bytes, count: int) -> int:
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % count + 1

"""The dry run of a sweep: what it would make, and how long that is likely to take, as far as that is known."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mimicmotion.animation import Animator, count_passes, planned, text_table
from mimicmotion.errors import MimicMotionError
from mimicmotion.files import read_record
from mimicmotion.results import Job
from mimicmotion.sweep.cells import Cell
from mimicmotion.video import VideoSource, open_video

Size = tuple[int, int, int]  # height and width of the frames, frames of a tile


@dataclass(frozen=True)
class Rate:
    """Seconds that results of one size took: sampling per UNet pass, decoding per frame."""

    per_pass: float
    per_frame: float


def plan_table(animators: Sequence[Animator], cells: list[Cell]) -> tuple[str, int]:
    """Cells, what of them is finished, the UNet passes of the rest, and the time that they are likely to take; and how
    many results cannot be made.
    """
    rates, videos = rates_of(cells), Videos()
    header = ("cell", "results", "finished", "UNet passes", "seconds", "")
    rows, all_passes, all_seconds, unknown, failing = [], 0, 0.0, 0, 0
    for cell, animator in zip(cells, animators, strict=True):
        left = [job for job in cell.jobs if not animator.is_finished(job)]
        passes, seconds, notes = 0, 0.0, []
        for job in left:
            try:
                size, frames = videos.size_of(cell, job)
            except MimicMotionError as error:
                notes.append(f"{cell.clip_of(job)} cannot run: {error}")
                failing += 1
                continue
            job_passes = count_passes(cell.config, job.case, frames)[2]
            passes += job_passes
            if size in rates:
                seconds += job_passes * rates[size].per_pass + frames * rates[size].per_frame
            else:
                unknown += 1
        shown = f"{seconds:.0f}" if seconds else "-" if not left else "?"
        rows.append((cell.name, str(len(cell.jobs)), str(len(cell.jobs) - len(left)), str(passes), shown, *notes[:1]))
        all_passes, all_seconds = all_passes + passes, all_seconds + seconds
    rows = [row if len(row) == len(header) else (*row, "") for row in rows]
    total = f"{len(cells)} cells, {sum(len(cell.jobs) for cell in cells)} results, {all_passes} UNet passes to do"
    return f"{text_table(header, rows)}\n{total}\n{_time(all_seconds, unknown)}", failing


def rates_of(cells: list[Cell]) -> dict[Size, Rate]:
    """What results of this sweep took that are there, by their size; medians."""
    found: dict[Size, list[Rate]] = {}
    for cell in cells:
        for job in cell.jobs:
            for size, rate in _rate(cell, job):
                found.setdefault(size, []).append(rate)
    return {
        size: Rate(*(statistics.median(getattr(r, name) for r in rates) for name in ("per_pass", "per_frame")))
        for size, rates in found.items()
    }


def _rate(cell: Cell, job: Job) -> Iterator[tuple[Size, Rate]]:
    """Of one result; nothing where there is no record, or none that can be understood."""
    try:
        facts = read_record(job.beside(".json"))
        frames, seconds = int(facts["frames"]), facts["stage_seconds"]
        passes = count_passes(cell.config, job.case, frames)[2]
        size = (int(facts["height"]), int(facts["width"]), job.case.num_frames)
        yield size, Rate(float(seconds["sampling"]) / passes, float(seconds["decoding"]) / frames)
    except (MimicMotionError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return


class Videos:
    """Driving videos, opened once for all cells that read them in the same way."""

    def __init__(self):
        self._opened: dict[tuple, VideoSource] = {}

    def size_of(self, cell: Cell, job: Job) -> tuple[Size, int]:
        """Size and number of frames of a result. Raises: InputError where it cannot be made."""
        key = (job.video, repr(cell.config.video))
        if key not in self._opened:
            self._opened[key] = open_video(job.video, settings=cell.config.video)
        geometry, frames = planned(cell.config, job, self._opened[key])
        return (geometry.height, geometry.width, job.case.num_frames), frames


def _time(seconds: float, unknown: int) -> str:
    if not unknown:
        return f"about {_spoken(seconds)}, by what the finished results took" if seconds else "nothing is left to do"
    if not seconds:
        return "How long that takes is not known: no result of this sweep of that size is finished yet"
    return f"about {_spoken(seconds)}, by what the finished results took, and {unknown} results of sizes never made yet"


def _spoken(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"

"""A row per result: what was swept, how it ended, what it took and how good it is.

All of it comes from the records beside the results, so that the tables of a sweep that went on after a stop are those
of one that was not stopped, but for the seconds.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimicmotion.animation import NOT_A_VIDEO, Outcome, count_passes, text_table
from mimicmotion.files import write_bytes
from mimicmotion.results import Job
from mimicmotion.sweep.cells import Cell

FORMAT_VERSION = 1
STAGES = ("poses", "loading", "sampling", "decoding")
FINISHED = ("done", "skipped")
MEASURES = ("psnr", "ssim", "temporal_difference_error", "sharpness")


@dataclass
class Row:
    """One result.

    Attributes:
        status: "done", "failed", "interrupted" or "not run"; results that were there before are done.
        took: seconds of this run, 0 where nothing was to do.
        facts: its record; empty where it is not done.
        passes: UNet passes; None where it is not done.
        against: name of the cell that `measures` compare it with; empty for that one, and where nothing was measured.
        measures, truth_measures: by name; empty where nothing was measured.
    """

    cell: Cell
    job: Job
    status: str
    message: str = ""
    took: float = 0.0
    facts: dict = field(default_factory=dict)
    passes: int | None = None
    against: str = ""
    measures: dict[str, float | None] = field(default_factory=dict)
    truth_measures: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, job: Job, outcome: Outcome) -> "Row":
        """What became of a result, with its record."""
        if outcome.status not in FINISHED:
            return cls(cell, job, outcome.status, outcome.message, outcome.seconds)
        facts = json.loads(job.beside(".json").read_text(encoding="utf-8"))
        passes = count_passes(cell.config, job.case, facts["frames"])[2]
        return cls(cell, job, "done", "", outcome.seconds, facts, passes)

    @property
    def clip(self) -> str:
        """The clip, as all cells call it."""
        return self.cell.clip_of(self.job)

    @property
    def seconds(self) -> dict[str, float | None]:
        """Seconds of each stage, of the run that made the result."""
        stages = self.facts.get("stage_seconds", {})
        return {stage: stages.get(stage) for stage in STAGES}


def write_tables(folder: Path, rows: list[Row]) -> list[Path]:
    """Writes sweep.csv and sweep.json; their paths. Raises: SetupError when they cannot be written."""
    table, whole = folder / "sweep.csv", folder / "sweep.json"
    records = [record(row, folder) for row in rows]
    text = io.StringIO()
    flat = [dict(_flat(record)) for record in records]
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    # A name that is not UTF-8 must not cost the table.
    write_bytes(table, text.getvalue().encode("utf-8", "backslashreplace"))
    content = {"format_version": FORMAT_VERSION, "swept": _swept(rows), "rows": records}
    write_bytes(whole, (json.dumps(content, indent=2) + "\n").encode())
    return [table, whole]


def record(row: Row, folder: Path) -> dict[str, Any]:
    """A row as plain values; `output` is seen from the sweep's folder."""
    measured = {"measured_against": row.against or None, "measures": row.measures} if row.measures else {}
    truth = {"truth_measures": row.truth_measures} if row.truth_measures else {}
    return {
        "cell": row.cell.name,
        "clip": row.clip,
        "settings": row.cell.values,
        "status": row.status,
        "message": row.message,
        "unet_passes": row.passes,
        "frames": row.facts.get("frames"),
        "seconds": row.seconds,
        "output": row.job.output.relative_to(folder).as_posix(),
        **measured,
        **truth,
    }


def summary(rows: list[Row], others: Sequence[Path] = ()) -> str:
    """The end of a sweep as a table, with what lies beside the videos and is none."""
    header = ("cell", "clip", "status", "UNet passes", "seconds", "result or reason")
    lines = [
        (
            row.cell.name,
            row.clip,
            row.status,
            str(row.passes or "-"),
            f"{row.took:.1f}",
            row.message or str(row.job.output),
        )
        for row in rows
    ]
    lines += [("-", path.name, "left out", "-", "-", NOT_A_VIDEO) for path in others]
    counts = {status: sum(row.status == status for row in rows) for status in dict.fromkeys(r.status for r in rows)}
    cells = len({row.cell.name for row in rows})
    ends = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{text_table(header, lines)}\n{cells} cells, {len(rows)} results: {ends}"


def _swept(rows: list[Row]) -> dict[str, list]:
    """Every value of each swept setting, in the order of the cells."""
    found: dict[str, list] = {}
    for row in rows:
        for path, value in row.cell.values.items():
            values = found.setdefault(path, [])
            if value not in values:
                values.append(value)
    return found


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a row in sweep.csv."""
    for name, value in record.items():
        if name == "settings" or name == "measures":
            yield from value.items()
        elif name == "seconds":
            yield from ((f"{stage}_seconds", seconds) for stage, seconds in value.items())
        elif name == "truth_measures":
            yield from ((f"truth_{measure}", number) for measure, number in value.items())
        else:
            yield name, value

"""Quality over seconds: which settings are worth what they cost."""

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.files import atomic_path
from mimicmotion.sweep.names import title_of
from mimicmotion.sweep.tables import Row

# Seconds of loading: a result that loaded its networks, which takes longer, has first calls in its other seconds.
LOADED = 0.25
# What makes another picture rather than a better or a worse one: results are averaged over it.
PICTURES = re.compile(r"test_case\[.*\]\.(seed|ref_image_path)")
QUALITIES = (("psnr", "PSNR in dB"), ("ssim", "SSIM"))
Values = dict[str, object]


@dataclass(frozen=True)
class Way:
    """What results are held against, where their measures are, and whether it is one of them."""

    name: str
    of: Callable[[Row], dict]
    by_cost: bool


WAYS = (
    Way("the costliest", lambda row: row.measures, True),
    Way("the truth", lambda row: row.truth_measures, False),
)


def draw_plot(path: Path, rows: list[Row]) -> Path | None:
    """Writes a picture with a point for each combination of settings, its mean over clips, seeds and references, with
    bars from the least to the greatest; lines join what differs in one number alone, and what all were held against
    is a line of its own. None where nothing was measured.

    Raises: SetupError when the file cannot be written.
    """
    ways = [way for way in WAYS if any(way.of(row) for row in rows)]
    if not ways:
        return None
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (6.4 * len(QUALITIES), 4.8 * len(ways))
    figure, axes = plt.subplots(len(ways), len(QUALITIES), figsize=size, layout="constrained", squeeze=False)
    for way, line in zip(ways, axes, strict=True):
        for (name, title), place in zip(QUALITIES, line, strict=True):
            _draw(place, rows, lambda row, way=way, name=name: way.of(row).get(name))
            if way.by_cost:
                _draw_costliest(place, rows)
            place.set_ylabel(f"{title} against {way.name}")
            place.set_xlabel("seconds per frame, sampling and decoding")
    handles, labels = axes[0][0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, fontsize="small", loc="outside upper center", ncols=3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path


def _draw(axes, rows: list[Row], quality: Callable[[Row], float | None]) -> None:
    along = axis_of([row.cell.values for row in rows])
    for series, points in sorted(_series(rows, along).items()):
        drawn = []
        for text, group in points.items():
            seconds, values = seconds_per_frame(group), [quality(row) for row in group]
            known = [value for value in values if value is not None]
            if known and seconds:
                drawn.append((text, seconds, known))
        if not drawn:
            continue
        drawn.sort(key=lambda point: statistics.fmean(point[1]))
        x, y = ([statistics.fmean(point[side]) for point in drawn] for side in (1, 2))
        bars = [_bars([point[side] for point in drawn]) for side in (1, 2)]
        axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], marker="o", capsize=2, linewidth=1, label=series or None)
        for number, (point, place) in enumerate(zip(drawn, zip(x, y, strict=True), strict=True)):
            # Neighbours are often near: their texts stand above and below in turns.
            offset = (5, 5) if number % 2 == 0 else (5, -12)
            axes.annotate(point[0], place, textcoords="offset points", xytext=offset, fontsize="small")
    axes.grid(alpha=0.3)
    axes.margins(0.15)


def _draw_costliest(axes, rows: list[Row]) -> None:
    """It has no quality of its own: how long it took is a line across the picture."""
    names = {row.against for row in rows if row.against}
    costliest = [row for row in rows if row.cell.name in names]
    seconds = seconds_per_frame(costliest)
    if seconds:
        titles = "; ".join(dict.fromkeys(title_of(_compared(row)) for row in costliest))
        axes.axvline(statistics.fmean(seconds), color="grey", linestyle="--", label=f"held against: {titles}")


def _series(rows: list[Row], along: str | None) -> dict[str, dict[str, list[Row]]]:
    """Name of a line -> text of a point -> its results."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if not row.facts:
            continue
        compared = _compared(row)
        point = {along: compared.pop(along)} if along in compared else {}
        found.setdefault(title_of(compared), {}).setdefault(title_of(point), []).append(row)
    return found


def _compared(row: Row) -> Values:
    """The swept settings of a result without those that it is averaged over."""
    return {path: value for path, value in row.cell.values.items() if not PICTURES.fullmatch(path)}


def axis_of(values: Sequence[Values]) -> str | None:
    """The swept number with the most values, which runs along the lines; None where no number is swept."""
    seen: dict[str, set] = {}
    for combination in values:
        for path, value in combination.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not PICTURES.fullmatch(path):
                seen.setdefault(path, set()).add(value)
    return max(seen, key=lambda path: len(seen[path])) if seen else None


def seconds_per_frame(rows: list[Row]) -> list[float]:
    """Of each result; those that had to load networks are left out where there are others."""
    settled = [row for row in rows if (row.seconds["loading"] or 0) < LOADED]
    known = [row for row in settled or rows if row.seconds["sampling"] is not None]
    return [(row.seconds["sampling"] + row.seconds["decoding"]) / row.facts["frames"] for row in known]


def _bars(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    means = [statistics.fmean(group) for group in groups]
    low = [mean - min(group) for mean, group in zip(means, groups, strict=True)]
    high = [max(group) - mean for mean, group in zip(means, groups, strict=True)]
    return [low, high]

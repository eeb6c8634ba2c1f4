"""Pictures of an evaluation: a sheet of the same moments in every way, and measures over the number of steps."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.files import atomic_path, write_bytes
from mimicmotion.training.kept_results import KeptResults

MOMENTS = (0.25, 0.9)  # of the clip
HEADER = 34
GAP = 2
FONT_SIZE = 11
COLOURS = 256
SMALLEST_WIDTH = 48
BACKGROUND, FOREGROUND = (24, 24, 24), (235, 235, 235)
SHORT_LABELS = {
    "truth": "truth",
    "vae": "VAE",
    "euler25": "25 Euler\nguidance 2",
    "ays10": "10 AYS\nguidance 2",
    "turbo4": "4 turbo\nLoRA",
    "turbo2": "2 turbo\nLoRA",
    "turbo1": "1 turbo\nLoRA",
    "turbo4_plain": "4 turbo\nno LoRA",
}
STEPS_OF = {"turbo1": 1, "turbo2": 2, "turbo4": 4}
PANELS = (
    ("st_lpips", "ST-LPIPS (alex) to the truth, less is nearer", None),
    ("gradient_histogram", "gradient histograms' distance, less is nearer", None),
    ("sharpness", "gradient energy over the truth's", 1.0),
    ("pose_error", "pose error, % of body height", None),
)


def draw_sheet(path: Path, ways: list[str], targets: list, kept: KeptResults, limit: int | None = None) -> None:
    """Writes a PNG with a row for each moment of each clip: reference, pose, then every way's frame.

    Args:
        targets: `evaluation.Target`s, all of whose results are kept.
        limit: most bytes of the file; colours, clips and size are given up for it, in this order.

    Raises: SetupError when the file cannot be written.
    """
    ways = [way for way in SHORT_LABELS if way in ways]
    labels = ["reference", "pose", *(SHORT_LABELS[way] for way in ways)]
    rows = [row for target in targets for row in sheet_rows(target, ways, kept)]
    sheet = lay_out(labels, rows, rows[0][0].shape[1])
    encoded = as_png(sheet)
    if limit is not None and len(encoded) > limit:
        encoded = _within(limit, labels, rows)
    write_bytes(path, encoded)


def sheet_rows(target, ways: list[str], kept: KeptResults) -> list[list[np.ndarray]]:
    """One row of pictures, uint8 (height, width, 3), for each of MOMENTS."""
    from mimicmotion.dwpose.draw import draw_pose

    clips = [kept.frames(way, target.seed, target.truth.shape)[0] for way in ways]
    rows = []
    for moment in MOMENTS:
        place = min(len(target.truth) - 1, round(moment * len(target.truth)))
        pose = draw_pose(target.poses[place + 1], *target.truth.shape[1:3]).transpose(1, 2, 0)
        rows.append([target.frames[0], pose, *(clip[place] for clip in clips)])
    return rows


def lay_out(labels: list[str], rows: list[list[np.ndarray]], width: int) -> Image.Image:
    """The rows under their labels, every picture `width` pixels wide."""
    height = round(width * rows[0][0].shape[0] / rows[0][0].shape[1])
    sheet = Image.new("RGB", (len(labels) * (width + GAP) + GAP, HEADER + len(rows) * (height + GAP)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(min(FONT_SIZE, max(7, width // 9)))
    for column, label in enumerate(labels):
        draw.multiline_text((GAP + column * (width + GAP), GAP), label, FOREGROUND, font, spacing=2)
        for number, row in enumerate(rows):
            tile = Image.fromarray(row[column])
            tile = tile if tile.width == width else tile.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (GAP + column * (width + GAP), HEADER + number * (height + GAP)))
    return sheet


def _within(limit: int, labels: list[str], rows: list[list[np.ndarray]]) -> bytes:
    """The sheet as PNG of at most `limit` bytes, as good as it comes."""
    width = rows[0][0].shape[1]
    while True:
        for count in range(len(rows), len(MOMENTS) * min(3, len(rows) // len(MOMENTS)) - 1, -len(MOMENTS)):
            sheet = lay_out(labels, rows[:count], width)
            encoded = as_png(sheet.quantize(COLOURS, dither=Image.Dither.NONE))
            if len(encoded) <= limit or width <= SMALLEST_WIDTH:
                return encoded
        width = width * 9 // 10


def as_png(picture: Image.Image) -> bytes:
    """The picture as an optimised PNG file."""
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def draw_steps(path: Path, results: dict) -> None:
    """Writes a PNG of measures over the number of steps, with standard errors: turbo with its LoRA against the rest.

    Args:
        results: as `evaluation.collect` gives them; ways that are not there are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    means = results["means"]
    panels = [panel for panel in PANELS if panel[0] in next(iter(means.values()))]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.4), layout="constrained", squeeze=False)
    for place, (name, title, wanted) in zip(axes[0], panels, strict=True):
        _draw_panel(place, results, name)
        if wanted is not None:
            place.axhline(wanted, color="grey", linewidth=0.8, linestyle=":")
        place.set_title(title, fontsize=9)
        place.set_xscale("log", base=2)
        place.set_xticks([1, 2, 4, 10, 25], ["1", "2", "4", "10", "25"])
        place.set_xlabel("steps")
        place.set_ylim(bottom=0)
    axes[0][-1].legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def _draw_panel(axes, results: dict, name: str) -> None:
    """One measure: a line over turbo's steps, points of the other samplers, levels of truth and VAE."""

    def points(ways: dict[str, int]) -> dict:
        there = {way: steps for way, steps in ways.items() if way in results["means"]}
        return {
            "x": list(there.values()),
            "y": [results["means"][way][name] for way in there],
            "yerr": [results["standard_errors"][way][name] for way in there],
        }

    axes.errorbar(**points(STEPS_OF), marker="o", capsize=2, label="turbo, LoRA")
    for way, steps, marker, label in (
        ("turbo4_plain", 4, "x", "turbo, no LoRA"),
        ("ays10", 10, "^", "AYS, guidance 2"),
        ("euler25", 25, "s", "Euler, guidance 2"),
    ):
        axes.errorbar(**points({way: steps}), marker=marker, capsize=2, linestyle="none", label=label)
    for way, style, label in (("vae", "--", "VAE there and back"), ("copy", ":", "copy of the reference")):
        if way in results["means"]:
            axes.axhline(results["means"][way][name], color="grey", linewidth=0.8, linestyle=style, label=label)

"""Pictures of an evaluation: a sheet of the same moments in every way, and measures over the number of steps."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.dwpose import draw_pose
from mimicmotion.files import atomic_path, write_bytes
from mimicmotion.training.kept_results import KeptResults

MOMENTS = (0.25, 0.9)  # of the clip
HEADER = 34
GAP = 2
FONT_SIZE = 11
COLOURS = 256
SMALLEST_WIDTH = 48
FEWEST_CLIPS = 3
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
Tile = tuple[str, np.ndarray]  # label, uint8 (height, width, 3)
STEPS_OF = {"turbo1": 1, "turbo2": 2, "turbo4": 4}
PANELS = (
    ("st_lpips", "ST-LPIPS (alex) to the truth, less is nearer", None),
    ("gradient_histogram", "gradient histograms' distance, less is nearer", None),
    ("sharpness", "gradient energy over the truth's", 1.0),
    ("pose_error", "pose error, % of body height", None),
)


def sheet_rows(ways: list[str], targets: list, kept: KeptResults, canvas_side: int) -> list[list[Tile]]:
    """Rows for `draw_sheet`, one for each of MOMENTS of each clip: reference, pose, then every way's frame.

    Args:
        targets: `evaluation.Target`s, all of whose results are kept.
        canvas_side: as in `draw_pose`.
    """
    ways = [way for way in SHORT_LABELS if way in ways]
    rows = []
    for target in targets:
        clips = {way: kept.frames(way, target.seed, target.truth.shape)[0] for way in ways}
        for moment in MOMENTS:
            place = min(len(target.truth) - 1, round(moment * len(target.truth)))
            pose = draw_pose(target.poses[place + 1], *target.truth.shape[1:3], canvas_side).transpose(1, 2, 0)
            frames = [(SHORT_LABELS[way], clip[place]) for way, clip in clips.items()]
            rows.append([("reference", target.frames[0]), ("pose", pose), *frames])
    return rows


def draw_sheet(path: Path, rows: list[list[Tile]], limit: int | None = None) -> None:
    """Writes the rows as PNG.

    Args:
        limit: most bytes of the file; colours, clips and size are given up for it, in this order.

    Raises: SetupError when the file cannot be written.
    """
    encoded = as_png(lay_out(rows, rows[0][0][1].shape[1]))
    if limit is not None and len(encoded) > limit:
        encoded = _within(limit, rows)
    write_bytes(path, encoded)


def lay_out(rows: list[list[Tile]], width: int) -> Image.Image:
    """The rows under the labels of the first one, every picture `width` pixels wide."""
    first = rows[0][0][1]
    height = round(width * first.shape[0] / first.shape[1])
    sheet = Image.new("RGB", (len(rows[0]) * (width + GAP) + GAP, HEADER + len(rows) * (height + GAP)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(min(FONT_SIZE, max(7, width // 9)))
    for column, (label, _) in enumerate(rows[0]):
        draw.multiline_text((GAP + column * (width + GAP), GAP), label, FOREGROUND, font, spacing=2)
    for number, row in enumerate(rows):
        for column, (_, frame) in enumerate(row):
            tile = Image.fromarray(frame)
            tile = tile if tile.width == width else tile.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (GAP + column * (width + GAP), HEADER + number * (height + GAP)))
    return sheet


def _within(limit: int, rows: list[list[Tile]]) -> bytes:
    """The rows as PNG of at most `limit` bytes, as good as it comes."""
    width, step = rows[0][0][1].shape[1], len(MOMENTS)
    fewest = min(len(rows), FEWEST_CLIPS * step)
    while True:
        for count in range(len(rows), fewest - 1, -step):
            encoded = as_png(lay_out(rows[:count], width).quantize(COLOURS, dither=Image.Dither.NONE))
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
        place.set_xlim(0.8, 32)  # said, since there may be no way with a number of steps
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
        ("teacher", 10, "v", "AYS, guidance 1.7"),
        ("ays10", 10, "^", "AYS, guidance 2"),
        ("euler25", 25, "s", "Euler, guidance 2"),
    ):
        axes.errorbar(**points({way: steps}), marker=marker, capsize=2, linestyle="none", label=label)
    for way, style, label in (("vae", "--", "VAE there and back"), ("copy", ":", "copy of the reference")):
        if way in results["means"]:
            axes.axhline(results["means"][way][name], color="grey", linewidth=0.8, linestyle=style, label=label)

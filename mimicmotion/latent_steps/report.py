"""How a clip comes about, step by step, from its decoded videos: contact sheet, progress video, HTML report."""

import base64
import html
import logging
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.files import write_bytes
from mimicmotion.latent_steps.experiment_decoder import ExperimentLatentDecoder, StepResult, by_clip, crf_of, summarize
from mimicmotion.latent_steps.step_files import X0
from mimicmotion.results import comparison_frames, contact_sheet, evenly_spaced
from mimicmotion.video import VideoWriter, open_video

logger = logging.getLogger(__name__)

SHEET_NAME = "contact_sheet.jpg"
PROGRESS_NAME = "progress.mp4"
REPORT_NAME = "report.html"
SHEET_COLUMNS = 8
FRAMES_PER_STEP = 24  # in the progress video: two seconds at 12 frames per second
CAPTION_HEIGHT = 24
MIN_PROGRESS_WIDTH = 256
MAX_EMBEDDED = 16 * 2**20  # bytes of a progress video within the report
CURVE = (640, 220)
MARGIN = 40
STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;background:#181818;color:#ebebeb}
table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:left;border-bottom:1px solid #444}
img,video{max-width:100%}.failed{color:#ff8a80}svg{background:#222}h2{margin-top:2em}td.n{text-align:right}
"""


def write_pictures(
    decoder: ExperimentLatentDecoder, results: dict[str, StepResult], sheets: bool, progress: bool
) -> dict[str, dict[str, Path]]:
    """Writes the contact sheet and the progress video of each clip beside its videos, those that are asked for.

    Returns: the paths by "<prompt>/<video>", under "sheet" and "progress".

    Raises: SetupError when the disk is full.
    """
    pictures: dict[str, dict[str, Path]] = {}
    for clip, steps in by_clip(results).items():
        whole = {name: step for name, step in steps.items() if step.is_whole}
        folder, paths = decoder.output_dir / clip, {}
        if sheets and whole:
            paths["sheet"] = folder / SHEET_NAME
            write_sheet(paths["sheet"], clip, whole)
        if progress and whole:
            paths["progress"] = folder / PROGRESS_NAME
            write_progress(paths["progress"], whole, decoder.fps, crf_of(decoder.quality))
        pictures[clip] = paths
    return pictures


def write_sheet(path: Path, title: str, steps: dict[str, StepResult]) -> None:
    """A .jpg with steps as rows and frames as columns; predicted clean latents follow their step."""
    rows = []
    for name, step in steps.items():
        video = open_video(step.output)
        wanted = set(evenly_spaced(video.num_frames, SHEET_COLUMNS))
        rows.append((label(name, step), [frame for index, frame in video.frames() if index in wanted]))
    contact_sheet(path, rows, title=title)


def write_progress(path: Path, steps: dict[str, StepResult], fps: float, crf: int) -> None:
    """One .mp4 that shows one step after the other, captioned, with the predicted clean latents beside them.

    A clip of more than 24 frames shows its first 24 in each step, at full speed.
    """
    names = list(dict.fromkeys(name.removesuffix(X0) for name in steps))
    suffixes = [suffix for suffix in ("", X0) if any(name + suffix in steps for name in names)]
    canvas = None
    with VideoWriter(path, fps, crf=crf) as writer:
        for name in names:
            for picture in _side_by_side({name + suffix: steps.get(name + suffix) for suffix in suffixes}):
                canvas = canvas or picture.shape[1::-1]
                # Steps of one clip are of one size, unless an earlier run decoded some at another scale.
                writer.write(np.asarray(Image.fromarray(picture).resize(canvas)))


def _side_by_side(panels: dict[str, StepResult | None]) -> Iterator[np.ndarray]:
    """Yields the pictures of a step: that of each panel's video, captioned; black for one that is not there."""
    videos = {
        name: open_video(step.output).frames(max_frames=FRAMES_PER_STEP) for name, step in panels.items() if step
    }
    for frames in zip(*videos.values(), strict=True):
        present = {name: frame for name, (_, frame) in zip(videos, frames, strict=True)}
        blank = np.zeros_like(next(iter(present.values())))
        yield comparison_frames(*(captioned(present.get(name, blank), label(name, panels[name])) for name in panels))


def captioned(frame: np.ndarray, text: str) -> np.ndarray:
    """A frame uint8 (h, w, 3), enlarged where it is narrow, with a line of text above."""
    picture = Image.fromarray(frame)
    if picture.width < MIN_PROGRESS_WIDTH:
        factor = -(-MIN_PROGRESS_WIDTH // picture.width)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (picture.width, picture.height + CAPTION_HEIGHT))
    canvas.paste(picture, (0, CAPTION_HEIGHT))
    ImageDraw.Draw(canvas).text((4, 4), text, (235, 235, 235), ImageFont.load_default(14))
    return np.asarray(canvas)


def label(name: str, step: StepResult | None) -> str:
    """What is written above a step's pictures."""
    stem = name.removesuffix(X0)
    if step is None:
        return f"{stem}: not there"
    if name != stem:
        return f"{stem}: predicted clean (x0)"
    return stem if step.sigma is None else f"{stem}: sigma {step.sigma:.4g}"


def write_report(
    decoder: ExperimentLatentDecoder, results: dict[str, StepResult], pictures: dict[str, dict[str, Path]]
) -> Path:
    """Writes report.html, one file with everything in it: totals, sigma curves, contact sheets, progress videos.

    Returns: its path. Raises: SetupError when the disk is full.
    """
    title = f"Step latents of {decoder.experiment.resolve().name}"
    totals = summarize(results)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{totals['successful']} of {totals['total_steps']} files decoded with the VAE of ",
        f"{html.escape(decoder.decoder.model)}, {totals['total_bytes'] / 1e6:.1f} MB.</p>",
    ]
    if totals["failures"]:
        rows = (f"<li>{html.escape(f['step'])}: {html.escape(f['reason'])}</li>" for f in totals["failures"])
        parts.append(f"<h2>Failed</h2><ul class=failed>{''.join(rows)}</ul>")
    for clip, steps in by_clip(results).items():
        parts.append(_clip_section(decoder, clip, steps, pictures.get(clip, {})))
    path = decoder.output_dir / REPORT_NAME
    write_bytes(path, "\n".join([*parts, "</html>\n"]).encode())
    return path


def _clip_section(decoder: ExperimentLatentDecoder, clip: str, steps: dict[str, StepResult], paths: dict) -> str:
    videos = decoder.config.get("videos")
    source = videos.get(clip) if isinstance(videos, dict) else None
    parts = [f"<h2>{html.escape(clip)}</h2>"]
    if isinstance(source, dict):
        facts = ", ".join(f"{key} {value}" for key, value in source.items() if isinstance(value, str | int | float))
        parts.append(f"<p>{html.escape(facts)}</p>")
    parts.append(sigma_curve({name: step.sigma for name, step in steps.items() if not name.endswith(X0)}))
    whole = {name: step for name, step in steps.items() if step.is_whole}
    if whole:
        parts.append(f'<p><img alt="steps by frames" src="{_sheet_uri(clip, whole, paths.get("sheet"))}"></p>')
    if "progress" in paths:
        parts.append(f'<p><video controls loop muted src="{_video_uri(paths["progress"])}"></video></p>')
    parts.append(_table(steps))
    return "\n".join(parts)


def _sheet_uri(clip: str, steps: dict[str, StepResult], path: Path | None) -> str:
    if path is not None:
        return _data_uri("image/jpeg", path)
    with tempfile.TemporaryDirectory() as folder:
        write_sheet(Path(folder) / SHEET_NAME, clip, steps)
        return _data_uri("image/jpeg", Path(folder) / SHEET_NAME)


def _video_uri(path: Path) -> str:
    """The video itself, or its place beside the report where it is too large to be carried along."""
    if path.stat().st_size > MAX_EMBEDDED:
        return html.escape("/".join(path.parts[-3:]))
    return _data_uri("video/mp4", path)


def _data_uri(kind: str, path: Path) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _table(steps: dict[str, StepResult]) -> str:
    rows = []
    for name, step in steps.items():
        cells = [f"{step.sigma:.5g}" if step.sigma is not None else "", str(step.frames or ""), f"{step.seconds:.1f}"]
        numbers = "".join(f"<td class=n>{cell}</td>" for cell in [*cells, f"{step.bytes / 1e6:.2f}"])
        message = html.escape(step.message or step.status)
        rows.append(f"<tr class={step.status.split()[0]}><td>{html.escape(name)}</td>{numbers}<td>{message}</td></tr>")
    header = "<tr><th>file<th>sigma<th>frames<th>seconds<th>MB<th>status</tr>"
    return f"<table>{header}{''.join(rows)}</table>"


def sigma_curve(sigmas: dict[str, float | None]) -> str:
    """The noise levels after each step as an SVG picture, log(1 + sigma) over the steps; "" where none is known."""
    points = [(i, name, sigma) for i, (name, sigma) in enumerate(sigmas.items()) if sigma is not None]
    points = [point for point in points if math.isfinite(point[2]) and point[2] >= 0]
    if not points:
        return ""
    width, height = CURVE
    top = max(math.log1p(sigma) for _, _, sigma in points) or 1.0
    last = max(len(sigmas) - 1, 1)
    across, up = (width - 2 * MARGIN) / last, (height - 2 * MARGIN) / top
    placed = [(MARGIN + i * across, height - MARGIN - math.log1p(sigma) * up, sigma) for i, _, sigma in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
    labelled = {placed[i] for i in evenly_spaced(len(placed), 12)}
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#8ab4f8"/>' for x, y, _ in placed)
    texts = "".join(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{s:.4g}</text>' for x, y, s in labelled)
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="12" fill="#ebebeb">'
        f'<polyline points="{line}" fill="none" stroke="#8ab4f8" stroke-width="2"/>{dots}{texts}'
        f'<text x="{MARGIN}" y="{height - 10}">noise level (sigma) after each step, log(1 + sigma)</text>'
        "</svg>"
    )

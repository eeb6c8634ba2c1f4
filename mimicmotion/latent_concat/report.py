"""Which way to join clips shows least: every mode in one picture, with what true continuous sampling would give.

    <stem>_joins.json   how much every join shows in every mode, and frame-to-frame differences
    <stem>_joins.png    for each join and mode the frames around it, and under each frame its difference to the one
                        before
"""

import dataclasses
import io
import itertools
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.animation import Animator, Models, decode_frames
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.dwpose import blend_poses, body_height, num_people
from mimicmotion.errors import MimicMotionError
from mimicmotion.files import write_bytes, write_json
from mimicmotion.latent_concat.bridge import JoinSampler, clip_poses, poses_between
from mimicmotion.latent_concat.entries import ClipLatents
from mimicmotion.latent_concat.join import Part, fade_share, join_clips, joins
from mimicmotion.latent_concat.joined_video import joined_frames
from mimicmotion.latent_concat.visible_join import BESIDE, Visibility, join_detector, judge_join

logger = logging.getLogger(__name__)

CUT = "cut"
REFERENCES_KEPT = "cut, later references kept"
TRANSITION_FRAMES = 4  # where no number was asked for
AROUND = 4  # frames of either clip that the picture shows beside a join
MAX_JOINS = 6  # that the picture shows
MAX_WIDTH = 2400
LABEL_WIDTH = 250
BAR_HEIGHT = 36
GAP = 4
FONT_SIZE = 13
BACKGROUND, FOREGROUND = (24, 24, 24), (235, 235, 235)
PLAIN_BAR, JOIN_BAR, TRANSITION_BAR = (110, 110, 110), (230, 80, 60), (240, 180, 60)


@dataclass(frozen=True)
class Strip:
    """The frames around one join: pictures, their differences to the frame before (None: unknown), the places of
    the transition's frames, and which differences belong to the join.
    """

    frames: list[np.ndarray]
    differences: list[float | None]
    transition: range
    at_join: range


@dataclass(frozen=True)
class ModeResult:
    """A mode, measured: mean absolute frame-to-frame differences in 0..255, a strip for each join, and how much each
    join shows; None where that is not known.
    """

    label: str
    frames: int
    differences: list[float]
    strips: list[Strip]
    shows: list[Visibility] | None = None


def report_files(output: Path) -> list[Path]:
    """Where the report that belongs to the joined video `output` lies: numbers, picture."""
    return [output.with_name(f"{output.stem}_joins.{ending}") for ending in ("json", "png")]


def write_report(config: Config, clips: list[ClipLatents], decoder, output: Path) -> list[Path]:
    """Decodes the clips joined in every mode and writes the report of the joined video `output`; its paths.

    Bridges and the continuous sampling need the model; where it, the reference or the poses are missing the report
    says so and goes without them. Raises: SetupError when the files cannot be written.
    """
    if len(clips) < 2:
        logger.warning("one clip has no join to report on")
        return []
    results, absent, judge = [], {}, None
    try:
        judge = Judge(config, clips)
    except MimicMotionError as error:
        logger.warning("the report does not say how much a join shows: %s", error)
        absent["how much a join shows"] = str(error)
    for label, parts, isolate in _plain_modes(config, clips):
        # Of what an overlap fades into each other.
        around = max(AROUND, transition_frames(config)) if label == CUT else AROUND
        results.append(measure(label, parts, joined_frames(decoder, parts, config.sampling, isolate), around))
    try:
        results += _sampled_modes(config, clips, decoder)
    except MimicMotionError as error:
        logger.warning("the report goes without bridges and continuous sampling: %s", error)
        absent["bridge, continuous sampling"] = str(error)
    if judge:
        cut = next(result for result in results if result.label == CUT)
        results = [dataclasses.replace(result, shows=judge.shows(result, cut)) for result in results]
    results = [dataclasses.replace(result, strips=[_narrow(strip) for strip in result.strips]) for result in results]
    numbers, drawn = report_files(output)
    write_json(numbers, summary(results, absent))
    write_bytes(drawn, picture(results))
    say(f"{drawn}, {numbers}: {len(results)} ways to join {len(clips)} clips")
    say(table(results))
    return [numbers, drawn]


def transition_frames(config: Config) -> int:
    """Frames of every kind of transition in the report, so that they can be compared."""
    settings = config.latent_concat
    return settings.bridge_frames or settings.interp_frames or TRANSITION_FRAMES


def _plain_modes(config: Config, clips: list[ClipLatents]) -> Iterable[tuple[str, list[Part], bool]]:
    """(label, parts, whether clips are decoded apart) of everything that only needs the VAE."""
    count = transition_frames(config)
    tensors, names = [clip.latents for clip in clips], [clip.name for clip in clips]
    yield REFERENCES_KEPT, join_clips(tensors, names, drop_first="first"), False
    yield CUT, join_clips(tensors, names), False
    yield "cut, clips decoded apart", join_clips(tensors, names, isolate=True), True
    for mode in ("linear", "slerp", "smooth"):
        try:
            parts = join_clips(tensors, names, interp_frames=count, interp_mode=mode)
        except MimicMotionError as error:
            logger.warning("the report goes without %s: %s", mode, error)
            continue
        yield f"{mode}, {count} frames", parts, False


def _sampled_modes(config: Config, clips: list[ClipLatents], decoder) -> list[ModeResult]:
    settings, sampler = config.latent_concat, JoinSampler(Animator(config), clips)
    count, strength = transition_frames(config), settings.bridge_strength
    parts = join_clips(
        [clip.latents for clip in clips],
        [clip.name for clip in clips],
        between=lambda i: sampler.bridge(i, count, strength),
    )
    sigma = sampler.noise_level(strength)[1]
    label = f"bridge, {count} frames, sigma {sigma:.3g}"
    bridge = measure(label, parts, joined_frames(decoder, parts, config.sampling))
    return [bridge, _continuous(config, sampler, len(clips), decoder)]


def _continuous(config: Config, sampler: JoinSampler, clips: int, decoder) -> ModeResult:
    """Both clips' frames around each join sampled as one clip, one tile of them."""
    strips, differences = [], []
    for i in range(clips - 1):
        latents, left, _ = sampler.continuous(i, max(1, (config.test_case[0].num_frames - 1) // 2))
        frames = np.concatenate(list(decode_frames(decoder, latents, config.sampling)))
        steps = [difference(before, after) for before, after in itertools.pairwise(frames)]
        first, last = max(0, left - AROUND), left + AROUND
        at_join = range(left - first, left - first + 1)
        strips.append(Strip(list(frames[first:last]), [None, *steps][first:last], range(0), at_join))
        differences += steps
    return ModeResult("sampled continuously", len(differences) + clips - 1, differences, strips)


def measure(label: str, parts: list[Part], pieces: Iterable[np.ndarray], around: int = AROUND) -> ModeResult:
    """Goes through the frames of a joined video once and keeps those around its joins, `around` of either clip."""
    places = joins(parts)
    differences: list[float] = []
    recent: deque = deque(maxlen=around)  # (frame, difference) before the next join
    strips: list[list] = [[] for _ in places]
    before, index = None, 0
    for piece in pieces:
        for frame in piece:
            step = None if before is None else difference(before, frame)
            differences += [] if step is None else [step]
            for strip, (_, first, count) in zip(strips, places, strict=True):
                if index == first:
                    strip += recent
                if first <= index < first + count + around:
                    strip.append((frame, step))
            recent.append((frame, step))
            before, index = frame, index + 1
    return ModeResult(
        label, index, differences, [_strip(strip, around, *place) for strip, place in zip(strips, places, strict=True)]
    )


def _strip(entries: list, around: int, _name: str, first: int, count: int) -> Strip:
    start = min(around, first)
    frames, differences = [frame for frame, _ in entries], [step for _, step in entries]
    return Strip(frames, differences, range(start, start + count), range(start, start + count + 1))


def _narrow(strip: Strip) -> Strip:
    """The strip with as many frames of either clip as the picture shows."""
    first, count = strip.at_join.start, len(strip.transition)
    left = max(0, first - AROUND)
    shown = slice(left, first + count + AROUND)
    transition, at_join = (range(one.start - left, one.stop - left) for one in (strip.transition, strip.at_join))
    return Strip(strip.frames[shown], strip.differences[shown], transition if count else range(0), at_join)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two uint8 frames, in 0..255."""
    return float(np.abs(after.astype(np.int16) - before).mean())


def peak_at_joins(result: ModeResult) -> float:
    """The largest difference between neighbouring frames at any join."""
    return max(step for strip in result.strips for place in strip.at_join if (step := _step(strip, place)) is not None)


def _step(strip: Strip, place: int) -> float | None:
    return strip.differences[place] if place < len(strip.differences) else None


def typical(result: ModeResult) -> float:
    """Median difference between neighbouring frames of the whole video."""
    return float(np.median(result.differences))


class Judge:
    """Judges the joins of clips by the poses that they were sampled with.

    Raises: InputError without the poses; SetupError where no detector can be had.
    """

    def __init__(self, config: Config, clips: list[ClipLatents]):
        self._poses = [clip_poses(clip)[1:] for clip in clips]
        self._frames = transition_frames(config)
        facts = clips[0].metadata
        self._height = body_height(list(itertools.chain(*self._poses)), facts["width"] / facts["height"])
        self._detector = join_detector(Models(config))

    def shows(self, result: ModeResult, cut: ModeResult) -> list[Visibility]:
        """How much each join of a mode shows. `cut`: the plain cut, whose frames an overlap fades into each other."""
        strips = zip(result.strips, cut.strips, strict=True)
        return [self._judged(result.label, i, strip, plain) for i, (strip, plain) in enumerate(strips)]

    def _judged(self, label: str, i: int, strip: Strip, cut: Strip) -> Visibility:
        first = strip.at_join.start
        # A reference that was kept lies between the clips.
        stop = first + (1 if label == REFERENCES_KEPT else len(strip.transition))
        faded = len(strip.transition) if label.startswith("smooth") else 0
        before, after = self._poses[i], self._poses[i + 1]
        tail, head = before[: len(before) - faded], after[faded:]
        mixed, at = None, cut.at_join.start
        beside = min(BESIDE, first, len(tail)), min(BESIDE, len(strip.frames) - stop, len(head))
        if faded:
            mixed = list(zip(cut.frames[at - faded : at], cut.frames[at : at + faded], strict=True))
            shares = [fade_share(k, faded) for k in range(faded)]
            pairs = zip(before[-faded:], after[:faded], shares, strict=True)
            between = [blend_poses(*pair) if num_people(pair[0]) == num_people(pair[1]) else pair[0] for pair in pairs]
        else:
            between = poses_between(before[-1], after[0], self._frames)
        wanted = [*tail[len(tail) - beside[0] :], *between, *head[: beside[1]]]
        frames = strip.frames[first - beside[0] : stop + beside[1]]
        return judge_join(self._detector, frames, wanted, beside, self._height, mixed)


def shown(result: ModeResult) -> Visibility | None:
    """How much the joins of a mode show, in the mean; None where that is not known."""
    if not result.shows:
        return None
    names = [field.name for field in dataclasses.fields(Visibility)]
    return Visibility(*(round(float(np.mean([getattr(one, name) for one in result.shows])), 3) for name in names))


def summary(results: list[ModeResult], absent: dict[str, str]) -> dict:
    """What the numbers of a report are."""
    return {
        "shows": "place and change in percent of the body's height, double in percent of what changes",
        "difference": "mean absolute difference to the frame before, 0..255",
        "modes": [
            {
                "mode": result.label,
                "shows": _plain(shown(result)),
                "shows_at_joins": [_plain(one) for one in result.shows or []],
                "frames": result.frames,
                "median": round(typical(result), 3),
                "peak_at_joins": round(peak_at_joins(result), 3),
                "joins": [
                    [None if (step := _step(strip, place)) is None else round(step, 3) for place in strip.at_join]
                    for strip in result.strips
                ],
                "differences": [round(step, 3) for step in result.differences],
            }
            for result in results
        ],
        "absent": absent,
    }


def _plain(one: Visibility | None) -> dict | None:
    return one and dataclasses.asdict(one) | {"total": round(one.total, 4)}


def table(results: list[ModeResult]) -> str:
    """One line for each mode: how much its joins show, and its median step."""
    width = max(len(result.label) for result in results)
    lines = [f"{'mode':{width}}  frames  median step  place  change  double  total"]
    for result in results:
        one = shown(result)
        figures = f"{one.place:5.2f}  {one.change:6.2f}  {one.double:6.2f}  {one.total:5.2f}" if one else "not known"
        lines.append(f"{result.label:{width}}  {result.frames:6}  {typical(result):11.2f}  {figures}")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------
# The picture


def picture(results: list[ModeResult]) -> bytes:
    """All modes, join by join, as PNG."""
    shown = min(MAX_JOINS, max(len(result.strips) for result in results))
    columns = max(len(strip.frames) for result in results for strip in result.strips[:shown])
    width = min(128, (MAX_WIDTH - LABEL_WIDTH - GAP) // columns - GAP)
    sample = results[0].strips[0].frames[0]
    height = round(width * sample.shape[0] / sample.shape[1])
    highest = max(step for result in results for strip in result.strips for step in strip.differences if step)
    row = height + BAR_HEIGHT + 3 * GAP
    head = 2 * FONT_SIZE + 3 * GAP
    overview = head + len(results) * (FONT_SIZE + 2 * GAP) + head
    size = (LABEL_WIDTH + columns * (width + GAP) + GAP, overview + shown * (len(results) * row + head))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    _overview(draw, results, size[0], head)
    legend = "under the frames, their difference to the one before; red: into the next clip, yellow: into a transition"
    draw.text((GAP, overview - head), legend, FOREGROUND, font)
    top = overview
    for join in range(shown):
        draw.text((GAP, top), f"join {join + 1}", FOREGROUND, ImageFont.load_default(FONT_SIZE + 5))
        top += head
        for result in results:
            strip = result.strips[join]
            words = f"{result.label}\n{_shown_here(result, join)}\nlargest step here: {max(_join_steps(strip)):.1f}"
            draw.multiline_text((GAP, top), words, FOREGROUND, font)
            for place, frame in enumerate(strip.frames):
                left = LABEL_WIDTH + place * (width + GAP)
                sheet.paste(Image.fromarray(frame).resize((width, height)), (left, top))
                _bar(draw, (left, top + height + GAP), width, strip, place, highest)
            top += row
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()


def _overview(draw: ImageDraw.ImageDraw, results: list[ModeResult], width: int, top: int) -> None:
    """One bar for each mode: how much its joins show."""
    font, title = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(FONT_SIZE + 5)
    heading = "How much the joins show: errors of place and movement of the arms, % of the body's height"
    draw.text((GAP, GAP), heading, FOREGROUND, title)
    totals = [one.total if (one := shown(result)) else None for result in results]
    unit = (width - LABEL_WIDTH - 60) / max([1e-6, *filter(None, totals)])
    for i, (result, total) in enumerate(zip(results, totals, strict=True)):
        y = top + i * (FONT_SIZE + 2 * GAP)
        draw.text((GAP, y), result.label, FOREGROUND, font)
        if total is None:
            draw.text((LABEL_WIDTH, y), "not known", FOREGROUND, font)
            continue
        draw.rectangle((LABEL_WIDTH, y, LABEL_WIDTH + round(unit * total), y + FONT_SIZE), fill=JOIN_BAR)
        draw.text((LABEL_WIDTH + unit * total + GAP, y), f"{total:.2f}", FOREGROUND, font)


def _shown_here(result: ModeResult, join: int) -> str:
    if not result.shows:
        return f"median step: {typical(result):.1f}"
    one = result.shows[join]
    return f"shows {one.total:.1f}: place {one.place:.1f},\nchange {one.change:.1f}, double {one.double:.0f} %"


def _join_steps(strip: Strip) -> list[float]:
    return [step for place in strip.at_join if (step := _step(strip, place)) is not None]


def _bar(draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, strip: Strip, place: int, highest: float):
    step = strip.differences[place]
    if step is None:
        return
    colour = TRANSITION_BAR if place in strip.transition else JOIN_BAR if place in strip.at_join else PLAIN_BAR
    bottom = corner[1] + BAR_HEIGHT
    draw.rectangle((corner[0], bottom - round(BAR_HEIGHT * step / highest), corner[0] + width - 1, bottom), fill=colour)

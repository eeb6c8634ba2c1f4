"""The ways to join a sentence judged join by join, shown under each other in a picture, side by side in a video."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.config import JOINS
from mimicmotion.dwpose import Pose, load_poses
from mimicmotion.errors import InputError
from mimicmotion.files import printable
from mimicmotion.latent_concat import BESIDE, Detector, join_detector, judge_join, shown_at
from mimicmotion.progress import Progress
from mimicmotion.results import (
    Row,
    comparison_frames,
    contact_sheet,
    evenly_spaced,
    recipe_tag,
    temporal_difference_error,
    write_sidecar,
)
from mimicmotion.sentences.maker import SentenceMaker, SentenceOutcome
from mimicmotion.sentences.perform import read_timeline
from mimicmotion.sentences.plan import SHEET, TRUE
from mimicmotion.sentences.timeline import Timeline
from mimicmotion.video import VideoSource, VideoWriter, open_video

COLUMNS = 11  # frames of a row of the picture
MOST_HEIGHT = 512  # pixels of a frame in picture and video


@dataclass(frozen=True)
class Way:
    """A way to join a sentence: the result, and where its words and joins are."""

    name: str
    video: VideoSource
    timeline: Timeline


@dataclass(frozen=True)
class Window:
    """Frames `first` to `stop` (excluded) of a sentence around a join, `beside` of them of both words."""

    first: int
    stop: int
    beside: tuple[int, int]


def compare_ways(
    outcome: SentenceOutcome,
    poses_maker: SentenceMaker,
    made: dict[str, SentenceMaker],
    true_files: tuple[Path, Path] | None,
    made_from: dict,
) -> None:
    """Judges and shows the ways of a sentence that are made, and writes the record of it.

    Args:
        poses_maker: that of the way `poses`, whose movement at the joins is the one that is wanted.
        made: the makers of the ways that are there, by name.
        true_files: the true sentence and its poses.

    Raises: InputError for a result or a true sentence that does not fit; SetupError.
    """
    job, sentence = outcome.job, outcome.sentence
    _, wanted = read_timeline(poses_maker, poses_maker.plan(sentence))
    ways, truth = [], None
    if true_files:
        video, poses = true_files
        with poses_maker.naming(sentence):
            truth = load_poses(poses).poses
            ways.append(_way(TRUE, video, wanted))
            _require_length(poses, len(truth), wanted)
    for name, maker in made.items():
        plan = maker.plan(sentence)
        ways.append(_way(name, plan.job.output, read_timeline(maker, plan)[1]))
    judge = Judge(join_detector(poses_maker.animator.models), wanted, truth, ways[0].video if truth else None)
    figures, rows = [{} for _ in wanted.joins], [[] for _ in wanted.joins]
    with Progress("judging", len(ways), "way") as bar:
        for way in ways:
            for number, (window, frames) in enumerate(frames_around_joins(way)):
                found = judge.figures(number, window, frames)
                figures[number][way.name] = found
                rows[number].append(_row(way, number, window, frames, found))
            bar.update()
    if rows:
        contact_sheet(job.beside(SHEET), list(itertools.chain(*rows)), job.output.stem, comment=recipe_tag(made_from))
    write_side_by_side(job.output, ways, float(job.case.fps), poses_maker.config.output.crf, made_from)
    outcome.status, outcome.message = "done", str(job.output)
    outcome.frames = max(way.video.num_frames for way in ways)
    facts = {
        "sentence": sentence.name,
        "row": sentence.row,
        "detector": judge.detector.name,
        "absent": [name for name in JOINS if name not in made],
        "frames": outcome.frames,
        "joins": [{"between": at.between, "ways": of} for at, of in zip(wanted.joins, figures, strict=True)],
    }
    write_sidecar(job.output, made_from, facts, [job.beside(SHEET)] if rows else [])


def _way(name: str, path: Path, timeline: Timeline) -> Way:
    video = open_video(path)
    _require_length(path, video.num_frames, timeline)
    return Way(name, video, timeline)


def _require_length(path: Path, frames: int, timeline: Timeline) -> None:
    if frames != len(timeline.poses):
        raise InputError(
            f"{printable(path)} has {frames} frames and the sentence {len(timeline.poses)}; a true sentence holds the "
            "words' frames with --transition_frames between them"
        )


def window(timeline: Timeline, number: int) -> Window:
    """The frames that are judged at a join."""
    at, (before, after) = timeline.joins[number], timeline.spoken[number : number + 2]
    beside = min(BESIDE, before.stop - before.first), min(BESIDE, after.stop - after.first)
    return Window(at.first - beside[0], at.stop + beside[1], beside)


def frames_around_joins(way: Way) -> Iterator[tuple[Window, list[np.ndarray]]]:
    """Every join's window with its frames, in order; the video is read once, and few frames are in memory."""
    windows = [window(way.timeline, number) for number in range(len(way.timeline.joins))]
    waiting: list[tuple[Window, list]] = [(one, []) for one in windows]
    for index, frame in way.video.frames():
        for one, frames in waiting:
            if one.first <= index < one.stop:
                frames.append(frame)
        while waiting and waiting[0][0].stop <= index + 1:
            yield waiting.pop(0)


class Judge:
    """Judges joins of one sentence by the poses that should be there, and by a true sentence where there is one."""

    def __init__(self, detector: Detector, wanted: Timeline, truth: list[Pose] | None, video: VideoSource | None):
        self.detector, self._wanted, self._truth = detector, wanted, truth
        self._windows = [window(wanted, number) for number in range(len(wanted.joins))]
        true = frames_around_joins(Way(TRUE, video, wanted)) if video else ()
        self._true_frames = [frames for _, frames in true]

    def figures(self, number: int, at: Window, frames: list[np.ndarray]) -> dict[str, float]:
        """What the record says of a join: see `comparer.FIGURES`."""
        here = slice(self._windows[number].first, self._windows[number].stop)
        height = self._wanted.body_height
        found = judge_join(self.detector, frames, self._wanted.poses[here], at.beside, height)
        figures = asdict(found) | {"total": found.total}
        if self._truth:
            held = judge_join(self.detector, frames, self._truth[here], at.beside, height)
            true = np.stack(self._true_frames[number])
            shown = np.stack([frames[place] for place in shown_at(len(frames), len(true), at.beside)])
            pixels = temporal_difference_error(shown, true)
            figures |= {"true_place": held.place, "true_change": held.change, "true_pixels": pixels}
        return {name: round(value, 3) for name, value in figures.items()}


def _row(way: Way, number: int, at: Window, frames: Sequence[np.ndarray], found: dict[str, float]) -> Row:
    places = evenly_spaced(len(frames), COLUMNS)
    errors = f"place {found['place']:.1f}, change {found['change']:.1f}, double {found['double']:.0f} %"
    label = f"{way.timeline.joins[number].between}, {way.name}: {errors}"
    return Row(label, [_small(frames[place]) for place in places], [str(at.first + place) for place in places])


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height <= MOST_HEIGHT:
        return frame
    size = max(1, round(width * MOST_HEIGHT / height)), MOST_HEIGHT
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def write_side_by_side(path: Path, ways: Sequence[Way], fps: float, crf: int, made_from: dict) -> None:
    """Writes all ways as one video; what ends before the others shows its last frame to the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = [(frame for _, frame in way.video.frames()) for way in ways]
    last: list[np.ndarray | None] = [None] * len(ways)
    labels = [way.name for way in ways]
    with VideoWriter(path, fps, crf=crf, metadata={"comment": recipe_tag(made_from)}) as writer:
        for frames in itertools.zip_longest(*streams):
            last = [before if frame is None else _small(frame) for frame, before in zip(frames, last, strict=True)]
            writer.write(comparison_frames(*last, labels=labels)[None])

"""Sessions of world models from settings to figures.

<output_dir>/sessions/<name>/demo.mp4   with --play: the sessions of the standard actions
<output_dir>/worlds.json, worlds.csv    what was measured and how, every session; a line per session
<output_dir>/worlds.jpg                 turns: before, farthest away, back again
"""

import copy
import csv
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mimicmotion.animation import Outcome, run_all, text_table
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, InputError, SetupError, UsageError
from mimicmotion.files import printable, read_record, require_writable, sha256_file, write_bytes, write_json
from mimicmotion.progress import Progress
from mimicmotion.results import Job, Row, contact_sheet, package_versions, versions
from mimicmotion.video import open_video

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
BLOCK = 16  # frames that are held at once
DIGITS = 6
PICTURED = 24  # turns on the sheet
# What --play plays in each mode; 60 frames of a look key turn by 90 degrees. The first block has 9 frames: after them
# keys change with the blocks, so that a world that takes them block by block plays the same.
STANDARD = {
    "universal": {
        "walk": "Q*9 W*24 S*24 A*24 D*24",
        "turn_left": "Q*9 J*60 L*60 Q*12",
        "turn_right": "Q*9 L*60 J*60 Q*12",
        "idle": "Q*129",
    },
    "gta_drive": {
        "drive": "Q*9 W*48 S*48",
        "turn_left": "Q*9 A*60 D*60 Q*12",
        "turn_right": "Q*9 D*60 A*60 Q*12",
        "idle": "Q*129",
    },
    "templerun": {"sides": "Q*9 A*24 D*24 Z*24 C*24"},
}
MEASURES = {
    "agreement": ("flow agrees with keys", "mean of the keys' shares of frames", "high"),
    "closure": ("closure after a turn", "1 is the same picture again", "high"),
    "drift_colour": ("colour drift, last block", "grey levels from the first block", "low"),
    "drift_sharpness": ("sharpness, last block", "gradient energy over the first block's", "one"),
    "idle_colour": ("colour drift in pauses", "grey levels, worst", "low"),
    "idle_psnr": ("likeness in pauses", "dB to the pause's first frame, worst", "high"),
}
PROTOCOL = {
    "frames": "every frame of <name>.mp4 (without drawn keys), RGB as decoded",
    "action": "the action of a frame is compared with the motion to the next one",
    "flow": "OpenCV's DIS (medium) on grey frames of at most 128 pixels width, weighted by the first one's gradients",
    "direction": "across and down: weighted mean; growth: weighted slope of the vertical flow over the height; shares "
    "of the frame, and below 0.002 a picture stands still; keys against each other on one axis are left out",
    "agreement": "share of the frames of each key, then the mean over keys, each once",
    "closure": "1 - MSE(back, before) / MSE(farthest, before) for turns on the spot of 45 degrees and more, 15 degrees "
    "for a mouse value of 1; 0 where the picture did not change on the way by 0.1 of its variance",
    "drift": "blocks of 12 frames against the first: the mean colour's worst channel, gradient energy of the luma",
    "idle": "pauses of 24 frames and more: the last frame against the first; PSNR is 100 dB at most",
    "mean": "over sessions that have the measure, each once",
}


@dataclass
class SessionOutcome(Outcome):
    """How a session ended, and what was measured of it."""

    name: str = field(kw_only=True)
    numbers: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)


def evaluate_sessions(config: Config) -> int:
    """Measures every session below a folder, after making those of the standard actions if asked for.

    The exit code: 0 all measured, 1 some could not be, 3 the machine, 130 interrupted.

    Raises: UsageError and SetupError for what can be known before the first session.
    """
    folder, output = _folders(config)
    if config.evaluation.play and (code := _play(config, folder)):
        return code
    sessions = find_sessions(folder)
    require_writable(output)
    outcomes = [SessionOutcome(Job(video, config.test_case[0], 0, video), name=name) for name, video in sessions]
    pictures: list[Row] = []
    with Progress("evaluating", len(outcomes), "session") as bar:
        code = run_all(outcomes, lambda outcome: _measure(outcome, bar, pictures))
    failed = [(outcome.name, outcome.message) for outcome in outcomes if outcome.status != "done"]
    if failed:
        say(text_table(("session", "reason"), failed))
    if code in (INTERRUPTED, SetupError.exit_code):
        return code
    say(_table(_write(output, outcomes)))
    if pictures:
        contact_sheet(output / "worlds.jpg", pictures, title="turned away and back")
    say(f"{len(outcomes) - len(failed)} of {len(outcomes)} sessions measured; look at {output / 'worlds.json'}")
    return code


def _folders(config: Config) -> tuple[Path, Path]:
    settings = config.evaluation
    if settings.play:
        folder = Path(settings.output_dir or "outputs/evaluation_world")
        if settings.results is not None:
            raise UsageError("--play makes the sessions that are measured; drop the folder of sessions, or --play")
        return folder / "sessions", folder
    if settings.results is None:
        raise UsageError("which sessions? name the folder that they lie in, or make some with --play")
    folder = Path(settings.results)
    return folder, Path(settings.output_dir) if settings.output_dir else folder / "evaluation"


def find_sessions(folder: Path) -> list[tuple[str, Path]]:
    """Name and video of each session below a folder. Raises: UsageError where there is none."""
    if not folder.is_dir():
        raise UsageError(f"no such folder of sessions: {folder}; name the one that a session wrote to (--output_dir)")
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            video = Path(place, name)
            recorded = video.suffix == ".mp4" and os.path.lexists(video.with_suffix(".json"))
            if recorded and _is_session(video):
                found.append((printable(video.relative_to(folder).with_suffix("").as_posix()), video))
    if not found:
        raise UsageError(f"no session lies in {folder}: a video with the record of its actions (.json) beside it")
    return found


def _is_session(video: Path) -> bool:
    """Whether the record is that of a session, or cannot be read, which is told when it is measured."""
    try:
        return "begun_from" in (read_record(video.with_suffix(".json")) or {})
    except InputError:
        return True


def _play(config: Config, folder: Path) -> int:
    """Makes the sessions of the standard actions, in place of those of an earlier call; the exit code."""
    from mimicmotion.streaming import read_world, run_causal

    for name, script in STANDARD[read_world(config.streaming.config_path).mode].items():
        mine = copy.deepcopy(config)
        mine.output.output_dir, mine.output.overwrite, mine.output.page = str(folder / name), True, False
        mine.streaming.actions, mine.streaming.num_latents = script, None
        logger.info("session %s: %s", name, script)
        if code := run_causal(mine):
            return code
    return 0


def _measure(outcome: SessionOutcome, bar: Progress, pictures: list[Row]) -> None:
    """Measures a session and adds its turns to `pictures`, as long as these are few.

    Raises: InputError for a session that cannot be measured.
    """
    from mimicmotion.evaluation.worlds import SessionMeter, actions_of  # not above: optical flow

    try:
        video = outcome.job.output
        record = read_record(video.with_suffix(".json")) or {}
        noted = record.get("videos")
        if not isinstance(noted, dict) or noted.get(video.name) != sha256_file(video):
            raise InputError(f"{printable(video)} is not the video of its record")
        source = open_video(video)
        try:
            actions = actions_of(record["actions"], source.num_frames)
            meter = SessionMeter(record["mode"], actions)
        except (KeyError, TypeError, ValueError, IndexError, UsageError) as error:
            raise InputError(f"the record of {printable(video)} cannot be used: {error}") from error
        for block in blocks(frame for _, frame in source.frames()):
            meter.add(block)
        outcome.numbers = _rounded(meter.numbers())
        outcome.facts = {
            "mode": record["mode"],
            "frames": source.num_frames,
            "video_sha256": noted[video.name],
            "generator": record.get("generator"),
            "segments": _rounded(meter.segments),
            "pauses": _rounded(meter.pauses),
            "turns": [
                {"first": turn.first, "farthest": turn.farthest, "back": turn.back, "degrees": round(turn.degrees, 2)}
                for turn, _ in meter.turns()
            ],
        }
        for turn, frames in meter.turns():
            if len(pictures) < PICTURED:
                captions = ["before", f"{turn.degrees:.0f} degrees away", "back"]
                pictures.append(Row(outcome.name, frames, captions))
        outcome.status, outcome.frames = "done", source.num_frames
    finally:
        bar.update()


def blocks(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Stacks of up to 16 frames."""
    held: list[np.ndarray] = []
    for frame in frames:
        held.append(frame)
        if len(held) == BLOCK:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def _write(output: Path, outcomes: list[SessionOutcome]) -> dict:
    """Writes worlds.json and worlds.csv; what the former holds. Raises: SetupError."""
    means, keys = {}, {}
    for name in MEASURES:
        values = [outcome.numbers[name] for outcome in outcomes if outcome.numbers.get(name) is not None]
        if values:
            means[name] = {"mean": round(float(np.mean(values)), DIGITS), "sessions": len(values)}
    for outcome in outcomes:
        for key, share in outcome.numbers.get("obeyed", {}).items():
            keys.setdefault(key, []).append(share)
    content = {
        "format_version": FORMAT_VERSION,
        "protocol": PROTOCOL | {"versions": versions() | package_versions(("opencv-contrib-python", "av"))},
        "means": means,
        "obeyed": {key: round(float(np.mean(shares)), DIGITS) for key, shares in sorted(keys.items())},
        "sessions": [
            {"name": outcome.name, "status": outcome.status, "message": outcome.message}
            | {"numbers": outcome.numbers, **outcome.facts}
            for outcome in outcomes
        ],
    }
    write_json(output / "worlds.json", content)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["session", "status", "frames", *MEASURES, "message"])
    for outcome in outcomes:
        numbers = ("" if outcome.numbers.get(name) is None else outcome.numbers[name] for name in MEASURES)
        writer.writerow([outcome.name, outcome.status, outcome.frames or "", *numbers, outcome.message])
    write_bytes(output / "worlds.csv", text.getvalue().encode("utf-8", "backslashreplace"))
    return content


def _table(content: dict) -> str:
    better = {"low": "lower", "high": "higher", "one": "near 1"}
    lines = [
        (title, f"{found['mean']:.4g}", str(found["sessions"]), about, better[best])
        for name, found in content["means"].items()
        for title, about, best in [MEASURES[name]]
    ]
    table = text_table(("measure", "mean", "sessions", "what it is", "better"), lines)
    keys = ", ".join(f"{key} {share:.2f}" for key, share in content["obeyed"].items())
    return f"{table}\nkeys that the flow agrees with: {keys}" if keys else table


def _rounded(value):
    """Numbers as they are written, through lists and dictionaries."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, DIGITS) if isinstance(value, float) else value

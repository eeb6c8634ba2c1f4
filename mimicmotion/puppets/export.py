"""Writes puppets as files that the scripts take: reference pictures and driving clips, each with its exact poses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.dwpose import SMALL_CANVAS_SIDE, Pose, draw_pose, save_poses
from mimicmotion.errors import UsageError
from mimicmotion.files import atomic_path, require_writable, write_bytes
from mimicmotion.puppets.clips import DEMO_SEEDS, FPS, RENDERER_VERSION, PuppetClip, make_clip, make_still
from mimicmotion.puppets.motion import KINDS
from mimicmotion.puppets.words import make_sentence, make_word
from mimicmotion.video import VideoWriter

LONGEST_S = 60.0  # all frames of a clip are in memory
MOST_WORDS = 100
SENTENCE_WORDS = 4
SIDES = (64, 2048)  # pixels
# x264 at this quality is visually without loss, so that detectors see what was drawn.
CRF = 12
# Performers come from the second half of the demo's seeds: nobody drives their own picture.
PERFORMERS = len(DEMO_SEEDS) // 2


def draw_puppets(
    folder: str | Path,
    count: int = 4,
    kinds: Sequence[str] = tuple(KINDS),
    seconds: float = 4.0,
    height: int = 192,
    width: int = 128,
    seed: int = 0,
    sheet: str | Path | None = None,
    words: int = 0,
    sentences: int = 0,
) -> list[Path]:
    """Writes `count` reference pictures and one driving clip of each kind; equal arguments give equal files.

    folder/references/person-00.png    one person, head to feet, standing; its pose in person-00.pose.npz
    folder/driving/wave.mp4            another person, at 15 frames per second; its poses in wave.npz
    folder/words/word-00.mp4           a sign of one signer, from rest to rest; its poses in word-00.npz
    folder/sentences/true/s0.mp4       four signs of that signer in one movement; its poses in s0.npz
    folder/sentences/words/s0/         each sign of s0 cut out of it, word-00_cut.mp4; its poses in word-00_cut.npz
    folder/sentences/sentences.csv     the sentences and their words
    folder/sentences/signer.png        the signer at rest; the pose in signer.pose.npz

    Args:
        kinds: names in `motion.KINDS`; none draws no clip.
        seconds: length of each clip, up to 60.
        height, width: pixels, even numbers.
        seed: number of the first person, as in the names; the next ones follow. At most half of `DEMO_SEEDS`.
        sheet: a .jpg that shows everything with the drawn poses.
        words: how many word clips.
        sentences: how many sentences.

    Returns: the pictures and videos written.

    Raises: UsageError for a setting that cannot be, before anything is written; SetupError when `folder` or `sheet`
    cannot be written.
    """
    _check(count, kinds, seconds, height, width, seed, sheet, words, sentences)
    folder, numbers = require_writable(folder), range(seed, seed + count)
    stills = [make_still(DEMO_SEEDS[number], height, width) for number in numbers]
    paths = [folder / "references" / f"person-{number:02d}.png" for number in numbers]
    for path, still, number in zip(paths, stills, numbers, strict=True):
        write_reference(path, still, DEMO_SEEDS[number])
    rows = [("references", [still.frames[0] for still in stills], [still.poses[0] for still in stills])]
    for kind in kinds:
        path, performer = folder / "driving" / f"{kind}.mp4", DEMO_SEEDS[PERFORMERS + seed + list(KINDS).index(kind)]
        clip = make_clip(performer, 1 + max(1, round(seconds * FPS)), height, width, kind, whole_body=True)
        write_driving(path, clip, performer)
        paths.append(path)
        rows.append((kind, clip.frames[1:], clip.poses[1:]))
    signer = DEMO_SEEDS[PERFORMERS + seed]
    for number in range(words):
        path, clip = folder / "words" / f"word-{number:02d}.mp4", make_word(signer, number, height, width)
        write_driving(path, clip, signer)
        paths.append(path)
        rows.append((path.stem, clip.frames[1:], clip.poses[1:]))
    if sentences:
        paths += write_sentences(folder / "sentences", signer, sentences, height, width)
    if sheet is not None:
        write_sheet(sheet, rows)
    return paths


def write_sentences(folder: Path, signer: int, count: int, height: int, width: int) -> list[Path]:
    """Writes `count` sentences in one movement, their signs cut out of them, their table and the signer; the videos
    and the picture.
    """
    lines, paths = ["sentence,words"], [folder / "signer.png"]
    for number in range(count):
        signs = range(number * SENTENCE_WORDS, (number + 1) * SENTENCE_WORDS)
        name, names = f"s{number}", [f"word-{sign:02d}" for sign in signs]
        whole = make_sentence(signer, signs, height, width)
        if not number:
            write_reference(paths[0], whole.clip, signer)
        cut = whole.signs[0].start, whole.signs[-1].stop
        parts = {folder / "true" / f"{name}.mp4": range(*cut)}
        parts |= {
            folder / "words" / name / f"{word}_cut.mp4": frames for word, frames in zip(names, whole.signs, strict=True)
        }
        for path, frames in parts.items():
            write_driving(path, _part(whole.clip, frames), signer)
        paths += parts
        lines.append(f"{name},{' '.join(names)}")
    write_bytes(folder / "sentences.csv", "".join(f"{line}\n" for line in lines).encode())
    return paths


def _part(clip: PuppetClip, frames: range) -> PuppetClip:
    """Some frames of a clip, behind its frame 0."""
    chosen = [0, *frames]
    return PuppetClip(clip.frames[chosen], [clip.poses[i] for i in chosen], clip.parts[chosen], clip.person)


def write_reference(path: Path, still: PuppetClip, seed: int) -> None:
    """Writes the first frame as a PNG and its pose as `<stem>.pose.npz`, which `load_reference` looks for."""
    _save_poses(path.with_suffix(".pose.npz"), path, still.poses[:1], still.frames, 0.0, seed)
    with atomic_path(path) as temporary:
        Image.fromarray(still.frames[0]).save(temporary)


def write_driving(path: Path, clip: PuppetClip, seed: int) -> None:
    """Writes all frames but the reference as an mp4 and their poses as `<stem>.npz`, for `--pose_backend file`."""
    _save_poses(path.with_suffix(".npz"), path, clip.poses[1:], clip.frames, FPS, seed)
    with VideoWriter(path, FPS, crf=CRF) as writer:
        writer.write(clip.frames[1:])


def write_sheet(path: str | Path, rows: Sequence[tuple[str, Sequence[np.ndarray], Sequence[Pose]]]) -> None:
    """Writes a contact sheet of (label, frames, poses): pictures, and below them what the embedded PoseNet sees."""
    from mimicmotion.results import contact_sheet

    pairs = []
    for label, frames, poses in rows:
        sizes = [frame.shape[:2] for frame in frames]
        drawn = [
            draw_pose(pose, *size, SMALL_CANVAS_SIDE).transpose(1, 2, 0)
            for pose, size in zip(poses, sizes, strict=True)
        ]
        pairs += [(label, frames), (f"{label}: poses", drawn)]
    contact_sheet(path, pairs)


def _save_poses(path: Path, source: Path, poses: list[Pose], frames: np.ndarray, fps: float, seed: int) -> None:
    save_poses(
        path,
        poses,
        frame_indices=range(len(poses)),
        fps=fps,
        height=frames.shape[1],
        width=frames.shape[2],
        source=source.name,
        detector="puppets",
        fingerprint=f"puppets version {RENDERER_VERSION}, seed {seed}",
    )


def _check(
    count: int, kinds: Sequence[str], seconds: float, height: int, width: int, seed: int, sheet, words: int,
    sentences: int,
) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"no such motion: {', '.join(unknown)}; choose among {', '.join(KINDS)}")
    if not 0 <= words <= MOST_WORDS:
        raise UsageError(f"words is {words}; it goes from 0 to {MOST_WORDS}")
    if not 0 <= sentences <= MOST_WORDS:
        raise UsageError(f"sentences is {sentences}; it goes from 0 to {MOST_WORDS}")
    if count < 0 or (count == 0 and not kinds and not words and not sentences):
        raise UsageError(f"count is {count}; ask for at least one picture, one kind of clip or one word")
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"seconds is {seconds}; clips last up to {LONGEST_S:g} s")
    for name, side in (("height", height), ("width", width)):
        if side % 2 or not SIDES[0] <= side <= SIDES[1]:
            raise UsageError(f"{name} is {side}; it must be an even number of pixels, {SIDES[0]} to {SIDES[1]}")
    last = PERFORMERS - max(count, len(KINDS))
    if not 0 <= seed <= last:
        raise UsageError(f"seed is {seed}; with {count} pictures it goes from 0 to {last}")
    if sheet is not None and Path(sheet).suffix.lower() not in (".jpg", ".jpeg"):
        raise UsageError(f"{sheet}: contact sheets are written as .jpg")

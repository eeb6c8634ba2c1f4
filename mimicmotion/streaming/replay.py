"""A session made again from its log: what that needs, the blocks before a saved session, whether frames are the same.

Frames depend on the first picture, the seed, the actions and the generator, so made again they are equal to the bit; on
another device, with other threads or versions they may not be. A log has the SHA-256 of every block's frames, so that
this is found out and said.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimicmotion.config import StreamingSettings
from mimicmotion.errors import InputError, MimicMotionError, UsageError
from mimicmotion.files import sha256_file, why_no_file
from mimicmotion.places import find, looked_for
from mimicmotion.streaming.actions import Actions
from mimicmotion.streaming.generator import StreamingGenerator
from mimicmotion.streaming.overlap import play_blocks
from mimicmotion.streaming.session_log import ENDING, SessionLog, frames_sha256, read_log, require_fitting
from mimicmotion.streaming.world import WorldConfig

logger = logging.getLogger(__name__)


def read_replay(settings: StreamingSettings, world: WorldConfig) -> SessionLog:
    """The log of --replay, of a session that can be made again by `world` as far as its file says.

    Raises: InputError for a log that cannot be read; UsageError for one that does not fit the other settings.
    """
    path, default = settings.replay, StreamingSettings()
    if reason := why_no_file(path):
        raise UsageError(f"--replay: {looked_for(path)} {reason}")
    log = read_log(path)
    header = log.header
    if not log.blocks:
        raise UsageError(f"--replay: {path} is the log of a session without a block")
    for flag, given in (
        ("--actions", settings.actions),
        ("--img_path", Path(settings.image).resolve() != find(default.image).resolve()),
        ("--seed", settings.seed not in (default.seed, header.seed)),
    ):
        if given:
            raise UsageError(f"--replay takes picture, seed and actions from {path}; leave out {flag}")
    require_fitting(header, world.mode, world.height, world.width, world.frames_per_block, path)
    if header.state is None and settings.resume_from:
        raise UsageError(f"--replay: {path} has the session from its first picture on; leave out --resume_from")
    if header.state is not None:
        if not settings.resume_from:
            raise UsageError(
                f"--replay: the session of {path} goes on from a saved one; name that with --resume_from, or take the "
                f"actions alone: --actions {path}"
            )
        if Path(settings.resume_from).is_file() and sha256_file(settings.resume_from) != header.state:
            raise UsageError(f"--replay: the session of {path} goes on from another state than {settings.resume_from}")
    return log


def session_stem(path: str | Path) -> str:
    """What a session is called whose log lies at `path`."""
    name = Path(path).name
    return name.removesuffix(ENDING) if name.endswith(ENDING) else Path(path).stem


def require_played(replayed: SessionLog, blocks: int | None, from_picture: bool = False) -> None:
    """Raises: UsageError where more blocks are asked for than a session had, or it does not begin with its picture."""
    if from_picture and replayed.header.picture is None:
        raise UsageError("--replay: the session goes on from a saved one; make it again with inference_streaming.py")
    if blocks is not None and blocks > len(replayed.blocks):
        raise UsageError(f"--replay: the session has {len(replayed.blocks)} blocks, and {blocks} are asked for")


def judge_replay(replayed: SessionLog | None, log: SessionLog, path: str) -> int:
    """Says whether `log` has the frames of the one at `path` that it made again; the exit code, 1 where it has not."""
    if replayed is None:
        return 0
    if different := differing_blocks(replayed, log):
        logger.error(
            "%d of %d blocks, from block %d on, have other frames than when the session of %s was played: that was on "
            "another device, or with other threads or versions. The videos are what this machine makes of it",
            len(different),
            len(log.blocks),
            different[0],
            path,
        )
        return 1
    if all(block.frames_sha256 for block in replayed.blocks):
        logger.info("the frames of %d blocks are those of %s, to the bit", len(log.blocks), path)
    else:
        logger.warning("%s does not say what its frames were, so they are not compared", path)
    return 0


def differing_blocks(replayed: SessionLog, log: SessionLog) -> list[int]:
    """The numbers of blocks of `log` whose frames are not those that `replayed` was played with, as far as it says."""
    played = {block.first_latent: block.frames_sha256 for block in replayed.blocks}
    size = log.header.frames_per_block
    return [
        block.first_latent // size
        for block in log.blocks
        if played.get(block.first_latent) not in (None, block.frames_sha256)
    ]


def log_of_state(settings: StreamingSettings) -> SessionLog | None:
    """The log of the session that --resume_from goes on with, up to where it was saved; None where there is none.

    Raises: UsageError where --whole or --session_log need one and it does not lie there, or begins too late; InputError
    for a named one that cannot be read.
    """
    state = Path(settings.resume_from)
    path = Path(settings.session_log) if settings.session_log else log_path(state)
    needed = settings.whole or settings.session_log is not None
    log = None
    if path.is_file() or needed:
        try:
            log = _read_for(path, state)
        except InputError as error:
            if needed:
                raise
            logger.warning("%s; the log of this session begins where it was saved", error)
    if settings.whole:
        _require_whole(log, path)
    return log


def log_path(state: str | Path) -> Path:
    """Where the log of a saved session lies: beside it."""
    return Path(f"{state}{ENDING}")


def earlier_blocks(
    generator: StreamingGenerator, log: SessionLog, overlap: bool
) -> Iterator[tuple[np.ndarray, Actions]]:
    """The frames and actions of every block of `log`, made again.

    Raises: MimicMotionError for a block whose frames are not those that it had.
    """
    state = generator.start(log.header.picture, log.header.seed)
    made = play_blocks(generator, state, (block.actions for block in log.blocks), overlap)
    for block, (actions, frames, _) in zip(log.blocks, made, strict=True):
        if frames_sha256(frames) != block.frames_sha256:
            raise MimicMotionError(
                f"the frames from latent {block.first_latent} on are others here than when the session was played "
                "(another device, other threads or versions); the whole video would have a seam: leave out --whole"
            )
        yield frames, actions


def _read_for(path: Path, state: Path) -> SessionLog:
    log = read_log(path).up_to(sha256_file(state))
    if log is None:
        raise InputError(f"{path} is not the log of the session in {state}: it does not say that this was saved")
    return log


def _require_whole(log: SessionLog, path: Path) -> None:
    if log.header.picture is None:
        raise UsageError(
            f"--whole: {path} begins at latent {log.header.first_latent}, with a saved session whose own log was not "
            "there; the blocks before that cannot be made again"
        )
    if any(block.frames_sha256 is None for block in log.blocks):
        raise UsageError(f"--whole: {path} does not say what the frames of each block were, so nothing could be proved")

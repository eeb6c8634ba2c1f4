"""What a session begins with: a picture, a saved session, or the log of one that is made again; and how it is saved."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.config import Config, StreamingSettings
from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import sha256_file, why_no_file
from mimicmotion.places import looked_for
from mimicmotion.streaming.actions import Actions, get_mode
from mimicmotion.streaming.generator import StreamingGenerator, StreamState, load_image
from mimicmotion.streaming.play import Terminal, ask_image
from mimicmotion.streaming.recording import Recording
from mimicmotion.streaming.replay import log_path, read_replay, session_stem
from mimicmotion.streaming.session_log import SessionLog, actions_of, header_of, require_equal_generator
from mimicmotion.streaming.sources import BENCH, planned_frames
from mimicmotion.streaming.world import WorldConfig


@dataclasses.dataclass(frozen=True)
class Session:
    """One that begins: its state, what it begins with, what its results are called, its log, and the log of the session
    that it makes again.
    """

    state: StreamState
    begun_from: Path
    stem: str
    log: SessionLog
    replayed: SessionLog | None = None


def begin_session(
    generator: StreamingGenerator,
    config: Config,
    terminal: Terminal,
    replayed: SessionLog | None = None,
    before: SessionLog | None = None,
) -> Session:
    """A new session, from a picture that is asked for unless actions are prepared, or a saved one.

    replayed: the log that it is made again from; before: the log of the saved one, where there is one.

    Raises: InputError for a picture or session that cannot be read; EOFError, KeyboardInterrupt when asking.
    """
    settings = config.streaming
    if settings.resume_from:
        path = Path(settings.resume_from)
        state = generator.load_state(path)
        stem = session_stem(settings.replay) if replayed else path.stem
        if before is None:
            facts = (generator, state.seed, settings.fps, None, sha256_file(path), state.start)
            before = SessionLog(header_of(*facts))
        require_equal_generator(before, generator, log_path(path))
        if (before.header.seed, before.next_latent) != (state.seed, state.start):
            raise InputError(f"the log of {path} is of another session; move it away to go on without one")
        return Session(state, path, stem, before, replayed)
    if replayed:
        path, image, stem = Path(settings.replay), replayed.header.picture, session_stem(settings.replay)
    elif settings.actions:
        path, image = Path(settings.image), load_image(settings.image, config.reference)
        stem = path.stem
    else:
        path, image = ask_image(terminal, settings.image, config.reference)
        stem = path.stem
    picture = generator.take_picture(image)
    log = SessionLog(header_of(generator, settings.seed, settings.fps, picture))
    return Session(generator.start(picture, settings.seed), path, stem, log, replayed)


def replaying(config: Config, world: WorldConfig) -> tuple[Config, SessionLog]:
    """The log of --replay, and the settings with its seed and, unless another is asked for, its frame rate.

    Raises: as `read_replay`.
    """
    settings = config.streaming
    log = read_replay(settings, world)
    fps = log.header.fps if settings.fps == StreamingSettings().fps else settings.fps
    settings = dataclasses.replace(settings, seed=log.header.seed, fps=fps)
    return dataclasses.replace(config, streaming=settings), log


def prepared_frames(
    settings: StreamingSettings, world: WorldConfig, replayed: SessionLog | None
) -> tuple[Iterator[Actions], int | None]:
    """The action frames of a session without questions, and how many they are: None without end.

    Raises: as `planned_frames`.
    """
    if replayed:
        return actions_of(replayed), sum(len(block.actions) for block in replayed.blocks)
    return planned_frames(settings.actions or BENCH, get_mode(world.mode), settings.seed)


def require_beginning(settings: StreamingSettings) -> None:
    """Raises: UsageError where the file is none that a session is to begin with; known before any network is loaded."""
    if (settings.whole or settings.session_log) and not settings.resume_from:
        raise UsageError(f"{'--whole' if settings.whole else '--session_log'} belongs to --resume_from; name that too")
    name, path = ("--resume_from", settings.resume_from) if settings.resume_from else ("--img_path", settings.image)
    asked = not settings.resume_from and not settings.actions
    if not asked and not settings.replay and (reason := why_no_file(path)):
        raise UsageError(f"{name}: {looked_for(path)} {reason}")


def save_session(generator: StreamingGenerator, state: StreamState, recording: Recording, path: str | Path) -> None:
    """Writes a session's state, and beside it its log, which says so; so does then the log beside its videos.

    Raises: as `StreamingGenerator.save_state`.
    """
    generator.save_state(state, path)
    recording.log.note_saved(sha256_file(path))
    recording.log.write(log_path(path))
    recording.write_log()

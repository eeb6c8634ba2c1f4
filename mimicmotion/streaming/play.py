"""A session block by block: with prepared actions, or typed in a terminal.

How questions are asked and answers are shown comes in as functions, so anything can drive a session.
"""

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.cli import ask, interrupts_deferred, say
from mimicmotion.config import ReferenceSettings
from mimicmotion.errors import InputError
from mimicmotion.streaming.actions import ActionMode, Actions, HeldKeysError, encode, help_line
from mimicmotion.streaming.generator import StreamingGenerator, StreamState, load_image
from mimicmotion.streaming.overlap import play_blocks
from mimicmotion.streaming.recording import Recording
from mimicmotion.streaming.texts import ENGLISH, Texts


@dataclass
class Terminal:
    """Where answers come from, where messages go and in which language; a test puts its own functions in."""

    ask: Callable[[str], str] = ask
    say: Callable[[str], object] = say
    texts: Texts = ENGLISH


def play_batch(
    generator: StreamingGenerator,
    state: StreamState,
    recording: Recording,
    actions: Iterable[Actions],
    overlap: bool = False,
) -> None:
    """Records a block for each of `actions`; `overlap` as `play_blocks`. Raises: as the generator and the recording."""
    with recording:
        for action, frames, after in play_blocks(generator, state, actions, overlap):
            recording.add(frames, action)
            state.advance(after)


def play_session(
    generator: StreamingGenerator,
    state: StreamState,
    recording: Recording,
    terminal: Terminal,
    actions: Iterator[Actions] | None = None,
    blocks: int | None = None,
    overlap: bool = False,
) -> EOFError | KeyboardInterrupt | None:
    """Plays block after block, showing each at once; what ended the session early, or None.

    Actions are asked for, or taken from `actions` without questions until they run out. `blocks` ends the session
    by itself; `overlap` decodes beside denoising where actions are given. However it ends, the recording has every
    block that was finished.
    """
    ended, made = None, None
    if actions is not None:
        made = play_blocks(generator, state, itertools.islice(actions, blocks), overlap)
    with recording:
        try:
            for _ in itertools.count() if blocks is None else range(blocks):
                if not _play_block(generator, state, recording, terminal, made):
                    break
        except (EOFError, KeyboardInterrupt) as end:
            ended = end
    # Not before the videos are complete: of a terminal that is gone nothing can be said.
    if ended is not None:
        texts = terminal.texts
        terminal.say(texts.end_of_input if isinstance(ended, EOFError) else texts.interrupted)
    return ended


def _play_block(
    generator: StreamingGenerator,
    state: StreamState,
    recording: Recording,
    terminal: Terminal,
    made: Iterator[tuple[Actions, np.ndarray, StreamState]] | None,
) -> bool:
    """One block, the next of `made` or of an action that is asked for; False when there is to be no next one."""
    size, first, texts = generator.frames_per_block, state.start, terminal.texts
    if made is None:
        terminal.say(texts.block.format(number=first // size, first=first, last=first + size - 1))
        action = ask_action(generator.mode, terminal)
        frames, after = generator.next_block(state, action)
    else:
        action, frames, after = next(made, (None, None, None))
    if action is None:
        return False
    # A block that the session has and its videos have not would be a gap when the session goes on.
    with interrupts_deferred():
        recording.add(frames, action)
        state.advance(after)
        path = recording.write_current(frames)
    terminal.say(texts.saved_block.format(path=path, frames=len(frames), total=recording.frames))
    return made is not None or not _says_no(terminal.ask(texts.go_on))


def ask_action(mode: ActionMode, terminal: Terminal) -> Actions:
    """Asks for the keys of a block, and for the mouse where it has keys of its own, until they make sense.

    Several keys may be given at once, none is no move. Raises: EOFError, KeyboardInterrupt as `terminal.ask`.
    """
    texts, keys = terminal.texts, help_line(mode, terminal.texts.labels)
    terminal.say(keys)
    while True:
        letters = terminal.ask(texts.keyboard)
        if mode.name == "universal":
            letters += " " + terminal.ask(texts.mouse)
        try:
            return encode(mode, _narrow(letters))
        except HeldKeysError as error:
            text = texts.unknown_keys if error.unknown else texts.too_many_keys
            terminal.say(text.format(error=error, mode=mode.name, keys=error.keys, help=keys))


def ask_image(
    terminal: Terminal, default: str, settings: ReferenceSettings | None = None
) -> tuple[Path, Image.Image]:
    """Asks for the first picture until one can be read; an empty answer takes `default`."""
    while True:
        path = Path(terminal.ask(terminal.texts.picture.format(default=default)).strip() or default)
        try:
            return path, load_image(path, settings)
        except InputError as error:
            terminal.say(terminal.texts.no_picture.format(error=error))


def ask_to_stop(terminal: Terminal) -> bool:
    """Asks whether there is to be another picture."""
    return _says_no(terminal.ask(terminal.texts.stop))


def _says_no(answer: str) -> bool:
    return _narrow(answer).strip().lower() == "n"


def _narrow(answer: str) -> str:
    """Letters of full width, which a Chinese input method types, as those of a keyboard."""
    return unicodedata.normalize("NFKC", answer)

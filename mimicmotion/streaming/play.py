"""A session block by block: with prepared actions, or typed in a terminal.

How questions are asked and answers are shown comes in as functions, so anything can drive a session.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mimicmotion.cli import ask, interrupts_deferred, say
from mimicmotion.config import ReferenceSettings, shortened
from mimicmotion.errors import InputError, UsageError
from mimicmotion.streaming.actions import ActionMode, Actions, EntryError, HeldKeysError, help_line
from mimicmotion.streaming.answers import Answer, as_script, blocks_of_answers, examples, read_answer, says_no
from mimicmotion.streaming.generator import StreamingGenerator, StreamState, load_image
from mimicmotion.streaming.overlap import play_blocks
from mimicmotion.streaming.recording import Recording
from mimicmotion.streaming.texts import ENGLISH, Texts


@dataclass
class Terminal:
    """Where answers come from, where messages go, in which language, and how much is asked in one question.

    questions: "one" a block takes all of its keys, and what ends the session; "three" are those of the published
    script: keyboard, mouse, whether to go on. A test puts its own functions in.
    """

    ask: Callable[[str], str] = ask
    say: Callable[[str], object] = say
    texts: Texts = ENGLISH
    questions: str = "one"


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
    earlier: Iterable[tuple[np.ndarray, Actions]] = (),
) -> EOFError | KeyboardInterrupt | None:
    """Plays block after block, showing each at once; what ended the session early, or None.

    Actions are asked for, or taken from `actions` without questions until they run out. `blocks` ends the session
    by itself; `overlap` decodes beside denoising where actions are given. However it ends, the recording has every
    block that was finished. `earlier` blocks go into it first; an interrupt among them ends it without a video.

    Raises: KeyboardInterrupt as just said.
    """
    ended, texts = None, terminal.texts
    if actions is None:
        actions, overlap = asked_actions(generator, state, terminal, blocks), False
    else:
        actions = itertools.islice(actions, blocks)
    with recording:
        for frames, action in earlier:
            recording.add_earlier(frames, action)
        try:
            for action, frames, after in play_blocks(generator, state, actions, overlap):
                # A block that the session has and its videos have not would be a gap when the session goes on.
                with interrupts_deferred():
                    recording.add(frames, action)
                    state.advance(after)
                    path = recording.write_current(frames)
                terminal.say(texts.saved_block.format(path=path, frames=len(frames), total=recording.frames))
        except (EOFError, KeyboardInterrupt) as end:
            ended = end
    # Not before the videos are complete: of a terminal that is gone nothing can be said.
    if ended is not None:
        terminal.say(texts.end_of_input if isinstance(ended, EOFError) else texts.interrupted)
    return ended


def asked_actions(
    generator: StreamingGenerator, state: StreamState, terminal: Terminal, blocks: int | None
) -> Iterator[Actions]:
    """The actions of at most `blocks` blocks, asked for one by one while `state` moves on; an answer may end them."""
    size, texts, left = generator.frames_per_block, terminal.texts, math.inf if blocks is None else blocks
    while left:
        first = state.start
        terminal.say(texts.block.format(number=first // size, first=first, last=first + size - 1))
        answered = ask_actions(generator.mode, terminal, first, size)
        for action in answered[: min(left, len(answered))]:
            yield action
            left -= 1
        if not answered or (terminal.questions == "three" and says_no(terminal.ask(texts.go_on))):
            return


def ask_actions(mode: ActionMode, terminal: Terminal, start: int, latents: int) -> list[Actions]:
    """Asks for the keys of the block from latent `start` on until they make sense; none where that ends the session.

    More than one where the answer runs on over the blocks after it. A wrong key is told at once.

    Raises: EOFError, KeyboardInterrupt as `terminal.ask`.
    """
    texts = terminal.texts
    terminal.say(help_line(mode, texts.labels))
    if terminal.questions == "three":
        questions = [texts.keyboard] + [texts.mouse] * (mode.name == "universal")
    else:
        questions = [texts.keys.format(**examples(mode))]
    answers = [_ask_keys(mode, terminal, question) for question in questions]
    if None in answers:
        return []
    actions = list(blocks_of_answers(mode, answers, start, latents))
    if any(timed for _, timed in answers):
        terminal.say(texts.understood.format(script=as_script(mode, actions[0])))
    if len(actions) > 1:
        terminal.say(texts.runs_on.format(blocks=len(actions) - 1))
    return actions


def _ask_keys(mode: ActionMode, terminal: Terminal, question: str) -> Answer | None:
    """The answer to one question, asked until it makes sense; None where it ends the session."""
    texts = terminal.texts
    while True:
        typed = terminal.ask(question)
        if terminal.questions == "one" and says_no(typed):
            return None
        try:
            return read_answer(mode, typed)
        except UsageError as error:
            cause = error.__cause__ if isinstance(error.__cause__, HeldKeysError) else error
            terminal.say(_told(texts, mode, typed, cause))


def _told(texts: Texts, mode: ActionMode, typed: str, error: UsageError) -> str:
    """What is wrong with an answer, in the language of the session."""
    if isinstance(error, HeldKeysError):
        text = texts.unknown_keys if error.unknown else texts.too_many_keys
        return text.format(error=error, mode=mode.name, keys=error.keys, help=help_line(mode, texts.labels))
    entry = error.entry if isinstance(error, EntryError) else shortened(typed)
    return texts.no_script.format(error=error, entry=entry)


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
    return says_no(terminal.ask(terminal.texts.stop))

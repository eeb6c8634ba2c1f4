"""What is typed for a block -> its actions, and those of the blocks after it that the answer runs on over.

Keys without a number are held for the whole block: "W L", "W+L" and "wl" are the same. With numbers, as in
"W*4 W+L*8" or "w-4,wl-8", entries follow one another; what has none is held beside them, so "W L*6" walks the whole
block and looks right in its first 6 frames. After the last entry nothing but that is held.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator

from mimicmotion.streaming.action_runs import runs_of
from mimicmotion.streaming.actions import ActionMode, Actions, by_block, encode, script_entries

# None of them can be typed for keys: tests/streaming/test_answers.py.
ENDINGS = ("n", "no", "end", "exit", "quit")
Answer = tuple[str, list[tuple[str, int]]]


def says_no(answer: str) -> bool:
    """Whether an answer ends what it is asked about."""
    return narrow(answer).strip().lower() in ENDINGS


def narrow(answer: str) -> str:
    """Signs of full width, which a Chinese input method types, as those of a keyboard."""
    return unicodedata.normalize("NFKC", answer)


def read_answer(mode: ActionMode, text: str) -> Answer:
    """The keys that are held throughout, and entries of keys and frames; none for "" and plain keys.

    Raises: EntryError, HeldKeysError for what is no answer in `mode`; UsageError for more frames than can be meant.
    """
    text = narrow(text)
    if not re.search(r"[*-]", text):
        held = re.sub(r"[\s,+]", "", text)
        encode(mode, held)
        return held, []
    entries = script_entries(mode, text)
    held = "".join(keys for keys, frames in entries if frames is None)
    timed = [(keys, frames) for keys, frames in entries if frames is not None]
    for keys, _ in timed:
        encode(mode, held + keys)
    return held, timed


def blocks_of_answers(mode: ActionMode, answers: list[Answer], start: int, latents: int) -> Iterator[Actions]:
    """The actions of the block of `latents` latents that begins at latent `start`, and of the blocks after it.

    All answers hold at once: their keys are added up, frame by frame. Without a number it is one action for one block.
    """
    held = "".join(keys for keys, _ in answers)
    tracks = [[keys for keys, frames in timed for _ in range(frames)] for _, timed in answers]
    length = max(map(len, tracks))
    if not length:
        yield encode(mode, held)
        return
    encoded = functools.cache(functools.partial(encode, mode))
    together = (held + "".join(track[frame] for track in tracks if frame < len(track)) for frame in range(length))
    frames = itertools.chain(map(encoded, together), itertools.repeat(encode(mode, held)))
    for block in by_block(frames, mode, latents, start):
        yield block
        length -= len(block)
        if length <= 0:
            return


def as_script(mode: ActionMode, actions: Actions) -> str:
    """Actions in the notation of scripts, such as "W*4 W+L*8 Q*12"."""
    return " ".join(f"{'+'.join(run['keys']) or mode.idle[0]}*{run['frames']}" for run in runs_of(actions, mode))


def examples(mode: ActionMode) -> dict[str, str]:
    """Answers that `mode` takes: `held`, keys without a number, and `script`, with numbers."""
    move = next(iter(mode.keys))
    turn = list(mode.camera)[-1] if mode.camera else ""
    held = f"{move} {turn}".strip()
    return {"held": held, "script": f"{move}*4 {held.replace(' ', '+') if turn else mode.idle[0]}*8"}

"""One visitor's way through the world: its state, its log, the states that one can go back to.

All that makes frames here takes the model's time, so it is called in the model's thread alone; weights are shared.
"""

import hashlib
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.streaming import (
    Actions,
    LoggedBlock,
    SessionLog,
    StreamingGenerator,
    StreamState,
    frames_sha256,
    header_of,
)
from mimicmotion.timing import StageClock

GREY = 128  # seen before the first block of a session that was loaded


@dataclass(frozen=True)
class Keeping:
    """How many states a session may keep for going back at once, and their bytes in all."""

    blocks: int
    bytes: int


@dataclass(frozen=True)
class Block:
    """Frames uint8 (N, H, W, 3) of block `number`, the first of which is number `first_frame` of the session.

    milliseconds: by stage. as_before: whether the frames are those that the log had; None where it had none.
    """

    number: int
    first_frame: int
    frames: np.ndarray
    actions: Actions
    milliseconds: dict[str, float]
    as_before: bool | None = None


@dataclass(frozen=True)
class Kept:
    """The session before a block: its state, and the last frame that was made."""

    state: StreamState
    frame: np.ndarray


class Session:
    """Made by `begin` or `load`. `picture` uint8 (H, W, 3) is what is seen before the first block; `key` tells it from
    other sessions.
    """

    def __init__(
        self, generator: StreamingGenerator, state: StreamState, picture: np.ndarray, log: SessionLog, keeping: Keeping
    ) -> None:
        self.generator, self.state, self.log, self.picture = generator, state, log, picture
        self.last_frame = picture
        self.key = secrets.token_hex(8)
        self.prepared: deque[LoggedBlock] = deque()  # blocks that nobody plays
        self.remaking = 0  # of these, so many are in the log already and are not shown again
        self._beginning = state.copy()
        self._keeping = keeping
        self._kept: OrderedDict[int, Kept] = OrderedDict()

    @property
    def number(self) -> int:
        """Of the next block."""
        return self.state.start // self.generator.frames_per_block

    @property
    def next_frames(self) -> int:
        """How many frames the next block has."""
        return self.generator.block_frames(self.state)

    @property
    def reach(self) -> tuple[int, int] | None:
        """The first and the last block that one can go back to; None before there is one."""
        return (self.log.first_block, self.log.next_block - 1) if self.log.blocks else None

    def make(self, actions: Actions) -> Block:
        """The next block. One that fails leaves the session where it was. Raises: as `StreamingGenerator.step`."""
        block = self._make(actions)
        self.log.add_block(actions, block.frames)
        return block

    def make_prepared(self) -> Block:
        """The next of the prepared blocks."""
        wanted = self.prepared[0]
        block = self._make(wanted.actions, wanted.frames_sha256)
        if self.remaking:
            self.remaking -= 1
        else:
            self.log.add_block(wanted.actions, block.frames)
        self.prepared.popleft()
        return block

    def go_back(self, number: int) -> None:
        """To before block `number`. Where that state is not kept any more, the blocks before it become `prepared`, to
        be made again from the beginning.

        Raises: InputError where there is no such block.
        """
        if not self.reach or not self.reach[0] <= number <= self.reach[1]:
            known = "there is none yet" if not self.reach else f"there are {self.reach[0]} to {self.reach[1]}"
            raise InputError(f"there is no block {number} to go back to; {known}")
        self.log.go_back(number)
        self.prepared.clear()
        self.remaking = 0
        if number in self._kept:
            kept = self._kept[number]
            self.state, self.last_frame = kept.state, kept.frame
            for later in [key for key in self._kept if key >= number]:
                del self._kept[later]
            return
        self.state, self.last_frame = self._beginning.copy(), self.picture
        self._kept.clear()
        self.prepared.extend(self.log.blocks)
        self.remaking = len(self.prepared)

    def forget_kept(self) -> None:
        """Frees what going back at once takes."""
        self._kept.clear()

    def save(self, path: Path) -> None:
        """Writes the state, as `StreamingGenerator.save_state`, and notes it in the log."""
        self.generator.save_state(self.state, path)
        self.log.note_saved(hashlib.sha256(path.read_bytes()).hexdigest())

    def _make(self, actions: Actions, wanted: str | None = None) -> Block:
        number, first_frame, before = self.number, self.state.frames_done, self._copy_before()
        clock = StageClock(self.generator.model.device)
        frames, after = self.generator.next_block(self.state, actions, clock)
        self.state.advance(after)
        if before:
            self._keep(number, before)
        self.last_frame = frames[-1]
        milliseconds = {name: 1000 * seconds for name, seconds in clock.seconds.items()}
        as_before = None if wanted is None else frames_sha256(frames) == wanted
        return Block(number, first_frame, frames, actions, milliseconds, as_before)

    def _copy_before(self) -> Kept | None:
        fits = self._keeping.blocks and self.state.nbytes <= self._keeping.bytes
        return Kept(self.state.copy(), self.last_frame) if fits else None

    def _keep(self, number: int, kept: Kept) -> None:
        self._kept[number] = kept
        most = min(self._keeping.blocks, self._keeping.bytes // kept.state.nbytes)
        while len(self._kept) > most:
            self._kept.popitem(last=False)


def begin(generator: StreamingGenerator, picture: np.ndarray, seed: int, fps: float, keeping: Keeping) -> Session:
    """A session that begins with `picture`, as the generator takes it."""
    log = SessionLog(header_of(generator, seed, fps, picture))
    return Session(generator, generator.start(picture, seed), picture, log, keeping)


def load(generator: StreamingGenerator, path: Path, fps: float, keeping: Keeping) -> Session:
    """A session that goes on from a saved one. Raises: InputError as `StreamingGenerator.load_state`."""
    state = generator.load_state(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    log = SessionLog(header_of(generator, state.seed, fps, state=digest, first_latent=state.start))
    grey = np.full((generator.height, generator.width, 3), GREY, np.uint8)
    return Session(generator, state, grey, log, keeping)

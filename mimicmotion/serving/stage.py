"""The stage that all visitors look at: blocks are made in the model's thread and shown at the session's pace.

Block n + 1 is made while block n is shown. What is held is sampled as late as that allows: just before the model must
begin, so that the block is there when the one before it has been seen. All of this is one event loop, which never
waits for the model, an encoder or a disk: they have a thread each, and a queue of one.
"""

import asyncio
import contextlib
import io
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mimicmotion.config import Config
from mimicmotion.errors import InputError, MimicMotionError, explain
from mimicmotion.serving.connection import Connection, Frame
from mimicmotion.serving.pictures import DEFAULT
from mimicmotion.serving.protocol import ENDED, TAKEN_OVER, Message
from mimicmotion.serving.session import Block, Keeping, Session, begin
from mimicmotion.serving.tape import Tape
from mimicmotion.serving.visitors import Visitor, Visitors
from mimicmotion.streaming import SessionLog, StreamingGenerator

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90
MARGIN, SPARE_SECONDS = 1.15, 0.02  # on the time that a block is expected to take
REMEMBERED_BLOCKS = 5  # whose median is what a block is expected to take
TICK_SECONDS = 0.5
MIB = 2**20
LARGEST_HEADER = 10**6  # bytes of a saved session that are no tensor
SURPLUS = "others play now, and your session had to go; your next turn begins a new one"
LOST = "the session could not be made again; your next turn begins a new one"
OF_THE_PLAYER = frozenset({"start", "pause", "step", "back", "record"})


@dataclass
class Made:
    """A block that is to be shown; `free` where it is although its visitor has paused."""

    visitor: Visitor
    epoch: int
    block: Block
    jpegs: list[bytes]
    seq: int
    free: bool
    seconds: float


class Stage:
    """pictures: gives a first picture by its id, uint8 (H, W, 3) as the generator takes it; seconds: what a block
    takes, as far as is known; state_bytes: of a session's tensors; replay: what the first player sees before he plays.
    """

    def __init__(
        self,
        generator: StreamingGenerator,
        config: Config,
        pictures: Callable[[str], np.ndarray],
        seconds: float,
        state_bytes: int,
        replay: SessionLog | None = None,
    ) -> None:
        self.generator, self.config, self.pictures = generator, config, pictures
        serving = config.serving
        self.fps = config.streaming.fps
        self.largest_state = state_bytes + LARGEST_HEADER
        self.keeping = Keeping(serving.history, serving.history_mb * MIB)
        self.visitors = Visitors(generator.mode, serving.idle_timeout, serving.turn_seconds)
        self._replay = replay
        self._model, self._coder = ThreadPoolExecutor(1, "model"), ThreadPoolExecutor(1, "coder")
        self._model_free = asyncio.Lock()
        self._news = asyncio.Event()
        self._made: Made | None = None
        self._showing = False
        self._shown_until = 0.0
        self._seconds: deque[float] = deque([seconds], REMEMBERED_BLOCKS)
        self._newest: Frame | None = None
        self._seen_player: Visitor | None = None
        self._tasks: set[asyncio.Task] = set()  # that are to come to their end, whoever leaves meanwhile
        self._status: dict = {}

    # What happens by itself

    async def run(self) -> None:
        """Makes, shows and watches the clock until it is cancelled; then finishes what is being recorded."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._direct, self._show, self._watch):
                    tasks.create_task(work())
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for visitor in list(self.visitors.all.values()):
                with contextlib.suppress(MimicMotionError):
                    await self._stop_tape(visitor)
            self._model.shutdown()
            self._coder.shutdown()

    async def _direct(self) -> None:
        while True:
            await self._until(self._may_make)
            player = self.visitors.player
            try:
                await self._make_next(player)
            except Exception as error:
                self._fail(player, error)

    def _may_make(self) -> bool:
        player = self.visitors.player
        if not player or not player.is_here or self._made:
            return False
        session = player.session
        if not session or session.remaking or not player.paused:
            return True
        return player.steps > 0 and not self._showing

    async def _make_next(self, player: Visitor) -> None:
        epoch = player.epoch
        if not player.session:
            await self._begin_first(player)
            return
        if not player.session.remaking and not player.paused:
            await self._wait_to_sample(player, epoch)
        async with self._model_free:
            if not self._may_make() or player is not self.visitors.player or player.epoch != epoch:
                return
            await self._make_block(player, player.session)

    async def _make_block(self, player: Visitor, session: Session) -> None:
        epoch, quiet, free = player.epoch, session.remaking > 0, player.paused
        begun, seq = time.monotonic(), 0 if session.prepared else player.held.seq
        if session.prepared:
            block = await self._in_thread(self._model, session.make_prepared)
            if not session.prepared:
                player.held.forget()  # what was pressed while it only could be watched
        else:
            actions = player.held.sample(session.next_frames, 1 / self._interval(session.next_frames))
            block = await self._in_thread(self._model, session.make, actions)
        if block.as_before is False:
            player.say("error", message=f"block {block.number} came out otherwise than it was: another machine made it")
        if quiet:
            if not session.remaking and player.epoch == epoch:
                await self._show_still(player)
            return
        if free:
            player.steps = max(0, player.steps - 1)
        encoding = time.monotonic()
        jpegs = await self._in_thread(self._coder, encode_all, block.frames)
        block.milliseconds["transport"] = block.milliseconds.get("transport", 0) + 1000 * (time.monotonic() - encoding)
        seconds = time.monotonic() - begun
        self._seconds.append(seconds)
        if player.epoch != epoch:
            return
        if player.tape:
            self._note(player, self._coder.submit(player.tape.add, block))
        self._made = Made(player, epoch, block, jpegs, seq, free, seconds)
        self._tell()

    def _interval(self, frames: int) -> float:
        """Seconds from frame to frame: the session's, or longer where the model takes longer."""
        return max(1 / self.fps, statistics.median(self._seconds) / frames)

    async def _wait_to_sample(self, player: Visitor, epoch: int) -> None:
        while player is self.visitors.player and player.epoch == epoch and not player.paused:
            needed = MARGIN * statistics.median(self._seconds) + SPARE_SECONDS
            left = self._shown_until - needed - time.monotonic()
            if left <= 0:
                return
            await self._wait(left)

    async def _show(self) -> None:
        due = 0.0
        while True:
            await self._until(lambda: self._made)
            made, self._made = self._made, None
            if not self._is_wanted(made):
                self._tell()
                continue
            self._showing = True
            interval = self._interval(len(made.jpegs))
            due = max(due, time.monotonic() - interval)
            self._shown_until = due + interval * len(made.jpegs)
            self._tell()
            self._tell_block(made, interval)
            for index, jpeg in enumerate(made.jpegs):
                if not await self._wait_to_show(made, due):
                    break
                if time.monotonic() - due > interval:
                    due = time.monotonic()
                header = {"frame": made.block.first_frame + index, "block": made.block.number, "seq": made.seq}
                self._broadcast(Frame(header, jpeg, due))
                due += interval
                self._shown_until = due + interval * (len(made.jpegs) - index - 1)
            self._showing = False
            self._tell()

    def _is_wanted(self, made: Made) -> bool:
        """Whether a block is still of what the player does: he may have gone back, begun anew, or lost his turn."""
        return made.visitor is self.visitors.player and made.epoch == made.visitor.epoch

    async def _wait_to_show(self, made: Made, due: float) -> bool:
        """Waits until a frame is due; False where nobody wants to see it any more."""
        visitor = made.visitor
        while self._is_wanted(made):
            if visitor.paused and not made.free:
                if visitor.steps:
                    visitor.steps, made.free = visitor.steps - 1, True
                else:
                    await self._wait()
                continue
            left = due - time.monotonic()
            if left <= 0:
                return True
            await self._wait(left)
        return False

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for visitor in self.visitors.tick(time.monotonic()):
                await self._end(visitor, "nothing was pressed for so long that the session has ended; reload to begin")
            for visitor in self.visitors.surplus():
                await self._drop_session(visitor, SURPLUS)
            self._tell_roles()

    # What visitors do

    def arrive(self, sid: str | None, connection: Connection) -> Visitor:
        """Somebody comes, or comes back. Raises: InputError where there are too many."""
        known = self.visitors.find(sid)
        if known and known.connection:
            known.connection.end(TAKEN_OVER, "the session goes on in another window")
        visitor = self.visitors.join(sid, connection, time.monotonic())
        role, waiting = visitor.told = self.visitors.role(visitor)
        visitor.say("hello", sid=visitor.sid, role=role, waiting=waiting, visitor=visitor.number)
        if self._status:
            visitor.say("status", **self._status)
        if self._newest:
            connection.show(self._newest)
        self._tell_roles()
        self._tell()
        return visitor

    def part(self, visitor: Visitor, connection: Connection) -> None:
        """The line to him is lost."""
        self.visitors.part(visitor, connection, time.monotonic())
        self._tell_roles()
        self._tell()

    def hear(self, visitor: Visitor, message: Message) -> bool:
        """Does at once what can be done at once; False for what has to be awaited from `act`.

        Raises: InputError for what he may not do.
        """
        now, values = time.monotonic(), message.values
        if message.type == "ready":
            if visitor.connection:
                visitor.connection.ready()
            return True
        if message.type in OF_THE_PLAYER and visitor is not self.visitors.player:
            raise InputError("you are watching; ask for the turn first")
        if message.type != "held":
            visitor.last_input = now
        if message.type == "held":
            self._hold(visitor, values, now)
        elif message.type == "play":
            self.visitors.ask(visitor, now)
        elif message.type == "leave":
            self.visitors.leave(visitor, now)
        elif message.type == "pause":
            visitor.paused, visitor.steps = values["on"], 0
            visitor.held.forget()
            self._tell_status(visitor)
        else:
            return False
        self._tell_roles()
        self._tell()
        return True

    async def act(self, visitor: Visitor, message: Message) -> None:
        """Does what takes the model or the disk, or comes behind it, to its end also where his line is lost.

        Raises: MimicMotionError.
        """
        await asyncio.shield(self._start(self._act(visitor, message)))

    async def _act(self, visitor: Visitor, message: Message) -> None:
        values = message.values
        if message.type == "start":
            await self._restart(visitor, values["picture"], values["seed"])
        elif message.type == "back":
            await self._go_back(visitor, values["block"])
        elif message.type == "record":
            await (self._start_tape(visitor) if values["on"] else self._stop_tape(visitor))
            self._tell_status(visitor)
        elif message.type == "step":  # in its turn: of the session that a start before it began
            visitor.steps = 1 if visitor.paused else 0
            self._tell()

    async def load(self, visitor: Visitor, make: Callable[[], Session]) -> None:
        """His session becomes that which `make` makes in the model's thread. Raises: MimicMotionError."""
        await self._stop_tape(visitor)
        async with self._model_free:
            visitor.session = await self._in_thread(self._model, make)
            visitor.epoch += 1
        await self._show_still(visitor)

    async def in_model(self, work: Callable, *args):
        """What `work` gives in the model's thread, between two blocks."""
        async with self._model_free:
            return await self._in_thread(self._model, work, *args)

    async def in_coder(self, work: Callable, *args):
        """What `work` gives in the thread of pictures and files."""
        return await self._in_thread(self._coder, work, *args)

    def _hold(self, visitor: Visitor, values: dict, now: float) -> None:
        moved = any(values["mouse"]) or frozenset(visitor.held.keys) != values["keys"]
        if moved:
            visitor.last_input = now
        if visitor is self.visitors.player:
            visitor.held.change(values["seq"], values["keys"], values["mouse"], now)

    async def _begin_first(self, player: Visitor) -> None:
        log, self._replay = self._replay, None
        picture = log.header.picture if log else await self.in_coder(self.pictures, DEFAULT)
        seed = log.header.seed if log else self.config.streaming.seed

        def make() -> Session:
            session = begin(self.generator, picture, seed, self.fps, self.keeping)
            session.prepared.extend(log.blocks if log else ())
            return session

        await self.load(player, make)

    async def _restart(self, visitor: Visitor, picture: str, seed: int) -> None:
        if picture == "uploaded":
            pixels = visitor.picture
            if pixels is None:
                raise InputError("no picture was sent yet; drop one onto the page first")
        else:
            pixels = await self.in_coder(self.pictures, picture)
        await self.load(visitor, lambda: begin(self.generator, pixels, seed, self.fps, self.keeping))

    async def _go_back(self, visitor: Visitor, number: int) -> None:
        async with self._model_free:
            if not visitor.session:
                raise InputError("there is no session yet")
            visitor.epoch += 1
            await self._in_thread(self._model, visitor.session.go_back, number)
            visitor.held.forget()
        if not visitor.session.remaking:
            await self._show_still(visitor)
        self._tell()

    async def _start_tape(self, visitor: Visitor) -> None:
        if not visitor.tape:
            visitor.tape = await self.in_coder(Tape, self.config, self.generator)

    async def _stop_tape(self, visitor: Visitor) -> None:
        tape, visitor.tape = visitor.tape, None
        if not tape or not visitor.session:  # nothing was recorded before there was one
            return
        log = visitor.session.log
        text = await self.in_model(log.text)
        videos = await self.in_coder(tape.finish, log.header.seed, text)
        if videos:
            visitor.videos = videos
            logger.info("recorded %s", videos[0])

    def _note(self, visitor: Visitor, written) -> None:
        """A recording whose disk is full ends, and says so."""
        loop = asyncio.get_running_loop()

        def done(future) -> None:
            if error := future.exception():
                loop.call_soon_threadsafe(self._give_up_tape, visitor, error)

        written.add_done_callback(done)

    def _give_up_tape(self, visitor: Visitor, error: BaseException) -> None:
        tape, visitor.tape = visitor.tape, None
        if tape:
            self._coder.submit(tape.give_up, error)
            visitor.say("error", message=f"the recording has ended without a video: {explain(error)}")
            self._tell_status(visitor)

    async def _end(self, visitor: Visitor, reason: str) -> None:
        visitor.say("error", message=reason)
        if visitor.connection:
            visitor.connection.end(ENDED, reason)
        with contextlib.suppress(MimicMotionError):
            await self._stop_tape(visitor)
        visitor.session = None

    async def _drop_session(self, visitor: Visitor, reason: str) -> None:
        with contextlib.suppress(MimicMotionError):
            await self._stop_tape(visitor)
        visitor.session = None
        visitor.say("error", message=reason)

    def _fail(self, player: Visitor, error: Exception) -> None:
        """The model could not go on: the player is told, and the world rests until he does something else."""
        if not isinstance(error, MimicMotionError):
            logger.error("a block failed", exc_info=error)
        player.paused, player.steps = True, 0
        if player.session and player.session.remaking:
            self._start(self._drop_session(player, LOST))  # it is no longer where its log says
        if not player.session or player.session.remaking:
            self.visitors.leave(player, time.monotonic())
            self._tell_roles()
        player.say("error", message=f"the world has stopped: {explain(error)}")
        self._tell_status(player)

    # What visitors are told

    def _tell_roles(self) -> None:
        for visitor in self.visitors.all.values():
            role = self.visitors.role(visitor)
            if visitor.is_here and visitor.told != role:
                visitor.told = role
                visitor.say("role", role=role[0], waiting=role[1])
            if visitor.session and role[0] != "player" and not self._model_free.locked():
                visitor.session.forget_kept()
        before, player = self._seen_player, self.visitors.player
        if player is not before:
            self._seen_player = player
            self._start(self._change_player(before, player))

    async def _change_player(self, before: Visitor | None, player: Visitor | None) -> None:
        """A recording ends with the turn, and all see where the next player stands."""
        if before and before.tape:
            try:
                await self._stop_tape(before)
                before.say("error", message="the recording has ended with the turn; it can be downloaded")
            except MimicMotionError as error:
                before.say("error", message=f"the recording has ended without a video: {explain(error)}")
        if player and player.session:
            await self._show_still(player)

    def _tell_block(self, made: Made, interval: float) -> None:
        rate = min(self.fps, len(made.jpegs) / made.seconds)
        stages = {name: round(made.block.milliseconds.get(name, 0), 1) for name in ("denoise", "decode", "transport")}
        self._tell_status(made.visitor, block=made.block.number, fps_made=round(rate, 2), ms=stages)

    def _tell_status(self, visitor: Visitor, **news) -> None:
        """To everybody, where it is the player's: what is on the stage."""
        session = visitor.session
        if visitor is not self.visitors.player or not session:
            return
        here = sum(other.is_here for other in self.visitors.all.values())
        self._status |= news | {
            "seed": session.log.header.seed,
            "paused": visitor.paused,
            "recording": visitor.tape is not None,
            "recorded": bool(visitor.videos),
            "session": session.key,
            "history": session.reach,
            "replaying": len(session.prepared),
            "fps": self.fps,
            "queue": len(self.visitors.waiting),
            "visitors": here,
        }
        for other in self.visitors.all.values():
            other.say("status", **self._status)

    async def _show_still(self, visitor: Visitor) -> None:
        """The last frame that was made, so that all see where the session stands."""
        session = visitor.session
        if visitor is not self.visitors.player:
            return
        jpeg = await self.in_coder(encode, session.last_frame)
        frame = max(0, session.state.frames_done - 1)
        header = {"frame": frame, "block": session.number, "seq": 0, "still": session.key}
        self._broadcast(Frame(header, jpeg, time.monotonic()))
        self._tell_status(visitor, block=session.number)
        self._tell()

    def _broadcast(self, frame: Frame) -> None:
        self._newest = frame
        for visitor in self.visitors.all.values():
            if visitor.connection:
                visitor.connection.show(frame)

    # Waiting

    def _start(self, work: Coroutine) -> asyncio.Task:
        """A task that is known to `run`, which waits for it at the end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self) -> None:
        self._news.set()

    async def _wait(self, seconds: float | None = None) -> None:
        """Until something happens, or so long."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # not wait_for, whose task begins to wait too late to miss nothing
                await self._news.wait()

    async def _until(self, holds: Callable[[], object]) -> None:
        while not holds():
            await self._wait()

    async def _in_thread(self, thread: ThreadPoolExecutor, work: Callable, *args):
        return await asyncio.get_running_loop().run_in_executor(thread, work, *args)


def encode(frame: np.ndarray) -> bytes:
    """A JPEG of uint8 (H, W, 3), its colours at full resolution: small pictures are enlarged where they are seen."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def encode_all(frames: np.ndarray) -> list[bytes]:
    """JPEGs of uint8 (N, H, W, 3)."""
    return [encode(frame) for frame in frames]

"""What the command does: listen, load a generator, two blocks to warm up, print a link, serve until it is ended."""

import contextlib
import importlib.util
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.errors import INTERRUPTED, InputError, MimicMotionError, SetupError, UsageError
from mimicmotion.files import require_writable, why_no_file
from mimicmotion.places import find, looked_for
from mimicmotion.serving.guard import Guard, is_loopback, new_token
from mimicmotion.serving.protocol import LARGEST_MESSAGE

if TYPE_CHECKING:
    from mimicmotion.streaming import SessionLog, StreamingGenerator, WorldConfig

logger = logging.getLogger(__name__)

PACKAGES = ("fastapi", "uvicorn", "websockets")
INSTALL = "pip install -r requirements-web.txt"
WARM_BLOCKS = 2  # the first is slow, and shorter
HEADER_BYTES = 16 * 2**10
END_SECONDS = 5  # for windows to take what was said to them last


def serve_world(config: Config) -> int:
    """Serves until it is interrupted. Returns the exit code. Raises: SetupError, UsageError before it serves."""
    require_packages()
    require_writable(config.output.output_dir)
    with listening(config.serving.host, config.serving.port) as listener:
        from mimicmotion.streaming import create_generator, require_equal_generator, world_of  # torch: seconds

        world = world_of(config)
        config.streaming.image = first_picture(config, world)
        log = read_replay(config, world)
        generator = create_generator(config, world)
        if log:
            require_equal_generator(log, generator, config.streaming.replay)
        try:
            with Server(generator, config, listener, log) as server:
                say(f"play at {server.link}   (Ctrl-C ends)")
                say(server.speed)
                server.wait()
        except KeyboardInterrupt:
            say("ended")
            return INTERRUPTED
    return 0


class Server:
    """A generator served at `listener`, from entering the `with` block to its end."""

    def __init__(
        self,
        generator: "StreamingGenerator",
        config: Config,
        listener: socket.socket,
        log: "SessionLog | None" = None,
    ) -> None:
        import uvicorn

        from mimicmotion.serving.app import make_app
        from mimicmotion.serving.pictures import Pictures
        from mimicmotion.serving.stage import Stage

        serving = config.serving
        loopback = is_loopback(serving.host)
        self.token = None if loopback and not serving.require_token else new_token()
        self._listener = listener
        pictures = Pictures(generator, config)
        seconds, state_bytes = warm_up(generator, pictures("default"))
        self.speed = speed_line(seconds, 4 * generator.frames_per_block, config.streaming.fps)
        self.stage = Stage(generator, config, pictures, seconds, state_bytes, log)
        guard = Guard(serving.host, self.token, frozenset(serving.names or ()))
        app = make_app(self.stage, pictures, guard, config, self._fail)
        settings = uvicorn.Config(
            app, lifespan="on", log_config=None, log_level="error", access_log=False, server_header=False,
            ws="websockets-sansio", ws_max_size=LARGEST_MESSAGE, ws_per_message_deflate=False, proxy_headers=False,
            h11_max_incomplete_event_size=HEADER_BYTES, timeout_graceful_shutdown=END_SECONDS,
        )  # fmt: skip
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._over = threading.Event()
        self._error: BaseException | None = None

    @property
    def link(self) -> str:
        """Where a browser finds it."""
        host, port = self._listener.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._server.should_exit = True
        self._over.wait()
        self._thread.join()

    def wait(self) -> None:
        """Until it has ended by itself, which is a fault. Raises: what ended it."""
        self._over.wait()
        raise self._error or MimicMotionError("the server has ended by itself")

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except BaseException as error:
            self._fail(error)
        finally:
            self._over.set()

    def _fail(self, error: BaseException | None) -> None:
        if error:
            logger.error("the server failed", exc_info=error)
            self._error = self._error or error
        self._server.should_exit = True


def require_packages() -> None:
    """Raises: SetupError with what to install."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(f"serving a world needs {', '.join(missing)}: {INSTALL}")


def first_picture(config: Config, world: "WorldConfig") -> str:
    """The file that sessions begin with. Raises: UsageError where there is none."""
    image = config.serving.image or world.first_picture or config.streaming.image
    if reason := why_no_file(find(image)):
        raise UsageError(f"--img_path: {looked_for(image)} {reason}")
    return str(find(image))


def read_replay(config: Config, world: "WorldConfig") -> "SessionLog | None":
    """The session that is to be shown first. Raises: UsageError for a log that cannot be replayed by `world`."""
    from mimicmotion.streaming import read_log, require_fitting

    path = config.streaming.replay
    if path is None:
        return None
    try:
        log = read_log(path)
    except InputError as error:
        raise UsageError(f"--replay: {error}") from error
    if log.header.picture is None:
        raise UsageError(f"--replay: {path} goes on from a saved session: load that in the page instead")
    require_fitting(log.header, world.mode, world.height, world.width, world.frames_per_block, path)
    return log


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there. Raises: UsageError for a host that is none; SetupError for a port in use."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host} is no address of this machine: {error}") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError as error:
            remedy = "end what listens there, or pass another --port; 0 takes any that is free"
            raise SetupError(f"cannot listen at {host}, port {port}: {error.strerror}; {remedy}") from error
        yield listener


def warm_up(generator: "StreamingGenerator", picture: np.ndarray) -> tuple[float, int]:
    """Seconds of a block, the first one aside, which is slow, and bytes of a session's tensors."""
    from mimicmotion.streaming import encode

    state = generator.start(picture, 0)
    for _ in range(WARM_BLOCKS):
        begun = time.perf_counter()
        _, after = generator.next_block(state, encode(generator.mode, ""))
        state.advance(after)
    return time.perf_counter() - begun, state.nbytes


def speed_line(seconds: float, frames: int, fps: float) -> str:
    """What one may expect of a model that takes `seconds` for a block of `frames`."""
    rate, ms = frames / seconds, round(1000 * seconds)
    if round(rate, 1) >= fps:
        return f"{ms} ms a block of {frames} frames: {fps:g} frames a second play live"
    return f"{ms} ms a block of {frames} frames: {rate:.1f} frames a second, {fps / rate:.1f} times slower than live"

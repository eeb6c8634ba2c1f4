"""Ray: a session of it, actors as workers, their answers, and their deaths in words."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from mimicmotion.cli import interrupts_deferred
from mimicmotion.cluster.performer import Answer, Performer
from mimicmotion.cluster.pool import WorkerLost
from mimicmotion.config import ClusterSettings
from mimicmotion.errors import SetupError
from mimicmotion.places import PACKAGE

logger = logging.getLogger(__name__)

INSTALL = "pip install -r requirements-cluster.txt"
CONNECT_SECONDS = 10.0
# Messages are small, and a container's /dev/shm is.
STORE_BYTES = 80 * 2**20
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray keeps messages back, and the main thread prints them at the end.
    "RAY_DEDUP_LOGS": "0",
    # Ray's own 15 starves workers on machines that others use.
    "RAY_worker_niceness": "0",
}
LOCAL_ENVIRONMENT = {
    # Ports on 127.0.0.1 only; that they want a token is Ray's own default there.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its own 30 seconds are few on machines that others use.
    "RAY_gcs_server_port_wait_time_s": "120",
}
LOCAL_STARTS = 3  # Ray gives its processes 30 seconds to begin, which nothing can change
# Where somebody else answers, each of Ray's tries takes 40 seconds, and it makes 20.
JOINING_ENVIRONMENT = {"RAY_NUM_REDIS_GET_RETRIES": "2"}


@contextlib.contextmanager
def ray_session(settings: ClusterSettings, share: int = 1) -> Iterator[Any]:
    """The module `ray`, connected as the settings say: to a cluster, or to one of this process's own on this machine,
    which has room for `share` times as many processes as workers are asked for.

    Raises: SetupError where Ray is not installed, or there is no such cluster.
    """
    for name, value in (ENVIRONMENT | (JOINING_ENVIRONMENT if settings.address else LOCAL_ENVIRONMENT)).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SetupError(f"--workers needs Ray, which is not installed ({error}); {INSTALL}") from error
    with contextlib.redirect_stdout(WithoutRay(sys.stdout)):
        try:
            _connect(ray, settings, share)
            yield ray
        finally:
            with interrupts_deferred():
                ray.shutdown()


class WithoutRay:
    """Standard output without what a thread of Ray prints there of the ends of workers, which the log tells shorter."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `text`, unless Ray's thread does."""
        from_ray = threading.current_thread().name.startswith("ray_")
        return len(text) if from_ray else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _connect(ray: Any, settings: ClusterSettings, share: int) -> None:
    address = settings.address
    if address and address != "auto":
        _require_listener(address)
    # Ray's own list for workers has the folders of the script and of the process; the package may lie elsewhere.
    job = ray.job_config.JobConfig(_py_driver_sys_path=[str(PACKAGE.parent)])
    options = {"log_to_driver": False, "configure_logging": False, "job_config": job}
    if not address:
        # Whoever names a number gets it, on few cores as well.
        workers = 1 if settings.workers == "auto" else int(settings.workers)
        cpus = max(os.cpu_count() or 1, share * workers * settings.cpus_per_worker)
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES, "num_cpus": cpus}
    logging.getLogger("ray").setLevel(logging.WARNING)
    # It warns that tokens are wanted.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    for left in reversed(range(1 if address else LOCAL_STARTS)):
        try:
            with _signals_kept():
                ray.init(address or "local", **options)
            return
        # Whatever a foreign service, another version or a lacking token does to Ray, the user can mend it or nobody.
        except Exception as error:
            if address:
                raise SetupError(f"no Ray cluster can be joined at {address}: {_first_line(error)}") from error
            if not left:
                raise SetupError(f"Ray does not start on this machine: {_first_line(error)}") from error
            logger.warning("Ray did not start, and is started once more: %s", _first_line(error))
            ray.shutdown()


def _require_listener(address: str) -> None:
    # Ray itself waits for minutes, and ends the process then.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise SetupError(f"nobody answers at {address} (--ray_address): {reason}; is that Ray's head?") from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Within, others may set handlers of signals; those from before are put back, in the main thread."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Board:
    """An actor of its own: which stage each worker is at, since a worker answers nothing while it works."""

    def __init__(self):
        self._stages: dict[int, str] = {}

    def note(self, slot: int, stage: str) -> None:
        """The worker of a slot begins a stage."""
        self._stages[slot] = stage

    def stages(self) -> dict[int, str]:
        """The last stage of each slot."""
        return self._stages


class RayPerformer(Performer):
    """Performer as an actor."""

    def __init__(self, board: Any, slot: int):
        import ray

        gpus = [str(number) for number in ray.get_gpu_ids()]
        super().__init__(lambda stage: board.note.remote(slot, stage), gpus)


class RayActors:
    """Workers as Ray's actors; see `pool.Actors`.

    Raises: SetupError where no worker could ever have a place.
    """

    def __init__(self, ray: Any, settings: ClusterSettings, device: str):
        self._ray, self._settings = ray, settings
        self._gpus = self._gpus_per_worker(device)
        if not settings.address and self._gpus > self._resource("GPU"):
            raise SetupError(
                f"a worker needs {self._gpus:g} GPU(s) and Ray finds {self._resource('GPU'):g} on this machine; pass "
                "--gpus_per_worker, or --device cpu to compute without"
            )
        once = {"max_restarts": 0, "max_task_retries": 0}
        cpus = {"num_cpus": settings.cpus_per_worker}
        self._performer = ray.remote(num_gpus=self._gpus, **cpus, **once)(RayPerformer)
        self._preparer = ray.remote(num_gpus=0, **cpus, **once)(RayPerformer)
        self._board = ray.remote(num_cpus=0, **once)(Board).remote()
        self._stages: dict[int, str] = {}
        self._asked = None

    def _resource(self, name: str) -> float:
        return self._ray.cluster_resources().get(name, 0.0)

    def _gpus_per_worker(self, device: str) -> float:
        if device == "cpu":
            return 0.0
        if self._settings.gpus_per_worker is not None:
            return self._settings.gpus_per_worker
        if self._resource("GPU"):
            return 1.0
        if device.startswith("cuda"):
            raise SetupError(
                f"--device {device}, but the cluster has no GPU now; pass --gpus_per_worker 1 to wait for one"
            )
        return 0.0

    def room(self) -> int:
        """How many workers fit on the machines that are there now; 1 at least."""
        if self._gpus:
            return max(1, int(self._resource("GPU") / self._gpus))
        return max(1, int(self._resource("CPU") / self._settings.cpus_per_worker))

    def start(self, slot: int) -> Any:
        """Asks for an actor."""
        return self._performer.remote(self._board, slot)

    def start_preparer(self, number: int) -> Any:
        """Asks for an actor without a GPU; what it is at, nobody is shown."""
        return self._preparer.remote(self._board, -1 - number)

    def ask(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Calls a method of an actor."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """The tickets that are answered."""
        return (
            self._ray.wait(list(tickets), num_returns=len(tickets), timeout=0)[0]
            or (self._ray.wait(list(tickets), timeout=seconds)[0])
        )

    def answer(self, ticket: Any) -> Answer:
        """Raises: WorkerLost."""
        try:
            return self._ray.get(ticket)
        # An answer of another version of this program may not even be readable.
        except Exception as error:
            logger.debug("%s", error)
            raise WorkerLost(self._in_words(error)) from error

    def _in_words(self, error: Exception) -> str:
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.OutOfMemoryError):
            return "Ray ended the worker, since the memory of its machine was used up"
        text = str(error)
        if isinstance(error, exceptions.ActorUnavailableError):
            return "the worker cannot be reached"
        if isinstance(error, exceptions.ActorDiedError) and "node" in text and "died" in text.partition("node")[2]:
            return "the worker's machine was lost"
        if isinstance(error, exceptions.ActorDiedError) and "worker process has died" in text:
            return "the worker's process was killed or crashed"
        return f"{type(error).__name__}: {_first_line(error)}"

    def end(self, worker: Any) -> None:
        """Ends an actor."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)

    def stages(self) -> dict[int, str]:
        """The last stage of each slot that is known; never waits."""
        if self._asked is None:
            self._asked = self._board.stages.remote()
        elif self._ray.wait([self._asked], timeout=0)[0]:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._stages = self._ray.get(self._asked)
            self._asked = None
        return self._stages


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""A whole run on workers: Ray begun, items done, Ray ended."""

from collections.abc import Callable
from typing import Any

from mimicmotion.cluster.performer import Work
from mimicmotion.cluster.pool import Ahead, Pool
from mimicmotion.cluster.queue import Outcomes
from mimicmotion.cluster.ray_actors import RayActors, ray_session
from mimicmotion.cluster.telling import Telling
from mimicmotion.config import Config


def run_on_workers(
    config: Config,
    outcomes: Outcomes,
    make: Callable[..., Work],
    arguments: tuple,
    fingerprint: dict[str, str],
    settled: Callable[[Any], None],
    ahead: Ahead | None = None,
) -> int:
    """Does all outcomes, begun in their order; 0 where each has ended, well or badly, 3 where no worker is left, 130
    interrupted.

    Args:
        outcomes: with `job`, `status`, `message`, `seconds` and `where`; workers get copies, and these are changed.
        make: a function of a module, called in each worker with `arguments`.
        fingerprint: that of this machine; workers with another one are refused.
        settled: told of each outcome that has ended.
        ahead: what prepares the next outcomes on processors, as `make` and `arguments`, and how many for each worker.

    Raises: SetupError where Ray is absent or cannot be joined, or no worker can ever have a place.
    """
    with ray_session(config.cluster, 2 if ahead else 1) as ray:
        actors = RayActors(ray, config.cluster, config.runtime.device)
        with Telling(len(outcomes), actors.stages) as telling:
            tell = telling.tell
            pool = Pool(actors, config.cluster, outcomes, make, arguments, fingerprint, settled, tell, ahead=ahead)
            return pool.run()

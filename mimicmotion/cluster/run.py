"""A whole run on workers: Ray begun, items done, Ray ended."""

from collections.abc import Callable
from typing import Any

from mimicmotion.cluster.performer import Work
from mimicmotion.cluster.pool import Pool
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
) -> int:
    """Does all outcomes, begun in their order; 0 where each has ended, well or badly, 3 where no worker is left, 130
    interrupted.

    Args:
        outcomes: with `job`, `status`, `message`, `seconds` and `where`; workers get copies, and these are changed.
        make: a function of a module, called in each worker with `arguments`.
        fingerprint: that of this machine; workers with another one are refused.
        settled: told of each outcome that has ended.

    Raises: SetupError where Ray is absent or cannot be joined, or no worker can ever have a place.
    """
    with ray_session(config.cluster) as ray:
        actors = RayActors(ray, config.cluster, config.runtime.device)
        with Telling(len(outcomes), actors.stages) as telling:
            return Pool(actors, config.cluster, outcomes, make, arguments, fingerprint, settled, telling.tell).run()

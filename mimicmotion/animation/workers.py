"""Jobs on Ray workers instead of in this process: what each worker makes them with, and what all must agree in."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.memory import plan_tile
from mimicmotion.config import Config
from mimicmotion.errors import UsageError
from mimicmotion.files import remove_stale_temporaries, sha256_json
from mimicmotion.places import PACKAGE
from mimicmotion.results import Job, versions

logger = logging.getLogger(__name__)


def uses_workers(config: Config) -> bool:
    """Whether jobs are for Ray workers. Raises: UsageError for a cluster that is named, and workers that are not."""
    if config.cluster.workers is None and config.cluster.address is not None:
        raise UsageError(
            "--ray_address (cluster.address) names a cluster for workers; pass --workers N or auto as well"
        )
    return config.cluster.workers is not None


class AnimatorWork:
    """What a worker does, made of animators; see `cluster.Work`.

    Args:
        animators: all that may be asked for.
        do: does one outcome.
        animator_of: which animator it does it with.
        is_finished: whether `do` would skip it, and so needs no networks.
    """

    def __init__(
        self,
        animators: Sequence[Animator],
        do: Callable[[Outcome], None],
        animator_of: Callable[[Outcome], Animator],
        is_finished: Callable[[Outcome], bool],
    ):
        self.animators, self.do = animators, do
        self._animator_of, self._is_finished = animator_of, is_finished
        self._loaded = animators[0].models

    @classmethod
    def of_batch(cls, animator: Animator) -> "AnimatorWork":
        """One animator for all jobs."""
        return cls([animator], animator.animate, lambda _: animator, lambda outcome: animator.is_finished(outcome.job))

    def fingerprint(self) -> dict[str, str]:
        """As `fingerprint`."""
        return fingerprint(self.animators)

    def is_ready(self, outcome: Outcome) -> bool:
        """Whether the outcome's networks are loaded, or are not needed."""
        return self._animator_of(outcome).models.is_loaded or self._is_finished(outcome)

    def load(self, outcome: Outcome) -> None:
        """Loads the outcome's networks. Raises: SetupError or UsageError where that cannot be done."""
        models = self._animator_of(outcome).models
        models.resolve()
        # What is too large for the card fails in its turn.
        with contextlib.suppress(UsageError):
            plan_tile(models, outcome.job.case)
        self._loaded = models
        _ = models.pipeline

    def device(self) -> str:
        """What the networks that were loaded last compute on."""
        from mimicmotion.device import describe_device

        return describe_device(self._loaded.device)


def fingerprint(animators: Sequence[Animator]) -> dict[str, str]:
    """What machines must agree in to make the same results: weights, detector, packages and this program's own code.

    Raises: SetupError where weights or the detector's files are missing.
    """
    weights = [animator.models.weights for animator in animators]
    detectors = sorted({animator.models.detector_fingerprint for animator in animators})
    return {"weights": sha256_json(weights)[:12], "detector": "; ".join(detectors), **same_program()}


def same_program() -> dict[str, str]:
    """What machines must agree in whatever they do: packages and this program's own code."""
    return {"code": own_code()} | {f"package {name}": version for name, version in versions().items()}


def own_code() -> str:
    """A hash of this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def batch_work(config: Config) -> AnimatorWork:
    """What a worker of the turbo run does."""
    return AnimatorWork.of_batch(Animator(config))


def run_all_on_workers(
    config: Config,
    outcomes: Sequence[Outcome],
    agreed: dict[str, str],
    make: Callable[..., AnimatorWork],
    arguments: tuple,
    settled: Callable[[Outcome], None],
    folders: Iterable[str | Path],
) -> int:
    """As `run_all`, on Ray workers, which begin outcomes in their order. Skipped ones stay as they
    are; without others Ray is not started.

    Args:
        agreed: the `fingerprint` of this process, which workers must have too.
        make, arguments: what each worker makes its work with; `make` is a function of a module.
        settled: told of each outcome that has ended.
        folders: where results are written, for what workers that were killed left there.

    Raises: SetupError as `run_on_workers`.
    """
    from mimicmotion.cluster import run_on_workers

    for outcome in outcomes:
        if outcome.status == "skipped":
            settled(outcome)
    left = [outcome for outcome in outcomes if outcome.status != "skipped"]

    def tell(outcome: Outcome) -> None:
        place = ", ".join(f"{name} {outcome.where[name]}" for name in ("host", "gpu") if name in outcome.where)
        level = logging.ERROR if outcome.status == "failed" else logging.INFO
        logger.log(level, "%s: %s (%s) %s", outcome.job.name, outcome.status, place, outcome.message)
        settled(outcome)

    try:
        code = run_on_workers(config, left, make, arguments, agreed, tell) if left else 0
    finally:
        for folder in folders:
            remove_stale_temporaries(folder)
    return code or int(any(outcome.status == "failed" for outcome in outcomes))


def video_bytes(job: Job) -> int:
    """How large a driving video is; a guess at how long it takes."""
    with contextlib.suppress(OSError):
        if os.path.isdir(job.video):
            return sum(entry.stat().st_size for entry in os.scandir(job.video))
        return os.stat(job.video).st_size
    return 0

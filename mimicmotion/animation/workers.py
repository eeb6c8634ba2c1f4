"""Jobs on Ray workers instead of in this process: what each worker makes them with, and what all must agree in."""

import contextlib
import copy
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Animator, Outcome
from mimicmotion.animation.memory import plan_tile
from mimicmotion.animation.outcomes import Turns
from mimicmotion.config import Config
from mimicmotion.errors import UsageError
from mimicmotion.files import remove_stale_temporaries, sha256_json
from mimicmotion.places import PACKAGE
from mimicmotion.results import versions

logger = logging.getLogger(__name__)


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
    outcomes: Sequence[Outcome] | Turns,
    agreed: dict[str, str],
    make: Callable[..., AnimatorWork],
    arguments: tuple,
    settled: Callable[[Outcome], None],
    folders: Iterable[str | Path],
    ahead: tuple | None = None,
) -> int:
    """As `run_all`, on Ray workers, which begin outcomes in their order; without any Ray is not started.

    Args:
        agreed: the `fingerprint` of this process, which workers must have too.
        make, arguments: what each worker makes its work with; `make` is a function of a module.
        settled: told of each outcome that has ended.
        folders: where results are written, for what workers that were killed left there.
        ahead: of `poses_ahead`.

    Raises: SetupError as `run_on_workers`.
    """
    from mimicmotion.cluster import run_on_workers

    failed = False

    def tell(outcome: Outcome) -> None:
        nonlocal failed
        failed = failed or outcome.status == "failed"
        place = ", ".join(f"{name} {outcome.where[name]}" for name in ("host", "gpu") if name in outcome.where)
        level = logging.ERROR if outcome.status == "failed" else logging.INFO
        logger.log(level, "%s: %s (%s) %s", outcome.job.name, outcome.status, place, outcome.message)
        settled(outcome)

    try:
        code = run_on_workers(config, outcomes, make, arguments, agreed, tell, ahead) if len(outcomes) else 0
    finally:
        for folder in folders:
            remove_stale_temporaries(folder)
    return code or int(failed)


def poses_ahead(animator: Animator, make: Callable[[Config], AnimatorWork] | None) -> tuple | None:
    """What finds the poses of the next jobs on processors, as many for each worker as `batch.prefetch` says; None
    where that is none, or nobody could find them there, which the log says.

    make: what makes the work that finds them, a function of a module; None where nothing keeps them.
    """
    config = animator.config
    if not config.batch.prefetch:
        return None
    why = _why_not_ahead(animator, make)
    if why:
        logger.warning("--prefetch: workers find their poses themselves, since %s", why)
        return None
    config = copy.deepcopy(config)
    config.runtime.device = "cpu"
    return make, (config,), config.batch.prefetch


def _why_not_ahead(animator: Animator, make: object) -> str:
    config = animator.config
    if make is None or not config.feature_cache.enabled:
        return "only a feature cache would bring them from one process to another"
    if config.feature_cache.force_refresh:
        return "nothing is taken from the feature cache (--feature_cache_force_refresh)"
    if config.pose.backend == "file":
        return "they are read from files"
    if config.runtime.device != "cpu" and animator.models.backend != "mediapipe":
        return f"{animator.models.backend} finds others on a processor than on a GPU"
    return ""


def still_to_do(outcomes: Sequence[Outcome], settled: Callable[[Outcome], None]) -> list[Outcome]:
    """Those that are not skipped, for `run_all_on_workers`; `settled` is told of the others."""
    for outcome in outcomes:
        if outcome.status == "skipped":
            settled(outcome)
    return [outcome for outcome in outcomes if outcome.status != "skipped"]

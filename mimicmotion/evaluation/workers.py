"""Clips measured on Ray workers: what one does, and what all must agree in. Numbers go to the shared disk."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from mimicmotion.animation import run_all_on_workers, same_program
from mimicmotion.config import Config
from mimicmotion.evaluation.kept import FOLDER, Kept
from mimicmotion.evaluation.measuring import Evaluation, ItemOutcome
from mimicmotion.files import sha256_json


class EvaluationWork:
    """What a worker does with clips; see `cluster.Work`."""

    def __init__(self, evaluation: Evaluation):
        self._evaluation, self._opened = evaluation, False

    def fingerprint(self) -> dict[str, str]:
        """As `fingerprint`."""
        return fingerprint(self._evaluation)

    def is_ready(self, outcome: ItemOutcome) -> bool:
        """Whether the instruments are open, or are not needed."""
        return self._opened or self._evaluation.is_kept(outcome.item)

    def load(self, outcome: ItemOutcome) -> None:
        """Opens the instruments. Raises: SetupError or UsageError where that cannot be done."""
        instruments = self._evaluation.instruments
        instruments.open()
        _ = instruments.encoder
        self._opened = True

    def device(self) -> str:
        """What the instruments compute on."""
        from mimicmotion.device import describe_device

        return describe_device(self._evaluation.instruments.models.device)

    def do(self, outcome: ItemOutcome) -> None:
        """Measures one clip. Raises: as `Evaluation.work`."""
        self._evaluation.work(outcome)


def fingerprint(evaluation: Evaluation) -> dict[str, str]:
    """What machines must agree in to measure the same numbers."""
    return {"instruments": sha256_json(evaluation.instruments.hashes)[:12], **same_program()}


def evaluation_work(config: Config, folder: str) -> EvaluationWork:
    """What a worker measures with; `folder` is where it keeps what it measured."""
    return EvaluationWork(Evaluation(config, Kept(Path(folder))))


def measure_on_workers(evaluation: Evaluation, outcomes: Sequence[ItemOutcome]) -> int:
    """As `run_all`; what is kept is taken here, and the largest of the other clips come first."""
    for outcome in outcomes:
        if evaluation.is_kept(outcome.item):
            evaluation.work(outcome)
    left = [outcome for outcome in outcomes if outcome.status != "done"]
    return run_all_on_workers(
        evaluation.config,
        sorted(left, key=lambda outcome: _bytes(outcome.item.video), reverse=True),
        fingerprint(evaluation),
        evaluation_work,
        (evaluation.config, str(evaluation.kept.folder)),
        lambda outcome: None,
        {evaluation.kept.folder / FOLDER},
    )


def _bytes(video: Path) -> int:
    """A guess at how long a clip takes; what is not there fails in its turn."""
    with contextlib.suppress(OSError):
        return video.stat().st_size
    return 0

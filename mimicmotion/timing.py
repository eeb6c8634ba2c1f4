"""Wall-clock seconds per stage, read only after the device has finished its work."""

import contextlib
import time
from collections.abc import Iterator

from mimicmotion.device import synchronize


class StageClock:
    """Adds up the seconds of named stages.

    Args:
        device: where the work runs.
    """

    def __init__(self, device):
        self._device = device
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block to stage `name`."""
        synchronize(self._device)
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self._device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """Seconds by stage, to the millisecond."""
        return {name: round(seconds, 3) for name, seconds in self.seconds.items()}

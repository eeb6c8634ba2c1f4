"""Finished results known by the seals in a manifest instead of by reading them, whatever kind of result it is."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimicmotion.errors import MimicMotionError
from mimicmotion.files import FINE_TICK_NS
from mimicmotion.results.manifest import Manifest, Seal


class Sealing(ABC):
    """Looks results up in `manifest` and notes those that were made. Each kind says how one is sealed and read.

    again: what is finished is made again, so that none is.
    """

    def __init__(self, manifest: Manifest, again: bool):
        self.manifest, self._again = manifest, again
        self._made: list[Any] = []

    @abstractmethod
    def output(self, item: Any) -> Path:
        """The result's own file."""

    @abstractmethod
    def seal(self, item: Any) -> Seal | None:
        """The seal of the result as its files are now, as `seal_result`. Raises: MimicMotionError."""

    @abstractmethod
    def is_whole(self, item: Any) -> bool:
        """Whether its content says that the result is finished. Raises: MimicMotionError."""

    def holds(self, item: Any) -> bool:
        """Whether the result is finished, by its seal alone."""
        return self._counts(self.seal(item))

    def is_finished(self, item: Any) -> bool:
        """Whether it is finished, by its seal or by its content; it is sealed then. False for one that fails."""
        try:
            seal = self.seal(item)
            if self._counts(seal):
                return True
            finished = not self._again and self.is_whole(item)
        except MimicMotionError:
            return False
        if finished and seal:
            self.manifest.add(self.output(item), seal)
        return finished

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """A block in which results are made; at its end all seals are on the disk."""
        try:
            yield
        finally:
            if self._made:
                time.sleep(FINE_TICK_NS / 1e9)
                self._seal_made()
            self.manifest.flush(at_once=True)

    def note(self, item: Any) -> None:
        """Notes that a result has just been made; it is sealed when the next one is, or at the end."""
        self._seal_made()
        self._made.append(item)
        self.manifest.flush()

    def _seal_made(self) -> None:
        # What changes a file within a tick of its clock would not show. So a result is sealed when it is older, and
        # its content is looked at once more, after its seal was taken.
        for item in self._made:
            with contextlib.suppress(MimicMotionError, OSError):
                seal = self.seal(item)
                if seal and self.is_whole(item):
                    self.manifest.add(self.output(item), seal)
        self._made.clear()

    def _counts(self, seal: Seal | None) -> bool:
        return not self._again and seal is not None and seal in self.manifest

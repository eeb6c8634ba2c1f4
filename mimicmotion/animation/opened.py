"""What is costly to open and is open; runs of different settings share it where it is the same for them."""

import gc
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from mimicmotion.errors import MimicMotionError


@dataclass
class Networks:
    """A loaded pipeline; `scheduler` is the model's own, and `used_by` whose scheduler it has now."""

    pipeline: Any
    scheduler: Any
    used_by: object = None


class Opened:
    """Networks by what they are loaded from, detectors, and what was chosen.

    Args:
        keep: how many networks stay loaded; the one that was not used for the longest time goes first.
    """

    def __init__(self, keep: int = 1):
        self.keep = keep
        self.failed: dict[str, MimicMotionError] = {}
        self._networks: dict[str, Networks] = {}
        self._made: dict[Hashable, Any] = {}
        self._turn = threading.RLock()  # one result may be written while the next is sampled

    def networks(self, key: str, load: Callable[[], Networks]) -> Networks:
        """The networks of `key`, loaded where they are not.

        Raises: what `load` raises; what cannot be loaded is not tried again, and its reason is in `failed`.
        """
        with self._turn:
            if key in self.failed:
                raise self.failed[key]
            if key in self._networks:
                found = self._networks.pop(key)
            else:
                self._make_room()
                found = self._loaded(key, load)
            self._networks[key] = found  # the last is the one that was used last
            return found

    def holds(self, key: str) -> bool:
        """Whether the networks of `key` are loaded, or are known not to load."""
        return key in self._networks or key in self.failed

    def _loaded(self, key: str, load: Callable[[], Networks]) -> Networks:
        try:
            return load()
        except MimicMotionError as error:
            self.failed[key] = error
            raise

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made when `key` was asked for first."""
        with self._turn:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def forget(self, key: Hashable) -> None:
        """Lets go of what was made for `key`; who asks next gets it made anew."""
        self._made.pop(key, None)

    def not_beside(self, key: Callable[[], str]) -> list[Networks]:
        """The loaded networks that do not stay beside those of `key`: these themselves, or those that go for them."""
        if not self._networks:
            return []
        wanted = key()
        if wanted in self._networks:
            return [self._networks[wanted]]
        return list(self._networks.values())[: len(self._networks) - self.keep + 1]

    def drop(self, key: str) -> None:
        """Lets go of the networks of `key`, where they are loaded."""
        if self._networks.pop(key, None):
            _give_memory_back()

    def _make_room(self) -> None:
        if len(self._networks) >= self.keep:
            while len(self._networks) >= self.keep:
                self._networks.pop(next(iter(self._networks)))
            _give_memory_back()


def _give_memory_back() -> None:
    import torch

    # A pipeline is part of circles: until they are found its memory is not free.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

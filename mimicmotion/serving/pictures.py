"""First pictures: those that are offered, and those that are sent."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mimicmotion.config import Config
from mimicmotion.errors import InputError
from mimicmotion.places import find
from mimicmotion.streaming import StreamingGenerator, load_image

LARGEST_PICTURE = 16 * 10**6  # bytes
MOST_PIXELS = 64 * 10**6  # of a picture that was sent; 4 bytes each while it is read
FOLDER = "assets/streaming"
DEFAULT = "default"


class Pictures:
    """Gives pictures as the generator takes them, uint8 (height, width, 3). To be used in one thread."""

    def __init__(self, generator: StreamingGenerator, config: Config) -> None:
        self._generator, self._config = generator, config
        image = find(config.streaming.image)
        others = (path for path in sorted(find(FOLDER).glob("*.png")) if not image.samefile(path))
        self._paths = {DEFAULT: image} | {path.stem: path for path in others}
        self._taken: dict[str, np.ndarray] = {}

    def listing(self) -> list[dict[str, str]]:
        """Id and name of each."""
        return [{"id": name, "name": path.stem.replace("_", " ")} for name, path in self._paths.items()]

    def __call__(self, name: str) -> np.ndarray:
        """The picture with this id. Raises: InputError where there is none, or it cannot be read."""
        if name not in self._paths:
            raise InputError(f"there is no picture {name!r}; there are {', '.join(self._paths)}")
        if name not in self._taken:
            self._taken[name] = self._generator.take_picture(load_image(self._paths[name], self._config.reference))
        return self._taken[name]

    def sent(self, data: bytes) -> np.ndarray:
        """The picture in what somebody sent. Raises: InputError for what is none."""
        reference = self._config.reference
        settings = dataclasses.replace(reference, max_pixels=min(reference.max_pixels, MOST_PIXELS))
        with temporary_file(data) as path:
            try:
                return self._generator.take_picture(load_image(path, settings))
            except InputError as error:
                raise InputError(str(error).replace(str(path), "what was sent")) from error


@contextlib.contextmanager
def temporary_file(data: bytes = b"", suffix: str = "") -> Iterator[Path]:
    """A file with `data` that is gone at the end."""
    descriptor, name = tempfile.mkstemp(suffix, "mimicmotion-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)

"""What an evaluation has made and measured so far: one folder for each clip, frames as npz, numbers as JSON.

Each file says what it depends on; a damaged one, or one of another recipe or instrument, counts as absent.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.files import SEAL, atomic_path, is_sealed, read_record, sealed, sha256_json, write_json


@dataclass(frozen=True)
class KeptResults:
    """The results below `folder`/clips.

    Attributes:
        recipes: way -> hash of all that its frames depend on but the clip.
        instruments: hash of all that the numbers depend on but the frames.
    """

    folder: Path
    recipes: dict[str, str]
    instruments: str

    def path(self, way: str, seed: int, suffix: str) -> Path:
        """Where a result is kept."""
        return self.folder / "clips" / str(seed) / f"{way}{suffix}"

    def save_frames(self, way: str, seed: int, frames: np.ndarray, seconds: float) -> None:
        """Keeps the frames, uint8, of one clip made in one way."""
        facts = {"seconds": np.float64(seconds), "recipe": np.str_(self.recipes[way])}
        with atomic_path(self.path(way, seed, ".npz")) as temporary:
            np.savez_compressed(temporary, frames=frames, **facts)

    def frames(self, way: str, seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, float] | None:
        """(frames, seconds it took) of one clip; None where they have to be made."""
        try:
            with np.load(self.path(way, seed, ".npz"), allow_pickle=False) as kept:
                frames, seconds, made_from = kept["frames"], float(kept["seconds"]), str(kept["recipe"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        fits = made_from == self.recipes[way] and frames.shape == shape and frames.dtype == np.uint8
        return (frames, seconds) if fits else None

    def save_numbers(self, way: str, seed: int, numbers: dict[str, float]) -> None:
        """Keeps what was measured of one clip made in one way."""
        write_json(self.path(way, seed, ".json"), sealed({"measured": self._measured(way), "numbers": numbers}))

    def numbers(self, way: str, seed: int) -> dict[str, float] | None:
        """What was measured; None where it has to be measured."""
        try:
            kept = read_record(self.path(way, seed, ".json"))
        except InputError:
            return None
        if not kept or kept.get("measured") != self._measured(way) or (SEAL in kept and not is_sealed(kept)):
            return None
        return kept.get("numbers")

    def _measured(self, way: str) -> str:
        return sha256_json([self.recipes[way], self.instruments])

"""What was measured of each clip, a file for each, called by all that the numbers depend on.

An evaluation that was stopped finds what it had; shards that write into one folder find each other's; a clip, an input
or an instrument that changed has another name. A damaged file counts as absent.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.errors import InputError
from mimicmotion.files import is_sealed, read_record, sealed, sha256_json, write_bytes, write_json
from mimicmotion.results import describe_file, difference

VERSION = 1  # of the way clips are measured; another number makes what is kept void
FOLDER = "clips"


@dataclass(frozen=True)
class Kept:
    """The clips below `folder`."""

    folder: Path

    def path(self, key: dict, suffix: str = ".json") -> Path:
        """Where the clip of a key is kept."""
        return self.folder / FOLDER / f"{_name(key)}{suffix}"

    def save(self, key: dict, facts: dict, strip: bytes) -> None:
        """Keeps numbers and pictures of a clip. Raises: SetupError."""
        picture = self.path(key, ".jpg")
        write_bytes(picture, strip)
        write_json(self.path(key), sealed({"key": _name(key), "strip": describe_file(picture), **facts}))

    def load(self, key: dict) -> dict | None:
        """What was kept; None where the clip has to be measured."""
        with contextlib.suppress(InputError):
            found = read_record(self.path(key))
            if found and is_sealed(found) and found.get("key") == _name(key):
                return found if not difference(self.path(key, ".jpg"), found.get("strip")) else None
        return None


def _name(key: dict) -> str:
    return sha256_json({"version": VERSION} | key)[:40]

"""The files that belong to a result: what its record says of each, and whether they still are what it says."""

import os
import stat
from pathlib import Path

from mimicmotion.errors import InputError
from mimicmotion.files import content_sha256


def describe_file(path: Path) -> dict:
    """What a record says of a file: {"bytes": size, "sha256": hexadecimal digits}. Raises: OSError."""
    return {"bytes": path.stat().st_size, "sha256": content_sha256(path)}


def difference(path: Path, described: object) -> str:
    """Why the file is not the one that `describe_file` described, in words; "" where it is.

    The content is hashed each time: dates lie once a folder was copied, and a damaged disk changes none. Hashing
    costs less than reading, and a file of another size is not read at all.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is no regular file"
        if not isinstance(described, dict):
            return "its record says nothing of it"
        if status.st_size != described.get("bytes", status.st_size):
            return f"it has {status.st_size} bytes, not those that were written"
        return "" if content_sha256(path) == described.get("sha256") else "its content is not what was written"
    except FileNotFoundError:
        return "it is missing"
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"


def require_places(*paths: Path) -> None:
    """Raises: InputError for the first path that a file cannot be written to, since a folder or a pipe is there."""
    for path in paths:
        # os.path answers where pathlib raises, as for a link that leads to itself.
        if os.path.exists(path) and not os.path.isfile(path):
            kind = "a folder" if os.path.isdir(path) else "no regular file"
            raise InputError(f"{path} is {kind}, where a result is to be written; move it away or choose another place")

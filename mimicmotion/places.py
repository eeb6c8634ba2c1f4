"""Where files are looked for that a setting names: the working directory, then beside the package.

Configurations and the embedded models come with the package: in a source checkout they lie beside it, an installed
wheel holds them inside it, at the same relative paths.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# Only an installed package holds the configurations itself.
HOME = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent


def find(path: str | Path) -> Path:
    """`path` as it is where it exists, seen from the working directory, or where it does not exist beside the package
    either; else the path beside the package, absolute.
    """
    # A hub id, or a text too long for a name, is simply not there.
    beside = HOME / path
    return beside if not os.path.exists(path) and os.path.exists(beside) else Path(path)


def looked_for(path: str | Path) -> str:
    """`path` for a message that it was not found, with both places where a relative one was looked for."""
    path = Path(path)
    if path.is_absolute() or Path.cwd() == HOME:
        return str(path)
    return f"{path} (neither in {Path.cwd()} nor in {HOME})"

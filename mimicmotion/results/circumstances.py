"""What a person asks of a result a week later: which command made it, where, when, on what, from which code."""

import functools
import os
import platform
import socket
import subprocess
from datetime import datetime
from pathlib import Path

from mimicmotion.cli import command_line
from mimicmotion.config import Config, different_settings
from mimicmotion.places import PACKAGE

GIT_SECONDS = 5.0  # a repository on a slow network drive must not hold up a run


def provenance(config: Config) -> dict:
    """Plain values: command (words, empty where Python code called), folder, date, settings that differ from the
    defaults by path, code, machine. Nothing of the environment but what is named here.
    """
    return {
        "date": now(),
        "command": command_line(),
        "folder": os.getcwd(),
        "different_settings": different_settings(config),
        "code": dict(code_version()),
        "machine": machine(),
    }


def now() -> str:
    """Date and time to the second, with the offset of the local time zone, as ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def machine() -> dict:
    """Name, system and processors of this machine."""
    return {"host": socket.gethostname(), "system": platform.platform(), "cpus": os.cpu_count()}


@functools.cache
def code_version() -> tuple[tuple[str, object], ...]:
    """("commit", ...), ("dirty", ...) of the checkout that the package runs from; empty for an installed one."""
    root = PACKAGE.parent
    # An installed package may lie inside somebody else's repository.
    if not (root / ".git").exists():
        return ()
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return ()
    return ("commit", commit), ("dirty", dirty)


def _git(root: Path, *words: str) -> str:
    # Without optional locks a look at the repository disturbs nobody who works in it.
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=GIT_SECONDS).stdout.strip()

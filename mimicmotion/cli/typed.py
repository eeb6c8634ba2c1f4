"""What was typed to start this run, for those who write it down."""

import contextlib
import contextvars
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HIDDEN = "..."
# A word that is followed by a secret, or holds one behind "=".
SECRET = re.compile(r"(token|password|passwd|secret|api_?key|credential)s?$", re.IGNORECASE)
_typed: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("typed", default=())


@contextlib.contextmanager
def started_by(program: str | None, argv: Sequence[str] | None) -> Iterator[None]:
    """Within, `command_line` tells of this command.

    Args:
        program: words such as "mimicmotion turbo"; None is the Python script that runs.
        argv: its arguments; None are those of the process.
    """
    words = program.split() if program else [sys.executable, sys.argv[0]]
    if program and Path(sys.argv[0]).parts[-2:] == ("mimicmotion", "__main__.py"):
        words = [sys.executable, "-m", *words]  # the console program need not be installed
    token = _typed.set((*words, *(sys.argv[1:] if argv is None else argv)))
    try:
        yield
    finally:
        _typed.reset(token)


@contextlib.contextmanager
def started_as(words: Sequence[str]) -> Iterator[None]:
    """Within, `command_line` tells of these words, which it told in the process that this one works for."""
    token = _typed.set(tuple(words))
    try:
        yield
    finally:
        _typed.reset(token)


def command_line() -> list[str]:
    """The words of the command that runs, secrets in its arguments hidden; empty where Python code called."""
    hidden, follows = [], False
    for word in _typed.get():
        name, separator, _ = word.partition("=")
        if follows and not word.startswith("--"):
            hidden.append(HIDDEN)
        else:
            hidden.append(f"{name}={HIDDEN}" if separator and SECRET.search(name) else word)
        follows = not separator and word.startswith("--") and bool(SECRET.search(word))
    return hidden

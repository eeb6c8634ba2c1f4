"""Actions that lie ready: the bench sequence, a script, or a file of either notation, of a session or of its record.

What a file is shows in its content, whatever it is called.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import SEAL, is_sealed, read_record, why_no_file
from mimicmotion.streaming.action_runs import read_runs
from mimicmotion.streaming.actions import ActionMode, Actions, bench_actions, frames_of, join, parse_script
from mimicmotion.streaming.session_log import actions_of, is_session_log, read_log

logger = logging.getLogger(__name__)

BENCH = "bench"
LONGEST_SCRIPT = 2**20  # characters


def planned_frames(text: str, mode: ActionMode, seed: int) -> tuple[Iterator[Actions], int | None]:
    """The action frames that `text` names one by one, and how many they are: None for bench, without end.

    text: "bench", drawn from `seed`; a script; or a file with a script, a session's log, or the record (.json) beside a
    session's videos.

    Raises: UsageError for what is malformed, cannot be read or belongs to another mode.
    """
    if text == BENCH:
        return bench_actions(mode, seed), None
    actions = _read_file(Path(text), mode) if _is_file(text) else parse_script(mode, text)
    return frames_of(actions), len(actions)


def _is_file(text: str) -> bool:
    """Whether a file is meant. Raises: UsageError for one that is not there."""
    if os.path.exists(text):  # a long script is no possible file name
        return True
    if {".", "/", os.sep} & set(text) and "#" not in text:  # a comment may have them, keys have not
        raise UsageError(f"--actions: there is no file {text}, and no action script has such signs; write W*12 W+L*24")
    return False


def _read_file(path: Path, mode: ActionMode) -> Actions:
    beginning = _read_text(path, 80, cut=True)
    if is_session_log(beginning):
        return _read_session(path, mode)
    if beginning.lstrip("\ufeff").lstrip().startswith("{"):
        return _read_record(path, mode)
    try:
        return parse_script(mode, _read_text(path, LONGEST_SCRIPT))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read_session(path: Path, mode: ActionMode) -> Actions:
    try:
        log = read_log(path)
    except InputError as error:
        raise UsageError(str(error)) from error
    _require_mode(path, log.header.mode.name, mode)
    if not log.blocks:
        raise UsageError(f"{path} is the log of a session without a block")
    return join(actions_of(log))


def _read_record(path: Path, mode: ActionMode) -> Actions:
    try:
        record = read_record(path) or {}
        if not {"mode", "actions"} <= set(record):
            raise UsageError(f"{path} is no record of a session: it names no mode and no actions")
        _require_mode(path, record["mode"], mode)
        actions = read_runs(mode, record["actions"])
    except (InputError, ValueError) as error:
        raise UsageError(f"the actions in {path} cannot be used: {error}") from error
    if SEAL in record and not is_sealed(record):
        logger.warning("%s is not as it was written; its actions are taken as they stand", path)
    return actions


def _require_mode(path: Path, found: object, mode: ActionMode) -> None:
    if found != mode.name:
        raise UsageError(f"{path} has actions of mode {found}, the world model takes those of {mode.name}")


def _read_text(path: Path, longest: int, cut: bool = False) -> str:
    """The text of a file that has at most `longest` characters, or with `cut` so many of its first."""
    if reason := why_no_file(path):
        raise UsageError(f"{path} {reason}; give an action script, or a file with one")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(longest + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the action script {path}: {error}") from error
    if len(text) > longest and not cut:
        raise UsageError(f"{path} has more than {longest} characters, which is no action script")
    return text

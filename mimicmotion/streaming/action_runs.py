"""Action frames as records and logs have them: runs of equal frames, how many and the numbers of one.

A run is {"frames": 12, "keyboard": [1.0, 0.0, 0.0, 0.0], "mouse": [0.0, 0.1]}, with null for the mouse where a mode has
none. A log names the keys too, for people; the numbers decide.
"""

import numpy as np

from mimicmotion.config import shortened
from mimicmotion.streaming.actions import MOST_FRAMES, ActionMode, Actions, join

LARGEST = 1000.0  # of any number of an action; a key is 0 or 1, a frame's mouse mostly below 1


def runs_of(actions: Actions, mode: ActionMode | None = None) -> list[dict]:
    """The runs of `actions`; with the names of the keys where a `mode` says them."""
    runs: list[dict] = []
    mice = [None] * len(actions) if actions.mouse is None else actions.mouse.tolist()
    for keyboard, mouse in zip(actions.keyboard.tolist(), mice, strict=True):
        numbers = {"keyboard": keyboard, "mouse": mouse}
        if runs and all(runs[-1][name] == value for name, value in numbers.items()):
            runs[-1]["frames"] += 1
        else:
            named = {} if mode is None else {"keys": held_letters(mode, keyboard, mouse)}
            runs.append({"frames": 1} | named | numbers)
    return runs


def held_letters(mode: ActionMode, keyboard: list[float], mouse: list[float] | None) -> str:
    """The letters of the keys that an action comes nearest to; none is no move."""
    held = "".join(letter for letter, column in mode.keys.items() if keyboard[column] > 0)
    for letter, direction in mode.camera.items():
        if any(move * way > 0 for move, way in zip(mouse or (), direction, strict=bool(mouse))):
            held += letter
    return held


def read_runs(mode: ActionMode, runs: object, most: int = MOST_FRAMES) -> Actions:
    """The action frames of `runs`, as JSON gave them.

    Raises: ValueError that says what is wrong: no runs, more than `most` frames in all, or numbers that `mode` has not.
    """
    if not isinstance(runs, list) or not runs:
        raise ValueError('"actions" is no list of runs such as {"frames": 12, "keyboard": [...], "mouse": [...]}')
    read, total = [], 0
    for run in runs:
        frames = run.get("frames") if isinstance(run, dict) else None
        if type(frames) is not int or not 1 <= frames <= most - total:
            raise ValueError(f'"frames" of a run is {shortened(repr(frames))}; it is 1 to {most - total} here')
        keyboard, mouse = run.get("keyboard"), run.get("mouse")
        action = Actions(
            _numbers(keyboard, mode.keyboard_dim, f'"keyboard" of mode {mode.name}'),
            _numbers(mouse, 2, f'"mouse" of mode {mode.name}') if mode.has_mouse else None,
        )
        if not mode.has_mouse and mouse is not None:
            raise ValueError(f'mode {mode.name} has no mouse, so "mouse" is null')
        read.append(action.repeat(frames))
        total += frames
    return join(read)


def require_bounded(actions: Actions) -> None:
    """Raises: ValueError for numbers that `read_runs` would not take."""
    for numbers in (actions.keyboard, actions.mouse):
        if numbers is not None and not (np.abs(numbers) <= LARGEST).all():
            raise ValueError(f"the numbers of an action are finite and at most {LARGEST:g}")


def _numbers(values: object, count: int, what: str) -> np.ndarray:
    """float32 (1, count)."""
    whole = isinstance(values, list) and len(values) == count
    # NaN is not at most anything.
    if not whole or not all(type(value) in (int, float) and abs(value) <= LARGEST for value in values):
        raise ValueError(f"{what} is {shortened(repr(values))}; it is {count} numbers, at most {LARGEST:g} large")
    return np.array([values], np.float32)

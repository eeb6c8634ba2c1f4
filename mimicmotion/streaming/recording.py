"""A session's videos and its log: frames go to disk block by block, clean and with the keys drawn in."""

import contextlib
from pathlib import Path

import numpy as np

from mimicmotion.cli import interrupts_deferred
from mimicmotion.errors import MimicMotionError
from mimicmotion.streaming.actions import ActionMode, Actions
from mimicmotion.streaming.overlay import Overlay
from mimicmotion.streaming.session_log import ENDING, SessionLog
from mimicmotion.video import VideoWriter


class Recording:
    """Writes `<stem>.mp4` and `<stem>_icon.mp4` into `folder`, both complete when the `with` block ends.

    Memory stays flat in the number of frames. An error that leaves the block leaves no file; so does a recording
    without a frame. Who ends a session early and wants its video handles the interrupt within the block.

    log: where it is set, added blocks are noted in it, and it lies beside the videos as `<stem>.session.jsonl`.
    """

    def __init__(self, folder: str | Path, stem: str, mode: ActionMode, fps: float, crf: int) -> None:
        self.clean_path, self.icon_path, self.current_path = (
            Path(folder) / f"{stem}{suffix}.mp4" for suffix in ("", "_icon", "_current")
        )
        self.log_path = Path(folder) / f"{stem}{ENDING}"
        self.log: SessionLog | None = None
        self.frames = 0
        self.actions_taken: list[dict] = []  # runs of equal frames: how many, keyboard and mouse values
        self._fps, self._crf = fps, crf
        self._overlay = Overlay(mode)
        self._stack = contextlib.ExitStack()
        self._writers: list[VideoWriter] = []

    def __enter__(self) -> "Recording":
        self._stack.__enter__()
        return self

    def __exit__(self, *error) -> bool | None:
        with interrupts_deferred():
            handled = self._stack.__exit__(*error)
            if error[0] is None:
                # Who reports on the videos writes it again; a full disk must not keep a session from being saved.
                with contextlib.suppress(MimicMotionError):
                    self.write_log()
            return handled

    def write_log(self) -> None:
        """Writes the log, where there is one and a frame. Raises: SetupError as `SessionLog.write`."""
        if self.log and self.frames:
            self.log.write(self.log_path)

    def add(self, frames: np.ndarray, actions: Actions) -> None:
        """Appends a block, uint8 (N, H, W, 3) frames and their actions, of one frame or N. Interrupts wait until both
        videos have it.
        """
        with interrupts_deferred():
            self.add_earlier(frames, actions)
            if self.log:
                self.log.add_block(actions, frames)

    def add_earlier(self, frames: np.ndarray, actions: Actions) -> None:
        """As `add`, for a block that the log has already."""
        actions = actions if len(actions) == len(frames) else actions.repeat(len(frames))
        drawn = self._overlay.draw(frames, actions)
        with interrupts_deferred():
            if not self._writers:
                self._writers = [self._open(path) for path in (self.clean_path, self.icon_path)]
            for writer, images in zip(self._writers, (frames, drawn), strict=True):
                writer.write(images)
            self.frames += len(frames)
            self._remember(actions)

    def _remember(self, actions: Actions) -> None:
        mice = [None] * len(actions) if actions.mouse is None else actions.mouse.tolist()
        for keyboard, mouse in zip(actions.keyboard.tolist(), mice, strict=True):
            values = {"keyboard": keyboard, "mouse": mouse}
            last = self.actions_taken[-1] if self.actions_taken else {}
            if {**last, **values} == last:
                last["frames"] += 1
            else:
                self.actions_taken.append({"frames": 1} | values)

    def write_current(self, frames: np.ndarray) -> Path:
        """Writes a block as a video of its own, `<stem>_current.mp4`, replacing the one before."""
        with interrupts_deferred(), VideoWriter(self.current_path, self._fps, crf=self._crf) as writer:
            writer.write(frames)
        return self.current_path

    def _open(self, path: Path) -> VideoWriter:
        return self._stack.enter_context(VideoWriter(path, self._fps, crf=self._crf))

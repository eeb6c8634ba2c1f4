"""Keys and mouse pointer drawn on frames, in the places Matrix-Game-2 draws them, at any size of picture.

Positions are those of a picture of 640 x 352. Smaller pictures are enlarged by a whole factor first, so that the
letters can be read.
"""

import numpy as np

from mimicmotion.streaming.actions import ActionMode, Actions

REFERENCE_WIDTH, REFERENCE_HEIGHT = 640, 352
SMALLEST_WIDTH = 320
PRESSED, RELEASED, LABEL = (0, 255, 0), (200, 200, 200), (0, 0, 0)
PRESSED_ALPHA, RELEASED_ALPHA = 0.8, 0.5
KEY_SIZE = 50
# Label -> left, top, width of its box.
ARROW_KEYS = {"W": (155, 192, 50), "A": (85, 262, 50), "S": (155, 262, 50), "D": (225, 262, 50)}
TURN_KEYS = {"left": (300, 262, 90), "right": (400, 262, 90)}
POINTER_SPEED = (1.5, 6.0)  # reference pixels per frame for yaw 1 and pitch 1
POINTER = ((0, 0), (0, 25), (6, 20), (10, 29), (14, 27), (10, 18), (18, 18))
EDGE = 4


class Overlay:
    """Draws a session's actions. It holds the pointer, so frames must come in order."""

    def __init__(self, mode: ActionMode) -> None:
        self.mode = mode
        self.pointer = np.array([REFERENCE_WIDTH / 2, REFERENCE_HEIGHT / 2])
        self._first = True

    def draw(self, frames: np.ndarray, actions: Actions) -> np.ndarray:
        """frames uint8 (N, H, W, 3) RGB and the action of each -> uint8 (N, k H, k W, 3), k = 1 from 320 pixels on."""
        factor = -(-SMALLEST_WIDTH // frames.shape[2])
        drawn = frames.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else frames.copy()
        for index, frame in enumerate(drawn):
            self._draw_frame(frame, actions, index)
        return drawn

    def _draw_frame(self, frame: np.ndarray, actions: Actions, index: int) -> None:
        mouse = None if actions.mouse is None else actions.mouse[index]
        pressed = pressed_keys(self.mode, actions.keyboard[index], mouse)
        for label, box in key_boxes(self.mode).items():
            _draw_key(frame, label, box, label in pressed)
        if self.mode.name == "universal":
            self._move_pointer(*mouse)
            _draw_pointer(frame, self.pointer)

    def _move_pointer(self, pitch: float, yaw: float) -> None:
        if not self._first:  # the pointer rests on the first frame
            move = np.array([yaw * POINTER_SPEED[0], -pitch * POINTER_SPEED[1]])
            limit = np.array([REFERENCE_WIDTH, REFERENCE_HEIGHT]) - EDGE
            self.pointer = np.clip(self.pointer + move, EDGE, limit)
        self._first = False


def key_boxes(mode: ActionMode) -> dict[str, tuple[int, int, int]]:
    """The keys that are drawn for `mode`: label -> left, top, width in the reference picture."""
    return ARROW_KEYS | TURN_KEYS if mode.name == "templerun" else ARROW_KEYS


def pressed_keys(mode: ActionMode, keyboard: np.ndarray, mouse: np.ndarray | None) -> set[str]:
    """Labels of the keys that one frame's action holds down. Driving shows its steering as A and D."""
    labels = {"Z": "left", "C": "right"}
    pressed = {labels.get(letter, letter) for letter, column in mode.keys.items() if keyboard[column] > 0}
    if mode.name == "gta_drive":
        pressed |= {"A"} if mouse[1] < 0 else {"D"} if mouse[1] > 0 else set()
    return pressed


def _scale(frame: np.ndarray) -> tuple[float, float]:
    return frame.shape[1] / REFERENCE_WIDTH, frame.shape[0] / REFERENCE_HEIGHT


def _draw_key(frame: np.ndarray, label: str, box: tuple[int, int, int], pressed: bool) -> None:
    import cv2

    (sx, sy), (left, top, width) = _scale(frame), box
    x, y = round(left * sx), round(top * sy)
    w, h = round(width * sx), round(KEY_SIZE * sy)
    region = frame[y : y + h, x : x + w]
    mask = _rounded_mask(region.shape[0], region.shape[1], round(10 * min(sx, sy)))
    alpha = (PRESSED_ALPHA if pressed else RELEASED_ALPHA) * mask[..., None]
    region[:] = np.rint((1 - alpha) * region + alpha * np.array(PRESSED if pressed else RELEASED))
    size, thickness = 0.8 * min(sx, sy), max(1, round(2 * min(sx, sy)))
    (text_w, text_h), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    place = (x + (w - text_w) // 2, y + (h + text_h) // 2)
    cv2.putText(frame, label, place, cv2.FONT_HERSHEY_SIMPLEX, size, LABEL, thickness, cv2.LINE_AA)


def _rounded_mask(height: int, width: int, radius: int) -> np.ndarray:
    """float (height, width): 1 within a rectangle with round corners."""
    y, x = np.ogrid[:height, :width]
    dy = np.maximum(0, np.maximum(radius - y, y - (height - 1 - radius)))
    dx = np.maximum(0, np.maximum(radius - x, x - (width - 1 - radius)))
    return (dx**2 + dy**2 <= radius**2).astype(float)


def _draw_pointer(frame: np.ndarray, position: np.ndarray) -> None:
    import cv2

    scale = np.array(_scale(frame))
    outline = np.rint((np.array(POINTER) + position) * scale).astype(np.int32)
    cv2.fillPoly(frame, [outline], (255, 255, 255), cv2.LINE_AA)
    cv2.polylines(frame, [outline], True, (0, 0, 0), 1, cv2.LINE_AA)

"""Keys and pointer: lit where the action says, in the published places, never outside the picture."""

import numpy as np
import pytest

from mimicmotion.streaming.actions import MODES, Actions, encode, get_mode
from mimicmotion.streaming.overlay import POINTER_SPEED, Overlay, key_boxes, pressed_keys

GREY = 90


def frames(n=1, height=352, width=640):
    return np.full((n, height, width, 3), GREY, np.uint8)


def draw(mode, letters, n=1, **size):
    return Overlay(get_mode(mode)).draw(frames(n, **size), encode(get_mode(mode), letters).repeat(n))


@pytest.mark.parametrize(
    "mode, letters, lit",
    [
        ("universal", "WD", {"W", "D"}),
        ("universal", "L", set()),
        ("gta_drive", "WA", {"W", "A"}),
        ("gta_drive", "SD", {"S", "D"}),
        ("templerun", "Z", {"left"}),
        ("templerun", "C", {"right"}),
        ("templerun", "W", {"W"}),
        ("templerun", "", set()),
    ],
)
def test_lit_keys_are_those_held(mode, letters, lit):
    action = encode(get_mode(mode), letters)
    mouse = None if action.mouse is None else action.mouse[0]
    assert pressed_keys(get_mode(mode), action.keyboard[0], mouse) == lit
    drawn = draw(mode, letters)[0]
    for label, (left, top, _) in key_boxes(get_mode(mode)).items():
        red, green, blue = drawn[top + 25, left + 4].astype(int)
        pressed = (18, 222, 18)  # 0.8 of green over grey 90
        released = (145, 145, 145)  # half of 200 over grey 90
        assert (red, green, blue) == (pressed if label in lit else released), label


def test_frames_given_stay_as_they_are():
    given = frames(2)
    draw_on = Overlay(get_mode("universal")).draw(given, encode(get_mode("universal"), "W").repeat(2))
    assert (given == GREY).all()
    assert draw_on.shape == given.shape


def test_only_keys_and_pointer_change():
    drawn = draw("gta_drive", "W")[0]
    touched = np.argwhere((drawn != GREY).any(-1))
    assert touched.min(0).tolist() == [192, 85]
    assert touched.max(0).tolist() == [311, 274]


def test_pointer_moves_by_the_published_steps_and_stays_inside():
    mode = get_mode("universal")
    overlay = Overlay(mode)
    overlay.draw(frames(11), encode(mode, "LI").repeat(11))
    assert overlay.pointer == pytest.approx([320 + 10 * 0.15, 176 - 10 * 0.6])
    assert POINTER_SPEED == (1.5, 6.0)
    for push in (30.0, -30.0):
        fling = Actions(np.zeros((20, 4), np.float32), np.full((20, 2), push, np.float32))
        overlay.draw(frames(20), fling)
        assert (overlay.pointer >= 0).all()
        assert (overlay.pointer < [640, 352]).all()


def test_blocks_go_on_where_the_last_one_ended():
    mode = get_mode("universal")
    whole, parts = Overlay(mode), Overlay(mode)
    actions = encode(mode, "LK")
    expected = whole.draw(frames(21), actions.repeat(21))
    found = [parts.draw(frames(9), actions.repeat(9)), parts.draw(frames(12), actions.repeat(12))]
    assert np.array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("height, width", [(16, 32), (64, 112), (352, 640), (720, 1280)])
def test_any_size_is_drawn(mode, height, width):
    drawn = draw(mode, "W", height=height, width=width)
    factor = drawn.shape[2] // width
    assert drawn.shape[1:3] == (height * factor, width * factor)
    assert drawn.shape[2] >= 320
    assert (factor == 1) == (width >= 320)
    assert (drawn != GREY).any()

"""Walking from tile to tile: where keys lead, which frame decides, and what walls and pillars do."""

import numpy as np
import pytest

from mimicmotion.streaming import encode, get_mode, join
from mimicmotion.worlds import get_walk, hold, is_free
from mimicmotion.worlds.tile_walk import nearest_state, states, step

TILES = get_walk("tiles")
START = np.array([3.0, 3.0, 0.0, 0.0])  # looks to the east
QUARTER = np.radians(90)


def place(x, y, turns=0):
    """A camera that is turned to the left from the east."""
    return np.array([x, y, turns * QUARTER, 0.0])


def part(*held):
    """Keyboard and mouse of (letters, frames)."""
    actions = join(encode(get_mode("universal"), letters).repeat(frames) for letters, frames in held)
    return actions.keyboard, actions.mouse


def after(start, letters):
    keyboard, mouse = part((letters, 1))
    return step(start, keyboard[0], mouse[0])


@pytest.mark.parametrize(
    ("letters", "x", "y", "turns"),
    [
        ("Q", 3, 3, 0), ("W", 5, 3, 0), ("S", 1, 3, 0), ("A", 3, 5, 0), ("D", 3, 1, 0), ("J", 3, 3, 1), ("L", 3, 3, -1),
        ("WL", 3, 3, -1), ("WD", 5, 3, 0), ("SA", 1, 3, 0), ("WS", 3, 3, 0), ("AD", 3, 3, 0), ("I", 3, 3, 0),
    ],
)  # fmt: skip
def test_a_block_is_a_step(letters, x, y, turns):
    assert np.allclose(after(START, letters), place(x, y, turns))


@pytest.mark.parametrize(("turns", "x", "y"), [(0, 5, 3), (1, 3, 5), (2, 1, 3), (3, 3, 1), (-1, 3, 1), (5, 3, 5)])
def test_a_step_follows_the_direction_that_is_looked_in(turns, x, y):
    assert np.allclose(after(place(3, 3, turns), "W"), place(x, y, turns))


def test_a_wall_stops_a_step():
    assert np.array_equal(after(place(1, 3, 2), "W"), place(1, 3, 2))
    assert np.array_equal(after(place(7, 7), "A"), place(7, 7))


def test_no_step_leads_through_a_pillar():
    for start in states():
        for letters in "WSAD":
            assert all(is_free(x, y) for x, y in hold(start, letters, 9, TILES).cameras[:, :2])


def test_the_camera_is_evenly_on_its_way_and_there_at_the_last_frame():
    cameras = hold(START, "L", 33, TILES).cameras
    turned = -cameras[:, 2] / QUARTER
    assert np.allclose(turned[:9], np.arange(9) / 8)
    assert np.allclose(turned[8:21], 1 + np.arange(13) / 12)
    assert np.allclose(turned[20:33], 2 + np.arange(13) / 12)
    assert len(hold(START, "L", 15, TILES).cameras) == 15


def test_the_first_frame_decides():
    late = part(("W", 1), ("S", 8), ("Q", 1), ("A", 11))
    assert np.allclose(TILES.follow_actions(START, *late), TILES.follow_actions(START, *part(("W", 9), ("Q", 12))))


@pytest.mark.parametrize(("mouse", "turns"), [(0.1, 1), (0.03, 1), (0.02, 0), (0.0, 0)])
def test_a_quarter_of_a_mouse_step_turns(mouse, turns):
    assert np.allclose(step(START, np.zeros(4), np.array([0, mouse])), place(3, 3, -turns))


def test_a_block_begins_at_the_nearest_tile_and_is_that_of_a_session():
    whole = hold(START, "W", 21, TILES)
    lost = whole.cameras[8] + np.array([0.2, -0.3, 0.2, 0.05])
    row = (whole.keyboard[8], whole.mouse[8])
    assert np.allclose(TILES.block(lost, row, whole.keyboard[9:], whole.mouse[9:]), whole.cameras[9:])


def test_every_tile_is_free_and_the_nearest_to_itself():
    assert len(states()) == 64
    assert all(is_free(x, y) for x, y, *_ in states())
    assert all(np.array_equal(nearest_state(state + place(0, 0, 4)), state) for state in states()[::7])


def test_a_quarter_turn_takes_its_blocks():
    turned = hold(START, "L", 9 + 12 * (TILES.quarter_turn - 1), TILES).cameras[-1]
    assert np.allclose(turned, place(3, 3, -1))

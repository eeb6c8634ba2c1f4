"""Walking freely: what keys and mouse do, and what walls do to a camera."""

import numpy as np
import pytest

from mimicmotion.streaming import encode, get_mode
from mimicmotion.worlds import draw_session, get_walk, hold, is_free, open_place
from mimicmotion.worlds.courtyard import HIGHEST_PITCH
from mimicmotion.worlds.free_walk import SPEED

START = np.array([3.0, 3.0, 0.3, 0.0])
FREE = get_walk("free")


def moved(key, frames=13):
    """Steps forward, to the right and turned to the left (degrees) from START in a place without walls."""
    start, end = START, hold(START, key, frames, FREE).cameras[-1]
    forward = np.array([np.cos(start[2]), np.sin(start[2])])
    right = np.array([np.sin(start[2]), -np.cos(start[2])])
    step = end[:2] - start[:2]
    return step @ forward, step @ right, np.degrees(end[2] - start[2])


@pytest.fixture
def without_walls(monkeypatch):
    monkeypatch.setattr("mimicmotion.worlds.free_walk.is_free", lambda x, y: True)


@pytest.mark.parametrize(
    ("key", "forward", "right", "turned"),
    [
        ("Q", 0, 0, 0), ("W", 1, 0, 0), ("S", -1, 0, 0), ("A", 0, -1, 0), ("D", 0, 1, 0), ("J", 0, 0, 18),
        ("L", 0, 0, -18), ("WA", 0.5**0.5, -(0.5**0.5), 0), ("WS", 0, 0, 0),
    ],
)  # fmt: skip
def test_twelve_frames_of_a_key(without_walls, key, forward, right, turned):
    assert moved(key) == pytest.approx((forward * 12 * SPEED, right * 12 * SPEED, turned), abs=1e-6)


def test_an_action_drives_the_step_to_the_next_frame(without_walls):
    actions = encode(get_mode("universal"), "W").repeat(3)
    keyboard, mouse = actions.keyboard.copy(), actions.mouse
    keyboard[0] = keyboard[2] = 0
    cameras = FREE.follow_actions(START, keyboard, mouse)
    assert np.array_equal(cameras[0], cameras[1])
    assert not np.array_equal(cameras[1], cameras[2])


def test_a_block_goes_on_from_the_frame_before():
    whole = hold(START, "J", 24, FREE)
    row = (whole.keyboard[0], whole.mouse[0])
    assert np.allclose(FREE.block(whole.cameras[11], row, whole.keyboard[12:], whole.mouse[12:]), whole.cameras[12:])


def test_looking_up_and_down_ends_at_the_highest_pitch():
    assert hold(START, "I", 60, FREE).cameras[-1, 3] == pytest.approx(HIGHEST_PITCH)
    assert hold(START, "K", 60, FREE).cameras[-1, 3] == pytest.approx(-HIGHEST_PITCH)


def test_a_wall_lets_the_camera_slide_along():
    along = hold(np.array([6.99, 3.0, np.radians(45), 0.0]), "W", 5, FREE).cameras
    assert np.ptp(along[:, 0]) < SPEED
    assert along[-1, 1] == pytest.approx(3 + 4 * SPEED * np.sin(np.radians(45)))


def test_the_tracker_is_told_every_way_that_leads_on():
    ends = FREE.reachable(START, 12)
    for key in ("Q", "W", "SA", "DJ", "WL"):
        end = hold(START, key, 13, FREE).cameras[-1]
        assert np.abs(ends - end).max(1).min() < 1e-6


def test_no_camera_of_a_session_stands_in_a_wall_or_pillar():
    for seed in range(5):
        assert all(is_free(x, y) for x, y in draw_session(seed, 200, FREE).cameras[:, :2])


def test_an_open_place_leads_everywhere():
    camera = open_place(0, FREE)
    for key in "WSAD":
        assert np.hypot(*(hold(camera, key, 21, FREE).cameras[-1] - camera)[:2]) > 10 * SPEED

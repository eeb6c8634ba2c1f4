"""The renderer against a slow plain one, and laws that hold for any camera."""

import numpy as np
import pytest

from mimicmotion.worlds import HEIGHT, WIDTH, draw_session, get_walk, render
from mimicmotion.worlds import renderer as fast
from mimicmotion.worlds.courtyard import PILLARS, SIDE

CAMERAS = np.array([[3.0, 3.2, 0.4, 0.0], [6.5, 1.2, 2.5, 0.0], [1.2, 6.8, -1.0, 0.0], [4.9, 5.0, 4.0, 0.0]])


def plain_colour(camera, across, up):
    """Colour of one ray, by trying the floor, each wall and each side of each pillar."""
    x, y, yaw = camera[:3]
    dx, dy = np.cos(yaw) + np.sin(yaw) * across, np.sin(yaw) - np.cos(yaw) * across
    surfaces = []
    for axis, place, wall in ((0, 0.0, 0), (0, SIDE, 1), (1, 0.0, 2), (1, SIDE, 3)):
        depth = (place - (x, y)[axis]) / (dx, dy)[axis]
        along = (y + dy * depth, x + dx * depth)[axis]
        if depth > 0 and 0 <= along <= SIDE and 0 <= fast.EYE + up * depth <= fast.WALL_TOP:
            colour = fast.WALLS[wall] * (0.55 + 0.6 * along / SIDE)
            colour = colour + np.array([0.125, 0.05, 0.15]) * (1 - along / SIDE)
            surfaces.append((depth, colour * (1 - 0.28 * (along // fast.PANEL % 2))))
    for (west, south, east, north), paint in zip(PILLARS, fast.PILLAR_COLOURS, strict=True):
        for axis, place, low, high, shade in (
            (0, west, south, north, 0), (0, east, south, north, 1), (1, south, west, east, 2), (1, north, west, east, 3)
        ):  # fmt: skip
            depth = (place - (x, y)[axis]) / (dx, dy)[axis]
            along = (y + dy * depth, x + dx * depth)[axis]
            if depth > 0 and low <= along <= high and 0 <= fast.EYE + up * depth <= fast.PILLAR_TOP:
                surfaces.append((depth, paint * fast.PILLAR_SHADES[shade]))
    if surfaces:
        depth, colour = min(surfaces, key=lambda found: found[0])
        haze = np.exp(-depth / 14)
        return colour * haze + fast.HAZE * (1 - haze)
    return None


def test_walls_and_pillars_are_where_a_plain_ray_caster_sees_them():
    height, width = 16, 28
    focal = width / 2 / np.tan(fast.VIEW / 2)
    frames = render(CAMERAS, height, width) / 255
    compared = 0
    for camera, frame in zip(CAMERAS, frames, strict=True):
        for row in range(height):
            for column in range(width):
                # Pixels whose corners and middle show the same surface have no edge in them.
                rays = [
                    plain_colour(camera, (column + a - width / 2) / focal, (height / 2 - row - b) / focal)
                    for a, b in ((0.5, 0.5), (0.02, 0.02), (0.98, 0.02), (0.02, 0.98), (0.98, 0.98))
                ]
                if any(ray is None for ray in rays) or np.ptp(np.array(rays), axis=0).max() > 0.04:
                    continue
                assert frame[row, column] == pytest.approx(rays[0], abs=0.03)
                compared += 1
    assert compared > 400


def test_a_frame_depends_on_its_own_camera_alone():
    cameras = draw_session(1, 7, get_walk("free")).cameras
    together = render(cameras)
    assert together.shape == (7, HEIGHT, WIDTH, 3)
    assert together.dtype == np.uint8
    for index in (0, 3, 6):
        assert np.array_equal(render(cameras[index : index + 1])[0], together[index])


def test_a_full_turn_shows_the_same():
    turned = CAMERAS + np.array([0, 0, 2 * np.pi, 0])
    assert np.abs(render(CAMERAS).astype(int) - render(turned)).max() <= 2


def test_looking_up_shifts_the_horizon_down():
    level, up = render(np.array([[3.0, 3.2, 0.4, 0.0], [3.0, 3.2, 0.4, 0.1]])).astype(float)
    shift = round(56 * np.tan(0.1))
    assert np.abs(up[shift:30] - level[: 30 - shift]).mean() < 0.5 * np.abs(up[:30] - level[:30]).mean()

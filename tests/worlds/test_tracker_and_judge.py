"""The instruments: the tracker finds true cameras, the judge tells keys apart even through blur."""

import numpy as np
import pytest

from mimicmotion.worlds import (
    JUDGED_KEYS,
    WALKS,
    draw_session,
    follow,
    get_walk,
    hold,
    locate,
    nearest_key,
    open_place,
    render,
    true_blocks,
    true_videos,
    yaw_difference,
)

FREE = get_walk("free")


def blurred(frames, size=8):
    """Every square of pixels as its mean colour."""
    n, h, w, _ = frames.shape
    means = frames.reshape(n, h // size, size, w // size, size, 3).mean((2, 4))
    return means.repeat(size, 1).repeat(size, 2).round().astype(np.uint8)


def errors(found, true):
    return np.hypot(*(found - true)[:, :2].T), np.abs(yaw_difference(found[:, 2], true[:, 2]))


def test_the_tracker_follows_the_camera():
    session = draw_session(2_000_000, 25, FREE)
    frames = render(session.cameras)
    found, left = follow(frames[1:], session.cameras[0], FREE)
    place, turn = errors(found, session.cameras[4::4])
    assert place.max() < 0.1
    assert turn.max() < 2
    assert left.max() < 10


def test_the_tracker_follows_through_blur():
    session = draw_session(2_000_001, 25, FREE)
    found, _ = follow(blurred(render(session.cameras))[1:], session.cameras[0], FREE)
    place, turn = errors(found, session.cameras[4::4])
    assert np.median(place) < 0.2
    assert np.median(turn) < 4


def test_a_camera_is_found_without_a_hint():
    session = draw_session(3_000_001, 2, FREE)
    found, left = locate(render(session.cameras)[1])
    place, turn = errors(found[None], session.cameras[1:])
    assert place[0] < 0.3
    assert turn[0] < 6
    assert left < 10


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize("blur", [False, True])
def test_true_videos_are_taken_for_their_keys(blur, name):
    walk = get_walk(name)
    videos = true_videos(open_place(1, walk), 12, walk)
    for key in JUDGED_KEYS:
        made = blurred(videos[key]) if blur else videos[key]
        assert nearest_key(made, videos) == key


@pytest.mark.parametrize("name", WALKS)
def test_a_still_picture_is_taken_for_no_key(name):
    walk = get_walk(name)
    videos = true_videos(open_place(2, walk), 12, walk)
    assert nearest_key(np.repeat(videos["W"][:1], 12, 0), videos) == "Q"


@pytest.mark.parametrize("name", WALKS)
def test_true_blocks_are_those_of_a_session(name):
    walk = get_walk(name)
    session = hold(open_place(3, walk), "D", 21, walk)
    assert np.allclose(true_blocks(session.cameras[8], "D", walk)["D"], session.cameras[9:])

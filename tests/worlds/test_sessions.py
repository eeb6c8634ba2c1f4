"""Sessions of both walks: they follow from their seed and hold every key."""

import dataclasses

import numpy as np
import pytest

from mimicmotion.worlds import BLOCK, TURNING, WALKS, draw_session, get_walk

walks = pytest.mark.parametrize("walk", [get_walk(name) for name in WALKS], ids=WALKS)


@walks
def test_a_session_follows_from_its_seed(walk):
    one, again, other = (draw_session(seed, 50, walk) for seed in (3, 3, 4))
    assert np.array_equal(one.cameras, again.cameras)
    assert np.array_equal(one.keyboard, again.keyboard)
    assert not np.array_equal(one.cameras, other.cameras)
    assert np.array_equal(one.cameras, walk.follow_actions(one.cameras[0], one.keyboard, one.mouse))


@walks
def test_sessions_hold_every_key(walk):
    held = np.concatenate([np.hstack((s.keyboard, s.mouse)) for s in (draw_session(n, 81, walk) for n in range(30))])
    assert (held[:, :4].mean(0) > 0.05).all()
    assert {-1, 0, 1} == set(np.sign(held[:, 5]))


@walks
def test_a_session_of_chosen_keys_holds_no_other(walk):
    session = draw_session(1, 81, walk, TURNING)
    if not walk.first_frame_decides:
        assert not session.keyboard.any()
    assert np.ptp(session.cameras[:, :2], axis=0).max() == 0
    assert np.ptp(session.cameras[:, 2]) > 0


def test_some_blocks_change_within_where_the_first_frame_decides():
    sessions = [draw_session(seed, 81, get_walk("tiles")) for seed in range(20)]
    blocks = [np.hstack((s.keyboard, s.mouse))[9 + 12 * b : 21 + 12 * b] for s in sessions for b in range(6)]
    changed = np.mean([np.ptp(block, axis=0).any() for block in blocks])
    assert 0.02 < changed < 0.2
    gentle = [block[0, 5] for block in blocks if 0 < abs(block[0, 5]) < 0.1]
    assert len(gentle) > 3


def test_a_share_of_the_sessions_stands_from_some_part_on():
    def standing(walk):
        """Share of sessions whose last two blocks stand still."""
        ends = [draw_session(seed, 81, walk).cameras[-2 * BLOCK - 1 :] for seed in range(200)]
        return np.mean([np.array_equal(end, np.repeat(end[:1], len(end), 0)) for end in ends])

    walk = get_walk("tiles")
    share = standing(walk)
    assert walk.rest_share == 0.25 and 0.15 < share < 0.35
    assert standing(dataclasses.replace(walk, rest_share=0.0)) < share / 2

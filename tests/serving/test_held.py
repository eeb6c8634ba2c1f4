"""Which actions a block has for what was held, tapped and moved before it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.serving.held import MOST_TAPS, HeldKeys
from mimicmotion.streaming import CAMERA_STEP, encode, get_mode

UNIVERSAL = get_mode("universal")
FPS, FRAMES = 12, 12


def held(mode="universal"):
    return HeldKeys(get_mode(mode))


def press(keys, *events):
    """Events are (seconds, letters held from then on)."""
    for seq, (now, letters) in enumerate(events, 1):
        keys.change(seq, frozenset(letters), (0, 0), now)
    return keys


def columns(actions, letter):
    """Frames in which a key is held."""
    return np.flatnonzero(actions.keyboard[:, UNIVERSAL.keys[letter]]).tolist()


def test_nothing_held_is_no_move():
    actions = held().sample(9, FPS)
    assert len(actions) == 9 and not actions.keyboard.any() and not actions.mouse.any()


def test_keys_still_held_are_felt_for_the_whole_block_and_the_next():
    keys = press(held(), (0, "W"), (0.5, "WL"))
    for _ in range(2):
        actions = keys.sample(FRAMES, FPS)
        expected = encode(UNIVERSAL, "WL").repeat(FRAMES)
        assert np.array_equal(actions.keyboard, expected.keyboard) and np.array_equal(actions.mouse, expected.mouse)


@given(seconds=st.floats(0, 3))
def test_a_tapped_key_is_felt_as_long_as_it_was_held_once(seconds):
    keys = press(held(), (10.0, "W"), (10.0 + seconds, ""))
    expected = min(max(1, round((10.0 + seconds - 10.0) * FPS)), FRAMES)
    assert columns(keys.sample(FRAMES, FPS), "W") == list(range(expected))
    assert not keys.sample(FRAMES, FPS).keyboard.any()


def test_a_key_that_was_felt_already_is_not_felt_again_when_it_is_let_go():
    keys = press(held(), (0, "W"))
    keys.sample(FRAMES, FPS)
    keys.change(2, frozenset(), (0, 0), 0.9)
    assert not keys.sample(FRAMES, FPS).keyboard.any()


def test_a_felt_key_that_is_tapped_once_more_is_a_tap():
    keys = press(held(), (0, "W"))
    keys.sample(FRAMES, FPS)
    press(keys, (0.3, ""), (0.5, "W"), (0.75, ""))
    assert columns(keys.sample(FRAMES, FPS), "W") == [0, 1, 2]


def test_taps_keep_their_order_and_distance_beside_what_is_held():
    keys = press(held(), (0.0, "A"), (0.1, "AW"), (0.35, "A"), (0.6, "AS"), (0.7, "A"))
    actions = keys.sample(FRAMES, FPS)
    assert columns(actions, "A") == list(range(FRAMES))
    assert columns(actions, "W") == [0, 1, 2] and columns(actions, "S") == [6]


def test_where_one_key_excludes_the_others_the_last_pressed_one_counts():
    keys = press(held("templerun"), (0, "A"), (0.1, "AW"), (0.2, "AWD"))
    assert np.array_equal(keys.sample(9, FPS).keyboard, encode(get_mode("templerun"), "D").repeat(9).keyboard)
    keys.change(9, frozenset("AW"), (5, 5), 0.3)
    assert np.array_equal(keys.sample(9, FPS).keyboard, encode(get_mode("templerun"), "W").repeat(9).keyboard)


@given(look=st.tuples(st.floats(-40, 40), st.floats(-40, 40)), letters=st.sampled_from(["", "L", "I", "JK"]))
def test_mouse_movement_is_spread_within_the_usual_and_the_rest_carried_over(look, letters):
    keys = held()
    keys.change(1, frozenset(letters), look, 0)
    blocks = [keys.sample(FRAMES, FPS).mouse / CAMERA_STEP for _ in range(4)]
    assert np.abs(blocks).max() <= 1 + 1e-5
    if not letters:  # a block's worth is carried at most: no more is owed after the second
        whole = np.clip(look, -2 * FRAMES, 2 * FRAMES)
        assert np.allclose(np.sum(blocks, axis=(0, 1)), whole, atol=1e-3)
        assert not np.any(np.abs(blocks[2:]) > 1e-6)


def test_steering_is_keys_and_mouse_in_driving():
    keys = held("gta_drive")
    keys.change(1, frozenset("WD"), (0, 0), 0)
    assert np.array_equal(keys.sample(9, FPS).mouse, encode(get_mode("gta_drive"), "D").repeat(9).mouse)


def test_what_was_done_while_nobody_saw_is_forgotten_but_not_what_is_held():
    keys = press(held(), (0, "W"), (0.2, ""), (0.3, "S"))
    keys.change(9, frozenset("S"), (3, 3), 0.4)
    keys.forget()
    actions = keys.sample(FRAMES, FPS)
    assert columns(actions, "W") == [] and columns(actions, "S") == list(range(FRAMES)) and not actions.mouse.any()


def test_a_lost_window_lets_go_and_the_newest_input_stays_known():
    keys = press(held(), (0, "W"), (0.1, "WA"))
    keys.sample(FRAMES, FPS)
    keys.release(0.2)
    assert keys.keys == () and keys.seq == 2 and not keys.sample(FRAMES, FPS).keyboard.any()


def test_of_any_number_of_taps_some_are_remembered():
    keys = held()
    for index in range(10 * MOST_TAPS):
        keys.change(index, frozenset("W" if index % 2 else ""), (0, 0), index / 1000)
    assert len(keys._taps) == MOST_TAPS and columns(keys.sample(FRAMES, FPS), "W")

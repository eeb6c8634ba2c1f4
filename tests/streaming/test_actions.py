"""Encodings, scripts and bench sequences against the published tables."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.errors import UsageError
from mimicmotion.streaming.actions import (
    MODES,
    bench_actions,
    by_block,
    encode,
    frames_of,
    get_mode,
    help_line,
    idle,
    join,
    parse_script,
)


def vectors(mode, letters):
    action = encode(get_mode(mode), letters)
    return action.keyboard[0].tolist(), None if action.mouse is None else np.round(
        action.mouse[0].astype(float), 6
    ).tolist()


@pytest.mark.parametrize(
    "mode, letters, keyboard, mouse",
    [
        ("universal", "w", [1, 0, 0, 0], [0, 0]),
        ("universal", "S", [0, 1, 0, 0], [0, 0]),
        ("universal", "A+W", [1, 0, 1, 0], [0, 0]),
        ("universal", "d i", [0, 0, 0, 1], [0.1, 0]),
        ("universal", "K", [0, 0, 0, 0], [-0.1, 0]),
        ("universal", "J", [0, 0, 0, 0], [0, -0.1]),
        ("universal", "WIL", [1, 0, 0, 0], [0.1, 0.1]),
        ("universal", "JL", [0, 0, 0, 0], [0, 0]),
        ("universal", "QU", [0, 0, 0, 0], [0, 0]),
        ("universal", "", [0, 0, 0, 0], [0, 0]),
        ("gta_drive", "w a", [1, 0], [0, -0.1]),
        ("gta_drive", "S+D", [0, 1], [0, 0.1]),
        ("gta_drive", "Q", [0, 0], [0, 0]),
        ("templerun", "Q", [1, 0, 0, 0, 0, 0, 0], None),
        ("templerun", "", [1, 0, 0, 0, 0, 0, 0], None),
        ("templerun", "W", [0, 1, 0, 0, 0, 0, 0], None),
        ("templerun", "S", [0, 0, 1, 0, 0, 0, 0], None),
        ("templerun", "Z", [0, 0, 0, 1, 0, 0, 0], None),
        ("templerun", "C", [0, 0, 0, 0, 1, 0, 0], None),
        ("templerun", "A", [0, 0, 0, 0, 0, 1, 0], None),
        ("templerun", "D", [0, 0, 0, 0, 0, 0, 1], None),
    ],
)
def test_published_encodings(mode, letters, keyboard, mouse):
    assert vectors(mode, letters) == (keyboard, mouse)


@pytest.mark.parametrize(
    "mode, letters", [("universal", "X"), ("gta_drive", "I"), ("templerun", "WA"), ("templerun", "QW")]
)
def test_keys_that_a_mode_does_not_have_are_refused(mode, letters):
    with pytest.raises(UsageError, match=mode):
        encode(get_mode(mode), letters)


def test_unknown_mode_is_named():
    with pytest.raises(UsageError, match="minecraft"):
        get_mode("minecraft")


@given(st.sampled_from(sorted(MODES)), st.text(max_size=6))
def test_any_typed_text_is_encoded_or_refused(mode, text):
    mode = get_mode(mode)
    try:
        action = encode(mode, text)
    except UsageError:
        typed = set(re.sub(r"[\s+]", "", text).upper())
        assert typed - set(mode.letters) or (mode.one_hot and len(typed) > 1)
        return
    assert action.keyboard.shape == (1, mode.keyboard_dim)
    assert set(action.keyboard.flat) <= {0, 1}
    assert mode.has_mouse == (action.mouse is not None)
    if mode.one_hot:
        assert action.keyboard.sum() == 1


def test_script_holds_each_entry_for_its_frames():
    mode = get_mode("universal")
    actions = parse_script(mode, "W*2 W+L*3  # walk, then look\n Q")
    assert len(actions) == 2 + 3 + 12
    assert actions.keyboard[:, 0].tolist() == [1] * 5 + [0] * 12
    assert np.round(actions.mouse[:, 1].astype(float), 6).tolist() == [0] * 2 + [0.1] * 3 + [0] * 12


@pytest.mark.parametrize(
    "text", ["", "  # nothing", "W*", "W*0", "*12", "W**2", "W+*3", "+W", "W*1.5", "W*-1", "W*9999999", "X*3", "12"]
)
def test_malformed_scripts_are_refused(text):
    with pytest.raises(UsageError, match="script"):
        parse_script(get_mode("universal"), text)


entries = st.builds(
    lambda letters, n: ("".join(letters), n),
    st.lists(st.sampled_from("WSADIJKLQU"), min_size=1, max_size=4),
    st.integers(1, 40),
)


@given(st.lists(entries, min_size=1, max_size=6), st.sampled_from(["", "+"]))
def test_written_scripts_are_read_back(parts, separator):
    mode = get_mode("universal")
    text = " ".join(f"{separator.join(letters)}*{n}" for letters, n in parts)
    expected = join(encode(mode, letters).repeat(n) for letters, n in parts)
    found = parse_script(mode, text)
    np.testing.assert_array_equal(found.keyboard, expected.keyboard)
    np.testing.assert_array_equal(found.mouse, expected.mouse)


@given(st.sampled_from(sorted(MODES)), st.text(alphabet="WASDQJL+* 0129#xé\n", max_size=20))
def test_any_script_is_read_or_refused(mode, text):
    try:
        assert len(parse_script(get_mode(mode), text)) > 0
    except UsageError as error:
        assert "script" in str(error)


CAMERA = {"camera_l": (0, -0.1), "camera_r": (0, 0.1)}
BENCH = {  # the published names, in the order of the published lists
    "universal": (
        ["forward_left", "forward_right"] * 5
        + ["camera_l", "camera_r"] * 5
        + ["forward", "left", "right"] * 5
        + [f"{a}_{c}" for a in ("forward", "left", "right", "forward_left", "forward_right") for c in CAMERA],
        ["forward", "back", "left", "right"],
    ),
    "gta_drive": (
        ["camera_l", "camera_r"] * 2
        + ["forward", "back"] * 2
        + [f"{a}_{c}" for a in ("forward", "back") for c in CAMERA],
        ["forward", "back"],
    ),
    "templerun": (
        ["jump", "slide", "leftside", "rightside", "turnleft", "turnright", "nomove"],
        ["nomove", "jump", "slide", "turnleft", "turnright", "leftside", "rightside"],
    ),
}


@pytest.mark.parametrize("mode, entries", [("universal", 45), ("gta_drive", 12), ("templerun", 7)])
@pytest.mark.parametrize("seed", [0, 5])
def test_bench_is_the_published_sequence(mode, entries, seed):
    names, columns = BENCH[mode]
    assert len(get_mode(mode).bench) == len(names) == entries
    draw = random.Random(seed)
    keyboard, mouse = [], []
    while len(keyboard) < 61:
        draw.randint(0, 0)  # the published code draws the segment length from a list of one
        name = names[draw.randint(0, len(names) - 1)]
        words = set(name.replace("camera_", "camera-").split("_"))
        length = 12 if keyboard else 1
        keyboard += [[float(column in words) for column in columns]] * length
        mouse += [next((move for c, move in CAMERA.items() if c in name), (0, 0))] * length
    found = join(itertools.islice(bench_actions(get_mode(mode), seed), 61))
    np.testing.assert_array_equal(found.keyboard, keyboard)
    if get_mode(mode).has_mouse:
        np.testing.assert_allclose(found.mouse, mouse)


def test_frames_are_grouped_into_blocks_and_the_last_one_ends_idle():
    mode = get_mode("templerun")
    script = parse_script(mode, "W*30")
    blocks = list(by_block(frames_of(script), mode))
    assert [len(block) for block in blocks] == [9, 12, 12]
    assert blocks[2].keyboard[:, 1].tolist() == [1] * 9 + [0] * 3
    assert blocks[2].keyboard[9:].tolist() == idle(mode).keyboard.tolist() * 3
    assert [len(block) for block in by_block(frames_of(script), mode, start=3)] == [12, 12, 12]


@pytest.mark.parametrize("mode", MODES)
def test_every_key_is_explained(mode):
    mode = get_mode(mode)
    assert all(f"{letter}: " in help_line(mode) for letter in mode.letters)

"""What a page may say, and how frames are packed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.errors import InputError
from mimicmotion.serving.protocol import LARGEST_MESSAGE, MESSAGES, frame_message, parse, read_frame_message

LETTERS = "WSADIKJLQU"
HELD = {"type": "held", "seq": 3, "keys": ["W", "L"], "mouse": [0.5, -2]}


@pytest.mark.parametrize(
    ("said", "values"),
    [
        (HELD, {"seq": 3, "keys": frozenset("WL"), "mouse": (0.5, -2.0)}),
        ({"type": "ready"}, {}),
        ({"type": "start", "seed": 7, "picture": "uploaded"}, {"seed": 7, "picture": "uploaded"}),
        ({"type": "pause", "on": True}, {"on": True}),
        ({"type": "back", "block": 0}, {"block": 0}),
    ],
)
def test_what_a_page_says_is_taken(said, values):
    message = parse(json.dumps(said), LETTERS)
    assert (message.type, message.values) == (said["type"], values)


BAD = [
    "", "{", "[]", "null", "7", '"held"', "{}", '{"type": "no"}', '{"type": ["held"]}', '{"type": "held"}',
    "[" * 2000, '{"a":' * 600, json.dumps(HELD | {"more": 1}), "x" * (LARGEST_MESSAGE + 1),
    *(json.dumps(HELD | {"seq": value}) for value in (-1, 1.5, True, "3", None, 2**53 + 1, 10**400)),
    *(json.dumps(HELD | {"keys": value}) for value in ("W", ["X"], ["w"], ["WL"], [1], [[]], {"W": 1}, ["W"] * 17)),
    *(json.dumps(HELD | {"mouse": value}) for value in (0, [], [0], [0, 0, 0], ["0", 0], [True, 0], [1e9, 0])),
    json.dumps(HELD | {"keys": [""]}), json.dumps(HELD | {"mouse": [10**400, 0]}),
    *(json.dumps(HELD | {"mouse": [value, 0]}) for value in (float("nan"), float("inf"), -float("inf"))),
    *(json.dumps({"type": "start", "seed": 0, "picture": value}) for value in ("", "x" * 101)),
    json.dumps({"type": "pause", "on": 1}), json.dumps({"type": "back", "block": -1}),
    json.dumps({"type": "ready", "x": 0}),
    b"\x00\xff", '{"type": "\ud800"}', None,
]  # fmt: skip


@pytest.mark.parametrize("said", BAD, ids=range(len(BAD)))
def test_anything_else_is_refused_in_one_short_line(said):
    with pytest.raises(InputError) as error:
        parse(said, LETTERS)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    st.sampled_from(sorted(MESSAGES)),
)
def test_no_value_gets_through_that_is_none(value, kind):
    said = {"type": kind} | dict.fromkeys(MESSAGES[kind], value)
    try:
        parse(json.dumps(said), LETTERS)
    except InputError:
        return
    assert not MESSAGES[kind] or isinstance(value, bool)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)), st.binary(max_size=50))
def test_a_frame_comes_out_as_it_went_in(header, jpeg):
    assert read_frame_message(frame_message(header, jpeg)) == (header, jpeg)

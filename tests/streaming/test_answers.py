"""What is typed for a block: both parts in one answer, frame by frame, over several blocks, and what ends it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.errors import UsageError
from mimicmotion.streaming.actions import MODES, encode, get_mode, join, parse_script
from mimicmotion.streaming.answers import ENDINGS, as_script, blocks_of_answers, examples, read_answer, says_no
from mimicmotion.streaming.play import ask_actions
from tests.streaming.test_play import Script, count, play

UNIVERSAL = get_mode("universal")


def answered(*texts, mode=UNIVERSAL, start=3):
    return list(blocks_of_answers(mode, [read_answer(mode, text) for text in texts], start, 3))


@pytest.mark.parametrize(
    "typed, meant",
    [
        (("W L*6",), "W+L*6 W*6"), (("L*6 W",), "W+L*6 W*6"), (("w,l-6",), "W+L*6 W*6"), (("W*4 W+L*8",), "W*4 W+L*8"),
        (("w-4,jw-8",), "W*4 W+J*8"), (("W*4",), "W*4 Q*8"), (("Q*6 W*6",), "Q*6 W*6"),
        (("ｗ＊４，ｌ－８",), "W*4 L*8"),
        (("W*6", "L*3"), "W+L*3 W*3 Q*6"), (("W", "L*3 J*3"), "W+L*3 W+J*3 W*6"), (("W*12",), "W*12"),
    ],
)  # fmt: skip
def test_keys_without_a_number_are_held_beside_those_with_one(typed, meant):
    (block,) = answered(*typed)
    assert as_script(UNIVERSAL, block) == meant
    expected = parse_script(UNIVERSAL, meant)
    assert np.array_equal(block.keyboard, expected.keyboard) and np.array_equal(block.mouse, expected.mouse)


@pytest.mark.parametrize("text", ["W L", "W+L", "wl", "w, l", "L W", "ｗ　Ｌ", "WLQ"])
def test_plain_keys_are_one_action_for_the_whole_block(text):
    (block,) = answered(text)
    expected = encode(UNIVERSAL, "WL")
    assert len(block) == 1
    assert np.array_equal(block.keyboard, expected.keyboard) and np.array_equal(block.mouse, expected.mouse)


def test_nothing_is_no_move_and_so_is_q():
    for text in ("", "  ", "Q", "qu"):
        (block,) = answered(text)
        assert not block.keyboard.any() and not block.mouse.any()


@pytest.mark.parametrize("start, sizes", [(0, [9, 12, 12]), (6, [12, 12, 12])])
def test_a_longer_answer_runs_on_and_holds_what_has_no_number(start, sizes):
    blocks = answered("W L*25", start=start)
    assert [len(block) for block in blocks] == sizes
    whole = join(blocks)
    assert whole.keyboard[:, 0].all()
    assert (whole.mouse[:, 1] > 0).tolist() == [True] * 25 + [False] * (sum(sizes) - 25)


entries = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=5)


@given(st.sampled_from(sorted(MODES)), entries)
def test_an_answer_of_entries_is_the_script_of_them(mode, parts):
    mode = get_mode(mode)
    text = " ".join(f"{mode.letters[index % len(mode.letters)]}*{frames}" for index, frames in parts)
    expected, found = parse_script(mode, text), join(answered(text, mode=mode))
    assert len(found) % 12 == 0 and 0 <= len(found) - len(expected) < 12
    assert np.array_equal(found.keyboard[: len(expected)], expected.keyboard)
    assert np.array_equal(parse_script(mode, as_script(mode, found)).keyboard, found.keyboard)


@pytest.mark.parametrize("mode", MODES)
def test_what_ends_a_session_is_no_answer_with_keys(mode):
    mode = get_mode(mode)
    for word in ENDINGS:
        assert says_no(f" {word.upper()} ")
        with pytest.raises(UsageError):
            read_answer(mode, word)
    assert not any(says_no(text) for text in ("", *mode.letters, *examples(mode).values()))


@pytest.mark.parametrize("mode", MODES)
def test_the_examples_of_the_question_can_be_typed(mode):
    mode = get_mode(mode)
    for text in examples(mode).values():
        assert len(answered(text, mode=mode)) == 1


@pytest.mark.parametrize(
    "mode, text, words",
    [
        ("universal", "X", "no key X"), ("universal", "5", "no key 5"), ("universal", "W*4 X*8", "no key X"),
        ("universal", "W**4", "'W[*][*]4'"), ("universal", "W*0", "'W[*]0'"), ("universal", "W*4-2", "'W[*]4-2'"),
        ("universal", "-4", "'-4'"), ("universal", "W*,L*4", "'W[*]'"), ("universal", "W*4,,L*8", "''"),
        ("universal", "W*9999999", "frames long"), ("templerun", "W A", "one key at a time"),
        ("templerun", "W Z*6", "one key at a time"), ("gta_drive", "I*4", "no key I"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_told_at_once_and_asked_again(mode, text, words):
    with pytest.raises(UsageError, match=words):
        read_answer(get_mode(mode), text)
    script = Script(text, "Q")
    (action,) = ask_actions(get_mode(mode), script.terminal, 3, 3)
    assert len(script.questions) == 2 and len(script.said) == 2
    assert len(action) == 1


def test_a_session_asks_once_a_block(generator, picture, tmp_path):
    script, recording, end = play(generator, picture, tmp_path, "W L", "W L*6", "Y", "w-20", "", "n", questions="one")
    assert end is None and script.answers == []
    assert recording.frames == count(tmp_path / "walk.mp4") == 57
    assert len(script.questions) == 6, "none for the block that an answer runs on over"
    assert "this block: W+L*6 W*6" in script.said
    assert sum("runs on over the next blocks, without questions: 1" in line for line in script.said) == 1
    assert [run["frames"] for run in recording.actions_taken] == [15, 26, 16]


def test_a_limit_of_blocks_cuts_an_answer_off(generator, picture, tmp_path):
    script, recording, end = play(generator, picture, tmp_path, "W*100", questions="one", blocks=2)
    assert (end, recording.frames, len(script.questions)) == (None, 21, 1)

"""A session's log: written and read to the last bit, checked line by line, enough to make the frames again."""

import json

import numpy as np
import pytest

from mimicmotion.errors import InputError, UsageError
from mimicmotion.streaming import Actions, SessionHeader, SessionLog, actions_of, header_of, join, read_log
from mimicmotion.streaming.action_runs import held_letters, read_runs, runs_of
from mimicmotion.streaming.actions import MODES, block_size, encode, get_mode, parse_script
from mimicmotion.streaming.session_log import frames_sha256, is_session_log, require_equal_generator

STATE = "ab" * 32
PICTURE = np.random.default_rng(1).integers(0, 256, (16, 32, 3), dtype=np.uint8)


def header(mode="universal", **changes):
    facts = {"seed": 7, "generator": "0" * 64, "height": 16, "width": 32, "frames_per_block": 3, "fps": 12.5}
    return SessionHeader(get_mode(mode), **facts | {"picture": PICTURE} | changes)


def drawn(mode, frames, seed):
    """Actions with another number in each frame, none of them short in decimals."""
    draw, mode = np.random.default_rng(seed), get_mode(mode)
    mouse = draw.normal(size=(frames, 2)).astype(np.float32) if mode.has_mouse else None
    return Actions(draw.random((frames, mode.keyboard_dim), np.float32), mouse)


def same(one, other):
    return np.array_equal(one.keyboard, other.keyboard) and (
        one.mouse is other.mouse is None or np.array_equal(one.mouse, other.mouse)
    )


@pytest.fixture
def log():
    made = SessionLog(header())
    for index in range(3):
        made.add_block(drawn("universal", block_size(3 * index, 3), index), frames_sha256(PICTURE + index))
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("begun", [{}, {"picture": None, "state": STATE, "first_latent": 6}])
def test_a_log_is_read_back_to_the_bit(tmp_path, mode, begun):
    made, given = SessionLog(header(mode, **begun)), []
    for index in range(3):
        given.append(drawn(mode, block_size(made.next_latent, 3), index))
        made.add_block(given[-1], np.full((2, 2), index, np.uint8) if index else None)
    made.write(tmp_path / "a.session.jsonl")
    found = read_log(tmp_path / "a.session.jsonl")
    assert found.text() == made.text()
    assert same(join(actions_of(found)), join(given))
    for name in ("mode", "seed", "generator", "height", "width", "frames_per_block", "fps", "state", "first_latent"):
        assert getattr(found.header, name) == getattr(made.header, name)
    assert begun or np.array_equal(found.header.picture, PICTURE)
    assert [block.first_latent for block in found.blocks] == [begun.get("first_latent", 0) + n for n in (0, 3, 6)]
    assert [block.frames_sha256 is None for block in found.blocks] == [True, False, False]


def test_a_single_action_is_the_whole_blocks(tmp_path):
    made = SessionLog(header())
    made.add_block(encode(made.header.mode, "wl"))
    run = json.loads(made.text().splitlines()[1])["actions"]
    assert run == [{"frames": 9, "keys": "WL", "keyboard": [1, 0, 0, 0], "mouse": [0, pytest.approx(0.1)]}]


def test_the_way_that_counts_is_the_last_one(log, tmp_path):
    kept = log.blocks[0].actions
    log.note_saved(STATE)
    log.go_back(1)
    other = drawn("universal", 12, 9)
    log.add_block(other)
    log.write(tmp_path / "a.session.jsonl")
    found = read_log(tmp_path / "a.session.jsonl")
    assert same(join(actions_of(found)), join([kept, other]))
    assert found.next_block == 2 and "back" in found.text()
    assert found.up_to(STATE) is None  # what was saved lies on the way that was left


def test_a_state_is_found_where_it_was_saved(log, tmp_path):
    log.note_saved(STATE)
    log.add_block(drawn("universal", 12, 5))
    log.write(tmp_path / "a.session.jsonl")
    then = read_log(tmp_path / "a.session.jsonl").up_to(STATE)
    assert then.next_latent == 9 and same(join(actions_of(then)), join(block.actions for block in log.blocks[:3]))
    assert log.up_to("cd" * 32) is None


@pytest.mark.parametrize("block", [-1, 3, 4])
def test_there_is_no_way_back_to_what_never_was(log, block):
    with pytest.raises(ValueError, match="go back"):
        log.go_back(block)


@pytest.mark.parametrize(
    "actions", [drawn("universal", 9, 0), drawn("gta_drive", 12, 0), drawn("templerun", 12, 0),
                Actions(np.full((1, 4), np.nan, np.float32), np.zeros((1, 2), np.float32)),
                Actions(np.zeros((1, 4), np.float32), np.full((1, 2), 1e6, np.float32)),
                Actions(np.zeros((1, 4), np.float32), None)],
)  # fmt: skip
def test_what_could_not_be_read_is_not_written(log, actions):
    before = log.text()
    with pytest.raises(ValueError):
        log.add_block(actions)
    assert log.text() == before and len(log.blocks) == 3


def changed(line, **changes):
    return json.dumps({name: value for name, value in (json.loads(line) | changes).items() if value is not ...})


HEADERS = {
    "session": (2, "1", True, None, ...), "mode": ("walk", 3, None), "seed": (1.5, "7", None, 2**70),
    "generator": ("", 5, "z" * 64), "size": ([16], [16, 33], "16x32", [0, 32], [16, 1e9], None),
    "frames_per_block": (0, 101, None), "fps": (0, -1, "12", float("nan"), None, True),
    "picture": ("", "????", "aGVsbG8=", 5, None, ...),
}  # fmt: skip
RUN = {"frames": 12, "keyboard": [1, 0, 0, 0], "mouse": [0, 0]}
BLOCKS = {
    "block": (0, 2, "1", None, ..., True), "first_latent": (0, 4, None, ...), "frames_sha256": ("ab", 5, None),
    "actions": (
        [], None, ..., "W", [5], [RUN | {"frames": 11}], [RUN | {"frames": 13}], [RUN | {"frames": 0}],
        [RUN | {"frames": 1.5}], [RUN, RUN], [RUN | {"keyboard": [1, 0, 0]}], [RUN | {"mouse": None}],
        [RUN | {"mouse": [0, float("inf")]}], [RUN | {"mouse": [0, float("nan")]}],
        [RUN | {"keyboard": [1, 0, 0, "1"]}], [RUN | {"keyboard": [1e9, 0, 0, 0]}],
        [RUN | {"keyboard": [10**400, 0, 0, 0]}],
    ),
}  # fmt: skip
WRONG = [(1, name, value) for name, values in HEADERS.items() for value in values]
WRONG += [(3, name, value) for name, values in BLOCKS.items() for value in values]


@pytest.mark.parametrize("number, name, value", WRONG)
def test_a_wrong_line_is_named(log, tmp_path, number, name, value):
    lines = log.text().splitlines()
    lines[number - 1] = changed(lines[number - 1], **{name: value})
    (tmp_path / "a.session.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"a.session.jsonl.*line {number}: "):
        read_log(tmp_path / "a.session.jsonl")


def ended(text, add):
    return text[: text.rindex('{"end"')] + add


@pytest.mark.parametrize(
    "damage, number",
    [
        (lambda text: "", 1), (lambda text: "W*12\n", 1), (lambda text: "[]\n", 1), (lambda text: text[:-1], 5),
        (lambda text: text[: len(text) // 2], None), (lambda text: text + "\n", 6), (lambda text: ended(text, ""), 5),
        (lambda text: ended(text, '{"end": 2}\n'), 5), (lambda text: ended(text, "{}\n"), 5),
        (lambda text: ended(text, '{"back": 9}\n'), 5), (lambda text: ended(text, '{"back": 0, "end": 3}\n'), 5),
        (lambda text: ended(text, '{"saved": "x"}\n'), 5), (lambda text: ended(text, "[" * 5000 + "\n"), 5),
        (lambda text: ended(text, " " * 2**21 + "\n"), 5), (lambda text: text.replace("\n", "\n\n", 1), 2),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(log, tmp_path, damage, number):
    (tmp_path / "a.session.jsonl").write_text(damage(log.text()))
    with pytest.raises(InputError, match=f"line {number or '.'}"):
        read_log(tmp_path / "a.session.jsonl")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_what_is_no_text_or_no_file_is_refused(tmp_path, content):
    if content:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError):
        read_log(tmp_path / "a")
    with pytest.raises(InputError, match="folder"):
        read_log(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_runs_are_read_back_and_name_their_keys(mode):
    mode = get_mode(mode)
    script = "W*3 S*2 Q*4" if mode.one_hot else "W*3 WA*2 Q*4"
    actions = parse_script(mode, script)
    runs = runs_of(actions, mode)
    assert [run["frames"] for run in runs] == [3, 2, 4]
    assert [run["keys"] for run in runs] == ["W", "S" if mode.one_hot else "WA", ""]
    assert same(read_runs(mode, json.loads(json.dumps(runs))), actions)
    for letters in mode.letters if mode.one_hot else ("IL", "KJ", "WSADI") if mode.name == "universal" else ("WD",):
        action = encode(mode, letters)
        mouse = None if action.mouse is None else action.mouse[0].tolist()
        assert same(encode(mode, held_letters(mode, action.keyboard[0].tolist(), mouse)), action)


def test_a_log_is_known_by_its_beginning(log):
    assert is_session_log(log.text()[:40]) and is_session_log('\ufeff { "session" : 1}')
    assert not any(is_session_log(text) for text in ("W*12", '{"frames": 9}', "", "session"))


def test_the_picture_is_taken_again_as_it_was(generator, picture):
    pixels = generator.take_picture(picture)
    assert pixels.shape == (16, 32, 3) and np.array_equal(generator.take_picture(pixels), pixels)


def test_another_generator_is_told(generator, log):
    made = SessionLog(header_of(generator, 1, 12.0, PICTURE))
    require_equal_generator(made, generator, "a.jsonl")
    for changes, words in (
        ({}, "other weights"), ({"mode": get_mode("gta_drive")}, "gta_drive"), ({"height": 32}, "32x32"),
        ({"frames_per_block": 2}, "frames_per_block 2"),
    ):  # fmt: skip
        facts = {"picture": np.zeros((changes.get("height", 16), 32, 3), np.uint8)} | changes
        other = SessionLog(header(**{"mode": "universal"} | facts) if "mode" not in facts else _of(facts))
        with pytest.raises(UsageError, match=words):
            require_equal_generator(other, generator, "a.jsonl")


def _of(facts):
    return header(facts["mode"].name, **{name: value for name, value in facts.items() if name != "mode"})


def test_frames_of_a_log_are_those_of_the_session(generator, picture, tmp_path):
    made = SessionLog(header_of(generator, 3, 12.0, generator.take_picture(picture)))
    state, shown = generator.start(picture, 3), []
    for action in (encode(generator.mode, "W"), drawn("universal", 12, 1)):
        shown.append(generator.step(state, action))
        made.add_block(action, shown[-1])
    made.write(tmp_path / "a.session.jsonl")
    log = read_log(tmp_path / "a.session.jsonl")
    again = list(generator.stream(log.header.picture, (block.actions for block in log.blocks), log.header.seed))
    assert all(map(np.array_equal, again, shown))
    assert [frames_sha256(frames) for frames in again] == [block.frames_sha256 for block in log.blocks]

"""What --actions names is known by its content: a script in either notation, its file, a session's log or record."""

import json

import numpy as np
import pytest

from mimicmotion.errors import UsageError
from mimicmotion.files import sealed
from mimicmotion.streaming import SessionLog, join
from mimicmotion.streaming.action_runs import runs_of
from mimicmotion.streaming.actions import MODES, get_mode, parse_script
from mimicmotion.streaming.sources import planned_frames
from tests.streaming.test_session_log import header

UNIVERSAL = get_mode("universal")
SCRIPT = "W*9 W+L*12 Q*12"


def planned(text, mode=UNIVERSAL):
    frames, length = planned_frames(str(text), mode, 0)
    found = join(frames)
    assert len(found) == length
    return found


def same(one, other):
    return np.array_equal(one.keyboard, other.keyboard) and np.array_equal(one.mouse, other.mouse)


@pytest.mark.parametrize(
    "text", ["w-9,wl-12,q-12", "w*9 l+w*12,Q", "W-9  wl*12 , q", "w-9,\n# turn\nlw-12, # and\n\tq-12,\n"]
)
def test_both_notations_mean_the_same(tmp_path, text):
    expected = parse_script(UNIVERSAL, SCRIPT)
    assert same(planned(text), expected)
    (tmp_path / "walk").write_text(f"\ufeff{text}\r\n", encoding="utf-8")
    assert same(planned(tmp_path / "walk"), expected)


@pytest.mark.parametrize(
    "text",
    ["w-", "-9", "w--9", "w*-9", "w-*9", "w*9*9", "w-9-9", "w-9,,l-9", ",w-9", ",", "w-9;l-9", "w -9", "W*9 {}", "9-w"],
)
def test_what_means_nothing_is_refused(text):
    with pytest.raises(UsageError, match="action script"):
        parse_script(UNIVERSAL, text)


@pytest.fixture
def log():
    made = SessionLog(header())
    for letters in ("W*9", "W+L*12", "Q*12"):
        made.add_block(parse_script(UNIVERSAL, letters))
    return made


def write_record(path, **changes):
    record = {"mode": "universal", "actions": runs_of(parse_script(UNIVERSAL, SCRIPT))} | changes
    path.write_text(json.dumps(sealed(record), indent=2))


def test_a_session_is_known_by_its_content(tmp_path, log, caplog):
    log.write(tmp_path / "walk.txt")
    write_record(tmp_path / "record.jsonl")
    for name in ("walk.txt", "record.jsonl"):
        assert same(planned(tmp_path / name), parse_script(UNIVERSAL, SCRIPT))
    assert not caplog.records
    record = json.loads((tmp_path / "record.jsonl").read_text())
    record["actions"][0]["frames"] = 21
    (tmp_path / "record.jsonl").write_text(json.dumps(record))
    assert len(planned(tmp_path / "record.jsonl")) == 45
    assert "not as it was written" in caplog.text


def test_only_the_way_that_counts_is_taken(tmp_path, log):
    log.go_back(1)
    log.write(tmp_path / "walk")
    assert same(planned(tmp_path / "walk"), parse_script(UNIVERSAL, "W*9"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"mode": "gta_drive"}, "gta_drive"), ({"actions": []}, "cannot be used"),
        ({"actions": [{"frames": 10**9, "keyboard": [0] * 4, "mouse": [0, 0]}]}, "frames"),
        ({"mode": 5}, "mode 5"), ({"actions": "W*9"}, "cannot be used"),
        ({"actions": [{"frames": 9, "keyboard": [0] * 4, "mouse": [0, 10**9]}]}, "mouse"),
    ],
)  # fmt: skip
def test_a_record_that_does_not_serve_is_refused(tmp_path, changes, words):
    write_record(tmp_path / "a.json", **changes)
    with pytest.raises(UsageError, match=f"a.json.*{words}"):
        planned(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"# nothing\n", b"W*9 X*3", b"{}", b'{"frames": 9}', b"{", b'{"session": 1}\n', b"\xff\xfe", b"W" * 2**21],
)
def test_a_file_that_holds_no_actions_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UsageError, match=str(tmp_path / "a")):
        planned(tmp_path / "a")


def test_a_log_of_another_mode_or_of_nothing_is_refused(tmp_path, log):
    log.write(tmp_path / "a")
    with pytest.raises(UsageError, match=r"universal.*templerun"):
        planned(tmp_path / "a", get_mode("templerun"))
    SessionLog(header()).write(tmp_path / "a")
    with pytest.raises(UsageError, match="without a block"):
        planned(tmp_path / "a")


@pytest.mark.parametrize("text", ["walk.txt", "folder/walk", "walks.jsonl"])
def test_a_file_that_is_not_there_is_told_as_one(text):
    with pytest.raises(UsageError, match="there is no file"):
        planned(text)


@pytest.mark.parametrize("mode", MODES)
def test_bench_has_no_end(mode):
    frames, length = planned_frames("bench", get_mode(mode), 1)
    assert length is None and len(next(frames)) == 1

"""What is found below a folder: results of every kind, what was not made; what is broken is named and stops nothing."""

import json
import math
import os
from pathlib import Path

import pytest

from mimicmotion.gallery import records
from mimicmotion.gallery.records import find_records, flat
from tests.gallery.standins import animation, put

JOINED = {"frames": 9, "fps": 15.0, "latent_concat": {"interp_frames": 4}}
WORLD = {"videos": {"demo.mp4": "0"}, "begun_from": {"path": "a.png"}, "settings": {"seed": 1}, "seed": 1}


@pytest.fixture
def video(tmp_path):
    """A file in place of a video: nothing here looks into it."""
    path = tmp_path / "source.bin"
    path.write_bytes(b"video")
    return path


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


def test_each_kind_is_found_with_what_lies_beside_it(outputs, video):
    put(outputs / "videos", "a", video, animation("a"))
    (outputs / "videos" / "a.jpg").touch()
    (outputs / "videos" / "a_comparison.mp4").touch()
    put(outputs / "latent_concat", "a+b", video, JOINED)
    put(outputs, "demo", video, WORLD)
    (outputs / "demo_icon.mp4").touch()
    found = find_records(outputs)
    assert {result.kind: result.video.as_posix() for result in found.results} == {
        "world": "demo.mp4",
        "joined clips": "latent_concat/a+b.mp4",
        "animation": "videos/a.mp4",
    }
    by_kind = {result.kind: result for result in found.results}
    assert by_kind["animation"].sheet == Path("videos/a.jpg")
    assert by_kind["animation"].others == {"comparison": Path("videos/a_comparison.mp4")}
    assert by_kind["animation"].seconds == 2.5
    assert by_kind["animation"].facts["settings.turbo.scheduler"] == "AnimateLCM_SVD"
    assert by_kind["world"].others == {"with keys": Path("demo_icon.mp4")}
    assert by_kind["joined clips"].seconds is None
    assert not found.problems and not found.not_made


def test_what_is_no_result_is_left_out(outputs, video):
    put(outputs, "a", video, animation("a"))
    (outputs / "without_record.mp4").touch()
    (outputs / "without_video.json").write_text("[1]")
    put(outputs / ".hidden", "b", video, animation("b"))
    put(outputs, ".tmp-1-a", video, animation("a"))
    found = find_records(outputs)
    assert [result.video.name for result in found.results] == ["a.mp4"]
    assert not found.problems


def test_a_folder_without_end_is_not_looked_through(outputs, video, monkeypatch):
    for name in "abcd":
        put(outputs / name, name, video, animation(name))
    monkeypatch.setattr(records, "MAX_FOLDERS", 3)
    found = find_records(outputs)
    assert [result.video.stem for result in found.results] == ["a", "b"]
    assert "more than 3 folders" in found.problems[Path()]


BROKEN = {
    "cut off": '{"recipe_sha256": "0", "settings": {',
    "no JSON": "hello",
    "empty": "",
    "too deep": "[" * 200_000,
    "deep": '{"recipe_sha256": "0", "settings": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001,
    "list": "[1, 2]",
    "null": "null",
    "of something else": '{"epochs": 3}',
    "settings of another type": '{"recipe_sha256": "0", "settings": [1]}',
    "a number without end": '{"recipe_sha256": "0", "settings": {"a": ' + "9" * 10_000 + "}}",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_named_and_the_others_are_shown(outputs, video, text):
    put(outputs, "a", video, text)
    put(outputs, "b", video, animation("b"))
    found = find_records(outputs)
    assert [result.video.name for result in found.results] == ["b.mp4"]
    assert list(found.problems) == [Path("a.json")]
    assert found.problems[Path("a.json")]


def test_bytes_that_are_no_text_and_files_that_are_none_are_named(outputs, video, monkeypatch):
    put(outputs, "bytes", video, "").write_bytes(b"\xff\xfe\x00{")
    put(outputs, "pipe", video, "").unlink()
    os.mkfifo(outputs / "pipe.json")
    put(outputs, "nobody", video, "").unlink()
    (outputs / "nobody.json").symlink_to("nowhere")
    put(outputs, "large", video, animation("large", notes=["x"] * 5000))
    monkeypatch.setattr(records, "MAX_BYTES", 10_000)
    found = find_records(outputs)
    assert not found.results
    assert {path.stem: reason for path, reason in found.problems.items() if path.stem != "bytes"} == {
        "pipe": "is no regular file",
        "nobody": "cannot be read: No such file or directory",
        "large": f"has {(outputs / 'large.json').stat().st_size:,} bytes; at most 10,000 are read",
    }
    assert "bytes" in {path.stem for path in found.problems}


def test_any_type_in_any_field_becomes_something_that_can_be_shown(outputs, video):
    strange = {
        "frames": {"many": [1]}, "seed": "seven", "stage_seconds": [1], "date": 5, "steps": None, "width": True,
        "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}, "list": list(range(1000)), "nothing": {},
        "long": "x" * 5000, "nan": math.nan, "huge": 2**63 - 1, "": "no name", "\ud800": "half a letter",
    }  # fmt: skip
    put(outputs, "a", video, animation("a") | strange)
    put(outputs, "b", video, animation("b", stage_seconds={"a": "slow"}, date="yesterday"))
    found = find_records(outputs)
    assert not found.problems
    facts = found.results[0].facts
    assert all(value is None or isinstance(value, str | int | float | bool) for value in facts.values())
    json.dumps(facts, allow_nan=False)
    assert facts["huge"] == str(2**63 - 1) and facts["nan"] == "nan" and facts["nothing"] == "none"
    assert facts["list"] == "1000 entries; see the file" and facts["frames.many"] == "[1]"
    assert facts["deep.a.b.c.d.e"] == '{"f": {"g": 1}}'
    assert len(facts["long"]) < 1100
    assert [result.seconds for result in found.results] == [None, None]


def test_a_record_without_end_is_cut_and_says_so():
    facts = flat({f"key {i}": i for i in range(10_000)})
    assert len(facts) == records.MAX_FACTS + 1
    assert facts["..."] == f"more than {records.MAX_FACTS} values; see the file"


def item(name, status, message="", **more):
    return {"kind": "item", "video": name, "output": f"outputs/{name}", "status": status, "message": message} | more


def test_what_was_not_made_is_found_with_its_reason(outputs):
    outputs.mkdir()
    items = [item("a.mp4", "failed", "no person"), item("b.mp4", "done"), item("c.mp4", "not run"), 5, {"status": 3}]
    (outputs / "run.json").write_text(json.dumps({"exit_code": 1, "items": items}))
    (outputs / "deep").mkdir()
    (outputs / "deep" / "encode.json").write_text(json.dumps({"items": [item("d.mp4", "interrupted")]}))
    found = find_records(outputs)
    assert [(one.video, one.status, one.message) for one in found.not_made] == [
        ("a.mp4", "failed", "no person"),
        ("c.mp4", "not run", ""),
        ("d.mp4", "interrupted", ""),
    ]
    assert found.not_made[2].source == Path("deep/encode.json")
    assert not found.problems


def test_the_last_try_counts_and_a_history_knows_its_commands(outputs):
    outputs.mkdir()
    (outputs / "run.json").write_text(json.dumps({"items": [item("a.mp4", "failed"), item("b.mp4", "failed")]}))
    time = "2026-11-28T10:00:00+00:00"
    lines = [
        {"kind": "run", "run": "1", "time": time, "command": ["turbo.py", "--videos", "a b.mp4"]},
        item("a.mp4", "failed", "first", run="1"),
        item("b.mp4", "failed", "first", run="1", time=time),
        item("a.mp4", "done", run="2"),
    ]
    text = "\n".join(map(json.dumps, lines))
    (outputs / "runs.jsonl").write_text(f"{text}\n[1]\n" + '{"kind": "item", "vid')
    found = find_records(outputs)
    assert [(one.video, one.message, one.command, one.time) for one in found.not_made] == [
        ("b.mp4", "first", "turbo.py --videos 'a b.mp4'", 1795860000.0)
    ]
    assert found.problems == {Path("runs.jsonl"): "2 of 6 lines cannot be read"}


@pytest.mark.parametrize("text", ["{", "[]", '{"items": 5}', "[" * 200_000])
def test_a_broken_summary_is_named(outputs, text):
    outputs.mkdir()
    (outputs / "run.json").write_text(text)
    assert list(find_records(outputs).problems) == [Path("run.json")]


def test_of_a_history_without_end_the_end_is_read(outputs, monkeypatch):
    outputs.mkdir()
    lines = [json.dumps(item(f"{i}.mp4", "failed")) for i in range(100)]
    (outputs / "runs.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(records, "MAX_BYTES", 3 * len(lines[-1]) + 10)
    found = find_records(outputs)
    assert [one.video for one in found.not_made] == ["97.mp4", "98.mp4", "99.mp4"]
    assert not found.problems

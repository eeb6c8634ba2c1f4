"""A result is finished where all of its files are what was written, and its record is what was written too."""

import json
import os
import shutil

import pytest

from mimicmotion.config import load_config
from mimicmotion.errors import InputError
from mimicmotion.files import sealed, sha256_file
from mimicmotion.results import add_to_sidecar, recipe, require_places, unfinished, write_sidecar

RECIPE = {"settings": {"seed": 1}, "inputs": {"video": "0" * 64}}


@pytest.fixture
def result(tmp_path):
    """The mp4 and its two companions, with a sidecar."""
    paths = [tmp_path / name for name in ("clip.mp4", "clip.jpg", "clip_comparison.mp4")]
    for path in paths:
        path.write_bytes(path.name.encode() * 50)
    write_sidecar(paths[0], RECIPE, {"frames": 6, "sigmas": [float("inf"), 0.1], "sizes": (1, 2)}, paths[1:])
    return paths


def edit(output, change):
    path = output.with_suffix(".json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_a_whole_result_is_finished_wherever_it_is_copied_and_whatever_it_is_called(result, tmp_path):
    assert unfinished(result[0], RECIPE, result[1:]) == {}
    (tmp_path / "copy").mkdir()
    for path in (*result, result[0].with_suffix(".json")):
        shutil.copy(path, tmp_path / "copy" / path.name.replace("clip", "dance"))
    copies = [tmp_path / "copy" / path.name.replace("clip", "dance") for path in result]
    assert unfinished(copies[0], RECIPE, copies[1:]) == {}


def test_ways_to_compute_are_part_of_a_recipe_where_they_are_not_the_defaults():
    def settings(**given):
        config = load_config(given={f"speed.{name}": value for name, value in given.items()})
        return recipe(config, config.test_case[0], {}, {}, "")["settings"]

    assert "speed" not in settings() and settings(attention="native") == settings()
    assert settings(step_cache=2, attention="sage")["speed"] == {"step_cache": 2, "attention": "sage"}


def test_another_recipe_is_another_result(result):
    assert unfinished(result[0], RECIPE | {"detector": "other"}, result[1:]) == {result[0]: ""}


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "missing", "folder"])
def test_damage_to_any_file_is_seen_though_its_date_stays(result, index, damage):
    path = result[index]
    before, content = path.stat(), path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        flipped = content[:7] + bytes([content[7] ^ 1]) + content[8:]
        path.write_bytes({"empty": b"", "cut": content[:100], "flipped": flipped}[damage])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(unfinished(result[0], RECIPE, result[1:])) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[]", "null", '"text"', "12", "", "{", "\x00", '{"files": []}', '{"files": {".mp4": 3}}', "1" * 5000,
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_not_trusted(result, text):
    result[0].with_suffix(".json").write_text(text)
    assert list(unfinished(result[0], RECIPE, result[1:])) == [result[0]]
    write_sidecar(result[0], RECIPE, {}, result[1:])
    assert unfinished(result[0], RECIPE, result[1:]) == {}


@pytest.mark.parametrize("value", [None, True, -1, 1.5, "x", [], {}, [[[]]], {"bytes": "many"}])
def test_no_field_of_a_record_can_be_changed(result, value):
    path = result[0].with_suffix(".json")
    original = path.read_text()
    for field in json.loads(original):
        edit(result[0], lambda record, field=field: record | {field: value})
        assert list(unfinished(result[0], RECIPE, result[1:])) == [result[0]], field
        path.write_text(original)


def test_a_huge_record_is_not_read(result):
    with open(result[0].with_suffix(".json"), "wb") as file:
        file.truncate(10 * 2**30)
    reasons = unfinished(result[0], RECIPE, result[1:])
    assert list(reasons) == [result[0]] and "bytes" in reasons[result[0]]


def test_a_record_of_earlier_versions_keeps_its_result_but_vouches_for_no_companion(result):
    edit(result[0], lambda record: {k: v for k, v in record.items() if k not in ("files", "record_sha256")})
    assert set(unfinished(result[0], RECIPE, result[1:])) == set(result[1:])
    add_to_sidecar(result[0], result[1:])
    assert unfinished(result[0], RECIPE, result[1:]) == {}


def test_a_new_result_takes_nothing_with_it_that_was_not_made_with_the_old_one(result, tmp_path):
    others = [tmp_path / "clip_2.mp4", tmp_path / "other.mp4"]
    for path in others:
        path.write_bytes(b"mine")
    result[1].write_bytes(b"edited by hand")
    write_sidecar(result[0], RECIPE | {"detector": "other"}, {})
    assert not result[2].exists()
    assert result[1].exists() and all(path.exists() for path in others)


def test_the_same_result_made_again_keeps_what_was_made_for_it(result):
    write_sidecar(result[0], RECIPE, {})
    assert unfinished(result[0], RECIPE, result[1:]) == {}
    result[0].write_bytes(b"other frames")
    write_sidecar(result[0], RECIPE, {})
    assert not result[1].exists() and not result[2].exists()
    assert unfinished(result[0], RECIPE) == {}


def test_a_place_is_free_for_a_file_or_it_is_not(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    require_places(tmp_path / "file", tmp_path / "nothing")
    for name in ("folder", "pipe"):
        with pytest.raises(InputError, match=name):
            require_places(tmp_path / "file", tmp_path / name)


def test_a_result_that_is_called_like_a_companion_is_left_alone(result, tmp_path):
    """The comparison of clip.mp4 gave way to the result of a video called clip_comparison.mp4."""
    result[2].write_bytes(b"another result")
    write_sidecar(result[2], RECIPE, {})
    assert unfinished(result[0], RECIPE, result[1:2]) == {}
    write_sidecar(result[0], RECIPE | {"detector": "other"}, {}, result[1:2])
    assert unfinished(result[2], RECIPE) == {}


@pytest.mark.parametrize("ending", ["/../other.mp4", "/etc/passwd", "", "\\x.mp4", "x" * 300, "\0"])
def test_no_ending_of_a_record_leads_to_another_file(result, tmp_path, ending):
    (tmp_path / "other.mp4").write_bytes(b"mine")
    record = json.loads(result[0].with_suffix(".json").read_text())
    record["files"][ending] = {"bytes": 4, "sha256": sha256_file(tmp_path / "other.mp4")}
    result[0].with_suffix(".json").write_text(json.dumps(sealed(record)))
    assert unfinished(result[0], RECIPE, result[1:]) == {}
    write_sidecar(result[0], RECIPE, {})
    assert (tmp_path / "other.mp4").exists()

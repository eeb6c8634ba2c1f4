"""Step files: exact round trips, filters, and files that are damaged or lie."""

import gzip
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.errors import InputError, NumericalError, UsageError
from mimicmotion.latent_steps import step_files
from mimicmotion.latent_steps.step_files import Step, choose, find_steps, pack, read_metadata, read_step, write_step


def latents(shape=(1, 3, 4, 2, 2), scale=700.0, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float16)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def experiment(tmp_path):
    """Two prompts; vid_1, vid_2 and vid_10 with twelve steps each."""
    for prompt in ("prompt_000", "prompt_001"):
        for video in ("vid_1", "vid_2", "vid_10"):
            folder = tmp_path / "latents" / prompt / video
            folder.mkdir(parents=True)
            for step in range(12):
                (folder / f"step_{step:03d}.npy.gz").write_bytes(b"")
            (folder / "step_000_x0.npy.gz").write_bytes(b"")
            (folder / "step_000_metadata.json").write_text("{}")
    return tmp_path


def names(steps):
    return [str(step) for step in steps]


def test_steps_come_back_exactly(tmp_path):
    array, x0 = latents(), latents(scale=1, seed=1)
    write_step(tmp_path, "step_000", array, x0, {"sigma": 1.5})
    for path, expected in (("step_000.npy.gz", array), ("step_000_x0.npy.gz", x0)):
        found = read_step(tmp_path / path)
        assert found.dtype == np.float16
        assert found.tobytes() == expected.tobytes()
    metadata = json.loads((tmp_path / "step_000_metadata.json").read_text())
    assert metadata == {"file": "step_000.npy.gz", "shape": [1, 3, 4, 2, 2], "dtype": "float16", "sigma": 1.5}


def test_equal_latents_give_equal_bytes():
    packed = pack(latents())
    assert packed == pack(latents())
    assert packed[4:8] == b"\0\0\0\0"  # no time of writing
    assert np.load(io.BytesIO(gzip.decompress(packed))).tobytes() == latents().tobytes()


def test_fortran_order_and_float32_are_read(tmp_path):
    array = np.asfortranarray(latents().astype(np.float32))
    (tmp_path / "step.npy.gz").write_bytes(pack(array))
    np.testing.assert_array_equal(read_step(tmp_path / "step.npy.gz"), array)


def test_overflow_of_float16_is_refused_not_written(tmp_path):
    with np.errstate(over="ignore"):
        too_large = np.full((1, 1, 4, 2, 2), 7e4).astype(np.float16)
    with pytest.raises(NumericalError, match=r"step_003.*65504"):
        write_step(tmp_path, "step_003", too_large, None, {})
    assert list(tmp_path.iterdir()) == []


class Bomb:
    def __reduce__(self):
        return (open, ("bomb-went-off", "w"))


def lying_header(shape, descr="<f2"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


good = npy(latents())
BROKEN = {
    "empty": (b"", "not a readable"),
    "not gzip": (good, "gzip"),
    "truncated gzip": (gzip.compress(good)[:-20], "not a readable"),
    "truncated array": (gzip.compress(good[:-2]), "less than its header"),
    "trailing data": (gzip.compress(good + b"x"), "more than its header"),
    "text": (gzip.compress(b"<html>"), "not a readable"),
    "object array": (gzip.compress(npy(np.array([Bomb()], dtype=object))), "object"),
    "integers": (gzip.compress(npy(np.zeros((1, 1, 4, 2, 2), np.int16))), "int16"),
    "big endian": (gzip.compress(npy(latents().astype(">f2"))), ">f2"),
    "four dimensions": (gzip.compress(npy(latents((3, 4, 2, 2)))), "five dimensions"),
    "no frames": (gzip.compress(npy(latents((1, 0, 4, 2, 2)))), "1 or more"),
    "too large": (gzip.compress(lying_header((1, 100_000, 4, 1000, 1000))), "claims"),
    "negative": (gzip.compress(lying_header((1, -3, 4, 2, 2))), "1 or more"),
    "nan": (gzip.compress(npy(np.full((1, 1, 4, 2, 2), np.nan, np.float16))), "16 of 16 values"),
    "infinite": (gzip.compress(npy(np.full((1, 1, 4, 2, 2), np.inf, np.float16))), "16 of 16 values"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named_and_nothing_is_executed(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content, reason = BROKEN[kind]
    path = tmp_path / "step_007.npy.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"(?s)step_007.npy.gz.*{reason}"):
        read_step(path)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_flipped_bit_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(good, compresslevel=0))
    packed[len(packed) // 2] ^= 1
    (tmp_path / "step.npy.gz").write_bytes(packed)
    with pytest.raises(InputError, match="CRC"):
        read_step(tmp_path / "step.npy.gz")


@pytest.mark.parametrize("header", [lying_header((1, 8, 4, 2, 2)), b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{"])
def test_a_gzip_bomb_is_not_unpacked(tmp_path, header):
    path = tmp_path / "step.npy.gz"
    path.write_bytes(gzip.compress(header + bytes(200 * 2**20)))
    tracemalloc.start()
    with pytest.raises(InputError):
        read_step(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_filters_choose_exact_names_ranges_and_globs(experiment):
    assert len(find_steps(experiment)) == 2 * 3 * 12
    assert names(find_steps(experiment, "prompt_000", "vid_1", "step_000,step_011")) == [
        "prompt_000/vid_1/step_000",
        "prompt_000/vid_1/step_011",
    ]
    chosen = find_steps(experiment, "prompt_001", "vid_1, vid_10", "step_003-step_005,step_01*")
    assert [step.name for step in chosen if step.video == "vid_10"] == [
        "step_003", "step_004", "step_005", "step_010", "step_011",
    ]  # fmt: skip
    assert {step.video for step in chosen} == {"vid_1", "vid_10"}
    firsts = find_steps(experiment, "prompt_000", None, "step_000")
    assert [step.video for step in firsts] == ["vid_1", "vid_2", "vid_10"]


@pytest.mark.parametrize("text", ["vid_3", "vid_1,vid_3", "vid", "vid_00", "vid_20-vid_30", "VID_1", "x*", "step_000"])
def test_an_item_that_matches_nothing_lists_what_there_is(experiment, text):
    with pytest.raises(UsageError, match="vid_1, vid_2, vid_10"):
        find_steps(experiment, videos=text)


@pytest.mark.parametrize("text", ["../secret", "/etc", "..", "vid_1/../vid_2", "a\\b", "", "vid_1,,vid_2"])
def test_filters_are_no_paths(experiment, text):
    with pytest.raises(UsageError, match="is no name"):
        find_steps(experiment, videos=text)


@given(st.lists(st.integers(0, 999), min_size=1, unique=True), st.integers(0, 999), st.integers(0, 999))
def test_a_range_takes_what_lies_in_it(numbers, first, last):
    there = [f"step_{n:03d}" for n in numbers]
    expected = {f"step_{n:03d}" for n in numbers if first <= n <= last}
    if expected:
        assert choose(there, f"step_{first:03d}-step_{last:03d}", "step") == expected
    else:
        with pytest.raises(UsageError):
            choose(there, f"step_{first:03d}-step_{last:03d}", "step")


def test_links_and_odd_names_do_not_lead_out(experiment, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "vid_1"
    outside.mkdir()
    (outside / "step_000.npy.gz").write_bytes(pack(latents()))
    (experiment / "latents" / "prompt_000" / "vid_99").symlink_to(outside)
    (experiment / "latents" / "prompt_000" / "vid_1" / "step_099.npy.gz").symlink_to(outside / "step_000.npy.gz")
    odd = experiment / "latents" / "prompt_000" / "vid\nnew<b>"
    odd.mkdir()
    (odd / "step_000.npy.gz").write_bytes(pack(latents()))
    assert len(find_steps(experiment)) == 2 * 3 * 12


def test_an_experiment_without_latents_is_named(tmp_path):
    with pytest.raises(UsageError, match="no step latents"):
        find_steps(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "JSON"),
        ("[1]", "list"),
        ('{"file": "../../step_000.npy.gz"}', "describes"),
        ('{"file": "step_001.npy.gz"}', "describes"),
        ('{"layout": "CFHW"}', "layout"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, content, reason):
    step = Step("prompt_000", "vid_001", "step_000", tmp_path / "step_000.npy.gz")
    assert read_metadata(step) == {}
    step.metadata_path.write_text(content)
    with pytest.raises(InputError, match=f"step_000_metadata.json.*{reason}"):
        read_metadata(step)


@pytest.mark.parametrize("content", [None, "- a list", "a: [", "a: !!python/object/apply:os.getcwd []"])
def test_what_is_no_experiment_is_refused(tmp_path, content):
    if content is not None:
        path = tmp_path / step_files.CONFIG_NAME
        path.parent.mkdir()
        path.write_text(content)
    with pytest.raises(UsageError, match=r"generation_config\.yaml"):
        step_files.read_experiment(tmp_path)

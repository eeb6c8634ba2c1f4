"""A result that a seal calls finished is one that its content calls finished, whatever was done to its files."""

import errno
import json
import os
import shutil
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.animation import Seals
from mimicmotion.animation import record as record_module
from mimicmotion.animation.record import job_recipe
from mimicmotion.config import load_config
from mimicmotion.results import Job, Manifest, seal_result, write_sidecar
from mimicmotion.results import manifest as manifest_module

NAMES = ("a", "b")
FILES = ("videos/{}.mp4", "poses/{}.npz")
FILES += tuple(f"outputs/{{}}{ending}" for ending in (".mp4", ".json", ".jpg", "_comparison.mp4"))
SHARED = ("person.png", "person.pose.npz")


def models_of(folder, **given):
    """What seals ask of Models, without a model."""
    config = load_config(
        given={
            "output.output_dir": str(folder / "outputs"),
            "pose.backend": "file",
            "pose.folder": str(folder / "poses"),
            "test_case[*].ref_image_path": str(folder / "person.png"),
        }
        | given
    )
    return types.SimpleNamespace(config=config, weights={"unet": "1"}, detector_fingerprint="none", decoder_hash=None)


def jobs_of(folder, models):
    case = models.config.test_case[0]
    return [Job(folder / "videos" / f"{n}.mp4", case, 0, folder / "outputs" / f"{n}.mp4", n) for n in NAMES]


def make_results(folder, **given):
    """Inputs and finished results that a run would write; all older than a tick of the clock."""
    models = models_of(folder, **given)
    for place in ("videos", "poses", "outputs"):
        (folder / place).mkdir(parents=True)
    for name in SHARED:
        (folder / name).write_bytes(name.encode())
    for job in jobs_of(folder, models):
        for path in (job.video, job.poses_in(folder / "poses"), job.output, job.beside(".jpg")):
            path.write_bytes(f"{path.name} of {job.name}".encode())
        write_sidecar(job.output, job_recipe(models, job), {}, [job.beside(".jpg")])
    while not all(seal_of(models, job).settled for job in jobs_of(folder, models)):
        pass
    return models


def seal_of(models, job):
    return seal_result(job.output, "x", record_module.input_paths(models, job).values())


def seal_all(folder, models):
    seals = Seals(models, Manifest(folder / "outputs"))
    with seals.written():
        assert all(map(seals.is_finished, jobs_of(folder, models)))
    return seals


def by_seal(folder, models):
    seals = Seals(models, Manifest(folder / "outputs"))
    return [seals.holds(job) for job in jobs_of(folder, models)]


def by_content(folder, models):
    nowhere = Seals(models, Manifest(folder / "nowhere"))
    return [nowhere.is_finished(job) for job in jobs_of(folder, models)]


# Each takes a file that is there, or was: whatever fails there is nothing done.
def flip(path, number):
    data = bytearray(path.read_bytes())
    data[number % len(data)] ^= 1 << number % 8
    with open(path, "r+b") as file:
        file.write(data)


def flip_with_old_date(path, number):
    before = path.stat()
    flip(path, number)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_beside(path, number):
    """As an editor or rsync --times does it: another file of that name with the same date."""
    other, before = path.with_name("other"), path.stat()
    shutil.copy2(path, other)
    flip(other, number)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def truncate(path, number):
    os.truncate(path, number % (path.stat().st_size + 1))


def swap(path, _number):
    """Two files of different results in each other's place."""
    one, other = (path.with_name(path.name.replace(*pair, 1)) for pair in (("b", "a"), ("a", "b")))
    kept = path.with_name("kept")
    one.replace(kept)
    other.replace(one)
    kept.replace(other)


def into_folder(path, _number):
    path.unlink(missing_ok=True)
    path.mkdir()


def into_link(path, _number):
    path.replace(path.with_name("target"))
    path.symlink_to("target")


TAMPERINGS = [
    flip, flip_with_old_date, flip_beside, truncate, swap, into_folder, into_link,
    lambda path, _: path.unlink(),
    lambda path, _: os.utime(path),
    lambda path, _: path.chmod(0o600),
    lambda path, _: path.write_bytes(path.read_bytes()),
    lambda path, number: path.write_bytes(b"x" * (number % 50)),
    lambda path, _: shutil.copy2(path, path.with_name("copy")),
    lambda path, _: path.rename(path.with_name("gone")),
]  # fmt: skip
PLACES = [*SHARED, *(file.format(name) for file in FILES for name in NAMES)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(TAMPERINGS), st.sampled_from(PLACES), st.integers(0, 10**6)), max_size=3))
def test_nothing_that_was_touched_counts_by_its_seal_and_not_by_its_content(made, tmp_path_factory, deeds):
    source, folder = made, tmp_path_factory.mktemp("tampered")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    # Copies have seals of their own, so none of the source counts.
    models = models_of(folder)
    assert by_seal(folder, models) == [False, False]
    while not all(seal_of(models, job).settled for job in jobs_of(folder, models)):
        pass
    seal_all(folder, models)
    assert by_seal(folder, models) == [True, True]
    for tamper, place, number in deeds:
        try:
            tamper(folder / place, number)
        except (OSError, ZeroDivisionError):
            continue
    sealed, whole = by_seal(folder, models), by_content(folder, models)
    assert not [name for name, s, w in zip(NAMES, sealed, whole, strict=True) if s and not w]
    if not deeds:
        assert sealed == [True, True]
    # What is whole is sealed anew by looking at it, and both ways to skip agree.
    seals = Seals(models, Manifest(folder / "outputs"))
    assert [seals.is_finished(job) for job in jobs_of(folder, models)] == whole


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "project"
    seal_all(folder, make_results(folder))
    return folder


@pytest.mark.parametrize(
    ("before", "after", "sealed"),
    [
        ({}, {"test_case[*].seed": 9}, False),
        ({}, {"pose.align": "linear"}, False),
        ({}, {"output.comparison": True}, False),  # wanted and not there
        ({}, {"output.contact_sheet": False}, True),
        ({"output.contact_sheet": False}, {}, True),
        ({}, {"output.overwrite": True}, False),
        ({}, {"latent_steps.folder": "steps"}, False),
        ({}, {"pose.save_folder": "poses", "runtime.verify_weights": True}, True),
    ],
)
def test_a_seal_is_good_for_the_same_result_alone(tmp_path, before, after, sealed):
    seal_all(tmp_path / "x", make_results(tmp_path / "x", **before))
    assert by_seal(tmp_path / "x", models_of(tmp_path / "x", **after)) == [sealed] * 2


def test_other_weights_make_other_seals(tmp_path):
    models = make_results(tmp_path / "x")
    seal_all(tmp_path / "x", models)
    models.weights = {"unet": "2"}
    assert by_seal(tmp_path / "x", models) == [False, False]


def test_a_folder_of_frames_is_known_by_all_that_is_in_it(tmp_path):
    for name in ("frames/1.png", "frames/deeper/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.json").touch()

    def seal():
        return seal_result(tmp_path / "a.mp4", "x", [tmp_path / "frames"])

    seals = [seal(), seal()]
    flip_with_old_date(tmp_path / "frames" / "deeper" / "2.png", 3)
    seals.append(seal())
    (tmp_path / "frames" / "3.png").touch()
    seals.append(seal())
    assert len({seal.digest for seal in seals}) == 3 and seals[0] == seals[1]
    (tmp_path / "frames" / "circle").symlink_to(tmp_path / "frames")
    assert seal() is None


def test_a_pipe_or_a_name_that_is_none_has_no_seal_and_blocks_nobody(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.json").touch()
    os.mkfifo(tmp_path / "pipe")
    assert seal_result(tmp_path / "a.mp4", "x", [tmp_path / "pipe"]) is None
    assert seal_result(tmp_path / "a.mp4", "x", ["\0"]) is None
    os.mkfifo(tmp_path / "manifest.jsonl")
    assert len(Manifest(tmp_path)) == 0


def test_what_changes_within_a_tick_of_the_clock_is_not_noted(tmp_path, monkeypatch):
    models = make_results(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(manifest_module, "is_settled", lambda changed: False)
        seal_all(tmp_path / "x", models)
    assert by_seal(tmp_path / "x", models) == [False, False]


def test_results_that_were_just_made_are_sealed_at_the_end(tmp_path):
    models = make_results(tmp_path / "x")
    seals = Seals(models, Manifest(tmp_path / "x" / "outputs"))
    with seals.written():
        for job in jobs_of(tmp_path / "x", models):
            seals.note(job)
        job.output.write_bytes(b"of another run")
    assert by_seal(tmp_path / "x", models) == [True, False]


BROKEN = [
    b"", b"\0\0\0", b'{"output": "a.mp4", "seal": "00', b"[" * 100_000 + b"\n", b'{"seal": "zz"}\n', b"\xff\xfe\n",
    b'{"seal": 1}\n{"output": "a.mp4", "seal": "' + b"0" * 32 + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("rest", BROKEN)
def test_a_broken_line_harms_no_other(tmp_path, rest):
    folder = tmp_path / "x"
    models = make_results(folder)
    (folder / "outputs" / "manifest.jsonl").write_bytes(rest)
    seal_all(folder, models)
    assert by_seal(folder, models) == [True, True]
    path = folder / "outputs" / "manifest.jsonl"
    for length in range(len(rest) + 1, len(path.read_bytes()), 7):
        path.write_bytes(path.read_bytes()[:-7])
        assert by_seal(folder, models) in ([True, True], [True, False], [False, False]), length


def test_each_shard_writes_its_own_manifest_and_reads_all(tmp_path):
    folder = tmp_path / "x"
    models = make_results(folder)
    for number, job in enumerate(jobs_of(folder, models), 1):
        seals = Seals(models, Manifest(folder / "outputs", f".{number}-of-2"))
        with seals.written():
            assert seals.is_finished(job)
    assert by_seal(folder, models) == [True, True]
    for number in (1, 2):
        lines = (folder / "outputs" / f"manifest.{number}-of-2.jsonl").read_text().splitlines()
        assert [json.loads(line)["output"] for line in lines] == [f"{NAMES[number - 1]}.mp4"]


def test_a_manifest_that_cannot_be_written_or_read_costs_a_word(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "x"
    models = make_results(folder)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(manifest_module, "append_lines", fail)
        seal_all(folder, models)
    assert "cannot be written" in caplog.text
    assert by_seal(folder, models) == [False, False]
    (folder / "outputs" / "manifest.jsonl").mkdir()
    seal_all(folder, models)
    assert by_content(folder, models) == [True, True]

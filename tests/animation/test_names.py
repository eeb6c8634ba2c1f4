"""Whatever a driving video is called and whatever its entry really is, the others run and the table is there."""

import contextlib
import copy
import functools
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import hypothesis.strategies as st
import PIL.Image
import pytest

from mimicmotion.animation import Outcome, run_all, summary_table
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.record import job_recipe
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.files import require_possible
from mimicmotion.results import plan_jobs, recorded
from tests.conftest import last_items

HOSTILE = [
    b"\xff\xfe", b"a\nb", b"-x", b"\x1b[31mred", "\u202etfel".encode(), "👨‍👩‍👧 שלום".encode(), b"a" * 251,
    ("\u821e" * 83).encode(), b"CON", b"%d{}%s", b"'\"$x;`", b" ", b"a\r", "e\u0301".encode(),
]  # fmt: skip


class Stub:
    """An animator that writes, under every name that a result has, what a true one would."""

    def __init__(self, config):
        self.config = config
        self.models = SimpleNamespace(
            config=config,
            check=lambda: None,
            resolve=lambda: None,
            check_lcm=lambda: None,
            device=SimpleNamespace(type="cpu"),
            weights={},
            detector_fingerprint="stub",
            decoder_hash=None,
        )

    def recipe(self, job):
        return job_recipe(self.models, job)

    def is_finished(self, job):
        return False

    def require_kept(self, jobs):
        pass

    def preparing(self, jobs):
        return contextlib.nullcontext()

    def animate(self, outcome):
        self.recipe(outcome.job)
        for ending in (".mp4", ".json", ".jpg", "_comparison.mp4"):
            outcome.job.beside(ending).write_text(os.fsencode(outcome.job.video.name).hex())
        outcome.status, outcome.message = "done", str(outcome.job.output)


def batch(folder):
    """Settings for the videos in `folder`/videos, with a reference beside it."""
    if not (folder / "person.png").exists():
        PIL.Image.new("RGB", (8, 8)).save(folder / "person.png")
    config = copy.deepcopy(default())
    config.batch.video_folder = str(folder / "videos")
    config.test_case[0].ref_image_path = str(folder / "person.png")
    config.output.output_dir = str(folder / "outputs")
    return config


@functools.cache
def default():
    return load_config()


def put(folder, *names, suffix=b".mp4"):
    (folder / "videos").mkdir(exist_ok=True)
    for name in names:
        (folder / "videos" / os.fsdecode(name + suffix)).write_bytes(b"video")


def items(folder):
    return last_items(folder / "outputs")


def test_every_name_gets_results_of_its_own(tmp_path, capsys):
    put(tmp_path, *HOSTILE)
    assert animate_folder(batch(tmp_path), Stub(batch(tmp_path))) == 0
    table = capsys.readouterr().out
    assert f"{len(HOSTILE)} done" in table
    assert len(table.splitlines()) == len(HOSTILE) + 3 and table.isprintable() is False and "\x1b" not in table
    # The record has the true name, byte for byte, and each result is that of its video.
    for item in items(tmp_path):
        assert Path(item["output"]).read_text() == os.fsencode(Path(item["video"]).name).hex()
    assert {Path(item["video"]).name for item in items(tmp_path)} == {os.fsdecode(name + b".mp4") for name in HOSTILE}


def test_plain_names_stay_as_they_are(tmp_path):
    plain = [b"dance", "tänzer 舞".encode(), "👨‍👩‍👧".encode(), b"-x", b"a" * 240]
    put(tmp_path, *plain)
    assert sorted(os.fsencode(job.output.stem) for job in plan_jobs(batch(tmp_path))) == sorted(plain)


def test_another_name_is_said_and_in_the_job(tmp_path, caplog):
    put(tmp_path, b"a\xff", b"plain")
    jobs = plan_jobs(batch(tmp_path))
    assert [job.renamed for job in jobs] == [True, False]
    assert f"a\\xff.mp4 cannot name its results: they are called {jobs[0].output.stem}" in caplog.text


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.binary(min_size=1, max_size=251).filter(lambda name: not {*b"/\0"} & {*name} and name[0] != 46))
def test_any_bytes_are_a_name(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("any")
    put(folder, name, b"other")
    outcomes = [Outcome(job) for job in plan_jobs(batch(folder))]
    (folder / "outputs" / "videos").mkdir(parents=True)
    with recorded(folder / "outputs", batch(folder)) as log:
        code = run_all(outcomes, Stub(batch(folder)).animate, log)
    assert code == 0 and "done" in summary_table(outcomes).splitlines()[-1]
    for item in items(folder):
        assert Path(item["output"]).read_text() == os.fsencode(Path(item["video"]).name).hex()


def test_entries_that_are_no_files_fail_alone(tmp_path, monkeypatch, capsys):
    put(tmp_path, b"good")
    videos = tmp_path / "videos"
    (videos / "loop.mp4").symlink_to("loop.mp4")
    (videos / "gone.mp4").symlink_to("nowhere.mp4")
    (videos / "itself").symlink_to(".")
    (videos / "turning").symlink_to("turning")
    os.mkfifo(videos / "pipe.mp4")
    (videos / "frames").mkdir()
    (videos / "frames" / "001.png").symlink_to("nowhere.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(videos)  # a socket's path is short
        server.bind("socket.mp4")
    assert animate_folder(batch(tmp_path), Stub(batch(tmp_path))) == 1
    status = {Path(item["video"]).name: item["status"] for item in items(tmp_path)}
    failed = dict.fromkeys(("loop.mp4", "gone.mp4", "pipe.mp4", "frames", "socket.mp4"), "failed")
    assert status == {"good.mp4": "done", **failed}
    table = capsys.readouterr().out
    assert "5 failed, 1 done" in table and table.count("left out") == 2


def test_an_entry_that_cannot_be_opened_fails_alone(tmp_path, monkeypatch):
    put(tmp_path, b"good", b"locked")

    def refuse(path):
        if path.stem == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return "hash"

    monkeypatch.setattr("mimicmotion.animation.record.content_sha256", refuse)
    assert animate_folder(batch(tmp_path), Animator(batch(tmp_path), Stub(batch(tmp_path)).models)) == 1
    reasons = {Path(item["video"]).name: item["message"] for item in items(tmp_path)}
    assert "locked.mp4 cannot be read: Permission denied" in reasons["locked.mp4"]


# ----------------------------------------------------------------------------------------------------
# A dry run refuses what the run would refuse


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"turbo.num_inference_steps": 41}, UsageError),
        ({"turbo.num_inference_steps": 4, "turbo.lcm_num_train_timesteps": 3}, UsageError),
        ({"ckpt_path": "missing.pth"}, SetupError),
        ({"turbo.lcm_lora_path": "missing.safetensors"}, SetupError),
        ({"base_model_path": "owner/model"}, SetupError),
        ({"runtime.device": "banana"}, UsageError),
        ({"output.output_dir": "/dev/null/x"}, SetupError),
        ({"latent_steps.folder": "steps", "latent_steps.experiment_name": "a/b"}, UsageError),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_a_run_refuses_a_dry_run_refuses(tmp_path, monkeypatch, wrong, error, dry):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_hub)
    put(tmp_path, b"good")
    config = load_config(batch(tmp_path), {**wrong, "output.dry_run": dry})
    with pytest.raises(error):
        animate_folder(config)
    assert not (tmp_path / "outputs" / "runs.jsonl").exists()


def no_hub(name, local_files_only=False, **_):
    from huggingface_hub.errors import LocalEntryNotFoundError

    raise LocalEntryNotFoundError("not there" if local_files_only else "no network")


def test_a_dry_run_asks_no_network(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **options: asked.append(options) or no_hub("x"))
    put(tmp_path, b"good")
    with pytest.raises(SetupError, match="only a run asks the hub"):
        animate_folder(load_config(batch(tmp_path), {"base_model_path": "owner/model", "output.dry_run": True}))
    assert asked and all(options["local_files_only"] for options in asked)


def test_a_dry_run_says_which_items_would_fail(tmp_path, capsys):
    put(tmp_path, b"bad")
    assert animate_folder(load_config(batch(tmp_path), {"output.dry_run": True})) == 1
    assert "cannot run: " in capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()


def test_a_folder_is_possible_where_its_nearest_parent_takes_files(tmp_path, monkeypatch):
    require_possible(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="no folder"):
        require_possible(tmp_path / "file" / "b")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SetupError, match="no folder"):
        require_possible(tmp_path / "loop" / "b")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SetupError, match="denied"):
        require_possible(tmp_path / "a")

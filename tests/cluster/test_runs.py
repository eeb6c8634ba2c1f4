"""Every command that has workers makes with them what it makes alone: files, records, history, exit code."""

import contextlib
import json
import pickle
import shutil

import pytest

from mimicmotion.animation import Animator, Models, poses_ahead
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.workers import own_code
from mimicmotion.config import load_config, trace_config
from mimicmotion.errors import UsageError
from mimicmotion.feature_cache import animate_folder_cached
from mimicmotion.latent_concat import run_latent_concat
from mimicmotion.sentences import make_sentences
from mimicmotion.sweep import run_sweep
from tests.cluster.inprocess import InProcess
from tests.conftest import last_items, write_clip
from tests.feature_cache.test_cached_features import FakeDetector

DIFFERENT = {"stage_seconds", "peak_memory_bytes", "made"}


@pytest.fixture(autouse=True)
def in_process(monkeypatch, logging_as_before):
    """Workers without Ray. What they set in their environment is taken back."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("mimicmotion.cluster.run.ray_session", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("mimicmotion.cluster.run.RayActors", InProcess)
    InProcess.made.clear()


@pytest.fixture
def resolved(monkeypatch):
    """Who opened a device or networks: models of the driver may not."""
    seen, resolve = [], Models.resolve
    monkeypatch.setattr(Models, "resolve", lambda self: seen.append(id(self)) or resolve(self))
    return seen


def settings(project, *overrides):
    return load_config(project / "settings.yaml", overrides=["batch.videos=[a.mp4,b.mp4]", *overrides])


def files_of(folder):
    return {
        path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".mp4", ".jpg", ".pt")
    }


def test_the_turbo_run(project, resolved):
    write_clip(project / "videos" / "b.mp4", count=12, size=(192, 128))  # the larger one
    assert animate_folder(settings(project)) == 0
    resolved.clear()
    workers = (f"output.output_dir={project / 'w'}", "cluster.workers=2")
    assert animate_folder(settings(project, *workers)) == 0
    assert files_of(project / "w") == files_of(project / "outputs") and len(files_of(project / "w")) == 4
    for name in ("a", "b"):
        there, mine = (json.loads((project / f / "videos" / f"{name}.json").read_text()) for f in ("outputs", "w"))
        assert {key for key in there | mine if there.get(key) != mine.get(key)} <= {*DIFFERENT, "record_sha256", "seal"}
    items = last_items(project / "w")
    assert [item["video"].rpartition("/")[2] for item in items] == ["b.mp4", "a.mp4"], "the largest first"
    assert all(
        item["host"] and item["process"] and item["attempt"] == 1 and item["device"].startswith("cpu, ")
        for item in items
    )
    # Only workers asked for a device, once each.
    assert len(resolved) == len(set(resolved)) == 2 == InProcess.made[0].workers

    assert animate_folder(settings(project, *workers)) == 0
    assert {item["status"] for item in last_items(project / "w")} == {"skipped"} and len(InProcess.made) == 1
    with pytest.raises(UsageError, match="--overwrite"):
        animate_folder(settings(project, *workers, "test_case[0].seed=4"))


def test_poses_that_are_found_ahead_beside_a_bad_video(project, monkeypatch):
    """The same poses to sample with, each video seen by a detector once, whoever found them. Nothing is sampled."""
    shutil.copyfile(project / "person.png", project / "videos" / "b.mp4")
    for name, count in (("c", 10), ("d", 12)):
        write_clip(project / "videos" / f"{name}.mp4", count=count, size=(192, 128))
    detectors, ahead = [], []
    monkeypatch.setattr("mimicmotion.animation.models.choose_backend", lambda *_: ("fake", "for the test"))
    monkeypatch.setattr("mimicmotion.animation.models.detector_fingerprint", lambda *_: FakeDetector.fingerprint)
    monkeypatch.setattr(
        "mimicmotion.animation.models.make_detector", lambda *_, **__: detectors.append(FakeDetector()) or detectors[-1]
    )

    def animate(self, outcome):
        clip = self.prepare(outcome.job)
        outcome.job.output.write_bytes(pickle.dumps(clip.drawn.poses))
        outcome.status = "done"

    monkeypatch.setattr(Animator, "animate", animate)
    find_out = Animator.find_out
    monkeypatch.setattr(Animator, "find_out", lambda self, job: ahead.append(job.name) or find_out(self, job))
    more = ["pose.backend=auto", "batch.videos=[a.mp4,b.mp4,c.mp4,d.mp4]"]
    assert animate_folder_cached(settings(project, *more, f"feature_cache.folder={project / 'c1'}")) == 1
    wanted, frames = files_of(project / "outputs"), sum(one.seen_in_all for one in detectors)
    detectors.clear()

    more += [f"output.output_dir={project / 'w'}", "cluster.workers=1", f"feature_cache.folder={project / 'c2'}"]
    assert animate_folder_cached(settings(project, *more, "batch.prefetch=1")) == 1
    assert files_of(project / "w") == wanted and len(wanted) == 3
    assert InProcess.made[0].preparers == 1 and len(detectors) == 2 and {"a.mp4", "b.mp4"} & set(ahead)
    assert sum(one.seen_in_all for one in detectors) == frames
    ended = {item["video"][-5:]: item["status"] for item in last_items(project / "w")}
    assert ended == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done", "d.mp4": "done"}
    calls = [given[0] for method, given in InProcess.made[0].asked if method == "run"]
    assert sum(outcome.job.name == "b.mp4" for outcome in calls) <= 2 + ("b.mp4" in ahead), "it is tried once"


def test_why_poses_are_not_found_ahead_is_told(project, caplog):
    def told(make, *overrides):
        caplog.clear()
        given = settings(project, "batch.prefetch=1", "cluster.workers=1", *overrides)
        assert poses_ahead(Animator(given), make) is None
        return caplog.text

    assert "feature cache" in told(None) and "feature cache" in told(print, "feature_cache.enabled=false")
    assert "--feature_cache_force_refresh" in told(print, "feature_cache.force_refresh=true")
    assert "read from files" in told(print)
    onnx = ("pose.backend=auto", "runtime.device=auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimicmotion.animation.models.choose_backend", lambda *_: ("dwpose", "for the test"))
        assert "dwpose finds others" in told(print, *onnx)
        patch.setattr("mimicmotion.animation.models.choose_backend", lambda *_: ("mediapipe", "for the test"))
        given = settings(project, "batch.prefetch=3", "cluster.workers=1", *onnx)
        make, (config,), depth = poses_ahead(Animator(given), print)
        assert (make, config.runtime.device, depth) == (print, "cpu", 3) and given.runtime.device == "auto"
    assert poses_ahead(Animator(settings(project, "cluster.workers=1")), print) is None


def test_a_sweep_whose_cells_differ_in_networks(project, resolved):
    assert animate_folder(settings(project, "batch.videos=[a.mp4]")) == 0
    values = {
        "sweep.settings": ["seed=3,4", "skip_lcm_scheduler=false"],
        "sweep.output_dir": str(project / "sweep"),
        "feature_cache.folder": str(project / "cache"),
        "batch.videos": ["a.mp4"],
        "cluster.workers": "1",
    }
    resolved.clear()
    assert run_sweep(trace_config(str(project / "settings.yaml"), values)) == 0
    (cell,) = (project / "sweep").glob("*seed-3")
    assert files_of(cell) == files_of(project / "outputs")
    assert len((project / "sweep" / "sweep.csv").read_text().splitlines()) == 3
    assert len(set(resolved)) == 2, "each cell's models, in the worker"


def test_two_runs_into_one_folder_give_one_whole_result(project, monkeypatch):
    workers, write, other = settings(project, "batch.videos=[a.mp4]", "cluster.workers=1"), Animator.write, []

    def write_behind_another(self, *arguments):
        if not other:
            other.append(None)  # the other run comes here, too
            other.append(animate_folder(settings(project, "batch.videos=[a.mp4]")))
        write(self, *arguments)

    monkeypatch.setattr(Animator, "write", write_behind_another)
    assert animate_folder(workers) == 0 and other == [None, 0]
    assert animate_folder(workers) == 0
    assert [item["status"] for item in last_items(project / "outputs")] == ["skipped"]


def test_sentences(project):
    (project / "sentences.csv").write_text("sentence,words\nshort,a\nlong,a b\nnone,x\n")

    def run(folder, **more):
        values = {
            "sentences.table": str(project / "sentences.csv"), "sentences.words": str(project / "videos"),
            "sentences.output_dir": str(project / folder), "pose.align": "none",
            "sentences.transition_frames": "1", "feature_cache.folder": str(project / "cache"),
        }  # fmt: skip
        return make_sentences(load_config(str(project / "settings.yaml"), values | more))

    assert run("single") == 1
    assert run("workers", **{"cluster.workers": "1"}) == 1
    assert files_of(project / "workers") == files_of(project / "single") and len(files_of(project / "single")) == 4
    assert [item["video"] for item in last_items(project / "workers")] == ["long", "short", "none"]
    assert run("workers", **{"cluster.workers": "1"}) == 1
    statuses = {item["video"]: item["status"] for item in last_items(project / "workers")}
    assert statuses == {"long": "skipped", "short": "skipped", "none": "failed"}


def test_latents_that_are_kept(project):
    def run(folder, *more):
        places = [f"latent_concat.cache_dir={project / folder}", f"latent_concat.output_dir={project / folder}"]
        return run_latent_concat(settings(project, *places, "latent_concat.mode=encode", "batch.videos=[a.mp4]", *more))

    assert run("single") == run("workers", "cluster.workers=1") == 0
    assert files_of(project / "workers") == files_of(project / "single") and "a.pt" in files_of(project / "single")
    assert run("workers", "cluster.workers=1") == 0
    assert [item["status"] for item in last_items(project / "workers")] == ["skipped"]


def test_what_workers_must_agree_in(project, monkeypatch):
    from mimicmotion.animation import fingerprint

    config = settings(project)
    mine = fingerprint([Animator(config)])
    assert mine == fingerprint([Animator(config)]) and {"weights", "detector", "code", "package torch"} <= set(mine)
    other = load_config(project / "settings.yaml", overrides=[f"base_model_path={project / 'model'}"])
    shutil.copytree(config.base_model_path, project / "model")
    assert fingerprint([Animator(other)]) == mine, "the same weights in another place"
    weights = next((project / "model" / "unet").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    theirs = fingerprint([Animator(other)])
    assert {name for name in mine if mine[name] != theirs[name]} == {"weights"}
    assert len(own_code()) == 12

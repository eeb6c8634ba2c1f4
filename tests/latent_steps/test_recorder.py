"""Recording the latents of sampling steps: what is written is what was sampled, and errors come out."""

import datetime
import errno
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.config import load_config
from mimicmotion.errors import NumericalError, SetupError, UsageError
from mimicmotion.latent_steps import recorder as latent_steps
from mimicmotion.latent_steps.recorder import StepExperiment, StepRecorder
from mimicmotion.latent_steps.step_files import Step, read_metadata, read_step
from mimicmotion.results import plan_jobs
from tests.conftest import HANG_SECONDS

PIPELINE = SimpleNamespace(scheduler=SimpleNamespace(sigmas=torch.tensor([700.0, 10.0, 0.5, 0.0])))


def settings(project, *overrides):
    folder = f"latent_steps.folder={project / 'steps'}"
    return load_config(project / "settings.yaml", overrides=[folder, "batch.videos=[a.mp4]", *overrides])


def experiments(project):
    return sorted((project / "steps").iterdir())


def record(folder, tensors, **options):
    with StepRecorder(folder, **options) as recorder:
        for step, tensor in enumerate(tensors):
            recorder(PIPELINE, step, torch.tensor(1.0), {"latents": tensor, "denoised": tensor / 2})


def test_recorded_steps_are_the_samplers_in_float16(tmp_path):
    tensors = [torch.randn(1, 3, 4, 2, 2) * sigma for sigma in (700, 10, 1)]
    expected = [tensor.half().numpy() for tensor in tensors]
    record(tmp_path / "vid", tensors)
    for step, array in enumerate(expected):
        np.testing.assert_array_equal(read_step(tmp_path / "vid" / f"step_{step:03d}.npy.gz"), array)
    x0 = read_step(tmp_path / "vid" / "step_001_x0.npy.gz")
    np.testing.assert_array_equal(x0, (tensors[1] / 2).half().numpy())
    metadata = read_metadata(Step("p", "v", "step_001", tmp_path / "vid" / "step_001.npy.gz"))
    assert (metadata["step"], metadata["sigma_before"], metadata["sigma"]) == (1, 10.0, 0.5)
    assert (metadata["layout"], metadata["dtype"], metadata["shape"]) == ("BFCHW", "float16", [1, 3, 4, 2, 2])


def test_the_sampler_may_go_on_in_place(tmp_path):
    tensor = torch.ones(1, 1, 4, 2, 2, dtype=torch.float16)
    with StepRecorder(tmp_path) as recorder:
        recorder(PIPELINE, 0, 1.0, {"latents": tensor})
        tensor.zero_()
    assert read_step(tmp_path / "step_000.npy.gz").min() == 1


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_what_float16_cannot_hold_is_an_error_at_the_end(tmp_path, value):
    with pytest.raises(NumericalError, match="step_000"):
        record(tmp_path, [torch.full((1, 1, 4, 2, 2), value)])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_surfaces_while_sampling_and_nothing_hangs(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mimicmotion.files.os.replace", full)
    started = []

    def sample():
        with StepRecorder(tmp_path) as recorder:
            for step in range(1000):
                started.append(step)
                recorder(SimpleNamespace(scheduler=None), step, 0.0, {"latents": torch.ones(1, 1, 4, 2, 2)})

    with pytest.raises(SetupError, match="the disk is full"):
        sample()
    assert len(started) < 1000
    assert not any(thread.name == "step-recorder" for thread in threading.enumerate())


def test_the_error_that_ended_sampling_is_the_one_seen(tmp_path):
    with pytest.raises(ZeroDivisionError), StepRecorder(tmp_path) as recorder:
        recorder(PIPELINE, 0, 0.0, {"latents": torch.full((1, 1, 4, 2, 2), float("nan"))})
        raise ZeroDivisionError


def test_the_disk_is_waited_for_only_when_it_is_far_behind(tmp_path, monkeypatch):
    release, written = threading.Event(), []

    def slow(folder, name, *_):
        release.wait(HANG_SECONDS)
        written.append(name)

    monkeypatch.setattr(latent_steps, "write_step", slow)
    with StepRecorder(tmp_path) as recorder:
        for step in range(3):
            recorder(PIPELINE, step, 0.0, {"latents": torch.ones(1, 1, 4, 2, 2)})
        assert written == []  # whoever waited for the disk would get here after it had written
        release.set()
    assert written == ["step_000", "step_001", "step_002"]


def test_experiments_of_one_second_have_names_of_their_own(tmp_path):
    first, second = (StepExperiment(tmp_path, "My Test", {}).folder for _ in range(2))
    assert first != second
    for folder in (first, second):
        name, stamp = folder.name.split("_", 1)
        assert name == "My Test"
        datetime.datetime.strptime(stamp, "%Y%m%d_%H%M%S")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "/abs", "x\n"])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="plain name"):
        StepExperiment(tmp_path, name, {})
    assert list(tmp_path.iterdir()) == []


def test_the_main_job_records_what_it_samples(project):
    config = settings(project, "turbo.num_inference_steps=3")
    assert animate_folder(config) == 0
    (folder,) = experiments(project)
    assert folder.name.startswith("videos_")
    clip = folder / "latents" / "prompt_000" / "vid_001"
    steps = [f"step_{i:03d}" for i in range(3)]
    assert sorted(path.name for path in clip.iterdir()) == sorted(
        name + suffix for name in steps for suffix in (".npy.gz", "_x0.npy.gz", "_metadata.json")
    )

    plain = load_config(project / "settings.yaml", overrides=["batch.videos=[a.mp4]", "turbo.num_inference_steps=3"])
    animator, job = Animator(plain), plan_jobs(plain)[0]
    final = animator.sample(animator.prepare(job))
    np.testing.assert_array_equal(read_step(clip / "step_002.npy.gz"), final.half().numpy())
    # The AnimateLCM step adds noise of the next level to x0; the last one adds none.
    np.testing.assert_allclose(read_step(clip / "step_002_x0.npy.gz"), final.half().numpy(), atol=0.01)
    noise = read_step(clip / "step_000.npy.gz").astype(float) - read_step(clip / "step_000_x0.npy.gz")
    sigma = read_metadata(Step("", "", "step_000", clip / "step_000.npy.gz"))["sigma"]
    assert noise.std() == pytest.approx(sigma, rel=0.1)

    content = yaml.safe_load((folder / "configs" / "generation_config.yaml").read_text())
    assert content["model_settings"]["model_id"] == plain.base_model_path
    facts = content["videos"]["prompt_000/vid_001"]
    assert facts["video"].endswith("a.mp4")
    assert (facts["seed"], facts["steps"], len(facts["sigmas"]), facts["sigmas"][-1]) == (3, 3, 4, 0.0)
    assert content["scheduler"]["_class_name"] == "AnimateLCMSVDStochasticIterativeScheduler"


def test_recording_changes_no_frame_and_samples_again(project):
    plain = load_config(project / "settings.yaml", overrides=["batch.videos=[a.mp4]"])
    assert animate_folder(plain) == 0
    result = project / "outputs" / "videos" / "a.mp4"
    before = result.read_bytes()
    assert animate_folder(settings(project, "latent_steps.experiment_name=Mine")) == 0
    assert result.read_bytes() == before
    (folder,) = experiments(project)
    assert folder.name.startswith("Mine_")


def test_the_cached_job_records_the_same(project):
    from mimicmotion.feature_cache.cached_features import animate_folder_cached

    assert animate_folder(settings(project, "latent_steps.experiment_name=plain")) == 0
    cache = f"feature_cache.folder={project / 'cache'}"
    assert animate_folder_cached(settings(project, "latent_steps.experiment_name=cached", cache)) == 0
    cached, plain = ({path.name: path.read_bytes() for path in e.rglob("*.npy.gz")} for e in experiments(project))
    assert len(plain) == 4
    assert cached == plain


def test_every_test_case_and_video_has_its_place(project):
    config = settings(project, "batch.videos=[a.mp4,c.mp4]")
    config.test_case.append(load_config(project / "settings.yaml", overrides=["test_case[0].seed=9"]).test_case[0])
    assert animate_folder(config) == 0
    (folder,) = experiments(project)
    clips = yaml.safe_load((folder / "configs" / "generation_config.yaml").read_text())["videos"]
    assert {key: (facts["video"][-5:], facts["seed"]) for key, facts in clips.items()} == {
        "prompt_000/vid_001": ("a.mp4", 3),
        "prompt_000/vid_002": ("c.mp4", 3),
        "prompt_001/vid_001": ("a.mp4", 9),
        "prompt_001/vid_002": ("c.mp4", 9),
    }
    assert {path.relative_to(folder / "latents").as_posix() for path in folder.glob("latents/*/*")} == set(clips)


def test_bad_names_and_folders_end_before_any_work(project, monkeypatch):
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UsageError, match="plain name"):
        animate_folder(settings(project, "latent_steps.experiment_name=../x"))
    (project / "steps").write_text("a file is in the way")
    with pytest.raises(SetupError, match="cannot write"):
        animate_folder(settings(project))

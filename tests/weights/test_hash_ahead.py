"""Large weight files that were never seen are hashed while other work is done; what was seen is known at once."""

import contextlib
import json
import threading

import pytest
from safetensors.torch import load_file, save_file

from mimicmotion import animation, feature_cache, files, latent_concat, sentences
from mimicmotion import api as api_module
from mimicmotion.animation import Animator
from mimicmotion.animation.clip import ClipMaker
from mimicmotion.animation.models import Models
from mimicmotion.config import load_config, trace_config
from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.results import Job
from mimicmotion.sweep import run_sweep
from mimicmotion.weights import manifest
from tests.conftest import HANG_SECONDS


@pytest.fixture
def given(copy, tmp_path, monkeypatch):
    """Settings with the micro model, whose files count as large and were never seen."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "SMALL", -1)
    files.forget_content_hashes()
    config = load_config()
    config.base_model_path, config.turbo.lcm_lora_path, config.pose.backend = str(copy), None, "file"
    config.pose.folder, config.output.output_dir = str(tmp_path), str(tmp_path / "out")
    return config


@pytest.fixture
def read(monkeypatch):
    """The files that were hashed, in order."""
    seen, real = [], files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: seen.append(path.name) or real(path))
    return seen


def weight_files(read):
    return [name for name in read if name.endswith(".safetensors")]


def test_files_that_were_never_seen_are_read_once_and_not_by_the_check(given, read):
    models = Models(given)
    models.check()
    assert not weight_files(read)
    models.hash_ahead()
    hashes = models.weights
    assert len(weight_files(read)) == 4 and set(hashes) == {"vae", "image_encoder", "unet", "pose_net", "configs"}
    again = Models(given)
    again.check()
    assert "weights" in vars(again) and again.weights == hashes and len(weight_files(read)) == 4


def test_nobody_reads_twice_where_the_memory_of_hashes_cannot_be_written(given, read, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    models = Models(given)
    models.check()
    models.hash_ahead()
    assert models.weights and len(weight_files(read)) == 4


def test_a_result_that_is_not_there_is_planned_without_hashes(given, read, tmp_path):
    animator = Animator(given)
    animator.models.check()
    jobs = [Job(tmp_path / "a.mp4", given.test_case[0], 0, tmp_path / "out" / "a.mp4")]
    animator.require_kept(jobs)
    assert not any(animator.is_finished(job) for job in jobs)
    assert not weight_files(read)


def test_another_content_than_noted_stops_the_run_before_networks_are_loaded(given, copy, monkeypatch):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    noted = {"vae/diffusion_pytorch_model.safetensors": {"size": 1, "sha256": "0" * 64}}
    (copy / manifest.MANIFEST).write_text(json.dumps(noted))
    models = Models(given)
    monkeypatch.setattr(models, "_load_networks", lambda: pytest.fail("networks were loaded"))
    models.check()
    models.hash_ahead()
    with pytest.raises(SetupError, match="is damaged or another file"):
        _ = models.pipeline
    # Now it is remembered, so the next run is told by its check.
    with pytest.raises(SetupError, match="is damaged or another file"):
        Models(given).check()
    assert file.exists()


def test_a_file_that_changes_is_read_again(given, copy):
    models = Models(given)
    models.check()
    before = models.weights
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert Models(given).weights["unet"] != before["unet"]


def test_offloading_on_a_cpu_is_refused_before_anything_is_loaded(given, monkeypatch):
    given.runtime.offload, given.runtime.device = "model", "cpu"
    models = Models(given)
    with pytest.raises(UsageError, match="--offload none"):
        models.resolve()
    monkeypatch.setattr("mimicmotion.weights.create_pipeline", lambda *_: pytest.fail("networks were loaded"))
    with pytest.raises(UsageError, match="--offload none"):
        _ = models.pipeline
    with pytest.raises(UsageError, match="--offload none"):
        load_config(overrides=["runtime.offload=model", "runtime.device=cpu"])


def turbo(config, _project):
    animation.animate_folder(config)


def cache(config, project):
    config.feature_cache.folder = str(project / "cache" / "features")
    feature_cache.animate_folder_cached(config)


def api(config, project):
    api_module.animate(project / "person.png", project / "videos" / "a.mp4", config)


def concat(config, project):
    config.latent_concat.mode, config.latent_concat.cache_dir = "encode", str(project / "latents")
    config.latent_concat.output_dir = str(project / "joined")
    latent_concat.run_latent_concat(config)


def sweep(_config, project):
    given = {"sweep.settings": ["seed=1,2"], "sweep.output_dir": str(project / "sweep")}
    run_sweep(trace_config(project / "settings.yaml", given | {"feature_cache.enabled": False}))


def sentence(config, project):
    (project / "table.csv").write_text("sentence,words\nfirst,a b\n")
    config.sentences.table, config.sentences.words = str(project / "table.csv"), str(project / "videos")
    config.sentences.output_dir, config.feature_cache.enabled = str(project / "sentences"), False
    sentences.make_sentences(config)


@pytest.mark.parametrize("command", [turbo, cache, api, concat, sweep, sentence])
def test_every_command_looks_at_its_inputs_while_weights_are_hashed(project, tmp_path, monkeypatch, command):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "SMALL", -1)
    files.forget_content_hashes()
    seen, hashing, real = [], threading.Event(), files.sha256_file

    def hashed(path):
        if path.name.endswith(".safetensors"):
            hashing.set()
            seen.append("hashed first" if threading.current_thread() is threading.main_thread() else "hashed beside")
        return real(path)

    def looked(*_):
        assert hashing.wait(HANG_SECONDS)
        seen.append("looked")
        raise InputError("seen")

    monkeypatch.setattr(files, "sha256_file", hashed)
    for name in ("prepare", "reference"):
        monkeypatch.setattr(ClipMaker, name, looked)
    with contextlib.suppress(InputError):
        command(load_config(project / "settings.yaml"), project)
    assert "looked" in seen and "hashed beside" in seen and "hashed first" not in seen

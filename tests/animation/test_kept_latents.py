"""Nothing that was sampled is lost: a run whose decoding fails leaves latents, and the next one decodes them."""

import logging

import pytest

from mimicmotion.animation import kept_latents
from mimicmotion.animation.batch import animate_folder
from mimicmotion.config import load_config
from mimicmotion.pipelines import MimicMotionPipeline
from tests.animation.test_batch import record, results


def run(project, *overrides):
    return animate_folder(load_config(project / "settings.yaml", overrides=["batch.videos=[a.mp4]", *overrides]))


def kept(project):
    return sorted((project / "outputs" / "videos").glob("*.safetensors"))


@pytest.fixture
def interrupted(project, monkeypatch):
    """A project whose one result was sampled and could not be decoded."""
    with monkeypatch.context() as patch:
        patch.setattr(MimicMotionPipeline, "decode_in_chunks", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
        assert run(project) == 1
    assert [path.name for path in kept(project)] == ["a.safetensors"]
    return project


@pytest.fixture
def calls(monkeypatch):
    """Grows by one with every clip that is sampled."""
    sampled, call = [], MimicMotionPipeline.__call__

    def counted(*arguments, **named):
        sampled.append(1)
        return call(*arguments, **named)

    monkeypatch.setattr(MimicMotionPipeline, "__call__", counted)
    return sampled


def test_the_next_run_decodes_what_was_sampled_and_gives_the_same_result(interrupted, calls):
    assert run(interrupted) == 0
    assert calls == []
    assert kept(interrupted) == []
    resumed, facts = results(interrupted), record(interrupted)
    assert run(interrupted, "output.overwrite=true") == 0
    assert calls == [1]
    assert results(interrupted) == resumed
    assert record(interrupted)["sigmas"] == facts["sigmas"]


def test_what_changes_decoding_alone_takes_them_and_another_seed_does_not(interrupted, calls):
    assert run(interrupted, "sampling.decode_chunk_size=2") == 0
    assert calls == []
    assert run(interrupted, "test_case[0].seed=4", "output.overwrite=true") == 0
    assert calls == [1]
    assert kept(interrupted) == []


@pytest.mark.parametrize("damage", [lambda data: data[:-4] + b"\0\0\0\1", lambda data: data[:40], lambda data: b""])
def test_a_damaged_file_is_said_and_sampled_again(interrupted, calls, caplog, damage):
    path = kept(interrupted)[0]
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert run(interrupted) == 0
    assert calls == [1]
    assert "sampled again" in caplog.text


def test_a_full_disk_for_the_latents_is_no_failure(project, monkeypatch, caplog):
    from mimicmotion.errors import SetupError

    def full(*_):
        raise SetupError("the disk is full")

    monkeypatch.setattr(kept_latents, "write_tensors", full)
    assert run(project) == 0
    assert "not kept: the disk is full" in caplog.text

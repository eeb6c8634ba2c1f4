"""A result is decoded and written while the next is sampled: the same bytes, the same records, one failure alone."""

import threading
from types import SimpleNamespace

import pytest
import torch

from mimicmotion.animation import memory
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.writer import ResultWriter
from mimicmotion.errors import NumericalError
from mimicmotion.files import sha256_file
from mimicmotion.pipelines import GIB, LEFT_FREE, Rung, Shape, most, most_overlapped, peak
from mimicmotion.pipelines.chunked_vae import ChunkedVae
from tests.animation.test_batch import record, results, settings, summary
from tests.conftest import HANG_SECONDS, dancing_poses, write_pose_file

ON = ("batch.overlap=on", "output.overwrite=true")
OFF = ("batch.overlap=off", "output.overwrite=true")


@pytest.fixture
def side_by_side(project, monkeypatch):
    """The project, where a result is not written before the next is being sampled, and who did what in which thread."""
    begun, seen, sample, write = {}, [], Animator.sample, ResultWriter.write
    names = ["a", "b", "c"]

    def sampled(self, clip):
        seen.append(("sample", clip.job.stem, threading.get_ident()))
        begun.setdefault(clip.job.stem, threading.Event()).set()
        return sample(self, clip)

    def written(self, clip, *given):
        seen.append(("write", clip.job.stem, threading.get_ident()))
        for after in names[names.index(clip.job.stem) + 1 :][:1]:
            assert begun.setdefault(after, threading.Event()).wait(HANG_SECONDS)
        return write(self, clip, *given)

    monkeypatch.setattr(Animator, "sample", sampled)
    monkeypatch.setattr(ResultWriter, "write", written)
    return SimpleNamespace(project=project, seen=seen, patch=monkeypatch)


def run(project, *given):
    return animate_folder(settings(project, *given))


def without_chance(facts):
    """A record but for what differs from run to run."""
    left_out = ("made", "stage_seconds", "peak_memory_bytes", "settings", "record_sha256", "files")
    return {name: value for name, value in facts.items() if name not in left_out}


def test_results_and_records_are_the_same_and_two_are_made_at_a_time(side_by_side):
    project = side_by_side.project
    assert run(project, *ON, "batch.prefetch=1") == 0
    together, facts = results(project), without_chance(record(project, "b"))
    threads = {what: {thread for done, _, thread in side_by_side.seen if done == what} for what in ("sample", "write")}
    assert threads["write"] == {threading.get_ident()}
    assert len(threads["sample"]) == 1 and not threads["sample"] & threads["write"]
    side_by_side.patch.undo()
    assert run(project, *OFF) == 0
    assert results(project) == together and without_chance(record(project, "b")) == facts
    assert not list((project / "outputs").rglob("*.safetensors"))


def test_a_clip_that_cannot_be_sampled_fails_alone_and_once(project, monkeypatch):
    real, tries = Animator.sample, []

    def sampled(self, clip):
        tries.append(clip.job.stem)
        if clip.job.stem == "b":
            raise NumericalError("not finite")
        return real(self, clip)

    monkeypatch.setattr(Animator, "sample", sampled)
    assert run(project, *ON) == 1
    assert summary(project) == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done"}
    assert tries == ["a", "b", "c"]


def test_an_interrupt_ends_the_sampling_and_the_next_run_goes_on(project, monkeypatch):
    begun, write = threading.Event(), ResultWriter.write

    def written(self, clip, *given):
        if clip.job.stem == "b":
            assert begun.wait(HANG_SECONDS)
            raise KeyboardInterrupt
        return write(self, clip, *given)

    def sampled(self, clip, sample=Animator.sample):
        if clip.job.stem == "c":
            begun.set()
        return sample(self, clip)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(ResultWriter, "write", written)
        patch.setattr(Animator, "sample", sampled)
        assert run(project, "batch.overlap=on") == 130
    assert threading.active_count() == before
    assert set(results(project)) == {"a.mp4"}
    assert run(project, "batch.overlap=on") == 0
    assert summary(project) == {"a.mp4": "skipped", "b.mp4": "done", "c.mp4": "done"}


@pytest.mark.parametrize("alone", [False, True])
def test_memory_that_runs_out_beside_another_is_tried_again_alone_and_only_then_in_smaller_chunks(
    project, monkeypatch, alone
):
    """`alone`: a whole chunk is too large even when nothing else is done."""
    two = "batch.videos=[a.mp4,b.mp4]"
    assert run(project, *OFF, two) == 0
    before, decode, failed = results(project), ChunkedVae._decode, []

    def short(self, latents):
        if len(latents) > 4 and (alone or not failed):
            failed.append(len(latents))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, latents)

    monkeypatch.setattr(ChunkedVae, "_decode", short)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert run(project, *ON, two) == 0
    assert failed
    # Small decoders see each frame by itself, so that smaller chunks show in the record alone.
    assert results(project) == before
    assert [entry["size"] for entry in record(project).get("decode_chunks", [])] == ([3] if alone else [])


def test_what_changes_after_it_was_made_ready_is_made_ready_again(project, monkeypatch):
    """The poses of b change while a is written, when b has been prepared with the old ones."""
    read, write, prepared = Animator._read, ResultWriter.write, threading.Event()

    def reading(self, job):
        ready = read(self, job)
        if job.stem == "b":
            prepared.set()
        return ready

    def written(self, clip, *given):
        if clip.job.stem == "a":
            assert prepared.wait(HANG_SECONDS)
            write_pose_file(project / "poses" / "b.npz", dancing_poses(12)[6:], stride=2)
        return write(self, clip, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Animator, "_read", reading)
        patch.setattr(ResultWriter, "write", written)
        assert run(project, "batch.prefetch=1", "batch.overlap=off") == 0
    made = results(project)
    assert record(project, "b")["inputs"]["poses"] == sha256_file(project / "poses" / "b.npz")
    assert run(project, *OFF, "batch.videos=[b.mp4]") == 0
    assert results(project)["b.mp4"] == made["b.mp4"]


PUBLISHED = Shape(72, 72, 576, 1024, False, 8)


@pytest.mark.parametrize(("gib", "expected"), [(16, False), (24, False), (25, True), (80, True)])
def test_a_card_needs_room_for_both(gib, expected):
    rung = Rung(False, False, "none")
    together = most_overlapped([PUBLISHED], rung)
    assert most([PUBLISHED], rung) < together < peak(PUBLISHED, rung).sampling + peak(PUBLISHED, rung).decoding
    assert can_overlap(rung=rung, room=gib * GIB) == expected == (together <= gib * GIB - LEFT_FREE)


def can_overlap(overlap="auto", device="cuda", rung=None, room=0, **output):
    config = SimpleNamespace(
        batch=SimpleNamespace(overlap=overlap),
        output=SimpleNamespace(**({"preview": False} | output)),
        latent_steps=SimpleNamespace(folder=None),
    )
    offload = rung.offload if rung else "none"
    return memory.can_overlap(
        SimpleNamespace(
            config=config, rung=rung, room=room, planned=[PUBLISHED], offload=offload,
            device=SimpleNamespace(type=device),
        )
    )  # fmt: skip


def test_where_results_are_made_one_after_the_other():
    whole, large = Rung(False, False, "none"), 80 * GIB
    assert can_overlap(rung=whole, room=large)
    assert not can_overlap("off", rung=whole, room=large)
    assert not can_overlap("on", rung=whole, room=16 * GIB)
    assert not can_overlap("on", rung=Rung(False, True, "model"), room=large)
    assert not can_overlap("on", rung=whole, room=large, preview=True)
    assert not can_overlap(device="cpu") and can_overlap("on", device="cpu")

"""Clips that are made ready ahead: the same results in the same order, errors with their item, an end that is one."""

import threading

import pytest

from mimicmotion.animation import InputFeatures
from mimicmotion.animation.ahead import Ahead
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.inputs import GivenUp
from mimicmotion.errors import InputError
from mimicmotion.video import open_video
from mimicmotion.video import process as process_module
from tests.animation.test_batch import record, results, settings, summary
from tests.animation.test_seals import jobs_of, models_of
from tests.conftest import HANG_SECONDS, last_items


def jobs(tmp_path, count):
    one = jobs_of(tmp_path, models_of(tmp_path))[0]
    return [type(one)(one.video, one.case, 0, tmp_path / f"{number}.mp4", str(number)) for number in range(count)]


class Preparing:
    """Prepares jobs to their names, in whichever thread it is called; fails for some, a number of times."""

    def __init__(self, failing=()):
        self.order, self.threads, self.failing = [], set(), dict(failing)

    def __call__(self, job):
        self.order.append(job.stem)
        self.threads.add(threading.get_ident())
        if self.failing.get(job.stem):
            raise self.failing[job.stem].pop()
        return job.stem


def ahead_of(prepare, planned, depth=1, is_finished=lambda job: False):
    return Ahead(prepare, planned, is_finished, depth, threading.Event())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_clips_come_in_their_order_and_wait_in_bounds(tmp_path, depth):
    planned, prepare = jobs(tmp_path, 6), Preparing()
    ahead = ahead_of(prepare, planned, depth)
    for number, job in enumerate(planned):
        clip, seconds = ahead.take(job)
        assert clip == job.stem and seconds >= 0
        assert len(prepare.order) <= number + 1 + depth
    ahead.close()
    assert prepare.order == [str(number) for number in range(6)]
    assert len(prepare.threads) == 1 and threading.get_ident() not in prepare.threads


def test_an_error_comes_with_its_item_and_is_made_once(tmp_path):
    planned, prepare = jobs(tmp_path, 3), Preparing({"1": [InputError("nobody there")]})
    ahead = ahead_of(prepare, planned, 2)
    assert ahead.take(planned[0])[0] == "0"
    with pytest.raises(InputError, match="nobody there"):
        ahead.take(planned[1])
    assert ahead.take(planned[2])[0] == "2"
    ahead.close()
    assert prepare.order == ["0", "1", "2"]


PASSING = [MemoryError(), RuntimeError("out of memory"), InputError("x: Cannot allocate memory")]


@pytest.mark.parametrize("error", PASSING)
def test_what_may_come_of_two_at_a_time_is_tried_again_in_its_turn(tmp_path, error):
    planned = jobs(tmp_path, 3)
    once, always = Preparing({"1": [error]}), Preparing({"1": [error] * 9})
    ahead = ahead_of(once, planned)
    assert [ahead.take(job)[0] for job in planned] == ["0", "1", "2"]
    ahead.close()
    ahead = ahead_of(always, planned)
    ahead.take(planned[0])
    with pytest.raises(type(error)):
        ahead.take(planned[1])
    assert ahead.take(planned[2])[0] == "2"
    ahead.close()


def test_finished_jobs_are_not_prepared_and_others_may_be_left_out_or_come_back(tmp_path):
    planned, prepare = jobs(tmp_path, 8), Preparing()
    ahead = ahead_of(prepare, planned, 2, lambda job: job.stem in "0356")
    # 2 was finished by somebody else meanwhile; 5 was found finished and then deleted.
    assert [ahead.take(planned[number])[0] for number in (1, 4, 5, 7)] == ["1", "4", "5", "7"]
    ahead.close()
    assert set(prepare.order) == {"1", "2", "4", "5", "7"}


def test_a_look_that_fails_costs_no_item(tmp_path):
    def look(job):
        raise OSError("gone")

    planned = jobs(tmp_path, 2)
    ahead = ahead_of(Preparing(), planned, 1, look)
    assert [ahead.take(job)[0] for job in planned] == ["0", "1"]
    ahead.close()


def test_closing_ends_the_process_that_reads(tmp_path, driving_clip):
    """The thread waits for frames of a process that sends none; nothing but its end wakes it."""
    reading, ended = threading.Event(), []

    def prepare(job):
        with process_module.started(["sleep", str(HANG_SECONDS)]) as (process, _):
            reading.set()
            ended.append((process.stdout.read(), process))

    planned = jobs(tmp_path, 2)
    ahead = ahead_of(lambda job: prepare(job) if job.stem == "1" else job.stem, planned)
    ahead.take(planned[0])
    reading.wait()
    ahead.close()
    assert ended[0][0] == b"" and ended[0][1].poll() is not None


def test_detection_is_given_up_after_a_batch(tmp_path, driving_clip):
    class Detector:
        calls = 0

        def reset(self):
            pass

        def __call__(self, frames):
            self.calls += 1
            features.stop.set()
            return [{} for _ in frames]

    models = models_of(tmp_path, **{"pose.batch_size": 1})
    models.detector = Detector()
    features = InputFeatures(models)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(GivenUp):
        patch.setattr("mimicmotion.features.in_single_precision", lambda pose: pose)
        features.driving_poses(open_video(driving_clip), 1)
    assert models.detector.calls == 1


def test_results_are_the_same_bytes_and_a_bad_one_fails_alone(project, monkeypatch):
    (project / "poses" / "b.npz").write_bytes(b"broken")
    codes, files, ended, prepared = [], [], [], []
    real = Animator.preparing
    monkeypatch.setattr(Animator, "preparing", lambda self, planned: prepared.append(self) or real(self, planned))
    for depth in (0, 2):
        given = (f"batch.prefetch={depth}", "output.overwrite=true")
        codes.append(animate_folder(settings(project, *given)))
        files.append(results(project))
        items = last_items(project / "outputs")
        ended.append([(item["status"], item["message"], set(item["stage_seconds"])) for item in items])
    assert codes == [1, 1]
    assert files[0] == files[1] and set(files[0]) == {"a.mp4", "c.mp4"}
    assert ended[0] == ended[1]
    assert summary(project) == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done"}
    assert record(project)["stage_seconds"]["poses"] > 0
    assert all(animator.ahead is None for animator in prepared)


def test_an_interrupt_ends_the_thread_and_leaves_whole_results(project, monkeypatch):
    real, calls = Animator.sample, []

    def interrupted(self, clip):
        calls.append(clip.job.stem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, clip)

    monkeypatch.setattr(Animator, "sample", interrupted)
    before = threading.active_count()
    assert animate_folder(settings(project, "batch.prefetch=1")) == 130
    assert threading.active_count() == before
    assert set(results(project)) == {"a.mp4"}
    assert not list((project / "outputs").rglob(".tmp-*"))
    assert animate_folder(settings(project, "batch.prefetch=1")) == 0
    assert summary(project) == {"a.mp4": "skipped", "b.mp4": "done", "c.mp4": "done"}

"""How far a stage is, without waiting for any of it."""

import io
import logging
import sys
import threading

import pytest

from mimicmotion.progress import EVERY_SECONDS, Progress, track


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self):
        return self.now


class Waits:
    """Ends each wait of the telling thread when the test says so."""

    def __init__(self):
        self.asked, self.may_go, self.ended = [], threading.Semaphore(0), False
        self.begun = threading.Semaphore(0)

    def __call__(self, seconds):
        self.asked.append(seconds)
        self.begun.release()
        self.may_go.acquire()
        return self.ended

    def pass_one(self):
        """Lets one period end, and returns when its line was written and the next period begins."""
        self.may_go.release()
        self.begun.acquire()

    def stop(self):
        self.ended = True
        self.may_go.release()


def test_a_line_for_every_ten_seconds_with_done_total_and_the_time_left(caplog):
    clock, waits = Clock(), Waits()
    with caplog.at_level(logging.INFO), Progress("decoding", 96, "frame", terminal=False, clock=clock, wait=waits) as p:
        waits.begun.acquire()
        clock.now += 10
        waits.pass_one()
        p.update(24)
        clock.now += 10
        waits.pass_one()
        p.update(48)
        clock.now += 100
        waits.pass_one()
        waits.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "decoding: 0 of 96 frames",
        "decoding: 24 of 96 frames, 1 min 00 s left",
        "decoding: 72 of 96 frames, 40 s left",
    ]
    assert set(waits.asked) == {EVERY_SECONDS}


def test_a_short_stage_says_nothing(caplog):
    before = threading.active_count()
    with caplog.at_level(logging.INFO), Progress("poses", 3, "frame", terminal=False) as progress:
        progress.update(3)
    assert not caplog.records
    assert threading.active_count() == before, "no thread is left"


def test_an_error_ends_the_stage_and_goes_on():
    before = threading.active_count()
    with pytest.raises(ValueError), Progress("poses", 3, terminal=False):
        raise ValueError
    assert threading.active_count() == before


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("decoding", 4, "frame") as progress:
        progress.update(4)
    assert "decoding" in sys.stderr.getvalue() and "4" in sys.stderr.getvalue()


def test_tracked_items_come_in_order_and_are_counted():
    clock = Clock()
    items = track("abc", "drawing", 3, "picture", terminal=False, clock=clock)
    assert list(items) == ["a", "b", "c"]


def test_an_item_counts_when_it_is_done():
    progress = Progress("drawing", 4, "picture", terminal=False, clock=(clock := Clock()))
    assert progress.line() == "drawing: 0 of 4 pictures"
    progress.update()
    clock.now += 3.4
    assert progress.line() == "drawing: 1 of 4 pictures, 10 s left"


def test_a_stage_that_goes_on_judges_by_what_came_since_and_tells_its_note():
    clock = Clock()
    stage = Progress("training", 40_000, "step", initial=30_000, terminal=False, clock=clock)
    clock.now += 60
    assert stage.line() == "training: 30000 of 40000 steps"
    stage.update(100, note="loss 0.3100")
    assert stage.line() == "training: 30100 of 40000 steps, 1 h 39 min left, loss 0.3100"

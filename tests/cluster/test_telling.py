"""What a run on workers shows while it goes: true numbers, and no more lines than a screen has."""

import logging

import pytest

from mimicmotion.cluster.queue import Item, Slot
from mimicmotion.cluster.telling import LOG_EVERY, MOST_WORKERS, Telling, worker_lines
from tests.cluster.fake import outcomes_of


def slots_of(*names):
    outcomes = outcomes_of(*names)
    return [
        Slot(number, object(), "run", item=Item(outcome), since=10.0, begun=10.0 + number, facts={"host": f"h{number}"})
        for number, outcome in enumerate(outcomes)
    ]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_for_each_worker_the_longest_first():
    slots = slots_of("a.mp4", "b.mp4")
    slots[0].facts["gpu"] = "3"
    slots += [Slot(2), Slot(3, object(), "prepare", since=40.0), Slot(4, object(), closed=True)]
    assert worker_lines(slots, {0: "sampling", 1: "decoding"}, 100.0) == [
        "h0, GPU 3: a.mp4, sampling, 1 min 30 s",
        "h1: b.mp4, decoding, 1 min 29 s",
        "worker 3: getting ready, 1 min 00 s",
    ]
    slots[0].doing = "load"
    assert worker_lines(slots, {}, 100.0)[0] == "h0, GPU 3: a.mp4, loading, 1 min 30 s"


def test_of_many_workers_the_slowest_are_shown():
    lines = worker_lines(slots_of(*map(str, range(40))), {}, 100.0)
    assert len(lines) == MOST_WORKERS + 1 and lines[-1] == f"and {40 - MOST_WORKERS} more workers"


def test_a_line_in_the_log_every_half_minute_and_not_more(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Telling(10, lambda: {0: "sampling"}, terminal=False, clock=clock) as telling:
        for second in range(100):
            clock.now = float(second)
            telling.tell(slots_of("a.mp4"), 10 - second // 25)
    assert len(caplog.messages) == 99 // LOG_EVERY
    assert caplog.messages[0].startswith("1 of 10 results, 4 min 30 s left; h0: a.mp4, sampling, ")


@pytest.mark.parametrize(("left", "line"), [(10, "0 of 10 results"), (0, "10 of 10 results")])
def test_no_time_is_told_where_none_is_known(left, line):
    assert Telling(10, dict, terminal=False, clock=Clock()).line(left) == line


def test_a_bar_with_workers_below_it_that_gives_way_to_the_log(capsys, monkeypatch):
    clock, handler = Clock(), logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with Telling(4, dict, terminal=True, clock=clock) as telling:
            for second in range(1, 4):
                clock.now = float(second)
                telling.tell(slots_of("a.mp4", "b.mp4")[: 3 - second], 4 - second)
            root.warning("something odd")
        assert not handler.filters
    finally:
        root.removeHandler(handler)
    shown = capsys.readouterr().err
    assert "h0: a.mp4" in shown and "h1: b.mp4" in shown and "3/4" in shown and "something odd\n" in shown

"""Who does what, attempts, time limits and blame, on workers without processes (`fake`)."""

import hypothesis
import hypothesis.strategies as st
import pytest

from mimicmotion.cluster.performer import Answer
from mimicmotion.cluster.pool import GROW_EVERY, STARTS
from mimicmotion.cluster.queue import STRIKES
from tests.cluster.fake import HANG, LOST, FakeActors, ended, outcomes_of, pool_of, ready, scripted


def well(worker, outcome):
    return 1.0, ended(outcome)


def statuses(outcomes):
    return {outcome.job.name: outcome.status for outcome in outcomes}


def run(script, outcomes, room=2, **settings):
    """(exit code, what was settled in order, the workers)"""
    actors, settled = FakeActors(script, room), []
    code = pool_of(actors, outcomes, settled, **settings).run()
    assert len({id(outcome) for outcome in settled}) == len(settled), "settled twice"
    assert all(outcome in outcomes for outcome in settled)
    assert all((outcome.status != "not run") == (outcome in settled) for outcome in outcomes)
    return code, settled, actors


def test_everything_is_done_once_begun_in_order_one_item_at_a_time():
    outcomes = outcomes_of(*"abcdefg")
    code, settled, actors = run(scripted(well), outcomes)
    assert code == 0 and {outcome.status for outcome in settled} == {"done"} and len(settled) == 7
    assert [name for _, name in actors.runs()] == list("abcdefg")
    assert len(actors.workers) == 2 and actors.now < 5
    assert settled[0].where == {"host": "a", "process": 1, "attempt": 1} and settled[0].frames == 5


def test_no_more_workers_than_items():
    _, _, actors = run(scripted(well), outcomes_of("a"), workers="64")
    assert len(actors.workers) == 1


def test_networks_are_loaded_once_per_worker_and_count_for_no_item():
    loaded = set()

    def once(worker, outcome):
        return (1.0, ended(outcome)) if worker in loaded else (0.0, Answer("load"))

    def load(worker):
        loaded.add(worker)
        return 50.0, Answer("ready", facts={"device": "cuda:0, fake"})

    code, settled, actors = run(scripted(once, load=load), outcomes_of(*"abcd"), item_timeout=2.0)
    assert code == 0 and len(actors.workers) == 2
    assert [[how for how, *_ in worker.calls].count("load") for worker in actors.workers] == [1, 1]
    assert {outcome.where["device"] for outcome in settled} == {"cuda:0, fake"}


@pytest.mark.parametrize("end", [LOST, Answer("broken", "ValueError: odd"), HANG], ids=["killed", "exception", "hang"])
def test_an_item_that_ends_workers_fails_alone_after_its_attempts_each_on_another_slot(end):
    def bad(worker, outcome):
        return (1.0, end) if outcome.job.name == "b" else well(worker, outcome)

    outcomes = outcomes_of(*"abcdef")
    code, _, actors = run(scripted(bad), outcomes, item_timeout=9.0)
    assert code == 0, "whoever calls looks at the statuses"
    assert statuses(outcomes) == dict.fromkeys("acdef", "done") | {"b": "failed"}
    assert sorted(slot for slot, _ in actors.runs("b")) == [0, 1]
    assert outcomes[1].message.endswith(", 2 times") and outcomes[1].where["attempt"] == 2


def test_what_fails_by_its_own_fault_is_tried_once_by_a_worker_that_stays():
    outcomes = outcomes_of(*"abc")
    script = scripted(lambda _, outcome: (1.0, ended(outcome, "failed", "no person")))
    _, _, actors = run(script, outcomes, workers="1", attempts=5)
    assert set(statuses(outcomes).values()) == {"failed"} and len(actors.workers) == 1 and len(actors.runs()) == 3


def test_a_hang_ends_at_the_time_limit_and_not_before():
    outcomes = outcomes_of("slow", "hang")
    script = scripted(lambda _, one: (8.9, ended(one)) if one.job.name == "slow" else (0, HANG))
    _, _, actors = run(script, outcomes, item_timeout=9.0, attempts=1)
    assert statuses(outcomes) == {"slow": "done", "hang": "failed"} and 9 < actors.now < 11
    assert "9 s" in outcomes[1].message and "--item_timeout" in outcomes[1].message


def test_an_item_whose_worker_dies_once_is_done_by_another():
    died = []

    def once(worker, outcome):
        if outcome.job.name == "b" and not died:
            died.append(worker.slot)
            return 0.5, LOST
        return well(worker, outcome)

    outcomes = outcomes_of(*"abcd")
    run(scripted(once), outcomes)
    assert set(statuses(outcomes).values()) == {"done"} and outcomes[1].where["attempt"] == 2


def test_a_broken_gpu_does_not_eat_the_queue():
    def broken(worker, outcome):
        return (0.01, Answer("broken", "CUDA error")) if worker.slot == 0 else well(worker, outcome)

    outcomes = outcomes_of(*map(str, range(14)))
    code, _, actors = run(scripted(broken), outcomes)
    assert code == 0 and set(statuses(outcomes).values()) == {"done"}
    assert len([slot for slot, _ in actors.runs() if slot == 0]) == STRIKES
    # Its place stays taken, so that nobody else is sent there.
    assert [worker.alive for worker in actors.workers if worker.slot == 0][-1]


def test_the_last_worker_is_never_given_up_for_its_items():
    outcomes = outcomes_of(*map(str, range(8)))
    code, _, actors = run(scripted(lambda *_: (0.1, LOST)), outcomes, workers="1")
    assert code == 0 and set(statuses(outcomes).values()) == {"failed"} and len(actors.runs()) == 16


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_items_that_end_every_worker_close_no_slot(workers):
    outcomes = outcomes_of(*map(str, range(20)), "good")
    script = scripted(lambda worker, one: well(worker, one) if one.job.name == "good" else (0.1, LOST))
    actors, settled = FakeActors(script), []
    pool = pool_of(actors, outcomes, settled, workers=str(workers))
    assert pool.run() == 0 and len(pool.queue.open_slots()) == workers
    assert statuses(outcomes) == {str(n): "failed" for n in range(20)} | {"good": "done"}


def test_a_slot_that_was_suspected_of_what_its_items_did_is_opened_again():
    bad, long = {"0", "1", "2"}, "long"

    def script(worker, outcome):
        if outcome.job.name in bad:
            return 0.1, LOST
        return (100.0 if outcome.job.name == long else 1.0), ended(outcome)

    outcomes = outcomes_of(long, "0", "1", "2", *map(str, range(3, 30)))
    actors = FakeActors(scripted(script))
    pool = pool_of(actors, outcomes)
    assert pool.run() == 0 and not [slot for slot in pool.queue.slots if slot.closed]
    assert {name for name, status in statuses(outcomes).items() if status == "failed"} == bad


def test_a_machine_that_lacks_something_gives_its_item_back_uncounted():
    def full(worker, outcome):
        return (0.1, Answer("setup", "the disk is full")) if worker.slot == 0 else well(worker, outcome)

    outcomes = outcomes_of(*"abcd")
    code, _, actors = run(scripted(full), outcomes, attempts=1)
    assert code == 0 and set(statuses(outcomes).values()) == {"done"}
    assert [slot for slot, _ in actors.runs()].count(0) == 1


def test_where_every_machine_lacks_something_nothing_is_called_failed():
    outcomes = outcomes_of(*"abcd")
    code, settled, _ = run(scripted(lambda *_: (0.1, Answer("setup", "the disk is full"))), outcomes)
    assert code == 3 and not settled
    assert statuses(outcomes) == dict.fromkeys("abcd", "not run") and outcomes[0].message == "the disk is full"


def test_a_worker_with_other_packages_is_refused_by_name(caplog):
    differing = scripted(
        well, lambda worker: (0.1, ready("node7", **{"package torch": "3"}) if worker.slot else ready())
    )
    outcomes = outcomes_of(*"abcd")
    code, _, actors = run(differing, outcomes)
    assert code == 0 and {slot for slot, _ in actors.runs()} == {0}
    assert "node7" in caplog.text and "package torch: here 2, there 3" in caplog.text
    code, _, _ = run(scripted(well, lambda _: (0.1, ready(weights="x"))), outcomes_of("a"))
    assert code == 3


def test_workers_that_do_not_start_are_given_up_one_slot_at_a_time():
    outcomes = outcomes_of(*"ab")
    code, settled, actors = run(scripted(well, lambda worker: (0, HANG)), outcomes, start_timeout=10.0)
    assert code == 3 and not settled and len(actors.workers) == 2 * STARTS and 30 < actors.now < 40
    script = scripted(well, lambda worker: (0, HANG) if worker.slot == 0 else (0.1, ready()))
    code, _, actors = run(script, outcomes_of(*map(str, range(5))), start_timeout=1.0)
    assert code == 0


def test_networks_that_end_the_worker_while_they_load_are_no_items_fault():
    script = scripted(lambda *_: (0.0, Answer("load")), load=lambda _: (1.0, Answer("broken", "memory ran out")))
    outcomes = outcomes_of(*map(str, range(9)))
    code, settled, actors = run(script, outcomes)
    assert code == 3 and not settled and len(actors.workers) == 2 * STARTS


def test_a_lost_machine_takes_no_result_along():
    """Two slots of one machine die at once and find no place again; a third goes on."""

    def prepare(worker):
        again = [w for w in actors.workers if w.slot == worker.slot]
        return (0, HANG) if worker.slot < 2 and len(again) > 1 else (0.1, ready())

    def work(worker, outcome):
        return (5.0, LOST) if worker.slot < 2 else well(worker, outcome)

    actors, outcomes = FakeActors(scripted(work, prepare)), outcomes_of(*map(str, range(9)))
    assert pool_of(actors, outcomes, workers="3").run() == 0
    assert set(statuses(outcomes).values()) == {"done"} and actors.now < 20


def test_an_interrupt_marks_what_was_under_way():
    def ctrl_c(slots, left):
        if left == 3:
            raise KeyboardInterrupt

    def of_length(worker, outcome):
        return (9.0 if outcome.job.name == "b" else 1.0), ended(outcome)

    outcomes, settled = outcomes_of(*"abcde"), []
    assert pool_of(FakeActors(scripted(of_length)), outcomes, settled, ctrl_c).run() == 130
    assert statuses(outcomes) == dict.fromkeys("ac", "done") | {"b": "interrupted"} | dict.fromkeys("de", "not run")
    assert settled[-1] is outcomes[1] and len(settled) == 3


def test_machines_that_come_later_get_workers():
    outcomes = outcomes_of(*map(str, range(200)))
    room = lambda now: 4 if now > 2 * GROW_EVERY else 1  # noqa: E731
    _, _, actors = run(scripted(well), outcomes, room, workers="auto")
    assert {worker.slot for worker in actors.workers} == {0, 1, 2, 3}
    assert sum(slot > 0 for slot, _ in actors.runs()) > 60


def test_warnings_of_workers_are_heard_with_their_host(caplog):
    answer = Answer("ended", item=ended(outcomes_of("a")[0]).item, log=((30, "a third of the rows is cut"),))
    run(scripted(lambda *_: (0.1, answer)), outcomes_of("a"))
    assert ("WARNING", "a: a third of the rows is cut") in [(r.levelname, r.message) for r in caplog.records]


ANSWERS = {
    "prepare": ["ready", "ready", "ready", "lost", "hang", "setup", "differs"],
    "load": ["ready", "ready", "lost", "hang", "broken", "setup"],
    "run": ["done", "done", "done", "failed", "load", "lost", "broken", "hang", "setup"],
}


@hypothesis.settings(max_examples=150)
@hypothesis.given(data=st.data(), count=st.integers(0, 12), workers=st.integers(1, 4), attempts=st.integers(1, 3))
def test_whatever_happens_it_ends_and_each_outcome_is_settled_once(data, count, workers, attempts):
    """Among them workers that prepare items, of whom nothing depends."""
    begun, depth = {}, data.draw(st.integers(0, 2))

    def script(worker, method, arguments):
        kind = data.draw(st.sampled_from(ANSWERS[method]))
        if method == "run" and kind == "load" and len(arguments) > 1:
            kind = "done"  # it was loaded for
        preparing = worker in actors.preparers
        if method == "run" and kind in ("lost", "broken", "hang") and not preparing:
            name = arguments[0].job.name
            begun[name] = begun.get(name, 0) + 1
        seconds = data.draw(st.sampled_from([0.0, 0.3, 2.0]))
        answers = {
            "ready": ready(), "lost": LOST, "hang": HANG, "setup": Answer("setup", "full"), "load": Answer("load"),
            "differs": ready(weights="x"), "broken": Answer("broken", "odd"),
        }  # fmt: skip
        if kind in ("done", "failed"):
            return seconds, ended(arguments[0], kind)
        return seconds, answers[kind]

    outcomes = outcomes_of(*map(str, range(count)))
    left = []
    actors, settled = FakeActors(script), []
    pool = pool_of(
        actors, outcomes, settled, lambda _, number: left.append(number), workers=str(workers), attempts=attempts,
        item_timeout=5.0, start_timeout=5.0, depth=depth,
    )  # fmt: skip
    code = pool.run()
    assert code in (0, 3)
    assert [outcome for outcome in outcomes if outcome.status != "not run"] == [o for o in outcomes if o in settled]
    assert len(settled) == len({id(outcome) for outcome in settled})
    assert code == 3 or len(settled) == count
    assert left == sorted(left, reverse=True) and (not left or left[-1] == count - len(settled))
    # A slot that is closed gives attempts back, once to each item.
    assert all(number <= 2 * attempts for number in begun.values()), begun


@hypothesis.settings(max_examples=60)
@hypothesis.given(bad=st.sets(st.integers(0, 4), max_size=4), workers=st.integers(2, 5), count=st.integers(1, 30))
def test_what_can_be_done_somewhere_is_done(bad, workers, count):
    """Any number of broken GPUs beside at least one that is not."""
    bad = {slot for slot in bad if slot < workers - 1}

    def broken(worker, outcome):
        return (0.1, LOST) if worker.slot in bad else well(worker, outcome)

    outcomes = outcomes_of(*map(str, range(count)))
    code, _, _ = run(scripted(broken), outcomes, workers=str(workers), attempts=len(bad) + 1)
    assert code == 0 and set(statuses(outcomes).values()) == {"done"}

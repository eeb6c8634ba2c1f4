"""What prepares the next items is of use and never needed, and in nobody's way."""

import pytest

from mimicmotion.cluster.performer import Answer
from mimicmotion.cluster.preparers import COME_BACK_AFTER, MAKE_ROOM_AFTER, STARTS
from tests.cluster.fake import HANG, LOST, FakeActors, ended, outcomes_of, pool_of, ready, scripted

NAMES = [str(number) for number in range(20)]


def well(actors, worker, outcome):
    return (0.1 if worker in actors.preparers else 2.0), ended(outcome)


def run(item=well, prepare=lambda actors, worker: (0.1, ready()), **settings):
    """(actors, outcomes) of a run of two workers and those that prepare for them, as `item` and `prepare` say."""
    script = scripted(lambda *given: item(actors, *given), lambda worker: prepare(actors, worker))
    actors, outcomes, settled = FakeActors(script), outcomes_of(*NAMES), []
    assert pool_of(actors, outcomes, settled, **{"depth": 1} | settings).run() == 0
    assert {outcome.status for outcome in outcomes} == {"done"} and len(settled) == len(outcomes)
    assert not any(worker.alive for worker in actors.preparers)
    return actors, outcomes


def begun(workers):
    """(when, name) of every time that one of them was given an item, in order of time."""
    return sorted((when, item.job.name) for one in workers for how, item, when in one.calls if how == "run")


@pytest.mark.parametrize("depth", [1, 3])
def test_the_next_items_are_prepared_once_each_and_not_too_far_ahead(depth):
    actors, _ = run(depth=depth)
    done = {name: when for when, name in begun(actors.workers)}
    names = [name for _, name in begun(actors.preparers)]
    assert len(names) == len(set(names)) >= len(NAMES) - 4 and len(actors.preparers) == 2
    assert all(when <= done[name] <= when + 2.1 * (depth + 1) for when, name in begun(actors.preparers))


def test_none_are_begun_where_none_are_asked_for():
    assert not run(depth=0)[0].preparers


@pytest.mark.parametrize(
    "answer", [LOST, HANG, Answer("broken", "odd"), Answer("setup", "full"), ValueError("of another version")], ids=repr
)
def test_those_that_die_or_hang_cost_no_item_and_are_given_up(answer):
    actors, outcomes = run(lambda a, worker, one: (0.1, answer) if worker in a.preparers else (2.0, ended(one)))
    assert len(actors.preparers) <= 2 * STARTS
    assert {outcome.where["attempt"] for outcome in outcomes} == {1} and actors.now < 25


def test_one_that_hangs_ends_with_the_time_for_an_item():
    hanging = lambda a, worker, one: (0.1, HANG) if worker in a.preparers else (2.0, ended(one))  # noqa: E731
    actors, _ = run(hanging, item_timeout=3.0)
    assert len(actors.preparers) == 2 * STARTS


def test_one_that_differs_is_given_nothing():
    actors, _ = run(prepare=lambda a, worker: (0.1, ready(**({"weights": "x"} if worker in a.preparers else {}))))
    assert len(actors.preparers) == 2 * STARTS and not begun(actors.preparers)


def test_a_worker_that_looks_for_a_place_finds_them_gone_and_they_come_back():
    """The second worker is lost and finds no place again."""
    alive = []

    def item(actors, worker, outcome):
        if worker in actors.preparers:
            return 0.1, ended(outcome)
        alive.append((actors.now, any(one.alive for one in actors.preparers)))
        return (1.0, LOST) if worker.slot == 1 else (10.0, ended(outcome))

    def prepare(actors, worker):
        again = sum(one.slot == worker.slot for one in actors.workers) > 1
        return (0, HANG) if again and worker not in actors.preparers else (0.1, ready())

    run(item, prepare, start_timeout=900.0)
    lost = 1.1
    assert any(there for when, there in alive if lost < when < MAKE_ROOM_AFTER)
    assert not any(there for when, there in alive if lost + MAKE_ROOM_AFTER + 1 < when < lost + COME_BACK_AFTER)
    assert any(there for when, there in alive if when > lost + COME_BACK_AFTER + 11)

"""Who plays when. Seconds are given, so nothing here waits."""

import pytest

from mimicmotion.errors import InputError
from mimicmotion.serving.visitors import GRACE, MOST_SESSIONS, MOST_VISITORS, QUIET, Visitors
from mimicmotion.streaming import get_mode

IDLE, TURN = 600, 120


@pytest.fixture
def visitors():
    return Visitors(get_mode("universal"), IDLE, TURN)


def come(visitors, now=0.0, sid=None):
    return visitors.join(sid, object(), now)


def go(visitors, visitor, now):
    visitors.part(visitor, visitor.connection, now)


def press(visitor, now, keys="W"):
    visitor.held.change(visitor.held.seq + 1, frozenset(keys), (0, 0), now)
    visitor.last_input = now


def test_the_first_plays_and_the_others_watch(visitors):
    one, two = come(visitors), come(visitors)
    assert visitors.role(one) == ("player", 0) and visitors.role(two) == ("watcher", 0)
    assert one.sid != two.sid and len(one.sid) >= 24


def test_the_turn_goes_on_in_the_order_of_asking(visitors):
    one, two, three = (come(visitors) for _ in range(3))
    for visitor in (three, two, three):
        visitors.ask(visitor, 1)
    assert [visitors.role(visitor) for visitor in (one, two, three)] == [("player", 0), ("watcher", 2), ("watcher", 1)]
    visitors.leave(one, 2)
    assert visitors.player is three and visitors.role(two) == ("watcher", 1) and visitors.role(one) == ("watcher", 0)
    visitors.leave(two, 3)
    visitors.leave(three, 4)
    assert visitors.player is None
    visitors.ask(two, 5)
    assert visitors.player is two


def test_a_window_that_comes_back_has_its_session_and_its_turn(visitors):
    one, two = come(visitors), come(visitors)
    one.session = "his"
    go(visitors, one, 5)
    assert visitors.tick(5 + GRACE / 2) == [] and visitors.player is one
    assert come(visitors, 6, one.sid) is one and one.session == "his" and one.is_here
    assert come(visitors, 7, "no such secret") not in (one, two)


def test_a_line_that_was_replaced_takes_nobody_away(visitors):
    one = come(visitors)
    old = one.connection
    press(one, 0)
    come(visitors, 1, one.sid)
    assert one.held.keys == (), "the old window's keys"
    visitors.part(one, old, 2)
    assert one.is_here


def test_keys_are_let_go_when_the_line_is_lost_and_when_the_turn_ends(visitors):
    one, two = come(visitors), come(visitors)
    press(one, 1)
    go(visitors, one, 2)
    assert one.held.keys == ()
    come(visitors, 3, one.sid)
    press(one, 4)
    visitors.ask(two, 4)
    visitors.leave(one, 5)
    assert one.held.keys == ()


@pytest.mark.parametrize("reason", ["quiet", "long enough"])
def test_who_waits_gets_the_turn_of_one_who_is(visitors, reason):
    one, two = come(visitors), come(visitors)
    press(one, 0, "" if reason == "quiet" else "W")
    last = {"quiet": QUIET, "long enough": TURN}[reason]
    visitors.tick(last + 1)
    assert visitors.player is one, "nobody waits"
    visitors.ask(two, last)
    visitors.tick(last)
    assert visitors.player is one
    visitors.tick(last + 1)
    assert visitors.player is two


def test_the_turn_of_one_who_is_gone_goes_to_one_who_waits_or_else_to_the_first_who_is_here(visitors):
    one, two, three = (come(visitors) for _ in range(3))
    go(visitors, one, 0)
    visitors.tick(GRACE)
    assert visitors.player is one
    visitors.tick(GRACE + 1)
    assert visitors.player is two
    visitors.ask(three, GRACE + 1)
    come(visitors, GRACE + 2, one.sid)
    go(visitors, two, GRACE + 2)
    visitors.tick(2 * GRACE + 3)
    assert visitors.player is three
    for visitor in (one, three):
        go(visitors, visitor, 20)
    visitors.tick(30)
    assert visitors.player is three, "nobody is here"


def test_who_holds_a_key_is_not_quiet(visitors):
    one, two = come(visitors), come(visitors)
    visitors.ask(two, 0)
    press(one, 0)
    visitors.tick(QUIET + 1)
    assert visitors.player is one


def test_the_turn_goes_to_nobody_who_is_gone(visitors):
    one, two, three = (come(visitors) for _ in range(3))
    visitors.ask(two, 1)
    visitors.ask(three, 1)
    go(visitors, two, 2)
    visitors.leave(one, 3)
    assert visitors.player is three


def test_idle_sessions_end_and_watching_is_no_session(visitors):
    one, two = come(visitors), come(visitors)
    one.session = "his"
    press(one, 1, "")
    assert visitors.tick(IDLE) == []
    assert visitors.tick(IDLE + 2) == [one] and visitors.find(one.sid) is None
    assert visitors.player is None and two.is_here
    assert visitors.tick(10 * IDLE) == []
    go(visitors, two, 10 * IDLE)
    assert visitors.tick(12 * IDLE) == [two]


def test_there_is_room_for_so_many(visitors):
    here = [come(visitors) for _ in range(MOST_VISITORS)]
    with pytest.raises(InputError):
        come(visitors)
    for number in (3, 4, 5):
        go(visitors, here[number], 1)
    here[3].session, here[5].tape = "his", "is being recorded"
    for leaves in (4, 3):
        assert come(visitors, 2).is_here and visitors.find(here[leaves].sid) is None
    with pytest.raises(InputError):
        come(visitors)
    assert visitors.player is here[0]


def test_sessions_beyond_what_is_kept_are_those_of_the_longest_gone(visitors):
    everybody = [come(visitors, number) for number in range(MOST_SESSIONS + 2)]
    for visitor in everybody:
        visitor.session = "his"
    go(visitors, everybody[4], 50)
    assert visitors.surplus() == [everybody[4], everybody[1]], "never that of the player"

"""Laws of frame times: the rate is what the times say, and rounding of times changes no frame."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.video.timing import TIE, clean_times, frame_at, frame_rate, num_resampled

MS = 0.001


def steady(rate: Fraction | float, count: int, missing: tuple = (), digits: int | None = None) -> list[float]:
    """Times of frames at `rate`, some of them missing, rounded as a container may."""
    times = [float(index / rate) for index in range(count) if index not in missing]
    return [round(time, digits) for time in times] if digits else times


RATES = [Fraction(30000, 1001), Fraction(24000, 1001), 30, 25, 60, 12.5]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("digits", [None, 3])
def test_a_rate_is_taken_as_claimed_where_the_times_allow_it(rate, digits):
    assert frame_rate(steady(rate, 90, digits=digits), [Fraction(1000), Fraction(rate)], MS) == (rate, True)


@pytest.mark.parametrize("rate", [30, 25, 60])
def test_a_rate_is_found_where_nothing_true_is_claimed(rate):
    found, even = frame_rate(steady(rate, 90, digits=3), [Fraction(1000)], MS)
    assert even and abs(found - rate) < 0.02


@given(st.lists(st.floats(-0.016, 0.016), min_size=80, max_size=80))
def test_a_recorder_that_jitters_is_even(jitter):
    times = [index / 30 + shift for index, shift in enumerate(jitter)]
    times = [time - times[0] for time in times]
    rate, even = frame_rate(times, [Fraction(1000)], MS)
    assert even and 29.5 < rate < 30.5


def test_a_few_missing_frames_leave_the_rate():
    assert frame_rate(steady(30, 300, missing=(40,)), [Fraction(30)], MS) == (30, True)
    assert frame_rate(steady(30, 23, missing=(18, 20, 21)), [Fraction(30)], MS) == (30, True)


@pytest.mark.parametrize(("early", "late"), [(30, 6), (30, 15), (60, 30), (24, 30)])
def test_a_change_of_rate_is_uneven(early, late):
    times = list(itertools.accumulate([1 / early] * 40 + [1 / late] * 40, initial=0.0))
    rate, even = frame_rate(times, [Fraction(early), Fraction(late)], MS)
    assert not even and rate == pytest.approx(80 / times[-1], rel=1e-3)


def test_a_pause_is_uneven():
    times = [index / 30 + (index >= 40) * 0.5 for index in range(80)]
    assert frame_rate(times, [Fraction(30)], MS)[1] is False


def test_one_frame_has_the_rate_it_claims():
    assert frame_rate([0.0], [None, Fraction(25)], MS) == (25, True)
    assert frame_rate([0.0], [], MS) == (None, True)


SEGMENTS = st.lists(
    st.tuples(st.sampled_from([6, 10, 12, 15, 20, 24, 30, 60]), st.integers(2, 20)), min_size=2, max_size=5
)


@given(SEGMENTS)
def test_rounding_to_milliseconds_changes_no_frame(segments):
    steps = [Fraction(1, rate) for rate, count in segments for _ in range(count)]
    exact = [float(time) for time in itertools.accumulate(steps, initial=Fraction(0))]
    rounded = [round(time, 3) for time in exact]
    count = num_resampled(exact)
    assert count == num_resampled(rounded)
    instants = [index / 30 for index in range(count)]
    assert [frame_at(exact, at) for at in instants] == [frame_at(rounded, at) for at in instants]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 20))
def test_the_nearest_frame_is_taken(steps, seconds):
    times = list(itertools.accumulate(steps, initial=0.0))
    taken = frame_at(times, seconds)
    assert abs(times[taken] - seconds) <= min(abs(time - seconds) for time in times) + TIE


def test_an_even_clip_resampled_is_itself():
    times = steady(30, 80)
    assert num_resampled(times) == 80
    assert [frame_at(times, index / 30) for index in range(80)] == list(range(80))


def test_missing_times_and_steps_back_become_typical_steps():
    base = Fraction(1, 100)
    assert clean_times([5, 7, None, 11, 13], base, restarts=False) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    assert clean_times([0, 2, 4, 1, 3], base, restarts=False) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    assert clean_times([None, None], base, restarts=False) == [0, 0]
    jump = [0, 2, 4, 5004, 5006]
    assert clean_times(jump, base, restarts=True)[-1] == pytest.approx(0.08)
    assert clean_times(jump, base, restarts=False)[-1] == pytest.approx(50.06)

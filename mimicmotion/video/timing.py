"""Frame times: how many frames a second a clip really has, whether they come evenly, which frame an instant shows.

A header may claim any rate. Here it is (frames - 1) over the time between the first and the last one: each frame lasts
until the next, and the last as long as the average.
"""

import bisect
import itertools
import statistics
from collections.abc import Sequence
from fractions import Fraction

# A clip of uneven times is sampled as if it had this many frames a second, each the nearest there is. The published
# sampling (every second frame, shown at 15 a second) plays a clip of this rate at its own speed.
RESAMPLED_FPS = 30
# Containers round times, matroska to milliseconds. Of two frames nearly as near, the earlier is taken; otherwise the
# same packets would give other frames in another container.
TIE = 0.002
# Where times restart, as in joined transport streams, a step forward of so many seconds is no real pause.
RESTART_SECONDS = 10


def clean_times(pts: Sequence[int | None], time_base: Fraction, restarts: bool) -> list[Fraction]:
    """Times of frames in seconds from the first one, never decreasing.

    Args:
        pts: times in units of `time_base`; None where the container has none.
        restarts: whether times of this container may start anew half way.

    Missing times and steps back are replaced by a typical step.
    """
    known = [b - a for a, b in itertools.pairwise(pts) if a is not None and b is not None and b > a]
    typical = Fraction(statistics.median_low(known)) if known else Fraction(0)
    longest = RESTART_SECONDS / time_base if restarts else None
    times = [Fraction(0)]
    for before, after in itertools.pairwise(pts):
        step = typical
        if before is not None and after is not None and after >= before:
            step = Fraction(after - before)
        if longest is not None and step > longest:
            step = typical
        times.append(times[-1] + step)
    return [time * time_base for time in times]


def frame_rate(times: Sequence[Fraction], claims: Sequence[Fraction | None], tick: Fraction) -> Fraction | None:
    """Frames a second.

    Args:
        times: of the frames, in seconds from the first one.
        claims: what the container says; the first that the times allow is taken, since times are rounded and
            30000/1001 is not to be found in milliseconds.
        tick: to what the times are rounded, in seconds.

    Returns: None for a clip without extent in time that claims nothing.
    """
    claims = [claim for claim in claims if claim]
    steps, span = len(times) - 1, times[-1] - times[0]
    if span <= 0:
        return claims[0] if claims else None
    lowest, highest = steps / (span + tick), steps / max(span - tick, tick / 2)
    fitting = (claim for claim in claims if lowest <= claim <= highest)
    return next(fitting, None) or _simplest(lowest, highest)


def _simplest(lowest: Fraction, highest: Fraction) -> Fraction:
    """The fraction of smallest denominator between two others."""
    middle = (lowest + highest) / 2
    for denominator in itertools.count(1):
        fraction = Fraction(round(middle * denominator), denominator)
        if lowest <= fraction <= highest:
            return fraction
    raise AssertionError("there is always one")


def is_even(times: Sequence[Fraction]) -> bool:
    """Whether no frame is further than half a frame from where a steady rate puts it.

    Then frame by frame is as good as instant by instant: a recorder's jitter, a container's rounding and single
    dropped frames pass; a change of rate or a pause does not.
    """
    steps, span = len(times) - 1, times[-1] - times[0]
    if steps < 2 or span <= 0:
        return True
    offsets = [float((time - times[0]) * steps / span) - index for index, time in enumerate(times)]
    return max(offsets) - min(offsets) <= 1 + 1e-9


def num_resampled(times: Sequence[float]) -> int:
    """How many frames a clip has when it is brought to RESAMPLED_FPS."""
    span = times[-1] * len(times) / (len(times) - 1)
    return max(1, int((span - TIE) * RESAMPLED_FPS + 0.5))


def frame_at(times: Sequence[float], seconds: float) -> int:
    """The index of the frame whose time is nearest."""
    after = bisect.bisect_right(times, seconds)
    if after == 0 or after == len(times):
        return max(0, after - 1)
    nearer = (seconds - times[after - 1]) - (times[after] - seconds) > TIE
    return after if nearer else after - 1

"""Frame times: how many frames a second a clip really has, whether they come evenly, which frame an instant shows.

A header may claim any rate. Here it is (frames - 1) over the time between the first and the last one, since each frame
lasts until the next; how long the last one is shown, containers tell differently or not at all.
"""

import bisect
import itertools
import math
import statistics
from collections.abc import Sequence
from fractions import Fraction

# A clip of uneven times is sampled as if it had this many frames a second, each the nearest there is. The published
# sampling (every second frame, shown at 15 a second) plays a clip of this rate at its own speed.
RESAMPLED_FPS = 30
# Containers round times, matroska to milliseconds. Of two frames nearly as near, the earlier is taken; otherwise the
# same packets would give other frames in another container.
TIE = 0.002
EVEN_SECONDS = 0.1
# Where times restart, as in joined transport streams, a step forward of so many seconds is no real pause.
RESTART_SECONDS = 10


def clean_times(pts: Sequence[int | None], time_base: Fraction, restarts: bool) -> list[float]:
    """Times of frames in seconds from the first one, never decreasing.

    Args:
        pts: times in units of `time_base`; None where the container has none.
        restarts: whether times of this container may start anew half way.

    Missing times and steps back are replaced by a typical step.
    """
    known = [b - a for a, b in itertools.pairwise(pts) if a is not None and b is not None and b > a]
    typical = statistics.median_low(known) if known else 0
    longest = RESTART_SECONDS / time_base if restarts else math.inf
    times = [0]
    for before, after in itertools.pairwise(pts):
        step = typical
        if before is not None and after is not None and 0 <= after - before <= longest:
            step = after - before
        times.append(times[-1] + step)
    return [time * time_base.numerator / time_base.denominator for time in times]


def frame_rate(times: Sequence[float], claims: Sequence[Fraction | None], tick: float) -> tuple[Fraction | None, bool]:
    """Frames a second, and whether the frames come evenly: at that rate, frame by frame is as good as by the clock.

    Args:
        times: of the frames, in seconds from the first one.
        claims: what the container says. One that the times allow is taken: times are rounded, and 30000/1001 is not to
            be found in milliseconds. So is one that the typical step confirms, where a few frames are missing.
        tick: to what the times are rounded, in seconds.

    Returns: (None, True) for a clip without extent in time that claims nothing.
    """
    claims = [claim for claim in claims if claim]
    steps, span = len(times) - 1, times[-1] - times[0]
    if span <= 0:
        return (claims[0] if claims else None), True
    lowest, highest = steps / (span + tick), steps / max(span - tick, tick / 2)
    fitting = [claim for claim in claims if lowest <= claim <= highest]
    mean = fitting[0] if fitting else _simplest(lowest, highest)
    typical = statistics.median_low([b - a for a, b in itertools.pairwise(times)])
    confirmed = [claim for claim in claims if abs(1 / claim - typical) <= tick]
    steady = next((rate for rate in [*fitting, *confirmed, mean] if keeps_time(times, rate)), None)
    return (mean, False) if steady is None else (steady, True)


def keeps_time(times: Sequence[float], rate: Fraction) -> bool:
    """Whether no frame is further than half a frame, or 50 ms, from where a steady rate puts it.

    A recorder's jitter, a container's rounding and a few dropped frames pass; a change of rate or a pause does not. Of
    sound, ITU-R BT.1359 has the first shift that is noticed at 45 ms.
    """
    step = float(1 / rate)
    offsets = [time - index * step for index, time in enumerate(times)]
    return max(offsets) - min(offsets) <= max(step, EVEN_SECONDS) + 1e-9


def _simplest(lowest: float, highest: float) -> Fraction:
    """The fraction of smallest denominator between two others."""
    middle = (lowest + highest) / 2
    for denominator in itertools.count(1):
        fraction = Fraction(round(middle * denominator), denominator)
        if lowest <= fraction <= highest:
            return fraction
    raise AssertionError("there is always one")


def num_resampled(times: Sequence[float]) -> int:
    """How many frames a clip has when it is brought to RESAMPLED_FPS. The last one lasts a typical step."""
    span = times[-1] + statistics.median_low([b - a for a, b in itertools.pairwise(times)])
    return max(1, int((span - TIE) * RESAMPLED_FPS + 0.5))


def frame_at(times: Sequence[float], seconds: float) -> int:
    """The index of the frame whose time is nearest."""
    after = bisect.bisect_right(times, seconds)
    if after == 0 or after == len(times):
        return max(0, after - 1)
    nearer = (seconds - times[after - 1]) - (times[after] - seconds) > TIE
    return after if nearer else after - 1

"""What one signer signs: words from rest to rest, as people film them, and whole sentences in one movement."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mimicmotion.puppets.clips import FPS, PuppetClip, show
from mimicmotion.puppets.motion import draw_motion, stand
from mimicmotion.puppets.person import draw_person

REST_S, RAISE_S, SIGN_S = 0.4, 0.4, 1.0
BETWEEN_S = 0.4  # from the last frame of a sign to the first of the next
QUIET = ("yaw", "twist", "bend", "lean", "dx", "head_yaw", "head_pitch", "head_roll")
CALM = 0.3  # how much a signer moves the body in comparison with other people


class SignedSentence(NamedTuple):
    """A clip, frame 0 the signer at rest as in other clips, and in which frames of it each sign is."""

    clip: PuppetClip
    signs: list[range]


def make_word(signer: int, word: int, height: int = 192, width: int = 128) -> PuppetClip:
    """The clip of a word, 2.6 s at 15 frames per second; frame 0 is the signer at rest, as in other clips.

    Args:
        signer, word: seeds of the person and of the sign.
    """
    person = draw_person(np.random.default_rng(signer), whole_body=True)
    rng = np.random.default_rng([signer, word])
    frames = round((2 * REST_S + 2 * RAISE_S + SIGN_S) * FPS)
    times = np.arange(-1, frames) / FPS
    rest, sign = stand(np.random.default_rng(signer)), draw_motion(rng, "sign").angles(times + rng.uniform(3, 60))
    end = REST_S + RAISE_S + SIGN_S
    return show(person, _from_rest(rest, sign, _raised(times, end)), height, width, rng)


def make_sentence(signer: int, words: Sequence[int], height: int = 192, width: int = 128) -> SignedSentence:
    """The signs of several words in one movement, from rest to rest: every angle is smooth all the way.

    Each sign is that of `make_word` while that signs; from one to the next the angles change within 0.4 s while both
    signs go on.

    Args:
        signer, words: seeds of the person and of the signs, at least one.
    """
    person = draw_person(np.random.default_rng(signer), whole_body=True)
    period, first = SIGN_S + BETWEEN_S, REST_S + RAISE_S
    end = first + len(words) * period - BETWEEN_S
    times = np.arange(-1, round((end + first) * FPS)) / FPS
    rngs = [np.random.default_rng([signer, word]) for word in words]
    shifts = -period * np.arange(len(words))
    signs = [
        draw_motion(rng, "sign").angles(times + shift + rng.uniform(3, 60))
        for rng, shift in zip(rngs, shifts, strict=True)
    ]
    angles = signs[0]
    for number, sign in enumerate(signs[1:], 1):
        share = _smooth((times - (first + number * period - BETWEEN_S)) / BETWEEN_S)
        angles = {name: angles[name] + share * (sign[name] - angles[name]) for name in angles}
    moving = _from_rest(stand(np.random.default_rng(signer)), angles, _raised(times, end))
    starts = [1 + round((first + number * period) * FPS) for number in range(len(words))]
    clip = show(person, moving, height, width, rngs[0])
    return SignedSentence(clip, [range(start, start + round(SIGN_S * FPS) + 1) for start in starts])


def _from_rest(rest: dict, sign: dict, share: np.ndarray) -> dict[str, np.ndarray]:
    """Angles between those of rest and those of signing."""
    return {name: rest[name] + share * ((CALM if name in QUIET else 1.0) * sign[name] - rest[name]) for name in sign}


def _raised(times: np.ndarray, end: float) -> np.ndarray:
    """0 at rest, 1 while signing, which ends at the second `end`; smooth between them."""
    return _smooth(np.minimum((times - REST_S) / RAISE_S, (end + RAISE_S - times) / RAISE_S))


def _smooth(share: np.ndarray) -> np.ndarray:
    """0 up to 0, 1 from 1 on, with neither speed nor acceleration at both ends."""
    way = share.clip(0, 1)
    return way**3 * (10 - 15 * way + 6 * way**2)

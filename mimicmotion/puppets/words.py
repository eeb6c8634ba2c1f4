"""Word clips of one signer: from rest into a sign and back to rest, as people film words for sentences."""

import numpy as np

from mimicmotion.puppets.clips import FPS, PuppetClip, show
from mimicmotion.puppets.motion import draw_motion, stand
from mimicmotion.puppets.person import draw_person

REST_S, RAISE_S, SIGN_S = 0.4, 0.4, 1.0
QUIET = ("yaw", "twist", "bend", "lean", "dx", "head_yaw", "head_pitch", "head_roll")
CALM = 0.3  # how much a signer moves the body in comparison with other people


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
    share = _raised(times)
    angles = {name: rest[name] + share * ((CALM if name in QUIET else 1.0) * sign[name] - rest[name]) for name in sign}
    return show(person, angles, height, width, rng)


def _raised(times: np.ndarray) -> np.ndarray:
    """0 at rest, 1 in the sign, smooth between them."""
    end = REST_S + RAISE_S + SIGN_S
    way = np.minimum((times - REST_S) / RAISE_S, (end + RAISE_S - times) / RAISE_S).clip(0, 1)
    return way**3 * (10 - 15 * way + 6 * way**2)

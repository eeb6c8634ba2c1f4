"""How near the way between two words is to what signers do: poses alone, no model.

examples:
  python scripts/measure_joins.py
  python scripts/measure_joins.py --signers 2 --words 3

Drawn signers sign whole sentences in one movement; what lies between two signs is taken out and filled again:

    poses      as scripts/animate_sentences.py fills it
    straight   each point on a straight line, evenly
    still      the last pose of the one sign up to the middle, then the first of the next

place and change are errors of elbows and wrists as doc/sentences.md defines them, hands that of all points of both
hands, each in percent of the body's height. Exit codes: 0 done, 2 wrong use.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from mimicmotion.cli import guarded_console
from mimicmotion.config import SentenceSettings
from mimicmotion.dwpose import blend_poses, body_height
from mimicmotion.latent_concat import compare_poses
from mimicmotion.puppets import make_sentence
from mimicmotion.sentences import Pace, transition

FIRST_SIGNER = 2_005_000
HEIGHT, WIDTH, FPS = 96, 64, 15.0


def straight(before, after, count, _pace):
    """Every point on a straight line."""
    return [blend_poses(before[-1], after[0], (frame + 1) / (count + 1)) for frame in range(count)]


def still(before, after, count, _pace):
    """Both ends, held."""
    return [before[-1] if 2 * frame < count else after[0] for frame in range(count)]


WAYS = {"poses": transition, "straight": straight, "still": still}


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signers", type=int, default=6, help="how many signers (default: 6)")
    parser.add_argument("--words", type=int, default=6, help="words of the sentence of each (default: 6)")
    arguments = parser.parse_args(argv)
    if arguments.signers < 1 or arguments.words < 2:
        parser.error("take one signer or more, and two words or more")
    errors, lengths = measure(arguments.signers, arguments.words)
    print(f"{'way':10}{'place':>7}{'change':>8}{'hands':>7}")
    for name, found in errors.items():
        place, change, hands = np.mean(found, axis=0)
        print(f"{name:10}{place:7.2f}{change:8.2f}{hands:7.2f}")
    print(
        f"{len(lengths)} joins of 5 frames; --transition_frames auto takes {min(lengths)} to {max(lengths)}, "
        f"{np.mean(lengths):.1f} in the mean"
    )
    return 0


def measure(signers: int, words: int) -> tuple[dict[str, list[tuple[float, float, float]]], list[int]]:
    """(place, change, hands) of every way and join, and how many frames each join would have by itself."""
    errors, lengths, aspect = {name: [] for name in WAYS}, [], WIDTH / HEIGHT
    for signer in range(signers):
        sentence = make_sentence(FIRST_SIGNER + signer, range(signer * words, (signer + 1) * words), HEIGHT, WIDTH)
        poses = sentence.clip.poses
        size = body_height(poses, aspect)
        pace = Pace(size, SentenceSettings.speed_limit * size / FPS, aspect, FPS)
        for first, last in pairwise(sentence.signs):
            before, after = poses[first.start : first.stop], poses[last.start : last.stop]
            true = poses[first.stop : last.start]
            lengths.append(len(transition(before, after, None, pace)))
            for name, way in WAYS.items():
                between = way(before, after, len(true), pace)
                ends = [before[-1], *between, after[0]]
                change = compare_poses(ends, [before[-1], *true, after[0]], aspect, size).change
                place = compare_poses(between, true, aspect, size).place
                errors[name].append((place, change, hand_error(between, true, aspect) / size))
    return errors, lengths


def hand_error(found, true, aspect: float) -> float:
    """Mean distance of all points of both hands, percent of the frame's height."""
    one, other = (np.array([pose["hands"] for pose in poses]) * (aspect, 1.0) for poses in (found, true))
    return 100 * float(np.linalg.norm(one - other, axis=-1).mean())


if __name__ == "__main__":
    sys.exit(main())

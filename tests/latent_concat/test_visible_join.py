"""How much a join shows: a clean movement least, arms that are there twice most; standing still is not best."""

import numpy as np
import pytest

from mimicmotion.dwpose import arrays_from_pose, body_height, empty_pose, pose_from_arrays
from mimicmotion.latent_concat.visible_join import compare_poses, double_exposure, judge_join, nearest_person, shown_at
from mimicmotion.puppets import PuppetDetector, make_sentence
from tests.sentences.signing import HEIGHT, signer

BETWEEN = 5


@pytest.fixture(scope="module")
def moving():
    """Frames and poses around the way from one sign to the next, two of both signs beside it."""
    sentence = make_sentence(2_000_003, (0, 1))
    first, last = sentence.signs
    frames = slice(first.stop - 2, last.start + 2)
    return sentence.clip.frames[frames], sentence.clip.poses[frames]


@pytest.fixture(scope="module")
def judged(moving):
    """What is said of several ways to fill the frames between two signs."""
    frames, poses = moving
    before, after, detector = frames[:2], frames[-2:], PuppetDetector()
    shares = np.arange(1, BETWEEN + 1)[:, None, None, None] / (BETWEEN + 1)
    blends = (before[-1] * (1 - shares) + after[0] * shares).round().astype(np.uint8)
    ways = {
        "true": frames[2:-2],
        "blend": blends,
        "half": np.repeat(blends[BETWEEN // 2][None], BETWEEN, 0),
        "before": np.repeat(before[-1:], BETWEEN, 0),
        "after": np.repeat(after[:1], BETWEEN, 0),
        "cut": frames[:0],
    }
    height = body_height(poses, frames.shape[2] / frames.shape[1])
    return {
        name: judge_join(detector, [*before, *between, *after], poses, (2, 2), height) for name, between in ways.items()
    }


def test_the_true_movement_shows_least(judged):
    best, *others = sorted(judged, key=lambda name: judged[name].total)
    assert best == "true" and judged["true"].total < 0.7 * judged[others[0]].total
    assert judged["true"].double == 0


def test_a_blend_shows_more_than_either_clean_picture(judged):
    for blend in ("blend", "half"):
        assert judged[blend].double > 20
        assert all(judged[blend].total > 1.2 * judged[clean].total for clean in ("before", "after", "cut", "true"))


def test_fewer_frames_stay_longer():
    assert shown_at(9, 9, (2, 2)) == list(range(9))
    assert shown_at(4, 9, (2, 2)) == [0, 1, 1, 1, 2, 2, 2, 2, 3]
    assert shown_at(5, 8, (2, 1)) == [0, 1, 2, 2, 3, 3, 4, 4]
    assert shown_at(2, 2, (1, 1)) == [0, 1]


def test_errors_are_percent_of_the_body():
    here, there = signer(left=(0.2, 0.3)), signer(left=(0.3, 0.3))
    # One of two wrists and two elbows is off by a tenth of the body's height.
    found = compare_poses([here, here], [there, there], 1.0, HEIGHT)
    assert (found.place, found.change, found.double) == (pytest.approx(2.5, abs=1e-3), 0, 0)
    assert compare_poses([here, there], [here, here], 1.0, HEIGHT).change == pytest.approx(2.5, abs=1e-3)
    assert compare_poses([empty_pose()], [here], 1.0, HEIGHT).place == pytest.approx(15)
    half = compare_poses([here] * 3, [here] * 3, 1.0, HEIGHT, [0, 0.5, 0], (1, 1))
    assert (half.place, half.double) == (pytest.approx(2.5), 50)
    assert compare_poses([here], [empty_pose()], 1.0, HEIGHT).total == 0


def test_the_person_who_is_meant_is_judged():
    one, other = signer(left=(0.2, 0.3)), signer(left=(-0.2, 0.1), shift=0.2)
    arrays = [arrays_from_pose(pose) for pose in (other, one)]
    both = {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
    chosen = nearest_person(pose_from_arrays(**both), one, 1.0)
    assert np.array_equal(chosen["bodies"]["candidate"], one["bodies"]["candidate"])


@pytest.mark.parametrize("side", [48, 480])
def test_what_is_seen_through_is_there_twice(side):
    def picture(left):
        drawn = np.full((side, side, 3), 40, np.uint8)
        drawn[side // 4 : side // 2, left : left + side // 4] = (220, 170, 140)
        return drawn

    first, last, middle = picture(0), picture(side // 2), picture(side // 4)
    mixed = ((first.astype(int) + last) // 2).astype(np.uint8)
    assert double_exposure(mixed, first, last) == 1
    assert double_exposure(middle, first, last) == double_exposure(first, first, last) == 0
    assert double_exposure(first, first, first) == 0

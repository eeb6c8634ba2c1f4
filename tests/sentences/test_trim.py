"""What is cut off a word: its rest and its stillness at both ends, and nothing else."""

import numpy as np
import pytest

from mimicmotion.config import SentenceSettings
from mimicmotion.dwpose import body_height, empty_pose
from mimicmotion.errors import InputError
from mimicmotion.puppets import make_word
from mimicmotion.sentences.trim import Cut, trim
from tests.sentences.signing import HEIGHT, signer

SETTINGS = SentenceSettings()
AT_REST = signer()


def raised(height, **more):
    """The left hand at `height` body heights below the top."""
    return signer(left=(0.15, height), **more)


def moving(count, start=0.4, step=-0.03):
    return [raised(start + step * i) for i in range(count)]


def test_rest_is_cut_at_both_ends_and_nowhere_else():
    poses = [*[AT_REST] * 3, *moving(4), AT_REST, AT_REST, *moving(3), *[AT_REST] * 2]
    assert trim(poses, 1.0, SETTINGS) == Cut(3, 12, 3, 0, 0, 2)


def test_of_still_frames_the_one_beside_the_motion_stays():
    poses = [*[raised(0.4)] * 5, *moving(4), *[raised(0.31)] * 3]
    assert trim(poses, 1.0, SETTINGS) == Cut(5, 9, 0, 5, 3, 0)


def test_stillness_within_a_word_is_kept():
    poses = [*moving(3), *[raised(0.34)] * 20, *moving(3, 0.31)]
    assert trim(poses, 1.0, SETTINGS) == Cut(0, 26)


def test_a_sign_that_is_held_is_kept_whole():
    assert trim([AT_REST, *[raised(0.3)] * 6, AT_REST], 1.0, SETTINGS) == Cut(1, 7, 1, 0, 0, 1)


def test_hands_that_are_not_seen_rest():
    poses = [*[raised(0.3, score=0.79)] * 2, *moving(4), raised(0.2, hands=(False, False)), empty_pose()]
    assert trim(poses, 1.0, SETTINGS) == Cut(2, 6, 2, 0, 0, 2)
    lower = SentenceSettings(trim_hand_score=0.7, trim_still=0)
    assert trim(poses, 1.0, lower).rest_before == 0


def test_one_hand_is_enough():
    poses = [AT_REST, *[raised(0.4 - 0.05 * i, hands=(True, False)) for i in range(3)], AT_REST]
    assert trim(poses, 1.0, SETTINGS) == Cut(1, 4, 1, 0, 0, 1)


def test_the_lowest_part_of_the_picture_counts_where_no_hips_are_seen():
    poses = [raised(0.99), *moving(3), raised(0.99)]
    for pose in poses:
        pose["bodies"]["score"][0, [8, 11]] = 0
        # The other hand, at 0.5 body heights, is above the picture's lowest part.
        pose["hands_score"][1] = 0
    low = SentenceSettings(trim_lowest=0.12)
    assert trim(poses, 1.0, low) == Cut(1, 4, 1, 0, 0, 1)


def test_all_rest_is_told():
    with pytest.raises(InputError, match="5 frames are all rest"):
        trim([AT_REST] * 5, 1.0, SETTINGS)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_the_bodys_height_comes_from_trunk_or_shoulders(aspect):
    poses = [signer(aspect=aspect) for _ in range(3)]
    assert body_height(poses, aspect) == pytest.approx(HEIGHT, rel=0.02)
    for pose in poses:
        pose["bodies"]["score"][0, 8:14] = 0
    assert body_height(poses, aspect) == pytest.approx(HEIGHT, rel=0.02)


def test_a_puppets_word_loses_its_rest_alone():
    poses = make_word(2_005_000, 1).poses[1:]
    cut = trim(poses, 128 / 192, SETTINGS)
    # The signer rests for 0.4 s, 6 frames, and raises the hands in 6.
    assert 6 <= cut.first <= 12 and 27 <= cut.stop <= 33
    assert np.diff([0, cut.rest_before, cut.first]).min() >= 0

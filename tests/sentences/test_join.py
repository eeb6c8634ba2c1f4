"""The way from one word to the next."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mimicmotion.dwpose import arrays_from_pose, empty_pose
from mimicmotion.sentences.join import SWING, Pace, blended_shape, fastest, transition
from tests.sentences.signing import HAND, HEIGHT, signer

FPS = 15.0
MOST = 1.5 * HEIGHT / FPS


def pace(aspect=1.0):
    return Pace(HEIGHT, MOST, aspect, FPS)


PLACE = st.tuples(st.floats(-0.3, 0.3), st.floats(0.1, 0.5))


def word(start, end, turn=0.0, frames=3, **more):
    """The left hand goes from `start` to `end`."""
    return [
        signer(left=np.array(start) + (np.array(end) - start) * i / (frames - 1), turn=turn, **more)
        for i in range(frames)
    ]


def wrists(poses, aspect=1.0):
    return np.array([pose["hands"][0, 0] * (aspect, 1) for pose in poses])


@hypothesis.given(PLACE, PLACE, PLACE, PLACE, st.floats(-3, 3), st.sampled_from([0.5, 1.0, 1.8]))
@hypothesis.settings(max_examples=25)
def test_no_hand_is_faster_than_the_limit(a, b, c, d, turn, aspect):
    before, after = word(a, b, aspect=aspect), word(c, d, turn, aspect=aspect)
    between = transition(before, after, None, pace(aspect))
    assert fastest([before[-1], *between, after[0]], aspect) <= MOST
    assert len(between) < 5 * FPS


def test_the_length_follows_the_way():
    lengths = [
        len(transition(word((0, 0.3), (0, 0.3)), word((x, 0.3), (x, 0.3)), None, pace())) for x in (0, 0.1, 0.2, 0.4)
    ]
    # 1.875 times the way over 0.1 body heights a frame, less one.
    assert lengths == [0, 1, 3, 7]


def test_the_path_takes_up_the_movement_of_both_words():
    before, after = word((0, 0.3), (0.02, 0.3)), word((0.3, 0.2), (0.3, 0.18))
    between = transition(before, after, 20, pace())
    path = wrists([*before, *between, *after])
    speed = np.diff(path, axis=0)
    change = np.linalg.norm(np.diff(speed, axis=0), axis=1)
    # Within the words speed is constant; beside the joins it hardly changes from one frame to the next.
    assert change.max() < 0.15 * np.linalg.norm(speed, axis=1).max()
    assert np.allclose(speed[2], speed[1], atol=5e-4) and np.allclose(speed[-3], speed[-2], atol=5e-4)


def test_a_movement_away_carries_no_hand_far():
    before, after = word((0.2, 0.3), (0, 0.3)), word((0.2, 0.3), (0.2, 0.3))
    path = wrists([before[-1], *transition(before, after, 30, pace()), after[0]])[:, 0]
    beyond = path[0] - path.min()
    assert 0 < beyond <= SWING * HEIGHT


def test_a_hands_shape_is_blended_about_the_wrist():
    before, after = word((0, 0.3), (0, 0.3)), word((0.2, 0.2), (0.2, 0.2), turn=2.0)
    middle = transition(before, after, 5, pace())[2]
    shape = middle["hands"][0] - middle["hands"][0, 0]
    turned = HAND @ np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])
    assert np.allclose(shape, HEIGHT * turned, atol=1e-4)
    assert np.allclose(middle["hands"][0, 0], middle["bodies"]["candidate"][7], atol=1e-4)


def test_a_hand_that_turns_round_keeps_its_size():
    middle = blended_shape(HAND, -HAND, 0.5)
    assert np.linalg.norm(middle) == pytest.approx(np.linalg.norm(HAND))


def test_face_and_confidences_are_blended():
    before, after = word((0, 0.3), (0, 0.3), score=0.5), word((0, 0.3), (0, 0.3), score=0.9, shift=0.1)
    middle = transition(before, after, 3, pace())[1]
    ends = [arrays_from_pose(pose) for pose in (before[-1], after[0])]
    assert np.allclose(middle["faces"], (ends[0]["faces"] + ends[1]["faces"]) / 2, atol=1e-5)
    assert np.allclose(middle["hands_score"], 0.7) and np.allclose(middle["faces_score"], 0.9)


def test_a_hand_that_only_one_word_shows_goes_with_its_wrist():
    before, after = word((0, 0.3), (0, 0.3)), word((0.2, 0.3), (0.2, 0.3), hands=(False, True))
    after[0]["hands"][0] = 0
    for pose in transition(before, after, 4, pace()):
        assert np.allclose(pose["hands"][0] - pose["bodies"]["candidate"][7], HEIGHT * HAND, atol=1e-4)


def test_a_joint_that_only_one_word_shows_stays():
    before, after = word((0, 0.3), (0, 0.3)), word((0.2, 0.3), (0.2, 0.3))
    for pose in after:
        pose["bodies"]["score"][0, 10], pose["bodies"]["candidate"][10] = 0, 0
    for pose in transition(before, after, 4, pace()):
        assert np.allclose(pose["bodies"]["candidate"][10], before[-1]["bodies"]["candidate"][10], atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_frames_as_asked(count):
    assert len(transition(word((0, 0.3), (0, 0.3)), word((0.4, 0.2), (0, 0)), count, pace())) == count


def test_words_of_one_frame_join():
    assert len(transition([signer()], [signer(left=(0, 0.2))], None, pace())) > 0


def test_without_a_person_there_is_no_way():
    before, after = [signer()], [empty_pose()]
    assert transition(before, after, None, pace()) == []
    assert len(transition(before, after, 3, pace())) == 3

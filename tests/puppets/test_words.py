"""What a signer signs: a sentence's signs are the words' own, and it is one movement."""

import numpy as np
import pytest

from mimicmotion.puppets import make_sentence, make_word
from mimicmotion.puppets.words import RAISE_S, REST_S

SIGNER = 2_000_003


def places(poses):
    return np.array([np.concatenate([pose["bodies"]["candidate"], pose["hands"].reshape(-1, 2)]) for pose in poses])


@pytest.fixture(scope="module")
def sentence():
    return make_sentence(SIGNER, (5, 2, 7), 48, 32)


@pytest.mark.parametrize(("number", "word"), enumerate((5, 2, 7)))
def test_signs_are_those_of_the_words(sentence, number, word):
    first = 1 + round((REST_S + RAISE_S) * 15)
    signs = sentence.signs[number]
    alone = make_word(SIGNER, word, 48, 32)
    assert np.allclose(places([sentence.clip.poses[i] for i in signs]), places(alone.poses[first : first + len(signs)]))


def test_a_sentence_is_one_movement(sentence):
    """No point is moved from sign to sign with more of a jolt than from rest into the first."""
    path = places(sentence.clip.poses[1:])
    change = np.linalg.norm(np.diff(path, 2, axis=0), axis=-1).max(axis=-1)
    first, last = sentence.signs[0].start, sentence.signs[-1].start
    assert change[first:last].max() < change[: first - 1].max()
    assert np.allclose(path[0], path[-1]) and np.allclose(path[0], places(sentence.clip.poses[:1])[0])
    gaps = [after.start - before.stop for before, after in zip(sentence.signs, sentence.signs[1:], strict=False)]
    assert gaps == [5, 5] and all(len(sign) == 16 for sign in sentence.signs)

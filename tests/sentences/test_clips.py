"""Which clip is a word's."""

import unicodedata

import pytest

from mimicmotion.sentences.clips import WordClips
from mimicmotion.sentences.table import Sentence


def find(folder, words, name="s1"):
    found = WordClips(folder).find(Sentence(name, tuple(words.split()), 2))
    return [clip and str(clip.relative_to(folder)) for clip in found]


@pytest.fixture
def words(tmp_path):
    names = [
        "a.mp4",
        "b.MOV",
        "hair.mp4",
        "s1/a_200.mp4",
        "s1/a_100.mp4",
        "s1/hair_dry_1.mp4",
        "s1/hair_9.mp4",
        "b.txt",
    ]
    for name in [*names, "NO_REF_tree.mp4", "s1/.c_1.mp4", "x[1].mp4"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_the_sentences_own_clips_come_first_by_name(words):
    assert find(words, "a b a") == ["s1/a_100.mp4", "b.MOV", "s1/a_100.mp4"]
    assert find(words, "a b", "s2") == ["a.mp4", "b.MOV"]


def test_a_clip_belongs_to_the_longest_word(words):
    assert find(words, "hair hair_dry") == ["s1/hair_9.mp4", "s1/hair_dry_1.mp4"]


def test_what_has_no_clip(words):
    assert find(words, "c NO_REF_tree a_1") == [None, None, None]


def test_names_are_no_patterns(words):
    assert find(words, "x[1] *") == ["x[1].mp4", None]


def test_a_name_that_no_folder_can_have(words):
    assert find(words, "a", "s" * 300) == ["a.mp4"]


def test_letters_of_another_system(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "schön.mp4")).touch()
    assert find(tmp_path, "schön") == [unicodedata.normalize("NFD", "schön.mp4")]


def test_the_choice_among_several_is_told_once(words, caplog):
    clips, sentence = WordClips(words), Sentence("s1", ("a",), 7)
    clips.find(sentence)
    clips.find(sentence)
    assert [record.getMessage().partition(" in ")[0] for record in caplog.records] == ["row 7: word a has 2 clips"]

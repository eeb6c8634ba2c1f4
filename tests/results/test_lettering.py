"""Names in any script: what a font has is drawn, what none has is written as an escape, nothing becomes a box."""

import io
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mimicmotion.results import lettering
from mimicmotion.results.lettering import draw_line, line_length

CACHES = ("_runs", "_font_of", "_listed_fonts", "_say_that_characters_are_missing")


@pytest.fixture(autouse=True)
def forget():
    """What was found out about fonts is not remembered from one test to the next."""
    for name in CACHES:
        getattr(lettering, name).cache_clear()
    yield
    for name in CACHES:
        getattr(lettering, name).cache_clear()


def drawn(text, size=16):
    picture = Image.new("RGB", (600, 40))
    draw_line(ImageDraw.Draw(picture), (4, 4), text, size, (255, 255, 255))
    return np.asarray(picture)


def written(text, size=16):
    """The text as it is written, escapes included."""
    return "".join(part for part, _ in lettering._runs(text, size))


def test_plain_names_look_as_ever():
    picture = Image.new("RGB", (600, 40))
    ImageDraw.Draw(picture).text((4, 4), "dance-01_b (2).mp4", (255, 255, 255), ImageFont.load_default(16))
    assert np.array_equal(drawn("dance-01_b (2).mp4"), np.asarray(picture))
    assert line_length("dance", 16) == ImageFont.load_default(16).getlength("dance")


TABLES = {}


def characters_of(font):
    """What a font has by its own table."""
    if font not in TABLES:
        file = io.BytesIO(font.path.getvalue()) if isinstance(font.path, io.BytesIO) else font.path
        TABLES[font] = set(TTFont(file, fontNumber=0).getBestCmap())
    return TABLES[font]


@settings(max_examples=60)
@given(st.text(st.characters(), min_size=1, max_size=8))
def test_each_part_is_drawn_with_a_font_that_has_all_of_it(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lettering, "fonts_of_this_machine", lambda character: ())
        for part, font in lettering._runs(text, 12):
            assert {ord(character) for character in part} <= characters_of(font)
        assert line_length(text, 12) >= 0


def test_accents_and_other_alphabets_need_no_font_of_the_machine(monkeypatch):
    monkeypatch.setattr(lettering, "fonts_of_this_machine", lambda character: pytest.fail(f"asked for {character}"))
    for text in ("Café łódź", "Привет", "ελληνικά", "שלום"):
        assert written(text) == text
    # One font for the whole name, and accents that stand alone join their letters.
    assert len(lettering._runs("Café", 16)) == 1
    assert np.array_equal(drawn("Café"), drawn(unicodedata.normalize("NFD", "Café")))


def test_a_font_of_the_machine_is_used(monkeypatch):
    (path,) = lettering.fonts_that_come_along()
    monkeypatch.setattr(lettering, "fonts_that_come_along", lambda: ())
    monkeypatch.setattr(lettering, "fonts_of_this_machine", lambda character: ("/nowhere.ttf", path))
    assert written("Привет") == "Привет"
    ink = drawn("Привет").max(axis=(1, 2)) > 100
    assert 10 <= ink.sum() <= 24


def test_what_no_font_has_is_escaped_and_said_once(monkeypatch, caplog, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_text("no font")
    monkeypatch.setattr(lettering, "fonts_of_this_machine", lambda character: (str(broken),))
    with caplog.at_level(logging.WARNING):
        assert written("舞蹈 a") == "\\u821e\\u8e48 a"
        assert written("踊り") == "\\u8e0a\\u308a"
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "No font on this machine has some characters of the names on pictures"
    ]
    assert np.array_equal(drawn("舞"), drawn("\\u821e"))


@pytest.mark.parametrize("text", ["\udcff", "\x1b[2J", "\u202eabc", "\ufffe", "\U000e0001"])
def test_what_cannot_be_seen_is_escaped(text):
    assert written(text) == text[:1].encode("unicode_escape").decode() + text[1:]


def test_a_machine_without_an_answer_has_the_fonts_of_its_system(monkeypatch, tmp_path):
    answers = tmp_path / "fc-list"
    monkeypatch.setenv("PATH", str(tmp_path))

    def fonts(character, answer):
        answers.write_text(f"#!/bin/sh\n{answer}\n")
        answers.chmod(0o755)
        lettering._listed_fonts.cache_clear()
        return lettering.fonts_of_this_machine(character)

    assert fonts("a", "exit 1") == fonts("a", "echo what") == lettering.FONTS_OF_SYSTEMS
    assert fonts("a", "printf '/a.ttf\\t20-x\\n'") == lettering.FONTS_OF_SYSTEMS
    listed = "printf '/b/Sans.ttf\\t20-7e\\n/a/Sans-Bold.ttf\\t61\\n/c/Sans.ttf\\t20 60-61\\n/d.ttf\\t\\n'"
    assert fonts("a", listed) == ("/b/Sans.ttf", "/c/Sans.ttf", "/a/Sans-Bold.ttf")
    assert fonts("b", listed) == ("/b/Sans.ttf",)
    answers.unlink()
    lettering._listed_fonts.cache_clear()
    assert lettering.fonts_of_this_machine("a") == lettering.FONTS_OF_SYSTEMS
    assert Path(lettering.fonts_that_come_along()[0]).is_file()

"""Words at their times."""

from mimicmotion.sentences.subtitles import Spoken, srt, vtt

WORDS = [Spoken("你好", 0, 22), Spoken("a<b>", 25, 54_001)]


def test_srt():
    assert srt(WORDS, 15.0) == ("1\n00:00:00,000 --> 00:00:01,467\n你好\n\n2\n00:00:01,667 --> 01:00:00,067\na<b>\n")


def test_vtt():
    assert vtt(WORDS, 15.0) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.467\n你好\n\n00:00:01.667 --> 01:00:00.067\na&lt;b&gt;\n"
    )

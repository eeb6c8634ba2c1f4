"""Words at their times: .srt and .vtt."""

import html
from collections.abc import Sequence
from typing import NamedTuple

from mimicmotion.files import printable


class Spoken(NamedTuple):
    """A word on frames `first` to `stop` (excluded) of the sentence."""

    word: str
    first: int
    stop: int


def srt(words: Sequence[Spoken], fps: float) -> str:
    """SubRip's text. fps: frames per second of the sentence."""
    blocks = (
        f"{number}\n{_time(first / fps, ',')} --> {_time(stop / fps, ',')}\n{printable(word)}\n"
        for number, (word, first, stop) in enumerate(words, 1)
    )
    return "\n".join(blocks)


def vtt(words: Sequence[Spoken], fps: float) -> str:
    """WebVTT's text. fps: frames per second of the sentence."""
    blocks = (
        f"\n{_time(first / fps, '.')} --> {_time(stop / fps, '.')}\n{html.escape(printable(word), quote=False)}\n"
        for word, first, stop in words
    )
    return "WEBVTT\n" + "".join(blocks)


def _time(seconds: float, separator: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{separator}{milliseconds:03}"


SUBTITLES = {".srt": srt, ".vtt": vtt}  # by their endings

"""A line of text on a picture, in any script: names of files are drawn as they are, never as empty boxes.

Pillow's own font has little more than ASCII. What it lacks comes from the font that matplotlib brings (most alphabets),
else from one of this machine's (Chinese, Japanese, Korean, ...); what no font has is written as its escape, "\\u4e2d".
"""

import functools
import importlib.util
import logging
import subprocess
import unicodedata
from pathlib import Path

from PIL import ImageDraw, ImageFont

logger = logging.getLogger(__name__)

FONTS_OF_SYSTEMS = (  # by name, where no fontconfig can be asked: macOS, Windows
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf",
    "msyh.ttc", "msgothic.ttc", "malgun.ttf", "segoeui.ttf", "nirmala.ttf",
)  # fmt: skip
LIST_SECONDS = 10  # fontconfig's first call on a machine makes an index
NO_CHARACTER = "\uffff"  # is in no font, so it looks like everything else that a font lacks
# Control codes, orders to turn the direction, halves of characters, and what has no meaning yet; but not what joins
# letters or keeps them apart.
UNDRAWN = ("Cc", "Cf", "Cs", "Cn", "Co")
JOINERS = "\u200c\u200d"


def draw_line(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, fill: tuple) -> None:
    """Draws one line with its upper left corner at `corner`; `size` in pixels."""
    x, y = corner
    runs = _runs(text, size)
    if len(runs) == 1 and runs[0][1] is _own_font(size):
        draw.text(corner, runs[0][0], fill, runs[0][1])
        return
    # Fonts differ in height, but stand on one line.
    baseline = y + _own_font(size).getmetrics()[0]
    for part, font in runs:
        draw.text((x, baseline), part, fill, font, anchor="ls")
        x += font.getlength(part)


def line_length(text: str, size: int) -> float:
    """Width of a line in pixels."""
    return sum(font.getlength(part) for part, font in _runs(text, size))


@functools.lru_cache(maxsize=1024)
def _runs(text: str, size: int) -> tuple[tuple[str, ImageFont.FreeTypeFont], ...]:
    """The text in parts, each with a font that has all of it: one part wherever a single font will do."""
    text = unicodedata.normalize("NFC", text)
    fonts = list(dict.fromkeys(font for character in text if (font := _font_of(character, size))))
    fonts = fonts or [_own_font(size)]
    text = "".join(c if _font_of(c, size) else c.encode("unicode_escape").decode() for c in text)
    for font in fonts:
        if all(has_glyph(font, character) for character in text):
            return ((text, font),)
    parts: list[tuple[str, ImageFont.FreeTypeFont]] = []
    for character in text:
        font = _font_of(character, size) or _own_font(size)
        if parts and parts[-1][1] is font:
            parts[-1] = (parts[-1][0] + character, font)
        else:
            parts.append((character, font))
    return tuple(parts)


@functools.cache
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=4096)
def _font_of(character: str, size: int) -> ImageFont.FreeTypeFont | None:
    """The first font that has the character; None, said once, where there is none."""
    if unicodedata.category(character) in UNDRAWN and character not in JOINERS:
        return None
    if has_glyph(_own_font(size), character):
        return _own_font(size)
    for paths in (fonts_that_come_along, lambda: fonts_of_this_machine(character)):
        for path in paths():
            font = _opened(path, size)
            if font and has_glyph(font, character):
                return font
    _say_that_characters_are_missing()
    return None


@functools.lru_cache(maxsize=4096)
def has_glyph(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether a font draws the character as something else than what it draws for those that it lacks."""
    plain = _without_shaping(font)
    return _drawn(plain, character) != _drawn(plain, NO_CHARACTER)


@functools.lru_cache(maxsize=64)
def _without_shaping(font: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """The font one character at a time: shaping would put a circle under an accent that stands alone."""
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=64)
def _opened(path: str, size: int) -> ImageFont.FreeTypeFont | None:
    """None for a font that is not there, or that has pictures of one size instead of outlines."""
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError):
        return None


def fonts_that_come_along() -> tuple[str, ...]:
    """Fonts that are installed with the package."""
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is None or matplotlib.origin is None:
        return ()
    return (str(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"),)


def fonts_of_this_machine(character: str) -> tuple[str, ...]:
    """Files, or names, of installed fonts that may have the character, upright ones of normal weight first."""
    listed = _listed_fonts()
    if listed is None:
        return FONTS_OF_SYSTEMS
    code = ord(character)
    return tuple(path for path, spans in listed if any(first <= code <= last for first, last in spans))


@functools.cache
def _listed_fonts() -> list[tuple[str, list[tuple[int, int]]]] | None:
    """The fonts that fontconfig knows, each with the spans of its characters; None where it cannot be asked."""
    command = ["fc-list", "--format", "%{file}\t%{charset}\n"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=LIST_SECONDS, check=True).stdout
        fonts = dict(line.split("\t") for line in text.splitlines())
        spans = {path: [_span(words) for words in characters.split()] for path, characters in fonts.items()}
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    special = ("bold", "italic", "oblique", "light", "thin", "mono")
    return sorted(spans.items(), key=lambda font: (any(word in font[0].lower() for word in special), font[0]))


def _span(words: str) -> tuple[int, int]:
    """First and last of a span such as 4e00-9fff, or of one number. Raises: ValueError for anything else."""
    first, _, last = words.partition("-")
    return int(first, 16), int(last or first, 16)


@functools.cache
def _say_that_characters_are_missing() -> None:
    logger.warning(
        "No font on this machine has some characters of the names on pictures; they are written as escapes. "
        "A font with them can be installed, such as fonts-noto-cjk for Chinese, Japanese and Korean"
    )

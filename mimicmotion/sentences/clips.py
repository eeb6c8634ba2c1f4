"""The clip of a word: <words>/<sentence>/<word>_*.mp4, the first by name, or <words>/<word>.mp4."""

import logging
import os
import unicodedata
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.files import printable
from mimicmotion.sentences.table import Sentence
from mimicmotion.video import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

PLACEHOLDER = "NO_REF"  # how tables mark a word that nobody has filmed


class WordClips:
    """The clips in a folder of words. Raises: UsageError when it cannot be listed."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._common = _videos(self.folder)
        self._told: set[tuple[Path, str]] = set()

    def words(self) -> list[str]:
        """Ids of the words that have a clip for all sentences, sorted."""
        return sorted(word for word in self._common if not word.startswith(PLACEHOLDER))

    def find(self, sentence: Sentence) -> list[Path | None]:
        """A clip for each of the sentence's words, in order; None where there is none.

        A clip of its own folder comes before one for all sentences. Where several fit, the first by name is taken, and
        the log says so.

        Raises: UsageError when the sentence's folder cannot be listed.
        """
        place = self.folder / sentence.name
        own = _videos(place) if os.path.isdir(place) else {}  # pathlib refuses a name that is too long
        found = {word: self._find(word, sentence, place, own) for word in dict.fromkeys(sentence.words)}
        return [found[word] for word in sentence.words]

    def _find(self, word: str, sentence: Sentence, place: Path, own: dict[str, list[str]]) -> Path | None:
        if word.startswith(PLACEHOLDER):
            return None
        words = {_plain(other) for other in sentence.words}
        takes = [name for stem, names in own.items() if _owner(stem, words) == _plain(word) for name in names]
        folder, names = (place, takes) if takes else (self.folder, self._common.get(_plain(word), []))
        if not names:
            return None
        first, *others = sorted(names)
        if others and (folder, word) not in self._told:
            self._told.add((folder, word))
            logger.warning(
                "row %d: word %s has %d clips in %s; %s is taken, the first by name",
                sentence.row, printable(word), len(names), printable(folder), printable(first),
            )  # fmt: skip
        return folder / first


def _owner(stem: str, words: set[str]) -> str | None:
    """The word whose clip `stem` names: "hair_dry_01" is one of hair_dry, where that is a word as well as hair."""
    fitting = [word for word in words if stem == word or stem.startswith(f"{word}_")]
    return max(fitting, key=len, default=None)


def _videos(folder: Path) -> dict[str, list[str]]:
    """The names of a folder's videos by their stems."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise UsageError(f"the folder {printable(folder)} cannot be listed: {error.strerror}") from error
    videos: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in VIDEO_SUFFIXES:
            videos.setdefault(_plain(stem), []).append(name)
    return videos


def _plain(text: str) -> str:
    # The same letters have other bytes where a name came from another system.
    return unicodedata.normalize("NFC", text)

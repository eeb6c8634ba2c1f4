"""Sentences of words taken at random, written as a table so that they can be made again."""

import csv
import io
import logging
import random
from pathlib import Path

from mimicmotion.config import random_sentences
from mimicmotion.errors import UsageError
from mimicmotion.files import printable, write_bytes
from mimicmotion.sentences.clips import WordClips
from mimicmotion.sentences.table import Sentence, can_be_listed, parse_table, read_table

logger = logging.getLogger(__name__)


def table_path(folder: str | Path, wanted: list[str], seed: int) -> Path:
    """Where the table of random sentences lies, beside the results."""
    words, count = random_sentences(wanted)
    return Path(folder) / f"random_{words}_{count}_seed_{seed}.csv"


def draw_sentences(clips: WordClips, path: Path, wanted: list[str], seed: int, write: bool) -> list[Sentence]:
    """The sentences of the table at `path`, which is drawn and written where it is not there yet.

    Args:
        clips: whose words are taken; a word comes once in a sentence, and as often as it may in all.
        wanted: words of each sentence, and number of sentences.
        write: whether the table is written.

    Raises: UsageError where there are fewer words than a sentence has, or the table is there and cannot be read;
        SetupError where it cannot be written.
    """
    if path.exists():
        logger.info("%s is there: its sentences are made; remove it to have others drawn", printable(path))
        return read_table(path)
    length, count = random_sentences(wanted)
    words = [word for word in clips.words() if can_be_listed(word)]
    if len(words) < length:
        found = f"{len(words)} clips whose names can stand in a table"
        raise UsageError(
            f"--random {length} {count} takes {length} different words, but {printable(clips.folder)} has {found}"
        )
    drawn, text = random.Random(seed), io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("sentence", "words"))
    for number in range(count):
        rows.writerow((f"random_{number:0{len(str(count - 1))}}", " ".join(drawn.sample(words, length))))
    if write:
        write_bytes(path, text.getvalue().encode())
        logger.info("%s has the sentences that were drawn", printable(path))
    return parse_table(text.getvalue(), path)

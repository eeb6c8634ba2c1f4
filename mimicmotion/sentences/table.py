"""The CSV of sentences: a header, then a row per sentence with its id and its words in order."""

import codecs
import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.files import name_key, printable, why_no_file, writable_stem
from mimicmotion.places import looked_for

MAX_BYTES = 2**26
ID_COLUMNS = ("sentence", "sentence_id", "id")
WORD_COLUMN = re.compile(r"(?:word|ref)(?:_?ids?|s)?(?:_?[0-9]+)?$")
BETWEEN_WORDS = re.compile(r"[\s,;|]+")
DELIMITERS = ",;\t"
NO_NAMES = ("", ".", "..")
EXPECTED = "the columns sentence and words: an id, and the ids of its words in order with spaces between them"
# Of texts that are neither, the first letters show which they are.
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Sentence:
    """A row of the table. `problem`: in words, why nothing can be made of it; "" for a good row."""

    name: str
    words: tuple[str, ...]
    row: int
    problem: str = ""


def read_table(path: str | Path, encoding: str = "utf-8") -> list[Sentence]:
    """The sentences of a CSV, in order; a bad row has its reason in `problem`.

    The first row names the columns: `sentence`, and `words` with spaces, commas or semicolons between the words, or a
    column for each word (`word_1`, `word_2`, ...). Cells are separated by commas, semicolons or tabs. Rows are counted
    as a spreadsheet counts them: the header is row 1.

    Args:
        encoding: a name that Python knows; UTF-8 may begin with a mark.

    Raises: UsageError for a file that cannot be read, other columns, another encoding, no sentence at all.
    """
    return parse_table(_decoded(Path(path), encoding), path)


def parse_table(text: str, path: str | Path) -> list[Sentence]:
    """As `read_table`, of the text of the file at `path`."""
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UsageError(f"{printable(path)} is no CSV: {error}") from error
    if not any(map(any, rows)):
        raise UsageError(f"{printable(path)} is empty; it must have {EXPECTED}")
    header = [cell.strip().casefold() for cell in rows[0]]
    ids = [place for place, name in enumerate(header) if name in ID_COLUMNS]
    words = [place for place, name in enumerate(header) if WORD_COLUMN.match(name)]
    if len(ids) != 1 or not words:
        found = ", ".join(printable(cell.strip()) for cell in rows[0])[:200]
        raise UsageError(f"{printable(path)}, row 1 names the columns {found}; it must have {EXPECTED}")
    filled = [(row, cells) for row, cells in enumerate(rows[1:], 2) if any(map(str.strip, cells))]
    sentences = [_sentence(cells, row, len(header), ids[0], words) for row, cells in filled]
    if not sentences:
        raise UsageError(f"{printable(path)} has no row below its header, and so no sentence")
    return _distinct(sentences)


def _decoded(path: Path, encoding: str) -> str:
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        codec = None
    if codec is None or not codec._is_text_encoding:
        wrong = f"sentences.csv_encoding is {printable(encoding)!r}, which is no encoding of text"
        raise UsageError(f"{wrong}; pass utf-8, gbk or the like")
    reason = why_no_file(path)
    if reason == "does not exist":
        raise UsageError(f"no table of sentences: {looked_for(path)} (sentences.table); pass --sentences")
    if reason:
        raise UsageError(f"{printable(path)} {reason}; pass a CSV of sentences")
    try:
        with open(path, "rb") as file:
            # A read of so many bytes would take their memory at once, however short the file.
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)
    except OSError as error:
        raise UsageError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{printable(path)} has more than {MAX_BYTES} bytes, which is no table of sentences")
    try:
        text = data.decode("utf-8-sig" if codec.name == "utf-8" else codec.name)
    except UnicodeError as error:
        row = data[: getattr(error, "start", 0)].count(b"\n") + 1
        hint = next((name for mark, name in MARKS.items() if data.startswith(mark)), "gbk or whatever it was saved as")
        raise UsageError(
            f"{printable(path)}, row {row} is not {codec.name} text; save it as UTF-8, or pass --csv_encoding {hint}"
        ) from error
    if "\0" in text:
        raise UsageError(f"{printable(path)} holds NUL characters; it is no CSV, or pass its --csv_encoding")
    return text


def _sentence(cells: list[str], row: int, columns: int, id_place: int, word_places: list[int]) -> Sentence:
    name = cells[id_place].strip() if id_place < len(cells) else ""
    listed = [cells[place] for place in word_places if place < len(cells)]
    words = tuple(word for cell in listed for word in BETWEEN_WORDS.split(cell.strip()) if word)
    if any(cell.strip() for cell in cells[columns:]):
        problem = f"it has {len(cells)} cells, the header {columns}; put quotes around words with commas between them"
    elif not _is_name(name):
        problem = "it has no sentence id" if not name else f"{printable(name)} cannot name a file"
    elif not words:
        problem = f"sentence {printable(name)} has no words"
    else:
        bad = [printable(word) for word in words if not _is_name(word)]
        problem = f"{bad[0]} cannot be a word's id: it would lead to another folder" if bad else ""
    return Sentence(name if _is_name(name) else f"row_{row}", words, row, problem)


def can_be_listed(word: str) -> bool:
    """Whether a word's id can stand in a table among others."""
    return _is_name(word) and not BETWEEN_WORDS.search(word) and word.isprintable()


def _is_name(text: str) -> bool:
    return text not in NO_NAMES and not re.search(r"[/\\]", text)


def _distinct(sentences: list[Sentence]) -> list[Sentence]:
    """The sentences, of those with one id only the first without a problem."""
    rows: dict[str, Sentence] = {}
    distinct = []
    for sentence in sentences:
        key = name_key(writable_stem(sentence.name))
        before = rows.setdefault(key, sentence)
        if before is not sentence and not sentence.problem:
            problem = f"sentence {printable(sentence.name)} stands in row {before.row} too; give it an id of its own"
            sentence = Sentence(f"{sentence.name}_row_{sentence.row}", sentence.words, sentence.row, problem)
        distinct.append(sentence)
    return distinct

"""What a sentence is made of, before anything is made, and the files that it becomes."""

from dataclasses import dataclass
from pathlib import Path

from mimicmotion.results import Job
from mimicmotion.sentences.subtitles import SUBTITLES
from mimicmotion.sentences.table import Sentence

SHEET = ".jpg"
COMPANIONS = (*SUBTITLES, SHEET)  # endings of all that may lie beside a sentence
TRUE = "true"  # what the true sentence is called among the ways to join it


@dataclass(frozen=True)
class Plan:
    """A sentence: its words with their clips' jobs, and those that are left out. `job`: where it goes."""

    sentence: Sentence
    job: Job
    words: list[tuple[str, Job]]
    left_out: list[str]


def companions(job: Job, with_sheet: bool) -> list[Path]:
    """The files that lie beside a sentence."""
    return [job.beside(ending) for ending in (*SUBTITLES, *([SHEET] if with_sheet else []))]

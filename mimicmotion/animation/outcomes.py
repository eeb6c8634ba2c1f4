"""How the jobs of a run end: one by one, or counted where they are many; the table of it."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mimicmotion.animation.animator import Outcome
from mimicmotion.files import printable
from mimicmotion.results import Job

NOT_A_VIDEO = "not a video"
NAME_COLUMN = 60
MANY = 10_000  # jobs; more are counted rather than listed, and no page shows their results


class Outcomes:
    """How the jobs of a run end. Of more than MANY, those that were finished before are counted and have no turn, and
    so many that end well are kept; the others are counted too. What fails is always kept.

    Iterating gives what is kept, in the order of the jobs; `numbered` gives each job its turn, one after the other, and
    `unfinished` in another order, several at a time.

    Args:
        is_finished: tells which jobs of many need no turn.
    """

    def __init__(self, jobs: Sequence[Job], is_finished: Callable[[Job], bool]):
        self.jobs, self._is_finished = jobs, is_finished
        self.many = len(jobs) > MANY
        self._kept = {} if self.many else {place: Outcome(job) for place, job in enumerate(jobs)}
        self._places: dict[int, int] = {}  # of those of many that are kept, by their identity
        self.no_turn = 0
        self._dropped: Counter = Counter()

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Outcome]:
        return (self._kept[place] for place in sorted(self._kept))

    def skip_all(self) -> None:
        """Notes that all were finished before; of many, none has a turn then."""
        if self.many:
            self.no_turn = len(self.jobs)

    def numbered(self) -> Iterator[tuple[int, Outcome]]:
        """The number, from 1 on, and the outcome of each job, which the caller settles."""
        if self.no_turn:
            return
        for place, job in enumerate(self.jobs):
            if self.many and self._is_finished(job):
                self.no_turn += 1
                continue
            outcome = self._turn(place)
            yield place + 1, outcome
            self.settle(outcome)

    def unfinished(self, size: Callable[[Job], int]) -> "Turns":
        """Those that have to be made, the largest by `size` first. The caller settles each and says so by `settle`.

        Of the others each is skipped, of many they are counted.
        """
        places, sizes = array("q"), array("q")
        for place, job in enumerate(self.jobs):
            if not self._is_finished(job):
                places.append(place)
                sizes.append(size(job))
            elif self.many:
                self.no_turn += 1
            else:
                self._kept[place].skip()
        order = sorted(range(len(places)), key=sizes.__getitem__, reverse=True)
        return Turns(self._turn, array("q", map(places.__getitem__, order)))

    def _turn(self, place: int) -> Outcome:
        if not self.many:
            return self._kept[place]
        outcome = self._kept[place] = Outcome(self.jobs[place])
        self._places[id(outcome)] = place
        return outcome

    def settle(self, outcome: Outcome) -> None:
        """Notes that an outcome has ended, and counts it where enough are kept."""
        place = self._places.pop(id(outcome), None)
        if place is not None and len(self._kept) > MANY and outcome.status in ("done", "skipped"):
            del self._kept[place]
            self._dropped[outcome.status] += 1

    def counts(self) -> Counter:
        """How many ended in which way."""
        counts = Counter(outcome.status for outcome in self) + self._dropped + Counter(skipped=self.no_turn)
        return counts + Counter({"not run": len(self.jobs) - counts.total()})


class Turns:
    """Outcomes in an order of their own, each made when it is asked for, once."""

    def __init__(self, turn: Callable[[int], Outcome], places: Sequence[int]):
        self._turn, self._places = turn, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Outcome]:
        return map(self._turn, self._places)


def outcome_facts(outcome: Outcome) -> dict:
    """How a video ended, as plain values for the history."""
    return {
        "video": str(outcome.job.video),
        "test_case": outcome.job.case_index,
        "output": str(outcome.job.output),
        "status": outcome.status,
        "message": outcome.message,
        "frames": outcome.frames,
        "seconds": round(outcome.seconds, 3),
        "stage_seconds": outcome.stages,
        **outcome.where,
    }


def summary_table(outcomes: Sequence[Outcome] | Outcomes, others: Sequence[Path] = ()) -> str:
    """The end of a run in a table, one row per outcome, and one for each file beside the videos that is none."""
    header = ("video", "status", "frames", "seconds", "result or reason")
    rows = [
        (
            outcome.job.name,
            outcome.status,
            str(outcome.frames or "-"),
            f"{outcome.seconds:.1f}",
            printable(outcome.message),
        )
        for outcome in outcomes
    ]
    rows += [(printable(path.name), "left out", "-", "-", NOT_A_VIDEO) for path in others]
    counts = outcomes.counts() if isinstance(outcomes, Outcomes) else Counter(outcome.status for outcome in outcomes)
    return text_table(header, rows) + "\n" + ", ".join(f"{count} {status}" for status, count in counts.items())


def text_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows under a header, in columns; a long first entry is shortened in its middle."""
    rows = [(_in_column(row[0]), *row[1:]) for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _in_column(name: str) -> str:
    """A name as wide as a column may be, with both of its ends."""
    return name if len(name) <= NAME_COLUMN else f"{name[: NAME_COLUMN - 23]}...{name[-20:]}"

"""Workers without processes: time is a number that grows while the pool waits; a script says what each call gives."""

from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.animation import Outcome
from mimicmotion.cluster.performer import Answer
from mimicmotion.cluster.pool import Pool, WorkerLost
from mimicmotion.config import ClusterSettings, TestCase
from mimicmotion.results import Job

FINGERPRINT = {"weights": "w", "package torch": "2"}
LOST = WorkerLost("the worker's process was killed or crashed")
HANG = None


def outcomes_of(*names):
    return [Outcome(Job(Path(name), TestCase(), 0, Path("out", f"{name}.mp4"))) for name in names]


def ended(outcome, status="done", message=""):
    """The answer of a worker that brought its copy of an outcome to an end."""
    return Answer("ended", item=Outcome(outcome.job, status, 1.0, 5, message, {"sampling": 1.0}))


def ready(host="a", **fingerprint):
    return Answer("ready", facts={"host": host, "process": 1}, fingerprint=FINGERPRINT | fingerprint)


@dataclass(eq=False)
class Worker:
    slot: int
    alive: bool = True
    calls: list = field(default_factory=list)
    ticket: int | None = None


class FakeActors:
    """`script(worker, method, arguments)` gives (seconds, answer): an Answer, an error to raise, or HANG.

    It fails where one worker is asked two things at a time, or two do one item.
    """

    def __init__(self, script, room=2):
        self.script, self.now, self._room = script, 0.0, room
        self.workers, self.preparers, self._answers, self._tickets = [], [], {}, 0

    def clock(self):
        return self.now

    def room(self):
        return self._room(self.now) if callable(self._room) else self._room

    def start(self, slot):
        assert not any(worker.alive and worker.slot == slot for worker in self.workers), "two workers in a slot"
        self.workers.append(Worker(slot))
        return self.workers[-1]

    def start_preparer(self, number):
        self.preparers.append(Worker(number))
        return self.preparers[-1]

    def ask(self, worker, method, *arguments):
        assert worker.alive and worker.ticket not in self._answers, "asked twice"
        item = arguments[0] if method in ("run", "load") else None
        doing = [other.calls[-1] for other in self.workers if other.alive and other.ticket in self._answers]
        alone = item is None or worker in self.preparers or not any(item is calls[1] for calls in doing)
        assert alone, "two do one item"
        self._tickets += 1
        worker.ticket = self._tickets
        worker.calls.append((method, item, self.now))
        seconds, answer = self.script(worker, method, arguments)
        self._answers[worker.ticket] = (float("inf") if answer is HANG else self.now + seconds, answer)
        return worker.ticket

    def wait(self, tickets, seconds):
        assert all(ticket in self._answers for ticket in tickets)
        first = min(self._answers[ticket][0] for ticket in tickets)
        self.now = max(self.now, min(first, self.now + seconds))
        return [ticket for ticket in tickets if self._answers[ticket][0] <= self.now]

    def answer(self, ticket):
        _, answer = self._answers.pop(ticket)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self, worker):
        worker.alive = False
        self._answers.pop(worker.ticket, None)

    def runs(self, name=None):
        """(slot, name) of every time that an item was begun, in order of time."""
        calls = [
            (when, worker.slot, item.job.name)
            for worker in self.workers
            for how, item, when in worker.calls
            if how == "run"
        ]
        return [(slot, item) for _, slot, item in sorted(calls) if name in (None, item)]


def scripted(run, prepare=None, load=None):
    """A script of what `run(worker, outcome)` gives; the rest goes well."""

    def script(worker, method, arguments):
        if method == "prepare":
            return prepare(worker) if prepare else (0.1, ready())
        if method == "load":
            return load(worker) if load else (0.1, Answer("ready", facts={"device": "cpu"}))
        return run(worker, arguments[0])

    return script


def pool_of(actors, outcomes, settled=None, tell=lambda slots, left: None, depth=0, **settings):
    values = ClusterSettings(**{"workers": "2", "start_timeout": 60.0, **settings})
    told = settled if settled is not None else []
    ahead = (ended, (), depth)
    return Pool(actors, values, outcomes, ended, (), FINGERPRINT, told.append, tell, actors.clock, ahead)

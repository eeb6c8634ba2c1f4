"""Of very many results those that are finished are a number: in the table, in the history, in memory."""

import json
from pathlib import Path

import pytest

from mimicmotion.animation import outcomes as outcomes_module
from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.outcomes import Outcome, Outcomes
from mimicmotion.cluster.pool import Pool
from mimicmotion.commands import run_command
from mimicmotion.config import ClusterSettings, TestCase
from mimicmotion.errors import InputError
from mimicmotion.results import Job, Plan, read_history, sum_up, write_sidecar
from mimicmotion.results.run_log import LOG_NAME, read_lines
from scripts.benchmark_cluster import StubActors
from tests.animation.test_names import Stub, batch, put
from tests.conftest import read_nothing

NAMES = [b"%d" % number for number in range(8)]


class Making(Stub):
    """Writes true records, and fails for some videos."""

    failing = ()

    def is_finished(self, job):
        return self.seals.is_finished(job)

    require_kept = Animator.require_kept
    _recipes = Animator._recipes

    def animate(self, outcome):
        job = outcome.job
        if job.stem in self.failing:
            raise InputError(f"{job.name} is bad")
        job.output.write_bytes(job.name.encode())
        job.beside(".jpg").write_bytes(b"sheet")
        write_sidecar(job.output, self.recipe(job), {}, [job.beside(".jpg")])
        outcome.status, outcome.message = "done", str(job.output)
        self.seals.note(job)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(outcomes_module, "MANY", 3)


def run(folder, failing=(), **changed):
    config = batch(folder)
    for path, value in changed.items():
        setattr(config.batch, path, value)
    animator = Making(config)
    animator.failing = failing
    return animate_folder(config, animator)


def kinds(folder):
    """The lines of the last run without its first and last."""
    records = list(read_lines(folder / "outputs" / LOG_NAME))
    return [(r["kind"], r.get("status", r.get("count"))) for r in records if r["run"] == records[-1]["run"]][1:-1]


def test_finished_ones_have_no_row_and_no_line(tmp_path, few, capsys):
    put(tmp_path, *NAMES)
    assert run(tmp_path) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[-1] == "8 done" and kinds(tmp_path) == [("item", "done")] * 8
    assert run(tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["8 skipped"]
    assert kinds(tmp_path) == [("skipped", 8)]
    for name in ("2", "5"):
        (tmp_path / "outputs" / "videos" / f"{name}.mp4").unlink()
    assert run(tmp_path, failing=("5",)) == 1
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in table[2:-1]] == ["done", "failed"]
    assert table[-1] == "1 done, 1 failed, 6 skipped"
    assert sorted(kinds(tmp_path)) == [("item", "done"), ("item", "failed"), ("skipped", 6)]
    assert not (tmp_path / "outputs" / "index.html").exists()


def test_the_summary_of_the_history_counts_what_has_no_line(tmp_path, few, capsys):
    put(tmp_path, *NAMES)
    run(tmp_path)
    (tmp_path / "outputs" / LOG_NAME).unlink()  # as where results were copied from elsewhere
    (tmp_path / "outputs" / "videos" / "3.mp4").unlink()
    run(tmp_path)
    capsys.readouterr()
    assert run_command("history", [str(tmp_path / "outputs"), "--summary"]) == 0
    told = capsys.readouterr().out
    assert "8 of 8 results are finished: 1 done, 7 skipped" in told and "not begun" not in told
    # With the lines of a run before, nothing is counted twice.
    run(tmp_path)
    runs, damaged = read_history(tmp_path / "outputs")
    whole = sum_up(tmp_path / "outputs" / LOG_NAME, runs)
    assert (whole.finished, whole.planned, damaged) == (8, 8, {})


def test_shards_of_many_add_up(tmp_path, few):
    put(tmp_path, *NAMES)
    for _ in range(2):
        for number in (1, 2):
            run(tmp_path, shard=f"{number}/2")
    runs, _ = read_history(tmp_path / "outputs")
    whole = sum_up(tmp_path / "outputs" / LOG_NAME, runs)
    assert (whole.finished, whole.planned) == (8, 8)
    assert {path.name for path in (tmp_path / "outputs").glob("manifest*")} == {
        "manifest.1-of-2.jsonl",
        "manifest.2-of-2.jsonl",
    }


def test_few_results_are_listed_as_ever(tmp_path, capsys):
    put(tmp_path, *NAMES)
    run(tmp_path)
    run(tmp_path)
    assert kinds(tmp_path) == [("item", "skipped")] * 8
    assert len(capsys.readouterr().out.splitlines()) == 2 * (8 + 3)


def test_of_many_that_end_well_only_so_many_are_kept_and_all_that_fail(tmp_path, few):
    outcomes = Outcomes(range(20), lambda job: job % 5 == 0)
    for number, outcome in outcomes.numbered():
        assert number == outcome.job + 1
        outcome.status = "failed" if outcome.job % 3 == 1 else "done"
        if outcome.job == 17:
            break
    kept = [(outcome.job, outcome.status) for outcome in outcomes]
    failed = [job for job in range(18) if job % 3 == 1 and job % 5]
    assert [job for job, status in kept if status == "failed"] == failed
    done = 18 - 4 - len(failed)
    assert outcomes.counts() == {"done": done, "failed": len(failed), "skipped": 4, "not run": 2}
    assert len(kept) - len(failed) < done


def test_an_interrupt_leaves_the_rest_as_not_run(tmp_path, few, monkeypatch, capsys):
    put(tmp_path, *NAMES)

    def animate(self, outcome):
        raise KeyboardInterrupt

    monkeypatch.setattr(Making, "animate", animate)
    assert run(tmp_path) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "1 interrupted, 7 not run"


def test_a_plan_gives_the_jobs_that_a_list_would(tmp_path):
    put(tmp_path, *NAMES)
    from mimicmotion.results import plan_jobs

    plan = plan_jobs(batch(tmp_path))
    assert isinstance(plan, Plan) and len(plan) == 8
    listed = list(plan)
    assert [plan[place] for place in range(-8, 8)] == listed + listed
    assert list(plan[2:6]) == listed[2:6] and list(plan[::-2]) == listed[::-2]
    mine = plan.where(lambda job: int(job.stem) % 3 == 0)
    assert list(mine) == [listed[0], listed[3], listed[6]] and list(mine.where(lambda job: False)) == []
    with pytest.raises(IndexError):
        plan[8]
    assert json.dumps([job.name for job in mine]) == '["0.mp4", "3.mp4", "6.mp4"]'


@pytest.mark.parametrize("many", [3, 10_000])
def test_a_dry_run_opens_what_is_not_finished_and_nothing_else(tmp_path, monkeypatch, capsys, many):
    put(tmp_path, *NAMES)
    monkeypatch.setattr("mimicmotion.results.manifest.is_settled", lambda _: True)  # however fast they are made
    run(tmp_path)
    (tmp_path / "outputs" / "videos" / "3.mp4").unlink()
    monkeypatch.setattr(outcomes_module, "MANY", many)
    monkeypatch.setattr("mimicmotion.animation.planning.MANY", many)
    opened = []

    def open_video(path, **_):
        opened.append(path.name)
        raise InputError("no video")

    monkeypatch.setattr("mimicmotion.animation.planning.open_video", open_video)
    read_nothing(monkeypatch, but="3.mp4")
    before, config = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}, batch(tmp_path)
    config.output.dry_run = True
    capsys.readouterr()
    assert animate_folder(config, Making(config)) == 1 and opened == ["3.mp4"]
    table = capsys.readouterr().out
    assert table.count("(finished)") == (0 if many == 3 else 7) and "cannot run: no video" in table
    assert table.splitlines()[-1] == "1 results, 0 UNet passes; 7 more are finished"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


class Counted(Outcome):
    """An outcome that counts how many of its kind are in memory; those that came from a worker count not."""

    alive, most = set(), 0

    def __post_init__(self):
        self.alive.add(id(self))
        Counted.most = max(Counted.most, len(self.alive))

    def __del__(self):
        self.alive.discard(id(self))


@pytest.mark.parametrize("count", [200, 400])
def test_of_many_that_workers_make_few_are_in_memory_at_a_time(few, monkeypatch, count):
    monkeypatch.setattr(outcomes_module, "Outcome", Counted)
    Counted.alive.clear()
    Counted.most = 0
    jobs = [Job(Path(f"{n}.mp4"), TestCase(), 0, Path(f"out/x-{n}.mp4")) for n in range(count)]
    outcomes = Outcomes(jobs, lambda job: int(job.output.stem[2:]) % 10 == 0)
    monkeypatch.setattr(StubActors, "agreed", {"weights": "w"})
    left, begun, settled = outcomes.unfinished(lambda job: int(job.output.stem[2:]) // 2), [], []
    assert len(left) == count * 9 // 10 and not Counted.alive

    def settle(outcome):
        settled.append(outcome.job.output)
        outcomes.settle(outcome)

    real = StubActors.ask
    monkeypatch.setattr(StubActors, "ask", lambda *given: begun.append(given) or real(*given))
    settings = ClusterSettings(workers="4")
    assert Pool(StubActors(), settings, left, print, (), StubActors.agreed, settle).run() == 0
    names = [int(given[3].job.output.stem[2:]) for given in begun if given[2] == "run"]
    begun.clear()
    # The largest first, those that are equal in the order of the run, and the two whose workers end once more.
    assert sorted(set(names), key=names.index) == sorted((n for n in range(count) if n % 10), key=lambda n: -(n // 2))
    assert len(settled) == len(set(settled)) == len(left)
    assert outcomes.counts() == {"done": len(left) - 1, "failed": 1, "skipped": count - len(left)}
    kept = [outcome.status for outcome in outcomes]
    assert len(kept) <= 4 and "failed" in kept
    # MANY, one for each worker, and what the loop holds between.
    assert Counted.most <= 3 + 4 + 4

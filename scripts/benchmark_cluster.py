"""Puts numbers on workers: results under random kills, what Ray costs, two workers against one, a lost node.

    python scripts/benchmark_cluster.py --only overhead nodes   # needs minutes
    python scripts/benchmark_cluster.py --rounds 50   # needs minutes

    kills      rounds of a batch of drawn clips, with workers killed (SIGKILL) at random moments: every result has to be
               there once, with the bytes of a single run, and nothing half written beside it
    overhead   what one worker costs per result: many that do nothing, and some that compute for a second
    pairs      whole batches by one worker and by two, in turns
    nodes      two nodes of ray.cluster_utils, one removed during the run: all results, each once
    planned    very many results that nobody has made yet, and workers that need no time, no process and no Ray: what
               the run's own process takes for plan, queue, attempts, records and table

Ends with 1 where a law was broken. Seconds are those of this machine with whatever else it does; its load is told.
"""

import argparse
import contextlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SCRIPT = "inference_raw_batch_turbo.py"
WORKER = b"ray::RayPerformer"
SMALL = (
    "--resolution",
    "64",
    "--num_frames",
    "4",
    "--frames_overlap",
    "2",
    "--num_inference_steps",
    "1",
    "--sample_stride",
    "1",
)
KILLS = 5  # in a round, at most
BUSY_SECONDS = 1.0
STUBS = 64  # workers of `planned`
LOST_ONCE, LOST_ALWAYS = 1000, 10_000  # one result in so many ends its worker
MOST_MB = 1000


# ----------------------------------------------------------------------------------------------------
# Work that is none


class NoWork:
    """Items that take as much processor time as they say."""

    def fingerprint(self) -> dict[str, str]:
        """Nothing to agree in."""
        return {}

    def is_ready(self, item) -> bool:
        """There is nothing to load."""
        return True

    def load(self, item) -> None:
        """Nothing."""

    def device(self) -> str:
        """A processor."""
        return "cpu"

    def do(self, item) -> None:
        """Computes for as many seconds as the item's name begins with."""
        seconds, _, _ = item.job.name.partition("-")
        end = time.thread_time() + float(seconds)
        while time.thread_time() < end:
            pass
        item.status = "done"


def no_work() -> NoWork:
    """What workers make."""
    return NoWork()


def items_of(seconds: float, count: int) -> list:
    """Outcomes of jobs that are names only."""
    from mimicmotion.animation import Outcome
    from mimicmotion.config import TestCase
    from mimicmotion.results import Job

    return [Outcome(Job(Path(f"{seconds}-{number}"), TestCase(), 0, Path(f"{number}.mp4"))) for number in range(count)]


def settings_of(workers: int, *overrides: str):
    """A configuration with so many workers."""
    from mimicmotion.config import load_config

    return load_config(overrides=[f"cluster.workers={workers}", "runtime.device=cpu", *overrides])


# ----------------------------------------------------------------------------------------------------
# Parts; each returns what broke a law


def overhead(arguments) -> list[str]:
    """What one worker costs per result."""
    from mimicmotion.cluster import run_on_workers

    for seconds, count in ((0.0, arguments.empty), (BUSY_SECONDS, arguments.busy)):
        times: list[float] = []
        cpu: list[float] = []

        def settled(_outcome, times=times, cpu=cpu) -> None:
            times.append(time.perf_counter())
            cpu.append(time.process_time())

        outcomes = items_of(seconds, count)
        run_on_workers(settings_of(1), outcomes, no_work, (), {}, settled)
        # From one end to the next: a result and what lies between two of them.
        gaps = [(after - before) * 1000 for before, after in pairwise(times)]
        inside = [outcome.seconds * 1000 for outcome in outcomes[1:]]
        between = statistics.median(gap - one for gap, one in zip(gaps, inside, strict=True))
        driver = (cpu[-1] - cpu[0]) * 1000 / (count - 1)
        share = f", {between / 10 / seconds:.2f} % of it" if seconds else ""
        print(
            f"{count} results of {seconds:g} s: {between:.2f} ms between two of them (median){share}; "
            f"{driver:.2f} ms of the run's own processor time each; {machine()}",
            flush=True,
        )
    return []


def machine() -> str:
    """Cores and load of this machine, without which a time says nothing."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def nodes(arguments) -> list[str]:
    """Two nodes, one of them removed."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    from mimicmotion.cluster import run_on_workers

    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
    second = cluster.add_node(num_cpus=1, **memory)
    cluster.wait_for_nodes()
    seen: list = []

    def settled(outcome) -> None:
        seen.append(outcome)
        if len(seen) == arguments.items // 2:
            cluster.remove_node(second, allow_graceful=False)

    outcomes = items_of(0.5, arguments.items)
    try:
        config = settings_of(2, f"cluster.address='{cluster.address}'")
        code = run_on_workers(config, outcomes, no_work, (), {}, settled)
    finally:
        cluster.shutdown()
    again = sum(outcome.where.get("attempt", 1) > 1 for outcome in outcomes)
    done = sum(outcome.status == "done" for outcome in outcomes)
    print(f"a node of two removed: {done} of {len(outcomes)} results, {len(seen)} ends, {again} of them tried again")
    broken = code or done != len(outcomes) or len({id(one) for one in seen}) != len(seen) or len(seen) != done
    return [f"a lost node: code {code}, {done} done, {len(seen)} ends"] if broken else []


def kills(arguments) -> list[str]:
    """Rounds of a batch with workers killed at random moments."""
    broken, total, seed, loads = [], 0, arguments.seed, []
    with batch(arguments.items) as (folder, command):
        once, said = run(command, folder / "single")
        wanted = results(folder / "single")
        if once or len(wanted) != 2 * arguments.items:
            return [f"the single run ended with {once} and {len(wanted)} files: {said[-4000:]}"]
        for number in range(arguments.rounds):
            output, chance = folder / f"round{number}", random.Random(seed + number)
            killed, code, told = run_and_kill(command, output, chance)
            total += killed
            loads.append(os.getloadavg()[0])
            found = faults(output, code, wanted)
            broken += [f"round {number} (--seed {seed + number}): {what}" for what in found]
            print(f"round {number}: {killed} kills, exit code {code}, load {loads[-1]:.1f}", flush=True)
            if found:
                print(told[-4000:], file=sys.stderr, flush=True)
            shutil.rmtree(output, ignore_errors=True)
    print(
        f"{arguments.rounds} rounds of {arguments.items} results, {total} kills, {os.cpu_count()} cores, load "
        f"{min(loads):.1f} to {max(loads):.1f}: {len(broken)} laws broken"
    )
    return broken


def pairs(arguments) -> list[str]:
    """One worker against two on the same batch."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with batch(arguments.items) as (folder, command):
        for repeat in range(arguments.repeats):
            for count in seconds:
                output = folder / f"{count}-{repeat}"
                code, said = run([*command, "--workers", str(count)], output)
                if code:
                    return [f"a run with {count} workers ended with {code}: {said[-4000:]}"]
                seconds[count].append(seconds_of_run(output))
    ratio = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    print(
        f"whole batches of {arguments.items}, {machine()}: one worker {seconds[1]} s, two {seconds[2]} s, ratio "
        f"{ratio:.2f} (median of {arguments.repeats})"
    )
    return []


def planned(arguments) -> list[str]:
    """Very many results on workers that are none."""
    from scripts.benchmark_batch import link_names

    count = arguments.planned
    with tempfile.TemporaryDirectory(prefix="benchmark_cluster-") as temporary:
        folder = Path(temporary)
        (folder / "videos").mkdir()
        (folder / "person.png").write_bytes(b"a picture")
        link_names(folder / "videos", count, ".mp4")
        command = [sys.executable, __file__, "--planned_in", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return [f"planned: {done.stderr[-2000:]}"]
        rows, facts = done.stdout.splitlines(), json.loads(done.stdout.splitlines()[-1])
        with open(folder / "outputs" / "runs.jsonl", encoding="utf-8") as file:
            ended = {(one["output"], one["status"]) for one in map(json.loads, file) if one["kind"] == "item"}
    failing = sum(number % LOST_ALWAYS == 1 for number in range(count))
    print(
        f"{count} results to be made, {STUBS} workers that need no time: {facts['cpu']:.1f} s of processor time, "
        f"{facts['cpu'] * 1000 / count:.3f} ms each, {facts['peak_mb']:.0f} MB at most, {len(rows) - 4} rows"
    )
    checks = {
        f"{rows[-2]!r} in the table": rows[-2] == f"{count - failing} done, {failing} failed",
        f"{len(ended)} results in runs.jsonl": len(ended) == len({output for output, _ in ended}) == count,
        f"{facts['peak_mb']:.0f} MB": facts["peak_mb"] < MOST_MB,
    }
    return [f"planned: {what}" for what, holds in checks.items() if not holds]


def planned_in(folder: Path) -> None:
    """The run of `planned`; prints its table, then what it took."""
    from mimicmotion.animation import Animator, animate_folder, fingerprint
    from scripts.benchmark_batch import stub_models

    models = stub_models(folder)
    models.config.cluster.workers = str(STUBS)
    animator = Animator(models.config, models)
    StubActors.agreed = fingerprint([animator])
    with without_ray():
        animate_folder(models.config, animator, no_work)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}))


@contextlib.contextmanager
def without_ray() -> Iterator[None]:
    """Within, workers are StubActors."""
    room = "mimicmotion.cluster.run"
    session = patch(f"{room}.ray_session", lambda *_: contextlib.nullcontext())
    with session, patch(f"{room}.RayActors", StubActors):
        yield


class StubActors:
    """Workers that have done everything when they are asked whether they have; see `cluster.pool.Actors`."""

    agreed: ClassVar[dict[str, str]] = {}  # what they have in common with the run

    def __init__(self, *_given):
        self._answers: dict[int, bytes] = {}
        self._asked, self._lost = 0, set()

    def start(self, slot: int) -> int:
        """A worker."""
        return slot

    def start_preparer(self, number: int) -> int:
        """As `start`; nothing is prepared ahead here, so nobody asks for one."""
        return number

    def end(self, worker: int) -> None:
        """Nothing."""

    def room(self) -> int:
        """As many as there are."""
        return STUBS

    def stages(self) -> dict[int, str]:
        """None is known."""
        return {}

    def ask(self, worker: int, method: str, *arguments) -> int:
        """The ticket of an answer, which is pickled as it would be."""
        from mimicmotion.cluster import Answer

        self._asked += 1
        if method == "prepare":
            answer = Answer("ready", facts={"host": f"host{worker}", "process": worker}, fingerprint=self.agreed)
        else:
            (outcome,) = arguments
            outcome = pickle.loads(pickle.dumps(outcome))
            outcome.status, outcome.message = "done", str(outcome.job.output)
            answer = Answer("ended", item=outcome)
        self._answers[self._asked] = pickle.dumps(answer)
        return self._asked

    def wait(self, tickets, seconds: float) -> list[int]:
        """All of them."""
        return list(tickets)

    def answer(self, ticket: int):
        """Raises: WorkerLost for some."""
        from mimicmotion.cluster import WorkerLost

        answer = pickle.loads(self._answers.pop(ticket))
        if answer.kind == "ended":
            number = int(answer.item.job.output.stem.rpartition("-")[2])
            once = number % LOST_ONCE == 2 and number not in self._lost
            if once or number % LOST_ALWAYS == 1:
                self._lost.add(number)
                raise WorkerLost("a worker that is none was lost")
        return answer


PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "overhead": overhead,
    "nodes": nodes,
    "pairs": pairs,
    "kills": kills,
    "planned": planned,
}
USUAL = ["overhead", "nodes", "pairs", "kills"]


# ----------------------------------------------------------------------------------------------------
# Whole runs


@contextlib.contextmanager
def batch(count: int) -> Iterator[tuple[Path, list[str]]]:
    """A folder with drawn clips, and the command that animates them at the smallest settings."""
    from mimicmotion.puppets import draw_puppets

    with tempfile.TemporaryDirectory(prefix="benchmark_cluster-") as temporary:
        folder = Path(temporary)
        draw_puppets(folder / "puppets", count=1, seconds=0.5, height=128, width=96)
        clips = sorted((folder / "puppets" / "driving").glob("*.mp4"))
        (reference,) = (folder / "puppets" / "references").glob("*.png")
        (folder / "videos").mkdir()
        (folder / "poses").mkdir()
        for number in range(count):
            clip = clips[number % len(clips)]
            (folder / "videos" / f"{number:02d}.mp4").symlink_to(clip)
            (folder / "poses" / f"{number:02d}.npz").symlink_to(clip.with_suffix(".npz"))
        command = [sys.executable, str(ROOT / SCRIPT), "--batch_folder", str(folder / "videos"), "--ref_image_path"]
        command += [str(reference), "--pose_backend", "file", "--pose_folder", str(folder / "poses"), "--device", "cpu"]
        yield folder, [*command, *SMALL]


def run(command: list[str], output: Path) -> tuple[int, str]:
    """The exit code of a run into `output`, and what it said."""
    words = [*command, "--output_dir", str(output)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_and_kill(command: list[str], output: Path, chance: random.Random) -> tuple[int, int, str]:
    """How many workers were killed, the exit code, and what the run said."""
    words = [*command, "--output_dir", str(output), "--workers", "2", "--attempts", "100"]
    killed, planned = 0, chance.randint(1, KILLS)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(chance.uniform(0.05, 3.0))
            workers = [pid for pid in descendants(process.pid) if is_worker(pid)]
            if workers and killed < planned and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    killed += 1
        said.seek(0)
        return killed, process.returncode, said.read()


def descendants(pid: int) -> list[int]:
    """All processes that a process started, and theirs."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            found += [*children, *(one for child in children for one in descendants(child))]
    return found


def is_worker(pid: int) -> bool:
    """Whether a process is a worker, by the name that Ray gives it."""
    with contextlib.suppress(OSError):
        return WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def results(folder: Path) -> dict[str, bytes]:
    """Videos and pictures below a folder, by their place."""
    kinds = (".mp4", ".jpg")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix in kinds}


def faults(output: Path, code: int, wanted: dict[str, bytes]) -> list[str]:
    """Which laws a round broke."""
    there = results(output)
    lines = [json.loads(line) for line in (output / "runs.jsonl").read_text().splitlines()]
    ends = [line["output"] for line in lines if line["kind"] == "item"]
    checks = {
        f"exit code {code}": code == 0,
        "a result is missing or has other bytes": there == wanted,
        "a result ended twice": len(ends) == len(set(ends)) == len(wanted) // 2,
        "something temporary is left": not list(output.rglob(".tmp-*")),
    }
    return [what for what, holds in checks.items() if not holds]


def seconds_of_run(output: Path) -> float:
    """How long the last run into a folder took, by its history: with workers that begin, without imports before."""
    lines = [json.loads(line) for line in (output / "runs.jsonl").read_text().splitlines()]
    return [line["seconds"] for line in lines if line["kind"] == "end"][-1]


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=USUAL, help=f"default: {' '.join(USUAL)}")
    parser.add_argument("--rounds", type=int, default=5, help="of kills (default: 5)")
    parser.add_argument("--items", type=int, default=16, help="results of a batch (default: 16)")
    parser.add_argument("--empty", type=int, default=2000, help="results of overhead that are nothing (default: 2000)")
    parser.add_argument("--busy", type=int, default=20, help="and that compute for a second (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="of pairs (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills (default: 0)")
    parser.add_argument("--planned", type=int, default=1_000_000, help="results of planned (default: 1000000)")
    parser.add_argument("--planned_in", type=Path, help=argparse.SUPPRESS)  # the measured process
    arguments = parser.parse_args(argv)
    if arguments.planned_in:
        planned_in(arguments.planned_in)
        return 0
    broken = []
    for name in arguments.only:
        broken += PARTS[name](arguments)
    for what in broken:
        print(f"broken: {what}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

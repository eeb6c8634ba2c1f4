"""Breaks runs on purpose, again and again, and counts what they leave behind: a table, and 1 where a law was broken.

    python scripts/fault_campaign.py   # needs minutes
    python scripts/fault_campaign.py --only kills signals --rounds 100   # needs minutes

Each trial is a whole run of the embedded models at their smallest settings, in a process of its own that is forked from
one with everything imported. Two drawn clips are animated, or a session of the world model is played.

    kills      SIGKILL at a random moment
    signals    SIGINT, SIGTERM, SIGHUP, or a row of them, at a random moment
    stages     each of the three when poses are read, latents are sampled and frames are written
    calls      the n-th of all calls that open, sync, replace or lock a file fails, with each error in turn
    limits     ulimit -f, -n and -v at many values
    disk       output on file systems too small for it, and on a read-only one; needs the right to mount
    sessions   a session of the world model interrupted at a random moment, and gone on with

Laws: no traceback; the exit code says what happened; no file under its final name is torn; nothing temporary stays but
after SIGKILL, and that goes with the next run; the next run ends with 0 and the bytes of a run that nobody disturbed. A
session that goes on ends with the frames of one that never stopped, and its two videos and its record agree.
"""

import argparse
import builtins
import contextlib
import errno
import fcntl
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

HANG_SECONDS = 900
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROWS = (*((number,) for number in SIGNALS), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM))
CODES = (errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES, errno.EMFILE, errno.EROFS, errno.EDQUOT, errno.EFBIG)
CALLS = ((os, "open"), (os, "fsync"), (os, "replace"), (os, "mkdir"), (fcntl, "flock"), (io, "open"))
BLOCKS = 4
WHOLE = (".mp4", ".jpg")


@dataclass
class Tally:
    """What came of the trials of one kind: how many, how often with which exit code, which laws were broken."""

    trials: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def count(self, what: str, code: int, broken: list[str]) -> None:
        """Notes one trial."""
        self.trials += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        self.broken += [f"{what}: {law}" for law in broken]


class Campaign:
    """The inputs of all trials, and what they give when nobody disturbs them."""

    def __init__(self, folder: Path, rounds: int, seed: int) -> None:
        from mimicmotion.puppets import draw_puppets

        self.folder, self.rounds, self.random = folder, rounds, random.Random(seed)
        draw_puppets(folder / "in", count=1, kinds=("wave", "jump"), seconds=0.2, height=128, width=96)
        self.imported()
        start = time.monotonic()
        code, text = forked(self.turbo(folder / "expected"), folder / "log")
        self.seconds = time.monotonic() - start
        if code:
            raise SystemExit(f"the undisturbed run failed:\n{text}")
        self.expected = results(folder / "expected")

    def imported(self) -> None:
        """One run in this process: what is imported and read by it, no trial has to."""
        from mimicmotion.commands import run_command

        for command in (self.turbo(self.folder / "warm"), self.session(self.folder / "warm", blocks=1)):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                run_command(command[0], command[1:])
        shutil.rmtree(self.folder / "warm")

    def turbo(self, out: Path) -> list[str]:
        """The command of a batch."""
        given = self.folder / "in"
        return [
            "turbo", "--batch_folder", f"{given}/driving", "--ref_image_path", f"{given}/references/person-00.png",
            "--pose_backend", "file", f"pose.folder={given}/driving", "--output_dir", str(out), "--resolution", "64",
            "--num_inference_steps", "1", "--sample_stride", "1", "--num_frames", "4", "test_case[0].frames_overlap=2",
        ]  # fmt: skip

    def session(self, out: Path, blocks: int, *more: str) -> list[str]:
        """The command of a session of the world model."""
        latents = f"streaming.max_latents={3 * blocks}"
        return ["stream", "--actions", "bench", latents, "--output_dir", str(out), *more]

    def trial(self, tally: Tally, what: str, allowed: set[int], killed: bool = False, **how) -> None:
        """One disturbed batch, and the one after it."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        code, text = forked(self.turbo(out), self.folder / "log", **how)
        broken = [] if code in allowed else [f"exit code {code}"]
        broken += complaints(text) + self.torn(out) + ([] if killed else leftovers(out))
        tally.count(what, code, broken + self.gone_on_with(out))

    def torn(self, out: Path) -> list[str]:
        """Files under a final name that are not whole."""
        found = results(out)
        broken = [f"{name} is torn" for name, content in found.items() if content != self.expected[name]]
        for path in out.rglob("*.json"):
            try:
                json.loads(path.read_text())
            except ValueError:
                broken.append(f"{path.name} is torn")
        return broken

    def gone_on_with(self, out: Path) -> list[str]:
        """What is wrong with the next run."""
        code, text = forked(self.turbo(out), self.folder / "log")
        broken = [f"the next run ends with {code}"] if code else []
        broken += [] if results(out) == self.expected else ["the next run gives other bytes"]
        return broken + complaints(text) + leftovers(out)


def forked(
    command: list[str],
    log: Path,
    prepare: Callable[[], None] = lambda: None,
    disturb: Callable[[int], None] = lambda pid: None,
) -> tuple[int, str]:
    """Exit code (negative: the signal that ended it) and output of a command in a child process.

    Args:
        prepare: called in the child first.
        disturb: called in this process with the child's id.
    """
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os._exit(in_child(command, log, prepare))
    disturb(child)
    deadline = time.monotonic() + HANG_SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1]), log.read_text(errors="replace")


def in_child(command: list[str], log: Path, prepare: Callable[[], None]) -> int:
    """Runs the command with its output in `log`; the exit code."""
    from mimicmotion.commands import run_command

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    try:
        prepare()
        code = run_command(command[0], command[1:])
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def results(out: Path) -> dict[str, bytes]:
    """The bytes of all results below a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(out.rglob("[!.]*")) if path.suffix in WHOLE}


def leftovers(out: Path) -> list[str]:
    """Temporary files that are still there."""
    return [f"{path.name} is left" for path in out.rglob(".*")]


def complaints(text: str) -> list[str]:
    """What in the output of a run no user should see."""
    lines = text.splitlines()
    traced = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    return [f"a traceback: {' | '.join(lines[max(0, traced[0] - 1):])[:2000]}"] if traced else []


# ----------------------------------------------------------------------------------------------------
# The kinds of trials


def kills(campaign: Campaign, tally: Tally) -> None:
    """SIGKILL at a random moment."""
    for _ in range(campaign.rounds):
        campaign.trial(tally, "SIGKILL", {0, -signal.SIGKILL}, True, disturb=later(campaign, (signal.SIGKILL,)))


def signals(campaign: Campaign, tally: Tally) -> None:
    """Each row of signals at a random moment."""
    for number in range(campaign.rounds):
        row = ROWS[number % len(ROWS)]
        # Before the run has begun to listen, a signal ends it as it ends any program.
        allowed = {0, 130, -row[0]}
        campaign.trial(tally, "+".join(s.name for s in row), allowed, disturb=later(campaign, row))


def later(campaign: Campaign, row: tuple[int, ...]) -> Callable[[int], None]:
    """Sends the signals at a random moment of a run."""
    delay = campaign.random.uniform(0.02, campaign.seconds)

    def disturb(pid: int) -> None:
        time.sleep(delay)
        for number in row:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    return disturb


def stages(campaign: Campaign, tally: Tally) -> None:
    """Each signal at the beginning of each stage of the second clip."""
    from mimicmotion.animation import Animator

    for stage in ("prepare", "sample", "write"):
        for number in SIGNALS:

            def prepare(stage=stage, number=number):
                original, calls = getattr(Animator, stage), []

                def interrupted(*arguments):
                    calls.append(1)
                    if len(calls) == 2:
                        os.kill(os.getpid(), number)
                    return original(*arguments)

                setattr(Animator, stage, interrupted)

            campaign.trial(tally, f"{number.name} at {stage}", {130}, prepare=prepare)


def calls(campaign: Campaign, tally: Tally) -> None:
    """The n-th call fails, for `rounds` values of n over a whole run."""
    counted = campaign.folder / "counted"
    forked(campaign.turbo(campaign.folder / "count"), campaign.folder / "log", lambda: fail_call(0, 0, counted))
    total = counted.stat().st_size
    for number in range(campaign.rounds):
        n, code = 1 + (total - 1) * number // max(1, campaign.rounds - 1), CODES[number % len(CODES)]
        what = f"{errno.errorcode[code]} in call {n} of {total}"
        campaign.trial(tally, what, {0, 1, 2, 3}, prepare=lambda n=n, code=code: fail_call(n, code))


def fail_call(n: int, code: int, counted: Path | None = None) -> None:
    """From here on the n-th call of this process fails; each writes a byte into `counted`."""
    done, counter = [], os.open(counted, os.O_WRONLY | os.O_CREAT) if counted else None

    def failing(original):
        def call(*arguments, **options):
            done.append(1)
            if counter is not None:
                os.write(counter, b".")
            if len(done) == n:
                raise OSError(code, os.strerror(code))
            return original(*arguments, **options)

        return call

    for module, name in CALLS:
        setattr(module, name, failing(getattr(module, name)))
    builtins.open = io.open


def limits(campaign: Campaign, tally: Tally) -> None:
    """Sizes of files, numbers of open files, and memory, from none to enough."""
    largest = max(map(len, campaign.expected.values()))
    opened = max(map(int, os.listdir("/proc/self/fd")))
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    values = {
        resource.RLIMIT_FSIZE: [0, 1000, largest // 2, largest - 1],
        resource.RLIMIT_NOFILE: [opened + more for more in (2, 5, 8, 12, 16)],
        resource.RLIMIT_AS: [memory + (more << 20) for more in (4, 16, 100, 300)],
    }
    names = {resource.RLIMIT_FSIZE: "ulimit -f", resource.RLIMIT_NOFILE: "ulimit -n", resource.RLIMIT_AS: "ulimit -v"}
    for kind, numbers in values.items():
        for value in numbers:

            def prepare(kind=kind, value=value):
                resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))

            # The log is a file as well: where it may not grow, the run still has to keep the laws.
            campaign.trial(tally, f"{names[kind]} {value}", {0, 1, 3}, prepare=prepare)


def disk(campaign: Campaign, tally: Tally) -> None:
    """File systems of a few kilobytes, and one that is read-only."""
    place = campaign.folder / "disk"
    place.mkdir()
    total = sum(map(len, campaign.expected.values())) >> 10
    for options in (*(f"size={kilobytes}k" for kilobytes in (4, 12, 40, total // 2, total)), "ro"):
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True).returncode:
            print("disk: no file system can be mounted here")
            return
        try:
            code, text = forked(campaign.turbo(place / "out"), campaign.folder / "log")
            broken = complaints(text) + campaign.torn(place) + leftovers(place)
            tally.count(f"tmpfs {options}", code, broken + ([] if code == 3 else [f"exit code {code}"]))
        finally:
            subprocess.run(["umount", str(place)], check=True)


def sessions(campaign: Campaign, tally: Tally) -> None:
    """A session that is interrupted goes on without a gap."""
    whole, out, state = campaign.folder / "whole", campaign.folder / "session", campaign.folder / "s.safetensors"
    start = time.monotonic()
    forked(campaign.session(whole, BLOCKS), campaign.folder / "log")
    seconds = time.monotonic() - start
    expected = (whole / "first_frame_current.mp4").read_bytes()
    for number in range(campaign.rounds):
        shutil.rmtree(out, ignore_errors=True)
        state.unlink(missing_ok=True)
        row, delay = ROWS[number % len(ROWS)], campaign.random.uniform(seconds / 3, seconds)

        def disturb(pid, row=row, delay=delay):
            time.sleep(delay)
            for sent in row:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)

        command = campaign.session(out, BLOCKS, "--save_state", str(state))
        code, text = forked(command, campaign.folder / "log", disturb=disturb)
        broken = complaints(text) + leftovers(out)
        broken += [] if code in (0, 130, -row[0]) else [f"exit code {code}"]
        if (out / "first_frame.json").exists():
            broken += without_gap(campaign, out, state, expected)
        tally.count("+".join(s.name for s in row), code, broken)


def without_gap(campaign: Campaign, out: Path, state: Path, expected: bytes) -> list[str]:
    """What is wrong with a session that was interrupted, and with how it goes on."""
    import av

    record = json.loads((out / "first_frame.json").read_text())
    counts = {record["frames"], sum(taken["frames"] for taken in record["actions"])}
    for name in ("first_frame.mp4", "first_frame_icon.mp4"):
        with av.open(str(out / name)) as video:
            counts.add(sum(1 for _ in video.decode(video=0)))
    if len(counts) > 1:
        return [f"its videos and its record have {sorted(counts)} frames"]
    done = 1 + (counts.pop() - 9) // 12
    if done < BLOCKS:
        command = campaign.session(out, BLOCKS - done, "--resume_from", str(state))
        code, text = forked(command, campaign.folder / "log")
        last = out / "s_current.mp4"
        if code or not last.exists() or last.read_bytes() != expected:
            return [f"going on after block {done} ends with {code} and other frames: {text.splitlines()[-1:]}"]
    return []


KINDS = {kind.__name__: kind for kind in (kills, signals, stages, calls, limits, disk, sessions)}


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="trials of each kind drawn at random (default: 10)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="kinds (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    arguments = parser.parse_args(argv)
    # A shell's background jobs begin with it ignored, and what is ignored stays so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        campaign = Campaign(Path(folder), arguments.rounds, arguments.seed)
        tallies = {}
        for name in arguments.only:
            tallies[name] = Tally()
            KINDS[name](campaign, tallies[name])
            print(line(name, tallies[name]), *tallies[name].broken, sep="\n    ", flush=True)
    print(f"\n{'kind':10}{'trials':>7}{'broken':>7}  exit codes")
    for name, tally in tallies.items():
        print(line(name, tally))
    broken = sum(len(tally.broken) for tally in tallies.values())
    print(f"\n{broken} laws were broken, named above" if broken else "\nevery law held")
    return 1 if broken else 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A forked process has one thread only, so this one must not have more either."""
    import torch
    import tqdm

    tqdm.tqdm.monitor_interval = 0
    torch.set_num_threads(1)
    yield


def line(name: str, tally: Tally) -> str:
    """A row of the table."""
    codes = ", ".join(f"{count} x {code}" for code, count in sorted(tally.codes.items()))
    return f"{name:10}{tally.trials:7}{len(tally.broken):7}  {codes}"


if __name__ == "__main__":
    sys.exit(main())

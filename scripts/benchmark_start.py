"""What a start costs: CPU seconds of runs that have nothing to do, and of the imports of one that has.

    python scripts/benchmark_start.py   # needs minutes
    python scripts/benchmark_start.py --results 50 --repeats 5   # needs minutes

Three starts of inference_raw_batch_turbo.py on drawn clips take turns, each a process of its own:

    dry run     --dry_run on one clip
    finished    a batch whose results are all there
    run         one result of two frames; its imports are folded by package (python -X importtime)

CPU seconds count, with those of child processes, since wall-clock seconds depend on who else is there.
"""

import argparse
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "inference_raw_batch_turbo.py"
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
LEAST_SHARE = 0.01
IMPORT = """
import contextlib, importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
"""


def main(argv: list[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=200, help="results of the finished batch (default: 200)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each start (default: 3)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        starts = make_starts(Path(folder), arguments.results)
        seconds = {name: [] for name in starts}
        for _ in range(arguments.repeats):
            for name, command in starts.items():
                seconds[name].append(cpu_seconds(command))
        for name, values in seconds.items():
            print(f"{name:10}{statistics.median(values):7.2f} s CPU ({min(values):.2f} to {max(values):.2f})")
        print_imports(starts["run"])
    return 0


def make_starts(folder: Path, results: int) -> dict[str, list[str]]:
    """The command of each start by its name, with the files that it works on in `folder`."""
    puppets, driving = folder / "puppets", folder / "puppets" / "driving"
    draw = [sys.executable, str(ROOT / "scripts" / "draw_puppets.py"), "--out", str(puppets), "--count", "1"]
    check([*draw, "--kinds", "wave", "--seconds", "0.2"])
    reference = next((puppets / "references").glob("*.png"))
    common = [sys.executable, str(SCRIPT), "--ref_image_path", str(reference), "--sample_stride", "1"]
    common += ["--pose_backend", "file", "--device", "cpu"]
    one = [*common, "--batch_folder", str(driving), "--pose_folder", str(driving)]
    check([*one, "--output_dir", str(folder / "one")])
    many, done = folder / "many" / "driving", folder / "done" / "driving"
    for place in (many, done):
        place.mkdir(parents=True)
    for number in range(results):
        # Results are told by content: copies of a clip have copies of its result.
        for source, place in ((driving, many), (folder / "one" / "driving", done)):
            for file in source.glob("wave.*"):
                shutil.copy(file, place / f"clip-{number:04d}{file.suffix}")
    finished = [*common, "--batch_folder", str(many), "--pose_folder", str(many), "--output_dir", str(done.parent)]
    return {
        "dry run": [*one, "--dry_run"],
        "finished": finished,
        "run": [*one, "--output_dir", str(folder / "run"), "--overwrite"],
    }


def check(command: list[str]) -> None:
    """Runs a command whose output is of no interest. Raises: CalledProcessError where it fails."""
    subprocess.run(command, check=True, capture_output=True)


def cpu_seconds(command: list[str]) -> float:
    """CPU seconds of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    check(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def print_imports(command: list[str]) -> None:
    """The CPU seconds that a command's imports take beyond torch, and the share of each package in them."""
    log = subprocess.run([command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True)
    # Of each module: its own time, and its name; the innermost imports end, and are listed, first.
    modules = IMPORT_LINE.findall(log.stderr)
    names = [module for _, module in modules]
    torch, everything = (
        cpu_seconds([sys.executable, "-c", IMPORT, str(ROOT), *some]) for some in (["torch"], ["torch", *names])
    )
    print(f"imports of run: {everything:.2f} s CPU: torch {torch:.2f}, beyond it {everything - torch:.2f}")
    packages: Counter = Counter()
    for microseconds, module in modules:
        packages[module.partition(".")[0]] += int(microseconds)
    total = sum(packages.values())
    for package, time in packages.most_common():
        if time >= LEAST_SHARE * total:
            print(f"  {package:22}{time / total:6.1%}")


if __name__ == "__main__":
    sys.exit(main())

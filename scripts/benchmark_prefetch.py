"""Measure what it saves to work on several results at a time: a batch with and without --prefetch and --overlap, in
turns.

    python scripts/benchmark_prefetch.py             # three copies of the demo's clip; needs minutes
    python scripts/benchmark_prefetch.py --inference_config configs/mimicmotion.yaml --device cuda    # needs weights

Networks and detector are open before the clock starts. Wall seconds depend on who else is there: ratios are taken turn
by turn. CPU seconds, with those of the processes that read and write videos, tell what the overlap itself costs.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, setup_logging
from mimicmotion.config import DEFAULT_CONFIG

# Clips made ready ahead, and whether a result is written while the next is sampled.
WAYS = {
    "one by one": (0, "off"),
    "--prefetch 1": (1, "off"),
    "--prefetch 2": (2, "off"),
    "--overlap on": (0, "on"),
    "both, 1": (1, "on"),
}


def main(argv: list[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings")
    parser.add_argument("--video", type=Path, help="driving video; null: the demo's")
    parser.add_argument("--clips", type=int, default=3, help="copies of it in the batch")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every way")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")
    arguments = parser.parse_args(argv)
    from mimicmotion.errors import MimicMotionError

    setup_logging("WARNING")
    try:
        print_turns(measure(arguments))
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(arguments: argparse.Namespace) -> list[dict[str, dict]]:
    """For each turn what every way took, by its name."""
    from mimicmotion.animation import Animator, Models
    from mimicmotion.config import load_config
    from mimicmotion.results import plan_jobs

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = load_config(arguments.inference_config, {"runtime.device": arguments.device})
        video = arguments.video or plan_jobs(config)[0].video
        (folder / "clips").mkdir()
        for number in range(arguments.clips):
            shutil.copy(video, folder / "clips" / f"{number}{video.suffix}")
        config.batch.video_folder, config.batch.videos = str(folder / "clips"), None
        config.output.output_dir, config.output.overwrite, config.output.page = str(folder / "outputs"), True, False
        models = Models(config)
        models.pipeline  # noqa: B018
        Animator(config, models).prepare(plan_jobs(config)[0])
        made: dict[str, bytes] = {}
        turns = []
        for _ in range(arguments.repeats):
            turns.append({way: run(config, models, way, made) for way in WAYS})
        where = f"{models.device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        print(f"{arguments.clips} copies of {video.name}, {where}, {arguments.repeats} turns; equal bytes")
    return turns


def run(config, models, way: str, made: dict[str, bytes]) -> dict:
    """Wall and CPU seconds of one batch. Its results are compared with those `made` before."""
    import contextlib
    import io

    from mimicmotion.animation import Animator, animate_folder

    config.batch.prefetch, config.batch.overlap = WAYS[way]
    wall, cpu = time.perf_counter(), cpu_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        code = animate_folder(config, Animator(config, models))
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    results = {str(path): path.read_bytes() for path in Path(config.output.output_dir).rglob("*.mp4")}
    if code or (made and made != results):
        raise SystemExit(f"exit code {code}, or other bytes than before: {way}")
    made |= results
    return {"wall": wall, "cpu": cpu}


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def print_turns(turns: list[dict[str, dict]]) -> None:
    """A table of medians and, against one result after the other, ratios taken turn by turn."""
    plain = next(iter(WAYS))
    print(f"{'':14}{'wall s':>9}{'CPU s':>9}{'faster':>26}{'CPU':>24}")
    for way in WAYS:
        medians = [statistics.median(turn[way][name] for turn in turns) for name in ("wall", "cpu")]
        faster = spread([turn[plain]["wall"] / turn[way]["wall"] for turn in turns])
        dearer = spread([turn[way]["cpu"] / turn[plain]["cpu"] for turn in turns])
        print(f"{way:<14}{medians[0]:9.2f}{medians[1]:9.2f}{faster:>26}{dearer:>24}")


def spread(ratios: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    sys.exit(main())

"""Measures what recording step latents costs a run: the embedded model on the demo's clip, with and without.

python scripts/benchmark_step_recording.py --repeats 3   # needs minutes

Runs alternate, and the first pair is not counted. "waiting" is the time that sampling spends in the recorder, "beside"
the processor time of the thread that compresses, which a machine without an idle core pays as well.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter
from mimicmotion.config import DEFAULT_CONFIG, load_config
from mimicmotion.errors import MimicMotionError


def measure(repeats: int, config_path: str) -> None:
    """Runs the pairs and prints medians."""
    from mimicmotion.animation import Animator
    from mimicmotion.latent_steps import StepRecorder
    from mimicmotion.results import plan_jobs

    class TimedRecorder(StepRecorder):
        """Notes how long sampling waits and how long the thread computes."""

        waiting, beside = 0.0, 0.0

        def __call__(self, *arguments):
            start = time.perf_counter()
            try:
                return super().__call__(*arguments)
            finally:
                self.waiting += time.perf_counter() - start

        def __exit__(self, *error):
            start = time.perf_counter()
            super().__exit__(*error)
            self.waiting += time.perf_counter() - start

        def _write_all(self):
            super()._write_all()
            self.beside = time.thread_time()

    config = load_config(config_path)
    animator = Animator(config)
    clip = animator.prepare(plan_jobs(config)[0])
    plain, recorded, waiting, beside = [], [], [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        animator.sampler.sample(clip)
        plain.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with TimedRecorder(folder) as recorder:
                animator.sampler.sample(clip, recorder)
            recorded.append(time.perf_counter() - start)
        waiting.append(recorder.waiting)
        beside.append(recorder.beside)
    median = statistics.median
    seconds = median(recorded[1:])
    print(f"{len(clip.drawn)} frames of {clip.reference.pixels.shape[1]}x{clip.reference.pixels.shape[0]}")
    for name, values in (("sampling", plain), ("sampling, recorded", recorded)):
        values = values[1:]
        print(f"{name:20} {median(values):8.3f} s  ({min(values):.3f} to {max(values):.3f})")
    for name, values in (("waiting", waiting), ("beside", beside)):
        print(f"{name:20} {median(values[1:]):8.3f} s  {100 * median(values[1:]) / seconds:.2f} % of it")


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="counted pairs of runs")
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings")
    arguments = parser.parse_args(argv)
    try:
        measure(arguments.repeats, arguments.inference_config)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

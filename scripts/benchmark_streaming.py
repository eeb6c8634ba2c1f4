"""Times the action-driven world model: first frame, milliseconds per block by stage, frames per second, memory.

examples:
  python scripts/benchmark_streaming.py   # the embedded world; needs minutes
  python scripts/benchmark_streaming.py --config_path configs/streaming/universal.yaml --random_weights   # needs gpu

Blocks are made one after the other, then, unless --overlap is off, each is decoded while the next one is denoised.
The table is printed and written to <output_dir>/benchmark_streaming.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import STREAMING, Flag, run_script

BENCHMARK = (
    Flag("--blocks", "streaming.benchmark_blocks", int, "blocks to run; memory is read at block 10 and at the last"),
    Flag("--random_weights", "streaming.random_weights", True, "draw weights at the configured sizes, read none"),
)
GROUPS = {"streaming": STREAMING, "benchmark": BENCHMARK}


def run(config) -> int:
    """Runs the benchmark; imported here so that --help does not wait for torch."""
    from mimicmotion.streaming import run_benchmark

    return run_benchmark(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, GROUPS, run))

"""Measure sessions of a world model: do they obey the keys, close after a turn, stay when nothing is held?

examples:
  {evaluate_world} outputs   # needs fragment
  {evaluate_world} --play   # needs minutes
  {evaluate_world} --play --config_path configs/streaming/world.yaml --output_dir outputs/world   # needs minutes

A folder holds sessions that {causal} or {stream} wrote; --play makes some of standard actions first, and measures
them. Optical flow is compared with what each key implies; the picture after turning 90 degrees away and back with the
one before; blocks with the first one; the ends of pauses with their beginnings. doc/evaluation.md tells what each
measure is.
"""

import sys

from mimicmotion.cli import STREAMING, Flag, run_script
from mimicmotion.commands.evaluate import RESULTS, named
from mimicmotion.config import Config

EVALUATION = (
    Flag(RESULTS, "evaluation.results", str, "folder of sessions; the flag itself may be left out"),
    Flag("--play", "evaluation.play", True, "make sessions of the standard actions, and measure those"),
    Flag("--output_dir", "evaluation.output_dir", str, "folder for figures; null: evaluation in that of the sessions"),
)
NOT_OF_PLAYING = ("--actions", "--output_dir", "--variant", "--overwrite")
PLAYING = tuple(flag for flag in STREAMING if flag.name not in NOT_OF_PLAYING)
GROUPS = {"evaluation": EVALUATION, "playing": PLAYING}


def work(config: Config) -> int:
    """Measures; imported here so that --help does not wait for torch."""
    from mimicmotion.evaluation import evaluate_sessions

    return evaluate_sessions(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, named(sys.argv[1:] if argv is None else argv, GROUPS), prog=prog)

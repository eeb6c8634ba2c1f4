"""Trains the embedded world model, stage by stage.

python scripts/train_world.py vae        # the autoencoder, on cut-outs of rendered sessions; needs minutes
python scripts/train_world.py gate       # right actions must soon predict better than wrong ones; needs minutes
python scripts/train_world.py world      # the causal transformer, on latents of whole sessions; needs minutes
python scripts/train_world.py decoder    # its frames from the latents that the transformer plays; needs minutes
python scripts/train_world.py evaluate   # figures on sessions not trained on; writes doc/world.md; needs minutes

A run that was stopped (Ctrl-C, --stop_after_minutes, a crash) goes on from its last checkpoint when it is called
again. Curves and sheets of samples are in RUN_DIR/STAGE. Exit codes: 0 done or stopped as asked, 1 a file cannot be
used, 2 wrong use, 3 the machine lacks something, 130 interrupted.
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import guarded_console
from mimicmotion.errors import MimicMotionError
from mimicmotion.world_training import (
    CourtyardOptions,
    DecoderOptions,
    EvaluateOptions,
    GateOptions,
    VaeOptions,
    WorldOptions,
)
from scripts.train_tiny import add_flags

STAGES = (VaeOptions, GateOptions, WorldOptions, DecoderOptions, EvaluateOptions)
COMMANDS = {options.name: options for options in STAGES}
Options = CourtyardOptions | EvaluateOptions


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    try:
        options = parse(argv)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("mimicmotion").setLevel(logging.INFO)
    try:
        run(options)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(argv: list[str] | None) -> Options:
    """The stage that is asked for, with its settings. Raises: UsageError for a setting that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, options in COMMANDS.items():
        add_flags(commands.add_parser(name, help=options.__doc__, description=options.__doc__), options)
    arguments = vars(parser.parse_args(argv))
    return COMMANDS[arguments.pop("stage")](**arguments)


def run(options: Options) -> None:
    """Does what was asked for; heavy imports happen here."""
    if isinstance(options, EvaluateOptions):
        from mimicmotion.world_training import evaluate as work
    else:
        from mimicmotion.world_training import run_stage as work
    work(options)


if __name__ == "__main__":
    sys.exit(main())

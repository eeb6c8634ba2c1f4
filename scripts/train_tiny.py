"""Trains the embedded tiny model, stage by stage.

python scripts/train_tiny.py vae        # the autoencoder, on crops of rendered frames; needs minutes
python scripts/train_tiny.py encoder    # the image encoder; needs minutes
python scripts/train_tiny.py unet       # UNet and PoseNet; needs minutes
python scripts/train_tiny.py lcm        # the LoRA for few steps; needs minutes
python scripts/train_tiny.py decoder    # the decoder of the autoencoder once more, for sharper pictures; needs minutes
python scripts/train_tiny.py reader     # what poses are measured with; needs minutes
python scripts/train_tiny.py evaluate   # all ways to sample, measured; writes doc/embedded_model.md; needs minutes

Clips are rendered into RUN_DIR/pool first. A run that was stopped (Ctrl-C, --stop_after_minutes, a crash) goes on from
its last checkpoint when it is called again. Curves and sheets of samples are in RUN_DIR/STAGE. Exit codes: 0 done or
stopped as asked, 1 a file cannot be used, 2 wrong use, 3 the machine lacks something, 130 interrupted.
"""

import argparse
import logging
import sys
import types
import typing
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import guarded_console
from mimicmotion.errors import MimicMotionError
from mimicmotion.training import STAGES, EvaluateOptions, ReaderOptions, StageOptions

COMMANDS = STAGES | {options.name: options for options in (ReaderOptions, EvaluateOptions)}
Options = StageOptions | ReaderOptions | EvaluateOptions


def parse(argv: list[str] | None) -> Options:
    """The stage that is asked for, with its settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, options in COMMANDS.items():
        command = commands.add_parser(name, help=options.__doc__, description=options.__doc__)
        add_flags(command, options)
    arguments = vars(parser.parse_args(argv))
    return COMMANDS[arguments.pop("stage")](**arguments)


def add_flags(parser: argparse.ArgumentParser, options: type[Options]) -> None:
    """One flag for each field; flags that are not given keep the field's default."""
    types_of = typing.get_type_hints(options)
    for field in fields(options):
        about = field.metadata["help"]
        if field.default is not None:
            about += f" (default: {field.default})"
        parser.add_argument(
            f"--{field.name}",
            type=_plain_type(types_of[field.name]),
            default=field.default,
            choices=field.metadata["choices"],
            help=about.replace("%", "%%"),
        )


def _plain_type(hint) -> type:
    """The type of a field that may also be None."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    options = parse_or_report(argv)
    if options is None:
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


def run(options: Options) -> None:
    """Does what was asked for; heavy imports happen here."""
    if isinstance(options, EvaluateOptions):
        from mimicmotion.training import evaluate as work
    elif isinstance(options, ReaderOptions):
        from mimicmotion.training import train_reader as work
    else:
        from mimicmotion.training import run_stage as work
    work(options)


def parse_or_report(argv: list[str] | None) -> Options | None:
    """As `parse`; None after a message where a setting cannot be."""
    try:
        return parse(argv)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())

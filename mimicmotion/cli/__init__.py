"""Command lines: flags that override settings, `path=value` pairs, and how a script starts and ends.

flags: the flags that commands share; parser: what a command line says; run: start, log, errors, exit code. Nothing
heavy is imported here: `--help` and a mistyped flag answer at once.
"""

from mimicmotion.cli.flags import DEVICE, MODEL, POSE, RECORDING, RUN, STREAMING, TURBO, Flag
from mimicmotion.cli.parser import Groups, HelpFormatter, build_parser, parse_arguments, parse_config
from mimicmotion.cli.run import exit_code_of, run_script, setup_logging

__all__ = [
    "DEVICE",
    "MODEL",
    "POSE",
    "RECORDING",
    "RUN",
    "STREAMING",
    "TURBO",
    "Flag",
    "Groups",
    "HelpFormatter",
    "build_parser",
    "exit_code_of",
    "parse_arguments",
    "parse_config",
    "run_script",
    "setup_logging",
]

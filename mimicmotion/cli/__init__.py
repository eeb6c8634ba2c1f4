"""Command lines: flags that override settings, `path=value` pairs, and how a script starts and ends.

flags   every flag that commands share, by group; a new flag of the main script goes here
parser  what a command line says, as settings with their sources; how --help looks
output  what is printed and logged, on whatever console, without ever raising
run     start, log, errors of the user and the machine, exit code
interrupts  Ctrl-C, SIGTERM and SIGHUP: raised, noted, or deferred until what belongs together is written
typed   what was typed, for records

Nothing heavy is imported here: `--help` and a mistyped flag answer at once.
"""

from mimicmotion.cli.flags import AHEAD, CLUSTER, DEVICE, MODEL, POSE, RECORDING, REPLAY, RUN, STREAMING, TURBO, Flag
from mimicmotion.cli.interrupts import interrupts_deferred, interrupts_noted, interrupts_of_process, interrupts_raised
from mimicmotion.cli.output import ask, guarded_console, say
from mimicmotion.cli.parser import (
    Groups,
    HelpFormatter,
    build_parser,
    follow_scheduler,
    is_setting,
    parse_arguments,
    parse_config,
    setting_of_flag,
    settings_by_flag,
)
from mimicmotion.cli.run import exit_code_of, run_script, run_traced, setup_logging
from mimicmotion.cli.typed import command_line, started_as, started_by

__all__ = [
    "AHEAD",
    "CLUSTER",
    "DEVICE",
    "MODEL",
    "POSE",
    "RECORDING",
    "REPLAY",
    "RUN",
    "STREAMING",
    "TURBO",
    "Flag",
    "Groups",
    "HelpFormatter",
    "ask",
    "build_parser",
    "command_line",
    "exit_code_of",
    "follow_scheduler",
    "guarded_console",
    "interrupts_deferred",
    "interrupts_noted",
    "interrupts_of_process",
    "interrupts_raised",
    "is_setting",
    "parse_arguments",
    "parse_config",
    "run_script",
    "run_traced",
    "say",
    "setting_of_flag",
    "settings_by_flag",
    "setup_logging",
    "started_as",
    "started_by",
]

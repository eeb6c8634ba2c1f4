"""How a script starts and ends: log, errors of the user, interrupts, exit code."""

import logging
import os
import sys
from collections.abc import Callable

from mimicmotion.cli.interrupts import interrupts_raised
from mimicmotion.cli.output import Console, LogFile, LogFormatter, guarded_console, say
from mimicmotion.cli.parser import Groups, build_parser, parse_arguments, parse_config
from mimicmotion.cli.typed import started_by
from mimicmotion.config import Config, Origin, first_name, to_yaml
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, machine_message
from mimicmotion.files import require_local

logger = logging.getLogger("mimicmotion")


def run_script(
    doc: str,
    groups: Groups,
    work: Callable[[Config], int],
    argv: list[str] | None = None,
    *,
    prog: str | None = None,
    prepare: Callable[[Origin], None] | None = None,
) -> int:
    """Parses, logs the settings that differ from the defaults and runs `work(config)`; a whole script's exit code.

    Args:
        doc: help text, its first line the summary.
        prepare: changes the settings before they are logged, knowing where they came from.
    """
    return run_traced(doc, groups, lambda origin: work(origin.config), argv, prog=prog, prepare=prepare)


def run_traced(
    doc: str,
    groups: Groups,
    work: Callable[[Origin], int],
    argv: list[str] | None = None,
    *,
    prog: str | None = None,
    prepare: Callable[[Origin], None] | None = None,
) -> int:
    """As `run_script`, for work that has to know where its settings came from."""

    def start() -> int:
        arguments = parse_arguments(build_parser(doc, groups, prog), sys.argv[1:] if argv is None else argv)
        setup_logging(arguments.log_level, arguments.log_file)
        origin = parse_config(arguments, groups)
        if arguments.print_config:
            return 0 if say(to_yaml(origin.config), end="") else SetupError.exit_code
        if prepare:
            prepare(origin)
        parts = {first_name(flag.path) for flags in groups.values() for flag in flags}
        for line in origin.differences(parts):
            logger.info("%s", line)
        with started_by(prog, argv):
            return work(origin)

    return exit_code_of(start)


def exit_code_of(work: Callable[[], int]) -> int:
    """What `work` returns. Errors for the user, and what the machine lacks, end in one line of the log, an interrupt
    in 130.
    """
    with guarded_console(), interrupts_raised():
        try:
            return work()
        except MimicMotionError as error:
            logger.error("%s", error)
            return error.exit_code
        except KeyboardInterrupt:
            logger.warning("Interrupted; run the same command again to go on")
            return INTERRUPTED
        except Exception as error:
            message = machine_message(error)
            if message is None:
                raise
            logger.error("%s", message)
            logger.debug("where it happened", exc_info=True)
            return SetupError.exit_code


def setup_logging(level: str = "INFO", log_file: str | None = None) -> None:
    """Sends the log to stderr, and to `log_file` too; libraries only speak up with warnings.

    Raises: SetupError when the file cannot be written.
    """
    # At import transformers warns wherever torchvision is absent, which is intended here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    stderr = sys.stderr if isinstance(sys.stderr, Console) else Console(sys.stderr)
    handlers: list[logging.Handler] = [logging.StreamHandler(stderr)]
    if log_file:
        handlers.append(_file_handler(log_file))
    for handler in handlers:
        handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level="WARNING", handlers=handlers, force=True)
    logger.setLevel(level)
    logging.captureWarnings(True)


def _file_handler(path: str) -> logging.Handler:
    require_local(path, "--log_file")
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        # A pipe that nobody reads would keep a plain open waiting.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666))
        return LogFile(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise SetupError(f"cannot write the log file {path}: {reason}; pass another --log_file") from error

"""How a script starts and ends: log, errors of the user, interrupts, exit code."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator

from mimicmotion.cli.parser import Groups, build_parser, parse_arguments, parse_config
from mimicmotion.cli.typed import started_by
from mimicmotion.config import Config, Origin, to_yaml
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError

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
            print(to_yaml(origin.config), end="")
            return 0
        if prepare:
            prepare(origin)
        for line in origin.differences():
            logger.info("%s", line)
        with started_by(prog, argv):
            return work(origin)

    return exit_code_of(start)


def exit_code_of(work: Callable[[], int]) -> int:
    """What `work` returns. Errors for the user end in one line of the log, an interrupt in 130."""
    try:
        with terminate_as_interrupt():
            return work()
    except MimicMotionError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("Interrupted; run the same command again to go on")
        return INTERRUPTED


def setup_logging(level: str = "INFO", log_file: str | None = None) -> None:
    """Sends the log to stderr, and to `log_file` too; libraries only speak up with warnings.

    Raises: SetupError when the file cannot be written.
    """
    # At import transformers warns wherever torchvision is absent, which is intended here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:
        handlers.append(_file_handler(log_file))
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(message)s", handlers=handlers, force=True)
    logger.setLevel(level)
    logging.captureWarnings(True)


def _file_handler(path: str) -> logging.Handler:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return logging.FileHandler(path, "w", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot write the log file {path}: {error.strerror}; pass another --log_file") from error


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Within, SIGTERM (a scheduler's pre-emption) acts like Ctrl-C."""

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

"""What goes to the console: it ends no run, whatever the terminal cannot show and whoever stops listening."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from mimicmotion.files import UNPRINTABLE, printable

logger = logging.getLogger("mimicmotion")

STANDARD_STREAMS = range(3)


class Console:
    """A text stream whose `write` and `flush` never raise: what it cannot show is escaped, what nobody takes is lost.

    `error` is why writing failed, None while it goes well; a reader that left (`| head`) is no failure.
    """

    def __init__(self, stream):
        self.error: Exception | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `text` as far as it can be."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError, AttributeError) as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Sends on what was written."""
        try:
            self._stream.flush()
        except (OSError, ValueError, AttributeError) as error:
            self._give_up(error)

    def isatty(self) -> bool:
        """Whether somebody looks at it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()
        return False

    def _give_up(self, error: Exception) -> None:
        # A stream is None or closed where its owner wants to hear nothing.
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.error = self.error or error
        # Python itself writes what is left in the buffer at its end, and would complain.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def say(text: object = "", end: str = "\n") -> bool:
    """Prints to standard output, at once. Never raises; False where it could not be written, which the log tells."""
    stream = sys.stdout if isinstance(sys.stdout, Console) else Console(sys.stdout)
    told = stream.error
    stream.write(f"{text}{end}")
    stream.flush()
    if stream.error and not told:
        logger.error("standard output cannot be written: %s", getattr(stream.error, "strerror", stream.error))
    return stream.error is None


def ask(question: str) -> str:
    """One line of standard input. Raises: EOFError at its end, or where nobody can be asked."""
    try:
        try:
            return input(question)
        except UnicodeEncodeError as error:  # raised before anything is read, by a terminal that cannot show it
            return input(question.encode(error.encoding, "backslashreplace").decode(error.encoding))
    except (OSError, RuntimeError) as error:  # a terminal that is gone, or a closed stream
        raise EOFError(str(error)) from error


@contextlib.contextmanager
def guarded_console() -> Iterator[None]:
    """Within, nothing that is printed or logged can raise, and answers that are no UTF-8 can be read."""
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream if isinstance(stream, Console) else Console(stream) for stream in before)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _open_closed_streams() -> None:
    """Else the next file that is opened would get a standard stream's number, and what others print into it."""
    for number in STANDARD_STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class LogFormatter(logging.Formatter):
    """One line for a message, but for those that are written as several; a name in it moves no cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        if isinstance(record.args, tuple):
            shown = tuple(printable(arg) if isinstance(arg, os.PathLike) else arg for arg in record.args)
            record = logging.makeLogRecord(vars(record) | {"args": shown})
        text = super().format(record)
        if not UNPRINTABLE.search(text):
            return text
        return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


class LogFile(logging.FileHandler):
    """A file of the log. Where it cannot be written any more, standard error says so once and the run goes on."""

    def __init__(self, path: str):
        super().__init__(path, "w", encoding="utf-8", errors="backslashreplace")
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Told about what `emit` raised."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            print(f"the log file {self.baseFilename} cannot be written: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        """Closes it; what a full disk does not take is lost."""
        with contextlib.suppress(OSError):
            super().close()

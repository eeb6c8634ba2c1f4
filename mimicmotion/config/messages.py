"""What messages about settings have in common: shortened values, the nearest known name."""

import difflib

from mimicmotion.files import printable

LONGEST_SHOWN = 200  # characters of a value in a message


def shortened(value: object) -> str:
    """A value for a message, which a page of garbage must not fill."""
    text = printable(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"

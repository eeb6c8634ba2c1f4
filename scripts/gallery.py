"""Writes a page of all results below a folder: the command `mimicmotion gallery`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.commands import run_command


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    return run_command("gallery", argv)


if __name__ == "__main__":
    sys.exit(main())

"""Decodes the latents of every sampling step into videos: the command `mimicmotion steps`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    return run_command("steps", argv)


if __name__ == "__main__":
    sys.exit(main())

"""Animates a reference picture with every driving video of a folder: the command `mimicmotion turbo`, see --help."""

import sys

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run_command("turbo"))

"""`python -m mimicmotion COMMAND ...`, the same as the console program `mimicmotion`."""

import sys

from mimicmotion.commands import run_console

if __name__ == "__main__":
    sys.exit(run_console())

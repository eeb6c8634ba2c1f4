"""The turbo run with a feature cache: the command `mimicmotion cache`, see --help."""

import sys

from mimicmotion.commands import run_command

if __name__ == "__main__":
    sys.exit(run_command("cache"))

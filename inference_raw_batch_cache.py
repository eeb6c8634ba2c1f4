"""The turbo run with a feature cache: the command `mimicmotion cache`, see --help."""

import sys

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run_command("cache"))

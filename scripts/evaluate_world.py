"""Sessions of a world model measured: the command `mimicmotion evaluate_world`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.commands import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate_world"))

"""Results measured: poses, identity, distances to true videos: the command `mimicmotion evaluate`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.commands import run_command

if __name__ == "__main__":
    sys.exit(run_command("evaluate"))

"""Batch mode of the action-driven world model: the command `mimicmotion causal`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run_command("causal"))

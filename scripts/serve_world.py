"""A world model in a browser: the command `mimicmotion serve_world`, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run_command("serve_world"))

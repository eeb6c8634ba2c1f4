"""Keeps the latents of clips, and joins them into one video: the command `mimicmotion concat`, see --help."""

import sys

try:
    from mimicmotion.commands import run_command
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(run_command("concat"))

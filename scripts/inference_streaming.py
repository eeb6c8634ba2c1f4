"""Interactive mode of the action-driven world model: type the keys of each block and see it at once.

examples:
  python scripts/inference_streaming.py                                  asks for a picture, then for keys
  python scripts/inference_streaming.py --actions 'W*36 W+L*24'          without typing
  python scripts/inference_streaming.py --save_state outputs/walk.safetensors
  python scripts/inference_streaming.py --resume_from outputs/walk.safetensors

Each block appears as <picture>_current.mp4 (9 frames, then 12); the whole session is saved as <picture>.mp4
and, with the keys drawn in, as <picture>_icon.mp4, also after Ctrl-C or the end of the input. There is no
limit of length.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import run_script


def run(config) -> int:
    """Runs the session; imported here so that --help does not wait for torch."""
    from mimicmotion.streaming import run_streaming

    return run_streaming(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, ("streaming", "session"), run))

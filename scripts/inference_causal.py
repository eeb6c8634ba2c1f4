"""Batch mode of the action-driven world model: a picture and prepared actions to demo.mp4 and demo_icon.mp4.

examples:
  python scripts/inference_causal.py
      bench actions, 597 frames, on the tiny model
  python scripts/inference_causal.py --img_path street.png --actions 'W*36 W+L*24 Q*12'
  python scripts/inference_causal.py --config_path configs/streaming/universal.yaml --num_output_frames 150 --seed 1

The frames are those that scripts/inference_streaming.py makes with the same picture, actions and seed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimicmotion.cli import run_script


def run(config) -> int:
    """Runs the batch; imported here so that --help does not wait for torch."""
    from mimicmotion.streaming import run_causal

    return run_causal(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, ("streaming", "batch"), run))

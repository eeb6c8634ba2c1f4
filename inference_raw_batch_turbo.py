"""Animate a reference picture with every driving video of a folder, in a few steps.

examples:
  python inference_raw_batch_turbo.py                            the embedded tiny model on the demo's clip
  python inference_raw_batch_turbo.py --batch_folder videos --ref_image_path person.png --comparison
  python inference_raw_batch_turbo.py --inference_config configs/mimicmotion.yaml --batch_folder videos --dry_run

Each result is <output_dir>/<folder>/<video>.mp4 with a contact sheet (.jpg) and a record of how it was made (.json).
A second run skips what is finished.
"""

import sys

from mimicmotion.cli import run_script


def animate(config) -> int:
    """Runs the batch; imported here so that --help does not wait for torch."""
    from mimicmotion.animation import animate_folder

    return animate_folder(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, ("run", "device", "pose", "turbo", "recording"), animate))

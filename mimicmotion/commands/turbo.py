"""Animate a reference picture with every driving video of a folder, in a few steps.

examples:
  {turbo}   # the embedded tiny model on the demo's clip
  {turbo} --batch_folder videos --ref_image_path person.png
  {turbo} --batch_folder videos --videos a.mp4 --ref_image_path person.png --comparison --dry_run
  {turbo} --inference_config configs/mimicmotion.yaml --batch_folder videos   # needs weights

Each result is <output_dir>/<folder>/<video>.mp4 with a contact sheet (.jpg) and a record of how it was made (.json).
A second run skips what is finished. Where no input is named and the demo's are absent, they are made first.
"""

from mimicmotion.cli import AHEAD, CLUSTER, DEVICE, MODEL, POSE, RECORDING, RUN, TURBO, run_script
from mimicmotion.config import Config
from mimicmotion.demo import provide_inputs

GROUPS = {
    "run": RUN + AHEAD,
    "model": MODEL,
    "device": DEVICE,
    "pose": POSE,
    "turbo": TURBO,
    "recording": RECORDING,
    "workers": CLUSTER,
}


def work(config: Config) -> int:
    """Runs the batch; imported here so that --help does not wait for torch."""
    from mimicmotion.animation import animate_folder

    return animate_folder(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog, prepare=provide_inputs)

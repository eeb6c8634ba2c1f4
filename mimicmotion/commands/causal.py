"""Batch mode of the action-driven world model: a picture and prepared actions to demo.mp4 and demo_icon.mp4.

examples:
  {causal}   # bench actions, 597 frames, in the embedded world; needs minutes
  {causal} --img_path person.png --actions 'W*33 W+L*24 Q*12'
  {causal} --config_path configs/streaming/universal.yaml --seed 1   # needs weights

The frames are those that {stream} makes with the same picture, actions and seed.
"""

from mimicmotion.cli import REPLAY, STREAMING, Flag, run_script
from mimicmotion.config import Config

BATCH = (
    *REPLAY,
    Flag("--num_output_frames", "streaming.num_latents", int, "length in latents, a multiple of 3; 150 are 597 frames"),
)
GROUPS = {"streaming": STREAMING, "batch": BATCH}


def work(config: Config) -> int:
    """Runs the batch; imported here so that --help does not wait for torch."""
    from mimicmotion.streaming import run_causal

    return run_causal(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog)

"""Keep the latents of clips, and join them into one video without sampling again: does it show?

examples:
  python inference_latent_concat.py --mode encode --video_folder videos --videos a.mp4 b.mp4 --cache_dir cache/latents
  python inference_latent_concat.py --mode decode --video_folder videos --videos a.mp4 b.mp4 --cache_dir cache/latents
  python inference_latent_concat.py --mode decode ... --interp_frames 4 --interp_mode slerp
  python inference_latent_concat.py --mode decode ... --bridge_frames 6 --report

encode samples each clip as the turbo run does and writes <cache_dir>/<video>.pt; decode needs only the VAE.
doc/latent_concat_experiment.md shows what comes of it.
"""

import sys

from mimicmotion.cli import run_script


def concat(config) -> int:
    """Runs the mode; imported here so that --help does not wait for torch."""
    from mimicmotion.latent_concat import run_latent_concat

    return run_latent_concat(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, ("concat", "recording", "device", "pose", "turbo"), concat))

"""The turbo run with a feature cache: poses, CLIP embeddings and VAE latents are computed once and kept on disk.

examples:
  python inference_raw_batch_cache.py                              the demo's clip; the second run finds its poses
  python inference_raw_batch_cache.py --batch_folder videos --ref_image_path person.png --num_inference_steps 4
  python inference_raw_batch_cache.py --benchmark_cache            cold and warm passes of the first result, timed

Results are those of inference_raw_batch_turbo.py bit for bit, and finished ones are skipped in the same way; all its
flags work. Many runs may share one cache. scripts/feature_cache.py lists, checks and empties it.
"""

import sys

from mimicmotion.cli import run_script


def animate(config) -> int:
    """Runs the batch or the benchmark; imported here so that --help does not wait for torch."""
    from mimicmotion.feature_cache import animate_folder_cached, benchmark_cache

    return benchmark_cache(config) if config.feature_cache.benchmark else animate_folder_cached(config)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, ("run", "device", "pose", "turbo", "recording", "cache"), animate))

"""The turbo run with a feature cache: poses, CLIP embeddings and VAE latents are computed once and kept on disk.

examples:
  {cache}   # the demo's clip; the second run finds its poses
  {cache} --batch_folder videos --ref_image_path person.png --num_inference_steps 4
  {cache} --benchmark_cache   # cold and warm passes of the first result, timed; needs minutes

Results are those of {turbo} bit for bit, and finished ones are skipped in the same way; all its flags work. Many runs
may share one cache. scripts/feature_cache.py lists, checks and empties it.
"""

from mimicmotion.cli import AHEAD, CLUSTER, DEVICE, MODEL, POSE, RECORDING, RUN, TURBO, Flag, run_script
from mimicmotion.config import Config
from mimicmotion.demo import provide_inputs

CACHE = (
    Flag("--feature_cache_dir", "feature_cache.folder", str, "folder of the feature cache"),
    Flag("--disable_feature_cache", "feature_cache.enabled", False, "neither read nor write the feature cache"),
    Flag("--disable_pipeline_feature_cache", "feature_cache.pipeline_features", False, "keep poses only"),
    Flag("--feature_cache_force_refresh", "feature_cache.force_refresh", True, "compute and store every feature anew"),
    Flag("--feature_cache_max_gb", "feature_cache.max_gb", float, "bound; the least recently used goes first"),
    Flag("--benchmark_cache", "feature_cache.benchmark", True, "time cold and warm passes, and stop"),
    Flag("--benchmark_repeats", "feature_cache.benchmark_repeats", int, "pairs of passes of --benchmark_cache"),
)
GROUPS = {
    "run": RUN + AHEAD,
    "model": MODEL,
    "device": DEVICE,
    "pose": POSE,
    "turbo": TURBO,
    "workers": CLUSTER,
    "recording": RECORDING,
    "cache": CACHE,
}


def work(config: Config) -> int:
    """Runs the batch or the benchmark; imported here so that --help does not wait for torch."""
    from mimicmotion.feature_cache import animate_folder_cached, benchmark_cache

    return benchmark_cache(config) if config.feature_cache.benchmark else animate_folder_cached(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog, prepare=provide_inputs)

"""Keep the latents of clips, and join them into one video without sampling again: does it show?

examples:
  {concat} --mode encode --video_folder videos --videos a.mp4 b.mp4
  {concat} --mode decode --video_folder videos --videos a.mp4 b.mp4 --interp_frames 4
  {concat} --mode decode --video_folder videos --videos a.mp4 b.mp4 --bridge_frames 2 --report   # needs minutes

encode samples each clip as the turbo run does and writes <cache_dir>/<video>.pt; decode needs only the VAE.
doc/latent_concat_experiment.md shows what comes of it.
"""

from mimicmotion.cli import CLUSTER, DEVICE, MODEL, POSE, RECORDING, RUN, TURBO, Flag, run_script
from mimicmotion.config import Config, Origin
from mimicmotion.demo import provide_inputs

CONCAT = (
    Flag("--mode", "latent_concat.mode", str, "encode: sample clips and keep their latents; decode: join kept latents"),
    Flag("--video_folder", "batch.video_folder", str, "folder of driving videos"),
    Flag("--videos", "batch.videos", "list", "videos to take, in the order of the join, instead of all"),
    Flag("--shard", "batch.shard", str, "encode: this part of the clips: 1/N to N/N, or auto for SLURM, torchrun"),
    Flag("--cache_dir", "latent_concat.cache_dir", str, "folder of kept latents, <video stem>.pt"),
    Flag("--output_dir", "latent_concat.output_dir", str, "folder for mp4 files"),
    Flag("--experiment_name", "latent_concat.experiment_name", str, "name of the joined mp4"),
    Flag("--max_pose_frames", "latent_concat.max_pose_frames", int, "sample at most so many, the reference included"),
    Flag("--disable_individual_videos", "latent_concat.individual_videos", False, "encode: write no mp4 of each clip"),
    Flag("--overwrite_cache", "latent_concat.overwrite_cache", True, "encode: sample again what is kept"),
    Flag("--keep_stale", "latent_concat.keep_stale", True, "encode: keep latents that were made differently"),
    Flag("--drop_first", "latent_concat.drop_first", str, "leave out the reference frame of each clip, or the first"),
    Flag("--keep_first_frame", "latent_concat.drop_first", "none", "same as --drop_first none"),
    Flag("--interp_frames", "latent_concat.interp_frames", int, "frames between clips; with smooth: that overlap"),
    Flag("--interp_mode", "latent_concat.interp_mode", str, "how these frames are made"),
    Flag("--isolate_clips", "latent_concat.isolate_clips", True, "decode each clip by itself"),
    Flag("--bridge_frames", "latent_concat.bridge_frames", int, "frames between clips that the model samples"),
    Flag("--bridge_strength", "latent_concat.bridge_strength", float, "share of the steps that sample a bridge, 0..1"),
    Flag("--report", "latent_concat.report", True, "also compare all ways to join: <name>_joins.json and .png"),
    Flag("--overwrite", "output.overwrite", True, "decode: replace a joined mp4 that was made differently"),
    *(flag for flag in RUN if flag.path.startswith(("test_case", "reference"))),
)
GROUPS = {
    "concat": CONCAT,
    "recording": RECORDING,
    "model": MODEL,
    "device": DEVICE,
    "pose": POSE,
    "turbo": TURBO,
    "workers": CLUSTER,
}


def work(config: Config) -> int:
    """Runs the mode; imported here so that --help does not wait for torch."""
    from mimicmotion.latent_concat import run_latent_concat

    return run_latent_concat(config)


def prepare(origin: Origin) -> None:
    """Makes the demo's inputs for a run that samples and names none; joining needs kept latents only."""
    if origin.config.latent_concat.mode == "encode":
        provide_inputs(origin)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog, prepare=prepare)

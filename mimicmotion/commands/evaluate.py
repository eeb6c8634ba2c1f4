"""Measure results: poses, identity, and against true videos sharpness, PSNR, SSIM, ST-LPIPS, FVD.

examples:
  {evaluate} outputs --dry_run   # needs fragment
  {evaluate} outputs   # needs fragment
  {evaluate} outputs --truth true_videos --pose_backend mediapipe   # needs fragment
  {evaluate} outputs --protocol self   # needs fragment
  {evaluate} outputs --truth true_videos --fvd_weights i3d.pt --fvd_sha256 HEX   # needs fragment

RESULTS is a folder that any run wrote: its records say what each clip was made of. A folder of videos without records
needs --truth, with videos of the same names. Every clip is measured once and kept, so that an evaluation that was
stopped goes on; shards of it may share one folder. evaluation.json has the whole protocol and every number,
evaluation.csv a line per clip, evaluation.html the worst and the best. doc/evaluation.md tells what each measure is.
"""

import sys

from mimicmotion.cli import CLUSTER, Flag, Groups, is_setting, run_script
from mimicmotion.config import Config

RESULTS = "--results"
OF_SCRIPTS = {"--inference_config", "--log_file", "--log_level"}
EVALUATION = (
    Flag(RESULTS, "evaluation.results", str, "folder of results; the flag itself may be left out"),
    Flag("--truth", "evaluation.truth", str, "folder of true videos, named as the results or the driving videos"),
    Flag("--protocol", "evaluation.protocol", str, "self: reference and driving video are of one clip, the truth"),
    Flag("--inputs", "evaluation.inputs", str, "folder of driving videos and references that were moved"),
    Flag("--output_dir", "evaluation.output_dir", str, "folder for figures; null: evaluation in that of the results"),
    Flag("--shown", "evaluation.shown", int, "worst and best clips of each measure on the page"),
    Flag("--shard", "batch.shard", str, "measure this part of the clips: 1/N to N/N, or auto for SLURM, torchrun"),
    Flag("--dry_run", "output.dry_run", True, "list what would be measured, and stop"),
)
BROUGHT = (
    Flag("--fvd_weights", "evaluation.fvd_weights", str, "I3D as TorchScript, which runs code of its own"),
    Flag("--fvd_sha256", "evaluation.fvd_sha256", str, "its SHA-256; no other file is opened"),
    Flag("--fid_vid_weights", "evaluation.fid_vid_weights", str, "3D ResNet-50 of Kinetics as ONNX"),
    Flag("--csim_weights", "evaluation.csim_weights", str, "ArcFace as ONNX"),
)
WITH = (
    Flag("--base_model_path", "base_model_path", str, "model whose image encoder is used: folder or hub id"),
    Flag("--pose_backend", "pose.backend", str, "what finds poses; file: those that drove, from --pose_folder"),
    Flag("--pose_folder", "pose.folder", str, "folder of saved poses for --pose_backend file"),
    Flag("--device", "runtime.device", str, "auto, cuda, cuda:1, mps or cpu"),
    Flag("--dtype", "runtime.dtype", str, "precision of the image encoder"),
)
GROUPS = {"evaluation": EVALUATION, "networks of your own": BROUGHT, "instruments": WITH, "workers": CLUSTER}


def work(config: Config) -> int:
    """Measures; imported here so that --help does not wait for torch."""
    from mimicmotion.evaluation import evaluate_results

    return evaluate_results(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, named(sys.argv[1:] if argv is None else argv, GROUPS), prog=prog)


def named(argv: list[str], groups: Groups) -> list[str]:
    """The words with the folder of results behind its flag: the first that is neither a flag, nor a flag's value, nor
    a setting.
    """
    taking = {flag.name for group in groups.values() for flag in group if isinstance(flag.kind, type)} | OF_SCRIPTS
    for place, word in enumerate(argv):
        if not word.startswith("-") and not is_setting(word) and (place == 0 or argv[place - 1] not in taking):
            return [*argv[:place], RESULTS, *argv[place:]]
    return argv

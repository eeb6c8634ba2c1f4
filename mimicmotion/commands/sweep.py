"""Every combination of several settings on every clip, and how the results compare.

examples:
  {sweep} --set num_inference_steps=2,4 --set seed=1,2 --dry_run
  {sweep} --set num_inference_steps=1,2,4,8 --set scheduler=AnimateLCM_SVD,AYS --metrics   # needs minutes
  {sweep} --set lcm_lora_scale=0.5,0.75,1 --batch_folder videos --truth true_videos   # needs minutes
  {sweep} --set ref_image_path=anna.png,ben.png --set sampling.decode_overlap=0,2   # needs fragment

NAME is a flag of {turbo} without its dashes, or the path of a setting. Each combination is a cell; a cell and a clip
give an ordinary result, <output_dir>/<cell>/<folder>/<video>.mp4. A second run skips what is finished, so a sweep that
was stopped, or that has more values now, goes on. sweep.csv and sweep.json have a row per result; compared/ has the
results of each clip in one picture and in one video. --metrics measures each result against the costliest one of its
clip with the same seed and reference, and draws quality over seconds.
"""

import sys

from mimicmotion.cli import CLUSTER, DEVICE, MODEL, POSE, RUN, TURBO, Flag, run_traced
from mimicmotion.config import Origin
from mimicmotion.demo import provide_inputs

SET = "--set"
SWEEP = (
    Flag(SET, "sweep.settings", "pairs", "a setting and all of its values; give it once for each setting"),
    Flag("--output_dir", "sweep.output_dir", str, "folder for all cells and what compares them"),
    Flag("--metrics", "sweep.metrics", True, "measure each result against the costliest one of its clip"),
    Flag("--truth", "sweep.truth", str, "folder of true videos, <video stem>.mp4, to measure against as well"),
    Flag("--keep_models", "sweep.keep_models", int, "sets of networks (LoRAs, scales) that stay loaded"),
)
GROUPS = {
    "sweep": SWEEP,
    "run": RUN,
    "model": MODEL,
    "device": DEVICE,
    "pose": POSE,
    "turbo": TURBO,
    "workers": CLUSTER,
}


def work(origin: Origin) -> int:
    """Runs the sweep; imported here so that --help does not wait for torch."""
    from mimicmotion.sweep import run_sweep

    return run_sweep(origin)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    words = joined(sys.argv[1:] if argv is None else argv)
    return run_traced(doc, GROUPS, work, words, prog=prog, prepare=provide_inputs)


def joined(argv: list[str]) -> list[str]:
    """The words with `--set a.b=1,2` as one word: behind any other flag `a.b=1,2` is a setting of its own."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == SET:
            words[-1] = f"{SET}={word}"
        else:
            words.append(word)
    return words

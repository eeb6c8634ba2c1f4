"""Decodes the latents of every sampling step of an experiment into videos.

examples:
  python inference_raw_batch_turbo.py --save_step_latents outputs --experiment_name MyExperiment    records one
  python scripts/decode_latent_steps.py outputs/MyExperiment_20250901_120000/ --dry-run
  python scripts/decode_latent_steps.py outputs/MyExperiment_20250901_120000/ --step-filter step_000,step_019
  python scripts/decode_latent_steps.py outputs/MyExperiment_20250901_120000/ --preview x0 --contact-sheet

Videos go to <experiment>/latents_videos/<prompt>/<video>/<step>.mp4, with decode_summary.json and report.html.
Filters are comma lists of names, ranges (step_000-step_009) and globs (step_01*). A second run goes on where the first
one stopped.

exit codes: 0 all done, 1 some steps failed, 2 wrong use, 3 model, disk or device, 130 interrupted
"""

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import INTERRUPTED, setup_logging, terminate_as_interrupt
from mimicmotion.errors import MimicMotionError

logger = logging.getLogger("mimicmotion")
COMPRESS_PRESETS = ("high-quality", "balanced", "small-file", "tiny")


def build_parser() -> argparse.ArgumentParser:
    """The command line. Flags without a default take that of ExperimentLatentDecoder."""
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("experiment_dir", metavar="EXPERIMENT_DIR")
    choice = parser.add_argument_group("what is decoded")
    choice.add_argument("--prompt-filter", default=None, metavar="NAMES", help="prompts, such as prompt_000,prompt_001")
    choice.add_argument("--video-filter", default=None, metavar="NAMES", help="videos, such as vid_001")
    choice.add_argument("--step-filter", default=None, metavar="NAMES", help="such as step_000-step_009,step_01*")
    choice.add_argument("--preview", choices=("x0",), default=None, help="also each step's predicted clean latents")
    choice.add_argument("--dry-run", action="store_true", default=False, help="list what would be decoded, and stop")
    choice.add_argument("--overwrite", action="store_true", help="decode finished steps again")
    run = parser.add_argument_group("how")
    run.add_argument("--device", help="auto, cuda, cuda:1, mps or cpu")
    run.add_argument("--model", help="folder or hub id to take the VAE from instead of the experiment's model")
    run.add_argument("--workers", type=int, help="steps in work at a time; the VAE still decodes one by one (1)")
    run.add_argument("--verbose", action="store_true", default=False, help="log every step")
    output = parser.add_argument_group("what is written")
    output.add_argument("--output-dir", metavar="DIR", help="folder of the videos (<experiment>/latents_videos)")
    output.add_argument("--fps", type=float, help="frames per second (12)")
    output.add_argument("--quality", type=float, help="0 (small files) to 10 (lossless) (7)")
    output.add_argument("--scale", type=float, help="size of the pictures over the decoded ones (1)")
    output.add_argument("--compress-preset", choices=COMPRESS_PRESETS, default=None, help="a quality with a scale")
    output.add_argument("--contact-sheet", action="store_true", default=False, help="per video: steps x frames")
    output.add_argument("--progress-video", action="store_true", default=False, help="per video: step after step")
    return parser


def decode(arguments: argparse.Namespace) -> int:
    """Decodes and prints the totals; the exit code."""
    from mimicmotion.latent_steps import COMPRESS_PRESETS as QUALITY_AND_SCALE
    from mimicmotion.latent_steps import ExperimentLatentDecoder, summarize, write_pictures, write_report

    names = ("experiment_dir", "device", "model", "workers", "output_dir", "fps", "overwrite", "quality", "scale")
    options = {name: value for name, value in vars(arguments).items() if name in names}
    if arguments.compress_preset:
        options = dict(zip(("quality", "scale"), QUALITY_AND_SCALE[arguments.compress_preset], strict=True)) | options
    with ExperimentLatentDecoder(**options, preview_x0=arguments.preview == "x0") as decoder:
        tasks = decoder.plan(arguments.prompt_filter, arguments.video_filter, arguments.step_filter)
        if arguments.dry_run:
            print(*tasks, sep="\n")
            print(f"{sum(not task.finished for task in tasks)} of {len(tasks)} files to decode")
            return 0
        results = decoder.run(tasks)
        totals = summarize(results)
        pictures = write_pictures(decoder, results, arguments.contact_sheet, arguments.progress_video)
        report = write_report(decoder, results, pictures)
    print(
        f"{totals['decoded']} decoded, {totals['skipped']} finished before, {totals['failed']} failed; "
        f"{totals['total_bytes'] / 1e6:.1f} MB in {decoder.output_dir}\nlook at {report}"
    )
    return 1 if totals["failed"] else 0


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    setup_logging("DEBUG" if arguments.verbose else "INFO")
    try:
        with terminate_as_interrupt():
            return decode(arguments)
    except MimicMotionError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("Interrupted; run the same command again to go on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

"""Decode the latents of every sampling step of an experiment into videos.

examples:
  {turbo} --save_step_latents outputs --experiment_name MyExperiment   # records one
  {steps} outputs/MyExperiment_*/ --dry-run
  {steps} outputs/MyExperiment_*/ --step-filter step_000,step_003 --dry-run
  {steps} outputs/MyExperiment_*/ --preview x0 --contact-sheet

Videos go to <experiment>/latents_videos/<prompt>/<video>/<step>.mp4, with decode_summary.json and report.html.
Filters are comma lists of names, ranges (step_000-step_009) and globs (step_01*). A second run goes on where the first
one stopped.

exit codes: 0 all done, 1 some steps failed, 2 wrong use, 3 model, disk or device, 130 interrupted
"""

import argparse

from mimicmotion.cli import HelpFormatter, exit_code_of, say, setup_logging
from mimicmotion.errors import SetupError
from mimicmotion.latent_steps import (
    COMPRESS_PRESETS,
    DEFAULT_DEVICE,
    DEFAULT_FPS,
    DEFAULT_QUALITY,
    DEFAULT_SCALE,
    DEFAULT_WORKERS,
)


def build_parser(doc: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The command line. Flags that are not given are absent, so that a preset can tell."""
    summary, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=summary,
        epilog=rest.strip(),
        formatter_class=HelpFormatter,
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
    run.add_argument("--device", help=f"auto, cuda, cuda:1, mps or cpu (default: {DEFAULT_DEVICE})")
    model = "folder or hub id to take the VAE from, or a small decoder's file (default: the experiment's model)"
    run.add_argument("--model", help=model)
    workers = f"steps in work at a time; the VAE still decodes one by one (default: {DEFAULT_WORKERS})"
    run.add_argument("--workers", type=int, help=workers)
    run.add_argument("--verbose", action="store_true", default=False, help="log every step")
    output = parser.add_argument_group("what is written")
    folder = "folder of the videos (default: <experiment>/latents_videos)"
    output.add_argument("--output-dir", metavar="DIR", help=folder)
    output.add_argument("--fps", type=float, help=f"frames per second (default: {DEFAULT_FPS})")
    output.add_argument("--quality", type=float, help=f"0 (small files) to 10 (lossless) (default: {DEFAULT_QUALITY})")
    scale = f"size of the pictures over the decoded ones (default: {DEFAULT_SCALE})"
    output.add_argument("--scale", type=float, help=scale)
    presets = tuple(COMPRESS_PRESETS)
    output.add_argument("--compress-preset", choices=presets, default=None, help="a quality with a scale")
    output.add_argument("--contact-sheet", action="store_true", default=False, help="per video: steps x frames")
    output.add_argument("--progress-video", action="store_true", default=False, help="per video: step after step")
    return parser


def decode(arguments: argparse.Namespace) -> int:
    """Decodes and prints the totals; the exit code."""
    from mimicmotion.latent_steps import ExperimentLatentDecoder, summarize, write_pictures, write_report

    names = ("experiment_dir", "device", "model", "workers", "output_dir", "fps", "overwrite", "quality", "scale")
    options = {name: value for name, value in vars(arguments).items() if name in names}
    if arguments.compress_preset:
        options = dict(zip(("quality", "scale"), COMPRESS_PRESETS[arguments.compress_preset], strict=True)) | options
    with ExperimentLatentDecoder(**options, preview_x0=arguments.preview == "x0") as decoder:
        tasks = decoder.plan(arguments.prompt_filter, arguments.video_filter, arguments.step_filter)
        if arguments.dry_run:
            lines = [*map(str, tasks), f"{sum(not task.finished for task in tasks)} of {len(tasks)} files to decode"]
            return 0 if say("\n".join(lines)) else SetupError.exit_code
        results = decoder.run(tasks)
        totals = summarize(results)
        pictures = write_pictures(decoder, results, arguments.contact_sheet, arguments.progress_video)
        report = write_report(decoder, results, pictures)
    say(
        f"{totals['decoded']} decoded, {totals['skipped']} finished before, {totals['failed']} failed; "
        f"{totals['total_bytes'] / 1e6:.1f} MB in {decoder.output_dir}\nlook at {report}"
    )
    return 1 if totals["failed"] else 0


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    arguments = build_parser(doc, prog).parse_args(argv)
    setup_logging("DEBUG" if arguments.verbose else "INFO")
    return exit_code_of(lambda: decode(arguments))

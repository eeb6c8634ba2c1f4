"""Measure what --step_cache costs and saves: people and motions that the embedded model never saw, every interval.

examples:
  python scripts/benchmark_step_cache.py              # needs minutes
  python scripts/benchmark_step_cache.py --clips 1 --ways ays10 --intervals 1,2 --frames 3 --size 64   # needs minutes

Printed for each interval: PSNR of the person's box to the true frames and to interval 1, and CPU seconds of sampling,
which take turns clip by clip. The turbo ways are here to show why the flag refuses them.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, setup_logging

# Sampler, steps and guidance of each way; AnimateLCM_SVD's have the model's LoRA.
WAYS = {
    "euler25": ("EulerDiscreteScheduler", 25, 2.0),
    "ays10": ("AYS", 10, 2.0),
    "turbo8": ("AnimateLCM_SVD", 8, 1.0),
    "turbo4": ("AnimateLCM_SVD", 4, 1.0),
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="validation clips, each with its own noise")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip, the reference among them")
    parser.add_argument("--size", type=int, default=128, help="width in pixels; the height is one and a half times it")
    parser.add_argument("--ways", default=",".join(WAYS), help="names with commas between")
    parser.add_argument("--intervals", default="1,2,3,5", help="numbers with commas between; the first is held against")
    parser.add_argument("--operations", action="store_true", help="count those of the published size instead")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mimicmotion.errors import MimicMotionError, UsageError

    setup_logging("WARNING")
    try:
        ways, intervals = arguments.ways.split(","), [int(text) for text in arguments.intervals.split(",")]
        if unknown := set(ways) - set(WAYS):
            raise UsageError(f"--ways: {', '.join(sorted(unknown))} is unknown; choose among {', '.join(WAYS)}")
        if arguments.operations:
            print_operations(intervals)
            return 0
        rows = measure(ways, intervals, arguments)
        print_rows(rows)
        if arguments.json:
            from mimicmotion.files import write_json

            write_json(arguments.json, rows)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(ways: list[str], intervals: list[int], arguments: argparse.Namespace) -> list[dict]:
    """One dictionary for each way and interval, with lists of figures, one of each clip."""
    import numpy as np

    from mimicmotion.animation import decode_frames
    from mimicmotion.puppets import VALIDATION_SEEDS, make_clip
    from mimicmotion.results import person_box, psnr

    animators = {way: make_animator(way, arguments) for way in ways}
    rows = {}
    for seed in VALIDATION_SEEDS[: arguments.clips]:
        clip = make_clip(seed, arguments.frames, arguments.size * 3 // 2, arguments.size)
        box, truth = person_box(clip.parts[1:]), clip.frames[1:]
        for way, animator in animators.items():
            plain = None
            for interval in intervals:
                animator.config.speed.step_cache = interval
                job = posed(clip, seed, animator)
                pipeline = animator.models.pipeline  # loaded here, so that no clip's seconds include it
                begin = time.process_time()
                latents = animator.sampler.sample(job)
                seconds = time.process_time() - begin
                frames = np.concatenate(list(decode_frames(pipeline, latents, animator.config.sampling, 1)))
                plain = frames if plain is None else plain
                figures = {
                    "psnr_box_to_truth": psnr(frames, truth, box),
                    "psnr_box_to_first": None if frames is plain else psnr(frames, plain, box),
                    "cpu_seconds": seconds,
                }
                row = rows.setdefault(
                    (way, interval), {"way": way, "interval": interval} | {name: [] for name in figures}
                )
                for name, value in figures.items():
                    row[name].append(value)
                print(f"{seed} {way} {interval}: {figures['psnr_box_to_truth']:.2f} dB, {seconds:.1f} s", flush=True)
    return list(rows.values())


def print_operations(intervals: list[int]) -> None:
    """TFLOP of a whole step and of one that uses features again, a frame of 576x1024, and the most that is saved."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mimicmotion.pipelines import StepCache
    from mimicmotion.weights import published_unet

    frames = 8  # of a tile; only temporal attention, well below one percent, asks how many
    # On the meta device nothing is computed, and its attention is counted.
    unet, counted = published_unet().to("meta").eval(), []
    sizes = ((1, frames, 8, 72, 128), (1,), (1, 1, 1024), (1, 3))
    cache = StepCache(unet, 2)
    for _ in range(2):
        with torch.no_grad(), FlopCounterMode(display=False) as counter, cache.step("tile"):
            unet(*(torch.empty(size, device="meta") for size in sizes))
        counted.append(counter.get_total_flops() / frames / 1e12)
    whole, left = counted
    print(f"a whole step {whole:.2f} TFLOP a frame, one that uses features again {left:.2f}")
    for interval in intervals:
        print(f"interval {interval}: at most {interval * whole / (whole + (interval - 1) * left):.2f} times faster")


def make_animator(way: str, arguments: argparse.Namespace):
    """What makes clips in one way, each in one tile."""
    from mimicmotion.animation import Animator
    from mimicmotion.config import load_config

    sampler, steps, guidance = WAYS[way]
    given = {
        "runtime.device": arguments.device,
        "test_case[*].num_frames": arguments.frames,
        "test_case[*].frames_overlap": 1,
        "turbo.scheduler": sampler,
        "turbo.num_inference_steps": steps,
        "turbo.guidance_scale": guidance,
    }
    return Animator(load_config(None, given | ({} if sampler == "AnimateLCM_SVD" else {"turbo.lcm_lora_path": None})))


def posed(clip, seed: int, animator):
    """A rendered clip as the sampler takes it, with the renderer's own poses."""
    from dataclasses import replace

    from mimicmotion.features import Reference
    from mimicmotion.latent_concat import PosedFrames
    from mimicmotion.results import Job

    case, name = animator.config.test_case[0], Path(f"validation-{seed}")
    reference = Reference(name, clip.frames[0], clip.poses[0])
    job = Job(name, replace(case, seed=case.seed + seed), 0, name.with_suffix(".mp4"))
    return PosedFrames(job, reference, animator.clips.draw(clip.poses, reference))


def print_rows(rows: list[dict]) -> None:
    """Means over clips; what an interval costs and saves is against the first one of its way, clip by clip."""
    names = {"interval": 9, "to truth dB": 13, "costs dB": 22, "to plain dB": 13, "CPU s": 8, "CPU ratio": 11}
    print(f"{'way':10}" + "".join(name.rjust(width) for name, width in names.items()))
    first = {}
    for row in rows:
        base = first.setdefault(row["way"], row)
        costs = [a - b for a, b in zip(base["psnr_box_to_truth"], row["psnr_box_to_truth"], strict=True)]
        ratio = statistics.median(a / b for a, b in zip(base["cpu_seconds"], row["cpu_seconds"], strict=True))
        plain = [value for value in row["psnr_box_to_first"] if value is not None]
        cells = [
            row["interval"],
            f"{statistics.mean(row['psnr_box_to_truth']):.2f}",
            f"{statistics.mean(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})",
            f"{statistics.mean(plain):.2f}" if plain else "-",
            f"{statistics.mean(row['cpu_seconds']):.1f}",
            f"{ratio:.2f}",
        ]
        widths = names.values()
        print(f"{row['way']:10}" + "".join(str(cell).rjust(width) for cell, width in zip(cells, widths, strict=True)))


if __name__ == "__main__":
    sys.exit(main())

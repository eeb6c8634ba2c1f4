"""Measure what --step_cache costs and saves: people and motions that the embedded model never saw, every interval.

examples:
  python scripts/benchmark_step_cache.py              # needs minutes
  python scripts/benchmark_step_cache.py --clips 1 --samplers AYS --steps 6 --intervals 1,2 --frames 3 --size 64

Printed for each interval: PSNR of the person's box to the true frames and to interval 1, and CPU seconds of sampling,
which take turns clip by clip. AnimateLCM_SVD is here to show why the flag refuses it.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, setup_logging

# Steps and guidance of each sampler.
SAMPLERS = {"EulerDiscreteScheduler": (25, 2.0), "AYS": (10, 2.0), "AnimateLCM_SVD": (8, 1.0)}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="validation clips, each with its own noise")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip, the reference among them")
    parser.add_argument("--size", type=int, default=128, help="width in pixels; the height is one and a half times it")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="names with commas between")
    parser.add_argument("--steps", type=int, default=None, help="steps of all; default: 25 Euler, 10 AYS, 8 AnimateLCM")
    parser.add_argument("--intervals", default="1,2,3,5", help="numbers with commas between; the first is held against")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mimicmotion.errors import MimicMotionError, UsageError

    setup_logging("WARNING")
    try:
        samplers, intervals = arguments.samplers.split(","), [int(text) for text in arguments.intervals.split(",")]
        if unknown := set(samplers) - set(SAMPLERS):
            raise UsageError(f"--samplers: {', '.join(sorted(unknown))} is unknown; choose among {', '.join(SAMPLERS)}")
        rows = measure(samplers, intervals, arguments)
        print_rows(rows)
        if arguments.json:
            from mimicmotion.files import write_json

            write_json(arguments.json, rows)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(samplers: list[str], intervals: list[int], arguments: argparse.Namespace) -> list[dict]:
    """One dictionary for each sampler and interval, with lists of figures, one of each clip."""
    import numpy as np

    from mimicmotion.animation import Animator, decode_frames
    from mimicmotion.config import TurboSettings, load_config
    from mimicmotion.pipelines import make_scheduler
    from mimicmotion.puppets import VALIDATION_SEEDS, make_clip
    from mimicmotion.results import person_box, psnr

    given = {"runtime.device": arguments.device, "turbo.skip_lcm_scheduler": True}
    given |= {"test_case[*].num_frames": arguments.frames, "test_case[*].frames_overlap": 1}
    config = load_config(None, given)
    animator = Animator(config)
    pipeline = animator.models.pipeline
    of_model = dict(pipeline.scheduler.config)
    rows = {}
    for seed in VALIDATION_SEEDS[: arguments.clips]:
        clip = make_clip(seed, arguments.frames, arguments.size * 3 // 2, arguments.size)
        box, truth = person_box(clip.parts[1:]), clip.frames[1:]
        for sampler in samplers:
            steps, guidance = SAMPLERS[sampler]
            steps = arguments.steps or steps
            config.turbo = TurboSettings(sampler, steps, guidance)
            plain = None
            for interval in intervals:
                config.speed.step_cache = interval
                pipeline.scheduler = make_scheduler(sampler, of_model)
                begin = time.process_time()
                latents = animator.sampler.sample(posed(clip, seed, animator))
                seconds = time.process_time() - begin
                frames = np.concatenate(list(decode_frames(pipeline, latents, config.sampling, 1)))
                plain = frames if plain is None else plain
                row = rows.setdefault(
                    (sampler, interval),
                    {"sampler": sampler, "steps": steps, "interval": interval}
                    | {name: [] for name in ("psnr_box_to_truth", "psnr_box_to_first", "cpu_seconds")},
                )
                row["psnr_box_to_truth"].append(psnr(frames, truth, box))
                row["psnr_box_to_first"].append(None if frames is plain else psnr(frames, plain, box))
                row["cpu_seconds"].append(seconds)
                print(
                    f"{seed} {sampler} {interval}: {row['psnr_box_to_truth'][-1]:.2f} dB, {seconds:.1f} s", flush=True
                )
    return list(rows.values())


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
    """Means over clips; what an interval costs and saves is against the first one of its sampler, clip by clip."""
    names = {"steps": 6, "interval": 9, "to truth dB": 13, "costs dB": 20, "to plain dB": 13, "CPU ratio": 11}
    print(f"{'sampler':24}" + "".join(name.rjust(width) for name, width in names.items()))
    first = {}
    for row in rows:
        base = first.setdefault(row["sampler"], row)
        costs = [a - b for a, b in zip(base["psnr_box_to_truth"], row["psnr_box_to_truth"], strict=True)]
        ratio = statistics.median(a / b for a, b in zip(base["cpu_seconds"], row["cpu_seconds"], strict=True))
        plain = [value for value in row["psnr_box_to_first"] if value is not None]
        spread = f"{statistics.mean(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})"
        to_plain = f"{statistics.mean(plain):13.2f}" if plain else f"{'-':>13}"
        truth = statistics.mean(row["psnr_box_to_truth"])
        print(
            f"{row['sampler']:24}{row['steps']:6d}{row['interval']:9d}{truth:13.2f}{spread:>20}{to_plain}{ratio:11.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())

"""Measure what turbo saves: the whole main job with 25 Euler steps, 4 turbo steps and 10 AYS steps, interleaved.

    python scripts/benchmark_turbo.py             # the demo's clip on the embedded model; needs minutes
    python scripts/benchmark_turbo.py --memory    # also peak memory for 100 and for 1000 frames; needs minutes
    python scripts/benchmark_turbo.py --memory --repeats 0    # that alone; needs minutes
    python scripts/benchmark_turbo.py --inference_config configs/mimicmotion.yaml --device cuda    # needs weights
    python scripts/benchmark_turbo.py --random_weights --device cuda    # 72 frames at the published size; needs gpu
    python scripts/benchmark_turbo.py --random_weights --size tiny --frames 5 speed.fp8=true   # needs minutes

The variants share one set of networks and take turns, so that a machine that gets slower in between slows all of
them; ratios are taken turn by turn. Results go to --json as well. Trailing path=value pairs are settings of all.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, setup_logging
from mimicmotion.config import DEFAULT_CONFIG

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "Euler 25, guidance 2": ("EulerDiscreteScheduler", 25, 2.0),
    "turbo 4, guidance 1": ("AnimateLCM_SVD", 4, 1.0),
    "AYS 10, guidance 2": ("AYS", 10, 2.0),
}
STAGES = ("poses", "sampling", "decoding")
MEMORY_FRAMES = (100, 1000)
RESOLUTIONS = {"published": 576, "tiny": 64}  # short side in pixels
PROFILED = "turbo 4, guidance 1"
PROFILE_ROWS = 40
MEMORY_THREADS = (1, 2)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings")
    parser.add_argument("--variants", default="", help="only variants whose name begins so, with commas between")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every variant; 0: none")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu")
    parser.add_argument("--compile", action="store_true", help="compile UNet and decoder; the first turn is left out")
    parser.add_argument("--random_weights", action="store_true", help="draw weights of --size, read none")
    parser.add_argument("--size", default="published", choices=RESOLUTIONS, help="of --random_weights")
    parser.add_argument("--frames", type=int, default=72, help="of --random_weights: frames of the one tile")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write what each kernel takes in a turbo run")
    parser.add_argument("--memory", action="store_true", help="also peak memory for 100 and for 1000 frames")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="settings, as of the main script")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mimicmotion.errors import MimicMotionError

    setup_logging("WARNING")
    try:
        results = {}
        if arguments.repeats:
            results["turns"] = measure_variants(arguments)
            print_variants(results["turns"])
        if arguments.memory:
            results["peak_memory_bytes"] = {}
            for threads in MEMORY_THREADS:
                peaks = {frames: peak_memory_of(frames, threads) for frames in MEMORY_FRAMES}
                print_memory(peaks, threads)
                results["peak_memory_bytes"][threads] = peaks
        if arguments.json:
            from mimicmotion.files import write_json

            write_json(arguments.json, results)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure_variants(arguments: argparse.Namespace) -> list[dict]:
    """One dictionary for each turn: variant -> UNet calls and seconds by stage."""
    from mimicmotion.animation import Animator, Outcome
    from mimicmotion.config import TurboSettings, load_config
    from mimicmotion.device import describe_device
    from mimicmotion.pipelines import make_scheduler
    from mimicmotion.results import plan_jobs

    given = {
        "runtime.device": arguments.device,
        "runtime.compile": arguments.compile,
        "sampling.cfg_batch": "off",
        "turbo.skip_lcm_scheduler": True,
        "output.overwrite": True,
        "output.contact_sheet": False,
    }
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        given |= {"output.output_dir": folder}
        pairs = [*random_model(Path(folder), arguments), *arguments.overrides]
        config = load_config(arguments.inference_config, given, pairs)
        animator, job = Animator(config), plan_jobs(config)[0]
        base = dict(animator.models.pipeline.scheduler.config)
        calls = []
        animator.models.pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
        for turn in range(arguments.repeats + 1):
            measured = {}
            for name, (scheduler, steps, guidance) in chosen_variants(arguments).items():
                config.turbo = TurboSettings(scheduler, steps, guidance)
                # The warm-up turn only has to touch every kernel.
                config.turbo = config.turbo if turn else replace(config.turbo, num_inference_steps=1)
                animator.models.pipeline.scheduler = make_scheduler(scheduler, base)
                calls.clear()
                outcome = Outcome(job)
                animator.animate(outcome)
                measured[name] = {"unet_calls": len(calls), "frames": outcome.frames, **outcome.stages}
            if turn:
                turns.append(measured)
        if arguments.profile:
            config.turbo = TurboSettings(*VARIANTS[PROFILED])
            animator.models.pipeline.scheduler = make_scheduler(VARIANTS[PROFILED][0], base)
            with profiled(arguments.profile, animator.models.device):
                animator.animate(Outcome(job))
        device = describe_device(animator.models.device)
        print(f"{job.video.name}, {outcome.frames} frames, {device}, {len(turns)} turns")
    return turns


def chosen_variants(arguments: argparse.Namespace) -> dict[str, tuple[str, int, float]]:
    """The variants that --variants asks for. Raises: UsageError where there is none."""
    from mimicmotion.errors import UsageError

    wanted = tuple(name.strip() for name in arguments.variants.split(","))
    chosen = {name: variant for name, variant in VARIANTS.items() if name.startswith(wanted)}
    if not chosen:
        raise UsageError(f"--variants {arguments.variants}: no variant is called so; {'; '.join(VARIANTS)}")
    return chosen


def random_model(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Settings of a run on drawn weights and a drawn clip, written into `folder`; none without --random_weights."""
    if not arguments.random_weights:
        return []
    import torch

    from mimicmotion.device import resolve_device
    from mimicmotion.weights import build_random_model

    build_random_model(folder / "model", arguments.size, resolve_device(arguments.device), torch.float16)
    return [
        *make_long_clip(folder, arguments.frames - 1),
        f"base_model_path={folder / 'model'}",
        "ckpt_path=null",
        "turbo.lcm_lora_path=null",
        f"test_case[0].resolution={RESOLUTIONS[arguments.size]}",
        f"test_case[0].num_frames={arguments.frames}",
        "test_case[0].frames_overlap=1",
    ]


@contextlib.contextmanager
def profiled(path: Path, device):
    """Writes what each kernel of its body took to `path`."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        yield
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    path.write_text(found.key_averages().table(sort_by=order, row_limit=PROFILE_ROWS))


def print_variants(turns: list[dict]) -> None:
    """A table of medians and, against the first variant, ratios taken turn by turn."""
    first = next(iter(turns[0]))
    print(f"{'':24}{'UNet calls':>11}" + "".join(f"{stage + ' s':>13}" for stage in STAGES) + f"{'sampling ratio':>24}")
    for name in turns[0]:
        medians = [statistics.median(turn[name][stage] for turn in turns) for stage in STAGES]
        ratios = sorted(turn[first]["sampling"] / turn[name]["sampling"] for turn in turns)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        seconds = "".join(f"{median:13.2f}" for median in medians)
        print(f"{name:24}{turns[0][name]['unet_calls']:11d}{seconds}{spread:>24}")


def peak_memory_of(frames: int, threads: int) -> int:
    """Peak resident bytes of a process of `threads` threads that makes a result of `frames` frames in one step."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = make_long_clip(Path(folder), frames)
        command = [sys.executable, "inference_raw_batch_turbo.py", "--num_inference_steps", "1", *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        record = next((Path(folder) / "outputs").rglob("long.json"))
        return json.loads(record.read_text())["peak_memory_bytes"]


def make_long_clip(folder: Path, frames: int) -> list[str]:
    """Writes a clip with poses and a reference, and returns the settings that use them."""
    import numpy as np
    from PIL import Image

    from mimicmotion.dwpose import project, save_poses, stick_figure
    from mimicmotion.video import VideoWriter

    height, width = 192, 128
    swing = np.sin(np.arange(2 * frames) / 5)
    poses = [project(stick_figure(arms=(1 + s, 1 - s)), 0.8, (0.5, 0.95), (height, width)) for s in swing]
    with VideoWriter(folder / "clips" / "long.mp4", 30, preset="ultrafast") as writer:
        for s in swing:
            writer.write(np.full((height, width, 3), 128 + int(60 * s), np.uint8))
    about = {"height": height, "width": width, "source": "long.mp4", "detector": "stick figure"}
    save_poses(folder / "poses" / "long.npz", poses[::2], frame_indices=range(0, 2 * frames, 2), fps=30.0, **about)
    save_poses(folder / "person.pose.npz", poses[:1], frame_indices=[0], fps=0.0, **about)
    Image.new("RGB", (width, height), (120, 140, 160)).save(folder / "person.png")
    return [
        "pose.backend=file",
        f"pose.folder={folder / 'poses'}",
        f"batch.video_folder={folder / 'clips'}",
        f"test_case[0].ref_image_path={folder / 'person.png'}",
        f"output.output_dir={folder / 'outputs'}",
    ]


def print_memory(peaks: dict[int, int], threads: int) -> None:
    """Peak memory by number of frames, and how much the longest adds to the shortest."""
    for frames, peak in peaks.items():
        print(f"peak memory, {threads} thread{'s'[: threads - 1]}, {frames:5d} frames: {peak / 2**20:7.0f} MiB")
    print(f"difference: {max(peaks.values()) / min(peaks.values()) - 1:.1%}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Run a clone of MimicMotion and this product on the same weights, clip and noise, and compare what they make.

examples:
  python scripts/compare_upstream.py --upstream DIR --inference_config configs/mimicmotion.yaml   # needs weights

Poses are found and drawn here, once, for both; the initial noise is drawn from the test case's seed, once, for both.
Each side runs in a process of its own, with its own package `mimicmotion`; --python names the interpreter of the
clone's environment. Printed are the largest difference and PSNR of latents and frames, seconds and peak memory.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("upstream", "here")
CHUNK = 8  # frames per call of the decoder, fixed in the published script


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    from mimicmotion.cli import HelpFormatter

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--upstream", type=Path, required=True, metavar="DIR", help="clone of MimicMotion")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the clone's environment")
    parser.add_argument("--inference_config", default=None, metavar="YAML", help="settings; the first test case counts")
    parser.add_argument("--frames", type=int, default=None, help="frames to sample, the reference's own included")
    parser.add_argument("--num_inference_steps", type=int, default=None, help="default: those of the test case")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument("--dtype", default="auto", help="auto, fp16, bf16 or fp32; of all networks, on both sides")
    parser.add_argument("--minutes", type=float, default=60, help="limit of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="settings, as of the main script")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    sys.path.insert(0, str(ROOT))
    arguments = parse_arguments(argv)
    from mimicmotion.cli import setup_logging
    from mimicmotion.errors import MimicMotionError

    setup_logging("WARNING")
    try:
        figures = compare_sides(arguments)
        print(as_table(figures))
        if arguments.json:
            from mimicmotion.files import write_json

            write_json(arguments.json, figures)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def compare_sides(arguments: argparse.Namespace) -> dict:
    """Figures of both sides and of their differences. Raises: UsageError, SetupError, InputError."""
    from mimicmotion.config import load_config
    from mimicmotion.errors import UsageError

    if not (arguments.upstream / "mimicmotion" / "utils" / "loader.py").is_file():
        raise UsageError(f"--upstream {arguments.upstream}: no mimicmotion/utils/loader.py in it; name a clone")
    config = load_config(arguments.inference_config, overrides=arguments.overrides)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), config, arguments)
        figures = {side: run_apart(side, Path(folder), arguments) for side in SIDES}
        return figures | {"difference": differences(Path(folder))}


def write_inputs(folder: Path, config, arguments: argparse.Namespace) -> None:
    """Writes what both sides read: inputs.npz with picture, drawn poses and unit noise, and task.json."""
    import numpy as np
    import torch

    from mimicmotion.animation import Animator
    from mimicmotion.device import resolve_device, resolve_dtype
    from mimicmotion.results import plan_jobs

    device = resolve_device(arguments.device)
    resolve_dtype(arguments.dtype, device)
    job = plan_jobs(config)[0]
    clip = Animator(config).clips.prepare(job)
    frames = min(arguments.frames or len(clip.drawn), len(clip.drawn))
    tile = min(job.case.num_frames, frames)
    height, width = clip.reference.pixels.shape[:2]
    generator = torch.Generator().manual_seed(job.case.seed)
    noise = torch.randn((1, tile, 4, height // 8, width // 8), generator=generator)
    poses = clip.drawn[list(range(frames))]
    np.savez(folder / "inputs.npz", picture=clip.reference.pixels, poses=poses.numpy(), noise=noise.numpy())
    task = {
        "base_model_path": os.path.abspath(config.base_model_path),
        "ckpt_path": config.ckpt_path and os.path.abspath(config.ckpt_path),
        "device": str(device),
        "dtype": str(resolve_dtype(arguments.dtype, device)).removeprefix("torch."),
        "seed": job.case.seed,
        "tile_size": tile,
        "tile_overlap": min(job.case.frames_overlap, tile - 1),
        "num_inference_steps": arguments.num_inference_steps or job.case.num_inference_steps,
        "guidance_scale": job.case.guidance_scale,
    }
    (folder / "task.json").write_text(json.dumps(task))


def run_apart(side: str, folder: Path, arguments: argparse.Namespace) -> dict:
    """Figures of one side, run in a process of its own. Raises: SetupError with the last lines of one that failed."""
    from mimicmotion.errors import SetupError

    package, python = (arguments.upstream, arguments.python) if side == "upstream" else (ROOT, sys.executable)
    # Without PYTHONPATH nothing but the side's own folder may answer to the name of the package.
    command = [python, str(Path(__file__).resolve()), "--side", side, str(package.resolve()), str(folder)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = folder / f"{side}.log"
    try:
        with log.open("w") as output:
            subprocess.run(
                command, cwd=package, env=clean, stdout=output, stderr=subprocess.STDOUT, check=True,
                timeout=60 * arguments.minutes,
            )  # fmt: skip
    except FileNotFoundError:
        raise SetupError(f"{python} is not there; --python names the interpreter of the clone's environment") from None
    except subprocess.TimeoutExpired:
        raise SetupError(f"{side}: not done after {arguments.minutes:g} minutes (--minutes)") from None
    except subprocess.CalledProcessError as error:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise SetupError(f"{side} failed with exit code {error.returncode}; its last lines:\n{last}") from None
    return json.loads((folder / f"{side}.json").read_text())


def run_side(side: str, package: Path, folder: Path) -> None:
    """One side, in this process: samples, decodes, writes <side>.npz and <side>.json into `folder`."""
    sys.path[:] = [str(package), *(path for path in sys.path if Path(path or ".").resolve() != ROOT / "scripts")]
    import numpy as np
    import torch
    from PIL import Image

    task, inputs = json.loads((folder / "task.json").read_text()), np.load(folder / "inputs.npz")
    device, dtype = torch.device(task["device"]), getattr(torch, task["dtype"])
    seconds = {}
    with stopwatch("load", seconds, device):
        pipeline = load_side(side, task, device, dtype)
    poses = torch.from_numpy(inputs["poses"])
    # As the published script makes them: of bytes, in -1..1.
    poses = (poses.float() / 127.5 - 1 if poses.dtype == torch.uint8 else poses)[None].to(device, dtype)
    height, width = inputs["picture"].shape[:2]
    with torch.no_grad(), stopwatch("sampling", seconds, device):
        latents = pipeline(
            [Image.fromarray(inputs["picture"])],
            image_pose=poses,
            height=height,
            width=width,
            num_frames=poses.shape[1],
            tile_size=task["tile_size"],
            tile_overlap=task["tile_overlap"],
            num_inference_steps=task["num_inference_steps"],
            min_guidance_scale=task["guidance_scale"],
            max_guidance_scale=task["guidance_scale"],
            fps=7,
            noise_aug_strength=0.0,
            latents=torch.from_numpy(inputs["noise"]).to(device, dtype),
            generator=torch.Generator("cpu").manual_seed(task["seed"]),
            output_type="latent",
            device=device,
        ).frames
    with torch.no_grad(), stopwatch("decoding", seconds, device):
        pipeline.vae.to(device)
        frames = pipeline.decode_latents(latents.to(device, dtype), latents.shape[1], CHUNK)
    frames = (frames[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 3, 0)
    np.savez(folder / f"{side}.npz", latents=latents.float().cpu().numpy(), frames=frames.cpu().numpy())
    (folder / f"{side}.json").write_text(json.dumps({"seconds": seconds, "peak_memory_bytes": peak_memory(device)}))


def load_side(side: str, task: dict, device, dtype):
    """The pipeline of one side with all networks in one number format."""
    from types import SimpleNamespace

    paths = SimpleNamespace(base_model_path=task["base_model_path"], ckpt_path=task["ckpt_path"])
    if side == "here":
        from mimicmotion import create_pipeline

        return create_pipeline(paths, device, dtype, dtype)
    from mimicmotion.utils.loader import create_pipeline

    pipeline = create_pipeline(paths, device)
    for name in ("unet", "vae", "image_encoder", "pose_net"):
        getattr(pipeline, name).to(device, dtype)
    return pipeline


@contextlib.contextmanager
def stopwatch(stage: str, seconds: dict, device):
    """Notes the seconds that its body takes, the device's own work included."""
    begin = time.perf_counter()
    yield
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    seconds[stage] = round(time.perf_counter() - begin, 3)


def peak_memory(device) -> int:
    """Bytes: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def differences(folder: Path) -> dict:
    """Of latents, in their own unit, and of frames, in levels of 255: largest difference, range, PSNR (None: equal)."""
    import numpy as np

    sides = [np.load(folder / f"{side}.npz") for side in SIDES]
    found = {}
    for name, span in (("latents", None), ("frames", 255.0)):
        first, second = (side[name].astype(np.float64) for side in sides)
        if first.shape != second.shape:
            found[name] = {"shapes": [list(first.shape), list(second.shape)]}
            continue
        error, span = np.abs(first - second), span or float(np.ptp(first))
        square = float((error**2).mean())
        psnr = round(10 * float(np.log10(span**2 / square)), 2) if square and span else None
        found[name] = {"max_abs_difference": float(error.max()), "range": span, "psnr_db": psnr}
    return found


def as_table(figures: dict) -> str:
    """All figures for people."""
    stages = ("load", "sampling", "decoding")
    lines = [f"{'':10}" + "".join(f"{stage + ' s':>13}" for stage in stages) + f"{'peak MiB':>12}"]
    for side in SIDES:
        seconds, peak = figures[side]["seconds"], figures[side]["peak_memory_bytes"] / 2**20
        lines.append(f"{side:10}" + "".join(f"{seconds[stage]:13.2f}" for stage in stages) + f"{peak:12.0f}")
    for name, found in figures["difference"].items():
        if "shapes" in found:
            lines.append(f"{name}: of different shapes, {found['shapes'][0]} upstream and {found['shapes'][1]} here")
        elif found["max_abs_difference"] == 0:
            lines.append(f"{name}: equal bit for bit")
        else:
            largest, span, psnr = (found[key] for key in ("max_abs_difference", "range", "psnr_db"))
            lines.append(f"{name}: largest difference {largest:.3g} of a range of {span:.4g}, PSNR {psnr} dB")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run_side(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        sys.exit(0)
    sys.exit(main())

"""All that a first run on a GPU should tell, in less than 25 minutes: one JSON and one page.

examples:
  scripts/benchmark_gpu.sh   # 72 frames of 576x1024 and the world model; needs gpu
  python scripts/benchmark_gpu.py --smoke --parts turbo   # one part at a size for any machine; needs minutes

Weights are drawn at the published sizes, since speed does not ask what they say; nothing is downloaded. Every part is a
command that one can type, run in a process of its own with its own limit of time, on two equal clips: the first shows
what starting costs, the second is the figure. A part that fails, hangs or asks for what this machine or this version
does not have leaves its reason, and the others go on. A part that misses its goal is run once more for a profile: which
kernels took the time. Results are written after every part, into <out>/benchmark_gpu.json and <out>/benchmark_gpu.md.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TURBO, STREAMING = "inference_raw_batch_turbo.py", "scripts/benchmark_streaming.py"
INTERRUPTED = 130
KERNELS = 25  # of a profile, those that took the longest
# Exit codes of a command that this machine or these settings cannot run.
NOT_HERE = (2, 3)
GOALS = """Goals on an H100, 72 frames of 576x1024 in 4 turbo steps: sampling and decoding 3.6 s with the full decoder,
2.4 s with the tiny one; first result 60 s after the start with compilation; the world model 40 frames a second with
the full decoder, 60 with a tiny one."""


@dataclass(frozen=True)
class Part:
    """One command: what it shows, the flags beyond those that all of its script share, its limit in minutes.

    goal: the most seconds of sampling and decoding, or the fewest frames a second of the world model.
    needs_gpu: has no sense elsewhere, or, where something is compiled, takes many minutes.
    """

    name: str
    script: str
    flags: tuple[str, ...] = ()
    minutes: float = 2
    goal: float | None = None
    needs_gpu: bool = False


SMALL = ("--decoder", "{inputs}/small_decoder")
PARTS = (
    Part("turbo", TURBO, goal=3.6),
    Part("turbo + --speed max", TURBO, ("--speed", "max"), 5, 3.6, needs_gpu=True),
    Part("turbo + small decoder", TURBO, SMALL, goal=2.4),
    Part("turbo + small decoder + max", TURBO, (*SMALL, "--speed", "max"), 5, 2.4, needs_gpu=True),
    Part("world model", STREAMING, goal=40),
    Part("world model + --compile", STREAMING, ("--compile",), 4, 40, needs_gpu=True),
    Part("world model + no overlap", STREAMING, ("--overlap", "off")),
    Part("world model + tiny decoder", STREAMING, ("--decoder", "tiny", "--compile"), 4, 60, needs_gpu=True),
    Part("profile by kernel", "scripts/benchmark_turbo.py", minutes=3),
    Part("turbo + --compile", TURBO, ("--compile",), 5, needs_gpu=True),
    Part("turbo + --channels_last", TURBO, ("--channels_last",)),
    Part("turbo + --fuse_qkv", TURBO, ("--fuse_qkv",)),
    Part("turbo + cuDNN attention", TURBO, ("--attention", "_native_cudnn"), needs_gpu=True),
    Part("turbo + flash attention", TURBO, ("--attention", "flash"), needs_gpu=True),
    Part("turbo + flash attention 3", TURBO, ("--attention", "_flash_3"), needs_gpu=True),
    Part("turbo + sage attention", TURBO, ("--attention", "sage"), needs_gpu=True),
    Part("turbo + --fp8", TURBO, ("--fp8",)),
    Part("turbo + --offload model", TURBO, ("--offload", "model"), needs_gpu=True),
    Part("turbo + 24 GB", TURBO, ("--vram", "24"), needs_gpu=True),
    Part("turbo + 16 GB", TURBO, ("--vram", "16"), needs_gpu=True),
    Part("turbo + 12 GB", TURBO, ("--vram", "12"), 3, needs_gpu=True),
    Part("turbo + 8 GB", TURBO, ("--vram", "8"), 3, needs_gpu=True),
    Part("AYS 10", TURBO, ("--scheduler", "AYS", "--guidance_scale", "2"), 3),
    Part("AYS 10 + step cache 2", TURBO, ("--scheduler", "AYS", "--guidance_scale", "2", "--step_cache", "2"), 3),
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How large everything is: networks, frames of the one tile, short side in pixels, blocks of the world model."""

    model: str
    frames: int
    resolution: int
    world: tuple[str, ...]


SIZES = {
    False: Size(
        "published", 72, 576,
        ("--config_path", "configs/streaming/universal.yaml", "--random_weights", "--blocks", "40"),
    ),
    True: Size("tiny", 3, 64, ("--config_path", "configs/streaming/tiny.yaml", "--blocks", "20")),
}  # fmt: skip


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    from mimicmotion.cli import HelpFormatter

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark_gpu"), help="folder of all results")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu")
    parser.add_argument("--minutes", type=float, default=25, help="limit of everything; parts beyond it are not begun")
    parser.add_argument("--parts", default="", help="only parts whose name begins so, with commas between; empty: all")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that all parts run, on any machine")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from mimicmotion.errors import MimicMotionError

    wanted = tuple(name.strip() for name in arguments.parts.split(","))
    parts = [part for part in PARTS if part.name.startswith(wanted)]
    if not parts:
        names = "; ".join(part.name for part in PARTS)
        print(f"error: --parts {arguments.parts}: no part is called so; there are {names}", file=sys.stderr)
        return 2
    try:
        return run_parts(parts, arguments)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def run_parts(parts: list[Part], arguments: argparse.Namespace) -> int:
    """Runs one part after the other and writes results after each; 1 where one failed or hung."""
    from mimicmotion.files import require_writable

    size, begin = SIZES[arguments.smoke], time.monotonic()
    out = require_writable(arguments.out.resolve())
    inputs = make_inputs(out / "inputs", size, arguments.device)
    results = {"machine": inputs, "size": f"{size.frames} frames, short side {size.resolution}", "parts": []}
    for part in parts:
        left = 60 * arguments.minutes - (time.monotonic() - begin)
        # Goals are of the published size.
        result = {"name": part.name, "goal": None if arguments.smoke else part.goal, "command": None}
        if reason := why_not(part, inputs["device"], left):
            result |= {"status": "skipped", "reason": reason}
        else:
            result |= run_part(part, out, size, arguments.device, min(60 * part.minutes, left))
            # A tiny size has no goal to miss; it shows that profiles can be made.
            if result["status"] == "done" and (missed(result) or (arguments.smoke and part.goal is not None)):
                left = 60 * arguments.minutes - (time.monotonic() - begin)
                result |= profile_part(part, out, size, arguments.device, min(60 * part.minutes, left))
        results["parts"].append(result)
        print(f"{part.name}: {one_line(result)}", flush=True)
        write_results(out, results)
    print(f"{out / 'benchmark_gpu.json'}, {out / 'benchmark_gpu.md'}")
    return 1 if any(part["status"] in ("failed", "hung") for part in results["parts"]) else 0


def make_inputs(folder: Path, size: Size, device: str) -> dict:
    """Drawn weights and clips in `folder`, and what the machine is.

    A process of its own makes them, so that this one holds no memory of the GPU.
    """
    from mimicmotion.errors import SetupError

    if not (folder / "machine.json").is_file() or read_json(folder / "machine.json")["model"] != size.model:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [sys.executable, __file__, "--make", str(folder), size.model, str(size.frames), device]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"the inputs cannot be made: {last_line(done.stderr)}")
    return read_json(folder / "machine.json")


def make(folder: Path, model: str, frames: int, device_name: str) -> None:
    """What `make_inputs` starts: a model, a small decoder, two equal clips with poses, a reference."""
    import torch
    from diffusers import AutoencoderTiny

    from mimicmotion.device import describe_device, resolve_device
    from mimicmotion.results import versions
    from mimicmotion.weights import build_random_model
    from scripts.benchmark_turbo import make_long_clip

    device = resolve_device(device_name)
    build_random_model(folder / "model", model, device)
    AutoencoderTiny().half().save_pretrained(folder / "small_decoder")
    make_long_clip(folder, frames - 1)
    for clip in (folder / "clips" / "long.mp4", folder / "poses" / "long.npz"):
        shutil.copyfile(clip, clip.with_stem("again"))
    machine = {"device": device.type, "description": describe_device(device), "model": model, "versions": versions()}
    if device.type == "cuda":
        machine["memory_gib"] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    (folder / "machine.json").write_text(json.dumps(machine))


def why_not(part: Part, device: str, seconds_left: float) -> str | None:
    """Why a part is not begun; None where it is."""
    if seconds_left < 30:
        return "the time of the whole run is used up (--minutes)"
    if part.needs_gpu and device != "cuda":
        return "needs a GPU"
    known = flags_of(part.script)
    missing = [flag for flag in part.flags if flag.startswith("--") and flag not in known]
    return f"this version has no {', '.join(missing)}" if missing else None


@functools.cache
def flags_of(script: str) -> frozenset[str]:
    """The flags that a script's --help names."""
    command = [sys.executable, script, "--help"]
    text = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False).stdout
    words = text.replace(",", " ").replace("[", " ").replace("]", " ").split()
    return frozenset(word.partition("=")[0] for word in words if word.startswith("--"))


def run_part(part: Part, out: Path, size: Size, device: str, seconds: float) -> dict:
    """Runs one command for at most `seconds`; its status with figures or a reason."""
    folder = new_folder(out, part.name)
    command = command_of(part, out / "inputs", folder, size, device)
    shown = {"command": " ".join(command).replace(f"{out}/", "").replace(sys.executable, "python")}
    log, begin, started = folder / "log.txt", time.monotonic(), time.time()
    shown |= run_command(command, log, seconds)
    if shown.get("status"):
        return shown
    shown |= {"wall_seconds": round(time.monotonic() - begin, 1)}
    try:
        return shown | {"status": "done"} | READERS[part.script](folder, started)
    except (OSError, LookupError, ValueError, TypeError) as error:
        return shown | {"status": "failed", "reason": f"its results cannot be read ({error!r}); see {log}"}


def profile_part(part: Part, out: Path, size: Size, device: str, seconds: float) -> dict:
    """Runs the command of a part once more and notes its kernels; why there are none, where there are none."""
    folder = new_folder(out, f"{part.name} profile")
    own = command_of(part, out / "inputs", folder, size, device)
    kernels = folder / "kernels.json"
    ended = run_command([own[0], __file__, "--profile", str(kernels), device, *own[1:]], folder / "log.txt", seconds)
    if ended:
        return {"no_profile": ended["reason"]}
    return {"profile": read_json(kernels)}


def profile(path: Path, device: str, words: list[str]) -> int:
    """What `profile_part` starts: a script under torch's profiler. Its exit code; the kernels go to `path`, on a GPU
    those of all threads, elsewhere the operations of the main one.
    """
    import runpy

    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from mimicmotion.device import resolve_device

    on_gpu = resolve_device(device).type == "cuda"
    sys.argv, code = words, 0
    # Operations of a whole run would be millions; kernels tell what a goal was missed by.
    with profiler(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(getattr(row, time_of), row.count, row.key) for row in found.key_averages()]
    whole = sum(microseconds for microseconds, _, _ in rows)
    rows = [
        {"kernel": name, "calls": calls, "ms": round(us / 1000, 3), "share": round(us / whole, 4)}
        for us, calls, name in sorted(rows, reverse=True)[:KERNELS]
        if us > 0
    ]
    kind = "kernels" if on_gpu else "operations"
    path.write_text(json.dumps({"of": kind, "ms": round(whole / 1000, 1), "top": rows}))
    return code


def new_folder(out: Path, name: str) -> Path:
    """An empty folder of that name, written with letters and digits alone."""
    folder = out / "".join(letter if letter.isalnum() else "_" for letter in name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def run_command(command: list[str], log: Path, seconds: float) -> dict:
    """Runs a command for at most `seconds`; its status and reason where it did not end well, else nothing."""
    with log.open("w") as output:
        # A session of its own: what hangs is ended with everything that it started.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"status": "hung", "reason": f"not done after {seconds:.0f} s; see {log}"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        reason = last_line(log.read_text(errors="replace"))
        return {"status": "not here" if code in NOT_HERE else "failed", "reason": reason}
    return {}


def command_of(part: Part, inputs: Path, folder: Path, size: Size, device: str) -> list[str]:
    """The whole command of a part."""
    flags = [flag.replace("{inputs}", str(inputs)) for flag in part.flags]
    if part.script == STREAMING:
        return [sys.executable, part.script, *size.world, "--device", device, "--output_dir", str(folder), *flags]
    if part.script != TURBO:
        return [
            sys.executable, part.script, "--random_weights", "--size", size.model, "--frames", str(size.frames),
            "--repeats", "1", "--variants", "turbo", "--device", device, "--profile", str(folder / "kernels.txt"),
        ]  # fmt: skip
    return [
        sys.executable, part.script, "--base_model_path", str(inputs / "model"),
        "--batch_folder", str(inputs / "clips"), "--ref_image_path", str(inputs / "person.png"),
        "--pose_backend", "file", "--pose_folder", str(inputs / "poses"), "--resolution", str(size.resolution),
        "--num_frames", str(size.frames), "--frames_overlap", "1", "--device", device,
        "--output_dir", str(folder), *flags,
        "turbo.lcm_lora_path=null", "output.page=false", "output.contact_sheet=false",
    ]  # fmt: skip


def read_turbo(folder: Path, started: float) -> dict:
    """Seconds of the second clip by stage, what the first one took, peak memory; from history and record."""
    from datetime import datetime

    lines = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    first, second = (line for line in lines if line["kind"] == "item")
    record = read_json(Path(second["output"]).with_suffix(".json"))
    stages = {name: round(value, 3) for name, value in second["stage_seconds"].items()}
    return {
        "figure": round(stages["sampling"] + stages["decoding"], 3),
        "unit": "s for sampling and decoding",
        "stage_seconds": stages,
        "first_stage_seconds": first["stage_seconds"],
        "first_result_after_s": round(datetime.fromisoformat(first["time"]).timestamp() - started, 1),
        "peak_gib": round(record["peak_memory_bytes"] / 2**30, 2),
        "vae_chunks_in_fp32": record["vae_chunks_in_fp32"],
    }


def read_streaming(folder: Path, _started: float) -> dict:
    """What the benchmark of the world model wrote; the figure is with decoding beside denoising, where it was."""
    figures = read_json(folder / "benchmark_streaming.json")
    peak = max(row["peak_mib"] for row in figures["memory"].values()) / 2**10
    beside = figures.get("overlapped", {"frames_per_second": 0})["frames_per_second"]
    best = max(figures["frames_per_second"]["with_decode"], beside)
    return {"figure": best, "unit": "frames a second", "peak_gib": round(peak, 2), "figures": figures}


def read_profile(folder: Path, _started: float) -> dict:
    """The table of kernels, which the page shows as it is."""
    return {"figure": None, "unit": "", "kernels": (folder / "kernels.txt").read_text()}


READERS = {TURBO: read_turbo, STREAMING: read_streaming, "scripts/benchmark_turbo.py": read_profile}


def write_results(out: Path, results: dict) -> None:
    """One JSON and one page."""
    from mimicmotion.files import write_bytes, write_json

    write_json(out / "benchmark_gpu.json", results)
    write_bytes(out / "benchmark_gpu.md", page(results).encode())


def page(results: dict) -> str:
    """Everything as Markdown: a table, the commands, the kernels."""
    machine = results["machine"]
    memory = f", {machine['memory_gib']} GiB" if "memory_gib" in machine else ""
    lines = ["# Benchmark", "", f"{machine['description']}{memory}; {results['size']}; drawn weights.", "", GOALS, ""]
    lines += ["| part | figure | goal | first result s | peak GiB | |", "|---|---|---|---|---|---|"]
    for part in results["parts"]:
        goal = "" if part["goal"] is None else f"{part['goal']:g}"
        figure = f"{part['figure']:g} {part['unit']}" if part.get("figure") is not None else part["status"]
        cells = [part["name"], figure, goal, part.get("first_result_after_s", ""), part.get("peak_gib", ""), note(part)]
        lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    lines += ["", "## Commands", ""]
    lines += [f"    {part['command']}" for part in results["parts"] if part["command"]]
    for part in results["parts"]:
        if "kernels" in part:
            lines += ["", f"## {part['name'].capitalize()}", "", "```", part["kernels"].rstrip(), "```"]
        if "profile" in part:
            lines += ["", f"## Where {part['name']} takes its time", "", *profile_table(part["profile"])]
    return "\n".join(lines) + "\n"


def profile_table(found: dict) -> list[str]:
    """The kernels of a profile, those that took the longest first."""
    lines = [f"{found['of'].capitalize()} of the whole command, {found['ms']:g} ms in all.", ""]
    lines += ["| ms | share | calls | |", "|---|---|---|---|"]
    for row in found["top"]:
        name = row["kernel"].replace("|", "/")
        lines.append(f"| {row['ms']:g} | {row['share']:.1%} | {row['calls']} | `{name[:120]}` |")
    return lines


def missed(part: dict) -> bool:
    """Whether a figure is worse than its goal."""
    figure, goal = part.get("figure"), part["goal"]
    return None not in (figure, goal) and (figure > goal if part["unit"].startswith("s ") else figure < goal)


def note(part: dict) -> str:
    """What there is to say beside a figure: a reason, a goal that is missed, a decoder that fell back to fp32."""
    if part["status"] != "done":
        return part["reason"]
    no_profile = f"no profile: {part['no_profile']}" if "no_profile" in part else ""
    fell_back = f"{part['vae_chunks_in_fp32']} chunks decoded in fp32" if part.get("vae_chunks_in_fp32") else ""
    return "; ".join(filter(None, ("goal missed" if missed(part) else "", no_profile, fell_back)))


def one_line(result: dict) -> str:
    """How a part went, for the terminal."""
    figure = f"{result['figure']:g} {result['unit']} " if result.get("figure") is not None else ""
    return f"{figure}{result['status']} {note(result)}".strip()


def environment() -> dict[str, str]:
    """The variables of a part: this checkout answers to the name of the package."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def read_json(path: Path) -> dict:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
        sys.exit(0)
    if sys.argv[1:2] == ["--profile"]:
        sys.exit(profile(Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
    sys.exit(main())

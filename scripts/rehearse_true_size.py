"""Rehearses the published sizes without the published weights: stand-ins of drawn numbers are loaded, fused and run.

python scripts/rehearse_true_size.py /data/rehearsal                  # needs minutes, 28 GB of disk, 13 GB of memory
python scripts/rehearse_true_size.py /data/rehearsal --parts lora     # needs minutes
python scripts/rehearse_true_size.py /data/rehearsal --keep off       # needs minutes, 19 GB of disk
python scripts/rehearse_true_size.py /tmp/rehearsal --scale 0.05      # needs minutes; a twentieth of the widths

What it makes in the folder has the layout and the size of the published files: Stable Video Diffusion in diffusers'
layout, MimicMotion_1-1.pth, a complete LCM UNet, a LoRA, and the three networks of Matrix-Game-2.0. Each part begins
with what it needs; that stays there for the next time, or with --keep off until no later part needs it. Pictures and
clips are small, since pictures of drawn weights mean nothing: this is about loading and memory. Each part runs in a
process of its own. Its table says what each stage took:

    seconds        of the clock; on a machine that others use they mean little
    CPU seconds    of all threads
    peak, after    GiB of this process's own memory, the most within the stage and what is left after it; files that are
                   only mapped are not in it
    resident       GiB at most so far, mapped files among them, which the system takes back when it needs to
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, guarded_console, setup_logging
from mimicmotion.errors import MimicMotionError, SetupError, UsageError
from mimicmotion.files import atomic_path, require_writable

ROOT = Path(__file__).resolve().parents[1]
SVD = "stable-video-diffusion-img2vid-xt-1-1"
RANK = 64
FRAMES, SIDE = 3, 64  # of the clip that is sampled
GIB = 2**30
OWN_MEMORY = 1.5 * GIB  # of Python with its packages, and of what a small clip needs
SAMPLED = 0.02  # seconds between two looks at the memory
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # of numbers, in safetensors files


@dataclass(frozen=True)
class StandIn:
    """A weight file: its tensors by name and shape, the type they are stored in, what draws each."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtype: str = "float32"
    salt: float = 0.0

    @property
    def size(self) -> int:
        """Its bytes, but for the list of names."""
        import math

        return {"float32": 4}.get(self.dtype, 2) * sum(math.prod(shape) for shape in self.shapes.values())


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    arguments = parse(argv)
    setup_logging()
    try:
        folder = require_writable(arguments.folder)
        parts = list(dict.fromkeys(arguments.parts))
        files = stand_ins(folder, arguments.scale)
        require_room(folder, parts, files, arguments.keep == "on")
        return rehearse(folder, parts, files, arguments)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where stand-ins are made and kept")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is run (default: all)")
    parser.add_argument("--keep", choices=("on", "off"), default="on", help="keep stand-ins (default: on)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the networks' widths, above 0 to 1 (default: 1)")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.scale <= 1:
        parser.error(f"--scale is {arguments.scale}; it must be above 0 and at most 1")
    return arguments


# What is made


def configs(scale: float) -> dict[str, dict]:
    """The published configuration of each component by its file, with fewer channels and layers for a lower scale."""
    files = sorted((ROOT / "configs" / "svd_xt").glob("*/*.json"))
    found = {f"{file.parent.name}/{file.name}": json.loads(file.read_text()) for file in files}
    if scale == 1:
        return found
    unet, vae, clip = (found[f"{part}/config.json"] for part in ("unet", "vae", "image_encoder"))
    unet["block_out_channels"] = [narrower(width, scale) for width in unet["block_out_channels"]]
    unet["num_attention_heads"] = [max(1, width // 64) for width in unet["block_out_channels"]]
    vae["block_out_channels"] = [narrower(width, scale, 32) for width in vae["block_out_channels"]]
    clip["num_attention_heads"] = max(1, round(16 * scale))
    clip["hidden_size"] = 80 * clip["num_attention_heads"]
    clip["intermediate_size"] = 4 * clip["hidden_size"]
    clip["num_hidden_layers"] = max(1, round(32 * scale))
    clip["projection_dim"] = unet["cross_attention_dim"] = narrower(1024, scale)
    return found


def narrower(width: int, scale: float, multiple: int = 64) -> int:
    """`width` times `scale`, as a multiple that heads and groups divide."""
    return max(multiple, round(width * scale / multiple) * multiple)


def world(folder: Path, scale: float):
    """Matrix-Game-2.0's universal model with its files in the rehearsal's folder; of a lower scale, the small one."""
    import dataclasses

    from mimicmotion.streaming import read_world

    if scale < 1:
        small = read_world(ROOT / "configs" / "streaming" / "tiny.yaml")
        return dataclasses.replace(small, weights_folder=str(folder / "world"), tiny_seed=None)
    true = read_world(ROOT / "configs" / "streaming" / "universal.yaml")
    clip = "clip.safetensors"  # without the text half of the published file, which nobody reads
    return dataclasses.replace(
        true, weights_folder=str(folder / "world"), height=SIDE, width=SIDE, vae_file="vae.safetensors", clip_file=clip
    )


def stand_ins(folder: Path, scale: float) -> dict[str, StandIn]:
    """Every file that can be made, by a name of its own; writes the configurations beside them."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, AutoencoderKLWan, UNetSpatioTemporalConditionModel
    from torch import nn
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    from mimicmotion.modules import PoseNet
    from mimicmotion.streaming import CausalWanModel

    settings, base = configs(scale), folder / SVD
    require_same_scale(folder, scale)
    for name, config in settings.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(json.dumps(config, indent=2) + "\n")
    there = world(folder, scale)
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel.from_config(settings["unet/config.json"])
        pose_net = PoseNet(noise_latent_channels=unet.config.block_out_channels[0])
        vae = AutoencoderKLTemporalDecoder.from_config(settings["vae/config.json"])
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(settings["image_encoder/config.json"]))
        model = CausalWanModel.from_config(there.model)
        wan_vae, wan_clip = AutoencoderKLWan(**there.vae), CLIPVisionModel(CLIPVisionConfig(**there.clip))
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    whole = {f"unet.{name}": shape for name, shape in shapes.items()}
    whole |= {f"pose_net.{name}": tuple(tensor.shape) for name, tensor in pose_net.state_dict().items()}
    layers = [(name, layer) for name, layer in unet.named_modules() if isinstance(layer, nn.Linear) and "block" in name]
    lora = {}
    for name, layer in layers:
        key = f"lora_unet_{name.replace('.', '_')}"
        lora |= {f"{key}.lora_down.weight": (RANK, layer.in_features), f"{key}.alpha": ()}
        lora[f"{key}.lora_up.weight"] = (layer.out_features, RANK)
    streamed = Path(there.weights_folder)
    return {
        "svd vae": StandIn(base / "vae" / "diffusion_pytorch_model.safetensors", shapes_of(vae)),
        "svd image encoder": StandIn(base / "image_encoder" / "model.safetensors", shapes_of(clip)),
        "svd unet": StandIn(base / "unet" / "diffusion_pytorch_model.safetensors", shapes),
        "mimicmotion": StandIn(folder / "MimicMotion_1-1.pth", whole, "float16", 0.05),
        "lcm unet": StandIn(folder / "AnimateLCM-SVD-xt-1.1.safetensors", shapes, salt=0.02),
        "lora": StandIn(folder / "lora.safetensors", lora, "float16"),
        "world": StandIn(
            streamed / there.model_file, {f"model.{n}": s for n, s in shapes_of(model).items()}, "bfloat16"
        ),
        "world vae": StandIn(streamed / there.vae_file, shapes_of(wan_vae)),
        "world clip": StandIn(streamed / there.clip_file, shapes_of(wan_clip)),
    }


def require_same_scale(folder: Path, scale: float) -> None:
    """Raises: UsageError where the folder has stand-ins of another scale."""
    note = folder / "scale.txt"
    if note.is_file() and note.read_text().strip() != str(scale):
        raise UsageError(f"{folder} has stand-ins of scale {note.read_text().strip()}; name another folder")
    note.write_text(f"{scale}\n")


def shapes_of(module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a network's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def make(file: StandIn) -> None:
    """Writes a stand-in unless it is there, tensor by tensor: it may be larger than the memory."""
    if file.path.is_file():
        return
    import torch
    from safetensors import safe_open

    print(f"making {file.path} ({file.size / 1e9:.2f} GB)", flush=True)
    dtype = getattr(torch, file.dtype)
    if file.path.suffix == ".safetensors":
        write_safetensors(file, dtype)
        return
    with atomic_path(file.path) as temporary:
        stored = StandIn(temporary.with_suffix(".safetensors"), file.shapes, file.dtype, file.salt)
        try:
            write_safetensors(stored, dtype)
            with safe_open(stored.path, framework="pt") as tensors:  # mapped, so that it is not read into memory
                torch.save({name: tensors.get_tensor(name) for name in file.shapes}, temporary)
        finally:
            stored.path.unlink(missing_ok=True)


def write_safetensors(file: StandIn, dtype) -> None:
    """The format is a length, a list of names with places, and the numbers one after the other."""
    import math

    import torch

    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in file.shapes.items():
        size = dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": NAMES[file.dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(file.path) as temporary, open(temporary, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, shape in file.shapes.items():
            stream.write(drawn(name, shape, file.salt).to(dtype).flatten().view(torch.uint8).numpy())


def drawn(name: str, shape: tuple[int, ...], salt: float):
    """The tensor of that name: signals keep their size in matrices, norms scale by 1; `salt` times another is added."""
    import torch

    network = name.removeprefix("unet.")

    def uniform(seed: str):
        generator = torch.Generator().manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:12], 16))
        bound = 0.8 / max(torch.empty(shape, device="meta")[0].numel(), 1) ** 0.5 if len(shape) > 1 else 0.01
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    if name.endswith("alpha"):
        return torch.tensor(RANK / 2)
    if len(shape) < 2:
        if name.endswith(("weight", "gamma")):
            return torch.ones(shape)
        return torch.full(shape, 0.5) if "mix_factor" in name else uniform(network)
    return uniform(network) + salt * uniform(f"{network} {salt}") if salt else uniform(network)


# What is run


@dataclass
class Stage:
    """What a stage took; bytes of memory."""

    name: str
    seconds: float
    cpu_seconds: float
    peak: int
    after: int
    resident: int


class Meter:
    """Measures the stages of a part in this process."""

    def __init__(self):
        self.stages: list[Stage] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what is done within."""
        peak, done = [own_memory()], threading.Event()

        def look() -> None:
            while not done.wait(SAMPLED):
                peak[0] = max(peak[0], own_memory())

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            done.set()
            watcher.join()
        after = own_memory()
        self.stages.append(Stage(name, wall, cpu, max(peak[0], after), after, memory_line("VmHWM")))


def own_memory() -> int:
    """Bytes that belong to this process alone, without mapped files."""
    return memory_line("RssAnon")


def memory_line(name: str, path: str = "/proc/self/status") -> int:
    """The bytes that a line of a file of /proc says."""
    with open(path) as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def run_turbo(folder: Path, scale: float, meter: Meter) -> None:
    """The files are hashed, loaded as MimicMotion, and one step of a small clip is sampled and decoded."""
    pipeline = load(folder, meter, hashed=True)
    sample(pipeline, meter)


def run_lora(folder: Path, scale: float, meter: Meter) -> None:
    """A LoRA is fused before the clip."""
    fuse(folder / "lora.safetensors", folder, meter, "fuse the LoRA")


def run_lcm(folder: Path, scale: float, meter: Meter) -> None:
    """A complete LCM UNet is merged as its difference to the base's before the clip."""
    fuse(folder / "AnimateLCM-SVD-xt-1.1.safetensors", folder, meter, "merge the LCM UNet")


def fuse(path: Path, folder: Path, meter: Meter, name: str) -> None:
    """The same with few-step weights."""
    from mimicmotion.weights import apply_lcm_weights

    pipeline = load(folder, meter)
    with meter.stage(name):
        apply_lcm_weights(pipeline, path, svd_base=folder / SVD)
    sample(pipeline, meter)


def load(folder: Path, meter: Meter, hashed: bool = False):
    """MimicMotion's pipeline in bf16, made of the stand-ins."""
    from mimicmotion.config import load_config
    from mimicmotion.weights import create_pipeline, weights_fingerprint

    names = {"base_model_path": str(folder / SVD), "ckpt_path": str(folder / "MimicMotion_1-1.pth")}
    config = load_config(given=names)
    if hashed:
        with meter.stage("hash"):
            weights_fingerprint(config)
    with meter.stage("load"):
        return create_pipeline(config, "cpu", "bf16", "fp32")


def sample(pipeline, meter: Meter) -> None:
    """One step of a small clip, and its frames."""
    import torch

    poses = torch.linspace(-1, 1, FRAMES * 3 * SIDE * SIDE).reshape(FRAMES, 3, SIDE, SIDE)
    picture = torch.linspace(0, 1, 3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE)
    options = {"height": SIDE, "width": SIDE, "tile_size": FRAMES, "tile_overlap": 1, "num_inference_steps": 1}
    options |= {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "output_type": "latent"}
    with meter.stage("sample 1 step"):
        latents = pipeline(picture, poses, generator=torch.Generator().manual_seed(0), **options).frames
    with meter.stage("decode"):
        pipeline.decode_latents(latents, FRAMES)


def run_streaming(folder: Path, scale: float, meter: Meter) -> None:
    """The world model is loaded, looks at a picture and plays two blocks."""
    import numpy as np
    import torch

    from mimicmotion.streaming import encode, get_mode, load_generator

    there = world(folder, scale)
    with meter.stage("load"):
        generator = load_generator(there, dtype=torch.bfloat16)
    with meter.stage("first picture"):
        state = generator.start(np.full((there.height, there.width, 3), 128, np.uint8), 0)
    for number in (1, 2):
        with meter.stage(f"block {number}"):
            generator.step(state, encode(get_mode(there.mode), "W"))


MIMICMOTION = ("svd vae", "svd image encoder", "mimicmotion")
PARTS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "turbo": (run_turbo, MIMICMOTION),
    "lora": (run_lora, (*MIMICMOTION, "lora")),
    "lcm": (run_lcm, (*MIMICMOTION, "svd unet", "lcm unet")),
    "streaming": (run_streaming, ("world", "world vae", "world clip")),
}


def needed(parts: list[str]) -> list[str]:
    """The stand-ins of the parts, each once."""
    return list(dict.fromkeys(name for part in parts for name in PARTS[part][1]))


def no_more_needed(part: str, parts: list[str]) -> list[str]:
    """The stand-ins that no part behind this one reads."""
    later = needed(parts[parts.index(part) + 1 :])
    return [name for name in needed([part]) if name not in later]


def disk_needed(parts: list[str], files: dict[str, StandIn], keep: bool) -> int:
    """Bytes at the moment of the most, beside what is there already."""
    there, used, most = {name for name, file in files.items() if file.path.is_file()}, 0, 0
    for part in parts:
        for name in needed([part]):
            if name not in there:
                there.add(name)
                used += files[name].size
                # A PyTorch file is made of a safetensors file beside it.
                most = max(most, used + files[name].size * (files[name].path.suffix == ".pth"))
        for name in [] if keep else no_more_needed(part, parts):
            there.discard(name)
            used -= files[name].size
    return most


def require_room(folder: Path, parts: list[str], files: dict[str, StandIn], keep: bool) -> None:
    """Raises: SetupError unless the disk has room for what is still to be made, the memory for what a part reads."""
    disk = disk_needed(parts, files, keep)
    memory = OWN_MEMORY + max(sum(files[name].size for name in PARTS[part][1]) for part in parts)
    free, available = shutil.disk_usage(folder).free, memory_line("MemAvailable", "/proc/meminfo")
    print(f"disk: {disk / 1e9:.2f} GB of {free / 1e9:.1f}; memory: {memory / 1e9:.1f} GB of {available / 1e9:.1f}")
    if disk > free:
        needs = f"{folder} needs {disk / 1e9:.1f} GB and has {free / 1e9:.1f}"
        raise SetupError(f"{needs}; use --parts, --keep off or another folder")
    if memory > available:
        needs = f"{memory / 1e9:.1f} GB of memory are needed and {available / 1e9:.1f} are free"
        raise SetupError(f"{needs}; use --parts, or a lower --scale in another folder")


def rehearse(folder: Path, parts: list[str], files: dict[str, StandIn], arguments: argparse.Namespace) -> int:
    """Makes what each part needs, runs it in a process of its own and prints its table; 1 where one failed."""
    failed = 0
    for part in parts:
        begin, missing = time.perf_counter(), [n for n in needed([part]) if not files[n].path.is_file()]
        for name in missing:
            make(files[name])
        if missing:
            print(f"made in {time.perf_counter() - begin:.0f} s", flush=True)
        # Memory of one part must not be that of the next.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                stages = pool.submit(measured, part, folder, arguments.scale).result()
                print(f"\n{table(part, stages)}", flush=True)
            except (MimicMotionError, BrokenProcessPool) as error:
                reason = error if isinstance(error, MimicMotionError) else "the system ended it, out of memory perhaps"
                print(f"\n{part}: failed: {reason}", file=sys.stderr, flush=True)
                failed += 1
        for name in [] if arguments.keep == "on" else no_more_needed(part, parts):
            files[name].path.unlink(missing_ok=True)
    return 1 if failed else 0


def measured(part: str, folder: Path, scale: float) -> list[Stage]:
    """The stages of a part; for a process of its own."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache" / part)  # nothing is known of the files
    shutil.rmtree(folder / "cache" / part, ignore_errors=True)
    meter = Meter()
    with meter.stage("import"):
        from diffusers import AutoencoderKLWan  # noqa: F401
        from transformers import CLIPVisionModelWithProjection  # noqa: F401

        from mimicmotion.pipelines import MimicMotionPipeline  # noqa: F401
    PARTS[part][0](folder, scale, meter)
    return meter.stages


def table(part: str, stages: list[Stage]) -> str:
    """A part's stages, a line each."""
    lines = [f"{part:20}{'seconds':>10}{'CPU s':>10}{'peak':>10}{'after':>10}{'resident':>10}"]
    for stage in stages:
        memory = "".join(f"{value / GIB:10.2f}" for value in (stage.peak, stage.after, stage.resident))
        lines.append(f"{stage.name:20}{stage.seconds:10.1f}{stage.cpu_seconds:10.1f}{memory}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

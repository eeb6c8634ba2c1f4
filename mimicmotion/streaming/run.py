"""What the streaming scripts do with their settings: load, play, record, save."""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from mimicmotion.config import Config
from mimicmotion.device import describe_device, resolve_device, resolve_dtype
from mimicmotion.errors import INTERRUPTED, UsageError
from mimicmotion.files import require_writable, sha256_file, write_json
from mimicmotion.gallery import refresh_page
from mimicmotion.progress import track
from mimicmotion.results import versions
from mimicmotion.streaming.actions import (
    ActionMode,
    Actions,
    bench_actions,
    by_block,
    frames_of,
    get_mode,
    idle,
    parse_script,
)
from mimicmotion.streaming.benchmark import as_table, measure
from mimicmotion.streaming.generator import StreamingGenerator, StreamState, load_image
from mimicmotion.streaming.loading import load_generator, random_generator
from mimicmotion.streaming.play import Terminal, ask_image, ask_to_stop, play_batch, play_session
from mimicmotion.streaming.recording import Recording
from mimicmotion.streaming.vae import frame_count
from mimicmotion.streaming.world import WorldConfig, read_world

logger = logging.getLogger(__name__)

BENCH = "bench"
BENCH_LATENTS = 150


def run_causal(config: Config) -> int:
    """Batch mode: prepared actions to demo.mp4 and demo_icon.mp4. Returns the exit code."""
    settings = config.streaming
    world = world_of(config)
    frames, count = planned_frames(config, get_mode(world.mode))
    latents = settings.num_latents or (BENCH_LATENTS if count is None else latents_for(count, world.frames_per_block))
    blocks = blocks_of(latents, world.frames_per_block)
    image = load_image(settings.image)
    recording = make_recording(config, world, "demo")
    generator = create_generator(config, world)
    logger.info("%d latents in %d blocks: %d frames", latents, blocks, frame_count(latents))
    # A script that is shorter than the run ends without moves.
    frames = itertools.chain(frames, itertools.repeat(idle(generator.mode)))
    actions = itertools.islice(by_block(frames, generator.mode, world.frames_per_block), blocks)
    state = generator.start(image, settings.seed)
    play_batch(generator, state, recording, track(actions, "generating", blocks, "block"))
    report(recording, generator, config, Path(settings.image))
    return 0


def run_streaming(config: Config) -> int:
    """Interactive mode, or a session of prepared actions without questions. Returns the exit code."""
    settings = config.streaming
    world = world_of(config)
    size = world.frames_per_block
    blocks = None if settings.max_latents is None else blocks_of(settings.max_latents, size)
    frames, _ = planned_frames(config, get_mode(world.mode)) if settings.actions else (None, None)
    require_writable(config.output.output_dir)
    generator = create_generator(config, world)
    try:
        while True:
            path, state = begin_session(generator, config)
            actions = None
            if frames is not None:
                if settings.actions == BENCH:
                    frames = itertools.islice(frames, state.frames_done, None)
                actions = by_block(frames, generator.mode, size, state.start)
            recording = make_recording(config, world, path.stem)
            first = state.start
            end = play_session(generator, state, recording, Terminal(), actions, blocks)
            report(recording, generator, config, path, first)
            if settings.save_state:
                generator.save_state(state, settings.save_state)
                print(f"saved {settings.save_state}; go on with --resume_from {settings.save_state}")
            if end is not None:
                return INTERRUPTED if isinstance(end, KeyboardInterrupt) else 0
            if actions is not None or settings.resume_from or ask_to_stop(Terminal()):
                return 0
    except EOFError:
        print()
        return 0


def run_benchmark(config: Config) -> int:
    """Times a session of bench actions, prints the table and writes it as JSON. Returns the exit code."""
    settings = config.streaming
    world = world_of(config)
    image = load_image(settings.image)
    folder = require_writable(config.output.output_dir)
    generator = create_generator(config, world)
    frames = bench_actions(generator.mode, settings.seed)
    actions = itertools.islice(by_block(frames, generator.mode, world.frames_per_block), settings.benchmark_blocks)
    figures = measure(generator, image, track(actions, "generating", settings.benchmark_blocks, "block"))
    figures |= {"config": settings.config_path, "dtype": str(generator.model.dtype), "compiled": config.runtime.compile}
    print(as_table(figures))
    write_json(folder / "benchmark_streaming.json", figures)
    return 0


def begin_session(generator: StreamingGenerator, config: Config) -> tuple[Path, StreamState]:
    """A new session, from a picture that is asked for unless actions are prepared, or a saved one; and its name.

    Raises: InputError for a picture or session that cannot be read; EOFError, KeyboardInterrupt when asking.
    """
    settings = config.streaming
    if settings.resume_from:
        return Path(settings.resume_from), generator.load_state(settings.resume_from)
    if settings.actions:
        path, image = Path(settings.image), load_image(settings.image)
    else:
        path, image = ask_image(Terminal(), settings.image)
    return path, generator.start(image, settings.seed)


def world_of(config: Config) -> WorldConfig:
    """The streaming config that `config` names, with the weight files that it sets itself. Raises: UsageError."""
    settings = config.streaming
    world = read_world(settings.config_path)
    if settings.weights_folder is not None:
        world = dataclasses.replace(world, weights_folder=settings.weights_folder)
    if settings.checkpoint_path is not None:
        world = dataclasses.replace(world, model_file=str(Path(settings.checkpoint_path).absolute()))
    return world


def create_generator(config: Config, world: WorldConfig) -> StreamingGenerator:
    """The generator of `world` on the device and in the precisions of `config`. Raises: as load_generator."""
    settings = config.streaming
    device = resolve_device(config.runtime.device)
    on_gpu = device.type == "cuda"
    create = random_generator if settings.random_weights else load_generator
    generator = create(
        world,
        device=device,
        dtype=_dtype(config.runtime.dtype, "bf16" if on_gpu else "fp32", device),
        encode_dtype=_dtype(settings.encode_dtype, "fp32", device),
        decode_dtype=_dtype(settings.decode_dtype, "fp16" if on_gpu else "fp32", device),
        attention_backend=settings.attention,
    )
    if config.runtime.compile:
        generator.compile()
    return generator


def planned_frames(config: Config, mode: ActionMode) -> tuple[Iterator[Actions], int | None]:
    """The action frames of streaming.actions one by one, and how many they are: None for bench, without end.

    Raises: UsageError for a malformed script or one that cannot be read.
    """
    text = config.streaming.actions or BENCH
    if text == BENCH:
        return bench_actions(mode, config.streaming.seed), None
    with contextlib.suppress(OSError):  # a long script is no possible file name
        if Path(text).is_file():
            text = _read_text(Path(text))
    actions = parse_script(mode, text)
    return frames_of(actions), len(actions)


def latents_for(frames: int, frames_per_block: int) -> int:
    """Latents of the shortest run of whole blocks with at least `frames` video frames."""
    blocks = next(n for n in itertools.count(1) if frame_count(n * frames_per_block) >= frames)
    return blocks * frames_per_block


def blocks_of(latents: int, frames_per_block: int) -> int:
    """Blocks of a run of `latents` latents. Raises: UsageError when they do not divide."""
    if latents % frames_per_block:
        lower = max(latents // frames_per_block, 1) * frames_per_block
        raise UsageError(
            f"{latents} latents do not divide into blocks of {frames_per_block}; "
            f"take {lower} or {lower + frames_per_block}"
        )
    return latents // frames_per_block


def make_recording(config: Config, world: WorldConfig, stem: str) -> Recording:
    """The recording of a session in the output folder. Raises: SetupError when nothing can be written there."""
    folder = require_writable(config.output.output_dir)
    return Recording(folder, stem, get_mode(world.mode), config.streaming.fps, config.output.crf)


def report(
    recording: Recording, generator: StreamingGenerator, config: Config, begun_from: Path, first: int = 0
) -> None:
    """Prints which videos a session left and how long they are, and writes the record of how they were made.

    begun_from: the first picture, or the saved session that goes on; first: index of the session's first latent.
    Raises: SetupError for a full disk.
    """
    if not recording.frames:
        print("no frame was made, so no video was saved")
        return
    videos = (recording.clean_path, recording.icon_path)
    record = {
        "videos": {path.name: sha256_file(path) for path in videos},
        "frames": recording.frames,
        "begun_from": {"path": str(begun_from), "sha256": sha256_file(begun_from), "first_latent": first},
        "seed": config.streaming.seed,
        "mode": generator.mode.name,
        "actions": recording.actions_taken,
        "generator": generator.fingerprint(),
        "sigmas": generator.scheduler.sigmas.tolist(),
        "settings": dataclasses.asdict(config.streaming),
        "device": describe_device(generator.model.device),
        "dtype": str(generator.model.dtype),
        "versions": versions(),
    }
    write_json(recording.clean_path.with_suffix(".json"), record)
    if config.output.page:
        refresh_page(config.output.output_dir)
    for path in (recording.clean_path, recording.icon_path):
        print(f"saved {path} ({recording.frames} frames)")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the action script {path}: {error}") from error


def _dtype(name: str, automatic: str, device: torch.device) -> torch.dtype:
    return resolve_dtype(automatic if name == "auto" else name, device)

"""What the streaming scripts do with their settings: load, play, record, save."""

import dataclasses
import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from mimicmotion.cli import interrupts_deferred, say
from mimicmotion.config import Config, StreamingSettings
from mimicmotion.device import describe_device, resolve_device, resolve_dtype
from mimicmotion.errors import INTERRUPTED, UsageError
from mimicmotion.files import (
    require_writable,
    require_writable_file,
    sealed,
    sha256_file,
    writable_stem,
    write_json,
)
from mimicmotion.gallery import refresh_page
from mimicmotion.progress import track
from mimicmotion.results import RunLog, provenance, recorded, require_places, versions
from mimicmotion.streaming.actions import Actions, bench_actions, by_block, get_mode, idle
from mimicmotion.streaming.beginning import (
    Session,
    begin_session,
    prepared_frames,
    replaying,
    require_beginning,
    save_session,
)
from mimicmotion.streaming.benchmark import as_table, measure, measure_overlapped
from mimicmotion.streaming.generator import StreamingGenerator, load_image
from mimicmotion.streaming.loading import load_generator, random_generator
from mimicmotion.streaming.overlap import overlap_pays
from mimicmotion.streaming.play import Terminal, ask_to_stop, play_batch, play_session
from mimicmotion.streaming.recording import Recording
from mimicmotion.streaming.replay import (
    earlier_blocks,
    judge_replay,
    log_of_state,
    log_path,
    require_played,
    session_stem,
)
from mimicmotion.streaming.session_log import ENDING, SessionLog, header_of, require_equal_generator
from mimicmotion.streaming.sources import BENCH
from mimicmotion.streaming.texts import ENGLISH, Texts, texts_for
from mimicmotion.streaming.vae import frame_count
from mimicmotion.streaming.world import WorldConfig, read_world
from mimicmotion.weights import FULL, WAN_DECODERS, decoder_sha256, find_decoder, weights_sha256

logger = logging.getLogger(__name__)

BENCH_LATENTS = 150


def run_causal(config: Config) -> int:
    """Batch mode: prepared actions to demo.mp4 and demo_icon.mp4. Returns the exit code."""
    world, replayed = world_of(config), None
    if config.streaming.replay:
        config, replayed = replaying(config, world)
    settings = config.streaming
    size = world.frames_per_block
    frames, count = prepared_frames(settings, world, replayed)
    latents = settings.num_latents or (BENCH_LATENTS if count is None else latents_for(count, size))
    if replayed:
        latents = settings.num_latents or len(replayed.blocks) * size
        require_played(replayed, blocks_of(latents, size), from_picture=True)
    blocks = blocks_of(latents, size)
    image = replayed.header.picture if replayed else load_image(settings.image, config.reference)
    recording = make_recording(config, world, "demo")
    generator = create_generator(config, world)
    if replayed:
        require_equal_generator(replayed, generator, settings.replay)
    logger.info("%d latents in %d blocks: %d frames", latents, blocks, frame_count(latents))
    # A script that is shorter than the run ends without moves.
    frames = itertools.chain(frames, itertools.repeat(idle(generator.mode)))
    actions = itertools.islice(by_block(frames, generator.mode, size), blocks)
    picture = generator.take_picture(image)
    state = generator.start(picture, settings.seed)
    recording.log = SessionLog(header_of(generator, settings.seed, settings.fps, picture))
    with recorded(config.output.output_dir, config) as log:
        actions = track(actions, "generating", blocks, "block")
        play_batch(generator, state, recording, actions, overlaps(config, generator))
        report(recording, generator, config, Path(settings.replay or settings.image))
        log.exit_code = judge_replay(replayed, recording.log, settings.replay)
        status = "failed" if log.exit_code else "done"
        log.item(output=str(recording.clean_path), status=status, frames=recording.frames)
        return log.exit_code


def run_streaming(config: Config) -> int:
    """Interactive mode, or a session of prepared actions without questions. Returns the exit code."""
    world, replayed = world_of(config), None
    if config.streaming.replay:
        config, replayed = replaying(config, world)
    settings = config.streaming
    size = world.frames_per_block
    blocks = None if settings.max_latents is None else blocks_of(settings.max_latents, size)
    frames = None
    if settings.actions or replayed:
        frames, _ = prepared_frames(settings, world, replayed)
    if replayed:
        require_played(replayed, blocks)
    require_beginning(settings)
    require_writable(config.output.output_dir)
    if settings.save_state:
        for path in (settings.save_state, log_path(settings.save_state)):
            require_writable_file(path, "--save_state")
    before = log_of_state(settings) if settings.resume_from else None
    generator = create_generator(config, world)
    if replayed:
        require_equal_generator(replayed, generator, settings.replay)
    terminal = make_terminal(settings)
    with recorded(config.output.output_dir, config) as log:
        try:
            while True:
                session = begin_session(generator, config, terminal, replayed, before)
                actions = None
                if frames is not None:
                    if settings.actions == BENCH:
                        frames = itertools.islice(frames, session.state.frames_done, None)
                    actions = by_block(frames, generator.mode, size, session.state.start)
                end, log.exit_code = run_session(generator, session, terminal, actions, blocks, config, world, log)
                if end is not None:
                    log.exit_code = INTERRUPTED if isinstance(end, KeyboardInterrupt) else log.exit_code
                    return log.exit_code
                if actions is not None or settings.resume_from or ask_to_stop(terminal):
                    return log.exit_code
        except EOFError:
            say()
            return 0


def make_terminal(settings: StreamingSettings) -> Terminal:
    """Standard input and output, in the language that is asked for or that of the terminal."""
    encoding = getattr(sys.stdout, "encoding", None)
    texts = texts_for(settings.lang, os.environ, encoding)
    return dataclasses.replace(Terminal(), texts=texts, questions=settings.ask)


def run_session(
    generator: StreamingGenerator,
    session: Session,
    terminal: Terminal,
    actions: Iterator[Actions] | None,
    blocks: int | None,
    config: Config,
    world: WorldConfig,
    log: RunLog,
) -> tuple[BaseException | None, int]:
    """Plays one session, then writes its record and saves it if asked for; what ended it early, as `play_session`, and
    the exit code, as `judge_replay`.
    """
    settings, state = config.streaming, session.state
    first, earlier, overlap = state.start, (), overlaps(config, generator)
    recording = make_recording(config, world, writable_stem(session.stem))
    recording.log = session.log
    if settings.whole:
        first = 0
        earlier = track(earlier_blocks(generator, session.log, overlap), "again", len(session.log.blocks), "block")
    end = play_session(generator, state, recording, terminal, actions, blocks, overlap, earlier)
    with interrupts_deferred():
        try:
            report(recording, generator, config, session.begun_from, first, terminal.texts)
        finally:  # a full disk in one place leaves the other
            if settings.save_state:
                save_session(generator, state, recording, settings.save_state)
                say(terminal.texts.saved_session.format(path=settings.save_state))
        code = judge_replay(session.replayed, recording.log, settings.replay)
        status = "failed" if code else "done" if end is None else "interrupted"
        log.item(output=str(recording.clean_path), status=status, frames=recording.frames)
    return end, code


def run_benchmark(config: Config) -> int:
    """Times a session of bench actions, and again with decoding beside denoising unless that is off; prints the table
    and writes it as JSON. Returns the exit code.
    """
    settings = config.streaming
    world = world_of(config)
    image = load_image(settings.image, config.reference)
    folder = require_writable(config.output.output_dir)
    generator = create_generator(config, world)
    frames = bench_actions(generator.mode, settings.seed)
    blocks = settings.benchmark_blocks
    actions = list(itertools.islice(by_block(frames, generator.mode, world.frames_per_block), blocks))
    plain, beside = hashlib.sha256(), hashlib.sha256()
    figures = measure(generator, image, track(actions, "generating", blocks, "block"), plain)
    if settings.overlap != "off":
        again = track(actions, "generating", blocks, "block")
        figures["overlapped"] = measure_overlapped(generator, image, again, beside)
        figures["overlapped"]["frames_equal"] = plain.digest() == beside.digest()
    figures |= {"config": settings.config_path, "dtype": str(generator.model.dtype), "compiled": config.runtime.compile}
    figures |= {"decoder": settings.decoder, "threads": torch.get_num_threads()}
    say(as_table(figures))
    write_json(folder / "benchmark_streaming.json", figures)
    return 0


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
    create = load_generator
    if settings.random_weights:
        create, decoder = random_generator, None if settings.decoder == FULL else settings.decoder
    else:
        decoder = find_decoder(settings.decoder, WAN_DECODERS)
        if config.runtime.verify_weights:
            verify_weights(world)
            decoder_sha256(settings.decoder, WAN_DECODERS, anew=True)
    generator = create(
        world,
        device=device,
        dtype=_dtype(config.runtime.dtype, "bf16" if on_gpu else "fp32", device),
        encode_dtype=_dtype(settings.encode_dtype, "fp32", device),
        decode_dtype=_dtype(settings.decode_dtype, "fp16" if on_gpu else "fp32", device),
        attention_backend=settings.attention,
        decoder=decoder,
    )
    if config.runtime.compile:
        generator.compile()
    return generator


def overlaps(config: Config, generator: StreamingGenerator) -> bool:
    """Whether a block is to be decoded while the next one is denoised."""
    asked = config.streaming.overlap
    return overlap_pays(generator.model.device) if asked == "auto" else asked == "on"


def verify_weights(world: WorldConfig) -> None:
    """Compares every weight file that is there with its hash. Raises: SetupError for one that is another."""
    for name in (world.model_file, world.vae_file, world.clip_file):
        path = Path(world.weights_folder) / name
        if path.is_file():
            weights_sha256(path, anew=True)


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
    """The recording of a session in the output folder, under a name that no earlier one has, unless those may be
    overwritten.

    Raises: SetupError when nothing can be written there; InputError when a folder lies in a file's place.
    """
    folder = require_writable(config.output.output_dir)
    if config.output.variant:
        stem = f"{stem}.{config.output.variant}"
    if not config.output.overwrite:
        stem = unused_stem(folder, stem)
    recording = Recording(folder, stem, get_mode(world.mode), config.streaming.fps, config.output.crf)
    clean = recording.clean_path
    require_places(clean, recording.icon_path, recording.current_path, clean.with_suffix(".json"), recording.log_path)
    return recording


def unused_stem(folder: Path, stem: str) -> str:
    """`stem`, or where a session left videos or a log of that name, stem-002, stem-003 and so on."""
    taken = {path.stem for path in folder.glob("*.mp4")}
    taken |= {session_stem(path) for path in folder.glob(f"*{ENDING}")}
    names = itertools.chain([stem], (f"{stem}-{number:03d}" for number in itertools.count(2)))
    return next(name for name in names if not {name, f"{name}_icon"} & taken)


def report(
    recording: Recording,
    generator: StreamingGenerator,
    config: Config,
    begun_from: Path,
    first: int = 0,
    texts: Texts = ENGLISH,
) -> None:
    """Prints which videos a session left and how long they are, and writes the record of how they were made.

    begun_from: the first picture, or the saved session that goes on; first: index of the session's first latent.
    Raises: SetupError for a full disk.
    """
    if not recording.frames:
        say(texts.no_frame)
        return
    recording.write_log()
    videos = (recording.clean_path, recording.icon_path)
    record = {
        "videos": {path.name: sha256_file(path) for path in videos},
        "frames": recording.frames,
        "begun_from": {"path": str(begun_from), "sha256": sha256_file(begun_from), "first_latent": first},
        "seed": recording.log.header.seed,
        "session_log": recording.log_path.name,
        "mode": generator.mode.name,
        "actions": recording.actions_taken,
        "generator": generator.fingerprint(),
        "sigmas": generator.scheduler.sigmas.tolist(),
        "settings": dataclasses.asdict(config.streaming),
        "reference": dataclasses.asdict(config.reference),
        "device": describe_device(generator.model.device),
        "dtype": str(generator.model.dtype),
        "versions": versions(),
        "made": provenance(config),
    }
    write_json(recording.clean_path.with_suffix(".json"), sealed(record))
    if config.output.page:
        refresh_page(config.output.output_dir)
    for path in (recording.clean_path, recording.icon_path):
        say(texts.saved_video.format(path=path, frames=recording.frames))


def _dtype(name: str, automatic: str, device: torch.device) -> torch.dtype:
    return resolve_dtype(automatic if name == "auto" else name, device)

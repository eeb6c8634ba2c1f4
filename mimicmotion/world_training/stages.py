"""Runs one stage of the world model's training from its settings."""

import logging
from pathlib import Path

import torch

from mimicmotion.errors import MimicMotionError
from mimicmotion.files import sha256_file
from mimicmotion.streaming import WorldConfig, load_clip, load_vae, read_world
from mimicmotion.training import make_accelerator, train
from mimicmotion.weights import note_weights
from mimicmotion.world_training.options import (
    EVALUATION_SEED,
    CourtyardOptions,
    DecoderOptions,
    EvaluateOptions,
    GateOptions,
    VaeOptions,
    WorldOptions,
)
from mimicmotion.worlds import get_walk

log = logging.getLogger(__name__)

UNSEEN = 24  # sessions that figures during the training are taken from


def run_stage(options: CourtyardOptions) -> bool:
    """Prepares what the stage learns from and trains. Returns and raises: as `loop.train` and `open_frames`.

    Raises: MimicMotionError when the gate is not passed.
    """
    world = read_world(options.world)
    accelerator = make_accelerator(options)
    make_stage = {"vae": vae_stage, "world": world_stage, "gate": world_stage, "decoder": decoder_stage}[options.name]
    stage = make_stage(options, world, accelerator.device)
    try:
        finished = train(stage, accelerator)
    finally:
        # An interrupted stage has exported its part as well.
        note_weights(options.out)
    log.info("%s: %s", options.name, "done" if finished else "stopped")
    if finished and isinstance(options, GateOptions):
        judge_gate(stage.gaps(stage.unseen), options.needed)
    return finished


def vae_stage(options: VaeOptions, world: WorldConfig, device):
    """The stage of the VAE with its rendered sessions."""
    from mimicmotion.world_training.frames import open_frames
    from mimicmotion.world_training.vae_stage import VaeStage

    walk = get_walk(options.walk)
    return VaeStage(options, world, open_frames(options.run_dir / "frames", options.clips, walk), walk, device)


def decoder_stage(options: DecoderOptions, world: WorldConfig, device):
    """The stage of the decoder with its sessions, true and as the transformer of `init_from` plays them."""
    import copy

    from mimicmotion.streaming import StreamingVAE
    from mimicmotion.world_training.decoder_stage import DecoderStage
    from mimicmotion.world_training.frames import open_frames
    from mimicmotion.world_training.latents import SessionEncoder, made_by, open_latents
    from mimicmotion.world_training.played import open_played
    from mimicmotion.world_training.vae_stage import make_vae
    from mimicmotion.world_training.world_stage import WorldStage

    walk, start = get_walk(options.walk), options.init_from
    vae = make_vae(world, start, options.step_seed(-1))
    coders = StreamingVAE(copy.deepcopy(vae)), load_image_encoder(start, world)
    encoder = SessionEncoder(*coders, world.height, world.width, walk)
    frames = open_frames(options.run_dir / "frames", options.clips, walk)
    pool = open_latents(options.run_dir / "latents", encoder, options.clips, frames)
    player = WorldStage(WorldOptions(init_from=start), world, pool, pool, torch.device("cpu"))
    facts = made_by(encoder) | {"transformer": sha256_file(start / world.model_file)}
    played = open_played(options.run_dir / "played", player, facts)
    return DecoderStage(options, world, vae, frames, pool, played, walk, device)


def world_stage(options: WorldOptions, world: WorldConfig, device):
    """The stage of the transformer, or its gate at small size, with the latents of its sessions."""
    from mimicmotion.world_training.frames import open_frames
    from mimicmotion.world_training.latents import SessionEncoder, open_latents
    from mimicmotion.world_training.play import make_player
    from mimicmotion.world_training.world_stage import WorldStage
    from mimicmotion.worlds import TURNING

    walk = get_walk(options.walk)
    vae, clip = load_coders(options.out, world)
    small = options.height is not None
    size = (options.height, options.width) if small else (world.height, world.width)
    encoder = SessionEncoder(vae, clip, *size, walk, TURNING if isinstance(options, GateOptions) else None)
    folder = options.run_dir / ("latents_{}_{}x{}".format(options.name, *size) if small else "latents")
    frames = None if small else open_frames(options.run_dir / "frames", options.clips, walk)
    pool = open_latents(folder, encoder, options.clips, frames)
    unseen = open_latents(folder, encoder, UNSEEN, None, EVALUATION_SEED)
    return WorldStage(options, world, pool, unseen, device, None if small else make_player(world, vae, clip, walk))


def unseen_stage(options: EvaluateOptions):
    """A stage of the finished transformer that only has sessions it was not trained on."""
    import tempfile

    from mimicmotion.world_training.latents import SessionEncoder, open_latents
    from mimicmotion.world_training.world_stage import WorldStage

    world = read_world(options.world)
    vae, clip = load_coders(options.out, world)
    encoder = SessionEncoder(vae, clip, world.height, world.width, get_walk(options.walk))
    with tempfile.TemporaryDirectory() as folder:
        unseen = open_latents(Path(folder), encoder, options.sessions, None, EVALUATION_SEED + UNSEEN)
    return WorldStage(WorldOptions(init_from=options.out), world, unseen, unseen, torch.device("cpu"))


def load_coders(folder: Path, world: WorldConfig):
    """The finished VAE and the image encoder, which is drawn where it is missing."""
    from mimicmotion.streaming import StreamingVAE

    return StreamingVAE(load_vae(folder / world.vae_file, world.vae)), load_image_encoder(folder, world)


def load_image_encoder(folder: Path, world: WorldConfig):
    """The image encoder, which is drawn where it is missing."""
    from mimicmotion.streaming import ImageEncoder

    return ImageEncoder(load_clip(ensure_clip(folder / world.clip_file, world), world.clip))


def ensure_clip(path: Path, world: WorldConfig) -> Path:
    """`path` of the image encoder, drawn and written where it is missing: it stays as it was drawn.

    The model learns to use what a drawn tower tells of the first image; later blocks hardly need it.
    """
    if not path.is_file():
        from transformers import CLIPVisionConfig, CLIPVisionModel

        from mimicmotion.streaming import draw_weights
        from mimicmotion.world_training.export import write_part

        clip = CLIPVisionModel(CLIPVisionConfig(**world.clip))
        draw_weights(clip, 0)
        write_part(clip.state_dict(), path)
    return path


def judge_gate(gaps: dict[str, float], needed: float) -> None:
    """Prints the gaps. Raises: MimicMotionError when right actions do not beat another session's by `needed` dB."""
    gap = gaps["right"] - gaps["other"]
    print(f"right actions {gaps['right']:.2f} dB, {gap:.2f} dB above another session's; {needed:.2f} needed")
    if not gap >= needed:
        raise MimicMotionError("the gate is not passed: something in the actions' way into the model is wrong")

"""Runs one stage of the training from its settings."""

import logging

from mimicmotion.training.loop import make_accelerator, train
from mimicmotion.training.options import StageOptions
from mimicmotion.training.pool import open_pool
from mimicmotion.weights import note_weights

log = logging.getLogger(__name__)

LATENT_STAGES = ("unet", "lcm")


def run_stage(options: StageOptions) -> bool:
    """Renders the pool if need be and trains. Returns and raises: as `loop.train` and `pool.open_pool`."""
    pool = open_pool(options.pool_folder, options.clips, options.processes)
    accelerator = make_accelerator(options)
    data = pool
    if options.name in LATENT_STAGES:
        from mimicmotion.training.latent_pool import open_latents

        data = open_latents(pool, options.run_dir / "latents", options.out, accelerator.device)
    stage = stage_class(options.name)(options, data, accelerator.device)
    try:
        finished = train(stage, accelerator)
    finally:
        # An interrupted stage has exported its part as well.
        note_weights(options.out)
    log.info("%s: %s; its part of the model is in %s", options.name, "done" if finished else "stopped", options.out)
    return finished


def stage_class(name: str):
    """The class of a stage; it is imported only here, so that one stage needs nothing of another."""
    if name == "vae":
        from mimicmotion.training.vae_stage import VaeStage as Stage
    elif name == "encoder":
        from mimicmotion.training.encoder_stage import EncoderStage as Stage
    elif name == "unet":
        from mimicmotion.training.unet_stage import UnetStage as Stage
    elif name == "lcm":
        from mimicmotion.training.lcm_stage import LcmStage as Stage
    elif name == "decoder":
        from mimicmotion.training.decoder_stage import DecoderStage as Stage
    else:
        raise ValueError(f"no stage {name!r}")
    return Stage

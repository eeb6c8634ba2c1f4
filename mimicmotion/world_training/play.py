"""Sessions of the real generator with weights that are being trained: what a sheet shows and a first judgement."""

from collections.abc import Callable

import numpy as np
import torch

from mimicmotion.streaming import (
    CausalWanModel,
    ImageEncoder,
    StreamingGenerator,
    StreamingVAE,
    WorldConfig,
    encode,
    get_mode,
)
from mimicmotion.world_training.options import EVALUATION_SEED
from mimicmotion.worlds import BLOCK, FIRST_BLOCK, JUDGED_KEYS, Walk, nearest_key, open_place, true_videos

BLOCKS = 4


def make_player(
    world: WorldConfig, vae: StreamingVAE, image_encoder: ImageEncoder, walk: Walk, places: int = 1
) -> Callable:
    """A function from weights to the rows of a sheet and {"obeyed": share of sessions that were taken for their key}.

    Every session holds one key for BLOCKS blocks; it counts by its frames after the first block.
    """
    model = CausalWanModel.from_config(world.model)
    generator = make_generator(world, model, vae, image_encoder)

    def play(state: dict[str, torch.Tensor]) -> tuple[list, dict[str, float]]:
        model.load_state_dict(state)
        rows, right = [], 0
        for place in range(places):
            camera = open_place(EVALUATION_SEED + place, walk)
            frames = FIRST_BLOCK + BLOCK * (BLOCKS - 1)
            true = true_videos(camera, frames, walk)
            for key in JUDGED_KEYS:
                made = play_key(generator, true[key][0], key, BLOCKS)
                told = nearest_key(made[FIRST_BLOCK:], {name: video[FIRST_BLOCK:] for name, video in true.items()})
                right += told == key
                rows += [(f"{key} made, taken for {told}", made[8::6]), (f"{key} true", true[key][8::6])]
        return rows, {"obeyed": right / (places * len(JUDGED_KEYS))}

    return play


def play_key(generator: StreamingGenerator, image: np.ndarray, key: str, blocks: int, seed: int = 0) -> np.ndarray:
    """Frames of a session that holds a key from its first image on."""
    action = encode(get_mode("universal"), key)
    return generator.generate(image, [action] * blocks, seed)


def make_generator(
    world: WorldConfig, model: CausalWanModel, vae: StreamingVAE, image_encoder: ImageEncoder
) -> StreamingGenerator:
    """The runtime of `world` around networks in memory."""
    return StreamingGenerator(
        model,
        vae,
        image_encoder,
        get_mode(world.mode),
        height=world.height,
        width=world.width,
        steps=world.denoising_steps,
        shift=world.timestep_shift,
        context_noise=world.context_noise,
        frames_per_block=world.frames_per_block,
    )

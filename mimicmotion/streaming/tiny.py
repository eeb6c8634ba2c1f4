"""A stand-in of the published layout: the true classes at a small size, with weights drawn from a seed.

It makes everything run on a laptop in seconds; its pictures mean nothing. The files have the layout of published
weights and are read by the same code.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mimicmotion.files import sha256_json, write_tensors
from mimicmotion.streaming.model import CausalWanModel
from mimicmotion.weights import open_tensors

if TYPE_CHECKING:
    from mimicmotion.streaming.world import WorldConfig

logger = logging.getLogger(__name__)

DRAWN = "drawn"  # metadata key: what the weights of a file were drawn from
BIAS_SCALE = 0.02


def ensure_weights(world: "WorldConfig") -> None:
    """Draws the weight files of `world` that are missing or were drawn for other sizes, and says what they are.

    Files that were not drawn, such as trained ones, are left alone. Raises: SetupError for a damaged file or a
    folder that cannot be written.
    """
    from diffusers import AutoencoderKLWan
    from transformers import CLIPVisionConfig, CLIPVisionModel

    builders = {
        world.model_file: (world.model, CausalWanModel.from_config),
        world.vae_file: (world.vae, lambda sizes: AutoencoderKLWan(**sizes)),
        world.clip_file: (world.clip, lambda sizes: CLIPVisionModel(CLIPVisionConfig(**sizes))),
    }
    for offset, (name, (sizes, build)) in enumerate(builders.items()):
        path, seed = Path(world.weights_folder) / name, world.tiny_seed + offset
        recipe = sha256_json([sizes, seed])
        found = open_tensors(path).metadata.get(DRAWN) if path.exists() else "nothing"
        if found is None:
            continue
        logger.warning("%s has weights drawn by chance: the picture means nothing", path)
        if found != recipe:
            prefix = "model." if name == world.model_file else ""
            _write(build(sizes), path, seed, prefix, recipe)


def draw_weights(module: nn.Module, seed: int) -> None:
    """Fills the parameters of a new `module` in the order of their names: equal seeds give equal weights.

    Matrices and convolutions keep the size of their input, vectors are small, weights of norms stay at 1.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    for _, parameter in sorted(module.named_parameters()):
        if torch.all(parameter == 1):
            continue
        scale = BIAS_SCALE if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data.copy_(scale * torch.randn(parameter.shape, generator=generator))


def _write(module: nn.Module, path: Path, seed: int, prefix: str, recipe: str) -> None:
    draw_weights(module, seed)
    tensors = {prefix + name: value.contiguous() for name, value in module.state_dict().items()}
    write_tensors(path, tensors, {DRAWN: recipe})

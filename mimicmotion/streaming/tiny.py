"""The embedded default: the true classes at a small size, with weights drawn from a seed.

It makes everything run on a laptop in seconds; its pictures mean nothing. The files have the layout of
published weights and are read by the same code.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mimicmotion.files import atomic_path
from mimicmotion.streaming.model import CausalWanModel

if TYPE_CHECKING:
    from mimicmotion.streaming.loading import WorldConfig

logger = logging.getLogger(__name__)

GAIN = 1.0


def ensure_weights(world: "WorldConfig") -> None:
    """Draws the weight files of `world` that are not there, from its tiny_seed, and says what they are."""
    from diffusers import AutoencoderKLWan
    from transformers import CLIPVisionConfig, CLIPVisionModel

    logger.warning("tiny streaming model with drawn weights: the picture means nothing")
    builders = {
        world.model_file: lambda: CausalWanModel.from_config(world.model),
        world.vae_file: lambda: AutoencoderKLWan(**world.vae),
        world.clip_file: lambda: CLIPVisionModel(CLIPVisionConfig(**world.clip)),
    }
    for offset, (name, build) in enumerate(builders.items()):
        path = Path(world.weights_folder) / name
        if not path.exists():
            _write(build(), path, world.tiny_seed + offset, "model." if name == world.model_file else "")


def draw_weights(module: nn.Module, seed: int) -> None:
    """Fills the parameters of `module` in the order of their names: equal seeds give equal weights.

    Matrices and convolutions keep the size of their input, modulations and biases are small, norms stay at 1.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        is_norm = "norm" in name or name.endswith((".proj.0.weight", ".proj.4.weight", "mlp.3.weight"))
        if parameter.ndim <= 1 or "gamma" in name:
            scale = 0.0 if is_norm or "gamma" in name else 0.02
            offset = 1.0 if "gamma" in name or (is_norm and name.endswith("weight")) else 0.0
        else:
            scale, offset = GAIN / parameter[0].numel() ** 0.5, 0.0
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(offset + scale * noise)


def _write(module: nn.Module, path: Path, seed: int, prefix: str) -> None:
    from safetensors.torch import save_file

    draw_weights(module, seed)
    tensors = {prefix + name: value.contiguous() for name, value in module.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    logger.info("wrote %s", path)

"""The image context: all tokens of a CLIP vision tower after its last layer but one.

Matrix-Game-2 uses the vision half of open-CLIP's XLM-R ViT-H/14; the text half of that checkpoint is not read.
"""

import re

import torch
import torch.nn.functional as F
from transformers import CLIPVisionModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

OPEN_CLIP_PREFIX = "visual."
OPEN_CLIP_NAMES = {
    "cls_embedding": "embeddings.class_embedding",
    "patch_embedding.weight": "embeddings.patch_embedding.weight",
    "pos_embedding": "embeddings.position_embedding.weight",
    "pre_norm": "pre_layrnorm",
    "post_norm": "post_layernorm",
}
OPEN_CLIP_LAYER_NAMES = {
    "norm1": "layer_norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


class ImageEncoder:
    """Turns the first image of a session into its context."""

    def __init__(self, model: CLIPVisionModel) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """image (B, 3, H, W) in [-1, 1] -> (B, 257, 1280) for the published tower.

        The picture is squeezed to the tower's square, bicubic without antialiasing, as the weights were trained.
        """
        size = self.model.config.image_size
        weight = self.model.embeddings.patch_embedding.weight
        pixels = F.interpolate(image.to(weight.device, torch.float32), size=(size, size), mode="bicubic")
        mean, std = (torch.tensor(v, device=weight.device).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        pixels = (pixels * 0.5 + 0.5 - mean) / std
        return self.model(pixels.to(weight.dtype), output_hidden_states=True).hidden_states[-2]


def from_open_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the vision tower of an open-CLIP checkpoint (keys `visual.*`) to transformers' names.

    Fused query-key-value weights are split; the text tower and the projection head are left out.
    """
    renamed = {}
    for key, value in state.items():
        if key.startswith(OPEN_CLIP_PREFIX) and key != "visual.head":
            renamed |= _rename(key.removeprefix(OPEN_CLIP_PREFIX), value)
    return renamed


def _rename(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    layer = re.fullmatch(r"transformer\.(\d+)\.(.+)\.(weight|bias)", key)
    if layer:
        prefix = f"encoder.layers.{layer[1]}."
        if layer[2] == "attn.to_qkv":
            parts = zip("qkv", value.chunk(3), strict=True)
            return {f"{prefix}self_attn.{name}_proj.{layer[3]}": part for name, part in parts}
        return {f"{prefix}{OPEN_CLIP_LAYER_NAMES[layer[2]]}.{layer[3]}": value}
    if key in ("cls_embedding", "pos_embedding"):
        # (1, 1, C) -> (C,) and (1, 257, C) -> (257, C)
        value = value.squeeze(0).squeeze(0) if key == "cls_embedding" else value.squeeze(0)
    stem, _, kind = key.rpartition(".")
    name = OPEN_CLIP_NAMES.get(key) or f"{OPEN_CLIP_NAMES[stem]}.{kind}"
    return {name: value}

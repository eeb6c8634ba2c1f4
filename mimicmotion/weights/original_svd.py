"""Stable Video Diffusion in one file, as Stability AI published it: under which names it holds diffusers' networks.

The file has the UNet, the VAE's decoder, and what conditions the UNet: the CLIP image encoder, and an encoder of
pictures of its own, which is the one that diffusers' VAE has. The names are those of github.com/Stability-AI/
generative-models; where a tensor is stored in another shape it is brought into diffusers'.
"""

import re
from collections.abc import Callable, Collection, Iterable

import torch

from mimicmotion.weights.layouts import plain_name
from mimicmotion.weights.lookup import broken, listing
from mimicmotion.weights.tensors import Tensors

UNET_MARK = "input_blocks.0.0.weight"  # a plain name that diffusers' layout does not have
DECODER = "first_stage_model.decoder."
ENCODER = "conditioner.embedders.3.encoder."
CLIP = "conditioner.embedders.0.open_clip.model.visual."

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
VAE_ENDS = {
    "conv_in": "conv_in",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
    "time_conv_out": "conv_out.time_mix_conv",
}
CLIP_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
}
CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}

Pick = Callable[[torch.Tensor], torch.Tensor]


def is_original_unet(names: Iterable[str]) -> bool:
    """Whether keys of a file name a UNet in the original layout."""
    return any(plain_name(name) == UNET_MARK for name in names)


def unet_of(tensors: Tensors, names: Iterable[str]) -> Tensors:
    """The UNet of an original file under the `names` that diffusers' has. Raises: SetupError for a file without it."""
    keys = {plain_name(key): key for key in tensors}
    places = unet_places(names)
    return _taken(tensors, {name: (keys.get(place, place), _as_it_is) for name, place in places.items()}, "UNet")


def vae_of(tensors: Tensors, names: Collection[str]) -> Tensors:
    """The VAE of an original file, as `unet_of`."""
    blocks = {int(match[1]) for name in names if (match := re.match(r"decoder\.up_blocks\.(\d+)\.", name))}
    places = {name: (vae_place(name, max(blocks, default=0)), _vae_pick(name)) for name in names}
    return _taken(tensors, places, "VAE")


def image_encoder_of(tensors: Tensors, names: Iterable[str]) -> Tensors:
    """The CLIP image encoder of an original file, as `unet_of`."""
    return _taken(tensors, {name: clip_place(name) for name in names}, "image encoder")


def _taken(tensors: Tensors, places: dict[str, tuple[str, Pick]], what: str) -> Tensors:
    missing = [key for key, _ in places.values() if key not in tensors]
    if missing:
        raise broken(tensors.path, f"lacks weights of the {what}: {listing(dict.fromkeys(missing))}")
    return tensors.rearranged(places)


def unet_places(names: Iterable[str]) -> dict[str, str]:
    """diffusers' name -> the original one, for the names of a whole UNet.

    The original numbers all layers of one side in a row: `layers` of them in a block, and one that halves or doubles
    the size.
    """
    names = list(names)
    down = [match for name in names if (match := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", name))]
    layers = max((1 + int(match[1]) for match in down), default=1)
    attends = {match[1] for name in names if (match := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
    return {name: _unet_place(name, layers, attends) for name in names}


def _unet_place(name: str, layers: int, attends: set[str]) -> str:
    module, _, kind = name.rpartition(".")
    if module in UNET_ENDS:
        return f"{UNET_ENDS[module]}.{kind}"
    if match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.", name):
        return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op.{kind}"
    if match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.", name):
        # It comes after the last layer of its block, behind an attention where there is one.
        last = int(match[1]) * (layers + 1) + layers
        return f"output_blocks.{last}.{2 if match[1] in attends else 1}.conv.{kind}"
    match = re.match(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if not match:
        return name
    side, block, part, layer, inner = match.groups()
    place = 1 if part == "attentions" else 0
    if side == "down":
        before = f"input_blocks.{1 + int(block) * (layers + 1) + int(layer)}.{place}"
    elif side == "up":
        before = f"output_blocks.{int(block) * (layers + 1) + int(layer)}.{place}"
    else:
        before = f"middle_block.{1 if part == 'attentions' else 2 * int(layer)}"
    return f"{before}.{_attention(inner) if part == 'attentions' else _resnet(inner, RESNET)}"


def _resnet(inner: str, spatial: dict[str, str]) -> str:
    part, _, rest = inner.partition(".")
    if part not in ("spatial_res_block", "temporal_res_block"):
        return inner  # the mixer of both
    module, _, kind = rest.rpartition(".")
    if part == "temporal_res_block":
        return f"time_stack.{RESNET.get(module, module)}.{kind}"
    return f"{spatial.get(module, module)}.{kind}"


def _attention(inner: str) -> str:
    inner = inner.replace("temporal_transformer_blocks.", "time_stack.")
    return inner.replace("time_pos_embed.linear_1.", "time_pos_embed.0.").replace(
        "time_pos_embed.linear_2.", "time_pos_embed.2."
    )


def vae_place(name: str, last: int) -> str:
    """The original name of a tensor of diffusers' VAE; `last` is the number of the last block of its decoder."""
    half, _, inner = name.partition(".")
    if half == "quant_conv":
        return f"{ENCODER}{name}"
    root = DECODER if half == "decoder" else f"{ENCODER}encoder."
    module, _, kind = inner.rpartition(".")
    if module in VAE_ENDS:
        return f"{root}{VAE_ENDS[module]}.{kind}"
    match = re.match(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(\w+)\.(\d+)\.(.+)", inner)
    if not match:
        return name
    side, block, part, layer, rest = match.groups()
    if side == "up":
        # The original counts the decoder's blocks from its end.
        block = last - int(block)
    before = f"{side}.{block}" if side else "mid"
    if part == "attentions":
        module, _, kind = rest.rpartition(".")
        return f"{root}{before}.attn_{int(layer) + 1}.{VAE_ATTENTION.get(module, module)}.{kind}"
    if part in ("downsamplers", "upsamplers"):
        return f"{root}{before}.{part.removesuffix('rs')}.{rest}"
    before = f"{before}.block.{layer}" if side else f"mid.block_{int(layer) + 1}"
    if rest == "time_mixer.mix_factor":
        return f"{root}{before}.mix_factor"
    if half == "encoder":
        rest = f"spatial_res_block.{rest}"
    return f"{root}{before}.{_resnet(rest, {'conv_shortcut': 'nin_shortcut'})}"


def _vae_pick(name: str) -> Pick:
    is_attention = ".attentions." in name and name.endswith("weight") and "group_norm" not in name
    return _without_kernel if is_attention else _as_it_is


def clip_place(name: str) -> tuple[str, Pick]:
    """The original name of a tensor of transformers' CLIP image encoder, and how it is made of that."""
    inner = name.removeprefix("vision_model.")
    if name == "visual_projection.weight":
        return f"{CLIP}proj", lambda tensor: tensor.t().contiguous()  # kernels round by how it lies
    if inner in CLIP_NAMES:
        return f"{CLIP}{CLIP_NAMES[inner]}", _as_it_is
    module, _, kind = inner.rpartition(".")
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", module)
    if not match:
        return f"{CLIP}{CLIP_NAMES.get(module, module)}.{kind}", _as_it_is
    layer, part = f"{CLIP}transformer.resblocks.{match[1]}.", match[2]
    if part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        third = "qkv".index(part.removeprefix("self_attn.")[0])
        return f"{layer}attn.in_proj_{kind}", lambda tensor: tensor.chunk(3)[third]
    return f"{layer}{CLIP_LAYER.get(part, part)}.{kind}", _as_it_is


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _without_kernel(tensor: torch.Tensor) -> torch.Tensor:
    """(out, in, 1, 1) -> (out, in): a convolution of one pixel is a linear layer."""
    return tensor[:, :, 0, 0] if tensor.ndim == 4 else tensor

"""Large blocks of diffusers' spatio-temporal networks that work piece by piece, for less memory at their peak.

A spatial block treats every frame by itself and a temporal one every place, so that pieces give what the whole gives,
but for the rounding of kernels that see another batch. Where a norm needs all of its input the block stays whole and
works in place instead. Only for inference: nothing of this can be differentiated.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.resnet import AlphaBlender, ResnetBlock2D, TemporalResnetBlock
from diffusers.models.upsampling import Upsample2D
from torch import nn


def work_in_pieces(network: nn.Module, entries: int | None) -> None:
    """Has the blocks of `network`, a UNet or a VAE with a temporal decoder, cut inputs of more entries into pieces.

    Args:
        network: changed in place; any number of frames will do.
        entries: of a piece, which holds one frame or one place at least; None gives back diffusers' own blocks.
            Weights that are brought to the GPU layer by layer come once for every piece.
    """
    for module in network.modules():
        kind = next((kind for kind in WORKING if isinstance(module, kind)), None)
        if kind is None:
            continue
        # accelerate's hooks for offloading stand before `forward` and keep the true one under another name.
        name = "_old_forward" if hasattr(module, "_old_forward") else "forward"
        plain = getattr(module, name)
        if isinstance(plain, functools.partial) and plain.func is WORKING[kind]:
            plain = plain.args[-1]
        setattr(module, name, functools.partial(WORKING[kind], module, entries, plain) if entries else plain)


def _by_rows(_module, entries: int, forward: Callable, hidden: torch.Tensor, *arguments, **named) -> torch.Tensor:
    """Pieces of dimension 0, which all tensors among the arguments share."""
    rows, pieces = len(hidden), _pieces(hidden, entries)
    if pieces == 1:
        return forward(hidden, *arguments, **named)
    step, result = -(-rows // pieces), None

    def part(value, start: int):
        return value[start : start + step] if isinstance(value, torch.Tensor) and len(value) == rows else value

    for start in range(0, rows, step):
        done = forward(
            hidden[start : start + step],
            *(part(value, start) for value in arguments),
            **{name: part(value, start) for name, value in named.items()},
        )
        if result is None:
            result = done.new_empty(rows, *done.shape[1:])
        result[start : start + step] = done
        del done
    return result


def _by_places(
    _module, entries: int, forward: Callable, hidden: torch.Tensor, num_frames: int, encoder_hidden_states=None
) -> torch.Tensor:
    """Pieces of the places of (batch * frames, places, channels); the context is (batch * places, 1, channels)."""
    places, pieces, context = hidden.shape[1], _pieces(hidden, entries), encoder_hidden_states
    if pieces == 1:
        return forward(hidden, num_frames=num_frames, encoder_hidden_states=context)
    if context is not None:
        context = context.unflatten(0, (-1, places))
    step, result = -(-places // pieces), torch.empty_like(hidden)
    for start in range(0, places, step):
        part = slice(start, start + step)
        told = None if context is None else context[:, part].flatten(0, 1)
        result[:, part] = forward(hidden[:, part], num_frames=num_frames, encoder_hidden_states=told)
    return result


def _resnet_in_place(module, entries: int, forward: Callable, hidden: torch.Tensor, temb) -> torch.Tensor:
    """TemporalResnetBlock.forward with two tensors of the input's size beside it."""
    if _pieces(hidden, entries) == 1 or module.conv_shortcut is not None:
        return forward(hidden, temb)
    inner = module.conv1(F.silu(module.norm1(hidden), inplace=True))
    if module.time_emb_proj is not None:
        inner += module.time_emb_proj(F.silu(temb))[:, :, :, None, None].permute(0, 2, 1, 3, 4)
    inner = inner.contiguous()  # the norm would make such a copy while it holds the other
    inner = module.norm2(inner)
    return module.conv2(F.silu(inner, inplace=True)).add_(hidden)


def _blend_in_place(
    module, entries: int, forward: Callable, x_spatial: torch.Tensor, x_temporal: torch.Tensor, image_only_indicator
) -> torch.Tensor:
    """AlphaBlender.forward into `x_temporal`, which none of its callers looks at again."""
    if _pieces(x_temporal, entries) == 1:
        return forward(x_spatial, x_temporal, image_only_indicator)
    alpha = module.get_alpha(image_only_indicator, x_spatial.ndim).to(x_spatial.dtype)
    if module.switch_spatial_to_temporal_mix:
        alpha = 1.0 - alpha
    return x_temporal.mul_(1.0 - alpha).addcmul_(x_spatial, alpha.expand_as(x_spatial))


def _pieces(tensor: torch.Tensor, entries: int) -> int:
    return -(-tensor.numel() // entries)


WORKING = {
    BasicTransformerBlock: _by_rows,
    ResnetBlock2D: _by_rows,
    Upsample2D: _by_rows,
    TemporalBasicTransformerBlock: _by_places,
    TemporalResnetBlock: _resnet_in_place,
    AlphaBlender: _blend_in_place,
}

"""All blocks of a training step in one pass, equal to the cached runtime block by block.

At run time a block attends to itself and to the clean block before it, whose keys and values lie in the cache. Here
both are items of one batch: clean blocks, which are context only, and noisy ones, which are learnt from. Each item
names the clean item before it and takes keys and values from there. The modules are those of `CausalWanModel`; only
where keys and values come from differs. Holds for a window of two blocks.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mimicmotion.streaming import CausalWanModel, action_rope, rotate, timestep_embedding, unpatchify, video_rope

NO_BLOCK = -1  # of an item that begins its session


@dataclass(frozen=True)
class Blocks:
    """M blocks of F latents. Clean items come first.

    x (M, 16, F, h, w); t (M,) timesteps; cond (M, 20, F, h, w); mouse (M, 4 F + 8, 2), keyboard (M, 4 F + 8, K);
    start: each item's first latent; before (M,): number of the clean item before, or NO_BLOCK; clip (M,): row of the
    image context. clean: how many items are clean.
    """

    x: torch.Tensor
    t: torch.Tensor
    cond: torch.Tensor
    mouse: torch.Tensor
    keyboard: torch.Tensor
    start: list[int]
    before: torch.Tensor
    clip: torch.Tensor
    clean: int


def parallel_flow(
    model: CausalWanModel, blocks: Blocks, context: torch.Tensor, tap: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Flow (M - clean, 16, F, h, w) of the noisy items.

    context: (clips, N, C) of the image encoder. tap: number of a transformer block whose output (M, F, S, C) is
    given as well, else None.
    """
    params, action = model.params, model.params.action_config
    hidden = model.patch_embedding(torch.cat((blocks.x, blocks.cond), dim=1))
    grid = hidden.shape[2:]
    hidden = hidden.flatten(3).permute(0, 2, 3, 1)  # (M, C, F, rows, columns) -> (M, F, S, C)
    # One timestep for all latents of a block: (M, 1, C) and (M, 1, 6, C)
    e = model.time_embedding(timestep_embedding(blocks.t[:, None], params.freq_dim).to(hidden.dtype))
    modulation = model.time_projection(e).unflatten(-1, (6, -1))
    head_dim = params.dim // params.num_heads
    rope = _angles(blocks.start, lambda s: video_rope(s, *grid, head_dim, hidden.device))
    turn = _angles(
        blocks.start, lambda s: action_rope(s, grid[0], action.rotated_dim, action.rope_theta, hidden.device)
    )
    tokens = model.img_emb(context)
    tapped = None
    for index, block in enumerate(model.blocks):
        # Of the last block clean items only give keys and values.
        last = block is model.blocks[-1] and block.action_model is None and index != tap
        hidden = _block(block, hidden, modulation, rope, turn, tokens, blocks, blocks.clean if last else 0)
        if index == tap:
            tapped = hidden
    noisy = hidden[-(len(blocks.t) - blocks.clean) :]
    return unpatchify(model.head(noisy, e[blocks.clean :]), grid), tapped


def _angles(starts: list[int], make) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of each item's positions, (M, ...)."""
    distinct = sorted(set(starts))
    rows = torch.tensor([distinct.index(start) for start in starts])
    return tuple(torch.stack(parts)[rows] for parts in zip(*(make(start) for start in distinct), strict=True))


def _block(block, x, e, rope, turn, tokens, blocks, first):
    """Output of the items `first` and later."""
    shift1, scale1, gate1, shift2, scale2, gate2 = (block.modulation + e).unsqueeze(3).unbind(2)
    attended = _self_attention(block.self_attn, block.norm1(x) * (1 + scale1) + shift1, rope, blocks, first)
    x = x[first:] + attended * gate1[first:]
    keys, values = block.cross_attn.keys_values(tokens)
    clip = blocks.clip[first:]
    x = x + block.cross_attn(block.norm3(x), keys[clip], values[clip])
    if block.action_model is not None:
        x = x + _mouse(block.action_model, x, turn, blocks)
        x = x + _keyboard(block.action_model, x, turn, blocks)
    return x + block.ffn(block.norm2(x) * (1 + scale2[first:]) + shift2[first:]) * gate2[first:]


def _self_attention(layer: nn.Module, x, rope, blocks, first):
    shape = x[first:].shape
    x = x.flatten(1, 2)
    q = rotate(layer._heads(layer.norm_q(layer.q(x[first:]))), *(part[first:] for part in rope))
    k = rotate(layer._heads(layer.norm_k(layer.k(x))), *rope)
    attended = _attend(q, k, layer._heads(layer.v(x)), blocks, first)
    return layer.o(attended.flatten(2)).view(shape)


def _mouse(layer: nn.Module, x, turn, blocks):
    items, positions = x.shape[0], x.shape[2]
    hidden = layer._mouse_hidden(x, blocks.mouse)
    q, k, v = layer.t_qkv(hidden).unflatten(-1, (3, layer.params.heads_num, -1)).unbind(3)
    q, k = rotate(layer.img_attn_q_norm(q), *turn), rotate(layer.img_attn_k_norm(k), *turn)
    k, v = _with_before(k, blocks, 0), _with_before(v, blocks, 0)
    # (M, 2 F, S, H, D) -> (M, S, H, 2 F, D): every position attends along time on its own, which is too little work
    # for the fused kernel
    q, k, v = (tensor.permute(0, 2, 3, 1, 4) for tensor in (q, k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~_seen(blocks, k.shape[3], 0)[:, None, None, None], -torch.inf)
    attended = scores.softmax(-1) @ v  # (M, S, H, F, D)
    return layer.proj_mouse(attended.permute(0, 3, 1, 2, 4).reshape(items, -1, positions, layer.t_qkv.in_features))


def _keyboard(layer: nn.Module, x, turn, blocks):
    heads = layer.params.heads_num
    q = rotate(layer.key_attn_q_norm(layer.mouse_attn_q(x).unflatten(-1, (heads, -1))), *turn)
    windows = layer.params.windows(layer.keyboard_embed(blocks.keyboard))
    k, v = layer.keyboard_attn_kv(windows).unflatten(-1, (2, 1, heads, -1)).unbind(2)
    k = rotate(layer.key_attn_k_norm(k), *turn)
    attended = _attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), blocks, 0)
    return layer.proj_keyboard(attended.flatten(2)).unflatten(1, x.shape[1:3])


def _attend(q, k, v, blocks, first):
    """q (M - first, T, H, D), k and v (M, N, H, D) of each item alone -> as q, over the block before as well."""
    k, v = _with_before(k, blocks, first), _with_before(v, blocks, first)
    mask = _seen(blocks, k.shape[1], first)[:, None, None]
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _with_before(own: torch.Tensor, blocks: Blocks, first: int) -> torch.Tensor:
    """(M, N, ...) -> (M - first, 2 N, ...): those of the clean block before, then the item's own."""
    return torch.cat((own[blocks.before[first:].clamp_min(0)], own[first:]), dim=1)


def _seen(blocks: Blocks, count: int, first: int) -> torch.Tensor:
    """Bool (M - first, count): items that begin a session do not see the first half."""
    before = blocks.before[first:]
    seen = torch.ones(len(before), count, dtype=torch.bool, device=before.device)
    seen[before == NO_BLOCK, : count // 2] = False
    return seen

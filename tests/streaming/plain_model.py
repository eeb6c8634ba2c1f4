"""The slow plain twin of CausalWanModel: a whole clip in one pass with explicit masks, from a state dict.

No cache, no ring, no shared windows: complex rotations, concatenated mouse input, repeated keyboard keys.
"""

import torch
import torch.nn.functional as F


def block_mask(latents, block, window):
    """bool (latents, latents): which latent sees which, all of a block seeing the same window."""
    index = torch.arange(latents)
    end = (index // block + 1) * block
    return (index[None] < end[:, None]) & (index[None] >= end[:, None] - window)


def rotate_complex(x, positions, dims, theta):
    """x (B, T, H, D), positions one (T,) per axis, `dims` features per axis."""
    parts = []
    for position, part, dim in zip(positions, x.double().split(dims, dim=-1), dims, strict=True):
        frequency = 1.0 / theta ** (torch.arange(0, dim, 2).double() / dim)
        turn = torch.polar(torch.ones(1).double(), torch.outer(position.double(), frequency))
        pairs = torch.view_as_complex(part.reshape(*part.shape[:-1], -1, 2).contiguous())
        parts.append(torch.view_as_real(pairs * turn[None, :, None]).flatten(-2))
    return torch.cat(parts, -1).to(x.dtype)


def masked_pass(config, sd, x, t, cond, context, mouse, keyboard, block=3, first=0):
    """Flow (1, 16, N, h, w) of N latents first .. first + N - 1; mouse and keyboard hold frames 0 .. 4 (N - 1)."""
    dim, heads, eps = config["dim"], config["num_heads"], config["eps"]
    linear = lambda name, value: F.linear(value, sd[f"{name}.weight"], sd.get(f"{name}.bias"))  # noqa: E731
    rms = lambda value, eps: value * torch.rsqrt(value.pow(2).mean(-1, keepdim=True) + eps)  # noqa: E731
    plain_norm = lambda value: F.layer_norm(value, (dim,), eps=eps)  # noqa: E731
    patches = F.conv3d(
        torch.cat((x, cond), 1), sd["patch_embedding.weight"], sd["patch_embedding.bias"], stride=(1, 2, 2)
    )
    n, rows, columns = patches.shape[2:]
    size = rows * columns
    h = patches.flatten(2).transpose(1, 2)
    half = config["freq_dim"] // 2
    angle = t.flatten().double()[:, None] * 10000.0 ** (-torch.arange(half).double() / half)
    e = torch.cat((angle.cos(), angle.sin()), 1).float()
    e = linear("time_embedding.2", F.silu(linear("time_embedding.0", e)))
    e0 = linear("time_projection.1", F.silu(e)).view(n, 6, dim)
    context = F.layer_norm(context, context.shape[-1:], sd["img_emb.proj.0.weight"], sd["img_emb.proj.0.bias"])
    context = linear("img_emb.proj.3", F.gelu(linear("img_emb.proj.1", context)))
    context = F.layer_norm(context, (dim,), sd["img_emb.proj.4.weight"], sd["img_emb.proj.4.bias"])
    latent_mask = block_mask(n, block, config["local_attn_size"])
    frame = torch.arange(n).repeat_interleave(size)
    row = torch.arange(rows).repeat_interleave(columns).repeat(n)
    column = torch.arange(columns).repeat(rows * n)
    token_mask = latent_mask[frame][:, frame]
    d = dim // heads
    spatial = 2 * (d // 6)
    video_axes = (frame + first, row, column), [d - 2 * spatial, spatial, spatial], 10000.0
    window = [[max(4 * j - 12 + i, 0) for i in range(12)] for j in range(n)]

    def attend(q, k, v, mask=None):
        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def act(name, h):
        a = config["action_config"]
        dims, theta, count = a["mouse_qk_dim_list"], a["rope_theta"], a["heads_num"]
        time = torch.arange(n) + first
        still = torch.zeros(n)
        if a["enable_mouse"]:
            tokens = h.view(n, size, dim).transpose(0, 1)
            actions = mouse[0, window].flatten(1).expand(size, -1, -1)
            m = F.gelu(linear(f"{name}mouse_mlp.0", torch.cat((tokens, actions), -1)), approximate="tanh")
            m = linear(f"{name}mouse_mlp.2", m)
            m = F.layer_norm(m, m.shape[-1:], sd[f"{name}mouse_mlp.3.weight"], sd[f"{name}mouse_mlp.3.bias"])
            q, k, v = linear(f"{name}t_qkv", m).view(size, n, 3, count, -1).unbind(2)
            q, k = (rotate_complex(rms(a, 1e-6), (time, still, still), dims, theta) for a in (q, k))
            m = linear(f"{name}proj_mouse", attend(q, k, v, latent_mask))
            h = h + m.transpose(0, 1).reshape(1, n * size, dim)
        embedded = linear(f"{name}keyboard_embed.0", keyboard)
        embedded = linear(f"{name}keyboard_embed.2", F.silu(embedded))[0, window].flatten(1)
        k, v = linear(f"{name}keyboard_attn_kv", embedded).view(n, 2, count, -1).unbind(1)
        q = rms(linear(f"{name}mouse_attn_q", h).view(n, size, count, -1).transpose(0, 1), 1e-6)
        k = rms(k, 1e-6).expand(size, -1, -1, -1)
        q, k = (rotate_complex(a, (time, still, still), dims, theta) for a in (q, k))
        out = linear(f"{name}proj_keyboard", attend(q, k, v.expand(size, -1, -1, -1), latent_mask))
        return h + out.transpose(0, 1).reshape(1, n * size, dim)

    def norm_heads(name, value):
        weight = sd[f"{name}.weight"]
        return (rms(value, eps) * weight).view(1, -1, heads, d)

    for index in range(config["num_layers"]):
        name = f"blocks.{index}."
        m = (sd[f"{name}modulation"] + e0).repeat_interleave(size, 0)[None]
        s1, c1, g1, s2, c2, g2 = m.unbind(2)
        y = plain_norm(h) * (1 + c1) + s1
        q = rotate_complex(norm_heads(f"{name}self_attn.norm_q", linear(f"{name}self_attn.q", y)), *video_axes)
        k = rotate_complex(norm_heads(f"{name}self_attn.norm_k", linear(f"{name}self_attn.k", y)), *video_axes)
        v = linear(f"{name}self_attn.v", y).view(1, -1, heads, d)
        h = h + linear(f"{name}self_attn.o", attend(q, k, v, token_mask)) * g1
        y = F.layer_norm(h, (dim,), sd[f"{name}norm3.weight"], sd[f"{name}norm3.bias"], eps)
        q = norm_heads(f"{name}cross_attn.norm_q", linear(f"{name}cross_attn.q", y))
        k = norm_heads(f"{name}cross_attn.norm_k", linear(f"{name}cross_attn.k", context))
        v = linear(f"{name}cross_attn.v", context).view(1, -1, heads, d)
        h = h + linear(f"{name}cross_attn.o", attend(q, k, v))
        if index in config["action_config"]["blocks"]:
            h = act(f"{name}action_model.", h)
        y = linear(f"{name}ffn.0", plain_norm(h) * (1 + c2) + s2)
        h = h + linear(f"{name}ffn.2", F.gelu(y, approximate="tanh")) * g2
    shift, scale = (sd["head.modulation"] + e[:, None]).repeat_interleave(size, 0)[None].unbind(2)
    out = linear("head.head", plain_norm(h) * (1 + scale) + shift)
    out = out.view(1, n, rows, columns, 2, 2, config["out_dim"])
    return torch.einsum("bfhwpqc->bcfhpwq", out).reshape(1, config["out_dim"], n, 2 * rows, 2 * columns)

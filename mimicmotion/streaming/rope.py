"""Rotary angles for video tokens and for action tokens, computed from the absolute latent index.

Nothing is looked up in a table, so a session has no last position. Angles are made in float64 on the host: at
latent 1,000,000 float32 would be wrong in the second digit. Attention sees only differences of positions, so a
window far along gives the scores of a window at the start.
"""

import torch

VIDEO_THETA = 10000.0


def axis_angles(start: int, count: int, dim: int, theta: float) -> torch.Tensor:
    """float64 (count, dim / 2) on the CPU: position times theta^(-2i / dim), from position `start` on."""
    positions = torch.arange(start, start + count, dtype=torch.float64, device="cpu")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64, device="cpu") / dim
    return torch.outer(positions, theta**-exponents)


def video_rope(
    start: int, frames: int, height: int, width: int, head_dim: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for the tokens of latents start .. start + frames - 1, each float32 (T, 1, head_dim / 2).

    T = frames * height * width in the order frame, row, column; `height` and `width` count tokens, not pixels. Of
    the head, 2 * (head_dim // 6) go to rows, as many to columns, the rest to time.
    """
    spatial = 2 * (head_dim // 6)
    time = axis_angles(start, frames, head_dim - 2 * spatial, VIDEO_THETA)
    row = axis_angles(0, height, spatial, VIDEO_THETA)
    column = axis_angles(0, width, spatial, VIDEO_THETA)
    shape = (frames, height, width)
    angles = torch.cat(
        [
            time[:, None, None].expand(*shape, -1),
            row[None, :, None].expand(*shape, -1),
            column[None, None].expand(*shape, -1),
        ],
        dim=-1,
    )
    return _cos_sin(angles.reshape(-1, 1, head_dim // 2), device)


def action_rope(
    start: int, frames: int, dim: int, theta: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the action attention, each float32 (frames, 1, 1, dim / 2): only time rotates."""
    angles = axis_angles(start, frames, dim, theta)
    return _cos_sin(angles[:, None, None], device)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates adjacent pairs of the last dimension of `x`; features beyond the angles stay as they are.

    `cos` and `sin` broadcast against x[..., : 2 * angles : 2]. Computed in float32, returned in the type of `x`.
    """
    rotated = 2 * cos.shape[-1]
    even, odd = x[..., :rotated].float().unflatten(-1, (-1, 2)).unbind(-1)
    pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
    return pairs if rotated == x.shape[-1] else torch.cat((pairs, x[..., rotated:]), dim=-1)


def _cos_sin(angles: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return angles.cos().float().to(device), angles.sin().float().to(device)

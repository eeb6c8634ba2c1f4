"""What a decoder's frames are wrong by: in colour, at edges, and in how much edge there is."""

import torch
from torch.nn import functional as F

CHARBONNIER = 1e-2
GRADIENT_WEIGHT = 0.5
WINDOW = 8  # pixels, in which it does not matter where an edge is


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor, sharpness: float = 0.0) -> torch.Tensor:
    """(B,): loss of frames (B, 3, N, H, W) in -1..1.

    sharpness: weight of `edge_loss`.
    """
    error = decoded - pixels
    loss = (error.square() + CHARBONNIER**2).sqrt().mean((1, 2, 3, 4))
    across, down = error.diff(dim=-1).abs().mean((1, 2, 3, 4)), error.diff(dim=-2).abs().mean((1, 2, 3, 4))
    loss = loss + GRADIENT_WEIGHT * (across + down)
    return loss + sharpness * edge_loss(decoded, pixels) if sharpness else loss


def edge_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(B,): by how much the contrast of edges is off, window by window.

    Of an edge that may lie here or there the best mean is a blur. A window only asks for an edge as strong as the true
    one, wherever in it.
    """
    return (contrast(decoded) - contrast(pixels)).abs().mean((1, 2, 3, 4))


def contrast(frames: torch.Tensor) -> torch.Tensor:
    """(B, 3, N, h, w): root mean square of the differences between neighbouring pixels in windows."""
    across, down = frames.diff(dim=-1)[..., :-1, :].square(), frames.diff(dim=-2)[..., :-1].square()
    energy = F.avg_pool3d(across + down, (1, WINDOW, WINDOW), stride=(1, WINDOW // 2, WINDOW // 2))
    return (energy + CHARBONNIER**2).sqrt()

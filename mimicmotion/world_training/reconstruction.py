"""What a decoder's frames are wrong by: in colour, at edges, and in how much edge there is."""

import torch
from torch.nn import functional as F

CHARBONNIER = 1e-2
GRADIENT_WEIGHT = 0.5
WINDOW = 8  # pixels, in which it does not matter where an edge is
POOL = (1, WINDOW, WINDOW), (1, WINDOW // 2, WINDOW // 2)
HEIGHT_WEIGHT = 1.0
AREA = 16  # pixels, over which the mean colour has a loss
COLOUR_WEIGHT = 2.0


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor, sharpness: float = 0.0) -> torch.Tensor:
    """(B,): loss of frames (B, 3, N, H, W) in -1..1.

    sharpness: weight of `edge_loss`.
    """
    error = decoded - pixels
    loss = (error.square() + CHARBONNIER**2).sqrt().mean((1, 2, 3, 4))
    across, down = error.diff(dim=-1).abs().mean((1, 2, 3, 4)), error.diff(dim=-2).abs().mean((1, 2, 3, 4))
    loss = loss + GRADIENT_WEIGHT * (across + down) + COLOUR_WEIGHT * colour_loss(error)
    return loss + sharpness * edge_loss(decoded, pixels) if sharpness else loss


def colour_loss(error: torch.Tensor) -> torch.Tensor:
    """(B,): mean size of an error's mean over all frames and areas of AREA x AREA pixels.

    Sizes of single errors are least for the median of the colours that a blurred pixel may have, not for their mean,
    so a whole wall may be off in one direction, frame after frame.
    """
    return F.avg_pool2d(error.mean(2), AREA, ceil_mode=True).abs().mean((1, 2, 3))


def edge_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(B,): by how much edges are off in strength and in height, window by window.

    Of an edge that may lie here or there the best mean is a blur. A window only asks for an edge as strong as the true
    one, wherever in it, and as high: a blur with bright and dark seams is strong too.
    """
    loss = 0
    for made, true in zip(edges(decoded), edges(pixels), strict=True):
        loss = loss + (made - true).abs().mean((1, 2, 3, 4))
    return loss


def edges(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of windows of frames, each (B, 3, N, h, w): root mean square of the differences between neighbouring pixels,
    and HEIGHT_WEIGHT times the mean of their sizes, which a blur does not change.
    """
    differences = frames.diff(dim=-1)[..., :-1, :], frames.diff(dim=-2)[..., :-1]
    strength = F.avg_pool3d(sum(part.square() for part in differences), *POOL)
    height = F.avg_pool3d(sum(part.abs() for part in differences), *POOL)
    return (strength + CHARBONNIER**2).sqrt(), HEIGHT_WEIGHT * height

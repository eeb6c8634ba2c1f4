"""How the predictions of overlapping tiles are weighted into one (arXiv 2406.19680, section 3.4)."""

import torch


def tile_weights(tile_size: int) -> torch.Tensor:
    """Weight of each place in a tile, (tile_size,), float32: a triangle that favours the middle."""
    position = (torch.arange(tile_size) + 0.5) * 2.0 / tile_size
    return torch.minimum(position, 2 - position)


def fuse_tiles(predictions: list[torch.Tensor], windows: list[list[int]], num_frames: int) -> torch.Tensor:
    """Weighted mean of per-tile predictions, each (batch, len(window), ...) -> (batch, num_frames, ...)."""
    total = predictions[0].new_zeros(predictions[0].shape[0], num_frames, *predictions[0].shape[2:])
    count = predictions[0].new_zeros(num_frames)
    for prediction, window in zip(predictions, windows, strict=True):
        weights = tile_weights(len(window)).to(prediction)
        total[:, window] += prediction * weights.reshape(-1, *[1] * (prediction.ndim - 2))
        count[window] += weights
    return total / count.reshape(-1, *[1] * (total.ndim - 2))

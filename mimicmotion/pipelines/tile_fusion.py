"""How the predictions of overlapping tiles are weighted into one (arXiv 2406.19680, section 3.4)."""

import torch


def tile_weights(tile_size: int) -> torch.Tensor:
    """Weight of each place in a tile, (tile_size,), float32: a triangle that favours the middle."""
    position = (torch.arange(tile_size) + 0.5) * 2.0 / tile_size
    return torch.minimum(position, 2 - position)


class TileSum:
    """The weighted mean of per-tile predictions, to which each is added when it is made, so that none is kept."""

    def __init__(self, num_frames: int):
        self._num_frames = num_frames
        self._total: torch.Tensor | None = None
        self._count: torch.Tensor | None = None

    def add(self, prediction: torch.Tensor, window: list[int]) -> None:
        """Takes the prediction (batch, len(window), ...) of the tile with the frames in `window`."""
        if self._total is None:
            self._total = prediction.new_zeros(prediction.shape[0], self._num_frames, *prediction.shape[2:])
            self._count = prediction.new_zeros(self._num_frames)
        weights = tile_weights(len(window)).to(prediction)
        self._total[:, window] += prediction * weights.reshape(-1, *[1] * (prediction.ndim - 2))
        self._count[window] += weights

    def mean(self) -> torch.Tensor:
        """The fused prediction (batch, num_frames, ...); ends the sum."""
        return self._total.div_(self._count.reshape(-1, *[1] * (self._total.ndim - 2)))

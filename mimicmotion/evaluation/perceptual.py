"""Perceptual distances that work offline: a learned one where its weights are installed, a computed one everywhere.

`StLpips` is ST-LPIPS, alex, of Ghildyal and Liu (ECCV 2022, arXiv 2207.13686): distances of deep features, tolerant
to small shifts. Its numbers are not those of the better known LPIPS. The package's code needs torchvision, so its
weight file alone is read; the forward pass here gives the package's numbers.

`gradient_histogram_distance` is no model of perception: it compares colour and histograms of gradients, as in HOG
(Dalal and Triggs 2005) but not normalised, in small windows at several scales. It tolerates small shifts and sees blur.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mimicmotion.evaluation.perceptual_weights import find_st_lpips

BATCH = 8

ORIENTATIONS = 8
WINDOW = 8  # pixels at every scale
SCALES = 3


class StLpips(nn.Module):
    """ST-LPIPS with the AlexNet trunk; 0 for equal pictures, larger for pictures that look less alike.

    Raises: SetupError when the package that holds its weights is not installed.
    """

    name = "ST-LPIPS (alex)"

    def __init__(self, weights: Path | None = None):
        super().__init__()
        stored = torch.load(weights or find_st_lpips(), map_location="cpu", weights_only=True)
        self.layers = nn.ModuleList([nn.Sequential(*layers) for layers in _alex_slices()])
        self.layers.load_state_dict(_renamed(stored))
        self.heads = [stored[f"lin{i}.model.1.weight"] for i in range(len(self.layers))]
        self.shift, self.scale = stored["scaling_layer.shift"], stored["scaling_layer.scale"]
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, clip: np.ndarray) -> list[torch.Tensor]:
        """Features of each layer, of unit length per place, of a uint8 clip (frames, height, width, 3)."""
        pixels = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 127.5 - 1
        batches = [self._batch_features(batch) for batch in ((pixels - self.shift) / self.scale).split(BATCH)]
        return [torch.cat(layer) for layer in zip(*batches, strict=True)]

    def _batch_features(self, hidden: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for layer in self.layers:
            hidden = layer(hidden)
            features.append(hidden / (hidden.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return features

    @torch.no_grad()
    def distance(self, result: np.ndarray, truth: np.ndarray | list[torch.Tensor]) -> float:
        """Mean distance of corresponding frames; `truth` a clip, or its `features` where it is compared often."""
        truth = self.features(truth) if isinstance(truth, np.ndarray) else truth
        layers = zip(self.features(result), truth, self.heads, strict=True)
        return sum(functional.conv2d((one - other) ** 2, head).mean().item() for one, other, head in layers)


class BlurDown(nn.Module):
    """Halves the size after a 3 x 3 binomial filter, edges reflected by two pixels (Zhang 2019)."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        line = torch.tensor([0.25, 0.5, 0.25], dtype=hidden.dtype)
        kernel = torch.outer(line, line).expand(hidden.shape[1], 1, 3, 3)
        return functional.conv2d(functional.pad(hidden, (2,) * 4, mode="reflect"), kernel, stride=2, groups=len(kernel))


def _alex_slices() -> list[list[nn.Module]]:
    """The parts of AlexNet after each of which features are taken."""
    def convolution(*sizes: int, padding: int) -> nn.Conv2d:
        return nn.Conv2d(*sizes, padding=padding)

    return [
        [convolution(3, 64, 11, padding=2), BlurDown(), nn.ReLU()],
        [nn.MaxPool2d(3, 1), BlurDown(), convolution(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 1), BlurDown(), convolution(192, 384, 3, padding=1), nn.ReLU()],
        [convolution(384, 256, 3, padding=1), nn.ReLU()],
        [convolution(256, 256, 3, padding=1), nn.ReLU()],
    ]


def _renamed(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's convolutions under the names of `_alex_slices`."""
    places = {"slice1.0": "0.0", "slice2.5": "1.2", "slice3.9": "2.2", "slice4.11": "3.0", "slice5.13": "4.0"}
    return {
        f"{here}.{part}": stored[f"net.{there}.{part}"] for there, here in places.items() for part in ("weight", "bias")
    }


def gradient_histogram_distance(result: np.ndarray, truth: np.ndarray) -> float:
    """Distance of colour and gradient histograms in windows, mean of three scales; 0 for equal clips.

    Clips uint8 (frames, height, width, 3), at least 32 pixels high and wide.
    """
    one, other = (torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 255 for clip in
                  (result, truth))
    distance = 0.0
    for _ in range(SCALES):
        distance += _window_distance(one, other)
        one, other = functional.avg_pool2d(one, 2), functional.avg_pool2d(other, 2)
    return distance / SCALES


def _window_distance(one: torch.Tensor, other: torch.Tensor) -> float:
    first, second = _gradient_histograms(one), _gradient_histograms(other)
    # Relative to what is there: a lost edge counts the same in a dim and in a bright picture.
    strength = (first + second).sum(dim=1).mean().clamp(min=1e-6)
    gradients = (first - second).abs().sum(dim=1).mean() / strength
    colours = (_windows(one) - _windows(other)).abs().mean()
    return float(gradients + colours)


def _gradient_histograms(pictures: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude by orientation in overlapping windows, (frames, orientations, rows, columns)."""
    brightness = pictures.mean(dim=1, keepdim=True)
    across = brightness[..., 1:-1, 2:] - brightness[..., 1:-1, :-2]
    down = brightness[..., 2:, 1:-1] - brightness[..., :-2, 1:-1]
    angles = torch.arange(ORIENTATIONS) * (torch.pi / ORIENTATIONS)
    directions = torch.stack([angles.cos(), angles.sin()]).reshape(2, 1, ORIENTATIONS, 1, 1)
    return _windows((across * directions[0] + down * directions[1]).abs())


def _windows(pictures: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(pictures, WINDOW, WINDOW // 2)

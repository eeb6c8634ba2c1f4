"""Small causal decoders in two published layouts: of TAEHV (taew2_1, for Wan 2.1) and TAESDV (Stable Video Diffusion).

Both take latents as the diffusion model has them, without mean, deviation or scaling factor, and remember one frame in
each of their blocks, so a clip can be decoded in any pieces.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

SPATIAL_RATIO = 8  # pixels per latent along each side
STAGES = 3  # each doubles rows and columns
BLOCKS = 3  # of a stage


@dataclass(frozen=True)
class TinyLayout:
    """What tells one published layout from the other.

    growth: how many frames each stage makes of one; None where the layout has no layers for it. last_block: whether a
    block of full size comes before the last convolution.
    """

    name: str
    growth: tuple[int, int, int] | None
    last_block: bool

    @property
    def frames_per_latent(self) -> int:
        """Frames of each latent; the first has one."""
        return math.prod(self.growth or ())


TAEHV = TinyLayout("TAEHV", (1, 2, 2), last_block=False)
TAESDV = TinyLayout("TAESDV", None, last_block=True)


class TinyDecoder(nn.Module):
    """Latents -> frames; parameter names are those of the published files.

    Args:
        layout: which of them.
        channels: of the latents; 16 and 4 in the published files.
        widths: channels of the three stages, and behind the last; 256, 128, 64, 64 and four times 64 in those.
    """

    def __init__(self, layout: TinyLayout, channels: int, widths: Sequence[int]):
        super().__init__()
        self.layout, self.channels = layout, channels
        layers = [_Clamp(), _conv(channels, widths[0]), nn.ReLU()]
        for stage in range(STAGES):
            layers += [_MemoryBlock(widths[stage]) for _ in range(BLOCKS)]
            layers.append(nn.Upsample(scale_factor=2))
            if layout.growth is not None:
                layers.append(_Grow(widths[stage], layout.growth[stage]))
            layers.append(_conv(widths[stage], widths[stage + 1], bias=False))
        layers.append(_MemoryBlock(widths[-1]) if layout.last_block else nn.ReLU())
        layers.append(_conv(widths[-1], 3))
        self.decoder = nn.Sequential(*layers)

    @property
    def memory_slots(self) -> int:
        """How many tensors the memory has."""
        return sum(isinstance(layer, _MemoryBlock) for layer in self.decoder)

    def forward(
        self, latents: torch.Tensor, memory: list[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Frames of the clip's next latents, and the memory behind them.

        Args:
            latents: (batch, F, channels, h, w).
            memory: what the call before gave, None for a clip's first latents; it is not changed.

        Returns: frames (batch, N, 3, 8 h, 8 w), about -1..1, of which a clip's first latent gives one and each other
            `frames_per_latent`; and one (batch, 1, width, rows, columns) tensor for each block with a memory.
        """
        batch, x = len(latents), latents.flatten(0, 1)
        old, new = iter(memory or ()), []
        for layer in self.decoder:
            if isinstance(layer, _MemoryBlock):
                x, last = layer(x.unflatten(0, (batch, -1)), next(old, None))
                new.append(last)
            else:
                x = layer(x)
        frames = x.unflatten(0, (batch, -1)) * 2 - 1
        return frames if memory else frames[:, self.layout.frames_per_latent - 1 :], new


class _Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class _MemoryBlock(nn.Module):
    """A residual block that sees the frame before as well."""

    def __init__(self, width: int):
        super().__init__()
        convs = (_conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width))
        self.conv = nn.Sequential(*convs)

    def forward(self, x: torch.Tensor, before: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (batch, frames, width, h, w) and the frame before them -> (batch * frames, ...) and the newest of x."""
        before = torch.zeros_like(x[:, :1]) if before is None else before
        past = torch.cat((before, x[:, :-1]), dim=1)
        seen = torch.cat((x, past), dim=2).flatten(0, 1)
        # A copy, or the memory would keep the whole block.
        return F.relu(self.conv(seen) + x.flatten(0, 1)), x[:, -1:].clone()


class _Grow(nn.Module):
    """Makes `factor` frames of each."""

    def __init__(self, width: int, factor: int):
        super().__init__()
        self.conv = nn.Conv2d(width, factor * width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).reshape(-1, *x.shape[1:])


def _conv(channels_in: int, channels_out: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias)

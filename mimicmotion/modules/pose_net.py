"""PoseNet: a small convolutional network that turns drawn skeletons into features for the UNet.

The features join the UNet behind its first convolution (MimicMotion, arXiv 2406.19680, section 3.2), so
diffusers' own UNet is used as it is and `PoseInjection` hooks that convolution.
"""

import contextlib
from collections.abc import Iterator

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

# (in channels, out channels, kernel size, stride); three strides of 2 bring pictures to the latents' size.
LAYERS = (
    (3, 3, 3, 1),
    (3, 16, 4, 2),
    (16, 16, 3, 1),
    (16, 32, 4, 2),
    (32, 32, 3, 1),
    (32, 64, 4, 2),
    (64, 64, 3, 1),
    (64, 128, 3, 1),
)


FEATURE_BYTES = 64 * 2**20  # of PoseNet's features kept: those of long clips at full size would need gigabytes


class PoseNet(ModelMixin, ConfigMixin):
    """Drawn poses to UNet features. Parameter names are those of MimicMotion's checkpoint.

    Args:
        noise_latent_channels: channels of the UNet's first convolution (320 for SVD).
        canvas_side: pixels of the canvas that poses are drawn on for it, its shorter side; lines have a fixed width
            there. Poses for a network that was trained on smaller pictures need a smaller canvas.
    """

    @register_to_config
    def __init__(self, noise_latent_channels: int = 320, canvas_side: int = 2160):
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out, kernel, stride in LAYERS:
            layers += [nn.Conv2d(channels_in, channels_out, kernel, stride, padding=1), nn.SiLU()]
        self.conv_layers = nn.Sequential(*layers)
        self.final_proj = nn.Conv2d(LAYERS[-1][1], noise_latent_channels, kernel_size=1)
        self.scale = nn.Parameter(torch.full((1,), 2.0))
        self._initialize()

    def _initialize(self) -> None:
        # An untrained PoseNet adds nothing to the UNet: its last projection starts at zero.
        for layer in self.conv_layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.final_proj.weight)
        nn.init.zeros_(self.final_proj.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of drawn poses.

        Args:
            x: (frames, 3, height, width) or (batch, frames, 3, height, width), RGB in -1..1.

        Returns:
            (batch * frames, noise_latent_channels, height / 8, width / 8).
        """
        if x.ndim == 5:
            x = x.flatten(0, 1)
        return self.final_proj(self.conv_layers(x)) * self.scale


class PoseInjection:
    """Adds pose features to what a UNet's `conv_in` returns, for the calls made inside `features(...)`.

    Outside of it the UNet is unchanged: no pose means that nothing is added, which differs from the features
    of a black picture.
    """

    def __init__(self, unet: nn.Module):
        self._held: list[torch.Tensor] = []
        self._once = False
        self._hook(unet)

    def follow(self, unet: nn.Module) -> None:
        """Moves to `unet` where it is another one than before; a compiled form of the same UNet is no other."""
        if unet.conv_in is not self._conv_in:
            self._handle.remove()
            self._hook(unet)

    def _hook(self, unet: nn.Module) -> None:
        self._conv_in = unet.conv_in
        self._handle = self._conv_in.register_forward_hook(self._add)

    def _add(self, _module, _arguments, output: torch.Tensor) -> torch.Tensor:
        if not self._held:
            return output
        features = self._held[-1]
        if self._once:
            self._held.clear()
        # PoseNet may be kept in single precision beside a UNet in half; the sum must not promote what follows.
        features = features.to(output.dtype)
        if len(features) == len(output):
            return output + features
        return torch.cat([output[: len(features)] + features, output[len(features) :]])

    @contextlib.contextmanager
    def features(self, features: torch.Tensor | None) -> Iterator[None]:
        """Adds `features` (batch * frames, channels, latent height, latent width) to every call within."""
        self._held, self._once = [] if features is None else [features], False
        try:
            yield
        finally:
            self._held = []

    @contextlib.contextmanager
    def features_once(self, held: list[torch.Tensor]) -> Iterator[None]:
        """Adds the features in `held`, if any, to the one call within, and empties the list: where nobody else holds
        them their memory is free for the rest of the call. A batch that is longer than they are gets none behind them.
        """
        self._held, self._once = held, True
        try:
            yield
        finally:
            self._held = []


class PoseFeatures:
    """PoseNet's features of a clip, computed tile by tile and kept within a budget of memory.

    Tiles come again in every sampling step; features of a long clip at full size would need gigabytes.

    Args:
        pose_net: the network.
        poses: drawn poses (frames, 3, height, width), shared by the batch, or (clips, frames, 3, height, width), each
            clip for an equal share of the batch; uint8 0..255 or floating point -1..1. Anything with a length that
            gives such a (len(window), 3, height, width) tensor for a list of indices serves as well, so that poses may
            be drawn when needed.
        budget: bytes of features to keep.
        strength: factor on the features.
        tiles: different windows that will be asked for, where that is known; all have one length.
    """

    def __init__(
        self, pose_net: PoseNet, poses, budget: int = FEATURE_BYTES, strength: float = 1.0, tiles: int | None = None
    ):
        self._pose_net = pose_net
        self._poses = poses
        self._budget = budget
        self._strength = strength
        self._tiles = tiles
        self._places: dict[tuple[int, ...], int] = {}
        self._kept: torch.Tensor | None = None  # one block: many small pieces of long life would break up the heap

    def window(self, window: list[int], batch_size: int) -> torch.Tensor:
        """Features of the frames in `window`, (batch_size * len(window), channels, height / 8, width / 8)."""
        key = tuple(window)
        if key in self._places:
            return self._kept[self._places[key]]
        features = self._compute(window, batch_size)
        if self._kept is None:
            size = features.numel() * features.element_size()
            room = self._budget // size if self._tiles is None else min(self._tiles, self._budget // size)
            self._kept = features.new_empty(room, *features.shape)
        place = len(self._places)
        if place < len(self._kept) and features.shape == self._kept.shape[1:]:
            self._kept[place] = features
            self._places[key] = place
        return features

    def _compute(self, window: list[int], batch_size: int) -> torch.Tensor:
        batched = isinstance(self._poses, torch.Tensor) and self._poses.ndim == 5
        clips = self._poses.shape[0] if batched else 1
        pixels = self._poses[:, window].flatten(0, 1) if batched else self._poses[window]
        pixels = pixels.to(self._pose_net.device)
        if pixels.dtype == torch.uint8:
            pixels = pixels / 127.5 - 1
        features = self._pose_net(pixels.to(self._pose_net.dtype))
        if self._strength != 1:
            features = features * self._strength
        # (clips * frames, ...) -> (batch_size * frames, ...)
        return features.unflatten(0, (clips, -1)).repeat_interleave(batch_size // clips, dim=0).flatten(0, 1)

"""Two operations of diffusers' video networks, done on a CPU as fast as the arithmetic allows.

torch gives a 3D convolution in fp32 to oneDNN only when the batch is above 1 or the input is large; Wan's VAE by the
block and the temporal convolutions of Stable Video Diffusion fall below that and run several times slower. Wan's RMS
norm reduces across channels by a general norm, which is slow where channels lie far apart in memory. The fast ways
give the same numbers to rounding.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import nn

SMALLEST_SQUARE = 1e-24  # the square of the smallest norm that F.normalize divides by


def use_fast_operations(network: nn.Module) -> nn.Module:
    """Lets the convolutions and norms of `network` take the fast way on a CPU; returns it with its weights as they are.

    On another device, in another format than fp32, under torch.compile and where gradients are recorded they do what
    they did before.
    """
    for module in network.modules():
        fast = FAST.get(type(module))
        if fast is not None:
            module.__class__ = fast
    return network


class FastConv3d(nn.Conv3d):
    """nn.Conv3d through oneDNN."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        # Convolutions of one point are matrix products, for which oneDNN is no gain.
        usual = x.ndim == 5 and self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if not usual or weight[0, 0].numel() == 1 or not _is_plain(x):
            return super()._conv_forward(x, weight, bias)
        return torch.mkldnn_convolution(x, weight, bias, self.padding, self.stride, self.dilation, self.groups)


class FastCausalConv3d(WanCausalConv3d, FastConv3d):
    """WanCausalConv3d, whose padding and memory stay its own, through oneDNN."""


class FastRMSNorm(WanRMS_norm):
    """WanRMS_norm as a product with the inverse root of the sum of squares."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x with its channels scaled to a norm of `scale`, times gamma, plus bias; any shape that the norm takes."""
        if not _is_plain(x):
            return super().forward(x)
        squares = x.square().sum(1 if self.channel_first else -1, keepdim=True)
        scaled = x * squares.clamp_min(SMALLEST_SQUARE).rsqrt()
        return scaled.mul_(self.gamma * self.scale).add_(self.bias)


FAST = {nn.Conv3d: FastConv3d, WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRMSNorm}


def _is_plain(x: torch.Tensor) -> bool:
    """Whether `x` is what the fast ways are for; a subclass may stand for what is no memory at all."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
        return False
    return type(x) is torch.Tensor and x.device.type == "cpu" and x.dtype == torch.float32

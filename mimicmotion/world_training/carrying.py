"""A Wan VAE that passes mean colours from the first step on.

Wan's decoder upsamples by nearest neighbours and halves its channels, so from random weights it needs hundreds of
steps before it shows anything. Here seven channels carry the colours through every layer: +c and -c for each of
three colours, since silu(x) - silu(-x) = x, and a constant, which keeps the root mean square of all channels, and
with it the norms, nearly the same everywhere. All other weights keep torch's initialisation, scaled down where they
add to the stream. Latents start as the mean colours of their 8 x 8 pixels and 4 frames.
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample, WanResidualBlock
from torch import nn

CARRIERS = 7
CONSTANT = 3.0
ACROSS, DOWN, CHANGE = 7, 10, 13  # first channels of the differences
FEATURES = 16
CORRECTION = 0.2  # best of 0, 0.1, 0.2, 0.3 before any training
TENT = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16


@torch.no_grad()
def carry_colours(vae: AutoencoderKLWan) -> None:
    """Sets the weights of `vae`, whose levels must all be as wide, with at least 7 channels in the narrowest."""
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            module.conv2.weight.mul_(0.3)
            module.conv2.bias.zero_()
            _clear(module.conv2)
            if not isinstance(module.conv_shortcut, nn.Identity):
                _pass_on(module.conv_shortcut)
        elif isinstance(module, WanAttentionBlock):
            module.proj.weight.mul_(0.1)
            _clear(module.proj)
        elif isinstance(module, WanResample):
            _resample(module)
    for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
        _spread(conv)
    _gather(vae.encoder.conv_out, 1.0)
    # The gain that makes colours come back as they were: the norm before it sees CONSTANT as well.
    _gather(vae.decoder.conv_out, 0.75)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight[:3] = 0
        conv.bias[:3] = 0
        for colour in range(3):
            conv.weight[colour, colour] = 1


def _clear(conv: nn.Module) -> None:
    conv.weight[:CARRIERS] = 0
    conv.bias[:CARRIERS] = 0


def _pass_on(conv: nn.Module) -> None:
    """Each carrier from itself alone, from the newest frame and the middle of the window."""
    _clear(conv)
    for channel in range(CARRIERS):
        conv.weight[channel, channel] = 1


def _spread(conv: nn.Module) -> None:
    """Three colours to +c, -c and the constant."""
    _clear(conv)
    for colour in range(3):
        conv.weight[colour, colour, -1, 1, 1] = 1
        conv.weight[3 + colour, colour, -1, 1, 1] = -1
    conv.bias[CARRIERS - 1] = CONSTANT


def _gather(conv: nn.Module, gain: float) -> None:
    """+c and -c, after their norm and SiLU, to three colours."""
    conv.weight[:3] *= 0.3
    conv.bias[:3] = 0
    for colour in range(3):
        conv.weight[colour, :CARRIERS] = 0
        conv.weight[colour, colour, -1, 1, 1] = gain
        conv.weight[colour, 3 + colour, -1, 1, 1] = -gain


def _resample(layer: WanResample) -> None:
    spatial = layer.resample[1]
    _clear(spatial)
    down = layer.mode.startswith("downsample")
    for channel in range(CARRIERS):
        if down:
            spatial.weight[channel, channel, :2, :2] = 0.25
        else:
            spatial.weight[channel, channel] = TENT
    if not hasattr(layer, "time_conv"):
        return
    time, offsets = layer.time_conv, (0,)
    if not down:  # the two frames that each one becomes lie one after the other in the channels
        offsets = (0, time.out_channels // 2)
    for offset in offsets:
        time.weight[offset : offset + CARRIERS] = 0
        time.bias[offset : offset + CARRIERS] = 0
        for channel in range(CARRIERS):
            if down:
                time.weight[channel, channel, 1:] = 0.5
            else:
                time.weight[offset + channel, channel, -1] = 1


@torch.no_grad()
def carry_differences(vae: AutoencoderKLWan) -> None:
    """Gives nine more latents a meaning: how each colour differs across, down and in time within its 8 x 8 x 4 pixels.

    The encoder takes them in its last downsampling. In time the decoder gives them back exactly. In space it cannot,
    since a convolution of repeated pixels does not know which of the copies it makes: it corrects the interpolation
    between neighbours, and what is there can be learnt to be used better. Call after `carry_colours`; the narrowest
    level of the encoder needs 16 channels.
    """
    encoder, decoder = vae.encoder, vae.decoder
    last = encoder.down_blocks[-1]
    spatial, time = last.resample[1], last.time_conv
    for rows in (spatial.weight[CARRIERS:FEATURES], time.weight[CARRIERS:FEATURES]):
        rows.zero_()
    spatial.bias[CARRIERS:FEATURES] = 0
    time.bias[CARRIERS:FEATURES] = 0
    for colour in range(3):
        across, down, change = (first + colour for first in (ACROSS, DOWN, CHANGE))
        spatial.weight[across, colour, :2, 0], spatial.weight[across, colour, :2, 1] = -0.5, 0.5
        spatial.weight[down, colour, 0, :2], spatial.weight[down, colour, 1, :2] = -0.5, 0.5
        for channel in (across, down):
            time.weight[channel, channel, 1:] = 0.5
        time.weight[change, colour, 1], time.weight[change, colour, 2] = -1, 1
    for block in encoder.mid_block.resnets:
        block.conv2.weight[CARRIERS:FEATURES] *= 0.3
    for conv, gain in (
        (encoder.conv_out, 2.0),
        (vae.quant_conv, 1.0),
        (vae.post_quant_conv, 1.0),
        (decoder.conv_in, 1.0),
    ):
        # Latents 3 .. 11 hold what channels 7 .. 15 do; silu has a slope of a half there.
        target = CARRIERS if conv is decoder.conv_in else 3
        source = CARRIERS if conv is encoder.conv_out else 3
        middle = tuple(size // 2 for size in conv.kernel_size[1:])
        for index in range(FEATURES - CARRIERS):
            conv.weight[target + index] = 0
            conv.bias[target + index] = 0
            conv.weight[(target + index, source + index, -1, *middle)] = gain
    _use_differences(decoder.up_blocks[0].upsamplers[0])


def _use_differences(layer: WanResample) -> None:
    spatial, time = layer.resample[1], layer.time_conv
    half, smooth = time.out_channels // 2, torch.tensor([0.25, 0.5, 0.25])
    for offset, sign in ((0, -0.5), (half, 0.5)):
        for channel in range(ACROSS, CHANGE):
            time.weight[offset + channel] = 0
            time.bias[offset + channel] = 0
            time.weight[offset + channel, channel, -1] = 1
        for colour in range(3):
            time.weight[offset + colour, CHANGE + colour, -1] = sign
            time.weight[offset + 3 + colour, CHANGE + colour, -1] = -sign
    for colour in range(3):
        for channel, sign in ((colour, CORRECTION), (3 + colour, -CORRECTION)):
            spatial.weight[channel, ACROSS + colour, :, 0] = sign * smooth
            spatial.weight[channel, ACROSS + colour, :, 2] = -sign * smooth
            spatial.weight[channel, DOWN + colour, 0, :] = sign * smooth
            spatial.weight[channel, DOWN + colour, 2, :] = -sign * smooth

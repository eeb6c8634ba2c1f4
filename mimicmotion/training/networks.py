"""The networks of the embedded model: diffusers' own classes at a small size, ready to be trained."""

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from mimicmotion.dwpose import SMALL_CANVAS_SIDE
from mimicmotion.errors import SetupError
from mimicmotion.files import write_json
from mimicmotion.weights import TINY_UNET, quiet_transformers

VAE = {
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    # None at full resolution: all frames are encoded before the UNet's training, which takes a third of the time so.
    "num_encoder_blocks": (0, 1, 2, 3),
    "num_decoder_blocks": (3, 3, 2, 1),
    "latent_channels": 4,
}
POSE_NET = {"canvas_side": SMALL_CANVAS_SIDE}
RESIDUAL_GAIN = 0.2
COLOURS = 3
IMAGE_ENCODER = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 64,
}
# Attention at the lower resolutions only: at the highest it took 35 % of the time of a training step.
UNET = TINY_UNET | {
    "block_out_channels": (64, 128, 160),
    "num_attention_heads": (1, 2, 2),
    "down_block_types": ("DownBlockSpatioTemporal",) + ("CrossAttnDownBlockSpatioTemporal",) * 2,
    "up_block_types": ("CrossAttnUpBlockSpatioTemporal",) * 2 + ("UpBlockSpatioTemporal",),
}


def build_vae(settings: dict | None = None) -> nn.Module:
    """An AutoencoderTiny that passes coarse colours from the start, so that training begins with the details.

    PyTorch's own initialisation stalls for thousands of steps here. Kaiming's, with residual branches that start
    small, learns at once but takes as long to find the third dimension of colour; so three channels carry it.
    """
    from diffusers import AutoencoderTiny

    vae = prepared(AutoencoderTiny(**(settings or VAE)))
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, module in vae.named_modules():
        if name.endswith(".conv.4"):
            module.weight.data.mul_(RESIDUAL_GAIN)
            module.weight.data[:COLOURS] = 0
    _carry_colours(vae)
    return vae


@torch.no_grad()
def _carry_colours(vae: nn.Module) -> None:
    """The first channels of every layer outside of residual blocks hold red, green and blue in 0..1, averaged down on
    the way to the latents, which have them in -1..1, and spread smoothly on the way back."""
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    mean = torch.full((3, 3), 1 / 9)
    tent = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
    down = [layer for layer in vae.encoder.layers if isinstance(layer, nn.Conv2d)]
    up = [layer for layer in vae.decoder.layers if isinstance(layer, nn.Conv2d)]
    # The other channels start weak where colours and details meet.
    down[-1].weight.mul_(RESIDUAL_GAIN)
    up[-1].weight.mul_(RESIDUAL_GAIN)
    for layer in (*down, *up):
        kernel = mean if layer.stride[0] == 2 else centre if layer in (down[0], down[-1], up[0]) else tent
        for colour in range(COLOURS):
            layer.weight[colour] = 0
            layer.weight[colour, colour] = kernel
    down[-1].weight[:COLOURS].mul_(2)
    down[-1].bias[:COLOURS] = -1
    up[0].weight[:COLOURS].mul_(0.5)
    up[0].bias[:COLOURS] = 0.5


def build_image_encoder(settings: dict | None = None) -> nn.Module:
    """An untrained CLIPVisionModelWithProjection."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig(**(settings or IMAGE_ENCODER)))


def build_unet(settings: dict | None = None) -> nn.ModuleDict:
    """An untrained UNet and its PoseNet, as {"unet", "pose_net"}."""
    from diffusers import UNetSpatioTemporalConditionModel

    from mimicmotion.modules import PoseNet

    settings = settings or UNET
    unet = UNetSpatioTemporalConditionModel(**settings)
    quieten_temporal_layers(unet)
    pose_net = PoseNet(**POSE_NET | {"noise_latent_channels": settings["block_out_channels"][0]})
    return prepared(nn.ModuleDict({"unet": unet, "pose_net": pose_net}))


@torch.no_grad()
def quieten_temporal_layers(unet: nn.Module) -> None:
    """Temporal layers that change nothing yet, as SVD's were put into a trained image model (arXiv 2311.15127)."""
    for name, module in unet.named_modules():
        if name.endswith((".temporal_res_block", ".time_pos_embed")):
            last = module.conv2 if hasattr(module, "conv2") else module.linear_2
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        elif ".temporal_transformer_blocks." in name and name.endswith((".to_out.0", ".net.2")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


@contextlib.contextmanager
def spatial_layers_only(unet: nn.Module) -> Iterator[None]:
    """Within, the UNet works on single pictures: its temporal layers are left out, which halves the work."""
    replaced = []
    for module in unet.modules():
        for name, stand_in in (("temporal_res_block", _First()), ("time_mixer", _Spatial())):
            if hasattr(module, name):
                replaced.append((module, name, getattr(module, name)))
                setattr(module, name, stand_in)
        if hasattr(module, "temporal_transformer_blocks"):
            blocks = module.temporal_transformer_blocks
            replaced.append((module, "temporal_transformer_blocks", blocks))
            module.temporal_transformer_blocks = nn.ModuleList(_First() for _ in blocks)
    try:
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


class _First(nn.Module):
    """Gives back its first argument."""

    def forward(self, hidden_states, *_arguments, **_named):
        return hidden_states


class _Spatial(nn.Module):
    """Takes the place of AlphaBlender: the temporal branch does not count."""

    def forward(self, x_spatial, *_arguments, **_named):
        return x_spatial


def prepared(networks: nn.Module) -> nn.Module:
    """The networks with their convolutions in the memory layout that is fastest on a CPU (a fifth for the UNet)."""
    for module in networks.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    return networks


def load_part(kind, folder: Path, stage: str) -> nn.Module:
    """A finished part of the model in fp32, frozen. Raises: SetupError when `stage` has not written it yet."""
    if not (folder / "config.json").is_file():
        raise SetupError(f"{folder} is not there; run scripts/train_tiny.py {stage} first")
    with quiet_transformers():
        try:
            part = kind.from_pretrained(folder, torch_dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError(f"{folder} cannot be read ({error}); run scripts/train_tiny.py {stage} again") from error
    return part.eval().requires_grad_(False)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, the global generator that PyTorch's layers draw their first weights from starts at `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


def save_half(network: nn.Module, folder: Path) -> None:
    """Writes a copy of the network in half precision, in diffusers' or transformers' layout."""
    half = copy.deepcopy(network)
    for tensor in (*half.parameters(), *half.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float16).contiguous()
    with quiet_transformers():
        half.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # Where the weights came from is a path of this machine; AutoencoderTiny writes a second name of a setting, and
    # warns of it when it is read.
    for name in ("_name_or_path", *(["block_out_channels"] if config.get("_class_name") == "AutoencoderTiny" else [])):
        config.pop(name, None)
    write_json(folder / "config.json", config)

"""A model of the published sizes with drawn weights, for timing: speed and memory do not ask what weights say."""

from pathlib import Path

import torch
from torch import nn

from mimicmotion.weights.embedded import TINY_IMAGE_ENCODER, TINY_SCHEDULER, TINY_UNET, TINY_VAE
from mimicmotion.weights.tensors import quiet_transformers

# As in the files of stable-video-diffusion-img2vid-xt-1-1.
PUBLISHED_UNET = {
    "sample_size": 96,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "num_attention_heads": (5, 10, 20, 20),
    "num_frames": 25,
}
PUBLISHED_VAE = TINY_VAE | {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 768}
PUBLISHED_IMAGE_ENCODER = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
SIZES = {
    "published": (PUBLISHED_UNET, PUBLISHED_VAE, PUBLISHED_IMAGE_ENCODER),
    "tiny": (TINY_UNET, TINY_VAE, TINY_IMAGE_ENCODER),
}


def build_random_model(
    path: str | Path, size: str = "published", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float16
) -> None:
    """Writes a whole model with drawn weights in diffusers' layout, with a PoseNet, into the folder `path`.

    Args:
        size: "published" (4.4 GB in half precision) or "tiny".
        device: where weights are drawn.
        dtype: of the files.
    """
    from diffusers import EulerDiscreteScheduler
    from transformers import CLIPImageProcessorPil

    path = Path(path)
    with quiet_transformers():
        for name, module in _networks(size).items():
            # Past diffusers' own `to`, which warns of layers that nobody computes with yet.
            nn.Module.to(module, dtype).to_empty(device=device)
            _draw(module)
            module.save_pretrained(path / name)
    CLIPImageProcessorPil().save_pretrained(path / "feature_extractor")
    EulerDiscreteScheduler(**TINY_SCHEDULER).save_pretrained(path / "scheduler")


def published_unet() -> nn.Module:
    """The UNet of the published size without weights, to count with."""
    return _networks("published")["unet"]


def _networks(size: str) -> dict[str, nn.Module]:
    """The networks of a size on the meta device, by the names of their folders."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from mimicmotion.modules import PoseNet

    unet, vae, image_encoder = SIZES[size]
    with torch.device("meta"):
        return {
            "unet": UNetSpatioTemporalConditionModel(**unet),
            "vae": AutoencoderKLTemporalDecoder(**vae),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**image_encoder)),
            "pose_net": PoseNet(noise_latent_channels=unet["block_out_channels"][0]),
        }


@torch.no_grad()
def _draw(module: nn.Module) -> None:
    """Matrices that keep the size of signals, so that nothing overflows in half precision; norms and scales of 1."""
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=(1 / weight[0].numel()) ** 0.5)
        else:
            nn.init.constant_(weight, 0.0 if name.endswith("bias") else 0.5 if name.endswith("mix_factor") else 1.0)

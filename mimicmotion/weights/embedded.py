"""The embedded model: MimicMotion's true classes at a small size, so that everything runs without a download.

The trained one is part of the repository; `mimicmotion.training` made it. An untrained one for tests is built here:
its weights are drawn with integer arithmetic and exact scaling, so every machine builds the same files.
"""

import hashlib
import json
import math
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import write_json
from mimicmotion.places import find, looked_for

TINY_PATH = Path("assets") / "models" / "tiny"
TINY_MARKER = "tiny_model.json"
TINY_VERSION = 1
TINY_SEED = 42

TINY_UNET = {
    "sample_size": None,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (32, 64, 96),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 2 + ("DownBlockSpatioTemporal",),
    "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 2,
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "transformer_layers_per_block": 1,
    "num_attention_heads": (2, 4, 6),
    "num_frames": 16,
}
TINY_VAE = {
    "block_out_channels": (32, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "force_upcast": True,
}
TINY_IMAGE_ENCODER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 64,
}
# As published with stable-video-diffusion-img2vid-xt-1-1.
TINY_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "interpolation_type": "linear",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "steps_offset": 1,
}
# Scalars that are built with a fixed value.
KEPT = ("mix_factor", "scale")
# Start of a parameter's name -> gain on top of keeping the variance. SiLU shrinks signals by about 0.6, which would
# leave the pose unseen behind PoseNet's eight layers and latents below unit variance.
GAINS = {"unet": {"conv_out.": 1.7}, "pose_net": {"conv_layers.": 1.7, "final_proj.": 0.5}}


def require_embedded_model(path: str | Path = TINY_PATH) -> Path:
    """The folder `path` of the embedded model. Raises: SetupError when the model is not there."""
    path = find(path)
    if read_marker(path) is None:
        raise SetupError(
            f"{looked_for(path)} has no {TINY_MARKER}: the embedded model is part of the repository and of the "
            f"installed package; restore it with: git checkout -- {TINY_PATH.as_posix()}, or install anew"
        )
    return path


def is_default_path(path: str | Path) -> bool:
    """Whether `path` is where the embedded model lies, in this or another copy of the repository."""
    return Path(path).parts[-3:] == TINY_PATH.parts


def read_marker(path: str | Path) -> dict | None:
    """What the tiny model in `path` is: {"trained", "seed", "version", ...}; None when there is none."""
    try:
        marker = json.loads((Path(path) / TINY_MARKER).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return marker if isinstance(marker, dict) else None


def build_tiny_model(path: str | Path, seed: int = TINY_SEED) -> None:
    """Writes a whole untrained model in diffusers' layout, with a PoseNet, into the new folder `path`.

    Its pictures are noise that moves with the pose.
    """
    from mimicmotion.weights.tensors import quiet_transformers

    path = Path(path)
    with quiet_transformers():
        for name, module in tiny_networks(seed).items():
            module.save_pretrained(path / name)
    for name, part in _tiny_processors().items():
        part.save_pretrained(path / name)
    write_json(path / TINY_MARKER, {"trained": False, "seed": seed, "version": TINY_VERSION})


def tiny_networks(seed: int = TINY_SEED) -> dict:
    """The untrained networks by the names of their folders: unet, vae, image_encoder, pose_net."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from mimicmotion.modules import PoseNet

    networks = {
        "unet": UNetSpatioTemporalConditionModel(**TINY_UNET),
        "vae": AutoencoderKLTemporalDecoder(**TINY_VAE),
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**TINY_IMAGE_ENCODER)),
        "pose_net": PoseNet(noise_latent_channels=TINY_UNET["block_out_channels"][0]),
    }
    for name, module in networks.items():
        draw_weights(module, f"{seed}/{name}", GAINS.get(name, {}))
    return networks


def _tiny_processors() -> dict:
    from diffusers import EulerDiscreteScheduler
    from transformers import CLIPImageProcessorPil

    return {"feature_extractor": CLIPImageProcessorPil(), "scheduler": EulerDiscreteScheduler(**TINY_SCHEDULER)}


def draw_weights(module, seed: str, gains: dict[str, float]) -> None:
    """Sets every parameter in place: matrices uniform with variance 1 / inputs, so that signals keep their size,
    scales of norms 1, biases 0, mix factors and PoseNet's scale as they were built.

    Each tensor has its own generator, seeded by `seed` and its name. Uniform draws are exact multiples of 2**-24 on
    every CPU, which normal ones are not.
    """
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
                gain = next((gain for start, gain in gains.items() if name.startswith(start)), 1.0)
                bound = gain * math.sqrt(3 / parameter[0].numel())
                parameter.copy_(torch.rand(parameter.shape, generator=generator).mul_(2 * bound).sub_(bound))
            elif not name.endswith(KEPT):
                parameter.fill_(1 if "norm" in name.lower() and name.endswith("weight") else 0)

"""A world model of the true classes at micro size, and sessions of a few frames."""

import dataclasses

from mimicmotion.streaming import WorldConfig
from mimicmotion.world_training import DecoderOptions, VaeOptions, WorldOptions
from mimicmotion.world_training.stages import load_coders
from mimicmotion.worlds import get_walk

HEIGHT, WIDTH, FRAMES, CHUNK = 16, 32, 21, 2
WALK = get_walk()

WORLD = WorldConfig(
    mode="universal",
    height=HEIGHT,
    width=WIDTH,
    frames_per_block=3,
    denoising_steps=(1000, 500),
    timestep_shift=5.0,
    context_noise=0.0,
    weights_folder="",
    model_file="model.safetensors",
    vae_file="vae.safetensors",
    clip_file="clip.safetensors",
    model={
        "model_type": "i2v", "dim": 64, "ffn_dim": 64, "freq_dim": 32, "in_dim": 36, "out_dim": 16, "num_heads": 2,
        "num_layers": 3, "local_attn_size": 6, "sink_size": 0, "eps": 1e-6, "context_dim": 16,
        "action_config": {
            "blocks": [0, 1], "enable_keyboard": True, "enable_mouse": True, "keyboard_dim_in": 4, "mouse_dim_in": 2,
            "hidden_size": 8, "img_hidden_size": 64, "keyboard_hidden_dim": 32, "mouse_hidden_dim": 32, "heads_num": 2,
            "vae_time_compression_ratio": 4, "windows_size": 3, "patch_size": [1, 2, 2], "qk_norm": True,
            "qkv_bias": False, "rope_dim_list": [8, 4, 4], "mouse_qk_dim_list": [8, 4, 4], "rope_theta": 256,
        },
    },
    vae={"base_dim": 16, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 0},
    clip={
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14, "hidden_act": "gelu",
    },
)  # fmt: skip


def vae_options(folder, **settings):
    """Of a stage that writes below `folder`."""
    return VaeOptions(**{"run_dir": folder / "run", "out": folder / "out", "device": "cpu", "frames": 5} | settings)


def world_options(folder, **settings):
    return WorldOptions(**{"run_dir": folder / "run", "out": folder / "out", "device": "cpu", "clips": 4} | settings)


def decoder_options(folder, **settings):
    return DecoderOptions(
        **{"run_dir": folder / "run", "out": folder / "out", "device": "cpu", "clips": 4, "columns": 16} | settings
    )


def world_in(folder):
    """The micro world with its weights below `folder`."""
    return dataclasses.replace(WORLD, weights_folder=str(folder))


def encoder_in(folder):
    from mimicmotion.world_training.latents import SessionEncoder

    return SessionEncoder(*load_coders(folder, WORLD), HEIGHT, WIDTH, WALK)

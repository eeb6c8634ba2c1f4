"""Micro world models of the true classes, one for each action mode."""

import torch
import yaml

from mimicmotion.streaming.actions import get_mode

WINDOWS = {"universal": 6, "gta_drive": 4, "templerun": 6}
CONTEXT_DIM = 24


def model_config(mode="universal", window=None, **changes):
    """A config.json like the published ones, with two blocks, actions in the first."""
    action = get_mode(mode)
    return {
        "_class_name": "CausalWanModel",
        "model_type": "i2v",
        "dim": 48,
        "ffn_dim": 80,
        "freq_dim": 32,
        "in_dim": 36,
        "out_dim": 16,
        "num_heads": 2,
        "num_layers": 2,
        "local_attn_size": window or WINDOWS[mode],
        "sink_size": 0,
        "eps": 1e-6,
        "text_len": 512,
        "inject_sample_info": False,
        "context_dim": CONTEXT_DIM,
        "action_config": {
            "blocks": [0],
            "enable_keyboard": True,
            "enable_mouse": action.has_mouse,
            "keyboard_dim_in": action.keyboard_dim,
            "hidden_size": 12,
            "img_hidden_size": 48,
            "keyboard_hidden_dim": 32,
            "mouse_hidden_dim": 32,
            "heads_num": 2,
            "patch_size": [1, 2, 2],
            "qk_norm": True,
            "qkv_bias": False,
            "rope_dim_list": [8, 4, 4],
            "mouse_qk_dim_list": [8, 4, 4],
            "rope_theta": 256,
            "vae_time_compression_ratio": 4,
            "windows_size": 3,
        },
    } | changes


def randomize(module, seed=0, scale=0.2):
    """Random values for every parameter, norms around 1: no path may hide behind zeros or ones."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator) * scale
        offset = 1.0 if ("norm" in name and name.endswith("weight")) or "gamma" in name else 0.0
        parameter.data.copy_(noise + offset)


def make_model(mode="universal", **changes):
    from mimicmotion.streaming.model import CausalWanModel

    model = CausalWanModel.from_config(model_config(mode, **changes)).eval().requires_grad_(False)
    randomize(model)
    return model


def make_vae(seed=0):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(seed)
    return AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1).eval().requires_grad_(False)


def make_clip():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=CONTEXT_DIM,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        hidden_act="gelu",
    )
    return CLIPVisionModel(config).eval()


def make_generator(mode="universal", height=16, width=32, steps=(1000, 500)):
    from mimicmotion.streaming.clip import ImageEncoder
    from mimicmotion.streaming.generator import StreamingGenerator
    from mimicmotion.streaming.vae import StreamingVAE

    return StreamingGenerator(
        make_model(mode),
        StreamingVAE(make_vae()),
        ImageEncoder(make_clip()),
        get_mode(mode),
        height=height,
        width=width,
        steps=steps,
        shift=5.0,
        context_noise=0.0,
        frames_per_block=3,
    )


def open_clip_state(dim=24, layers=2, mlp=16, patches=4):
    """A random checkpoint with the keys of open-CLIP's XLM-R ViT, text tower included."""
    g = torch.Generator().manual_seed(0)
    shapes = {
        "cls_embedding": (1, 1, dim),
        "pos_embedding": (1, patches + 1, dim),
        "patch_embedding.weight": (dim, 3, 14, 14),
        "head": (dim, 8),
    }
    shapes |= {f"{name}.{kind}": (dim,) for name in ("pre_norm", "post_norm") for kind in ("weight", "bias")}
    for i in range(layers):
        name = f"transformer.{i}."
        shapes |= {f"{name}{norm}.{kind}": (dim,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        for part, out, into in (
            ("attn.to_qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.0", mlp, dim),
            ("mlp.2", dim, mlp),
        ):
            shapes |= {f"{name}{part}.weight": (out, into), f"{name}{part}.bias": (out,)}
    state = {f"visual.{name}": torch.randn(shape, generator=g) * 0.3 for name, shape in shapes.items()}
    return state | {"textual.token_embedding.weight": torch.zeros(4, 4), "log_scale": torch.zeros(())}


def micro_world(folder, **changes):
    """Writes a file like configs/streaming/tiny.yaml with micro sizes and its weights beside it; its path."""
    values = {
        "mode": "universal",
        "height": 16,
        "width": 32,
        "frames_per_block": 3,
        "denoising_steps": [1000, 500],
        "timestep_shift": 5.0,
        "context_noise": 0.0,
        "weights_folder": str(folder / "weights"),
        "model_file": "generator.safetensors",
        "vae_file": "vae.safetensors",
        "clip_file": "clip.safetensors",
        "tiny_seed": 0,
        "model": model_config(),
        "vae": {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1},
        "clip": make_clip().config.to_diff_dict(),
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "micro.yaml"
    path.write_text(yaml.safe_dump(values))
    return path

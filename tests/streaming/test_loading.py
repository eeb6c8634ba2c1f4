"""Checkpoints in the official layouts load; anything else is refused by name; tiny weights are drawn once."""

import logging

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mimicmotion.errors import SetupError, UsageError
from mimicmotion.streaming.clip import from_open_clip
from mimicmotion.streaming.loading import load_clip, load_generator, load_model, load_vae
from mimicmotion.streaming.world import read_world
from tests.streaming.micro import (
    CONTEXT_DIM,
    make_clip,
    make_model,
    make_vae,
    micro_world,
    model_config,
    open_clip_state,
)

VAE_CONFIG = {"base_dim": 4, "z_dim": 16, "num_res_blocks": 2}
CLIP_CONFIG = {
    "hidden_size": CONTEXT_DIM,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "hidden_act": "gelu",
}


def assert_same_weights(module, state):
    assert module.state_dict().keys() == state.keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("mode", ["universal", "templerun"])
def test_official_checkpoint_loads(tmp_path, prefix, mode):
    state = make_model(mode).state_dict()
    save_file({prefix + name: value for name, value in state.items()}, tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors", model_config(mode))
    assert_same_weights(model, state)
    assert not any(p.requires_grad for p in model.parameters())
    assert load_model(tmp_path / "m.safetensors", model_config(mode), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_every_key_is_demanded_and_shapes_are_checked(tmp_path):
    state = {f"model.{name}": value for name, value in make_model().state_dict().items()}
    path = tmp_path / "m.safetensors"
    save_file({name: value for name, value in state.items() if not name.endswith("head.head.bias")}, path)
    with pytest.raises(SetupError, match=r"head\.head\.bias"):
        load_model(path, model_config())
    save_file(state, path)
    with pytest.raises(SetupError, match="keyboard_embed"):
        load_model(path, model_config("gta_drive"))


def test_unused_keys_are_reported(tmp_path, caplog):
    save_file(make_model().state_dict() | {"text_embedding.0.weight": torch.zeros(2)}, tmp_path / "m.safetensors")
    load_model(tmp_path / "m.safetensors", model_config())
    assert "text_embedding.0.weight" in caplog.text


def test_action_norms_other_than_one_are_warned_about(tmp_path, caplog):
    model = make_model()
    norms = [
        p for name, p in model.named_parameters() if ".action_model." in name and "attn_" in name and "norm" in name
    ]
    assert len(norms) == 4
    for norm in norms:
        norm.fill_(1.0)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    load_model(tmp_path / "m.safetensors", model_config())
    assert "norms" not in caplog.text
    norms[0][3] = 1.5
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    load_model(tmp_path / "m.safetensors", model_config())
    assert "norms are not 1" in caplog.text


def conv(name):
    return [f"{name}.weight", f"{name}.bias"]


def residual(name):
    norms = [f"{name}.residual.{i}.gamma" for i in (0, 3)]
    return norms + conv(f"{name}.residual.2") + conv(f"{name}.residual.6")


def official_vae_names():
    """The 194 keys of Wan2.1_VAE.pth."""
    names = conv("conv1") + conv("conv2")
    for side in ("encoder", "decoder"):
        names += conv(f"{side}.conv1") + residual(f"{side}.middle.0") + residual(f"{side}.middle.2")
        names += [f"{side}.middle.1.norm.gamma", f"{side}.head.0.gamma", *conv(f"{side}.head.2")]
        names += conv(f"{side}.middle.1.to_qkv") + conv(f"{side}.middle.1.proj")
    # r: residual block, s: resampling in space, t: in space and time
    layers = {"encoder.downsamples": "rrsrrtrrtrr", "decoder.upsamples": "rrrtrrrtrrrsrrr"}
    shortcuts = {"encoder.downsamples": (3, 6), "decoder.upsamples": (4,)}
    for stem, kinds in layers.items():
        for i, kind in enumerate(kinds):
            names += residual(f"{stem}.{i}") if kind == "r" else conv(f"{stem}.{i}.resample.1")
            names += conv(f"{stem}.{i}.time_conv") if kind == "t" else []
            names += conv(f"{stem}.{i}.shortcut") if i in shortcuts[stem] else []
    return names


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_official_vae_file_loads(tmp_path, suffix):
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    names = official_vae_names()
    assert len(names) == len(set(names)) == 194
    torch.manual_seed(1)
    state = AutoencoderKLWan(**VAE_CONFIG).state_dict()
    own = convert_wan_vae_to_diffusers({name: name for name in names})  # our name -> official name
    assert set(own) == set(state)
    official = {own[name]: value.clone() for name, value in state.items()}
    path = tmp_path / f"Wan2.1_VAE{suffix}"
    torch.save(official, path) if suffix == ".pth" else save_file(official, path)
    assert_same_weights(load_vae(path, VAE_CONFIG), state)


def test_vae_with_diffusers_names_loads(tmp_path):
    state = make_vae().state_dict()
    save_file(state, tmp_path / "vae.safetensors")
    assert_same_weights(load_vae(tmp_path / "vae.safetensors", VAE_CONFIG | {"num_res_blocks": 1}), state)


def test_official_clip_file_loads(tmp_path):
    state = open_clip_state()
    torch.save(state, tmp_path / "clip.pth")
    clip = load_clip(tmp_path / "clip.pth", CLIP_CONFIG)
    assert_same_weights(clip, from_open_clip(state))
    assert clip.embeddings.position_ids.tolist() == [[0, 1, 2, 3, 4]]


def test_clip_with_transformers_names_loads(tmp_path):
    state = make_clip().state_dict()
    save_file(state, tmp_path / "clip.safetensors")
    assert_same_weights(load_clip(tmp_path / "clip.safetensors", CLIP_CONFIG), state)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"<html>", b"\x80\x02c__main__\nRun\nq\x01."])
def test_damaged_weights_are_refused(tmp_path, content):
    path = tmp_path / "m.pth"
    path.write_bytes(content)
    for load, config in ((load_model, model_config()), (load_vae, {}), (load_clip, CLIP_CONFIG)):
        with pytest.raises(SetupError, match=r"m\.pth"):
            load(path, config)


def test_missing_weights_are_named(tmp_path):
    world = micro_world(tmp_path, tiny_seed=None)
    with pytest.raises(SetupError, match=r"generator\.safetensors"):
        load_generator(read_world(world))


def test_tiny_weights_are_drawn_once_and_the_same_everywhere(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    first, second = (read_world(micro_world(tmp_path / name)) for name in "ab")
    one = load_generator(first)
    assert "means nothing" in caplog.text
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "weights").iterdir()}
    assert len(times) == 3
    assert load_generator(first).fingerprint() == one.fingerprint() == load_generator(second).fingerprint()
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "weights").iterdir()}
    other = load_generator(read_world(micro_world(tmp_path / "c", tiny_seed=1)))
    assert other.fingerprint() != one.fingerprint()


@pytest.mark.parametrize(
    "change, message", [({"hight": 3}, "hight"), ({"mode": "chess"}, "chess"), ({"mode": "gta_drive"}, "gta_drive")]
)
def test_wrong_world_configs_are_named(tmp_path, change, message):
    path = micro_world(tmp_path, **change)
    with pytest.raises(UsageError, match=message):
        load_generator(read_world(path))


def test_missing_keys_and_unreadable_files_are_named(tmp_path):
    path = micro_world(tmp_path)
    values = yaml.safe_load(path.read_text())
    del values["height"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match="height"):
        read_world(path)
    for content in ("- a\n", "a: [", "\x00"):
        path.write_text(content)
        with pytest.raises(UsageError, match=path.name):
            read_world(path)
    with pytest.raises(UsageError, match=r"nowhere.*there are configs/streaming/gta_drive.yaml, .*universal.yaml"):
        read_world(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("mode", ["universal", "gta_drive", "templerun"])
def test_a_published_config_name_is_answered_with_the_name_here(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published = f"configs/inference_yaml/inference_{mode}.yaml"
    with pytest.raises(UsageError, match=f"{published} .*; here it is configs/streaming/{mode}.yaml$"):
        read_world(published)
    assert read_world(f"configs/streaming/{mode}.yaml").mode == mode


def test_unknown_attention_backend_is_refused_before_loading(tmp_path):
    world = read_world(micro_world(tmp_path))
    with pytest.raises(SetupError, match="warp"):
        load_generator(world, attention_backend="warp")
    assert not (tmp_path / "weights").exists()


def test_attention_backend_gives_the_same_frames(tmp_path, picture):
    from mimicmotion.streaming.actions import encode

    world = read_world(micro_world(tmp_path))
    plain, native = load_generator(world), load_generator(world, attention_backend="native")
    action = encode(plain.mode, "W")
    found = [generator.generate(picture, [action] * 2).astype(int) for generator in (plain, native)]
    assert abs(found[0] - found[1]).max() <= 1


def test_drawn_weights_follow_the_sizes_and_trained_ones_stay(tmp_path, caplog):
    load_generator(read_world(micro_world(tmp_path)))
    vae = tmp_path / "weights" / "vae.safetensors"
    before = vae.read_bytes()
    load_generator(read_world(micro_world(tmp_path, model=model_config(num_layers=3))))  # redrawn, so it fits
    assert vae.read_bytes() == before
    path = tmp_path / "weights" / "generator.safetensors"
    save_file({f"model.{name}": value for name, value in make_model().state_dict().items()}, path)
    trained = path.read_bytes()
    caplog.clear()
    load_generator(read_world(micro_world(tmp_path)))
    assert path.read_bytes() == trained
    assert "generator.safetensors has weights drawn" not in caplog.text

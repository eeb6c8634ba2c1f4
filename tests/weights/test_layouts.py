"""Every layout in which users have the files: small stand-ins of each, loaded to the same tensors as the plain one."""

import dataclasses
import json
import logging
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimicmotion.config import load_config
from mimicmotion.errors import SetupError
from mimicmotion.weights import loading, lookup, lora, manifest, model_files, original_svd, tensors
from mimicmotion.weights.layouts import plain_name
from mimicmotion.weights.scales import scales_of
from tests.weights.conftest import config
from tests.weights.test_lora import LINEAR, Pipeline, halves, peft_state, saved

CPU = torch.device("cpu")
PARTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "image_encoder/model")
PARTS_WITH_POSE_NET = (*PARTS, "pose_net/diffusion_pytorch_model")


def networks(pipeline):
    return {part: getattr(pipeline, part).state_dict() for part in ("unet", "vae", "image_encoder", "pose_net")}


def assert_same(found, expected):
    assert {part: state.keys() for part, state in found.items()} == {p: state.keys() for p, state in expected.items()}
    for part, state in expected.items():
        assert all(torch.equal(found[part][name], tensor) for name, tensor in state.items()), part


@pytest.fixture(scope="module")
def plain(base):
    """The networks of the micro model as the plain layout gives them."""
    return networks(loading.create_pipeline(config(base), device="cpu"))


def shard(file, variant="", drop=()):
    """Replaces a weight file by two and their index; returns the index."""
    state, stem = load_file(file), file.name.removesuffix(".safetensors")
    state = {name: tensor.clone() for name, tensor in state.items()}
    file.unlink()
    places = {}
    for number, names in enumerate((list(state)[::2], list(state)[1::2]), 1):
        name = f"{stem}{variant}-{number:05d}-of-00002.safetensors"
        save_file({key: state[key] for key in names}, file.with_name(name), {"format": "pt"})
        places |= dict.fromkeys(names, name)
    index = file.with_name(f"{stem}.safetensors.index{variant}.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


# Sharded files


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_sharded_networks_are_those_of_one_file(copy, plain, variant):
    for part in PARTS_WITH_POSE_NET:
        shard(copy / f"{part}.safetensors", variant)
    assert_same(networks(loading.create_pipeline(config(copy), device="cpu")), plain)


def test_a_sharded_checkpoint_is_named_by_its_index(base, checkpoint, tmp_path):
    save_file(checkpoint, tmp_path / "mimic.safetensors")
    index = shard(tmp_path / "mimic.safetensors")
    unet, _ = loading.load_networks(base, index, CPU, torch.float32)
    assert torch.equal(unet.conv_out.weight, checkpoint["unet.conv_out.weight"])
    with pytest.raises(SetupError, match=r"one of several files.*name the \.index\.json"):
        loading.load_networks(base, tmp_path / "mimic-00001-of-00002.safetensors", CPU, torch.float32)


def test_what_is_wrong_with_shards_is_named(copy):
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    index = shard(file)
    first, second = (file.with_name(f"diffusion_pytorch_model-0000{n}-of-00002.safetensors") for n in (1, 2))
    whole, places = second.read_bytes(), json.loads(index.read_text())["weight_map"]

    def refused(reason):
        with pytest.raises(SetupError, match=reason):
            loading.create_pipeline(config(copy), device="cpu")

    second.unlink()
    refused(rf"not beside it: {re.escape(second.name)} \(1 in all\).*download_weights")
    second.write_bytes(whole[: len(whole) // 2])
    refused(rf"{re.escape(second.name)} is not a whole safetensors file")
    shutil.copyfile(first, second)
    refused(rf"{re.escape(second.name)} lacks weights that {re.escape(index.name)} says it has")
    second.write_bytes(whole)
    for wrong in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../b"}}'):
        index.write_text(wrong)
        refused(re.escape(index.name))
    index.unlink()
    refused(rf"holds {re.escape(first.name)}, {re.escape(second.name)} .*without {re.escape(index.name)}")
    index.write_text(json.dumps({"weight_map": places}))
    loading.load_vae(copy / "vae", CPU, torch.float32)


def test_the_hash_of_shards_is_that_of_all_of_them(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = shard(copy / "vae" / "diffusion_pytorch_model.safetensors")
    before = manifest.weights_sha256(index)
    other = next(path for path in lookup.weight_files(index) if "00002" in path.name)
    state = {name: tensor + 1 for name, tensor in load_file(other).items()}
    save_file(state, other)
    assert manifest.weights_sha256(index) != before


def test_a_scale_in_another_shard_than_its_weight_is_applied(tmp_path):
    weight, scale = torch.randn(8, 4), torch.tensor(0.25)
    save_file({"a.weight": (weight / scale).to(torch.float8_e4m3fn)}, tmp_path / "x-00001-of-00002.safetensors")
    save_file({"a.scale_weight": scale}, tmp_path / "x-00002-of-00002.safetensors")
    places = {name: f"x-0000{n}-of-00002.safetensors" for name, n in (("a.weight", 1), ("a.scale_weight", 2))}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = tensors.open_tensors(tmp_path / "x.safetensors.index.json")
    assert list(found) == ["a.weight"]
    assert torch.equal(found["a.weight"], (weight / scale).to(torch.float8_e4m3fn).float() * scale)


def test_pytorch_files_are_joined_by_their_index_too(tmp_path):
    for number, name in ((1, "a"), (2, "b")):
        torch.save({name: torch.full((2,), float(number))}, tmp_path / f"pytorch_model-0000{number}-of-00002.bin")
    places = {name: f"pytorch_model-0000{number}-of-00002.bin" for number, name in ((1, "a"), (2, "b"))}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    found = tensors.open_tensors(lookup.find_weights(tmp_path, ("model", "pytorch_model")))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [1, 1], "b": [2, 2]}


# Scaled 8-bit floats


def in_eight_bits(state, ending="scale_weight"):
    """(what a file of scaled 8-bit floats holds, what its tensors mean)."""
    stored, meant = {}, {}
    for name, tensor in state.items():
        stored[name] = meant[name] = tensor.clone()
        if tensor.ndim == 2 and name.endswith(".weight"):
            scale = tensor.abs().max() / 448
            stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
            meant[name] = stored[name].float() * scale
            stored[f"{name.removesuffix('.weight')}.{ending}"] = scale
    return stored, meant


@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
def test_every_network_in_scaled_eight_bits_has_its_scales(copy, plain, ending):
    expected = {}
    for part in PARTS_WITH_POSE_NET:
        file, network = copy / f"{part}.safetensors", part.split("/")[0]
        stored, expected[network] = in_eight_bits(load_file(file), ending)
        file.unlink()
        mark = {"scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn)} if ending == "scale_weight" else {}
        save_file(stored | mark, file, {"format": "pt"})
    found = networks(loading.create_pipeline(config(copy), device="cpu"))
    assert_same(found, expected)
    assert not torch.equal(found["vae"]["decoder.mid_block.attentions.0.to_q.weight"],
                           plain["vae"]["decoder.mid_block.attentions.0.to_q.weight"])  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "unet.", "module.model.diffusion_model."])
def test_the_mark_of_a_scaled_file_is_no_weight_whatever_stands_before_it(prefix):
    weight = f"{prefix}conv.weight"
    found = scales_of([weight, f"{prefix}conv.scale_weight", f"{prefix}scaled_fp8"])
    assert found == ({weight: f"{prefix}conv.scale_weight"}, {f"{prefix}scaled_fp8"}, [])


def test_networks_in_plain_eight_bits_are_what_they_say(copy):
    expected = {}
    for part in PARTS_WITH_POSE_NET:
        file, network = copy / f"{part}.safetensors", part.split("/")[0]
        state = {name: tensor.to(torch.float8_e5m2) for name, tensor in load_file(file).items()}
        expected[network] = {name: tensor.float() for name, tensor in state.items()}
        file.unlink()
        save_file(state, file, {"format": "pt"})
    assert_same(networks(loading.create_pipeline(config(copy), device="cpu")), expected)


def test_the_world_model_in_scaled_eight_bits_has_its_scales(tmp_path):
    from mimicmotion.streaming import load_clip, load_model, load_vae, read_world
    from mimicmotion.streaming.tiny import ensure_weights

    world = dataclasses.replace(read_world("configs/streaming/tiny.yaml"), weights_folder=str(tmp_path))
    ensure_weights(world)
    readers = {
        world.model_file: lambda path: load_model(path, world.model),
        world.vae_file: lambda path: load_vae(path, world.vae),
        world.clip_file: lambda path: load_clip(path, world.clip),
    }
    for name, read_network in readers.items():
        stored, meant = in_eight_bits(load_file(tmp_path / name))
        found = read_network(saved(stored, tmp_path / f"fp8 {name}")).state_dict()
        assert any(tensor.dtype == torch.float8_e4m3fn for tensor in stored.values()) or name == world.vae_file
        assert all(torch.equal(tensor, meant[key.removeprefix("model.")] if key.removeprefix("model.") in meant
                               else meant[f"model.{key}"]) for key, tensor in found.items()), name  # fmt: skip


def test_a_checkpoint_in_scaled_eight_bits_has_its_scales(base, checkpoint, tmp_path):
    stored, meant = in_eight_bits(checkpoint)
    save_file(stored, tmp_path / "fp8.safetensors")
    unet, pose_net = loading.load_networks(base, tmp_path / "fp8.safetensors", CPU, torch.float32)
    for prefix, module in (("unet", unet), ("pose_net", pose_net)):
        assert all(torch.equal(tensor, meant[f"{prefix}.{name}"]) for name, tensor in module.state_dict().items())


# Files for ComfyUI: a bare UNet, PoseNet by itself, Stable Video Diffusion without its UNet


@pytest.fixture
def small_published(base, tmp_path, monkeypatch):
    """As if the micro model had been published as Stable Video Diffusion XT."""
    shutil.copytree(base, tmp_path / "published", ignore=shutil.ignore_patterns("*.safetensors", "*.pth"))
    monkeypatch.setattr(model_files, "SVD_CONFIGS", tmp_path / "published")
    return tmp_path / "published"


@pytest.mark.parametrize(
    ("prefix", "pose_prefix"),
    [("", ""), ("model.diffusion_model.", "pose_net."), ("unet._orig_mod.", "module.pose_net."), ("module.", "")],
)
def test_the_files_of_comfyui_are_the_same_model(copy, plain, tmp_path, small_published, prefix, pose_prefix):
    shutil.rmtree(copy / "unet")
    shutil.rmtree(copy / "pose_net")
    save_file({prefix + name: tensor for name, tensor in plain["unet"].items()}, tmp_path / "MergedUnet.safetensors")
    save_file({pose_prefix + name: t.clone() for name, t in plain["pose_net"].items()}, tmp_path / "pose.safetensors")
    given = config(copy, tmp_path / "MergedUnet.safetensors")
    given.pose_net_path = str(tmp_path / "pose.safetensors")
    assert_same(networks(loading.create_pipeline(given, device="cpu")), plain)
    assert {"checkpoint", "pose_net"} <= model_files.weights_fingerprint(given).keys()
    assert model_files.pose_canvas(given) == 2160


def test_what_the_set_lacks_is_said(copy, plain, checkpoint, tmp_path, small_published):
    save_file({name: tensor.clone() for name, tensor in plain["unet"].items()}, tmp_path / "unet.safetensors")
    shutil.rmtree(copy / "unet")
    for find_out in (model_files.weights_fingerprint, lambda given: loading.create_pipeline(given, device="cpu")):
        with pytest.raises(SetupError, match=r"holds a UNet and no PoseNet.*--pose_net_path"):
            find_out(config(copy, tmp_path / "unet.safetensors"))
    with pytest.raises(SetupError, match="no unet folder; set ckpt_path"):
        loading.create_pipeline(config(copy), device="cpu")
    given = config(copy, tmp_path / "unet.safetensors")
    given.pose_net_path = str(tmp_path / "none.safetensors")
    with pytest.raises(SetupError, match="PoseNet not found"):
        model_files.weights_fingerprint(given)
    given.pose_net_path = str(tmp_path / "unet.safetensors")
    with pytest.raises(SetupError, match="lacks weights of the PoseNet"):
        loading.create_pipeline(given, device="cpu")


def test_a_posenet_of_its_own_goes_before_the_checkpoints(base, checkpoint, tmp_path):
    other = {name.removeprefix("pose_net."): t + 1 for name, t in checkpoint.items() if name.startswith("pose_net.")}
    save_file(other, tmp_path / "pose.safetensors")
    given = SimpleNamespace(base_model_path=str(base), ckpt_path=str(base / "checkpoint.pth"))
    before = model_files.weights_fingerprint(given)
    given.pose_net_path = str(tmp_path / "pose.safetensors")
    assert model_files.weights_fingerprint(given) != before
    own = tmp_path / "pose.safetensors"
    _, pose_net = loading.load_networks(base, base / "checkpoint.pth", CPU, torch.float32, own)
    assert torch.equal(pose_net.final_proj.weight, other["final_proj.weight"])


def test_the_canvas_beside_a_posenet_is_its_own(base, copy):
    path = copy / "pose_net" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"canvas_side": 480}))
    given = config(base, base / "checkpoint.pth")
    given.pose_net_path = str(copy / "pose_net")
    assert model_files.pose_canvas(given) == 480
    assert model_files.weights_fingerprint(given)["configs"] != model_files.weights_fingerprint(config(base))["configs"]


def test_the_same_weights_under_two_names_are_refused(base, checkpoint, tmp_path):
    twice = checkpoint | {"module.unet.conv_in.weight": checkpoint["unet.conv_in.weight"] * 2}
    torch.save(twice, tmp_path / "twice.pth")
    with pytest.raises(SetupError, match=r"twice, as unet\.conv_in\.weight and as module\.unet\.conv_in\.weight"):
        loading.load_networks(base, tmp_path / "twice.pth", CPU, torch.float32)


# Stable Video Diffusion in one file

UNET_NAMES = {
    "conv_in.weight": "input_blocks.0.0.weight",
    "time_embedding.linear_2.bias": "time_embed.2.bias",
    "add_embedding.linear_1.weight": "label_emb.0.0.weight",
    "down_blocks.0.resnets.0.spatial_res_block.norm1.weight": "input_blocks.1.0.in_layers.0.weight",
    "down_blocks.0.resnets.0.temporal_res_block.conv2.bias": "input_blocks.1.0.time_stack.out_layers.3.bias",
    "down_blocks.0.resnets.1.time_mixer.mix_factor": "input_blocks.2.0.time_mixer.mix_factor",
    "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_out.0.bias":
        "input_blocks.1.1.time_stack.0.attn1.to_out.0.bias",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight":
        "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight",
    "down_blocks.0.attentions.0.time_pos_embed.linear_1.weight": "input_blocks.1.1.time_pos_embed.0.weight",
    "down_blocks.0.attentions.0.time_mixer.mix_factor": "input_blocks.1.1.time_mixer.mix_factor",
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.resnets.0.spatial_res_block.conv_shortcut.bias": "input_blocks.4.0.skip_connection.bias",
    "down_blocks.3.resnets.1.spatial_res_block.time_emb_proj.bias": "input_blocks.11.0.emb_layers.1.bias",
    "mid_block.resnets.1.temporal_res_block.norm1.bias": "middle_block.2.time_stack.in_layers.0.bias",
    "mid_block.attentions.0.proj_out.weight": "middle_block.1.proj_out.weight",
    "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
    "up_blocks.1.upsamplers.0.conv.bias": "output_blocks.5.2.conv.bias",
    "up_blocks.1.attentions.0.norm.weight": "output_blocks.3.1.norm.weight",
    "up_blocks.3.resnets.2.spatial_res_block.conv1.weight": "output_blocks.11.0.in_layers.2.weight",
    "conv_norm_out.bias": "out.0.bias",
    "conv_out.weight": "out.2.weight",
}  # fmt: skip
VAE_NAMES = {
    "encoder.conv_norm_out.weight": "encoder.norm_out.weight",
    "encoder.down_blocks.2.resnets.0.conv_shortcut.weight": "encoder.down.2.block.0.nin_shortcut.weight",
    "encoder.down_blocks.0.downsamplers.0.conv.bias": "encoder.down.0.downsample.conv.bias",
    "encoder.mid_block.attentions.0.to_out.0.bias": "encoder.mid.attn_1.proj_out.bias",
    "quant_conv.weight": "quant_conv.weight",
    "decoder.mid_block.attentions.0.group_norm.bias": "decoder.mid.attn_1.norm.bias",
    "decoder.mid_block.resnets.1.spatial_res_block.conv2.bias": "decoder.mid.block_2.conv2.bias",
    "decoder.mid_block.resnets.0.temporal_res_block.conv1.bias": "decoder.mid.block_1.time_stack.in_layers.2.bias",
    "decoder.mid_block.resnets.0.time_mixer.mix_factor": "decoder.mid.block_1.mix_factor",
    "decoder.up_blocks.0.upsamplers.0.conv.bias": "decoder.up.3.upsample.conv.bias",
    "decoder.up_blocks.0.resnets.2.temporal_res_block.norm2.weight":
        "decoder.up.3.block.2.time_stack.out_layers.0.weight",
    "decoder.up_blocks.3.resnets.2.spatial_res_block.norm2.bias": "decoder.up.0.block.2.norm2.bias",
    "decoder.time_conv_out.bias": "decoder.conv_out.time_mix_conv.bias",
}  # fmt: skip
CLIP_NAMES = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm.bias": "ln_pre.bias",
    "vision_model.post_layernorm.weight": "ln_post.weight",
    "vision_model.encoder.layers.31.layer_norm2.weight": "transformer.resblocks.31.ln_2.weight",
    "vision_model.encoder.layers.0.self_attn.k_proj.bias": "transformer.resblocks.0.attn.in_proj_bias",
    "vision_model.encoder.layers.0.self_attn.v_proj.weight": "transformer.resblocks.0.attn.in_proj_weight",
    "vision_model.encoder.layers.0.self_attn.out_proj.bias": "transformer.resblocks.0.attn.out_proj.bias",
    "vision_model.encoder.layers.0.mlp.fc1.weight": "transformer.resblocks.0.mlp.c_fc.weight",
    "visual_projection.weight": "proj",
}


@pytest.fixture(scope="module")
def published():
    """The networks that configs/svd_xt describes, without memory."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    read = {part: json.loads((model_files.SVD_CONFIGS / part / "config.json").read_text())
            for part in ("unet", "vae", "image_encoder")}  # fmt: skip
    with torch.device("meta"):
        return {
            "unet": UNetSpatioTemporalConditionModel.from_config(read["unet"]).state_dict(),
            "vae": AutoencoderKLTemporalDecoder.from_config(read["vae"]).state_dict(),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**read["image_encoder"])).state_dict(),
        }


def test_our_configuration_is_that_of_the_published_size(published):
    counts = {part: sum(tensor.numel() for tensor in state.values()) for part, state in published.items()}
    assert len(published["unet"]) == 1428
    assert counts == {"unet": 1_524_623_082, "vae": 97_742_847, "image_encoder": 632_076_800}


def test_the_names_of_the_original_file(published):
    places = original_svd.unet_places(published["unet"])
    assert {name: places[name] for name in UNET_NAMES} == UNET_NAMES
    prefixes = {"encoder": "conditioner.embedders.3.encoder.", "quant_conv": "conditioner.embedders.3.encoder.",
                "decoder": "first_stage_model."}  # fmt: skip
    for name, place in VAE_NAMES.items():
        assert original_svd.vae_place(name, 3) == prefixes[name.split(".")[0]] + place
    for name, place in CLIP_NAMES.items():
        assert original_svd.clip_place(name)[0] == f"conditioner.embedders.0.open_clip.model.visual.{place}"


def test_every_name_of_the_published_networks_has_its_own_place(published):
    unet, vae = set(original_svd.unet_places(published["unet"]).values()), published["vae"]
    assert len(unet) == len(published["unet"]) and not unet & set(published["unet"])
    assert len({original_svd.vae_place(name, 3) for name in vae}) == len(vae)
    clip = [original_svd.clip_place(name)[0] for name in published["image_encoder"]]
    # Query, key and value are stored as one.
    assert len(clip) - len(set(clip)) == 2 * 2 * 32 and all(place.startswith(original_svd.CLIP) for place in clip)


def as_one_file(plain, path):
    """The micro model as Stable Video Diffusion was published first, written by the definition of each piece."""
    stored = {}
    for name, place in original_svd.unet_places(plain["unet"]).items():
        stored[f"model.diffusion_model.{place}"] = plain["unet"][name]
    for name, tensor in plain["vae"].items():
        is_layer = ".attentions." in name and tensor.ndim == 2
        stored[original_svd.vae_place(name, 3)] = tensor[:, :, None, None] if is_layer else tensor
    clip = plain["image_encoder"]
    for name, tensor in clip.items():
        place = original_svd.clip_place(name)[0]
        if ".self_attn." in name and "out_proj" not in name:
            tensor = torch.cat([clip[re.sub("[qkv]_proj", f"{letter}_proj", name)] for letter in "qkv"])
        stored[place] = tensor.T if name == "visual_projection.weight" else tensor
    stored["conditioner.embedders.0.open_clip.model.logit_scale"] = torch.ones(())
    stored["first_stage_model.encoder.conv_in.weight"] = torch.zeros(1)  # another encoder than diffusers' VAE has
    save_file({name: tensor.contiguous().clone() for name, tensor in stored.items()}, path)
    return path


def test_the_original_file_is_the_same_model(plain, base, tmp_path, small_published, caplog):
    file = as_one_file(plain, tmp_path / "svd_xt_1_1.safetensors")
    given = config(file, base / "checkpoint.pth")
    with caplog.at_level(logging.WARNING):
        pipeline = loading.create_pipeline(given, device="cpu")
    assert_same(networks(pipeline), plain)
    assert all(tensor.is_contiguous() for tensor in pipeline.image_encoder.state_dict().values())
    assert not caplog.text
    assert pipeline.scheduler.config.sigma_max == 700
    assert pipeline.image_encoder.vision_model.embeddings.position_ids.max() == 16
    assert model_files.weights_fingerprint(given)["vae"] == manifest.weights_sha256(file)
    assert torch.equal(loading.load_decoder(given, "cpu").vae.quant_conv.weight, plain["vae"]["quant_conv.weight"])
    from mimicmotion.latent_steps.vae_decoder import LatentDecoder

    assert torch.equal(LatentDecoder(file, "cpu").vae.quant_conv.weight, plain["vae"]["quant_conv.weight"])


def test_what_is_no_original_file_is_refused(plain, base, tmp_path, small_published):
    file = as_one_file(plain, tmp_path / "svd_xt.safetensors")
    with pytest.raises(SetupError, match="is Stable Video Diffusion itself; set ckpt_path"):
        loading.create_pipeline(config(file), device="cpu")
    with pytest.raises(SetupError, match="is not Stable Video Diffusion as published"):
        loading.create_pipeline(config(base / "checkpoint.pth", file), device="cpu")
    with pytest.raises(SetupError, match="are both"):
        loading.create_pipeline(config(file, file), device="cpu")
    state = {name: tensor.clone() for name, tensor in load_file(file).items() if "time_stack" not in name}
    save_file(state, tmp_path / "image_decoder.safetensors")
    with pytest.raises(SetupError, match=r"lacks weights of the VAE: first_stage_model\.decoder\..*time_stack"):
        loading.load_decoder(config(tmp_path / "image_decoder.safetensors"), "cpu")


# LoRAs as other tools and versions name them


def kohya_name(name):
    return f"lora_unet_{name.replace('.', '_')}"


LORA_LAYOUTS = {
    "peft": lambda name, half: f"unet.{name}.lora_{'AB'[half == 'up']}.weight",
    "another adapter": lambda name, half: f"base_model.model.{name}.lora_{'AB'[half == 'up']}.turbo_v2.weight",
    "unet.module": lambda name, half: f"unet.module.{name}.lora_{'AB'[half == 'up']}.weight",
    "compiled": lambda name, half: f"unet._orig_mod.{name}.lora_{'AB'[half == 'up']}.weight",
    "compiled by block": lambda name, half: f"{name.replace('.', '._orig_mod.', 1)}.lora_{'AB'[half == 'up']}.weight",
    "diffusers before PEFT": lambda name, half: f"unet.{name}.lora.{half}.weight",
    "lora_linear_layer": lambda name, half: f"unet.{name}.lora_linear_layer.{half}.weight",
    "dotted lora_down": lambda name, half: f"unet.{name}.lora_{half}.weight",
    "comfyui": lambda name, half: f"diffusion_model.{name}.lora_{half}.weight",
    "kohya": lambda name, half: f"{kohya_name(name)}.lora_{half}.weight",
}


def in_layout(unet, layout, alpha=None, **options):
    state = {}
    for name, (down, up) in halves(unet, **options).items():
        state |= {LORA_LAYOUTS[layout](name, "down"): down, LORA_LAYOUTS[layout](name, "up"): up}
        if alpha is not None:
            stem = LORA_LAYOUTS[layout](name, "down").removesuffix(".down.weight").removesuffix(".lora_down.weight")
            state[f"{stem}.alpha"] = torch.tensor(float(alpha))
    return state


@pytest.fixture(scope="module")
def lora_pipe():
    return Pipeline()


def read(pipe, state, path):
    return lora.read_lora(tensors.open_tensors(saved(state, path)), pipe.unet)


@pytest.mark.parametrize("layout", LORA_LAYOUTS)
def test_a_lora_is_the_same_under_every_name(lora_pipe, tmp_path, layout):
    found = read(lora_pipe, in_layout(lora_pipe.unet, layout), tmp_path / "l.safetensors")
    expected = halves(lora_pipe.unet)
    assert found.keys() == expected.keys()
    for name, (down, up) in expected.items():
        assert torch.equal(found[name].down, down) and torch.equal(found[name].up, up) and found[name].factor == 1


@pytest.mark.parametrize("layout", ["comfyui", "kohya", "another adapter"])
def test_a_lora_of_the_original_unet_is_the_same(lora_pipe, tmp_path, layout):
    places, expected = original_svd.unet_places(lora_pipe.unet.state_dict()), halves(lora_pipe.unet)
    state = {}
    for name, (down, up) in expected.items():
        place = places[f"{name}.weight"].removesuffix(".weight")
        state |= {LORA_LAYOUTS[layout](place, "down"): down, LORA_LAYOUTS[layout](place, "up"): up}
    found = read(lora_pipe, state, tmp_path / "l.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].up, up) for name, (_, up) in expected.items())


@pytest.mark.parametrize("layout", ["diffusers before PEFT", "lora_linear_layer", "comfyui", "kohya"])
def test_alphas_are_found_beside_old_names(lora_pipe, tmp_path, layout):
    found = read(lora_pipe, in_layout(lora_pipe.unet, layout, alpha=2), tmp_path / "l.safetensors")
    assert {layer.factor for layer in found.values()} == {0.5}


@pytest.mark.parametrize("where", ["processor.", ""])
def test_the_oldest_names_are_those_of_attention_processors(lora_pipe, tmp_path, where):
    attention = LINEAR.removesuffix(".to_q")
    layers = {f"{attention}.to_{part}": f"unet.{attention}.{where}to_{part.partition('.')[0]}_lora"
              for part in ("q", "k", "v", "out.0")}  # fmt: skip
    state = {}
    for name, (down, up) in halves(lora_pipe.unet, layers=layers).items():
        state |= {f"{layers[name]}.down.weight": down, f"{layers[name]}.up.weight": up}
        state[f"{layers[name]}.alpha"] = torch.tensor(8.0)
    found = read(lora_pipe, state, tmp_path / "l.safetensors")
    assert found.keys() == layers.keys() and {layer.factor for layer in found.values()} == {2}


@pytest.mark.parametrize("layout", ["another adapter", "diffusers before PEFT", "unet.module", "kohya"])
def test_a_lora_in_eight_bits_is_read(lora_pipe, tmp_path, layout):
    state = in_layout(lora_pipe.unet, layout, layers=(LINEAR,))
    stored = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items()}
    found = read(lora_pipe, stored, tmp_path / "l.safetensors")
    down, up = halves(lora_pipe.unet)[LINEAR]
    assert torch.equal(found[LINEAR].down, down.to(torch.float8_e4m3fn).float())
    assert torch.equal(found[LINEAR].up, up.to(torch.float8_e4m3fn).float())


def test_what_cannot_be_told_apart_or_is_not_known_is_refused(lora_pipe, tmp_path):
    one, two = (in_layout(lora_pipe.unet, layout, layers=(LINEAR,)) for layout in ("peft", "another adapter"))
    down = {name: tensor for name, tensor in one.items() if "lora_A" in name}
    cases = (
        (one | two, r"several LoRAs, default, turbo_v2"),
        (one | in_layout(lora_pipe.unet, "diffusers before PEFT", layers=(LINEAR,)), "twice"),
        (one | {f"unet.{LINEAR}.lora_B.bias": torch.ones(64)}, r"match no layer.*lora_B\.bias"),
        (one | {f"unet.{LINEAR}.lora_magnitude_vector": torch.ones(64)}, r"match no layer.*magnitude"),
        (one | {f"unet.{LINEAR}.dora_scale": torch.ones(64)}, r"match no layer.*dora_scale"),
        (down, "only one half"),
    )
    for number, (state, reason) in enumerate(cases):
        with pytest.raises(SetupError, match=reason):
            read(lora_pipe, state, tmp_path / f"{number}.safetensors")


def test_two_loras_of_different_layouts_add_up(tmp_path):
    before = Pipeline().unet.state_dict()
    pipe, change = Pipeline(), {}
    for seed, layout, scale in ((3, "lora_linear_layer", 1.0), (4, "another adapter", 0.5), (5, "kohya", 2.0)):
        state = in_layout(pipe.unet, layout, layers=(LINEAR,), seed=seed)
        lora.apply_lcm_weights(pipe, saved(state, tmp_path / f"{seed}.safetensors"), scale=scale)
        down, up = halves(pipe.unet, layers=(LINEAR,), seed=seed)[LINEAR]
        change[seed] = scale * (up @ down)
    weight = pipe.unet.get_submodule(LINEAR).weight
    assert torch.allclose(weight, before[f"{LINEAR}.weight"] + sum(change.values()), atol=1e-6)


# A complete LCM UNet and the base it is taken against


@pytest.mark.parametrize("wrap", ["unet.module.", "_orig_mod.", "model.diffusion_model.", "original", "sharded"])
def test_a_complete_unet_is_the_same_in_every_layout(lora_pipe, tmp_path, wrap):
    own = lora_pipe.unet.state_dict()
    base_file = saved(own, tmp_path / "base.safetensors")
    trained = {name: tensor + 0.25 for name, tensor in own.items()}
    names = original_svd.unet_places(own) if wrap == "original" else {name: name for name in own}
    prefix = {"original": "model.diffusion_model.", "sharded": ""}.get(wrap, wrap)
    (tmp_path / "lcm").mkdir()
    place = saved({prefix + names[name]: t for name, t in trained.items()}, tmp_path / "lcm" / "unet.safetensors")
    if wrap == "sharded":
        shard(place)
    pipe = SimpleNamespace(unet=Pipeline().unet)
    report = lora.apply_lcm_weights(pipe, tmp_path / "lcm", svd_base=base_file)
    assert report.kind == "unet"
    assert all(torch.allclose(tensor, own[name] + 0.25, atol=1e-6) for name, tensor in pipe.unet.state_dict().items())


@pytest.mark.parametrize("write", ["safetensors", "zip", "old"])
def test_a_lora_and_a_complete_unet_are_told_apart_unread(lora_pipe, tmp_path, write):
    writers = {
        "safetensors": saved,
        "zip": torch.save,
        "old": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    }
    for layout in LORA_LAYOUTS:
        path = tmp_path / f"{layout}.{write}"
        writers[write](in_layout(lora_pipe.unet, layout, layers=(LINEAR,)), path)
        assert not lookup.is_complete_unet(path)
    writers[write](lora_pipe.unet.state_dict(), tmp_path / "whole")
    assert lookup.is_complete_unet(tmp_path / "whole")
    saved(lora_pipe.unet.state_dict(), tmp_path / "remark", {"comment": "a lora was merged"})
    assert lookup.is_complete_unet(tmp_path / "remark")
    writers[write]({"encoder.weight": torch.zeros(1)}, tmp_path / "other")
    assert not lookup.is_complete_unet(tmp_path / "other")


def test_the_base_of_a_complete_unet_is_part_of_what_results_depend_on(base, tmp_path, monkeypatch):
    from mimicmotion.animation.models import Models

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    svd, whole = (saved(state, tmp_path / f"{name}.safetensors") for name in ("svd", "lcm"))
    adapter = saved(peft_state(Pipeline().unet), tmp_path / "lora.safetensors")

    def weights(**turbo):
        given = load_config()
        given.base_model_path = str(base)
        for name, value in ({"lcm_base_path": str(svd), "more_lora_paths": None} | turbo).items():
            setattr(given.turbo, name, value)
        return Models(given).weights

    before, plain = weights(lcm_lora_path=str(whole)), weights(lcm_lora_path=str(adapter))
    second = weights(lcm_lora_path=str(adapter), more_lora_paths=[str(whole)], more_lora_scales=None)
    assert "lcm base" not in plain and "lcm base" in second
    saved({name: tensor * 2 for name, tensor in state.items()}, svd)
    after = weights(lcm_lora_path=str(whole))
    assert {name for name in before if before[name] != after[name]} == {"lcm base"}
    assert weights(lcm_lora_path=str(adapter)) == plain
    (tmp_path / "no unet").mkdir()
    with pytest.raises(SetupError, match=r"is a complete UNet.*but no weights in"):
        weights(lcm_lora_path=str(whole), lcm_base_path=str(tmp_path / "no unet"))


def test_names_without_their_wrappers():
    assert plain_name("base_model.model.unet.module._orig_mod.conv_in.weight") == "conv_in.weight"
    assert plain_name("down_blocks.0._orig_mod.resnets.0.norm1.weight") == "down_blocks.0.resnets.0.norm1.weight"
    assert plain_name("module.pose_net.module.scale", ("pose_net.",)) == "scale"

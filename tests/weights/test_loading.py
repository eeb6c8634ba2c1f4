import json
import logging
import pickle
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from mimicmotion.errors import SetupError, UsageError
from mimicmotion.weights import loading, model_files
from mimicmotion.weights.tensors import Tensors
from tests.conftest import make_pose_net, make_tiny_vae, make_unet
from tests.weights.conftest import config

CPU = torch.device("cpu")


def sampled(pipeline):
    pose = torch.linspace(-1, 1, 4 * 3 * 64 * 64).reshape(4, 3, 64, 64)
    image = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    options = {"height": 64, "width": 64, "tile_size": 4, "tile_overlap": 1, "num_inference_steps": 1}
    options |= {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "output_type": "latent"}
    return pipeline(image, pose, generator=torch.Generator().manual_seed(0), **options).frames


def test_a_folder_alone_and_a_checkpoint_give_the_same_pipeline(base, copy):
    shutil.rmtree(copy / "pose_net")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    alone = loading.create_pipeline(config(base), device="cpu")
    checked = loading.create_pipeline(config(copy, base / "checkpoint.pth"), device="cpu")
    assert torch.equal(sampled(alone), sampled(checked)) and sampled(alone).std() > 0


def test_an_omegaconf_node_without_ckpt_path_works(base):
    node = OmegaConf.create({"base_model_path": str(base)})
    OmegaConf.set_struct(node, True)
    assert loading.create_pipeline(node, device="cpu").unet.dtype == torch.float32


def test_every_network_has_its_dtype_and_none_stays_on_meta(base, monkeypatch):
    before = torch.get_default_dtype()
    pipeline = loading.create_pipeline(config(base), device="cpu", dtype="bf16", vae_dtype="fp32")
    for part, dtype in {"unet": torch.bfloat16, "pose_net": torch.bfloat16, "image_encoder": torch.bfloat16}.items():
        assert {tensor.dtype for tensor in getattr(pipeline, part).parameters()} == {dtype}, part
    assert {tensor.dtype for tensor in pipeline.vae.parameters()} == {torch.float32}
    for part in ("unet", "pose_net", "image_encoder", "vae"):
        module = getattr(pipeline, part)
        assert {tensor.device for tensor in (*module.parameters(), *module.buffers())} == {CPU}, part
        assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert torch.get_default_dtype() == before


def test_a_torch_dtype_is_taken_as_it_is(base):
    # For offloading: fp16 weights wait on the CPU although they will not compute there.
    assert loading.create_pipeline(config(base), device="cpu", dtype=torch.float16).unet.dtype == torch.float16


def test_weights_are_not_initialised_at_random(base, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("random initialisation of a real tensor")

    kaiming = torch.nn.init.kaiming_uniform_
    monkeypatch.setattr(
        torch.nn.init, "kaiming_uniform_", lambda t, *a, **o: kaiming(t, *a, **o) if t.is_meta else forbidden()
    )
    unet, _ = loading.load_networks(base, None, CPU, torch.float32)
    stored = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(unet.conv_in.weight, stored["conv_in.weight"])


def test_the_vae_is_of_the_class_its_config_names(copy):
    shutil.rmtree(copy / "vae")
    make_tiny_vae().save_pretrained(copy / "vae")
    assert type(loading.create_pipeline(config(copy), device="cpu").vae).__name__ == "AutoencoderTiny"


def test_the_fp16_variant_is_used_where_it_is_all_there_is(base, copy):
    for part in ("unet", "vae", "image_encoder"):
        (file,) = (copy / part).glob("*.safetensors")
        half = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()
    pipeline, full = (loading.create_pipeline(config(folder), device="cpu") for folder in (copy, base))
    for part in ("unet", "vae", "image_encoder"):
        halved, whole = (getattr(p, part).state_dict() for p in (pipeline, full))
        assert all(torch.equal(halved[name], whole[name].half().to(whole[name].dtype)) for name in whole), part


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_prefixes_are_stripped(base, checkpoint, tmp_path, prefix):
    inner = {key.replace("unet.", "unet.module.", 1): tensor for key, tensor in checkpoint.items()}
    for number, state in enumerate(({prefix + key: tensor for key, tensor in checkpoint.items()}, inner)):
        torch.save(state, tmp_path / f"{number}.pth")
        unet, pose_net = loading.load_networks(base, tmp_path / f"{number}.pth", CPU, torch.float32)
        assert torch.equal(unet.conv_in.weight, checkpoint["unet.conv_in.weight"])
        assert torch.equal(pose_net.scale, checkpoint["pose_net.scale"])


def test_safetensors_checkpoints_load(base, checkpoint, tmp_path):
    save_file(checkpoint, tmp_path / "c.safetensors")
    _, pose_net = loading.load_networks(base, tmp_path / "c.safetensors", CPU, torch.float32)
    assert torch.equal(pose_net.final_proj.weight, checkpoint["pose_net.final_proj.weight"])


def refusal(base, state, folder) -> str:
    path = folder / "changed.pth"
    torch.save(state, path)
    with pytest.raises(SetupError) as error:
        loading.load_networks(base, path, CPU, torch.float32)
    assert str(path) in str(error.value)
    return str(error.value)


def test_missing_keys_are_listed(base, checkpoint, tmp_path):
    state = {key: value for key, value in checkpoint.items() if not key.startswith("unet.mid_block")}
    message = refusal(base, state, tmp_path)
    count = len(checkpoint) - len(state)
    assert "mid_block.attentions.0" in message and f"({count} in all)" in message and message.count("mid_block.") == 10
    without_pose = {key: value for key, value in checkpoint.items() if key.startswith("unet.")}
    assert "PoseNet" in refusal(base, without_pose, tmp_path)


def test_mis_shaped_keys_are_listed(base, checkpoint, tmp_path):
    message = refusal(base, checkpoint | {"unet.conv_in.weight": torch.zeros(32, 4, 3, 3)}, tmp_path)
    assert "conv_in.weight is (32, 4, 3, 3), not (32, 8, 3, 3)" in message


def test_values_that_are_not_finite_are_refused(base, checkpoint, tmp_path):
    bad = checkpoint["pose_net.scale"].clone().fill_(float("nan"))
    assert "scale" in refusal(base, checkpoint | {"pose_net.scale": bad}, tmp_path)
    torch.save(checkpoint | {"pose_net.scale": bad.fill_(1e6)}, tmp_path / "large.pth")
    with pytest.raises(SetupError, match=r"not finite in torch\.float16"):
        loading.load_networks(base, tmp_path / "large.pth", CPU, torch.float16)


def test_a_bare_unet_is_no_whole_checkpoint(base, tmp_path):
    assert "--pose_net_path" in refusal(base, make_unet().state_dict(), tmp_path)
    assert "starts with unet. or pose_net." in refusal(base, {"encoder.weight": torch.zeros(1)}, tmp_path)


def test_extras_are_reported_and_ignored(base, checkpoint, tmp_path, caplog):
    extra = {name: torch.zeros(1) for name in ("unet.more.weight", "vae.conv.weight", "image_encoder.x", "optimizer.y")}
    torch.save(checkpoint | extra, tmp_path / "c.pth")
    with caplog.at_level(logging.WARNING):
        loading.load_networks(base, tmp_path / "c.pth", CPU, torch.float32)
    for name in ("more.weight", "vae.conv.weight", "image_encoder.x", "optimizer.y"):
        assert name in caplog.text


def test_the_published_key_layout(caplog):
    """1428 UNet keys and 19 of PoseNet, under the names of MimicMotion_1-1.pth, on the meta device."""
    from accelerate import init_empty_weights
    from diffusers import UNetSpatioTemporalConditionModel

    from mimicmotion.modules.pose_net import PoseNet

    with init_empty_weights():
        unet = UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20))
        pose_net = PoseNet(noise_latent_channels=320)
    state = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    assert len(state) == 1428 and sum(tensor.numel() for tensor in state.values()) == 1_524_623_082
    state |= {f"pose_net.{name}": tensor for name, tensor in pose_net.state_dict().items()}
    tensors = Tensors("published.pth", {name: tensor.shape for name, tensor in state.items()}, state.__getitem__)
    parts = loading.split_checkpoint(tensors)
    assert [len(part) for part in parts] == [1428, 19] and not caplog.text
    for part, module in zip(parts, (unet, pose_net), strict=True):
        assert part.shapes == {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert parts[0].shapes["down_blocks.0.attentions.0.time_mixer.mix_factor"] == torch.Size([1])
    assert parts[1].shapes["final_proj.weight"] == torch.Size([320, 128, 1, 1])


def damage(part, what, reason):
    return pytest.param(part, what, reason, id=f"{part}: {reason}")


@pytest.mark.parametrize(
    ("part", "what", "reason"),
    [
        damage("vae/diffusion_pytorch_model.safetensors", b"version https://git-lfs", "LFS"),
        damage("image_encoder/model.safetensors", b"<html>", "web page"),
        damage("unet/diffusion_pytorch_model.safetensors", b"", "empty"),
        damage("unet/config.json", b"{", "JSON"),
        damage("unet/config.json", b'{"_class_name": "UNet2DConditionModel"}', "must be Stable Video Diffusion"),
        damage("vae/config.json", b'{"_class_name": "AutoencoderKL"}', "AutoencoderTiny"),
        damage("scheduler/scheduler_config.json", b"[]", "not settings"),
        damage("vae/diffusion_pytorch_model.safetensors", None, "no weights in"),
        damage("scheduler/scheduler_config.json", None, "not a whole SVD model"),
        damage("pose_net/config.json", None, "ckpt_path is not set"),
    ],
)
def test_a_damaged_base_is_named(copy, part, what, reason):
    (copy / part).unlink() if what is None else (copy / part).write_bytes(what)
    with pytest.raises(SetupError, match=reason):
        loading.create_pipeline(config(copy), device="cpu")


@pytest.mark.parametrize("part", ["vae/diffusion_pytorch_model", "image_encoder/model"])
def test_the_base_models_weights_must_fit_their_config(copy, part):
    file = copy / f"{part}.safetensors"
    state = load_file(file)
    name = max(state, key=lambda name: state[name].numel())
    save_file({key: value for key, value in state.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(SetupError, match=r"missing keys|does not fit"):
        loading.create_pipeline(config(copy), device="cpu")
    save_file(state | {name: torch.zeros(3, 3)}, file, {"format": "pt"})
    with pytest.raises(SetupError, match=r"mismatched keys|does not fit"):
        loading.create_pipeline(config(copy), device="cpu")


def test_paths_that_do_not_exist(base, tmp_path, monkeypatch):
    with pytest.raises(SetupError, match="base model not found"):
        loading.create_pipeline(config(tmp_path / "none"), device="cpu")
    with pytest.raises(SetupError, match=r"checkpoint not found.*download_weights.py"):
        loading.create_pipeline(config(base, tmp_path / "none.pth"), device="cpu")


def test_a_model_of_the_hub_is_fetched_or_its_absence_explained(base, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.chdir(tmp_path)
    asked = []

    def snapshot(name, local_files_only=False, **options):
        asked.append((name, local_files_only, options["allow_patterns"]))
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        return str(base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    loading.create_pipeline(config("owner/svd", base / "checkpoint.pth"), device="cpu")
    assert [call[:2] for call in asked] == [("owner/svd", True), ("owner/svd", False)]
    assert not any(pattern.startswith("unet/") for pattern in asked[0][2])  # MimicMotion brings its own
    offline = lambda *names, **options: snapshot(*names, **options | {"local_files_only": True})  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(SetupError, match="out of reach"):
        loading.create_pipeline(config("owner/svd"), device="cpu")


def test_a_local_copy_of_a_hub_model_is_found(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "SVD").mkdir(parents=True)
    (tmp_path / "models" / "SVD" / "svd-xt").symlink_to(base)
    assert model_files.resolve_base("owner/svd-xt").resolve() == base


def test_the_canvas_of_the_poses_is_part_of_the_fingerprint(base, copy):
    path = copy / "pose_net" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"canvas_side": 480}))
    assert model_files.pose_canvas(config(copy)) == 480 != model_files.pose_canvas(config(base))
    assert model_files.weights_fingerprint(config(copy)) != model_files.weights_fingerprint(config(base))


def test_the_fingerprint_names_what_the_numbers_depend_on(base, copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = model_files.weights_fingerprint(config(base))
    assert set(first) == {"unet", "pose_net", "vae", "image_encoder", "configs"}
    assert model_files.weights_fingerprint(config(copy)) == first
    assert "checkpoint" in model_files.weights_fingerprint(config(base, base / "checkpoint.pth"))
    settings = json.loads((copy / "vae" / "config.json").read_text())
    (copy / "vae" / "config.json").write_text(json.dumps(settings | {"scaling_factor": 1.0}))
    make_pose_net().save_pretrained(copy / "pose_net")
    second = model_files.weights_fingerprint(config(copy))
    assert {name for name in first if first[name] != second[name]} == {"configs", "pose_net"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"offload": "model"}, "--offload none"),
        ({"offload": "sequential"}, "--offload none"),
        ({"offload": "some"}, "none, model, sequential"),
    ],
)
def test_placements_that_make_no_sense_on_a_cpu(pipeline, options, reason):
    with pytest.raises(UsageError, match=reason):
        loading.place_pipeline(pipeline, "cpu", **options)


def test_offload_is_given_to_diffusers(monkeypatch):
    calls = []
    fake = SimpleNamespace(
        enable_model_cpu_offload=lambda device: calls.append(("model", device)),
        enable_sequential_cpu_offload=lambda device: calls.append(("sequential", device)),
    )
    cuda = torch.device("cuda:1")
    loading.place_pipeline(fake, "cuda:1", offload="model")
    loading.place_pipeline(fake, cuda, offload="sequential")
    assert calls == [("model", cuda), ("sequential", cuda)]
    with pytest.raises(UsageError, match="layer by layer"):
        loading.place_pipeline(fake, cuda, offload="sequential", compile=True)


class Doubling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) * 2


def test_compile_replaces_the_computation_not_the_unet(monkeypatch):
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend))
    unet, x = Doubling(), torch.ones(1, 3)
    expected, names = unet(x), list(unet.state_dict())
    fake = SimpleNamespace(unet=unet, vae=SimpleNamespace(decoder=Doubling()), to=unet.to)
    loading.place_pipeline(fake, "cpu", compile=True)
    assert fake.unet is unet and list(unet.state_dict()) == names
    assert torch.equal(unet(x), expected) and graphs


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", loading.OFFLOAD_MODES)
def test_every_offload_mode_computes_the_same(base, offload):
    expected = sampled(loading.create_pipeline(config(base), device="cpu"))
    pipeline = loading.create_pipeline(config(base), device="cpu")
    loading.place_pipeline(pipeline, "cuda", offload=offload)
    assert torch.allclose(sampled(pipeline).cpu(), expected, rtol=1e-2, atol=1.0)


@pytest.mark.parametrize("part", ["vae/diffusion_pytorch_model", "image_encoder/model", "unet/diffusion_pytorch_model"])
@pytest.mark.parametrize("content", ["pickle", "odd pickle", "old pickle", "eight bits", "integers"])
def test_files_under_another_kinds_name_and_of_other_numbers_are_named(copy, part, content):
    path = copy / f"{part}.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    first = next(name for name, tensor in state.items() if tensor.ndim > 1)
    if content == "pickle":
        torch.save(state, path)
    elif content == "old pickle":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif content == "odd pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif content == "eight bits":
        scale = f"{first.removesuffix('.weight')}.scale_weight"
        save_file(state | {first: state[first].to(torch.float8_e4m3fn), scale: torch.ones(2)}, path)
    else:
        save_file(state | {first: torch.ones(state[first].shape, dtype=torch.int8)}, path)
    with pytest.raises(SetupError, match=re.escape(path.name)):
        loading.create_pipeline(config(copy), device="cpu")


def test_a_unet_in_scaled_eight_bits_is_read_with_its_scales(base, copy):
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    state, stored = load_file(path), {}
    path.unlink()  # it is mapped
    for name, tensor in state.items():
        if tensor.ndim == 2 and name.endswith(".weight"):
            scale = tensor.abs().amax(1, keepdim=True) / 400
            stored[f"{name.removesuffix('.weight')}.weight_scale"] = scale
            tensor = (tensor / scale).to(torch.float8_e4m3fn)
        stored[name] = tensor
    save_file(stored, path)
    found, true = (loading.create_pipeline(config(folder), device="cpu").unet.state_dict() for folder in (copy, base))
    assert all((found[name] - true[name]).norm() <= 0.06 * true[name].norm() for name in true)

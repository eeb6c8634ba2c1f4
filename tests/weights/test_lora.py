import json
import logging
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mimicmotion.errors import SetupError, UsageError
from mimicmotion.weights import lookup, lora, lora_extraction
from mimicmotion.weights.tensors import open_tensors
from tests.conftest import make_unet

RANK = 4
# A Linear, a Conv2d, a 1x1 shortcut, a Conv3d and the convolution that PoseNet's features join.
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV2D = "down_blocks.0.resnets.0.spatial_res_block.conv1"
CONV3D = "down_blocks.0.resnets.0.temporal_res_block.conv1"
LAYERS = (LINEAR, CONV2D, CONV3D, "conv_in", "time_embedding.linear_1")


class Pipeline:
    """What `apply_lcm_weights` needs of a pipeline."""

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(0)
        self.unet = make_unet().to(dtype).eval()


@pytest.fixture
def pipe():
    return Pipeline()


def output(unet):
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(shape, generator=generator).to(unet.dtype)  # noqa: E731
    with torch.no_grad():
        return unet(draw(1, 3, 8, 8, 8), torch.tensor(1.0), draw(1, 1, 16), draw(1, 3)).sample.float()


def halves(unet, layers=LAYERS, rank=RANK, seed=3):
    """name -> (down, up) with kernels as PEFT has them."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name in layers:
        weight = unet.get_submodule(name).weight
        up_shape = (weight.shape[0], rank, *([1] * (weight.ndim - 2)))
        down = torch.randn((rank, *weight.shape[1:]), generator=generator) * 0.1
        result[name] = (down, torch.randn(up_shape, generator=generator) * 0.1)
    return result


def product(down, up):
    """The change of a weight, by composing the two layers on an identity: slow, but no reshaping of kernels."""
    if down.ndim == 2:
        return up @ down
    return torch.einsum("or...,rikl->oikl" if down.ndim == 4 else "or...,riklm->oiklm", up.flatten(1), down)


def peft_state(unet, prefix="unet.", **options):
    return {
        f"{prefix}{name}.lora_{letter}.weight": matrix
        for name, pair in halves(unet, **options).items()
        for letter, matrix in zip("AB", pair, strict=True)
    }


def kohya_state(unet, alpha=None, **options):
    state = {}
    for name, (down, up) in halves(unet, **options).items():
        key = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        if alpha is not None:
            state[f"{key}.alpha"] = torch.tensor(float(alpha))
    return state


def saved(state, path, metadata=None):
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    return path


def weights_of(unet):
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


@pytest.mark.parametrize("prefix", ["unet.", "", "base_model.model.", "base_model.model.unet."])
def test_a_peft_lora_adds_its_product_and_touches_nothing_else(pipe, tmp_path, prefix):
    before = weights_of(pipe.unet)
    report = lora.apply_lcm_weights(pipe, saved(peft_state(pipe.unet, prefix), tmp_path / "l.safetensors"), scale=0.5)
    assert (report.kind, report.matched, report.fused, report.ranks) == ("peft", len(LAYERS), True, (RANK, RANK))
    pairs = halves(pipe.unet)
    for name, tensor in pipe.unet.state_dict().items():
        change = product(*pairs[name[:-7]]) if name[:-7] in pairs and name.endswith("weight") else 0
        assert torch.allclose(tensor, before[name] + 0.5 * change, atol=1e-6), name


def test_the_conv_product_is_that_of_the_two_convolutions(pipe):
    """down then up as layers equal one layer with the product as its kernel: what a LoRA means."""
    x = torch.randn(1, 32, 3, 6, 6)
    down, up = halves(pipe.unet)[CONV3D]
    composed = nn.functional.conv3d(nn.functional.conv3d(x, down, padding=(1, 0, 0)), up)
    delta = lora.LoraLayer(down, up, 1.0).delta(pipe.unet.get_submodule(CONV3D).weight)
    assert torch.allclose(nn.functional.conv3d(x, delta, padding=(1, 0, 0)), composed, atol=1e-5)


@pytest.mark.parametrize("state", [peft_state, lambda unet: kohya_state(unet, alpha=2)])
def test_fused_equals_live(tmp_path, state):
    plain = output(Pipeline().unet)
    results = {}
    for fuse in (True, False):
        pipe = Pipeline()
        before = weights_of(pipe.unet)
        path = saved(state(pipe.unet), tmp_path / "l.safetensors")
        report = lora.apply_lcm_weights(pipe, path, scale=0.7, fuse=fuse)
        results[fuse] = output(pipe.unet)
        if not fuse:
            kept = {name.replace("base_layer.", ""): tensor for name, tensor in pipe.unet.state_dict().items()}
            assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())
        assert report.fused is fuse
    assert torch.allclose(results[True], results[False], atol=1e-5)
    assert (results[True] - plain).abs().max() > 1e-2


def test_a_live_adapter_keeps_ranks_apart_and_leaves_other_layers_plain(pipe, tmp_path):
    state = peft_state(pipe.unet, layers=(LINEAR,), rank=3) | peft_state(pipe.unet, layers=(CONV2D,), rank=5)
    report = lora.apply_lcm_weights(pipe, saved(state, tmp_path / "l.safetensors"), fuse=False)
    wrapped = {name: module for name, module in pipe.unet.named_modules() if hasattr(module, "lora_A")}
    assert set(wrapped) == {LINEAR, CONV2D} and report.ranks == (3, 5)
    assert wrapped[LINEAR].lora_A[lora.ADAPTER].weight.shape[0] == 3
    assert not any(parameter.requires_grad for parameter in pipe.unet.parameters())


def test_a_live_adapter_on_conv_in_works_beside_the_pose(pipeline, tmp_path):
    from tests.conftest import make_pipeline

    pose = torch.linspace(-1, 1, 4 * 3 * 64 * 64).reshape(4, 3, 64, 64)
    size = {"height": 64, "width": 64, "tile_size": 4, "tile_overlap": 1, "num_inference_steps": 1}
    guidance = {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0}

    def sample(pipe, image_pose):
        generator = torch.Generator().manual_seed(0)
        image = torch.full((1, 3, 64, 64), 0.3)
        return pipe(image, image_pose, generator=generator, output_type="latent", **size, **guidance).frames

    results = {}
    for fuse in (True, False):
        pipe = make_pipeline()
        path = saved(peft_state(pipe.unet, layers=("conv_in", LINEAR)), tmp_path / "l.safetensors")
        lora.apply_lcm_weights(pipe, path, fuse=fuse)
        results[fuse] = sample(pipe, pose)
    # The noise has size 700, of which float32 keeps about 1e-4.
    assert torch.allclose(results[True], results[False], atol=1e-3)
    assert (sample(pipe, -pose) - results[False]).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_summed_in_fp32(tmp_path, dtype):
    pipe = Pipeline(dtype)
    before = weights_of(pipe.unet)
    path = saved(peft_state(pipe.unet), tmp_path / "l.safetensors")
    lora.apply_lcm_weights(pipe, path, scale=0.3)
    for name, pair in halves(pipe.unet).items():
        weight = pipe.unet.get_submodule(name).weight
        exact = before[f"{name}.weight"].double() + 0.3 * product(*(half.double() for half in pair))
        # Half a unit in the last place: the sum was rounded once.
        rounding = torch.finfo(dtype).eps / 2 * exact.abs() * 1.001 + torch.finfo(dtype).smallest_normal * 1e-3
        assert weight.dtype == dtype and ((weight.double() - exact).abs() <= rounding).all(), name


def test_alpha_comes_from_the_file_its_metadata_or_the_config_beside_it(tmp_path):
    def change(name, state, metadata=None):
        pipe = Pipeline()
        before = pipe.unet.get_submodule(LINEAR).weight.clone()
        lora.apply_lcm_weights(pipe, saved(state(pipe.unet), tmp_path / name / "l.safetensors", metadata))
        return pipe.unet.get_submodule(LINEAR).weight - before

    for name in "abcde":
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8}))
    (tmp_path / "c" / "adapter_config.json").write_text(
        json.dumps({"lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 12}})
    )
    plain = change("a", peft_state)
    assert torch.allclose(change("b", peft_state), 8 / RANK * plain, atol=1e-6)
    assert torch.allclose(change("c", peft_state), 12 / RANK * plain, atol=1e-6)
    stored = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2, "unet.r": RANK})}
    assert torch.allclose(change("d", peft_state, stored), 2 / RANK * plain, atol=1e-6)
    assert torch.allclose(change("e", lambda unet: kohya_state(unet, alpha=1)), 1 / RANK * plain, atol=1e-6)


def test_variants_of_lora_are_refused_not_misread(pipe, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"use_rslora": True}))
    with pytest.raises(SetupError, match="use_rslora"):
        lora.apply_lcm_weights(pipe, saved(peft_state(pipe.unet), tmp_path / "l.safetensors"))
    magnitude = {f"unet.{LINEAR}.lora_magnitude_vector": torch.ones(32)}
    with pytest.raises(SetupError, match="lora_magnitude_vector"):
        lora.apply_lcm_weights(pipe, saved(peft_state(pipe.unet) | magnitude, tmp_path / "m.safetensors"))


def refused(pipe, state, tmp_path) -> str:
    before = weights_of(pipe.unet)
    path = saved(state, tmp_path / "bad.safetensors")
    for fuse in (True, False):
        with pytest.raises(SetupError) as error:
            lora.apply_lcm_weights(pipe, path, fuse=fuse)
    assert str(path) in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.unet.state_dict().items())
    return str(error.value)


@pytest.mark.parametrize("make", [peft_state, kohya_state])
def test_a_lora_that_matches_nothing_is_an_error(pipe, tmp_path, make):
    state = {re.sub("down_blocks|time_embedding|conv_in", "other", name): t for name, t in make(pipe.unet).items()}
    message = refused(pipe, state, tmp_path)
    assert "none of its keys" in message and "(10 in all)" in message


def test_a_lora_that_matches_in_part_lists_the_rest(pipe, tmp_path):
    extra = {f"unet.other.to_q.lora_{letter}.weight": torch.ones(2, 2) for letter in "AB"}
    message = refused(pipe, peft_state(pipe.unet) | extra, tmp_path)
    assert "unet.other.to_q.lora_A.weight" in message and "(2 in all)" in message and "conv_in" not in message


def test_half_a_lora_is_an_error(pipe, tmp_path):
    state = peft_state(pipe.unet)
    del state[f"unet.{CONV2D}.lora_B.weight"]
    assert CONV2D in refused(pipe, state, tmp_path)


@pytest.mark.parametrize("part", ["A", "B"])
def test_shapes_that_do_not_fit_are_errors(pipe, tmp_path, part):
    for shape in ((RANK + 1, 7), (7, RANK + 1), (RANK, 7), (7, RANK), (RANK,)):
        state = peft_state(pipe.unet) | {f"unet.{LINEAR}.lora_{part}.weight": torch.ones(shape)}
        assert LINEAR in refused(pipe, state, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(pipe, tmp_path, value):
    state = peft_state(pipe.unet)
    state[f"unet.{LINEAR}.lora_B.weight"][0, 0] = value
    assert "not finite" in refused(pipe, state, tmp_path)


def test_an_overflow_in_half_precision_is_an_error(tmp_path):
    pipe = Pipeline(torch.float16)
    path = saved(peft_state(pipe.unet), tmp_path / "l.safetensors")
    with pytest.raises(SetupError, match=r"not finite in torch\.float16"):
        lora.apply_lcm_weights(pipe, path, scale=1e8)


def test_a_file_that_is_none_of_the_three(pipe, tmp_path):
    assert "neither a LoRA nor a UNet" in refused(pipe, {"encoder.weight": torch.ones(2)}, tmp_path)


def test_folders_and_names(pipe, tmp_path):
    with pytest.raises(SetupError, match="no weight file"):
        lookup.find_lcm_file(tmp_path)
    one = saved(peft_state(pipe.unet), tmp_path / "one.safetensors")
    assert lookup.find_lcm_file(one) == lookup.find_lcm_file(tmp_path) == one
    two = saved(peft_state(pipe.unet), tmp_path / "two.safetensors")
    with pytest.raises(SetupError, match=r"one.safetensors, two.safetensors.*--lcm_weight_name"):
        lookup.find_lcm_file(tmp_path)
    assert lookup.find_lcm_file(tmp_path, "two.safetensors") == two
    with pytest.raises(SetupError, match=r"no three.safetensors.*one.safetensors"):
        lookup.find_lcm_file(tmp_path, "three.safetensors")
    standard = saved(peft_state(pipe.unet), tmp_path / lookup.LORA_FILE)
    assert lookup.find_lcm_file(tmp_path) == standard
    with pytest.raises(SetupError, match="does not exist"):
        lookup.find_lcm_file(tmp_path / "none")


def test_a_model_of_the_hub(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def download(repo, filename, local_files_only=False):
        asked.append((repo, filename))
        if filename == "absent":
            raise LocalEntryNotFoundError("no network")
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert lookup.find_lcm_file("owner/lcm") == tmp_path / lookup.LORA_FILE
    assert lookup.find_lcm_file("owner/lcm", "x.safetensors").name == "x.safetensors"
    assert asked == [("owner/lcm", lookup.LORA_FILE), ("owner/lcm", "x.safetensors")]
    with pytest.raises(SetupError, match="out of reach"):
        lookup.find_lcm_file("owner/lcm", "absent")


@pytest.fixture
def svd(tmp_path):
    """(base, trained) UNets' states, and an SVD folder with the base."""
    torch.manual_seed(7)
    unet = make_unet()
    base = weights_of(unet)
    trained = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in base.items()}
    unet.save_pretrained(tmp_path / "svd" / "unet")
    return base, trained, tmp_path / "svd"


@pytest.mark.parametrize(("prefix", "dtype"), [("", torch.float32), ("unet.", torch.float32), ("", torch.float16)])
def test_a_complete_unet_is_merged_as_its_difference(svd, tmp_path, prefix, dtype, caplog):
    base, trained, folder = svd
    pipe = Pipeline(dtype)
    before = weights_of(pipe.unet)
    path = saved({prefix + name: tensor for name, tensor in trained.items()}, tmp_path / "lcm.safetensors")
    with caplog.at_level(logging.INFO):
        report = lora.apply_lcm_weights(pipe, path, scale=0.5, svd_base=folder)
    assert (report.kind, report.matched) == ("unet", len(base)) and "complete UNet" in caplog.text
    for name, tensor in pipe.unet.state_dict().items():
        expected = (before[name].float() + 0.5 * (trained[name] - base[name])).to(dtype)
        assert torch.equal(tensor, expected), name
    size = sum(tensor.square().sum() for tensor in base.values())
    change = sum((0.5 * (trained[name] - base[name])).square().sum() for name in base)
    assert report.relative_change == pytest.approx(float((change / size).sqrt()), rel=1e-4)


def test_scale_one_on_the_base_itself_gives_the_trained_unet(svd, tmp_path):
    base, trained, folder = svd
    pipe = Pipeline()
    pipe.unet.load_state_dict(base)
    path = saved(trained, tmp_path / "lcm.safetensors")
    lora.apply_lcm_weights(pipe, path, svd_base=folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.allclose(tensor, trained[name], atol=1e-6) for name, tensor in pipe.unet.state_dict().items())


def test_a_complete_unet_needs_its_base(svd, tmp_path, pipe):
    path = saved(svd[1], tmp_path / "lcm.safetensors")
    for base in (None, tmp_path / "nowhere"):
        with pytest.raises(SetupError, match=r"complete UNet.*download_weights.py"):
            lora.apply_lcm_weights(pipe, path, svd_base=base)
    with pytest.raises(UsageError, match=r"extract_lcm_lora.py"):
        lora.apply_lcm_weights(pipe, path, fuse=False, svd_base=svd[2])


def test_unets_that_differ_in_keys_or_shapes_are_refused_untouched(svd, tmp_path, pipe):
    before = weights_of(pipe.unet)
    cases = {
        "lacks weights": {name: tensor for name, tensor in svd[1].items() if not name.startswith("mid_block")},
        "does not fit": svd[1] | {"conv_in.weight": torch.ones(32, 4, 3, 3)},
        "does not have": svd[1] | {"extra.weight": torch.ones(1)},
    }
    for reason, state in cases.items():
        with pytest.raises(SetupError, match=reason):
            lora.apply_lcm_weights(pipe, saved(state, tmp_path / "lcm.safetensors"), svd_base=svd[2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.unet.state_dict().items())


def test_a_complete_unet_with_nan_is_refused(svd, tmp_path, pipe):
    svd[1]["conv_out.bias"][0] = float("nan")
    with pytest.raises(SetupError, match=r"conv_out.bias.*not finite"):
        lora.apply_lcm_weights(pipe, saved(svd[1], tmp_path / "lcm.safetensors"), svd_base=svd[2])


def test_doubtful_bases_are_reported(svd, tmp_path, pipe, caplog):
    base, _, _ = svd
    torch.manual_seed(99)
    path = saved({name: torch.randn_like(tensor) for name, tensor in base.items()}, tmp_path / "lcm.safetensors")
    half = saved({name: tensor.half() for name, tensor in base.items()}, tmp_path / "half.safetensors")
    lora.apply_lcm_weights(pipe, path, svd_base=half)
    assert "unrelated model" in caplog.text and "half precision" in caplog.text


def extracted(svd, tmp_path, rank, *options):
    from scripts import extract_lcm_lora

    lcm = saved(svd[1], tmp_path / "lcm.safetensors")
    arguments = ["--lcm", str(lcm), "--base", str(svd[2]), "--rank", str(rank), "--output", str(tmp_path / "out")]
    assert extract_lcm_lora.main([*arguments, *options]) == 0
    return tmp_path / "out" / lookup.LORA_FILE


def test_extraction_at_full_rank_is_the_merge_of_all_matrices(svd, tmp_path, capsys):
    base, trained, _ = svd
    path = extracted(svd, tmp_path, 10_000, "--dtype", "fp32")
    pipe = Pipeline()
    before = weights_of(pipe.unet)
    assert lora.apply_lcm_weights(pipe, path).kind == "peft"
    for name, tensor in pipe.unet.state_dict().items():
        matrix = tensor.ndim > 1
        assert torch.allclose(tensor, before[name] + matrix * (trained[name] - base[name]), atol=1e-4), name
    report = capsys.readouterr().out
    vectors = sum(tensor.ndim < 2 for tensor in base.values())
    assert f"left out: {vectors} norms" in report and "down_blocks.0" in report


def test_extraction_finds_a_low_rank_change_exactly_and_says_what_it_keeps(tmp_path):
    torch.manual_seed(2)
    base = {"a.0.weight": torch.randn(40, 30), "a.0.bias": torch.zeros(40), "b.weight": torch.randn(8, 8)}
    change = torch.randn(40, 3) @ torch.randn(3, 30)
    trained = base | {"a.0.weight": base["a.0.weight"] + change, "a.0.bias": torch.ones(40)}
    files = [open_tensors(saved(state, tmp_path / f"{n}.safetensors")) for n, state in enumerate((trained, base))]
    tensors, report = lora_extraction.extract_lora(*files, rank=3)
    product = tensors["unet.a.0.lora_B.weight"] @ tensors["unet.a.0.lora_A.weight"]
    assert set(tensors) == {"unet.a.0.lora_A.weight", "unet.a.0.lora_B.weight"}
    assert torch.allclose(product, change, atol=1e-4)
    assert (report.layers, report.unchanged, report.left_out) == (1, 1, 1)
    assert report.left_out_energy == pytest.approx(40)
    assert report.kept == pytest.approx(1 - 40 / (40 + float(change.square().sum())), rel=1e-5)


def test_extraction_is_the_best_of_its_rank_and_repeatable(svd, tmp_path):
    base, trained, _ = svd
    first = load_file(extracted(svd, tmp_path, 6, "--dtype", "fp32"))
    again = load_file(extracted(svd, tmp_path, 6, "--dtype", "fp32"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    delta = (trained[f"{CONV2D}.weight"] - base[f"{CONV2D}.weight"]).flatten(1)
    product = (first[f"unet.{CONV2D}.lora_B.weight"].flatten(1) @ first[f"unet.{CONV2D}.lora_A.weight"].flatten(1))
    best = torch.linalg.svdvals(delta)[6:].square().sum().sqrt()
    assert best <= (delta - product).norm() * (1 + 1e-5) <= 1.02 * best


def test_the_randomised_svd_is_as_good_as_an_exact_one_on_a_flat_spectrum(tmp_path):
    torch.manual_seed(4)
    delta = torch.randn(300, 200)
    states = ({"a.weight": delta}, {"a.weight": torch.zeros_like(delta)})
    files = [open_tensors(saved(state, tmp_path / f"{number}.safetensors")) for number, state in enumerate(states)]
    _, report = lora_extraction.extract_lora(*files, rank=20)
    values = torch.linalg.svdvals(delta).square()
    assert report.kept == pytest.approx(float(values[:20].sum() / values.sum()), rel=0.02)


def test_extraction_of_different_networks_is_an_error(svd, tmp_path, capsys):
    from scripts import extract_lcm_lora

    other = saved({"a.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    assert extract_lcm_lora.main(["--lcm", str(other), "--base", str(svd[2])]) == 3
    assert "not the same network" in capsys.readouterr().err
    assert extract_lcm_lora.main(["--lcm", str(other), "--base", str(svd[2]), "--rank", "0"]) == 2
    assert extract_lcm_lora.main(["--lcm", str(tmp_path / "none"), "--base", str(svd[2])]) == 3


# ----------------------------------------------------------------------------------------------------
# Stored in 8-bit floats


def in_eight_bits(state, dtype, name_of=None, rows=False):
    """The state in 8-bit floats, each weight divided by a scale that `name_of` names where it is given."""
    stored = {}
    for key, weight in state.items():
        scale = torch.ones(1)
        if name_of:
            largest = weight.flatten(1).abs().amax(1, keepdim=True) if rows else weight.abs().max().reshape(1)
            scale = largest / 200
            stored[name_of(key.removesuffix(".weight"))] = scale
        stored[key] = (weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).to(dtype)
    return stored


def applied(state, path):
    pipe = Pipeline()
    lora.apply_lcm_weights(pipe, saved(state, path))
    return dict(pipe.unet.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("ending", [None, "scale_weight", "weight_scale", "weight.scale"])
def test_a_lora_in_eight_bits_is_the_lora_it_was_made_of(pipe, tmp_path, dtype, ending):
    whole = peft_state(pipe.unet)
    name_of = ending and (lambda module: f"{module}.{ending}")
    stored = in_eight_bits(whole, dtype, name_of, rows=ending == "weight_scale")
    if ending:
        stored |= {"scaled_fp8": torch.empty(0, dtype=dtype), f"unet.{LINEAR}.lora_A.scale_input": torch.ones(1)}
    found, expected = (applied(state, tmp_path / f"{i}.safetensors") for i, state in enumerate((stored, whole)))
    plain = dict(pipe.unet.named_parameters())
    for name in LAYERS:
        change, true = (weights[f"{name}.weight"] - plain[f"{name}.weight"] for weights in (found, expected))
        assert (change - true).norm() < 0.12 * true.norm()  # 3 or 2 binary digits in either factor
        assert torch.equal(change, true) is False


@pytest.mark.parametrize(
    "odd",
    [
        {f"unet.{LINEAR}.lora_A.weight_scale_inv": torch.ones(1)},
        {f"unet.{LINEAR}.lora_C.scale_weight": torch.ones(1)},
        {f"unet.{LINEAR}.lora_A.scale_weight": torch.ones(3)},
        {f"unet.{LINEAR}.lora_A.scale_weight": torch.full((1,), float("nan"))},
        {f"unet.{LINEAR}.lora_A.weight": torch.ones(RANK, 32, dtype=torch.int8)},
    ],
    ids=["inverse", "homeless", "odd shape", "nan", "integers"],
)
def test_scales_that_cannot_be_placed_are_refused_before_anything_is_done(pipe, tmp_path, odd):
    path = saved(in_eight_bits(peft_state(pipe.unet), torch.float8_e4m3fn) | odd, tmp_path / "lora.safetensors")
    for unet in (pipe.unet, pipe.unet.to("meta")):
        with pytest.raises(SetupError, match=r"lora\.safetensors"):
            lora.check_lcm_weights(unet, path)


def test_a_scale_of_weights_that_are_whole_is_refused(pipe, tmp_path):
    state = peft_state(pipe.unet) | {f"unet.{LINEAR}.lora_A.scale_weight": torch.ones(1)}
    with pytest.raises(SetupError, match="cannot be used"):
        lora.check_lcm_weights(pipe.unet, saved(state, tmp_path / "lora.safetensors"))

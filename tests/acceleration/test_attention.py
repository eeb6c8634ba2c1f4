"""Attention kernels by name: which one is called, with what, and what is said where one is lacking."""

import importlib.metadata

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import AttnProcessor2_0

from mimicmotion.acceleration import attend, attention, chosen, require_attention, set_attention
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError, UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_native_equals_the_processor_of_diffusers_bit_for_bit(unet, predict):
    unet.set_attn_processor(AttnProcessor2_0())
    expected = predict(unet)
    set_attention(unet, "native")
    assert torch.equal(predict(unet), expected)


def test_every_layer_with_more_than_one_key_asks_the_kernel_that_was_named(unet, predict, monkeypatch):
    expected, asked = predict(unet), []
    dispatch = attention_dispatch.dispatch_attention_fn

    def noted(q, k, v, backend):
        asked.append((backend.value, k.shape[1]))
        return dispatch(q, k, v, backend=backend)

    monkeypatch.setattr(attention_dispatch, "dispatch_attention_fn", noted)
    set_attention(unet, "_native_math")
    torch.testing.assert_close(predict(unet), expected, rtol=1e-6, atol=1e-9)
    layers = [name for name in unet.attn_processors if ".attn1." in name]
    assert asked and {name for name, _ in asked} == {"_native_math"}
    assert all(keys > 1 for _, keys in asked)
    # Cross-attention looks at one embedding, in space; in time at the same one.
    assert len(asked) == len(layers)


@pytest.mark.parametrize("entries", [9, 10, 11, 25, 41])
def test_batches_above_the_limit_are_split_with_equal_results(monkeypatch, entries):
    monkeypatch.setattr(attention, "MOST_ENTRIES", 20)
    q, k, v = drawn(3, entries, 6, 2, 8)
    sizes = []
    dispatch = attention_dispatch.dispatch_attention_fn

    def noted(q, k, v, backend):
        sizes.append(q.shape[0] * q.shape[2])
        return dispatch(q, k, v, backend=backend)

    monkeypatch.setattr(attention_dispatch, "dispatch_attention_fn", noted)
    expected = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    assert torch.equal(attend(q, k, v), expected)
    assert max(sizes) <= 20 and sum(sizes) == 2 * entries and len(sizes) == -(-entries // 10)


def test_every_choice_is_a_name_that_diffusers_knows():
    from mimicmotion.config.settings import ATTENTION

    assert set(ATTENTION) <= {backend.value for backend in attention_dispatch.AttentionBackendName}
    assert set(chosen.PACKAGES) <= set(ATTENTION)


@pytest.mark.parametrize(("backend", "package"), [("flash", "flash-attn"), ("_flash_3", "flash-attn-3"),
                                                  ("sage", "sageattention"), ("xformers", "xformers")])  # fmt: skip
def test_a_lacking_package_is_named_with_the_remedy(backend, package):
    with pytest.raises(SetupError, match=f"{backend}.*{package} is not installed; install {package}.*--attention"):
        require_attention(backend, CPU, torch.float32)


def test_an_old_package_is_named_with_its_version(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "2.5.9.post1")
    with pytest.raises(SetupError, match=r"flash-attn 2\.5\.9\.post1 is too old; install flash-attn 2\.6\.3 or later"):
        require_attention("flash", CUDA, torch.float16)


@pytest.mark.parametrize(
    ("device", "dtype", "error", "reason"),
    [
        (CPU, torch.bfloat16, SetupError, "needs an NVIDIA GPU; this run is on cpu"),
        (CUDA, torch.float32, UsageError, "fp16 and bf16, not float32"),
    ],
)
def test_a_kernel_without_its_gpu_or_its_precision_is_refused(monkeypatch, device, dtype, error, reason):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "99.0")
    with pytest.raises(error, match=reason):
        require_attention("sage", device, dtype)


def test_a_kernel_that_fails_here_is_refused_with_its_reason():
    with pytest.raises(SetupError, match=r"'_native_npu' does not run on cpu in float32 \(.+\); leave --attention out"):
        require_attention("_native_npu", CPU, torch.float32)


@pytest.mark.parametrize("backend", [None, "native", "_native_math"])
def test_kernels_that_are_there_pass(backend):
    require_attention(backend, CPU, torch.float32)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"speed.fp8": True, "runtime.compile": True}, "--fp8 .*--compile"),
        ({"speed.fp8": True, "speed.preset": "max"}, "--fp8 .*--speed max"),
        ({"speed.fp8": True, "runtime.offload": "sequential"}, "--fp8 and --offload sequential"),
        ({"speed.preset": "max", "runtime.offload": "sequential"}, "--speed max .*--offload model or none"),
        ({"runtime.compile": True, "runtime.offload": "sequential"}, "--compile .*--offload model or none"),
        ({"speed.fp8": True, "turbo.lcm_lora_path": "a", "turbo.fuse_lcm_lora": False}, "--fp8 .*--no_fuse_lcm_lora"),
        ({"speed.preset": "max", "turbo.lcm_lora_path": "a", "turbo.fuse_lcm_lora": False}, "--speed max .*adapter"),
    ],
)
def test_what_excludes_each_other_is_refused(given, reason):
    with pytest.raises(UsageError, match=reason):
        chosen.check_acceleration(load_config(given=given))


def test_max_is_all_that_changes_nothing_beyond_rounding():
    found = chosen.chosen_acceleration(load_config(given={"speed.preset": "max"}))
    assert found == chosen.Acceleration("native", compile=True, channels_last=True, fuse_qkv=True, fp8=False)

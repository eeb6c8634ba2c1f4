"""The fast ways of a CPU give what torch and diffusers give, and stay out of the way elsewhere."""

import copy

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mimicmotion.modules import use_fast_operations
from tests.streaming.micro import make_vae, randomize

TOLERANCE = 7e-6
CONVOLUTIONS = {
    "spatial and temporal": {"kernel_size": 3, "padding": 1},
    "temporal": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
    "strided": {"kernel_size": (3, 1, 1), "stride": (2, 1, 1)},
    "spread": {"kernel_size": 2, "dilation": (2, 1, 1)},
    "groups": {"kernel_size": 3, "groups": 2},
    "without bias": {"kernel_size": 3, "bias": False},
    "one point": {"kernel_size": 1},
    "padded by name": {"kernel_size": 3, "padding": "same"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
}


def pair(module):
    """A module with random weights as it is, and its fast twin."""
    randomize(module)
    module.requires_grad_(False)
    return module, use_fast_operations(copy.deepcopy(module))


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def onednn_calls(monkeypatch):
    calls, convolution = [], torch.mkldnn_convolution
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *a: calls.append(a) or convolution(*a))
    return calls


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("shape", [(1, 4, 5, 7, 6), (2, 4, 5, 7, 6), (4, 5, 7, 6)], ids=["one", "batch", "no batch"])
def test_convolutions_are_those_of_torch(options, shape):
    plain, fast = pair(nn.Conv3d(4, 6, **options))
    with torch.no_grad():
        for x in (numbers(*shape), numbers(*shape).mT.contiguous().mT):  # the second lies otherwise in memory
            exact = copy.deepcopy(plain).double()(x.double())
            assert fast(x).shape == exact.shape
            torch.testing.assert_close(fast(x).double(), exact, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kernel, padding", [(3, 1), ((3, 1, 1), (1, 0, 0)), (1, 0)])
def test_causal_convolutions_keep_their_padding_and_memory(kernel, padding):
    plain, fast = pair(WanCausalConv3d(4, 6, kernel, padding=padding))
    memory = numbers(1, 4, 2, 5, 6)
    with torch.inference_mode():
        for before in (None, memory, memory[:, :, :1]):
            expected = plain(numbers(1, 4, 3, 5, 6), before)
            torch.testing.assert_close(fast(numbers(1, 4, 3, 5, 6), before), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("options", [{"images": False}, {"images": True}, {"channel_first": False}, {"bias": True}])
def test_norms_are_those_of_diffusers(options):
    plain, fast = pair(WanRMS_norm(6, **options))
    x = numbers(2, 6, 3, 5, 4) if options == {"images": False} else numbers(2, 6, 5, 6)
    with torch.no_grad():
        for scale in (1, 1e-20, 0, 1e6):  # the smallest norms are divided by a limit
            torch.testing.assert_close(fast(x * scale), plain(x * scale), rtol=1e-5, atol=1e-6)


def test_a_whole_vae_is_what_it_was(onednn_calls):
    plain = make_vae()
    randomize(plain, scale=0.05)
    fast = use_fast_operations(copy.deepcopy(plain))
    assert not {nn.Conv3d, WanCausalConv3d, WanRMS_norm} & {type(module) for module in fast.modules()}
    assert list(fast.state_dict()) == list(plain.state_dict())
    with torch.inference_mode():
        latents, clip = numbers(1, 16, 3, 2, 3), numbers(1, 3, 5, 16, 24)
        expected = plain.decode(latents).sample, plain.encode(clip).latent_dist.mode()
        assert not onednn_calls
        found = fast.decode(latents).sample, fast.encode(clip).latent_dist.mode()
    assert onednn_calls
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=3 * TOLERANCE)


@pytest.mark.parametrize("module", [nn.Conv3d(4, 4, 3), WanRMS_norm(4, images=False)], ids=lambda m: type(m).__name__)
def test_other_formats_and_training_are_left_alone(module, onednn_calls):
    plain, fast = pair(module)
    x = numbers(1, 4, 5, 7, 6)
    with torch.no_grad():
        for dtype in (torch.bfloat16, torch.float64):
            assert torch.equal(fast.to(dtype)(x.to(dtype)), plain.to(dtype)(x.to(dtype)))
    fast.float().requires_grad_(True)
    plain.float().requires_grad_(True)
    assert torch.equal(fast(x), plain(x))
    fast(x).sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())
    assert not onednn_calls


def test_tensors_without_memory_pass_through():
    with FakeTensorMode(), torch.no_grad():
        network = use_fast_operations(nn.Sequential(nn.Conv3d(4, 6, 3), WanRMS_norm(6, images=False)))
        assert network(torch.empty(1, 4, 5, 7, 6)).shape == (1, 6, 3, 5, 4)
    network = use_fast_operations(nn.Sequential(nn.Conv3d(4, 6, 3), WanRMS_norm(6, images=False)))
    assert network.to("meta")(torch.empty(1, 4, 5, 7, 6, device="meta")).shape == (1, 6, 3, 5, 4)


def test_a_compiled_network_is_one_graph():
    plain, fast = pair(nn.Sequential(nn.Conv3d(4, 6, 3), WanRMS_norm(6, images=False)))
    with torch.no_grad():
        found = torch.compile(fast, backend="eager", fullgraph=True)(numbers(1, 4, 5, 7, 6))
        assert torch.equal(found, plain(numbers(1, 4, 5, 7, 6)))

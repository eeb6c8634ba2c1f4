"""PoseNet with its published weights and against plain convolutions; where its features join the UNet."""

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mimicmotion.modules.pose_net import PoseFeatures, PoseInjection, PoseNet
from tests.conftest import make_pose_net, make_unet

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MIMICMOTION_SHARED", ROOT.parent / "shared"))
WEIGHTS = SHARED / "weights" / "posenet" / "mimic_motion_pose_net.safetensors"
needs_weights = [
    pytest.mark.weights,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published PoseNet weights in {WEIGHTS.parent}"),
]
STRIDES = {2: 2, 6: 2, 10: 2}  # by place in conv_layers; kernel 4 there, 3 elsewhere


def pictures(count=2, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("published", [False, pytest.param(True, marks=needs_weights)])
@torch.no_grad()
def test_features_equal_plain_convolutions(published):
    if published:
        from safetensors.torch import load_file

        net = PoseNet()
        net.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
        assert sum(parameter.numel() for parameter in net.parameters()) == 205_557
        assert net.scale.item() == pytest.approx(1.1279, abs=1e-4)
    else:
        net = make_pose_net()
    state, x = net.state_dict(), pictures()
    for place in (0, 2, 4, 6, 8, 10, 12, 14):
        weight, bias = state[f"conv_layers.{place}.weight"], state[f"conv_layers.{place}.bias"]
        x = F.conv2d(x, weight, bias, stride=STRIDES.get(place, 1), padding=1)
        x = x * torch.sigmoid(x)
    x = F.conv2d(x, state["final_proj.weight"], state["final_proj.bias"]) * state["scale"]
    features = net(pictures())
    assert features.shape == (2, 320 if published else 32, 4, 4)
    assert torch.allclose(features, x, atol=1e-5)


@pytest.mark.weights
@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no published PoseNet weights in {WEIGHTS.parent}")
@torch.no_grad()
def test_a_black_picture_is_not_the_absence_of_a_pose():
    from safetensors.torch import load_file

    net = PoseNet()
    net.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
    assert net(torch.full((1, 3, 64, 64), -1.0)).abs().max().item() == pytest.approx(0.114, abs=1e-3)


def test_an_untrained_net_adds_nothing():
    assert PoseNet(8)(pictures()).abs().max() == 0


def test_a_batch_of_clips_is_flattened():
    net = make_pose_net()
    clips = pictures(6).reshape(2, 3, 3, 32, 32)
    assert torch.equal(net(clips), net(pictures(6)))


def test_saving_keeps_the_width(tmp_path):
    make_pose_net().save_pretrained(tmp_path)
    assert PoseNet.from_pretrained(tmp_path).final_proj.out_channels == 32


def run(unet, generator_seed=0):
    generator = torch.Generator().manual_seed(generator_seed)
    sample = torch.randn(1, 2, 8, 4, 4, generator=generator)
    return unet(sample, 1.0, torch.zeros(1, 1, 16), torch.zeros(1, 3), return_dict=False)[0]


@torch.no_grad()
def test_features_are_added_behind_conv_in_and_only_inside_the_block():
    torch.manual_seed(0)
    unet = make_unet().eval()
    injection, features = PoseInjection(unet), torch.randn(2, 32, 4, 4)
    seen = []
    unet.down_blocks[0].resnets[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    plain = run(unet)
    with injection.features(features):
        posed = run(unet)
    after = run(unet)
    assert torch.allclose(seen[1] - seen[0], features, atol=1e-5)
    assert torch.equal(plain, after)
    assert not torch.allclose(plain, posed, atol=1e-3)


def test_an_error_inside_the_block_leaves_nothing_behind():
    unet = make_unet()
    injection = PoseInjection(unet)
    with pytest.raises(RuntimeError), injection.features(torch.zeros(1)):
        raise RuntimeError
    assert not injection._held


class CountingPoses:
    """Drawn poses that count how often they are asked for."""

    def __init__(self, count):
        self.pictures, self.asked = pictures(count), 0

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, indices):
        self.asked += 1
        return self.pictures[indices]


@torch.no_grad()
def test_tiles_are_computed_once_within_the_budget():
    net, poses = make_pose_net(), CountingPoses(4)
    one_tile = 2 * 32 * 4 * 4 * 4
    features = PoseFeatures(net, poses, budget=one_tile)
    first = features.window([0, 1], 1)
    assert torch.equal(features.window([0, 1], 1), first)
    assert poses.asked == 1
    second = features.window([0, 3], 1)
    assert torch.equal(features.window([0, 3], 1), second)
    assert poses.asked == 3
    assert torch.equal(second, net(poses.pictures[[0, 3]]))


@torch.no_grad()
def test_shared_poses_are_repeated_for_every_clip_of_a_batch():
    net = make_pose_net()
    features = PoseFeatures(net, pictures(3)).window([0, 2], 2)
    assert torch.equal(features, net(pictures(3)[[0, 2]]).repeat(2, 1, 1, 1))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saving_and_loading_keep_every_bit(tmp_path, dtype):
    net = make_pose_net().to(dtype)
    net.save_pretrained(tmp_path, variant="fp16" if dtype == torch.float16 else None)
    assert not list(tmp_path.glob("*.bin"))
    loaded = PoseNet.from_pretrained(tmp_path, dtype=dtype, variant="fp16" if dtype == torch.float16 else None)
    assert dict(loaded.config)["noise_latent_channels"] == 32
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == dtype
    assert torch.equal(loaded(pictures().to(dtype)), net(pictures().to(dtype)))


@torch.no_grad()
def test_features_do_not_depend_on_the_mode_the_call_or_the_neighbours():
    net = make_pose_net()
    features = net.eval()(pictures(3))
    assert torch.equal(net(pictures(3)), features)
    assert torch.equal(net.train()(pictures(3)), features)
    assert torch.allclose(net(pictures(3)[1:2]), features[1:2], atol=1e-6)


def test_every_parameter_learns():
    net = make_pose_net()
    net(pictures()).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@torch.no_grad()
def test_features_in_single_precision_do_not_promote_a_unet_in_half():
    unet = make_unet().to(torch.bfloat16)
    injection = PoseInjection(unet)
    with injection.features(torch.ones(1, 32, 4, 4)):
        posed = unet.conv_in(torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16))
    plain = unet.conv_in(torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16))
    assert posed.dtype == torch.bfloat16
    assert torch.equal(posed, plain + 1)


@torch.no_grad()
def test_each_clip_of_poses_serves_its_share_of_the_batch():
    net, clips = make_pose_net(), pictures(6).reshape(2, 3, 3, 32, 32)
    features = PoseFeatures(net, clips).window([0, 2], 4).unflatten(0, (4, 2))
    for entry, clip in zip(features, (0, 0, 1, 1), strict=True):
        assert torch.allclose(entry, net(clips[clip, [0, 2]]), atol=1e-6)

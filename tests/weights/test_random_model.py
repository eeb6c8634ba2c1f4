"""Models with drawn weights: of the published sizes, and such that half precision does not overflow."""

import pytest
import torch

from mimicmotion.weights import random_model


def test_published_sizes_are_those_of_the_published_files():
    networks = random_model._networks("published")
    millions = {name: sum(weight.numel() for weight in module.parameters()) for name, module in networks.items()}
    # MimicMotion_1-1.pth and SVD-XT 1.1 hold as many.
    assert millions == {"unet": 1_524_623_082, "vae": 97_742_847, "image_encoder": 632_076_800, "pose_net": 205_557}


@pytest.mark.parametrize("size", random_model.SIZES)
def test_every_network_of_a_size_fits_the_others(size):
    networks = random_model._networks(size)
    unet, pose_net = networks["unet"], networks["pose_net"]
    assert unet.config.cross_attention_dim == networks["image_encoder"].config.projection_dim
    assert unet.conv_in.out_channels == pose_net.final_proj.out_channels
    assert unet.config.in_channels == 2 * networks["vae"].config.latent_channels


def test_a_built_model_loads_and_its_signals_keep_their_size(tmp_path):
    from types import SimpleNamespace

    from mimicmotion.weights import create_pipeline

    random_model.build_random_model(tmp_path, "tiny")
    pipeline = create_pipeline(SimpleNamespace(base_model_path=str(tmp_path), ckpt_path=None), "cpu", torch.float32)
    generator = torch.Generator().manual_seed(0)
    sample, embedding = torch.randn(1, 2, 8, 8, 8, generator=generator), torch.randn(1, 1, 64, generator=generator)
    largest = []
    for module in pipeline.unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: largest.append(output.abs().max()))
    with torch.no_grad():
        predicted = pipeline.unet(sample, torch.tensor(0.5), embedding, torch.tensor([[6.0, 127.0, 0.0]])).sample
    # Half precision ends at 65,504.
    assert max(largest) < 1000
    assert 0.01 < predicted.std() < 100

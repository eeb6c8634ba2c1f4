"""How the networks of the embedded model start."""

import torch

from mimicmotion.training.networks import build_unet, build_vae, seeded, spatial_layers_only
from mimicmotion.weights import TINY_UNET


def test_temporal_layers_start_without_effect_and_can_be_left_out():
    with seeded(0):
        unet = build_unet(TINY_UNET)["unet"].eval()
    sample = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def predict(frames):
        return unet(frames, torch.zeros(1), torch.ones(1, 1, 64), torch.ones(1, 3), return_dict=False)[0]

    names = [name for name, _ in unet.named_parameters()]
    whole = predict(sample)
    with spatial_layers_only(unet):
        single = torch.cat([predict(sample[:, i : i + 1]) for i in range(3)], dim=1)
        assert [name for name, _ in unet.named_parameters()] != names
    assert torch.allclose(whole, single, atol=1e-5)
    assert [name for name, _ in unet.named_parameters()] == names
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "temporal_res_block.conv2" in name:
                parameter.add_(0.1)
    assert not torch.allclose(predict(sample), whole, atol=1e-2), "trained temporal layers count"


def test_the_autoencoder_starts_with_colours():
    with seeded(0), torch.no_grad():
        vae = build_vae()
        flat = torch.tensor([0.8, -0.2, 0.4]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64)
        latents = vae.encode(flat).latents
        middle = latents[0, :3, 3:5, 3:5].mean(dim=(1, 2))
    assert torch.allclose(middle, torch.tensor([0.8, -0.2, 0.4]), atol=1e-4)

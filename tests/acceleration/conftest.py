import pytest
import torch

from tests.conftest import make_unet


def drawn_unet(levels=2):
    torch.manual_seed(0)
    # In double precision rounding cannot hide a difference, however much the drawn weights enlarge it.
    unet = make_unet(levels).double().eval().requires_grad_(False)
    for name, weight in unet.named_parameters():
        # Fresh projections of attention are small and blend factors even; drawn ones let every layer count.
        if weight.ndim == 2 or "mix_factor" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return unet


@pytest.fixture
def unet():
    return drawn_unet()


@pytest.fixture
def predict():
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape, generator=generator) for shape in ((1, 5, 8, 16, 8), (1, 1, 16))]

    @torch.no_grad()
    def predict(unet):
        """What a UNet says of one fixed tile, (1, 5, 4, 16, 8)."""
        sample, embedding = (x.to(unet.dtype) for x in drawn)
        ids = torch.tensor([[6.0, 127.0, 0.02]], dtype=unet.dtype)
        return unet(sample, torch.tensor(0.7), embedding, ids, return_dict=False)[0]

    return predict

"""A micro model of the true classes, and what names its files."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import make_image_encoder, make_pose_net, make_scheduler, make_temporal_vae, make_unet


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A micro SVD folder with a fine-tuned UNet and a PoseNet; both as a checkpoint beside it."""
    from transformers import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    networks = {"unet": make_unet(), "pose_net": make_pose_net()}
    checkpoint = {f"{part}.{k}": v for part, module in networks.items() for k, v in module.state_dict().items()}
    torch.save(checkpoint, folder / "checkpoint.pth")
    networks |= {"vae": make_temporal_vae(), "image_encoder": make_image_encoder()}
    for name, module in networks.items():
        module.save_pretrained(folder / name)
    make_scheduler().save_pretrained(folder / "scheduler")
    CLIPImageProcessorPil().save_pretrained(folder / "feature_extractor")
    return folder


@pytest.fixture
def copy(base, tmp_path):
    """The same folder, free to be damaged."""
    return shutil.copytree(base, tmp_path / "copy")


@pytest.fixture(scope="session")
def checkpoint(base):
    return torch.load(base / "checkpoint.pth", weights_only=True)


def config(base, ckpt_path=None):
    sampling = SimpleNamespace(decoder="full")
    return SimpleNamespace(
        base_model_path=str(base), ckpt_path=str(ckpt_path) if ckpt_path else None, sampling=sampling
    )

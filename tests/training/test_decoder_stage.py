"""The decoder learns to be sharp, and nothing that rests on the latents notices."""

import json

import torch
from safetensors.torch import load_file

from mimicmotion.training.decoder_stage import DecoderStage
from mimicmotion.training.model_facts import command
from mimicmotion.training.options import DecoderOptions, UnetOptions, VaeOptions
from mimicmotion.training.pool import open_pool
from mimicmotion.training.vae_stage import VaeStage, sharpness_gap
from tests.training.standins import make_clip
from tests.training.test_loop import CPU, SMALL_VAE, options_in, run_stage


def test_only_the_decoder_changes(tmp_path):
    pool = open_pool(tmp_path / "pool", 2, 0, make_clip)
    VaeStage(options_in(tmp_path), pool, CPU, SMALL_VAE).export()
    file = tmp_path / "out" / "vae" / "diffusion_pytorch_model.safetensors"
    scale = read_scale(file.parent)
    before = load_file(file)
    stage = DecoderStage(options_in(tmp_path, DecoderOptions), pool, CPU)
    run = run_stage(stage, 3)
    assert all(name.startswith("vae.decoder.") for name in run.trained)
    stage.export()
    after = load_file(file)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)
    assert read_scale(file.parent) == scale


def read_scale(folder):
    return json.loads((folder / "config.json").read_text())["scaling_factor"]


def test_a_blurred_picture_and_a_noisy_one_miss_the_strength_of_the_gradients():
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 14:] = 1
    blurred = torch.nn.functional.avg_pool2d(edge, 5, 1, 2, count_include_pad=False)
    noisy = edge + 0.2 * torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))
    moved = edge.roll(1, -1)
    moved[..., 0] = 0
    assert sharpness_gap(edge, edge) == 0
    assert sharpness_gap(moved, edge) < 0.5 * sharpness_gap(blurred, edge)
    assert sharpness_gap(noisy, edge) > sharpness_gap(blurred, edge)


def test_the_page_names_no_place_of_the_machine():
    settings = UnetOptions(init_from="/home/someone/model", run_dir="/home/someone/runs").described()
    wanted = "python scripts/train_tiny.py unet --run second --init_from assets/models/tiny"
    assert command("unet", settings, "second") == wanted
    assert command("unet", UnetOptions().described(), "unet") == "python scripts/train_tiny.py unet"


def test_the_page_names_the_settings_that_were_changed():
    settings = VaeOptions(steps=7).described()
    assert command("vae", settings) == "python scripts/train_tiny.py vae --steps 7"
    assert command("vae", settings | {"run_dir": "elsewhere", "steps": VaeOptions.steps}).endswith("train_tiny.py vae")

"""The decoder's own stage, what it learns from, and its loss."""

import pytest
import torch

from mimicmotion.errors import InputError
from mimicmotion.streaming import load_vae
from mimicmotion.training import make_accelerator, train
from mimicmotion.training.loop import TrainingRun
from mimicmotion.world_training.coding import decode
from mimicmotion.world_training.decoder_stage import DecoderStage
from mimicmotion.world_training.played import open_played
from mimicmotion.world_training.reconstruction import colour_loss, edge_loss, reconstruction_loss
from mimicmotion.world_training.world_stage import WorldStage

from .standins import WALK, WORLD, decoder_options, world_options

CPU = torch.device("cpu")


@pytest.fixture
def played(pool, tmp_path):
    player = WorldStage(world_options(tmp_path), WORLD, pool, pool, CPU)
    return open_played(tmp_path / "played", player, {"weights": "drawn"})


@pytest.fixture
def make_stage(tmp_path, vae_folder, clips, pool, played):
    def make(name, **settings):
        options = decoder_options(tmp_path / name, init_from=vae_folder, **settings)
        vae = load_vae(vae_folder / "vae.safetensors", WORLD.vae)
        return DecoderStage(options, WORLD, vae, clips, pool, played, WALK, CPU)

    return make


def test_only_the_decoder_learns(make_stage, vae_folder):
    stage = make_stage("run", steps=3)
    assert train(stage, make_accelerator(stage.options))
    before = load_vae(vae_folder / "vae.safetensors", WORLD.vae).state_dict()
    after = load_vae(stage.options.out / "vae.safetensors", WORLD.vae).state_dict()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_a_cut_run_goes_on_with_the_same_bits(make_stage):
    def run_to(name, steps):
        run = TrainingRun(make_stage(name, steps=4), make_accelerator(make_stage(name).options))
        while run.step < steps:
            run._one_step()
        run.save()
        return {key: value.clone() for key, value in run.averages.items()}

    run_to("cut", 1)
    cut, whole = run_to("cut", 3), run_to("whole", 3)
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


def test_played_sessions_are_the_models_and_stay(tmp_path, pool, played):
    player = WorldStage(world_options(tmp_path), WORLD, pool, pool, CPU)
    assert played.shape == pool.latents.shape
    assert torch.equal(played[:, :, 3:], pool.latents[:, :, 3:])  # two blocks: the last is the true one
    assert not torch.allclose(played[:, :, :3].float(), pool.latents[:, :, :3].float(), atol=0.3)
    path = tmp_path / "played" / "played-000000.safetensors"
    written = path.stat().st_mtime_ns
    assert torch.equal(open_played(tmp_path / "played", player, {"weights": "drawn"}), played)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(InputError, match="other weights"):
        open_played(tmp_path / "played", player, {"weights": "others"})
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="played-000000"):
        open_played(tmp_path / "played", player, {"weights": "drawn"})


def test_a_block_is_decoded_as_in_its_session(make_stage, pool):
    stage = make_stage("run")
    latents = pool.latents[:2].float()
    whole = decode(stage.vae, latents * stage.std + stage.mean)
    assert torch.allclose(stage._decode_last(latents[:, :, :3]), whole[:, :, :9], atol=1e-4)
    assert torch.allclose(stage._decode_last(latents), whole[:, :, 9:], atol=1e-4)


@pytest.mark.parametrize(("share", "name"), [(0.0, "psnr"), (1.0, "psnr_played")])
def test_true_and_played_latents_are_told_apart(make_stage, share, name):
    loss, noted = make_stage("run", played_share=share).loss(0, torch.Generator().manual_seed(0))
    assert list(noted) == [name]
    assert loss.isfinite()


def test_lost_blocks_count_less(make_stage):
    stage = make_stage("run", played_share=1.0)
    draw = torch.Generator
    before = stage.loss(0, draw().manual_seed(0))
    stage.networks["vae"].decoder.requires_grad_(False)
    stage.pool.latents[:] = stage.pool.latents + 10  # the true ones are now far from what is played
    after = stage.loss(0, draw().manual_seed(0))
    assert after[1] == before[1]
    assert after[0] < 0.02 * before[0]


def test_an_edge_elsewhere_is_better_than_none():
    def step_at(column, width=1):
        places = torch.arange(64.0).expand(1, 3, 2, 32, 64)
        return ((places - column) / width).clamp(-0.5, 0.5)

    true = step_at(34)
    assert edge_loss(true, true).item() == 0
    assert edge_loss(step_at(35), true) < 0.5 * edge_loss(step_at(34, width=6), true)
    assert reconstruction_loss(true, true).item() == pytest.approx(0.01, abs=1e-4)
    blurred = reconstruction_loss(step_at(34, width=6), true)
    assert reconstruction_loss(step_at(34, width=6), true, sharpness=1.0) > blurred


@pytest.mark.parametrize("width", [8, 48])
def test_a_colour_that_is_off_everywhere_counts_more_than_one_that_changes(width):
    constant = torch.full((2, 3, 4, 32, width), 0.1)
    signs = torch.tensor([1.0, -1.0])
    across, over_time = constant * signs.repeat(width // 2), constant * signs.repeat(2)[:, None, None]
    assert torch.allclose(colour_loss(constant), torch.full((2,), 0.1))
    for changing in (across, over_time):
        assert torch.allclose(colour_loss(changing), torch.zeros(2), atol=1e-6)
    frames = torch.zeros_like(constant)
    assert (reconstruction_loss(constant, frames) > reconstruction_loss(over_time, frames)).all()

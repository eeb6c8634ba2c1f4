"""Small decoders are found, recognised by what they hold, and refused where they do not fit the latents."""

import json

import pytest
import torch

from mimicmotion.config import default_config
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.modules import TAEHV, TAESDV
from mimicmotion.weights import (
    SVD_DECODERS,
    WAN_DECODERS,
    decoder_sha256,
    find_decoder,
    load_decoder,
    load_tiny_decoder,
    require_decoder_fits,
    require_fitting_decoder,
)
from tests.tiny_decoders import write_decoder

CPU = torch.device("cpu")
WAN, SVD = (16, 8, 4), (4, 8, 1)


@pytest.fixture
def config(tmp_path):
    def make(name):
        config = default_config()
        config.sampling.decoder = str(name)
        return config

    return make


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("layout, latents", [(TAEHV, WAN), (TAESDV, SVD)], ids=["TAEHV", "TAESDV"])
def test_published_layouts_load_as_they_are(tmp_path, layout, latents, suffix):
    path = tmp_path / f"tiny{suffix}"
    expected = write_decoder(path, layout)
    require_decoder_fits(path, *latents)
    found = load_tiny_decoder(path, CPU, torch.float32)
    assert found.layout is layout
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
    half = load_tiny_decoder(path, CPU, torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("latents", [(4, 8, 4), (16, 16, 4), (16, 8, 1)], ids=["channels", "size", "frames"])
def test_a_decoder_of_other_latents_is_refused(tmp_path, latents):
    write_decoder(tmp_path / "tiny.pth", TAEHV)
    with pytest.raises(UsageError, match=r"tiny.pth is for latents of 16 channels, 8 x 8 pixels and 4 frames"):
        require_decoder_fits(tmp_path / "tiny.pth", *latents)


def test_of_layers_that_make_more_frames_the_newest_are_taken(tmp_path):
    path = tmp_path / "tiny.pth"
    expected = write_decoder(path, TAEHV).state_dict()
    state = torch.load(path)
    name = "decoder.7.conv.weight"
    state[name] = torch.cat((torch.ones_like(state[name]), state[name]))
    torch.save(state, path)
    assert torch.equal(load_tiny_decoder(path, CPU, torch.float32).state_dict()[name], expected[name])


def test_other_files_are_told(tmp_path):
    path = tmp_path / "tiny.pth"
    write_decoder(path, TAESDV)
    state = torch.load(path)
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save(state | {"decoder.7.weight": torch.zeros(3)}, tmp_path / "flat.pth")
    for name in ("other.pth", "flat.pth"):
        with pytest.raises(SetupError, match="layout of TAEHV or TAESDV"):
            require_decoder_fits(tmp_path / name, *SVD)
    del state["decoder.19.bias"]
    torch.save(state, path)
    with pytest.raises(SetupError, match=r"lacks weights of the TAESDV decoder: decoder.19.bias"):
        load_tiny_decoder(path, CPU, torch.float32)


def make_taesd(folder, channels=4):
    from diffusers import AutoencoderTiny

    widths = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    torch.manual_seed(0)
    vae = AutoencoderTiny(latent_channels=channels, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4, **widths)
    vae.save_pretrained(folder)
    return vae.eval()


def test_a_folder_of_diffusers_small_vae_decodes_frame_by_frame(tmp_path, config):
    vae, latents = make_taesd(tmp_path / "taesd"), torch.randn(1, 3, 4, 8, 8)
    decoder = load_decoder(config(tmp_path / "taesd"), CPU, torch.float32)
    found = torch.cat(list(decoder.decode_in_chunks(latents, 2, 1)), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(found[0], vae.decode(latents[0]).sample, rtol=1e-5, atol=1e-5)
    make_taesd(tmp_path / "wide", channels=16)
    with pytest.raises(UsageError, match="16 channels"):
        require_fitting_decoder(config(tmp_path / "wide"))
    (tmp_path / "taesd" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(SetupError, match="AutoencoderKL"):
        require_fitting_decoder(config(tmp_path / "taesd"))


def test_a_clip_is_decoded_as_one_in_any_chunks(tmp_path, config):
    network = write_decoder(tmp_path / "tiny.pth", TAESDV)
    latents = torch.randn(1, 7, 4, 8, 8)
    decoder = load_decoder(config(tmp_path / "tiny.pth"), CPU, torch.float32)
    with torch.no_grad():
        expected, _ = network(latents)
    for chunk, overlap in ((3, 0), (4, 2), (100, 0)):
        pieces = list(decoder.decode_in_chunks(latents, chunk, overlap))
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-5, atol=1e-5)


def test_a_decoder_for_wan_is_none_for_stable_video_diffusion(tmp_path, config):
    write_decoder(tmp_path / "tiny.pth", TAEHV)
    with pytest.raises(UsageError, match="this model has latents of 4 channels, 8 x 8 pixels and 1 frames"):
        require_fitting_decoder(config(tmp_path / "tiny.pth"))
    assert require_fitting_decoder(config("full")) is None


def test_names_stand_for_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_decoder("full", WAN_DECODERS) is None and decoder_sha256("full", WAN_DECODERS) is None
    with pytest.raises(SetupError, match=r"taesdv.pth .* or .*taesd .*--only decoders"):
        find_decoder("tiny", SVD_DECODERS)
    with pytest.raises(SetupError, match=r"nowhere.pth .*does not exist"):
        find_decoder("nowhere.pth", SVD_DECODERS)
    make_taesd(tmp_path / "models" / "taesd")
    framewise = decoder_sha256("tiny", SVD_DECODERS)
    write_decoder(tmp_path / "models" / "taesdv.pth", TAESDV)
    assert find_decoder("tiny", SVD_DECODERS).name == "taesdv.pth"
    assert decoder_sha256("tiny", SVD_DECODERS) != framewise

"""Files of small decoders -> networks, refused where they do not fit a model's latents."""

import os
from pathlib import Path

import torch

from mimicmotion.errors import UsageError
from mimicmotion.modules import SPATIAL_RATIO, TAEHV, TAESDV, TinyDecoder, TinyLayout
from mimicmotion.weights.decoder_files import SVD_DECODERS, find_decoder
from mimicmotion.weights.lookup import broken
from mimicmotion.weights.model_files import config_file, read_json, resolve_base
from mimicmotion.weights.tensors import Tensors, assign_weights, open_tensors

PREFIX = "decoder."
FIRST = "decoder.1.weight"
# Where the layouts differ: the first layer that makes frames, and the convolution that stands there without it.
GROWS, NARROWS = "decoder.7.conv.weight", "decoder.7.weight"
# The convolutions behind the stages, whose shapes tell the widths.
BEHIND = {TAEHV: (8, 14, 20), TAESDV: (7, 12, 17)}
FRAMEWISE = "AutoencoderTiny"


def require_decoder_fits(path: Path, channels: int, spatial_ratio: int, frames_per_latent: int) -> None:
    """Reads what a small decoder is for, and no more of it.

    Raises: UsageError for one that is for latents of other channels or another scale; SetupError for a file that is
        none.
    """
    if os.path.isdir(path):
        config = read_json(path / "config.json")
        if config.get("_class_name") != FRAMEWISE:
            raise broken(path / "config.json", f"describes a {config.get('_class_name')}, not an {FRAMEWISE}")
        blocks = config.get("decoder_block_out_channels", ())
        found = (config.get("latent_channels"), 2 ** (len(blocks) - 1), 1)
    else:
        layout, found_channels, _ = recognise(open_tensors(path))
        found = (found_channels, SPATIAL_RATIO, layout.frames_per_latent)
    wanted = (channels, spatial_ratio, frames_per_latent)
    if found != wanted:
        raise UsageError(f"the decoder {path} is for {_latents(*found)}; this model has {_latents(*wanted)}")


def is_small_decoder(path: Path) -> bool:
    """Whether that is the file of a small decoder; the original file of Stable Video Diffusion is none.

    Raises: SetupError for a damaged file.
    """
    if not os.path.isfile(path):
        return False
    tensors = open_tensors(path)
    return GROWS in tensors or NARROWS in tensors


def require_fitting_decoder(config) -> Path | None:
    """The small decoder that `config.sampling.decoder` asks for; None where the model's VAE is to decode.

    Raises: UsageError and SetupError as `require_decoder_fits`; SetupError when it is not there.
    """
    path = find_decoder(config.sampling.decoder, SVD_DECODERS)
    if path is not None:
        vae = read_json(config_file(resolve_base(config.base_model_path, with_unet=False), "vae/config.json"))
        levels = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or (0,)
        require_decoder_fits(path, vae.get("latent_channels", 4), 2 ** (len(levels) - 1), 1)
    return path


def load_tiny_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """The decoder in a file, with its weights on `device`. Raises: SetupError for a damaged file or another one."""
    tensors = open_tensors(path)
    layout, channels, widths = recognise(tensors)
    with torch.device("meta"):
        decoder = TinyDecoder(layout, channels, widths)
    assign_weights(decoder, _decoder_part(tensors, decoder), device, dtype, f"{layout.name} decoder")
    return decoder


def recognise(tensors: Tensors) -> tuple[TinyLayout, int, tuple[int, ...]]:
    """Layout, channels of the latents and widths of a small decoder. Raises: SetupError for another file."""
    layout = TAEHV if GROWS in tensors else TAESDV if NARROWS in tensors else None
    names = [FIRST, *(f"{PREFIX}{index}.weight" for index in BEHIND.get(layout, ()))]
    if layout is None or any(len(tensors.shapes.get(name, ())) != 4 for name in names):
        raise broken(tensors.path, "holds no decoder in the layout of TAEHV or TAESDV")
    shapes = [tensors.shapes[name] for name in names]
    return layout, shapes[0][1], tuple(shape[0] for shape in shapes)


def _decoder_part(tensors: Tensors, decoder: TinyDecoder) -> Tensors:
    """The decoder's tensors without the encoder's. Of layers that make more frames than are used here, as some files
    have them, the newest frames are taken.
    """
    own, shapes = decoder.state_dict(), {}
    for name in tensors:
        if name.startswith(PREFIX):
            more = name in own and name.endswith(".conv.weight") and tensors.shapes[name][0] > own[name].shape[0]
            shapes[name] = own[name].shape if more else tensors.shapes[name]
    return Tensors(tensors.path, shapes, lambda name: tensors[name][-shapes[name][0] :], tensors.metadata, tensors.kind)


def _latents(channels: int, spatial_ratio: int, frames: int) -> str:
    return f"latents of {channels} channels, {spatial_ratio} x {spatial_ratio} pixels and {frames} frames each"

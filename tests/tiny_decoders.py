"""Small decoders with drawn weights, in files of the published layouts."""

import torch
from safetensors.torch import save_file

from mimicmotion.modules import TAEHV, TAESDV, TinyDecoder

CHANNELS = {TAEHV: 16, TAESDV: 4}
WIDTHS = {TAEHV: (12, 8, 6, 6), TAESDV: (6, 6, 6, 6)}


def make_decoder(layout, channels=None, widths=None):
    """A TinyDecoder with weights that keep the size of their input."""
    decoder = TinyDecoder(layout, channels or CHANNELS[layout], widths or WIDTHS[layout])
    generator = torch.Generator().manual_seed(0)
    for parameter in decoder.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return decoder.eval().requires_grad_(False)


def write_decoder(path, layout, **sizes):
    """Its file, with something of an encoder in it, as the published ones have; the decoder."""
    decoder = make_decoder(layout, **sizes)
    state = {name: value.contiguous() for name, value in decoder.state_dict().items()}
    state["encoder.0.weight"] = torch.zeros(2, 3, 3, 3)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return decoder

"""A small decoder that knows a model's latents is told from one that does not."""

import torch

from mimicmotion.config import default_config
from mimicmotion.modules import TAESDV
from mimicmotion.pipelines import UNLIKE, StandaloneVae, TinyClipDecoder, likeness
from mimicmotion.weights import load_decoder
from tests.tiny_decoders import make_decoder

CPU = torch.device("cpu")


def test_the_vae_itself_is_like_and_others_are_not():
    vae = load_decoder(default_config(), CPU, torch.float32).vae
    assert likeness(vae, StandaloneVae(vae, CPU), CPU) > 90
    drawn = TinyClipDecoder(make_decoder(TAESDV), CPU, torch.float32)

    class Grey:
        def decode_in_chunks(self, latents):
            yield torch.zeros(1, 1, 3, 128, 128)

    class Blurred:
        """What the VAE shows, at a quarter of its resolution."""

        def decode_in_chunks(self, latents):
            for frames in StandaloneVae(vae, CPU).decode_in_chunks(latents):
                small = torch.nn.functional.avg_pool2d(frames[0], 4)
                yield small.repeat_interleave(4, 2).repeat_interleave(4, 3)[None]

    assert max(likeness(vae, decoder, CPU) for decoder in (drawn, Grey())) < UNLIKE - 3
    assert likeness(vae, Blurred(), CPU) > UNLIKE + 2

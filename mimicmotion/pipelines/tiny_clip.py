"""Decoding a clip's latents by a small causal network instead of the model's VAE."""

from collections.abc import Iterator

import torch

from mimicmotion.modules import TinyDecoder
from mimicmotion.pipelines.chunked_vae import StandaloneVae, require_finite

UNLIKE = 18.0  # dB; a picture at a quarter of its resolution is above 20, grey below 15
TEST_SIZE = 128  # pixels


@torch.no_grad()
def likeness(vae, decoder, device: torch.device) -> float:
    """How far `decoder` shows what the model's own VAE shows of a drawn picture, in dB of PSNR.

    Names and shapes do not tell whose latents a small decoder was trained on; below `UNLIKE` it was another VAE's.
    """
    encoded = vae.encode(_test_picture().to(device, vae.dtype))
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    latents = latents[None].float() * vae.config.scaling_factor
    own, other = (next(iter(each.decode_in_chunks(latents))) for each in (StandaloneVae(vae, device), decoder))
    return 10 * torch.log10(4 / (own - other).clamp(-2, 2).square().mean().clamp_min(1e-10)).item()


def _test_picture() -> torch.Tensor:
    """Slopes of colour with a bright, a dark and a coloured square: (1, 3, 128, 128) in -1..1."""
    across = torch.linspace(-1, 1, TEST_SIZE).expand(TEST_SIZE, -1)
    picture = torch.stack((across, across.T, -across))
    for corner, colour in ((8, (1.0, 1.0, 1.0)), (48, (-1.0, -1.0, -1.0)), (88, (1.0, -0.5, -1.0))):
        picture[:, corner : corner + 32, corner : corner + 32] = torch.tensor(colour)[:, None, None]
    return picture[None]


class TinyClipDecoder:
    """A TinyDecoder, already on its device, with `decode_in_chunks` as a pipeline has it."""

    def __init__(self, network: TinyDecoder, device: torch.device, dtype: torch.dtype):
        self.network, self.device, self.dtype = network, device, dtype

    @torch.no_grad()
    def decode_in_chunks(
        self, latents: torch.Tensor, decode_chunk_size: int = 8, decode_overlap: int = 0, decode_tile: int | None = None
    ) -> Iterator[torch.Tensor]:
        """As `ChunkedVae.decode_in_chunks`; chunks have no seams here and take little memory: neither overlap nor tiles
        are needed.

        Raises: NumericalError when a chunk is not finite.
        """
        memory, count = None, latents.shape[1]
        for start in range(0, count, decode_chunk_size):
            stop = min(start + decode_chunk_size, count)
            chunk = latents[:, start:stop].to(self.device, self.dtype)
            frames, memory = self.network(chunk, memory)
            require_finite(frames, f"the small decoder in frames {start} to {stop - 1}")
            yield frames.float().cpu()

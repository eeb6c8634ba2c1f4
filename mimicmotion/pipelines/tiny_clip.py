"""Decoding a clip's latents by a small causal network instead of the model's VAE."""

from collections.abc import Iterator

import torch

from mimicmotion.modules import TinyDecoder
from mimicmotion.pipelines.chunked_vae import require_finite


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

"""Decoding latents piece by piece, with or without a pipeline around the VAE."""

import inspect
import logging
from collections.abc import Iterator

import torch

from mimicmotion.errors import NumericalError

logger = logging.getLogger(__name__)


class ChunkedVae:
    """What MimicMotionPipeline and StandaloneVae share: they have `vae`, `vae_fallback_count` and the device
    `_execution_device`.
    """

    @torch.no_grad()
    def decode_in_chunks(
        self, latents: torch.Tensor, decode_chunk_size: int = 8, decode_overlap: int = 0
    ) -> Iterator[torch.Tensor]:
        """Decodes latents piece by piece, in order.

        SVD's decoder mixes the frames of a chunk, so the chunk size is part of the result and chunk edges are
        seams. With `decode_overlap` neighbouring chunks share that many frames, blended linearly.

        Args:
            latents: (batch, frames, 4, height / 8, width / 8).
            decode_chunk_size: frames per call of the VAE.
            decode_overlap: frames that neighbouring chunks share, 0..decode_chunk_size-1.

        Yields:
            (batch, n, 3, height, width), float32 on the CPU, in -1..1 before any clamping.

        Raises:
            ValueError: for an overlap that is not below the chunk size.
            NumericalError: when a chunk is not finite even in float32.
        """
        if decode_chunk_size < 1 or not 0 <= decode_overlap < decode_chunk_size:
            raise ValueError(f"decode overlap {decode_overlap} must be below the chunk size {decode_chunk_size}")
        num_frames, held = latents.shape[1], None
        stride = decode_chunk_size - decode_overlap
        for start in range(0, max(num_frames - decode_overlap, 1), stride):
            stop = min(start + decode_chunk_size, num_frames)
            stage = f"the VAE decoding of frames {start} to {stop - 1}"
            scaled = latents[:, start:stop] / self.vae.config.scaling_factor
            chunk = torch.stack([self._finite_from_vae(self._decode, video, stage) for video in scaled])
            chunk = chunk.float().cpu()
            if held is not None:
                chunk[:, : held.shape[1]] = crossfade(held, chunk[:, : held.shape[1]])
            kept = chunk.shape[1] if stop == num_frames else stride
            held = chunk[:, kept:] if decode_overlap else None
            yield chunk[:, :kept]

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        decode = getattr(self.vae, "_orig_mod", self.vae).decode  # torch.compile hides the signature
        arguments = {"num_frames": len(latents)} if "num_frames" in inspect.signature(decode).parameters else {}
        return self.vae.decode(latents.to(self._execution_device, self.vae.dtype), **arguments).sample

    def _finite_from_vae(self, function, tensor: torch.Tensor, stage: str) -> torch.Tensor:
        """`function(tensor)`, done again in float32 where half precision overflows."""
        result = function(tensor)
        dtype = self.vae.dtype
        if dtype != torch.float32 and not torch.isfinite(result).all():
            logger.warning("%s is not finite in %s; it is done again in float32", stage, dtype)
            self.vae_fallback_count += 1
            self.vae.to(torch.float32)
            try:
                result = function(tensor)
            finally:
                self.vae.to(dtype)
        require_finite(result, stage)
        return result


class StandaloneVae(ChunkedVae):
    """A VAE by itself on `device`, for latents that were sampled before."""

    def __init__(self, vae, device: torch.device):
        self.vae = vae
        self.vae_fallback_count = 0
        self._execution_device = device


def crossfade(leaving: torch.Tensor, entering: torch.Tensor) -> torch.Tensor:
    """Linear blend over dimension 1: mostly `leaving` at its first frame, mostly `entering` at its last."""
    count = leaving.shape[1]
    weight = torch.arange(1, count + 1, dtype=leaving.dtype) / (count + 1)
    return torch.lerp(leaving, entering, weight.reshape(1, count, *[1] * (leaving.ndim - 2)))


def require_finite(tensor: torch.Tensor, stage: str) -> None:
    """Raises: NumericalError naming `stage` when `tensor` holds NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise NumericalError(f"{stage}: NaN or infinity; try --dtype fp32 or bf16, and check the weights")

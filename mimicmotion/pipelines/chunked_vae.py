"""Decoding latents piece by piece, with or without a pipeline around the VAE."""

import contextlib
import inspect
import logging
import threading
from collections.abc import Iterator

import torch

from mimicmotion.errors import NumericalError
from mimicmotion.pipelines.spatial_tiles import in_tiles

logger = logging.getLogger(__name__)

PIXELS_PER_LATENT = 8


class ChunkedVae:
    """What MimicMotionPipeline and StandaloneVae share: they have `vae`, `vae_fallback_count`, `decode_chunks`, the
    device `_execution_device` and `vae_turn`, the lock of whoever works with the VAE.

    may_halve: whether chunks get smaller where memory runs out.
    """

    may_halve = True

    @torch.no_grad()
    def decode_in_chunks(
        self, latents: torch.Tensor, decode_chunk_size: int = 8, decode_overlap: int = 0, decode_tile: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Decodes latents piece by piece, in order.

        SVD's decoder mixes the frames of a chunk, so the chunk size is part of the result and chunk edges are
        seams. With `decode_overlap` neighbouring chunks share that many frames, blended linearly.

        Where memory runs out the chunks are halved from there on, which changes the frames; a warning says so, and
        `decode_chunks` lists (first frame, size) of every size that was used. Where half precision overflows, that
        chunk and all behind it are decoded in float32.

        Args:
            latents: (batch, frames, 4, height / 8, width / 8).
            decode_chunk_size: frames per call of the VAE.
            decode_overlap: frames that neighbouring chunks share, 0..decode_chunk_size-1.
            decode_tile: side in pixels of the tiles that a frame is decoded in, blended where they overlap; None
                decodes it at once. Tiles change the frames as well.

        Yields:
            (batch, n, 3, height, width), float32 on the CPU, in -1..1 before any clamping.

        Raises:
            ValueError: for an overlap that is not below the chunk size.
            NumericalError: when a chunk is not finite even in float32.
            torch.OutOfMemoryError: when a single frame takes too much.
        """
        if decode_chunk_size < 1 or not 0 <= decode_overlap < decode_chunk_size:
            raise ValueError(f"decode overlap {decode_overlap} must be below the chunk size {decode_chunk_size}")
        num_frames, overlap = latents.shape[1], decode_overlap
        size, start, stop, held, self.decode_chunks = decode_chunk_size, 0, 0, None, [(0, decode_chunk_size)]
        overflows = False
        while stop < num_frames:
            stop = min(start + size, num_frames)
            # Between two chunks others may work with the VAE, in its own precision.
            with self.vae_turn, self._precision_given_back() as precision:
                if overflows:
                    self.vae.to(torch.float32)
                chunk = self._decode_chunk(latents, start, stop, decode_tile)
                overflows = self.vae.dtype != precision
            if chunk is None:
                size, stop = (stop - start) // 2, start
                overlap = min(overlap, size - 1)
                self._note_smaller_chunks(start, size)
                continue
            self.vae_fallback_count += overflows
            if held is not None:
                shared = min(held.shape[1], chunk.shape[1])
                chunk[:, :shared] = crossfade(held[:, :shared], chunk[:, :shared])
            kept = chunk.shape[1] if stop == num_frames else size - overlap
            held = chunk[:, kept:] if overlap else None
            yield chunk[:, :kept]
            start += size - overlap

    def _decode_chunk(self, latents, start: int, stop: int, tile: int | None) -> torch.Tensor | None:
        """Frames start..stop-1 of (batch, frames, ...), float32 on the CPU; None where memory ran out over several."""
        stage = f"the VAE decoding of frames {start} to {stop - 1}"
        scaled = latents[:, start:stop] / self.vae.config.scaling_factor

        def decode(video: torch.Tensor) -> torch.Tensor:
            return in_tiles(self._decode, video, tile // PIXELS_PER_LATENT) if tile else self._decode(video)

        try:
            return torch.stack([self._finite_from_vae(decode, video, stage) for video in scaled]).float().cpu()
        except torch.OutOfMemoryError:
            if stop - start == 1 or not self.may_halve:
                raise
            return None

    def _note_smaller_chunks(self, start: int, size: int) -> None:
        torch.cuda.empty_cache()
        self.decode_chunks = [entry for entry in self.decode_chunks if entry[0] < start] + [(start, size)]
        logger.warning(
            "Too little memory to decode so many frames at once; from frame %d on it is %d. That changes the frames: "
            "--decode_chunk_size %d from the start gives the same on every card",
            start, size, size,
        )  # fmt: skip

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        decode = getattr(self.vae, "_orig_mod", self.vae).decode  # torch.compile hides the signature
        arguments = {"num_frames": len(latents)} if "num_frames" in inspect.signature(decode).parameters else {}
        return self.vae.decode(latents.to(self._execution_device, self.vae.dtype), **arguments).sample

    @contextlib.contextmanager
    def _precision_given_back(self) -> Iterator[torch.dtype]:
        """Yields the precision of the VAE, which it has again afterwards."""
        dtype = self.vae.dtype
        try:
            yield dtype
        finally:
            if self.vae.dtype != dtype:
                self.vae.to(dtype)

    def _finite_from_vae(self, function, tensor: torch.Tensor, stage: str) -> torch.Tensor:
        """`function(tensor)`, done again in float32 where half precision overflows; the VAE stays in float32 then."""
        result = function(tensor)
        dtype = self.vae.dtype
        if dtype == torch.float32 or not torch.isfinite(result).all():
            if dtype != torch.float32:
                logger.warning("%s is not finite in %s; it is done again in float32", stage, dtype)
                del result
                self.vae.to(torch.float32)
                result = function(tensor)
            require_finite(result, stage)
        return result


class StandaloneVae(ChunkedVae):
    """A VAE by itself on `device`, for latents that were sampled before.

    vae_turn: the lock of others that work with the same VAE, if there are some.
    """

    def __init__(self, vae, device: torch.device, vae_turn: contextlib.AbstractContextManager | None = None):
        self.vae = vae
        self.vae_turn = vae_turn or threading.RLock()
        self.vae_fallback_count = 0
        self.decode_chunks: list[tuple[int, int]] = []
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

"""Is it the person of the reference? Cosines between embeddings of pictures by the model's own image encoder.

That of published models is OpenCLIP's ViT-H/14; the embedded one was taught colours and clothes of drawn people, and
its cosines are comparable among themselves only.
"""

import numpy as np
import torch

from mimicmotion.errors import NumericalError
from mimicmotion.pipelines import squash_for_clip
from mimicmotion.weights import load_clip_encoder


class PictureEncoder:
    """Pictures -> unit vectors.

    Args:
        config: names the model and the precision.

    Raises: SetupError for missing weights.
    """

    def __init__(self, config, device: torch.device, dtype: torch.dtype):
        self._encoder, self._processor = load_clip_encoder(config, device, dtype)

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) -> float64 (n, channels), of length 1. Raises: NumericalError for what is not finite."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
        values = self._processor(
            images=squash_for_clip(pixels), do_normalize=True, do_center_crop=False, do_resize=False,
            do_rescale=False, return_tensors="pt",
        ).pixel_values  # fmt: skip
        values = values.to(self._encoder.device, self._encoder.dtype)
        vectors = self._encoder(values).image_embeds.double().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise NumericalError("the image encoder's embedding of a frame is not finite; take --dtype fp32")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class IdentityMeter:
    """Means of cosines: of each frame with the reference, and of each frame with the one before it.

    Args:
        reference: uint8 (h, w, 3); None where a clip has none.
    """

    def __init__(self, encoder: PictureEncoder, reference: np.ndarray | None):
        self._encoder = encoder
        self._reference = None if reference is None else encoder(reference[None])[0]
        self._to_reference, self._between = [], []
        self._last: np.ndarray | None = None

    def add(self, frames: np.ndarray) -> None:
        """Takes the next frames."""
        vectors = self._encoder(frames)
        if self._reference is not None:
            self._to_reference += (vectors @ self._reference).tolist()
        chain = vectors if self._last is None else np.concatenate([self._last, vectors])
        self._between += (chain[1:] * chain[:-1]).sum(1).tolist()
        self._last = vectors[-1:]

    def numbers(self) -> dict[str, float | None]:
        """None where there is no reference, or one frame."""
        measures = {"clip_reference": self._to_reference, "clip_between": self._between}
        return {name: float(np.mean(values)) if values else None for name, values in measures.items()}

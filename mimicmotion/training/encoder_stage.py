"""The image encoder's stage: a small CLIP vision model learns the colours of the person in the reference picture.

A linear head that is thrown away afterwards reads the attributes from the embedding, so that the embedding holds
them; the published encoder learnt what pictures hold from captions.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mimicmotion.results import contact_sheet
from mimicmotion.training.networks import build_image_encoder, save_half, seeded
from mimicmotion.training.options import EncoderOptions
from mimicmotion.training.pool import Pool

SHEET_PICTURES = 8
CELL = 24


class EncoderStage:
    """See `loop.Stage`."""

    def __init__(self, options: EncoderOptions, pool: Pool, device: torch.device, settings: dict | None = None):
        self.options, self.pool, self.device = options, pool, device
        with seeded(options.step_seed(-1)):
            encoder = build_image_encoder(settings)
            head = nn.Linear(encoder.config.projection_dim, pool.attributes.shape[1])
        self.networks = nn.ModuleDict({"image_encoder": encoder, "head": head})
        self.normalise = make_normaliser()

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean squared error of the attributes, in 0..1."""
        clips = torch.randint(len(self.pool), (self.options.batch,), generator=generator).numpy()
        truth = torch.from_numpy(self.pool.attributes[clips]).to(self.device)
        return (self._attributes(self.pool.pictures[clips]) - truth).square().mean(), {}

    def _attributes(self, pictures: np.ndarray) -> torch.Tensor:
        pixels = self.normalise(pictures).to(self.device)
        return self.networks["head"](self.networks["image_encoder"](pixels).image_embeds)

    @torch.no_grad()
    def write_sheet(self, path: Path) -> None:
        """Pictures, and below each its attributes as grey cells: the true ones above those that were read."""
        stride = max(1, len(self.pool) // SHEET_PICTURES)
        pictures = self.pool.pictures[::stride][:SHEET_PICTURES]
        truth = self.pool.attributes[::stride][:SHEET_PICTURES]
        read = self._attributes(pictures).cpu().numpy()
        error = float(np.abs(read - truth).mean())
        cells = [attribute_cells(one, other) for one, other in zip(truth, read, strict=True)]
        rows = [("pictures of the pool", list(pictures.transpose(0, 2, 3, 1)))]
        contact_sheet(path, [*rows, (f"attributes: true, read; mean error {error:.3f}", cells)], title=path.stem)

    def export(self) -> None:
        """Writes the encoder and the processor that normalises its pictures."""
        save_half(self.networks["image_encoder"], self.options.out / "image_encoder")
        make_processor().save_pretrained(self.options.out / "feature_extractor")


def make_processor():
    """The published processor: CLIP's mean and deviation."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil()


def make_normaliser():
    """A function from pictures uint8 (n, 3, 224, 224) to what the encoder takes, as the pipeline's processor does."""
    processor = make_processor()
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    return lambda pictures: (torch.from_numpy(np.array(pictures)) / 255 - mean) / deviation


def attribute_cells(truth: np.ndarray, read: np.ndarray) -> np.ndarray:
    """A picture of two rows of grey cells, uint8 (h, w, 3)."""
    levels = (np.stack([truth, read]).clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(levels.repeat(CELL, 0).repeat(CELL, 1)[..., None], 3, axis=2)

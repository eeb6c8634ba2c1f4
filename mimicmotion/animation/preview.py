"""A picture of a clip while it is sampled: a row for each step, of what the network takes the finished frames to be."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from mimicmotion.errors import MimicMotionError
from mimicmotion.files import require_writable
from mimicmotion.results import Job, Row, contact_sheet, evenly_spaced

logger = logging.getLogger(__name__)

FOLDER = "previews"  # in the results' own
COLUMNS = 6
WIDTH = 160  # pixels of a picture in it


class StepPreview:
    """A `callback_on_step_end` that writes <folder of the result>/previews/<result>.jpg anew after each step.

    A few frames are decoded, each by itself. What goes wrong with a picture is said and does not end the sampling.

    Args:
        decoder: has `decode_in_chunks`, as a pipeline.
        steps: how many there will be.
    """

    tensor_inputs = ("denoised",)

    def __init__(self, decoder, job: Job, steps: int):
        self.decoder, self.steps = decoder, steps
        self.title = job.output.stem
        self.path = job.output.parent / FOLDER / f"{job.output.stem}.jpg"
        self.rows: list[Row] = []

    def __call__(self, _pipeline, step: int, _timestep, tensors: dict[str, torch.Tensor]) -> dict:
        """Adds the row of a step whose predicted clean latents are (1, frames, channels, h, w)."""
        try:
            self._add(step, tensors["denoised"])
        except MimicMotionError as error:
            logger.warning("no preview of step %d: %s", step + 1, error)
        return {}

    def _add(self, step: int, latents: torch.Tensor) -> None:
        places = evenly_spaced(latents.shape[1] - 1, COLUMNS)  # the reference's own is left out
        chosen = latents[0, [place + 1 for place in places]].unsqueeze(1)
        frames = torch.cat(list(self.decoder.decode_in_chunks(chosen)), dim=1)[:, 0]
        levels = ((frames / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        label, captions = f"step {step + 1} of {self.steps}", [f"frame {place}" for place in places]
        self.rows.append(Row(label, [_small(frame) for frame in levels], captions))
        require_writable(self.path.parent)
        contact_sheet(self.path, self.rows, title=self.title, tile_width=WIDTH)


class Callbacks:
    """Several callbacks as one."""

    def __init__(self, *callbacks: Callable[..., dict]):
        self.callbacks = callbacks
        self.tensor_inputs = list(dict.fromkeys(name for callback in callbacks for name in callback.tensor_inputs))

    def __call__(self, pipeline, step: int, timestep, tensors: dict[str, torch.Tensor]) -> dict:
        """Calls each; none of them changes what is sampled."""
        for callback in self.callbacks:
            callback(pipeline, step, timestep, tensors)
        return {}


def _small(frame: np.ndarray) -> np.ndarray:
    """The frame at the preview's width: all rows are kept until the clip is sampled."""
    height = max(1, round(WIDTH * frame.shape[0] / frame.shape[1]))
    return np.asarray(Image.fromarray(frame).resize((WIDTH, height), Image.Resampling.LANCZOS))

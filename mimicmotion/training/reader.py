"""Training of the pose reader, on single frames of people that nobody is evaluated on.

Every picture of a step shows another person, spoiled as results are: blurred, noisy, off in colour, of lower
resolution or with two moments mixed, so that the reader measures a result's pose and not its picture quality.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mimicmotion.puppets import (
    STRIDE,
    PoseReader,
    ReaderConfig,
    places,
    pose_error,
    read_joints,
    save_reader,
    true_joints,
)
from mimicmotion.training.evaluation_options import ReaderOptions
from mimicmotion.training.loop import make_accelerator, train
from mimicmotion.training.model_facts import LOCAL
from mimicmotion.weights import note_weights

SPREAD = 1.2  # cells, of the wanted heat around a joint
PLACE_WEIGHT = 0.1  # of the error in cells beside the cross entropy
SHEET_CLIPS = 12
BLURS = (0.0, 1.4)  # standard deviation in pixels
NOISES = (0.0, 0.06)  # of 1
COLOUR_SHIFTS = 0.12
MIXED_SHARE, COARSE_SHARE = 0.15, 0.3


def train_reader(options: ReaderOptions) -> None:
    """Trains the reader and writes it. Raises: as `loop.train`."""
    train(ReaderStage(options), make_accelerator(options))


class ReaderStage:
    """What the training loop asks for: see `loop.Stage`."""

    def __init__(self, options: ReaderOptions):
        self.options = options
        torch.manual_seed(options.step_seed(-1))
        self.networks = nn.ModuleDict({"reader": PoseReader()})

    @property
    def reader(self) -> PoseReader:
        return self.networks["reader"]

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross entropy of the heat maps plus the places' error, over the joints that are seen."""
        pictures, joints, seen = draw_batch(self.reader.config, self.options.batch, generator)
        device = self.reader.leave.weight.device
        logits = self.reader(spoil(pictures, generator).to(device)).float()
        return reader_loss(logits, joints.to(device), seen.to(device))

    def write_sheet(self, path: Path) -> None:
        """Validation frames with the places read (white) and the true ones (green) of the joints that are seen."""
        from mimicmotion.results import contact_sheet

        rows = [[], []]
        for place, (clip, _) in enumerate(validation_clips(SHEET_CLIPS, 1, self.reader.config)):
            expected, seen = true_joints(clip.poses, *clip.frames.shape[1:3])
            found = read_joints(self.reader, clip.frames)
            rows[place % 2].append(_marked(clip.frames[0], found[0][seen[0]], expected[0][seen[0]]))
        contact_sheet(path, [("white: read, green: true", row) for row in rows], tile_width=256)

    def export(self) -> None:
        """Writes the reader with its error on validation frames."""
        clips = validation_clips(SHEET_CLIPS, 4, self.reader.config)
        errors = [pose_error(self.reader, clip.frames, clip.poses, height)[0] for clip, height in clips]
        settings = {name: value for name, value in self.options.described().items() if name not in LOCAL}
        facts = settings | {"validation_pose_error_percent": round(float(np.mean(errors)), 3)}
        save_reader(self.reader, self.options.reader, facts)
        note_weights(self.options.reader)


def draw_batch(
    config: ReaderConfig, batch: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (batch, 3, height, width) in 0..1, joints in pixels (batch, 14, 2), whether they are seen (batch, 14).

    Now and then a picture is mixed with the moment before it; its joints are those of the moment that is stronger.
    """
    from mimicmotion.puppets import TRAINING_SEEDS, make_clip

    seeds = torch.randint(TRAINING_SEEDS.start, TRAINING_SEEDS.stop, (batch,), generator=generator).tolist()
    mixed = torch.rand(batch, generator=generator) < MIXED_SHARE
    pictures, joints, seen = [], [], []
    for seed, mix in zip(seeds, mixed, strict=True):
        clip = make_clip(seed, 3 if mix else 1, config.height, config.width)
        picture = 0.75 * clip.frames[-1] + 0.25 * clip.frames[-2] if mix else clip.frames[-1]
        points, visible = true_joints(clip.poses[-1:], config.height, config.width)
        pictures.append(torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1))
        joints.append(torch.from_numpy(points[0]))
        seen.append(torch.from_numpy(visible[0]))
    return torch.stack(pictures), torch.stack(joints), torch.stack(seen)


def spoil(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The pictures (batch, 3, height, width) as a weak generator might have made them, in 0..1."""

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(pictures), *shape, generator=generator)

    gain, shift = uniform(0.8, 1.2, 3, 1, 1), uniform(-COLOUR_SHIFTS, COLOUR_SHIFTS, 3, 1, 1)
    spoiled = torch.stack([blur(picture, sigma) for picture, sigma in zip(pictures, uniform(*BLURS), strict=True)])
    size = spoiled.shape[-2:]
    halved = functional.interpolate(functional.avg_pool2d(spoiled, 2), size=size, mode="bilinear", align_corners=False)
    spoiled = torch.where(uniform(0, 1, 1, 1, 1) < COARSE_SHARE, halved, spoiled)
    # Noise of two sizes of grain: a pixel's, and that of what one latent decodes to.
    fine = torch.randn(pictures.shape, generator=generator)
    coarse = torch.randn(*pictures.shape[:2], size[0] // 8, size[1] // 8, generator=generator)
    coarse = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    noise = uniform(*NOISES, 1, 1, 1) * fine + uniform(*NOISES, 1, 1, 1) * coarse
    return (gain * spoiled + shift + noise).clamp(0, 1)


def blur(picture: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """A picture (channels, height, width) blurred by a Gaussian of `sigma` pixels, of radius 4."""
    offsets = torch.arange(-4, 5, dtype=picture.dtype)
    line = torch.exp(-0.5 * (offsets / max(float(sigma), 1e-3)) ** 2)
    line = (line / line.sum()).reshape(1, 1, 1, -1)
    padded = functional.pad(picture[:, None], (4,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, line), line.transpose(2, 3))[:, 0]


def reader_loss(
    logits: torch.Tensor, joints: torch.Tensor, seen: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of heat maps (batch, 14, rows, columns), and the mean error of the places in pixels.

    Args:
        joints: pixels (batch, 14, 2).
        seen: bool (batch, 14); the others do not count.
    """
    wanted = wanted_heat(joints, *logits.shape[-2:])
    heat = logits.flatten(2).log_softmax(-1)
    entropy = -(wanted.flatten(2) * heat).sum(-1)[seen].mean()
    distance = (places(logits) - joints).norm(dim=-1)[seen]
    # Far joints are the entropy's business: beyond the window the place has no gradient towards the truth.
    fine = functional.smooth_l1_loss(distance / STRIDE, torch.zeros_like(distance), reduction="none").clamp(max=2)
    return entropy + PLACE_WEIGHT * fine.mean(), {"pixels": distance.mean().item()}


def wanted_heat(joints: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Heat maps (batch, joints, rows, columns), each of sum 1, around joints in pixels (batch, joints, 2)."""
    cells = joints / STRIDE - 0.5
    across = torch.exp(-0.5 * ((torch.arange(columns, device=joints.device) - cells[..., :1]) / SPREAD) ** 2)
    down = torch.exp(-0.5 * ((torch.arange(rows, device=joints.device) - cells[..., 1:]) / SPREAD) ** 2)
    heat = down[..., :, None] * across[..., None, :]
    return heat / heat.sum((-2, -1), keepdim=True).clamp(min=1e-9)


def validation_clips(count: int, frames: int, config: ReaderConfig) -> list[tuple]:
    """(clip, body height in pixels) of the first validation seeds."""
    from mimicmotion.puppets import VALIDATION_SEEDS, make_clip

    clips = [make_clip(seed, frames, config.height, config.width) for seed in VALIDATION_SEEDS[:count]]
    return [(clip, clip.person.scale * config.height) for clip in clips]


def _marked(frame: np.ndarray, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The frame at twice its size with crosses at places in pixels, (joints, 2)."""
    large = frame.repeat(2, 0).repeat(2, 1)
    for points, colour in ((expected, (0, 255, 0)), (found, (255, 255, 255))):
        for x, y in (2 * points).astype(int):
            large[max(0, y - 3) : y + 4, max(0, x) : x + 1] = colour
            large[max(0, y) : y + 1, max(0, x - 3) : x + 4] = colour
    return large

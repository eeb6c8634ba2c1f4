"""The pose reader: a small network that finds the body joints of puppets in pictures, to measure whether a result
performs the motion that it was asked for.

It is a measuring instrument for this renderer's people, no detector of people: it was trained on them alone. Its own
error is measured on true frames first (`scripts/train_tiny.py evaluate` reports it in the row "truth").
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mimicmotion.dwpose import CONFIDENT, Pose
from mimicmotion.errors import InputError, SetupError
from mimicmotion.files import write_json, write_tensors
from mimicmotion.weights import verify_small

JOINTS = 14  # the first of OpenPose's 18: nose, neck, then shoulder, elbow, wrist and hip, knee, ankle, right and left
STRIDE = 4  # pixels per cell of a heat map
WINDOW = 2  # cells around the highest one that a place is averaged over
BATCH = 32


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the network, and the frames it is for (pixels)."""

    height: int = 192
    width: int = 128
    widths: tuple[int, int, int] = (24, 48, 80)  # channels at strides 4, 8 and 16


class PoseReader(nn.Module):
    """Pictures (batch, 3, height, width) in 0..1 -> logits of heat maps (batch, 14, height / 4, width / 4)."""

    def __init__(self, config: ReaderConfig | None = None):
        super().__init__()
        self.config = config = config or ReaderConfig()
        fine, middle, coarse = config.widths
        self.enter = nn.Conv2d(3 * STRIDE**2, fine, 3, padding=1)
        self.fine = Residual(fine)
        self.to_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = Residual(middle)
        self.to_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        # Left and right are told apart by the whole figure: at stride 16 three dilated blocks see all of it.
        self.coarse = nn.Sequential(Residual(coarse), Residual(coarse, dilation=2), Residual(coarse, dilation=3))
        self.from_coarse = nn.Conv2d(coarse, middle, 1)
        self.middle_again = Residual(middle)
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.fine_again = Residual(fine)
        self.leave = nn.Conv2d(fine, JOINTS, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        fine = self.fine(self.enter(functional.pixel_unshuffle(pictures * 2 - 1, STRIDE)))
        middle = self.middle(self.to_middle(fine))
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_again(middle + _twice(self.from_coarse(coarse)))
        return self.leave(functional.silu(self.fine_again(fine + _twice(self.from_middle(middle)))))


class Residual(nn.Module):
    """Two convolutions around the identity."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        change = self.first(functional.silu(self.norm(hidden)))
        return hidden + self.second(functional.silu(change))


def _twice(hidden: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)


def read_joints(reader: PoseReader, clip: np.ndarray) -> np.ndarray:
    """Places of the 14 joints in pixels, float32 (frames, 14, 2), x then y.

    Args:
        clip: uint8 (frames, height, width, 3), of the size that the reader was trained for.

    Raises: ValueError for another size.
    """
    return read_confidently(reader, clip)[0]


@torch.no_grad()
def read_confidently(reader: PoseReader, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `read_joints`, with the share of each joint's heat that lies around its place, 0..1 (frames, 14)."""
    config = reader.config
    if clip.shape[1:] != (config.height, config.width, 3):
        raise ValueError(f"the pose reader is for frames of {config.height} x {config.width}, not {clip.shape[1:3]}")
    pictures = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 255
    found = [_places(reader(batch)) for batch in pictures.split(BATCH)]
    joints, shares = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return joints, shares


def places(logits: torch.Tensor) -> torch.Tensor:
    """Where heat maps (batch, joints, rows, columns) are highest, in pixels (batch, joints, 2).

    The mean place around the highest cell, weighted by the heat, which is finer than a cell.
    """
    return _places(logits)[0]


def _places(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `places`, and the share of the heat that was averaged, (batch, joints)."""
    rows, columns = logits.shape[-2:]
    heat = logits.flatten(2).softmax(-1)
    best = heat.argmax(-1, keepdim=True)
    axes = [torch.arange(count, device=logits.device) for count in (rows, columns)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
    near = ((grid - grid[best.squeeze(-1)][:, :, None]).abs() <= WINDOW).all(-1)  # (batch, joints, cells)
    weight = heat * near
    mean = (weight[..., None] * grid).sum(2) / weight.sum(-1, keepdim=True)
    return (mean.flip(-1) + 0.5) * STRIDE, weight.sum(-1)


def true_joints(poses: Sequence[Pose], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The first person's 14 joints in pixels (frames, 14, 2), and which are seen: confident and within the frame."""
    points = np.stack([pose["bodies"]["candidate"][:JOINTS] for pose in poses]) * (width, height)
    confident = np.stack([pose["bodies"]["score"][0, :JOINTS] for pose in poses]) > CONFIDENT
    inside = ((points >= 0) & (points < (width, height))).all(-1)
    return points.astype(np.float32), confident & inside


def pose_error(
    reader: PoseReader, clip: np.ndarray, poses: Sequence[Pose], body_height: float
) -> tuple[float, np.ndarray]:
    """How far the joints of a clip lie from where they should be, in percent of the person's height.

    Args:
        clip: uint8 (frames, height, width, 3).
        poses: one for each frame, the renderer's own.
        body_height: of the person in pixels, standing, head to foot, whether or not all of it is in the frame.

    Returns: the mean over all joints that the poses hold as seen, and every frame's and joint's error
        (frames, 14), NaN where it is not seen.

    Raises: ValueError when no joint is seen in the whole clip.
    """
    expected, seen = true_joints(poses, *clip.shape[1:3])
    if not seen.any():
        raise ValueError("no joint is seen in any frame")
    distances = np.linalg.norm(read_joints(reader, clip) - expected, axis=-1)
    errors = np.where(seen, 100 * distances / body_height, np.nan)
    return float(np.nanmean(errors)), errors


def save_reader(reader: PoseReader, path: Path, facts: dict) -> None:
    """Writes the weights in half precision, and a JSON of the same stem with sizes and `facts` of the training."""
    weights = {name: tensor.detach().half().contiguous() for name, tensor in reader.state_dict().items()}
    write_tensors(path, weights, {"format": "pt"})
    write_json(path.with_suffix(".json"), {"config": asdict(reader.config), "training": facts})


def load_reader(path: Path) -> PoseReader:
    """The reader that `save_reader` wrote, in float32. Raises: SetupError when absent or not what was noted of it,
    InputError when damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise SetupError(f"{path} and its .json are not there; train it with: python scripts/train_tiny.py reader")
    verify_small(path)
    try:
        settings = json.loads(path.with_suffix(".json").read_text())["config"]
        reader = PoseReader(ReaderConfig(**settings | {"widths": tuple(settings["widths"])}))
        reader.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path} or its .json is damaged ({error}); restore it or train it again") from error
    return reader.eval().requires_grad_(False)

"""From a reference picture and a driving video to what the pipeline takes: pixels and drawn poses.

Sizes and sampling are those of published MimicMotion. Poses stay keypoints (kilobytes) and are drawn when needed.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mimicmotion.config import ASPECT_RATIO, SIZE_MULTIPLE
from mimicmotion.dwpose import (
    CANVAS_SIDE,
    Alignment,
    TrackReport,
    align_pose,
    arrays_from_pose,
    fit_alignment,
    follow_person,
    load_poses,
    pose_from_arrays,
    restore_parts,
    save_poses,
)
from mimicmotion.errors import InputError
from mimicmotion.files import why_no_file
from mimicmotion.video import VideoSource, effective_stride

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SIDECAR_SUFFIX = ".pose.npz"
DRAWN_BYTES = 2**30  # of drawn poses kept: 570 frames at 576x1024


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a frame: resized to cover it, then cropped in the middle. Sizes in pixels."""

    height: int
    width: int
    resized_height: int
    resized_width: int

    @property
    def top(self) -> int:
        """First row of the crop."""
        return round((self.resized_height - self.height) / 2)

    @property
    def left(self) -> int:
        """First column of the crop."""
        return round((self.resized_width - self.width) / 2)


@dataclass(frozen=True)
class Reference:
    """A reference picture as a frame: pixels uint8 (height, width, 3), RGB; pose in 0..1 of that frame."""

    path: Path
    pixels: np.ndarray
    pose: dict


@dataclass(frozen=True)
class DrivingPoses:
    """Poses of a clip in 0..1 of its frames.

    detected: what the detector saw in the sampled frames, anybody in them; poses: the person who is followed, or
    nobody; frame_indices: numbers of the sampled frames; size: (height, width) of the clip; report: what tracking did.
    """

    detected: list[dict]
    poses: list[dict]
    frame_indices: list[int]
    stride: int
    fps: float
    size: tuple[int, int]
    report: TrackReport


def frame_geometry(height: int, width: int, resolution: int) -> Geometry:
    """Size of the frames for a picture of height x width, and how it is resized to cover them.

    The short side is `resolution`, the long side 16/9 of it, floored to a multiple of 64; only a picture higher
    than wide gives upright frames.
    """
    long_side = int(resolution / ASPECT_RATIO // SIZE_MULTIPLE) * SIZE_MULTIPLE
    target_height, target_width = (long_side, resolution) if height > width else (resolution, long_side)
    ratio = height / width
    if ratio < target_height / target_width:
        return Geometry(target_height, target_width, target_height, math.ceil(target_height / ratio))
    return Geometry(target_height, target_width, math.ceil(target_width * ratio), target_width)


def fit_picture(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """`pixels` uint8 (h, w, 3) resized (bilinear, not anti-aliased, as published) and cropped to the frame."""
    import torch  # not above: a dry run needs only sizes

    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    size = (geometry.resized_height, geometry.resized_width)
    resized = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    top, left = geometry.top, geometry.left
    cropped = resized[0, :, top : top + geometry.height, left : left + geometry.width]
    return cropped.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def read_picture(path: str | Path) -> np.ndarray:
    """A picture as uint8 (h, w, 3), RGB, turned as its EXIF tag says.

    Raises: InputError when it is missing, no picture, or damaged.
    """
    reason = why_no_file(path)
    if reason and reason != "does not exist":
        raise InputError(f"the reference image {path} {reason}; pass --ref_image_path")
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"reference image not found: {path}; pass --ref_image_path") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the reference image {path}: {error}; convert it to PNG or JPEG") from error


def read_frame(path: Path, resolution: int) -> tuple[np.ndarray, Geometry]:
    """A picture as a frame, uint8 (height, width, 3), RGB, and how it was made one. Raises: as `read_picture`."""
    picture = read_picture(path)
    geometry = frame_geometry(*picture.shape[:2], resolution)
    return fit_picture(picture, geometry), geometry


def load_reference(
    path: str | Path,
    resolution: int,
    detect: Callable[[np.ndarray], dict],
    read: Callable[[Path, int], tuple[np.ndarray, Geometry]] = read_frame,
) -> Reference:
    """The reference picture as a frame, with the pose of the largest person in it.

    Args:
        path: picture file; keypoints in `<name>.pose.npz` beside it are used instead of detection.
        resolution: short side of the frame in pixels.
        detect: gives the pose of a uint8 (h, w, 3) picture.
        read: `read_frame`, or something faster that gives the same.

    Raises: InputError for an unreadable picture or sidecar, or when there is no person in it.
    """
    path = Path(path)
    pixels, geometry = read(path, resolution)
    sidecar = path.with_suffix(SIDECAR_SUFFIX)
    if sidecar.is_file():
        pose = align_pose(load_poses(sidecar).poses[0], picture_to_frame(geometry))
    else:
        pose = detect(pixels)
    try:
        poses, _ = follow_person([pose], aspect=geometry.width / geometry.height)
    except InputError:
        raise InputError(
            f"no person was found in the reference image {path}; use a picture that shows one clearly, or put "
            f"keypoints beside it in {sidecar.name}"
        ) from None
    return Reference(path, pixels, poses[0])


def picture_to_frame(geometry: Geometry) -> Alignment:
    """The map from 0..1 of a whole picture to 0..1 of the frame that was cropped out of it."""
    return Alignment(
        ax=geometry.resized_width / geometry.width,
        bx=-geometry.left / geometry.width,
        ay=geometry.resized_height / geometry.height,
        by=-geometry.top / geometry.height,
    )


@dataclass(frozen=True)
class DetectedPoses:
    """What the detector saw in the sampled frames of a clip; fields as in `DrivingPoses`."""

    poses: list[dict]
    frame_indices: list[int]
    stride: int
    fps: float
    size: tuple[int, int]


def detect_poses(
    video: VideoSource,
    detector: Callable[[list[np.ndarray]], list[dict]],
    *,
    sample_stride: int,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda count: None,
) -> DetectedPoses:
    """Detects the poses of every sampled frame of a video.

    Args:
        video: the driving video; read once, `batch_size` frames in memory.
        detector: gives one pose dictionary for each uint8 (H, W, 3) frame of a list.
        sample_stride: as in the configuration; see `effective_stride`.
        batch_size: frames per call of the detector.
        progress: called with the number of frames after each call of the detector.

    Raises: InputError when the video cannot be read.
    """
    stride = effective_stride(video.fps, sample_stride)
    detector.reset()
    poses, indices = [], []
    for batch in batches(video.frames(stride), batch_size):
        # Kept as pose files keep them, so that saved poses give the same frames.
        poses += [in_single_precision(pose) for pose in detector([frame for _, frame in batch])]
        indices += [index for index, _ in batch]
        progress(len(batch))
    return DetectedPoses(poses, indices, stride, float(video.fps), (video.height, video.width))


def read_poses(path: Path, video: VideoSource, sample_stride: int, max_gap: int = 8) -> DrivingPoses:
    """Poses of `video` that were saved before.

    Raises: InputError when the file cannot be read or was sampled differently.
    """
    saved = load_poses(path)
    stride = effective_stride(video.fps, sample_stride)
    expected = list(range(0, video.num_frames, stride))
    if saved.frame_indices != expected:
        raise InputError(
            f"{path} holds poses of {len(saved.poses)} frames of {saved.source}, but {video.path} with sample_stride "
            f"{sample_stride} has {len(expected)}: every {stride}-th of {video.num_frames}; save the poses again"
        )
    detected = DetectedPoses(saved.poses, saved.frame_indices, stride, saved.fps, (saved.height, saved.width))
    return follow(detected, str(path), max_gap)


def save_driving_poses(
    path: Path, driving: DrivingPoses, video: VideoSource, detector: str, fingerprint: str
) -> None:
    """Writes what the detector of that name saw, for `read_poses`. Raises: SetupError when it cannot be written."""
    save_poses(
        path,
        driving.detected,
        frame_indices=driving.frame_indices,
        fps=driving.fps,
        height=driving.size[0],
        width=driving.size[1],
        source=video.path.name,
        detector=detector,
        fingerprint=fingerprint,
    )


def follow(detected: DetectedPoses, name: str, max_gap: int = 8) -> DrivingPoses:
    """Follows one person through the detected poses.

    Args:
        name: of the clip, for messages.
        max_gap: longest run of frames without a person that is bridged.

    Raises: InputError when there is nobody.
    """
    size = detected.size
    try:
        poses, report = follow_person(detected.poses, aspect=size[1] / size[0], max_gap=max_gap)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    logger.info("%s: %s", name, report)
    return DrivingPoses(
        detected.poses, poses, detected.frame_indices, detected.stride, detected.fps, size, report
    )


def in_single_precision(pose: dict) -> dict:
    """The pose with its arrays in float32."""
    return pose_from_arrays(**{name: array.astype(np.float32) for name, array in arrays_from_pose(pose).items()})


def align_to_reference(
    driving: DrivingPoses, reference: Reference, method: str, with_lost_parts: bool = False
) -> tuple[list[dict], Alignment | None]:
    """All poses of a run, the reference's first, moved to the reference's proportions.

    method: "robust", "linear" or "none"; with_lost_parts: see `lost_parts.restore_parts`. Returns the poses and the
    map used.
    """
    if with_lost_parts:
        restored = restore_parts(driving.poses, driving.size[1] / driving.size[0])
        driving = replace(driving, poses=restored)
    if method == "none":
        return [reference.pose, *driving.poses], None
    size = reference.pixels.shape[:2]
    alignment = fit_alignment(reference.pose, driving.poses, size, driving.size, method)
    return [reference.pose, *(align_pose(pose, alignment) for pose in driving.poses)], alignment


class DrawnPoses:
    """Poses as pictures, drawn when they are first asked for.

    `len(...)` is the number of frames; `drawn[[0, 5]]` is a uint8 tensor (2, 3, height, width), RGB. Pictures are
    kept while they fit into `budget` bytes and drawn again after that, so memory does not grow with the clip.
    `canvas_side` is the one of the PoseNet that will see them.
    """

    def __init__(
        self,
        poses: Sequence[dict],
        height: int,
        width: int,
        canvas_side: int = CANVAS_SIDE,
        budget: int = DRAWN_BYTES,
    ):
        self.poses = poses
        self._size = (height, width)
        self._canvas_side = canvas_side
        self._kept: dict[int, torch.Tensor] = {}
        self._room = budget // (3 * height * width)

    def __len__(self) -> int:
        return len(self.poses)

    def with_poses(self, poses: Sequence[dict]) -> "DrawnPoses":
        """Other poses, drawn in the same way."""
        return DrawnPoses(poses, *self._size, self._canvas_side)

    def __getitem__(self, indices: Sequence[int]) -> "torch.Tensor":
        import torch

        return torch.stack([self._picture(index) for index in indices])

    def _picture(self, index: int) -> "torch.Tensor":
        import torch

        from mimicmotion.dwpose import draw_pose

        if index in self._kept:
            return self._kept[index]
        picture = torch.from_numpy(draw_pose(self.poses[index], *self._size, self._canvas_side))
        if len(self._kept) < self._room:
            self._kept[index] = picture
        return picture


def batches(items: Iterator, size: int) -> Iterator[list]:
    """Lists of up to `size` consecutive items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

"""From a reference picture and a driving video to what the pipeline takes: pixels and drawn poses.

Sizes and sampling are those of published MimicMotion. Poses stay keypoints (kilobytes) and are drawn when needed.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimicmotion.config import (
    ASPECT_RATIO,
    POSE_PARTS,
    SIZE_MULTIPLE,
    WIDEST,
    ReferenceSettings,
    aspect_ratio,
    parse_color,
)
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
from mimicmotion.video import VideoSource, effective_stride, read_picture

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SIDECAR_SUFFIX = ".pose.npz"
DRAWN_BYTES = 128 * 2**20  # of drawn poses kept: a tile of 72 frames at 576x1024; others are drawn for every use


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a frame: resized, then cropped in the middle or laid on a background. Sizes in pixels."""

    height: int
    width: int
    resized_height: int
    resized_width: int

    @property
    def top(self) -> int:
        """First row of the crop; negative: rows of background above the picture."""
        return round((self.resized_height - self.height) / 2)

    @property
    def left(self) -> int:
        """First column of the crop; negative: columns of background beside the picture."""
        return round((self.resized_width - self.width) / 2)

    @property
    def rows_cut(self) -> float:
        """Share of the picture's rows that the frame does not show."""
        return max(0.0, 1 - self.height / self.resized_height)

    @property
    def columns_cut(self) -> float:
        """Share of the picture's columns that the frame does not show."""
        return max(0.0, 1 - self.width / self.resized_width)


@dataclass(frozen=True)
class Frame:
    """A picture as a frame: pixels uint8 (height, width, 3), RGB.

    geometry: how it was made one; size: (height, width) of the picture; notes: in words, what was done to it.
    """

    pixels: np.ndarray
    geometry: Geometry
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A reference picture as a frame: pixels uint8 (height, width, 3), RGB; pose in 0..1 of that frame.

    frame: how the pixels came from the file; None where they came from none.
    """

    path: Path
    pixels: np.ndarray
    pose: dict
    frame: Frame | None = None


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


def frame_geometry(height: int, width: int, resolution: int, aspect: str = "published") -> Geometry:
    """Size of the frames for a picture of height x width, and how it is resized for them.

    Sides are multiples of 64. The picture covers the frame and is cropped, but for "keep", which loses nothing.

    Args:
        resolution: short side in pixels; where `aspect` lets the picture decide, frames have about as many pixels as
            published ones of that short side.
        aspect: as `reference.aspect`. "published": the long side is 16/9 of the short one, floored, and only a
            picture higher than wide gives upright frames.
    """
    target_height, target_width = target = _frame_size(height, width, resolution, aspect)
    ratio = height / width
    if aspect == "keep":
        scale = min(target_height / height, target_width / width)
        resized = (max(1, round(side * scale)) for side in (height, width))
        # A line of background would be rounding.
        fitted = (full if full - side <= 1 else side for side, full in zip(resized, target, strict=True))
        return Geometry(*target, *fitted)
    if ratio < target_height / target_width:
        return Geometry(target_height, target_width, target_height, math.ceil(target_height / ratio))
    return Geometry(target_height, target_width, math.ceil(target_width * ratio), target_width)


def _frame_size(height: int, width: int, resolution: int, aspect: str) -> tuple[int, int]:
    long_side = int(resolution / ASPECT_RATIO // SIZE_MULTIPLE) * SIZE_MULTIPLE
    if aspect == "published":
        return (long_side, resolution) if height > width else (resolution, long_side)
    asked = aspect_ratio(aspect)
    if asked is None:
        return _nearest_size(height / width, resolution * long_side)
    long_side = int(resolution * max(asked, 1 / asked) // SIZE_MULTIPLE) * SIZE_MULTIPLE
    return (long_side, resolution) if asked < 1 else (resolution, long_side)


def _nearest_size(ratio: float, area: int) -> tuple[int, int]:
    """(height, width) of about `area` pixels and nearly height : width = `ratio`; of equally good ones the smallest."""

    def misfit(size: tuple[int, int]) -> tuple[float, int]:
        height, width = size
        # Another shape cuts people; some more or fewer pixels change little.
        misfit = abs(math.log(height / width / ratio)) + abs(math.log(height * width / area)) / 4
        return round(misfit, 9), height * width

    sides = range(SIZE_MULTIPLE, math.isqrt(area * WIDEST) + SIZE_MULTIPLE, SIZE_MULTIPLE)
    sizes = ((h, w) for h in sides for w in sides if h <= WIDEST * w and w <= WIDEST * h)
    return min(sizes, key=misfit)


def fit_picture(
    pixels: np.ndarray, geometry: Geometry, background: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    """`pixels` uint8 (h, w, 3) resized (bilinear, not anti-aliased, as published), cropped to the frame.

    Where the frame is larger than the resized picture, `background` (R, G, B) is around it.
    """
    import torch  # not above: a dry run needs only sizes

    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    size = (geometry.resized_height, geometry.resized_width)
    resized = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    top, left = max(0, geometry.top), max(0, geometry.left)
    cropped = resized[0, :, top : top + geometry.height, left : left + geometry.width]
    fitted = cropped.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    if fitted.shape[:2] == (geometry.height, geometry.width):
        return fitted
    frame = np.empty((geometry.height, geometry.width, 3), np.uint8)
    frame[:] = background
    frame[max(0, -geometry.top) :, max(0, -geometry.left) :][: fitted.shape[0], : fitted.shape[1]] = fitted
    return frame


def read_frame(path: Path, resolution: int, settings: ReferenceSettings | None = None) -> Frame:
    """A picture as a frame, of the shape that the settings ask for. Raises: as `video.read_picture`."""
    settings = settings or ReferenceSettings()
    picture = read_picture(path, settings)
    geometry = frame_geometry(*picture.size, resolution, settings.aspect)
    pixels = fit_picture(picture.pixels, geometry, parse_color(settings.background))
    notes = [*picture.notes, *shape_notes(picture.size, geometry, settings.aspect)]
    return Frame(pixels, geometry, picture.size, tuple(notes))


def shape_notes(size: tuple[int, int], geometry: Geometry, aspect: str) -> list[str]:
    """In words, what of a picture of `size` (height, width) the frame does not show, or shows beside it."""
    cut = [
        f"{share:.1%} of its {name}"
        for name, share, pixels in (
            ("rows", geometry.rows_cut, geometry.resized_height - geometry.height),
            ("columns", geometry.columns_cut, geometry.resized_width - geometry.width),
        )
        if pixels > 1  # one is rounding
    ]
    shapes = f"{size[1]}x{size[0]} becomes {geometry.width}x{geometry.height} (aspect {aspect})"
    if cut:
        remedy = "" if aspect != "published" else "; --aspect auto takes the shape nearest to the picture's"
        return [f"{shapes}: {' and '.join(cut)} are cut{remedy}"]
    if min(geometry.top, geometry.left) < 0:
        return [f"{shapes}: whole, with background at its edges"]
    return []


def load_reference(
    path: str | Path,
    resolution: int,
    detect: Callable[[np.ndarray], dict],
    read: Callable[[Path, int], Frame] = read_frame,
) -> Reference:
    """The reference picture as a frame, with the pose of the largest person in it.

    Args:
        path: picture file; keypoints in `<name>.pose.npz` beside it are used instead of detection.
        resolution: short side of the frame in pixels.
        detect: gives the pose of a uint8 (h, w, 3) picture.
        read: `read_frame`, or something faster that gives the same.

    Raises: InputError for an unreadable picture or sidecar, one that belongs to another picture, or when there is no
    person in it.
    """
    path = Path(path)
    frame = read(path, resolution)
    pixels, geometry = frame.pixels, frame.geometry
    for note in frame.notes:
        logger.warning("%s: %s", path, note)
    sidecar = path.with_suffix(SIDECAR_SUFFIX)
    if sidecar.is_file():
        pose = align_pose(pose_of_picture(sidecar, path, frame.size), picture_to_frame(geometry))
    else:
        pose = detect(pixels)
    try:
        poses, _ = follow_person([pose], aspect=geometry.width / geometry.height)
    except InputError:
        raise InputError(
            f"no person was found in the reference image {path}; use a picture that shows one clearly, or put "
            f"keypoints beside it in {sidecar.name}"
        ) from None
    return Reference(path, pixels, poses[0], frame)


def pose_of_picture(sidecar: Path, picture: Path, size: tuple[int, int]) -> dict:
    """The pose in a file beside a picture of `size` (height, width).

    Raises: InputError when it cannot be read, or was made for a picture of another size or for a clip.
    """
    saved = load_poses(sidecar)
    if len(saved.poses) != 1:
        raise InputError(
            f"{sidecar} holds poses of {len(saved.poses)} frames, as of a clip; the one beside a picture holds one: "
            "remove or rename it"
        )
    if (saved.height, saved.width) != size:
        raise InputError(
            f"{sidecar} was made for a picture of {saved.width}x{saved.height}, but {picture} is {size[1]}x{size[0]}; "
            "remove it, and the pose is detected, or make it anew"
        )
    return saved.poses[0]


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
        fitting = _fitting_stride(saved.frame_indices, video)
        remedy = f"pass --sample_stride {fitting}, or save the poses again" if fitting else "save the poses again"
        raise InputError(
            f"{path} holds poses of {len(saved.poses)} frames of {saved.source}, but {video.path} with sample_stride "
            f"{sample_stride} has {len(expected)}: every {stride}-th of {video.num_frames}; {remedy}"
        )
    detected = DetectedPoses(saved.poses, saved.frame_indices, stride, saved.fps, (saved.height, saved.width))
    return follow(detected, str(path), max_gap)


def _fitting_stride(frame_indices: list[int], video: VideoSource) -> int | None:
    """The `sample_stride` that takes these frames of the video, or None where none does."""
    strides = {after - before for before, after in pairwise(frame_indices)} or {video.num_frames}
    sample_stride = min(strides) // effective_stride(video.fps, 1)
    if sample_stride < 1:
        return None
    taken = range(0, video.num_frames, effective_stride(video.fps, sample_stride))
    return sample_stride if frame_indices == list(taken) else None


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
    `canvas_side` is the one of the PoseNet that will see them; `parts`: see `draw_pose`.
    """

    def __init__(
        self,
        poses: Sequence[dict],
        height: int,
        width: int,
        canvas_side: int = CANVAS_SIDE,
        parts: Sequence[str] = POSE_PARTS,
        budget: int = DRAWN_BYTES,
    ):
        self.poses = poses
        self._size = (height, width)
        self._canvas_side = canvas_side
        self._parts = parts
        self._places: dict[int, int] = {}
        self._kept: torch.Tensor | None = None  # one block: many small pieces of long life would break up the heap
        self._room = min(budget // (3 * height * width), len(poses))

    def __len__(self) -> int:
        return len(self.poses)

    def with_poses(self, poses: Sequence[dict]) -> "DrawnPoses":
        """Other poses, drawn in the same way."""
        return DrawnPoses(poses, *self._size, self._canvas_side, self._parts)

    def __getitem__(self, indices: Sequence[int]) -> "torch.Tensor":
        import torch

        height, width = self._size
        pictures = torch.empty(len(indices), 3, height, width, dtype=torch.uint8)
        for place, index in enumerate(indices):
            pictures[place] = self._picture(index)
        return pictures

    def _picture(self, index: int) -> "torch.Tensor":
        import torch

        from mimicmotion.dwpose import draw_pose

        if index in self._places:
            return self._kept[self._places[index]]
        picture = torch.from_numpy(draw_pose(self.poses[index], *self._size, self._canvas_side, self._parts))
        place = len(self._places)
        if place < self._room:
            if self._kept is None:
                self._kept = picture.new_empty(self._room, *picture.shape)
            self._kept[place] = picture
            self._places[index] = place
        return picture


def batches(items: Iterator, size: int) -> Iterator[list]:
    """Lists of up to `size` consecutive items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

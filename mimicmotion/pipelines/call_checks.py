"""What the arguments of one call of the pipeline must be, and how they must fit together; all before a network runs."""

import PIL.Image
import torch

from mimicmotion.config import LARGEST_STRENGTH

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
CFG_BATCH_CHOICES = ("auto", "on", "off")


def check_choices(output_type: str, cfg_batch: str, image_only_indicator: bool) -> None:
    """Raises: ValueError for a word that is not known, and for an indicator that would cut temporal layers out."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type {output_type!r} is unknown; choose one of {', '.join(OUTPUT_TYPES)}")
    if cfg_batch not in CFG_BATCH_CHOICES:
        raise ValueError(f"cfg_batch {cfg_batch!r} is unknown; choose one of {', '.join(CFG_BATCH_CHOICES)}")
    if image_only_indicator:
        raise ValueError("image_only_indicator=True would cut the UNet's temporal layers out; leave it False")


def check_strengths(pose_strength: float, pose_start: float, pose_end: float, image_embed_strength: float) -> None:
    """Raises: ValueError for a strength out of range or no number, or a share of the steps that is none."""
    for name, value in (("pose_strength", pose_strength), ("image_embed_strength", image_embed_strength)):
        if not 0 <= value <= LARGEST_STRENGTH:
            raise ValueError(f"{name} is {value}; it must be 0 to {LARGEST_STRENGTH:g}")
    if not 0 <= pose_start <= pose_end <= 1:
        raise ValueError(f"pose_start {pose_start} and pose_end {pose_end} must be 0 <= start <= end <= 1")


def check_callback_inputs(asked, offered: list[str]) -> None:
    """Raises: ValueError for tensors that a callback asks for and is not given."""
    unknown = sorted(set(asked) - set(offered))
    if unknown:
        raise ValueError(f"callbacks are given {', '.join(offered)}, not {', '.join(unknown)}")


def count_pictures(image, image_embeddings: torch.Tensor | None, image_latents: torch.Tensor | None) -> int:
    """How many reference pictures a call has.

    Raises:
        ValueError: for no picture, pictures of a wrong shape, or embeddings and latents of another number of them.
    """
    if image is None and (image_embeddings is None or image_latents is None):
        raise ValueError("without an image both image_embeddings and image_latents are needed")
    given = {"image": image, "image_embeddings": image_embeddings, "image_latents": image_latents}
    counts = {name: _pictures_in(name, value) for name, value in given.items() if value is not None}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        listed = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise ValueError(f"the number of pictures differs or is zero: {listed}")
    return next(iter(counts.values()))


def _pictures_in(name: str, value) -> int:
    if isinstance(value, PIL.Image.Image):
        return 1
    dimensions = {"image": 4, "image_embeddings": 3, "image_latents": 4}[name]
    if isinstance(value, torch.Tensor) and value.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions with the batch first, not {tuple(value.shape)}")
    return len(value)


def check_poses(image_pose, height: int, width: int, num_frames: int, pictures: int, videos: int) -> None:
    """Raises: ValueError for drawn poses of a wrong size, type or number of frames or clips."""
    if len_frames(image_pose) < num_frames:
        raise ValueError(f"{num_frames} frames need as many drawn poses; there are {len_frames(image_pose)}")
    if not isinstance(image_pose, torch.Tensor):
        return
    shape = tuple(image_pose.shape)
    if image_pose.ndim not in (4, 5) or shape[-3:] != (3, height, width):
        raise ValueError(f"drawn poses must be (frames, 3, {height}, {width}) like the frames, not {shape}")
    if image_pose.ndim == 5 and shape[0] not in (1, pictures, videos):
        counts = " or ".join(str(count) for count in sorted({1, pictures, videos}))
        raise ValueError(f"drawn poses of {shape[0]} clips for {pictures} pictures, {videos} videos: give {counts}")
    if image_pose.dtype != torch.uint8 and not image_pose.is_floating_point():
        raise ValueError(f"drawn poses must be uint8 in 0..255 or floating point in -1..1, not {image_pose.dtype}")


def len_frames(image_pose) -> int:
    """Frames in drawn poses: of the second dimension where a batch comes first."""
    batched = isinstance(image_pose, torch.Tensor) and image_pose.ndim == 5
    return image_pose.shape[1] if batched else len(image_pose)


def check_latents(latents: torch.Tensor | None, videos: int, frame_shape: tuple[int, int, int]) -> None:
    """Raises: ValueError unless `latents` is None or (videos, 1 or more frames, *frame_shape)."""
    if latents is None:
        return
    shape = tuple(latents.shape)
    if len(shape) != 5 or shape[0] != videos or shape[1] < 1 or shape[2:] != frame_shape:
        expected = ", ".join(str(size) for size in (videos, "frames", *frame_shape))
        raise ValueError(f"latents must be ({expected}), not {shape}")


def check_first_step(first_step: int, latents: torch.Tensor | None, num_frames: int, steps: int) -> None:
    """Raises: ValueError for a late start without latents of all frames, or behind the last step."""
    if first_step and (latents is None or latents.shape[1] != num_frames or not 0 < first_step < steps):
        raise ValueError(f"first_step {first_step} needs latents of {num_frames} frames and a later step to end at")

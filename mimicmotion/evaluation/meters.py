"""One pass through a clip's frames: every instrument reads the blocks as they come, so that memory does not grow with
the number of frames.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from mimicmotion.errors import InputError
from mimicmotion.evaluation import brought
from mimicmotion.evaluation.identity import IdentityMeter
from mimicmotion.evaluation.instruments import BLOCK, Instruments, rounded
from mimicmotion.evaluation.keypoints import PoseMeter, compare_poses
from mimicmotion.evaluation.pixels import PixelMeter, true_frames
from mimicmotion.evaluation.strips import Strip
from mimicmotion.evaluation.targets import Sources, Target
from mimicmotion.results import gradient_energy
from mimicmotion.video import open_video


def measure(target: Target, sources: Sources, instruments: Instruments) -> tuple[dict, dict, bytes]:
    """One clip: its numbers by measure, its features for distances of the whole corpus, and its strip as a JPEG.

    Raises: InputError, NumericalError where it cannot be measured.
    """
    clip, hashes = target.clip, instruments.hashes
    plain, strip = target.poses is None and target.true is not None, Strip(clip.num_frames)
    poses = PoseMeter(instruments.models.detector) if target.poses is not None or plain else None
    identity = IdentityMeter(instruments.encoder, target.reference)
    pixels = PixelMeter() if target.true is not None else None
    segments = {}
    if target.true is not None:
        segments = {
            name: brought.SegmentMeter(getattr(instruments, instrument))
            for name, instrument in (("fvd", "i3d"), ("fid_vid", "fid_vid"))
            if name in hashes
        }
    faces = None
    if "csim" in hashes and target.reference_pose is not None:
        faces = brought.FaceMeter(instruments.arcface, target.reference, target.reference_pose)
    energy, lpips = 0.0, 0.0
    for own, true in blocks(target):
        found = poses.add(own) if poses else []
        identity.add(own)
        energy += len(own) * gradient_energy(own)
        strip.add(own, true)
        if faces:
            faces.add(own, found)
        if true is None:
            continue
        pixels.add(own, true)
        for meter in segments.values():
            meter.add(own, true)
        if "st_lpips" in hashes:
            lpips += len(own) * instruments.st_lpips.distance(own, true)
    numbers = identity.numbers()
    if target.reference is not None:
        still = gradient_energy(target.reference[None])
        numbers["sharpness_reference"] = energy / clip.num_frames / still if still else None
    if pixels:
        numbers |= pixels.numbers()
        numbers |= {"st_lpips": lpips / clip.num_frames} if "st_lpips" in hashes else {}
    if faces:
        numbers |= faces.numbers()
    if poses:
        seen = poses.followed(clip.width / clip.height)
        wanted = target.poses if target.poses is not None else true_poses(sources, target, instruments)
        numbers |= compare_poses(seen, wanted, target.size, sources.config.pose.draw)
        strip.draw(seen, wanted)
    features = {name: meter.found for name, meter in segments.items()}
    return {name: rounded(value) for name, value in numbers.items()}, features, strip.jpeg()


def blocks(target: Target) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames of the clip and the true ones, uint8 (n, h, w, 3) each; None without a truth.

    Raises: InputError where the truth ends before the clip or after it.
    """
    own, true = (frame for _, frame in target.clip.frames()), target.true
    while block := list(islice(own, BLOCK)):
        other = list(islice(true, len(block))) if true is not None else None
        if other is not None and len(other) != len(block):
            raise InputError(f"its truth has fewer than its {target.clip.num_frames} frames")
        yield np.stack(block), None if other is None else np.stack(other)


def true_poses(sources: Sources, target: Target, instruments: Instruments) -> list[dict]:
    """The poses that the detector sees in the true frames: what is wanted of a clip without a record."""
    meter = PoseMeter(instruments.models.detector)
    true = true_frames(target.clip.num_frames, target.size, 1, open_video(sources.truth))
    while block := list(islice(true, BLOCK)):
        meter.add(np.stack(block))
    return meter.followed(target.clip.width / target.clip.height)

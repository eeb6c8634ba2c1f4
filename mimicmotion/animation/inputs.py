"""What is found out about inputs: the facts of a video, poses, pixels. All of it could be remembered.

`mimicmotion.feature_cache` has a twin of InputFeatures with the same methods that looks each answer up first.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mimicmotion.animation.models import Models
from mimicmotion.features import DetectedPoses, Frame, Reference, detect_poses, read_frame
from mimicmotion.progress import Progress, one_bar
from mimicmotion.video import VideoSource, effective_stride, open_video

if TYPE_CHECKING:
    import torch

    from mimicmotion.config import TestCase


class GivenUp(Exception):
    """Nobody waits any more for what was being found out."""


class InputFeatures:
    """Finds out anew whatever it is asked for. What takes long is given up soon after `stop` was set."""

    def __init__(self, models: Models):
        self.models = models
        self.stop = threading.Event()

    def open_video(self, path: Path) -> VideoSource:
        """A driving video. Raises: InputError when it cannot be read."""
        return open_video(path, settings=self.models.config.video)

    def read_frame(self, path: Path, resolution: int) -> Frame:
        """As `features.read_frame`, with the settings of the run."""
        return read_frame(path, resolution, self.models.config.reference)

    def pose_in_picture(self, pixels: np.ndarray) -> dict:
        """The poses of all people in a picture, uint8 (h, w, 3), RGB."""
        self.models.detector.reset()
        return self.models.detector([pixels])[0]

    def driving_poses(self, video: VideoSource, sample_stride: int) -> DetectedPoses:
        """What the detector sees in the sampled frames of a video. Raises: InputError when it cannot be read."""
        total = -(-video.num_frames // effective_stride(video.fps, sample_stride))
        with Progress("poses", total, "frame", terminal=one_bar()) as bar:

            def progress(frames: int) -> None:
                bar.update(frames)
                if self.stop.is_set():
                    raise GivenUp(str(video.path))

            return detect_poses(
                video,
                self.models.detector,
                sample_stride=sample_stride,
                batch_size=self.models.config.pose.batch_size,
                progress=progress,
            )

    def of_reference(self, reference: Reference, case: "TestCase") -> dict[str, "torch.Tensor"]:
        """Arguments of the pipeline that were computed before, `image_embeddings` and `image_latents`; none here."""
        return {}

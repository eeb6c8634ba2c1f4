"""A job that is ready to be sampled, and making it ready; no diffusion model is needed."""

import logging
from dataclasses import dataclass

from mimicmotion.animation.inputs import InputFeatures
from mimicmotion.animation.models import Models
from mimicmotion.dwpose import Alignment, share_outside
from mimicmotion.features import (
    DrawnPoses,
    DrivingPoses,
    Reference,
    align_to_reference,
    follow,
    load_reference,
    read_poses,
    save_driving_poses,
)
from mimicmotion.files import printable
from mimicmotion.results import Job, evenly_spaced
from mimicmotion.video import VideoSource, effective_stride, playback_speed
from mimicmotion.weights import pose_canvas

logger = logging.getLogger(__name__)

SHEET_COLUMNS = 8
SHEET_BYTES = 64 * 2**20  # of a driving video's frames, kept for the contact sheet until it is made
MUCH_OUTSIDE = 0.2  # share of the joints; beyond it a result shows little of what the performer does
REMEDIES = {
    "robust": "use a reference picture that shows as much of the body, with room around it, or a driving video whose "
    "person stays in one place and shows no more than the reference",
    "linear": "--align robust keeps a person inside where it can",
    "none": "--align robust fits the person to the reference",
}


@dataclass(frozen=True)
class Clip:
    """A job that is ready to be sampled. `drawn` holds the poses as pictures, the reference's first."""

    job: Job
    video: VideoSource
    reference: Reference
    driving: DrivingPoses
    alignment: Alignment | None
    drawn: DrawnPoses

    @property
    def num_frames(self) -> int:
        """Frames of the result, without the reference's own."""
        return len(self.driving.poses)

    @property
    def joints_outside(self) -> float:
        """Share of the driving poses' seen joints that is drawn outside the picture, 0..1."""
        return share_outside(self.drawn.poses[1:])

    @property
    def playback_speed(self) -> float:
        """Speed of the result over that of the driving video."""
        return playback_speed(self.video.fps, self.driving.stride, self.job.case.fps)


class ClipMaker:
    """Picture and video -> pixels and aligned poses. A reference picture is read once per test case."""

    def __init__(self, models: Models, features: InputFeatures):
        self.models, self.features, self.settings = models, features, models.config.pose
        self._references: dict[int, Reference] = {}

    def prepare(self, job: Job) -> Clip:
        """Reads and aligns everything the pipeline needs for a job.

        Raises: InputError for an unreadable video or picture, or one without a person.
        """
        video = self.features.open_video(job.video)
        if self.models.config.output.contact_sheet:
            sampled = range(0, video.num_frames, effective_stride(video.fps, job.case.sample_stride))
            shown = [sampled[place] for place in evenly_spaced(len(sampled), SHEET_COLUMNS)]
            video = video.remembering(shown, SHEET_BYTES)
        reference = self.reference(job)
        driving = self.driving_poses(job, video)
        poses, alignment = align_to_reference(driving, reference, self.settings.align, self.settings.restore_parts)
        if alignment and alignment.note:
            logger.warning("%s: %s", job.name, alignment.note)
        clip = Clip(job, video, reference, driving, alignment, self.draw(poses, reference))
        if clip.joints_outside > MUCH_OUTSIDE:
            share, remedy = f"{clip.joints_outside:.0%}", REMEDIES[self.settings.align]
            logger.warning("%s: %s of the body's joints lie outside the picture; %s", job.name, share, remedy)
        return clip

    def find_out(self, job: Job) -> None:
        """Finds out about a job what takes long, so that a feature cache has it. Raises: as `prepare`."""
        self.reference(job)
        self.features.driving_poses(self.features.open_video(job.video), job.case.sample_stride)

    def draw(self, poses: list[dict], reference: Reference) -> DrawnPoses:
        """Poses as this run's PoseNet wants to see them, as large as the reference."""
        return DrawnPoses(poses, *reference.pixels.shape[:2], pose_canvas(self.models.config), self.settings.draw)

    def reference(self, job: Job) -> Reference:
        """The job's reference picture with its pose."""
        if job.case_index not in self._references:
            self._references[job.case_index] = load_reference(
                job.case.ref_image_path, job.case.resolution, self.features.pose_in_picture, self.features.read_frame
            )
        return self._references[job.case_index]

    def forget_references(self) -> None:
        """Makes `reference` read its picture anew."""
        self._references.clear()

    def driving_poses(self, job: Job, video: VideoSource) -> DrivingPoses:
        """The poses of the driving video: from their file, or detected and saved as the settings say."""
        pose, stride = self.settings, job.case.sample_stride
        if pose.backend == "file":
            return read_poses(job.poses_in(pose.folder), video, stride, pose.max_gap)
        driving = follow(self.features.driving_poses(video, stride), printable(video.path), pose.max_gap)
        if pose.save_folder:
            path, models = job.poses_in(pose.save_folder), self.models
            save_driving_poses(path, driving, video, models.backend, models.detector_fingerprint)
        return driving

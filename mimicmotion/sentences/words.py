"""A word's clip -> its poses, fitted to the reference picture and trimmed."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from mimicmotion.animation import Animator
from mimicmotion.dwpose import Pose
from mimicmotion.errors import InputError
from mimicmotion.features import Reference, align_to_reference
from mimicmotion.files import printable
from mimicmotion.results import Job
from mimicmotion.sentences.trim import Cut, trim
from mimicmotion.video import playback_speed, video_stem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Word:
    """Poses of a word in 0..1 of the reference's frame, what was cut off its clip, and facts for the record."""

    name: str
    poses: list[Pose]
    facts: dict


class WordReader:
    """Reads words as the animator's settings say; what is known about a clip comes from its feature cache."""

    def __init__(self, animator: Animator):
        self._animator, self._config = animator, animator.config

    def read(self, name: str, job: Job, reference: Reference) -> Word:
        """The word `name` from the video of `job`. The whole clip is fitted to the reference, and then trimmed.

        Raises: InputError that names the word, for a clip that cannot be read, shows nobody, or is all rest pose.
        """
        try:
            return self._read(name, job, reference)
        except InputError as error:
            raise InputError(f"word {printable(name)}: {error}") from error

    def _read(self, name: str, job: Job, reference: Reference) -> Word:
        pose, settings = self._config.pose, self._config.sentences
        video = self._animator.features.open_video(job.video)
        driving = self._animator.clips.driving_poses(job, video)
        poses, alignment = align_to_reference(driving, reference, pose.align, pose.restore_parts)
        poses = poses[1:]  # behind the reference's own
        cut = Cut(0, len(poses))
        if settings.trim:
            try:
                cut = trim(driving.poses, driving.size[1] / driving.size[0], settings)
            except InputError as error:
                raise InputError(f"{printable(job.video)}: {error}") from error
            logger.info("word %s (%s): %s", printable(name), printable(job.video), cut)
        facts = {
            "clip": str(job.video),
            "clip_frames": driving.frame_indices[cut.first : cut.stop],
            "cut": cut.facts() if settings.trim else None,
            "playback_speed": round(playback_speed(video.fps, driving.stride, job.case.fps), 4),
            "tracking": asdict(driving.report),
            "alignment": asdict(alignment) if alignment else None,
        }
        return Word(name, poses[cut.first : cut.stop], facts)


def word_job(clip: Path, words_folder: Path, sentence_job: Job) -> Job:
    """The job of a word's clip; its saved poses lie in a folder of poses as the clip lies in that of the words."""
    stem = clip.parent.relative_to(words_folder) / video_stem(clip)
    return Job(clip, sentence_job.case, 0, sentence_job.output, str(stem))

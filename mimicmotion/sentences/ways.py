"""The latents of a sentence: sampled as one clip, or word by word and joined as latent concat joins clips."""

import dataclasses

import torch

from mimicmotion.animation import Animator
from mimicmotion.dwpose import Pose
from mimicmotion.features import Reference
from mimicmotion.latent_concat import Part, PosedFrames, bridge_reach, join_clips, sample_bridge
from mimicmotion.latent_concat import transition as mixed
from mimicmotion.results import Job
from mimicmotion.sentences.timeline import Timeline

ONE_CLIP = ("poses", "cut")  # ways to join that sample the whole sentence


def sample_sentence(animator: Animator, job: Job, timeline: Timeline, reference: Reference, join: str) -> list[Part]:
    """Latents of all frames of `timeline`, joined the way `join` (as `sentences.join`).

    Raises: NumericalError.
    """
    return _Sampling(animator, job, timeline, reference).parts(join)


class _Sampling:
    def __init__(self, animator: Animator, job: Job, timeline: Timeline, reference: Reference):
        self._animator, self._job, self._timeline, self._reference = animator, job, timeline, reference

    def parts(self, join: str) -> list[Part]:
        if join in ONE_CLIP:
            return [Part(self._job.name, self._sampled(self._timeline.poses), hidden=1)]
        words, once = self._timeline.words, {}
        for word in words:
            if word.name not in once:
                once[word.name] = self._sampled(word.poses)
        clips = [once[word.name] for word in words]
        return join_clips(clips, [word.name for word in words], between=lambda i: self._between(join, clips, i))

    def _sampled(self, poses: list[Pose]) -> torch.Tensor:
        return self._animator.sampler.sample(self._frames(poses))

    def _frames(self, poses: list[Pose], more_seed: int = 0) -> PosedFrames:
        """The reference's frame and one for each of `poses`."""
        case = dataclasses.replace(self._job.case, seed=self._job.case.seed + more_seed)
        drawn = self._animator.clips.draw([self._reference.pose, *poses], self._reference)
        return PosedFrames(dataclasses.replace(self._job, case=case), self._reference, drawn)

    def _between(self, join: str, clips: list[torch.Tensor], i: int) -> torch.Tensor:
        """Latents between the words i and i + 1, (1, frames, 4, h, w)."""
        at, (left, right) = self._timeline.joins[i], clips[i : i + 2]
        count = at.stop - at.first
        if not count:
            return left[:, :0]
        if join != "bridge":
            return mixed(left[:, -1:], right[:, 1:2], count, join)
        reach = bridge_reach(self._job.case, count, left.shape[1] - 1, right.shape[1] - 1)
        wanted = self._frames(self._timeline.poses[at.first - reach : at.stop + reach], 1 + i)
        strength = self._animator.config.latent_concat.bridge_strength
        return sample_bridge(
            self._animator, wanted, left[:, :1], left[:, -reach:], right[:, 1 : 1 + reach], strength
        )

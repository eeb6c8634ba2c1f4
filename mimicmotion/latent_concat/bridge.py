"""Sampling at a join: a generated transition between two clips, and what true continuous sampling would give there.

A bridge is sampled inside its surroundings: frames of both clips stand beside the new ones and are held to their
known latents at every noise level (as in RePaint, arXiv 2201.09865), so that the new frames have to fit both.
"""

import dataclasses
import logging
import math
from dataclasses import dataclass

import torch

from mimicmotion.animation import Animator, plan_frames
from mimicmotion.config import TestCase
from mimicmotion.dwpose import Pose, blend_poses, load_poses, num_people
from mimicmotion.errors import InputError
from mimicmotion.features import DrawnPoses, Reference
from mimicmotion.files import sha256_file, sha256_json
from mimicmotion.latent_concat.entries import ClipLatents
from mimicmotion.latent_concat.join import transition
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.results import Job, require_reference

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PosedFrames:
    """Frames to sample that are no whole video; `Sampler.sample` takes them like a Clip."""

    job: Job
    reference: Reference
    drawn: DrawnPoses


class JoinSampler:
    """Samples around the joins of `clips` with the model and the reference they were made with.

    Raises: InputError when the model, the reference or the poses are not those of the clips; UsageError without a
        reference.
    """

    def __init__(self, animator: Animator, clips: list[ClipLatents]):
        self._animator = animator
        self._clips = clips
        # Only its test case and its reference count; there is no driving video.
        self._job = Job(clips[0].path, animator.config.test_case[0], 0, clips[0].path)
        require_reference(self._job.case, 0)
        for clip in clips:
            self._require_same(clip)
        self._poses = [clip_poses(clip) for clip in clips]
        self._reference = animator.clips.reference(self._job)
        self._require_size(clips[0])
        plan_frames(animator.models, self._job.case, self._reference, self._job.case.num_frames - 1)

    def _require_size(self, clip: ClipLatents) -> None:
        wanted = clip.metadata["height"], clip.metadata["width"]
        height, width = self._reference.pixels.shape[:2]
        if (height, width) != wanted:
            raise InputError(
                f"{clip.path} has frames of {wanted[1]}x{wanted[0]}, the reference gives {width}x{height}; pass the "
                "--resolution and --aspect that it was encoded with"
            )

    def _require_same(self, clip: ClipLatents) -> None:
        if clip.metadata["model_hash"] != sha256_json(self._animator.models.weights):
            raise InputError(f"{clip.path} was made with another model; pass the settings that it was encoded with")
        reference = self._job.case.ref_image_path
        if clip.metadata["reference_hash"] != sha256_file(reference):
            raise InputError(f"{clip.path} was made with another reference picture than {reference}")

    def noise_level(self, strength: float) -> tuple[int, float]:
        """As `noise_level`."""
        return noise_level(self._animator, self._job.case, strength)

    def bridge(self, i: int, frames: int, strength: float) -> torch.Tensor:
        """`frames` latents between clip i and clip i + 1, (1, frames, 4, h, w), float32.

        They start as spherical interpolation, get the noise of `noise_level(strength)` and are denoised with poses on
        the way from the last of clip i to the first of clip i + 1.
        """
        reach = bridge_reach(self._job.case, frames, *(clip.latents.shape[1] - 1 for clip in self._clips[i : i + 2]))
        if reach < 1:
            raise InputError(f"{self._clips[i].path} or its successor has no frame beside the reference's")
        ends = self._clips[i].latents[:, -reach:], self._clips[i + 1].latents[:, 1 : 1 + reach]
        poses = [*self._tail(i, reach), *self._between(i, frames), *self._head(i + 1, reach)]
        wanted = self._frames(poses, self._job.case.seed + 1 + i)
        names, sigma = (clip.name for clip in self._clips[i : i + 2]), self.noise_level(strength)[1]
        logger.info("%s > %s: %d frames from sigma %.3g", *names, frames, sigma)
        return sample_bridge(self._animator, wanted, self._clips[i].latents[:, :1], *ends, strength)

    def continuous(self, i: int, reach: int) -> tuple[torch.Tensor, int, int]:
        """Clip i's last and clip i + 1's first frames sampled in one go, behind the reference's frame.

        Returns latents (1, 1 + left + right, 4, h, w), left, right; both are at most `reach`.
        """
        tail, head = self._tail(i, reach), self._head(i + 1, reach)
        latents = self._animator.sampler.sample(self._frames([*tail, *head], self._job.case.seed))
        return latents.cpu(), len(tail), len(head)

    def _tail(self, i: int, reach: int) -> list[dict]:
        return self._poses[i][1:][-reach:]

    def _head(self, i: int, reach: int) -> list[dict]:
        return self._poses[i][1 : 1 + reach]

    def _between(self, i: int, frames: int) -> list[dict]:
        return poses_between(self._poses[i][-1], self._poses[i + 1][1], frames)

    def _frames(self, poses: list[dict], seed: int) -> PosedFrames:
        """The reference's frame and one for each of `poses`."""
        job = dataclasses.replace(self._job, case=dataclasses.replace(self._job.case, seed=seed))
        drawn = self._animator.clips.draw([self._poses[0][0], *poses], self._reference)
        return PosedFrames(job, self._reference, drawn)


def clip_poses(clip: ClipLatents) -> list[Pose]:
    """The poses that a clip was sampled with, the reference's first. Raises: InputError where its file has others."""
    if not clip.poses_path.is_file() or sha256_file(clip.poses_path) != clip.metadata.get("poses_hash"):
        raise InputError(f"{clip.poses_path} does not hold the poses of {clip.path}; encode the clip again")
    return load_poses(clip.poses_path).poses


def poses_between(before: Pose, after: Pose, frames: int) -> list[Pose]:
    """The poses on the way from one to the other, evenly spaced."""
    shares = [(k + 1) / (frames + 1) for k in range(frames)]
    if num_people(before) != num_people(after):  # somebody leaves or comes: there is no way between
        return [before if share < 0.5 else after for share in shares]
    return [blend_poses(before, after, share) for share in shares]


def sample_bridge(
    animator: Animator,
    wanted: PosedFrames,
    reference: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    strength: float,
) -> torch.Tensor:
    """Latents between those of two clips, (1, frames, 4, h, w), float32: a spherical interpolation, noised as
    `noise_level` says and denoised with its poses.

    Args:
        wanted: the reference's frame, those of `left`, the new ones, those of `right`; its job's seed gives the noise.
        reference, left, right: known latents (1, n, 4, h, w), one of the reference; `bridge_reach` of either clip.
        strength: share of the steps that is run, 0..1.
    """
    frames = len(wanted.drawn) - 1 - left.shape[1] - right.shape[1]
    reference, left, right = reference.float().cpu(), left.float().cpu(), right.float().cpu()
    filling = transition(left[:, -1:], right[:, :1], frames, "slerp")
    known = torch.cat([reference, left, filling, right], dim=1)
    new = slice(1 + left.shape[1], 1 + left.shape[1] + frames)
    first, sigma = noise_level(animator, wanted.job.case, strength)
    noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(wanted.job.case.seed))
    latents = animator.sampler.sample(
        wanted, hold(known, noise, new), latents=known + sigma * noise if first else noise, first_step=first
    )
    return latents[:, new].cpu()


def noise_level(animator: Animator, case: TestCase, strength: float) -> tuple[int, float]:
    """(first step, sigma) for a strength in 0..1: the share of the steps that is run, at least one."""
    steps, _ = turbo_steps_and_guidance(animator.config.turbo, case)
    scheduler = animator.models.pipeline.scheduler
    scheduler.set_timesteps(steps)
    first = steps - min(steps, max(1, math.ceil(round(strength * steps, 6))))
    return first, float(scheduler.sigmas[first])


def bridge_reach(case: TestCase, frames: int, *lengths: int) -> int:
    """Frames of either clip beside a bridge of `frames`: what one tile has room for, at least one where the clips, of
    `lengths` frames, have it.
    """
    return min(max(1, (case.num_frames - 1 - frames) // 2), *lengths)


def hold(known: torch.Tensor, noise: torch.Tensor, new: slice):
    """A `callback_on_step_end` that puts all frames but `new` back to `known` plus the noise of the step's end."""

    def put_back(pipeline, step: int, _timestep, tensors: dict) -> dict:
        latents = tensors["latents"].clone()
        held = (known + float(pipeline.scheduler.sigmas[step + 1]) * noise).to(latents)
        held[:, new] = latents[:, new]
        return {"latents": held}

    return put_back

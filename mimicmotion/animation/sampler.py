"""The pipeline call: a clip -> its latents."""

from collections.abc import Callable

import torch
from PIL import Image

from mimicmotion.animation.clip import Clip
from mimicmotion.animation.inputs import GivenUp, InputFeatures
from mimicmotion.animation.memory import plan_frames
from mimicmotion.animation.models import Models
from mimicmotion.animation.preview import Callbacks, StepPreview
from mimicmotion.animation.recording import StepRecording
from mimicmotion.pipelines import StandaloneVae, set_noise_levels, turbo_steps_and_guidance


class Sampler:
    """Samples clips as the settings of a run say."""

    def __init__(self, models: Models, features: InputFeatures):
        self.models, self.features, self.config = models, features, models.config
        self.recording = StepRecording(models)

    def sample(self, clip: Clip, callback: Callable[..., dict] | None = None, **arguments) -> torch.Tensor:
        """Latents of a clip, (1, frames, 4, h / 8, w / 8), float32, the reference's first; `arguments`: the pipeline's.

        The seed starts a generator of its own on the CPU, so results depend on no other clip and on no device.
        `callback` is the pipeline's `callback_on_step_end`.
        """
        case, sampling = clip.job.case, self.config.sampling
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, case)
        height, width = clip.reference.pixels.shape[:2]
        plan_frames(self.models, case, clip.reference, len(clip.drawn) - 1)
        self.models.make_room_for_sampling()
        return self.models.pipeline(
            Image.fromarray(clip.reference.pixels),
            clip.drawn,
            **self.features.of_reference(clip.reference, case),
            height=height,
            width=width,
            num_frames=len(clip.drawn),
            tile_size=case.num_frames,
            tile_overlap=case.frames_overlap,
            num_inference_steps=steps,
            min_guidance_scale=guidance,
            max_guidance_scale=guidance,
            fps=sampling.conditioning_fps,
            motion_bucket_id=sampling.motion_bucket_id,
            noise_aug_strength=case.noise_aug_strength,
            generator=torch.Generator("cpu").manual_seed(case.seed),
            output_type="latent",
            callback_on_step_end=self._unless_given_up(callback),
            callback_on_step_end_tensor_inputs=getattr(callback, "tensor_inputs", ["latents"]),
            cfg_batch=self.models.cfg_batch,
            tile_layout=sampling.tile_layout,
            pose_strength=sampling.pose_strength,
            pose_start=sampling.pose_start,
            pose_end=sampling.pose_end,
            image_embed_strength=sampling.image_embed_strength,
            step_cache=self.config.speed.step_cache,
            **arguments,
        ).frames

    def _unless_given_up(self, callback: Callable[..., dict] | None) -> Callable[..., dict]:
        def after_step(*told) -> dict:
            if self.features.stop.is_set():
                raise GivenUp("sampling")
            return callback(*told) if callback else {}

        return after_step

    def set_noise_levels(self, clip: Clip) -> None:
        """Gives the scheduler the levels that sampling the clip would, for the record of a clip sampled before."""
        steps, _ = turbo_steps_and_guidance(self.config.turbo, clip.job.case)
        set_noise_levels(self.models.pipeline.scheduler, steps, self.models.device)

    def sample_recorded(self, clip: Clip) -> torch.Tensor:
        """As `sample`, with the latents of every step written down, and a preview of each, if the settings say so."""
        shown = [self._preview(clip)] if self.config.output.preview else []
        if not self.config.latent_steps.folder:
            return self.sample(clip, *shown)
        with self.recording.recorder(clip) as recorder:
            return self.sample(clip, Callbacks(recorder, *shown))

    def _preview(self, clip: Clip) -> StepPreview:
        steps, _ = turbo_steps_and_guidance(self.config.turbo, clip.job.case)
        pipeline, decoder = self.models.pipeline, self.models.decoder
        if decoder is pipeline:
            # Its own count of what overflowed belongs to the result.
            decoder = StandaloneVae(pipeline.vae, pipeline._execution_device)
        return StepPreview(decoder, clip.job, steps)

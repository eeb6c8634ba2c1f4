"""MimicMotion's pipeline: one reference image and a sequence of drawn poses become latents and frames.

The networks are diffusers' own; what is written here is MimicMotion's denoising loop over temporal tiles
(arXiv 2406.19680), with the order of random draws of the published code, so that equal seeds give equal latents.
It knows nothing of videos, keypoints, configuration files or caches.
"""

import inspect
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    AutoencoderTiny,
    SchedulerMixin,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from diffusers.utils import BaseOutput
from transformers import CLIPImageProcessor, CLIPImageProcessorPil, CLIPVisionModelWithProjection

from mimicmotion.modules import PoseFeatures, PoseInjection, PoseNet
from mimicmotion.pipelines.call_checks import (
    check_callback_inputs,
    check_choices,
    check_first_step,
    check_latents,
    check_poses,
    check_strengths,
    count_pictures,
    len_frames,
)
from mimicmotion.pipelines.chunked_vae import ChunkedVae, require_finite
from mimicmotion.pipelines.in_pieces import work_in_pieces
from mimicmotion.pipelines.noise import draw_noise, require_one_each
from mimicmotion.pipelines.noise_levels import set_noise_levels
from mimicmotion.pipelines.step_cache import StepCache
from mimicmotion.pipelines.tile_fusion import TileSum
from mimicmotion.pipelines.tiling import tile_windows
from mimicmotion.pipelines.vram_plan import PIECE, SMALLEST_PIECE

logger = logging.getLogger(__name__)

CLIP_SIZE = (224, 224)
# Where the classes of saved pipelines were before they moved here.
FORMER_MODULES = {
    "mimicmotion.lcm_scheduler": "mimicmotion.pipelines.lcm_scheduler",
    "mimicmotion.schedulers": "mimicmotion.pipelines.ays_scheduler",
    "mimicmotion.pipelines.schedulers": "mimicmotion.pipelines.ays_scheduler",
}


@dataclass
class MimicMotionPipelineOutput(BaseOutput):
    """`frames`: a list (batch) of lists of PIL images; an array (batch, frames, height, width, 3) in 0..1; a tensor
    (batch, frames, 3, height, width) in 0..1; or latents (batch, frames, 4, height / 8, width / 8), by output type.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor


@dataclass
class Conditions:
    """What every UNet call of a run is told, conditional halves only.

    embeddings: CLIP image embeddings (batch, 1, channels).
    latents: VAE latents of the reference, not scaled (batch, 1, 4, height / 8, width / 8).
    time_ids: (fps - 1, motion bucket, noise augmentation strength) (batch, 3).
    pose: features of the drawn poses.
    """

    embeddings: torch.Tensor
    latents: torch.Tensor
    time_ids: torch.Tensor
    pose: PoseFeatures


class MimicMotionPipeline(ChunkedVae, StableVideoDiffusionPipeline):
    """Animates a reference image with drawn poses.

    Args:
        vae: AutoencoderKLTemporalDecoder or AutoencoderTiny with 4 latent channels.
        image_encoder: CLIPVisionModelWithProjection for pictures of 224 x 224.
        unet: UNetSpatioTemporalConditionModel with 8 input channels.
        scheduler: a v-prediction scheduler with SVD's continuous timesteps.
        feature_extractor: CLIPImageProcessor that normalises pictures for the image encoder.
        pose_net: PoseNet with as many channels as the UNet's first convolution.
    """

    # PoseNet runs between UNet calls: moving it in and out would move the UNet as well.
    model_cpu_offload_seq = "image_encoder->unet->vae"
    _exclude_from_cpu_offload = ["pose_net"]  # noqa: RUF012 - diffusers reads a plain list
    _callback_tensor_inputs = ["latents", "noise_pred", "denoised"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder | AutoencoderTiny,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNetSpatioTemporalConditionModel,
        scheduler: SchedulerMixin,
        feature_extractor: CLIPImageProcessor | CLIPImageProcessorPil,
        pose_net: PoseNet,
    ):
        super().__init__(vae, image_encoder, unet, scheduler, feature_extractor)
        self.register_modules(pose_net=pose_net)
        self._injection = PoseInjection(unet)
        self._interrupt = False
        self._piece: int | None = None
        self.vae_turn = threading.RLock()
        self.vae_fallback_count = 0
        self.decode_chunks: list[tuple[int, int]] = []

    @classmethod
    def load_config(cls, *arguments, **named):
        """diffusers' reading of a saved pipeline's model_index.json, with our classes where they are now."""
        loaded = super().load_config(*arguments, **named)
        index = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, value in index.items():
            if isinstance(value, list) and value[0] in FORMER_MODULES:
                index[name] = [FORMER_MODULES[value[0]], *value[1:]]
        return loaded

    @property
    def piece(self) -> int | None:
        """Entries of a piece that large blocks of UNet and VAE work on, None where they take all at once."""
        return self._piece

    def work_in_pieces(self, entries: int | None) -> None:
        """Trades a little time for the memory of large intermediate tensors; see `in_pieces`. None takes it back."""
        self._piece = entries
        for network in (self.unet, self.vae):
            work_in_pieces(network, entries)

    def take_smaller_pieces(self) -> bool:
        """Goes one rung down after memory ran out and says so; False where the pieces are as small as they help."""
        if self._piece is not None and self._piece <= SMALLEST_PIECE:
            return False
        self.work_in_pieces(PIECE if self._piece is None else self._piece // 4)
        logger.warning("Too little memory for the UNet; from here on it works in pieces of %d entries", self._piece)
        return True

    @property
    def interrupt(self) -> bool:
        """Whether sampling ends with the current step; a callback may set `_interrupt`, as elsewhere in diffusers."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: PIL.Image.Image | list[PIL.Image.Image] | torch.Tensor | None,
        image_pose: torch.Tensor,
        height: int = 576,
        width: int = 1024,
        num_frames: int | None = None,
        tile_size: int = 16,
        tile_overlap: int = 4,
        num_inference_steps: int = 25,
        min_guidance_scale: float = 1.0,
        max_guidance_scale: float = 3.0,
        fps: int = 7,
        motion_bucket_id: int = 127,
        noise_aug_strength: float = 0.02,
        image_only_indicator: bool = False,
        decode_chunk_size: int | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
        return_dict: bool = True,
        device: str | torch.device | None = None,
        image_embeddings: torch.Tensor | None = None,
        image_latents: torch.Tensor | None = None,
        cfg_batch: str = "auto",
        tile_layout: str = "upstream",
        decode_overlap: int = 0,
        first_step: int = 0,
        timesteps: list[float] | None = None,
        sigmas: list[float] | None = None,
        pose_strength: float = 1.0,
        pose_start: float = 0.0,
        pose_end: float = 1.0,
        image_embed_strength: float = 1.0,
        step_cache: int = 1,
    ) -> MimicMotionPipelineOutput | tuple:
        """Samples a clip whose frame 0 belongs to the reference image.

        Args:
            image: the reference picture(s), or a tensor (batch, 3, height, width) in 0..1; may be None when
                `image_embeddings` and `image_latents` are given.
            image_pose: drawn poses, frame 0 that of the reference: (frames, 3, height, width) for all of the batch
                or (batch, frames, 3, height, width), one clip for each picture or for each video, floating point
                in -1..1 or uint8; or anything with a length that gives (len(indices), 3, height, width) for a list
                of indices.
            height, width: size of the frames in pixels, multiples of 8 (of 64 to match the training).
            num_frames: frames to sample, the reference included; by default all of `image_pose`.
            tile_size, tile_overlap, tile_layout: see `tile_windows`.
            num_inference_steps: denoising steps; not used where `timesteps` or `sigmas` are given.
            min_guidance_scale, max_guidance_scale: guidance of the first and the last frame, linear between. Where
                both are 1 or less there is one conditional pass per tile and no guidance.
            fps: conditioning of the UNet (it is told fps - 1); published MimicMotion always uses 7.
            motion_bucket_id: SVD's conditioning on the amount of motion.
            noise_aug_strength: noise added to the reference picture before the VAE.
            image_only_indicator: only False, as in every published run; frames of a clip are not single pictures.
            decode_chunk_size, decode_overlap: see `decode_in_chunks`; by default all frames at once.
            first_step: above 0, sampling starts at this step, from `latents` of all frames that already have its
                noise level.
            num_videos_per_prompt: videos per picture; those of one picture follow each other in the batch.
            generator: source of all random numbers: noise for the reference picture, then initial latents, then
                the scheduler's own noise. A list holds one for each video; a picture's noise is drawn from the
                first one of its videos.
            latents: initial noise (videos, frames, 4, height / 8, width / 8) of unit variance, repeated over time
                where it is shorter than the clip.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step; may return
                {"latents": ...} to replace them.
            callback_on_step_end_tensor_inputs: which of "latents", "noise_pred", "denoised" it is given; a
                PipelineCallback says so itself.
            return_dict: False gives the tuple (frames,).
            device: moves the networks there first; by default they run where they are.
            image_embeddings: CLIP embeddings (batch, 1, channels) computed before by `embed_image`.
            image_latents: VAE latents (batch, 4, height / 8, width / 8) computed before by `encode_reference`.
            cfg_batch: "on" runs the conditional and unconditional passes as one batch, "off" one after the other,
                "auto" as one batch on a GPU for as long as memory allows.
            timesteps, sigmas: see `set_noise_levels`.
            pose_strength: factor on PoseNet's features, 0 to 10; 0 adds nothing.
            pose_start, pose_end: the poses act in every step i of n for which pose_start <= i / n < pose_end; in the
                others nothing is added.
            image_embed_strength: factor on the CLIP embedding, 0 to 10, in the conditional pass; in the unconditional
                one it is 0.
            step_cache: the UNet's inner blocks are computed in every n-th step of a tile alone; see `StepCache`.

        Raises:
            ValueError: for arguments that do not fit together, or a scheduler that the UNet cannot work with.
            NumericalError: when latents or frames are not finite; names the stage and the step.
        """
        num_frames = len_frames(image_pose) if num_frames is None else num_frames
        check_choices(output_type, cfg_batch, image_only_indicator)
        check_strengths(pose_strength, pose_start, pose_end, image_embed_strength)
        callback_inputs = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)
        check_callback_inputs(callback_inputs, self._callback_tensor_inputs)
        if image is not None:
            self.check_inputs(image, height, width)
        images = count_pictures(image, image_embeddings, image_latents)
        if num_videos_per_prompt < 1:
            raise ValueError(f"num_videos_per_prompt must be 1 or more, not {num_videos_per_prompt}")
        batch_size = images * num_videos_per_prompt
        require_one_each(generator, batch_size)
        check_poses(image_pose, height, width, num_frames, images, batch_size)
        frame_shape = (self.vae.config.latent_channels, height // self.vae_scale_factor, width // self.vae_scale_factor)
        check_latents(latents, batch_size, frame_shape)
        windows = tile_windows(num_frames, tile_size, tile_overlap, tile_layout)
        if device is not None:
            self.to(device)
        device = self._execution_device
        timesteps = set_noise_levels(self.scheduler, num_inference_steps, device, timesteps, sigmas)
        check_first_step(first_step, latents, num_frames, len(timesteps))
        self._num_timesteps = len(timesteps)
        self._interrupt = False
        deep = StepCache(self.unet, step_cache)
        guidance = guidance_ramp(min_guidance_scale, max_guidance_scale, num_frames).to(device)
        self._guidance_scale = guidance if max(min_guidance_scale, max_guidance_scale) > 1 else 1.0

        if image_embeddings is None:
            image_embeddings = self.embed_image(image)
        # Drawn even where it is not used: the generator's later numbers must not depend on strength or cache.
        sources = generator[::num_videos_per_prompt] if isinstance(generator, list | tuple) else generator
        noise = self.draw_image_noise(images, height, width, sources)
        if image_latents is None:
            image_latents = self.encode_reference(image, height, width, noise_aug_strength * noise)
        conditions = self._conditions(
            image_embeddings * image_embed_strength,
            image_latents,
            (fps - 1, motion_bucket_id, noise_aug_strength),
            PoseFeatures(self.pose_net, image_pose, strength=pose_strength, tiles=len(windows)),
            batch_size,
        )
        posed = posed_steps(len(timesteps), pose_start, pose_end) if pose_strength else set()

        if first_step == 0:
            latents = self._initial_latents(latents, (batch_size, tile_size, *frame_shape), num_frames, generator)
        latents = self._denoise(
            latents.to(device, torch.float32), timesteps, first_step, posed, windows, conditions, cfg_batch, generator,
            callback_on_step_end, callback_inputs, deep,
        )  # fmt: skip

        frames = latents
        if output_type != "latent":
            frames = self.decode_latents(latents, num_frames, decode_chunk_size or num_frames, decode_overlap)
            frames = self.video_processor.postprocess_video(frames, output_type=output_type)
        self.maybe_free_model_hooks()
        return MimicMotionPipelineOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def embed_image(self, image: PIL.Image.Image | list[PIL.Image.Image] | torch.Tensor) -> torch.Tensor:
        """CLIP embeddings of reference pictures, (batch, 1, channels), without a half for guidance.

        Args:
            image: PIL image(s) or a tensor (batch, 3, height, width) in 0..1, any size; squashed to 224 x 224 with
                the anti-aliased bicubic resize that SVD was trained with.

        Raises:
            NumericalError: when the embeddings are not finite.
        """
        if not isinstance(image, torch.Tensor):
            image = self.video_processor.numpy_to_pt(self.video_processor.pil_to_numpy(image))
        pixels = self.feature_extractor(
            images=squash_for_clip(image),
            do_normalize=True,
            do_center_crop=False,
            do_resize=False,
            do_rescale=False,
            return_tensors="pt",
        ).pixel_values
        pixels = pixels.to(self._execution_device, self.image_encoder.dtype)
        embeddings = self.image_encoder(pixels).image_embeds
        require_finite(embeddings, "the CLIP embedding of the reference image")
        return embeddings.unsqueeze(1)

    def draw_image_noise(
        self, images: int, height: int, width: int, generator: torch.Generator | list[torch.Generator] | None
    ) -> torch.Tensor:
        """The first random numbers of a run: unit noise for the reference pictures, (images, 3, height, width)."""
        return draw_noise((images, 3, height, width), generator, self._execution_device)

    def encode_reference(self, image, height: int, width: int, noise: torch.Tensor) -> torch.Tensor:
        """VAE latents (batch, 4, height / 8, width / 8) of reference pictures with `noise` added.

        Args:
            image: as in `__call__`.
            noise: (batch, 3, height, width), already of the strength wanted.

        Raises:
            NumericalError: when the latents are not finite even in float32.
        """
        pixels = self.video_processor.preprocess(image, height=height, width=width).to(noise.device)
        return self.encode_image(pixels + noise)

    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """VAE latents of pictures, the mode and not scaled, (batch, 4, height / 8, width / 8).

        Args:
            pixels: (batch, 3, height, width) in -1..1, noise augmentation already added.

        Raises:
            NumericalError: when the latents are not finite even in float32.
        """
        with self.vae_turn, self._precision_given_back() as precision:
            latents = self._finite_from_vae(self._encode, pixels, "the VAE encoding of the reference image")
            self.vae_fallback_count += self.vae.dtype != precision
            return latents

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded = self.vae.encode(pixels.to(self.vae.dtype))
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()

    def _conditions(self, embeddings, latents, time_ids, pose, batch_size) -> Conditions:
        device, dtype = self._execution_device, self.unet.dtype
        repeats = batch_size // len(embeddings)
        return Conditions(
            embeddings=embeddings.to(device, dtype).repeat_interleave(repeats, dim=0),
            latents=latents.to(device, dtype).repeat_interleave(repeats, dim=0).unsqueeze(1),
            time_ids=self._get_add_time_ids(*time_ids, dtype, batch_size, 1, False).to(device),
            pose=pose,
        )

    def _initial_latents(self, latents, shape, num_frames, generator) -> torch.Tensor:
        # Latents stay in float32 throughout: at sigma 700 half precision would quantise them.
        if latents is None:
            latents = draw_noise(shape, generator, self._execution_device)
        latents = latents.to(self._execution_device, torch.float32) * self.scheduler.init_noise_sigma
        repeats = -(-num_frames // latents.shape[1])
        return latents.repeat(1, repeats, 1, 1, 1)[:, :num_frames]

    def _denoise(
        self, latents, timesteps, first_step, posed, windows, conditions, cfg_batch, generator, callback,
        callback_inputs, deep,
    ) -> torch.Tensor:  # fmt: skip
        """The sampling loop: every step predicts v tile by tile, fuses it and moves all frames at once."""
        step_arguments = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            step_arguments["generator"] = generator
        # Someone may have set another UNet since construction; without the hook poses would be lost in silence.
        self._injection.follow(self.unet)
        guide = TileGuide(self, conditions, cfg_batch, deep)
        with self.progress_bar(total=(len(timesteps) - first_step) * len(windows)) as progress:
            for i, timestep in enumerate(timesteps[first_step:], first_step):
                sample = self.scheduler.scale_model_input(latents, timestep)
                sigma = self.scheduler.sigmas[self.scheduler.step_index]
                conditional, unconditional = TileSum(latents.shape[1]), TileSum(latents.shape[1])
                for window in windows:
                    with_image, without = guide.predict(sample[:, window], timestep, window, i in posed)
                    conditional.add(with_image, window)
                    if without is not None:
                        unconditional.add(without, window)
                    progress.update()
                noise_pred = conditional.mean()
                if guide.guided:  # each fused by itself, then guided: u + g (c - u)
                    without = unconditional.mean()
                    noise_pred = without + self.guidance_scale * (noise_pred - without)
                previous = latents
                latents = self.scheduler.step(noise_pred, timestep, latents, **step_arguments, return_dict=False)[0]
                require_finite(latents, f"the latents after sampling step {i + 1} of {len(timesteps)}")
                if callback is not None:
                    tensors = {"latents": latents, "noise_pred": noise_pred}
                    if "denoised" in callback_inputs:
                        tensors["denoised"] = denoise(previous, noise_pred, sigma)
                    replaced = callback(self, i, timestep, {name: tensors[name] for name in callback_inputs})
                    latents = (replaced or {}).pop("latents", latents)
                if self.interrupt:
                    break
        return latents

    def decode_latents(
        self, latents: torch.Tensor, num_frames: int, decode_chunk_size: int = 8, decode_overlap: int = 0
    ) -> torch.Tensor:
        """All frames of `latents` (batch, frames, 4, h, w) as (batch, 3, frames, height, width), float32 in -1..1.

        The whole clip is held in host memory; `decode_in_chunks` gives it piece by piece.
        """
        chunks = list(self.decode_in_chunks(latents[:, :num_frames], decode_chunk_size, decode_overlap))
        return torch.cat(chunks, dim=1).transpose(1, 2)


class TileGuide:
    """Runs the UNet on tiles: the conditional pass and, with guidance, the unconditional one, batched or not."""

    def __init__(self, pipeline: MimicMotionPipeline, conditions: Conditions, cfg_batch: str, deep: StepCache):
        self._pipeline = pipeline
        self._unet = pipeline.unet
        self._injection, self._deep = pipeline._injection, deep
        self._conditions = conditions
        # A tensor of scales means guidance; diffusers' own property would look into it, and wait for the GPU.
        self.guided = isinstance(pipeline.guidance_scale, torch.Tensor)
        on_gpu = conditions.latents.device.type == "cuda"
        self._batched = cfg_batch == "on" or (cfg_batch == "auto" and on_gpu)
        self._may_split = cfg_batch == "auto"

    def predict(
        self, sample: torch.Tensor, timestep, window: list[int], posed: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(conditional, unconditional) v-predictions of one tile, (batch, frames, 4, h, w) in float32.

        The unconditional one is None without guidance. `posed`: whether the conditional one sees the poses.
        """
        if not self.guided:
            return self._pass(sample, timestep, window, posed, [1.0]), None
        if self._batched:
            try:
                return self._pass(sample, timestep, window, posed, [1.0, 0.0]).chunk(2)
            except torch.OutOfMemoryError:
                if not self._may_split:
                    raise
            logger.warning("Too little memory to batch the two passes of guidance; they run one after the other")
            self._batched = False
            torch.cuda.empty_cache()
        conditional = self._pass(sample, timestep, window, posed, [1.0])
        return conditional, self._pass(sample, timestep, window, False, [0.0])

    def _pass(self, sample, timestep, window, posed: bool, halves: list[float]) -> torch.Tensor:
        """One UNet call; `halves` holds 1 for a conditional copy of the batch and 0 for an unconditional one. The
        first copy sees the poses where it is `posed`.
        """
        while True:
            try:
                return self._call(sample, timestep, window, posed, halves)
            except torch.OutOfMemoryError:
                if (len(halves) > 1 and self._may_split) or not self._pipeline.take_smaller_pieces():
                    raise
            torch.cuda.empty_cache()

    def _call(self, sample, timestep, window, posed: bool, halves: list[float]) -> torch.Tensor:
        conditions, copies = self._conditions, len(halves)
        # In a list, from which the UNet takes them: a name here would keep their memory until the call returns.
        pose = [conditions.pose.window(window, len(sample))] if posed else []
        image_latents = torch.cat([conditions.latents * half for half in halves])
        embeddings = torch.cat([conditions.embeddings * half for half in halves])
        sample = torch.cat([sample.to(image_latents.dtype)] * copies)
        model_input = torch.cat([sample, image_latents.expand(-1, sample.shape[1], -1, -1, -1)], dim=2)
        # Features of a step with poses are none of a step without.
        with self._injection.features_once(pose), self._deep.step((*window, *halves, posed)):
            prediction = self._unet(
                model_input,
                timestep,
                encoder_hidden_states=embeddings,
                added_time_ids=torch.cat([conditions.time_ids] * copies),
                return_dict=False,
            )[0]
        return prediction.float()


def squash_for_clip(images: torch.Tensor) -> torch.Tensor:
    """Pictures (batch, 3, height, width) in 0..1 as CLIP is shown them, (batch, 3, 224, 224), not yet normalised.

    The whole picture, squashed by the anti-aliased bicubic resize that SVD was trained with.
    """
    return (_resize_with_antialiasing(images.float() * 2 - 1, CLIP_SIZE) + 1) / 2


def posed_steps(steps: int, start: float, end: float) -> set[int]:
    """Which of `steps` see the poses: those that begin at a share of the run in start <= share < end."""
    return {i for i in range(steps) if start <= i / steps < end}


def guidance_ramp(first: float, last: float, num_frames: int) -> torch.Tensor:
    """Guidance scale of each frame, (1, num_frames, 1, 1, 1), linear from `first` to `last`."""
    return torch.linspace(first, last, num_frames).reshape(1, num_frames, 1, 1, 1)


def denoise(sample: torch.Tensor, v: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The clean latents that a v-prediction stands for (arXiv 2202.00512 in the sigma form of SVD)."""
    return sample / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5

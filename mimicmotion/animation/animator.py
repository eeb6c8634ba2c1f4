"""One result: a reference picture performs the motion of one driving video.

    Animator.animate(job)     poses -> latents -> frames -> mp4, contact sheet, sidecar
      prepare                 picture and video -> pixels, aligned poses; no diffusion model is needed
      sample                  the pipeline call
      write                   latents -> frames, piece by piece, while the mp4 is written

An Animator holds what the jobs of a run share; `mimicmotion.animation.batch` runs many of them.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mimicmotion.config import Config, SamplingSettings
from mimicmotion.device import describe_device, peak_memory, resolve_device, resolve_dtype
from mimicmotion.dwpose import Alignment, choose_backend, make_detector
from mimicmotion.errors import InputError
from mimicmotion.features import (
    SIDECAR_SUFFIX,
    DetectedPoses,
    DrawnPoses,
    DrivingPoses,
    Geometry,
    Reference,
    align_to_reference,
    detect_poses,
    follow,
    load_reference,
    read_frame,
    read_poses,
    save_driving_poses,
)
from mimicmotion.files import content_sha256, require_writable
from mimicmotion.latent_steps import StepExperiment, StepRecorder, require_name
from mimicmotion.pipelines import make_scheduler, turbo_steps_and_guidance
from mimicmotion.results import Job, comparison_frames, contact_sheet, evenly_spaced, is_finished, recipe, write_sidecar
from mimicmotion.timing import StageClock
from mimicmotion.video import VideoSource, VideoWriter, effective_stride, open_video, playback_speed, video_stem
from mimicmotion.weights import (
    apply_lcm_weights,
    cached_sha256,
    create_pipeline,
    find_lcm_file,
    place_pipeline,
    pose_canvas,
    weights_fingerprint,
)

logger = logging.getLogger(__name__)

SHEET_COLUMNS = 8
SPEED_TOLERANCE = 0.01  # sound is kept where the result plays this close to the driving video's speed


@dataclass
class Outcome:
    """How a job ended: status "done", "skipped", "failed", "interrupted" or "not run"; the rest is for the summary."""

    job: Job
    status: str = "not run"
    seconds: float = 0.0
    frames: int = 0
    message: str = ""
    stages: dict[str, float] = field(default_factory=dict)


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
    def playback_speed(self) -> float:
        """Speed of the result over that of the driving video."""
        return playback_speed(self.video.fps, self.driving.stride, self.job.case.fps)


class Animator:
    """Holds what all jobs of a run share; the networks are loaded when the first job needs them."""

    def __init__(self, config: Config):
        self.config = config
        self.device = resolve_device(config.runtime.device)
        self.dtype = resolve_dtype(config.runtime.dtype, self.device)
        self._references: dict[int, Reference] = {}
        if config.latent_steps.folder:
            experiment_name(config)
            require_writable(config.latent_steps.folder)

    def check_weights(self) -> None:
        """Raises: SetupError when weights or a pose backend are missing, before any work is done."""
        logger.info("%d weight files of the model are there", len(self.weights))
        logger.info("Poses by %s", self.detector.name)

    @cached_property
    def weights(self) -> dict[str, str]:
        """Content hashes of all networks, LCM weights included."""
        hashes, turbo = weights_fingerprint(self.config), self.config.turbo
        if turbo.lcm_lora_path:
            hashes["lcm"] = cached_sha256(find_lcm_file(turbo.lcm_lora_path, turbo.lcm_weight_name))
        return hashes

    @cached_property
    def detector(self):
        """Finds poses in frames; where poses are read from files, only in references without a sidecar."""
        pose = self.config.pose
        wanted = "auto" if pose.backend == "file" else pose.backend
        backend, reason = choose_backend(wanted, pose.model_det, pose.model_pose)
        logger.info("Pose backend: %s (%s)", backend, reason)
        return make_detector(
            backend, model_det=pose.model_det, model_pose=pose.model_pose, device=str(self.device)
        )

    @cached_property
    def pipeline(self):
        """The pipeline on its device, with LCM weights and the turbo scheduler."""
        config, runtime, turbo = self.config, self.config.runtime, self.config.turbo
        load_device = "cpu" if runtime.offload != "none" else self.device
        pipeline = create_pipeline(config, load_device, self.dtype, resolve_dtype(runtime.vae_dtype, self.device))
        if turbo.lcm_lora_path:
            apply_lcm_weights(
                pipeline,
                turbo.lcm_lora_path,
                weight_name=turbo.lcm_weight_name,
                scale=turbo.lcm_lora_scale,
                fuse=turbo.fuse_lcm_lora,
                svd_base=turbo.lcm_base_path or config.base_model_path,
            )
        if not turbo.skip_lcm_scheduler:
            pipeline.scheduler = make_scheduler(turbo.scheduler, pipeline.scheduler.config, turbo)
        place_pipeline(pipeline, self.device, runtime.offload, runtime.compile)
        pipeline.set_progress_bar_config(desc="sampling", unit="tile", leave=False, disable=None)
        logger.info("Networks on %s in %s", describe_device(self.device), str(self.dtype).removeprefix("torch."))
        return pipeline

    def animate(self, outcome: Outcome) -> None:
        """Makes one result and writes it with contact sheet and sidecar, or skips it when it is finished.

        Raises: InputError for what is wrong with the input, NumericalError, SetupError.
        """
        job, clock = outcome.job, StageClock(self.device)
        made_from = self.recipe(job)
        companions = [path for path, wanted in self._companions(job) if wanted]
        finished = is_finished(job.output, made_from) and all(path.is_file() for path in companions)
        # A recording belongs to one run: whoever asks for it wants the steps sampled.
        if finished and not self.config.output.overwrite and not self.config.latent_steps.folder:
            outcome.status, outcome.message = "skipped", "finished before with the same settings"
            return
        with clock.stage("poses"):
            clip = self.prepare(job)
        with clock.stage("loading"):
            self.pipeline.vae_fallback_count = 0
        with clock.stage("sampling"):
            latents = self.sample_recorded(clip)
        with clock.stage("decoding"):
            self.write(clip, latents)
        outcome.status, outcome.frames, outcome.message = "done", clip.num_frames, str(job.output)
        outcome.stages = clock.rounded()
        write_sidecar(job.output, made_from, self._facts(clip) | {"stage_seconds": outcome.stages})

    def prepare(self, job: Job) -> Clip:
        """Reads and aligns everything the pipeline needs for a job; loads no diffusion model.

        Raises: InputError for an unreadable video or picture, or one without a person.
        """
        video = self.open_video(job)
        reference = self.reference(job)
        driving, pose = self.driving_poses(job, video), self.config.pose
        poses, alignment = align_to_reference(driving, reference, pose.align, pose.restore_parts)
        if alignment and alignment.note:
            logger.warning("%s: %s", job.video.name, alignment.note)
        return Clip(job, video, reference, driving, alignment, self.draw(poses, reference))

    def draw(self, poses: list[dict], reference: Reference) -> DrawnPoses:
        """Poses as this run's PoseNet wants to see them, as large as the reference."""
        return DrawnPoses(poses, *reference.pixels.shape[:2], pose_canvas(self.config))

    def sample(self, clip: Clip, callback: Callable[..., dict] | None = None, **arguments) -> torch.Tensor:
        """Latents of a clip, (1, frames, 4, h / 8, w / 8), float32, the reference's first; `arguments`: the pipeline's.

        The seed starts a generator of its own on the CPU, so results depend on no other clip and on no device.
        `callback` is the pipeline's `callback_on_step_end`.
        """
        case, sampling = clip.job.case, self.config.sampling
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, case)
        height, width = clip.reference.pixels.shape[:2]
        return self.pipeline(
            Image.fromarray(clip.reference.pixels),
            clip.drawn,
            **self.reference_features(clip),
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
            callback_on_step_end=callback,
            callback_on_step_end_tensor_inputs=getattr(callback, "tensor_inputs", ["latents"]),
            cfg_batch=sampling.cfg_batch,
            tile_layout=sampling.tile_layout,
            **arguments,
        ).frames

    def sample_recorded(self, clip: Clip) -> torch.Tensor:
        """As `sample`, with the latents of every step written down if the settings say so."""
        if not self.config.latent_steps.folder:
            return self.sample(clip)
        with self._recording(clip) as recorder:
            return self.sample(clip, recorder)

    def reference_features(self, clip: Clip) -> dict[str, torch.Tensor]:
        """Arguments of the pipeline that were computed before, `image_embeddings` and `image_latents`; none here."""
        return {}

    @contextmanager
    def _recording(self, clip: Clip) -> Iterator[StepRecorder]:
        job, case = clip.job, clip.job.case
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, case)
        facts = {
            "video": str(job.video),
            "reference": case.ref_image_path,
            "result": str(job.output),
            "seed": case.seed,
            "steps": steps,
            "guidance_scale": guidance,
        }
        with self.step_experiment.recorder(job.case_index, facts) as recorder:
            yield recorder
        self.step_experiment.finish(recorder)

    @cached_property
    def step_experiment(self) -> StepExperiment:
        """The recording of this run's sampling steps; its folder is made when the first clip is sampled."""
        config, base = self.config, Path(self.config.base_model_path)
        description = {
            "model_settings": {
                "model_id": str(base.resolve()) if base.is_dir() else config.base_model_path,
                "ckpt_path": config.ckpt_path,
                "lcm_lora_path": config.turbo.lcm_lora_path,
                "weights": self.weights,
            },
            "video_settings": {
                "fps": config.test_case[0].fps,
                "conditioning_fps": config.sampling.conditioning_fps,
                "decode_chunk_size": config.sampling.decode_chunk_size,
            },
            "scheduler": json.loads(self.pipeline.scheduler.to_json_string()),
            "test_case": [asdict(case) for case in config.test_case],
        }
        return StepExperiment(config.latent_steps.folder, experiment_name(config), description)

    def write(self, clip: Clip, latents: torch.Tensor) -> None:
        """Writes the mp4 while the VAE decodes, the comparison if asked for, and the contact sheet.

        Raises: NumericalError for frames that are not finite, SetupError for a full disk.
        """
        picks = self._write_video(clip, latents)
        if self.config.output.contact_sheet:
            self._write_sheet(clip, picks)

    def _facts(self, clip: Clip) -> dict:
        """What the sidecar says beside the recipe."""
        steps, guidance = turbo_steps_and_guidance(self.config.turbo, clip.job.case)
        height, width = clip.reference.pixels.shape[:2]
        return {
            "seed": clip.job.case.seed,
            "frames": clip.num_frames,
            "height": height,
            "width": width,
            "playback_speed": round(clip.playback_speed, 4),
            "sampled_frames": {"stride": clip.driving.stride, "source_fps": clip.driving.fps},
            "driving_video": list(clip.video.notes),
            "steps": steps,
            "guidance_scale": guidance,
            "sigmas": [float(sigma) for sigma in self.pipeline.scheduler.sigmas],
            "tracking": asdict(clip.driving.report),
            "alignment": asdict(clip.alignment) if clip.alignment else None,
            "vae_chunks_in_fp32": self.pipeline.vae_fallback_count,
            "device": describe_device(self.device),
            "dtype": str(self.dtype),
            "peak_memory_bytes": peak_memory(self.device),
        }

    def _companions(self, job: Job) -> list[tuple[Path, bool]]:
        """What may lie beside a result, and whether it is wanted."""
        output = self.config.output
        return [(job.beside(".jpg"), output.contact_sheet), (job.beside("_comparison.mp4"), output.comparison)]

    def recipe(self, job: Job) -> dict:
        """All that the job's result depends on. Raises: InputError when one of its files is missing."""
        paths = {"video": job.video, "reference": Path(job.case.ref_image_path)}
        sidecar = Path(job.case.ref_image_path).with_suffix(SIDECAR_SUFFIX)
        if sidecar.is_file():
            paths["reference_pose"] = sidecar
        if self.config.pose.backend == "file":
            paths["poses"] = self._pose_file(job)
        for path in paths.values():
            # A pipe under a video's name would block whoever reads it.
            if not path.is_file() and not path.is_dir():
                raise InputError(f"{path} is missing or is no regular file")
        inputs = {name: content_sha256(path) for name, path in paths.items()}
        detects = {"poses", "reference_pose"} - set(paths)
        detector = self.detector.fingerprint if detects else "poses from files"
        return recipe(self.config, job.case, inputs, self.weights, detector)

    def _pose_file(self, job: Job) -> Path:
        return Path(self.config.pose.folder) / f"{video_stem(job.video)}.npz"

    def reference(self, job: Job) -> Reference:
        """The job's reference picture with its pose, read once per test case."""
        if job.case_index not in self._references:
            path, resolution = job.case.ref_image_path, job.case.resolution
            self._references[job.case_index] = load_reference(
                path, resolution, self.detect_in_picture, self.read_frame
            )
        return self._references[job.case_index]

    def read_frame(self, path: Path, resolution: int) -> tuple[np.ndarray, Geometry]:
        """As `features.read_frame`."""
        return read_frame(path, resolution)

    def forget_references(self) -> None:
        """Makes `reference` read its picture anew."""
        self._references.clear()

    def open_video(self, job: Job) -> VideoSource:
        """The job's driving video. Raises: InputError when it cannot be read."""
        return open_video(job.video, settings=self.config.video)

    def detect_in_picture(self, pixels: np.ndarray) -> dict:
        self.detector.reset()
        return self.detector([pixels])[0]

    def driving_poses(self, job: Job, video: VideoSource) -> DrivingPoses:
        """The poses of the driving video: from their file, or detected and saved as the settings say."""
        pose, stride = self.config.pose, job.case.sample_stride
        if pose.backend == "file":
            return read_poses(self._pose_file(job), video, stride, pose.max_gap)
        driving = follow(self.detect(job, video), str(video.path), pose.max_gap)
        if pose.save_folder:
            save_driving_poses(Path(pose.save_folder) / f"{video_stem(job.video)}.npz", driving, video, self.detector)
        return driving

    def detect(self, job: Job, video: VideoSource) -> DetectedPoses:
        """What the detector sees in the sampled frames of the driving video."""
        stride, batch_size = job.case.sample_stride, self.config.pose.batch_size
        total = -(-video.num_frames // effective_stride(video.fps, stride))
        with tqdm(total=total, desc="poses", unit="frame", leave=False, disable=None) as bar:
            return detect_poses(
                video, self.detector, sample_stride=stride, batch_size=batch_size, progress=bar.update
            )

    def _write_video(self, clip: Clip, latents: torch.Tensor) -> list[np.ndarray]:
        """Writes the mp4(s) piece by piece; returns the frames for the contact sheet."""
        output, job = self.config.output, clip.job
        audio = clip.video.path if output.audio == "keep" and sound_fits(clip) else None
        wanted, picks, position = set(evenly_spaced(clip.num_frames, SHEET_COLUMNS)), [], 0
        with ExitStack() as stack:
            writer = stack.enter_context(VideoWriter(job.output, job.case.fps, crf=output.crf, audio_from=audio))
            side = None
            if output.comparison:
                path = job.beside("_comparison.mp4")
                side = stack.enter_context(VideoWriter(path, job.case.fps, crf=output.crf))
                driving_frames = (frame for _, frame in clip.video.frames(clip.driving.stride))
            bar = stack.enter_context(
                tqdm(total=clip.num_frames, desc="decoding", unit="frame", leave=False, disable=None)
            )
            for frames in decode_frames(self.pipeline, latents, self.config.sampling):
                writer.write(frames)
                bar.update(len(frames))
                for frame in frames:
                    if position in wanted:
                        picks.append(frame)
                    position += 1
                    if side:
                        side.write(comparison_frames(next(driving_frames), drawn_frame(clip.drawn, position), frame))
        return picks

    def _write_sheet(self, clip: Clip, picks: list[np.ndarray]) -> None:
        places = evenly_spaced(clip.num_frames, SHEET_COLUMNS)
        wanted = {clip.driving.frame_indices[place] for place in places}
        sampled = clip.video.frames(clip.driving.stride, max_frames=places[-1] + 1)
        rows = [
            ("reference", [clip.reference.pixels]),
            ("driving video", [frame for index, frame in sampled if index in wanted]),
            ("poses, fitted to the reference", [drawn_frame(clip.drawn, place + 1) for place in places]),
            ("result", picks),
        ]
        contact_sheet(clip.job.beside(".jpg"), rows, title=clip.job.output.stem)


def experiment_name(config: Config) -> str:
    """What a recording of steps is called: as asked, or after the videos' folder.

    Raises: UsageError for a name that is a path.
    """
    if config.latent_steps.experiment_name:
        return require_name(config.latent_steps.experiment_name, "--experiment_name")
    videos = config.batch.video_folder or Path(config.test_case[0].ref_video_path or "steps/video").parent
    return re.sub(r"\W+", "_", Path(videos).resolve().name) or "steps"


def sound_fits(clip: Clip) -> bool:
    """Whether the driving video has sound and the result plays at its speed."""
    if not clip.video.has_audio:
        return False
    if abs(clip.playback_speed - 1) > SPEED_TOLERANCE:
        speed = f"{clip.playback_speed:.2f}"
        logger.info("The sound is dropped: the result plays at %s times the driving video's speed", speed)
        return False
    return True


def drawn_frame(drawn: DrawnPoses, index: int) -> np.ndarray:
    """One drawn pose as uint8 (height, width, 3)."""
    return drawn[[index]][0].permute(1, 2, 0).numpy()


def decode_frames(
    pipeline, latents: torch.Tensor, sampling: SamplingSettings, drop_first: int = 1
) -> Iterator[np.ndarray]:
    """Decodes latents (1, frames, ...) to uint8 (n, height, width, 3) pieces, in order, rounded to nearest.

    The first `drop_first` frames, the reference's own, are decoded (the VAE needs them) and left out.
    """
    for chunk in pipeline.decode_in_chunks(latents, sampling.decode_chunk_size, sampling.decode_overlap):
        frames = ((chunk[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        dropped = min(drop_first, len(frames))
        drop_first -= dropped
        if len(frames) > dropped:
            yield frames[dropped:].permute(0, 2, 3, 1).contiguous().numpy()

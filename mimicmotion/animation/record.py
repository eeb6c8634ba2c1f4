"""What a result depends on, whether it is finished, and what its sidecar says. Nothing here imports torch."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation.models import Models
from mimicmotion.errors import InputError
from mimicmotion.features import SIDECAR_SUFFIX
from mimicmotion.files import content_sha256
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.results import Job, is_finished, recipe, write_sidecar
from mimicmotion.video import video_stem

if TYPE_CHECKING:
    from mimicmotion.animation.clip import Clip


def job_recipe(models: Models, job: Job) -> dict:
    """All that the job's result depends on. Raises: InputError when one of its files is missing."""
    config = models.config
    paths = {"video": job.video, "reference": Path(job.case.ref_image_path)}
    sidecar = Path(job.case.ref_image_path).with_suffix(SIDECAR_SUFFIX)
    if sidecar.is_file():
        paths["reference_pose"] = sidecar
    if config.pose.backend == "file":
        paths["poses"] = Path(config.pose.folder) / f"{video_stem(job.video)}.npz"
    for path in paths.values():
        # A pipe under a video's name would block whoever reads it.
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is missing or is no regular file")
    inputs = {name: content_sha256(path) for name, path in paths.items()}
    detects = {"poses", "reference_pose"} - set(paths)
    detector = models.detector_fingerprint if detects else "poses from files"
    return recipe(config, job.case, inputs, models.weights, detector)


def finished_before(models: Models, job: Job, made_from: dict) -> bool:
    """Whether the job's result, made from the same recipe, lies there whole and nothing asks for it anew."""
    output = models.config.output
    # A recording belongs to one run: whoever asks for it wants the steps sampled.
    if output.overwrite or models.config.latent_steps.folder:
        return False
    companions = ((".jpg", output.contact_sheet), ("_comparison.mp4", output.comparison))
    return is_finished(job.output, made_from) and all(
        job.beside(suffix).is_file() for suffix, wanted in companions if wanted
    )


def write_record(models: Models, clip: "Clip", made_from: dict, more: dict | None = None) -> None:
    """Writes the sidecar of a finished result: what it was made from, what came of it, and `more`."""
    write_sidecar(clip.job.output, made_from, facts(models, clip) | (more or {}))


def facts(models: Models, clip: "Clip") -> dict:
    """What the sidecar says beside the recipe."""
    from mimicmotion.device import describe_device, peak_memory

    steps, guidance = turbo_steps_and_guidance(models.config.turbo, clip.job.case)
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
        "sigmas": [float(sigma) for sigma in models.pipeline.scheduler.sigmas],
        "tracking": asdict(clip.driving.report),
        "alignment": asdict(clip.alignment) if clip.alignment else None,
        "joints_outside": round(clip.joints_outside, 4),
        "vae_chunks_in_fp32": models.pipeline.vae_fallback_count,
        "device": describe_device(models.device),
        "dtype": str(models.dtype),
        "peak_memory_bytes": peak_memory(models.device),
    }

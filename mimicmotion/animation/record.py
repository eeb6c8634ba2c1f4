"""What a result depends on, whether it is finished, and what its sidecar says. Nothing here imports torch."""

import functools
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mimicmotion.animation.kept_latents import forget_latents
from mimicmotion.animation.models import Models
from mimicmotion.errors import InputError
from mimicmotion.features import SIDECAR_SUFFIX, Reference
from mimicmotion.files import content_sha256, printable
from mimicmotion.pipelines import turbo_steps_and_guidance
from mimicmotion.results import Job, provenance, recipe, require_places, sidecar_path, unfinished, write_sidecar
from mimicmotion.video import VideoSource

if TYPE_CHECKING:
    from mimicmotion.animation.clip import Clip

SHEET, COMPARISON = ".jpg", "_comparison.mp4"  # endings of a result's companions


def input_paths(models: Models, job: Job) -> dict[str, Path]:
    """The files and folders whose content the job's result depends on, by what they are to it."""
    reference, sidecar = _of_reference(job.case.ref_image_path)
    paths = {"video": job.video, "reference": reference}
    if os.path.isfile(sidecar):
        paths["reference_pose"] = sidecar
    if models.config.pose.backend == "file":
        paths["poses"] = job.poses_in(models.config.pose.folder)
    return paths


@functools.lru_cache
def _of_reference(picture: str) -> tuple[Path, Path]:
    """A picture's path and that of the pose beside it; once, since a million jobs may share them."""
    return Path(picture), Path(picture).with_suffix(SIDECAR_SUFFIX)


def job_inputs(models: Models, job: Job) -> dict[str, str]:
    """Content hashes of the job's files, by what they are to it. Raises: InputError when one of them is missing."""
    paths = input_paths(models, job)
    for path in paths.values():
        # A pipe under a video's name would block whoever reads it.
        if not os.path.isfile(path) and not os.path.isdir(path):
            raise InputError(f"{printable(path)} is missing or is no regular file")
    try:
        return {name: content_sha256(path) for name, path in paths.items()}
    except OSError as error:
        raise InputError(f"{printable(error.filename or job.video)} cannot be read: {error.strerror}") from error


def job_recipe(models: Models, job: Job, inputs: dict[str, str] | None = None) -> dict:
    """All that the job's result depends on, the weights among it; `inputs` are its `job_inputs` where they are known.

    Raises: InputError as `job_inputs`.
    """
    return recipe_of(models, job, job_inputs(models, job) if inputs is None else inputs)


def recipe_of(models: Models, job: Job, inputs: dict[str, str]) -> dict:
    """All that the job's result depends on, where `inputs` says what each of its files holds."""
    detects = {"poses", "reference_pose"} - set(inputs)
    detector = models.detector_fingerprint if detects else "poses from files"
    made_from = recipe(models.config, job.case, inputs, models.weights, detector)
    if models.decoder_hash:
        made_from["settings"]["sampling"]["decoder"] = models.decoder_hash
    return made_from


def companions(models: Models, job: Job) -> list[Path]:
    """The files that this run wants beside the job's result."""
    return [job.beside(ending) for ending in companion_endings(models)]


def companion_endings(models: Models) -> list[str]:
    """What the names of the files end in that this run wants beside each result."""
    output = models.config.output
    return [ending for ending, asked in ((SHEET, output.contact_sheet), (COMPARISON, output.comparison)) if asked]


def still_to_make(models: Models, job: Job, made_from: dict | Callable[[], dict]) -> dict[Path, str]:
    """Which files of the job are still to be made, as `results.unfinished`; all of them where that was asked for.

    made_from: the recipe, or what makes it: weights are hashed for it, so it is not asked for where there is no result.

    Raises: InputError when something lies in their place that no file can replace.
    """
    beside = companions(models, job)
    require_places(job.output, sidecar_path(job.output), *beside)
    # A recording belongs to one run: whoever asks for it wants the steps sampled.
    if models.config.output.overwrite or models.config.latent_steps.folder or not os.path.exists(job.output):
        return {job.output: ""}
    return unfinished(job.output, made_from() if callable(made_from) else made_from, beside)


def write_record(models: Models, clip: "Clip", made_from: dict, more: dict | None = None) -> None:
    """Writes the sidecar of a finished result: what it was made from, what came of it, and `more`, by default its
    `sampling_facts`.
    """
    said = facts(models, clip) | (sampling_facts(models) if more is None else more)
    write_sidecar(clip.job.output, made_from, said, companions(models, clip.job))
    forget_latents(clip.job)


def facts(models: Models, clip: "Clip") -> dict:
    """What the sidecar says beside the recipe."""
    from mimicmotion.device import describe_device, peak_memory

    steps, guidance = turbo_steps_and_guidance(models.config.turbo, clip.job.case)
    height, width = clip.reference.pixels.shape[:2]
    renamed = {"named_after": clip.job.video.name} if clip.job.renamed else {}
    given = {"video": clip.job.video, "reference": Path(clip.job.case.ref_image_path)}
    return {
        **renamed,
        "paths": {name: {"given": str(path), "absolute": os.path.abspath(path)} for name, path in given.items()},
        "made": provenance(models.config),
        "seed": clip.job.case.seed,
        "frames": clip.num_frames,
        "height": height,
        "width": width,
        "playback_speed": round(clip.playback_speed, 4),
        "sampled_frames": {"stride": clip.driving.stride, "source_fps": clip.driving.fps},
        "driving_video": list(clip.video.notes),
        "damage": damage(clip.video),
        "reference_picture": picture_facts(clip.reference),
        "steps": steps,
        "guidance_scale": guidance,
        "tracking": asdict(clip.driving.report),
        "alignment": asdict(clip.alignment) if clip.alignment else None,
        "joints_outside": round(clip.joints_outside, 4),
        "device": describe_device(models.device),
        "dtype": str(models.dtype),
        "peak_memory_bytes": peak_memory(models.device),
    }


def sampling_facts(models: Models) -> dict:
    """What the record says of the clip that the pipeline sampled last, and of its decoding where it did that too: how
    the card was shared, where that was planned, and smaller chunks than asked for, which change the frames.
    """
    pipeline, planned = models.pipeline, {"memory_plan": str(models.rung)} if models.rung else {}
    return {
        "sigmas": [float(sigma) for sigma in pipeline.scheduler.sigmas],
        "vae_chunks_in_fp32": pipeline.vae_fallback_count,
        **planned,
        **_smaller_chunks(models, pipeline.decode_chunks),
    }


def decoding_facts(models: Models, decoder, of_sampling: dict) -> dict:
    """The `sampling_facts` of a clip that another decoder than the pipeline decoded."""
    count = of_sampling["vae_chunks_in_fp32"] + decoder.vae_fallback_count
    return of_sampling | {"vae_chunks_in_fp32": count} | _smaller_chunks(models, decoder.decode_chunks)


def _smaller_chunks(models: Models, chunks: list[tuple[int, int]]) -> dict:
    if not chunks or chunks == [(0, models.config.sampling.decode_chunk_size)]:
        return {}
    return {"decode_chunks": [{"from_frame": start, "size": size} for start, size in chunks]}


def damage(video: VideoSource) -> dict | None:
    """How much is missing of a damaged driving video, or wrong in it; None where nothing is."""
    info = video.info
    if info is None or not info.damage:
        return None
    return {
        "frames": info.num_frames,
        "promised_frames": info.promised_frames,
        "damaged_frames": info.damaged_frames,
        "ends_early": not info.whole,
    }


def picture_facts(reference: Reference) -> dict | None:
    """What was done to the reference picture; None where it came from no file."""
    frame = reference.frame
    if frame is None:
        return None
    height, width = frame.size
    return {
        "height": height,
        "width": width,
        "rows_cut": round(frame.geometry.rows_cut, 4),
        "columns_cut": round(frame.geometry.columns_cut, 4),
        "notes": list(frame.notes),
    }

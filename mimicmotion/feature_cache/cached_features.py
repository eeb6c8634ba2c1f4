"""The main job with a feature cache: what is costly to find out about the inputs is looked up first.

Here stands what each cached value depends on. A file is named by its content, never by its path or date alone, so
that a copy is found again and an edited file with its old date is not mistaken; path and date are noted beside it.
"""

import functools
import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mimicmotion.animation import Animator, AnimatorWork, InputFeatures, Models, animate_folder
from mimicmotion.config import Config, TestCase
from mimicmotion.dwpose import arrays_from_pose, detector_device, pose_from_arrays, stack_poses, unstack_poses
from mimicmotion.feature_cache.store import FeatureCache, Value, statistics_lines
from mimicmotion.features import DetectedPoses, Frame, Geometry, Reference
from mimicmotion.files import content_sha256
from mimicmotion.results import package_versions
from mimicmotion.video import VideoInfo, VideoSource, open_video, probe_video, require_file

logger = logging.getLogger(__name__)

# To be raised when this program's own code makes other values from equal inputs.
REVISION = 3
READERS = ("av", "decord", "pillow")
DETECTORS = ("onnxruntime-gpu", "onnxruntime", "mediapipe", "controlnet-aux", "opencv-contrib-python", "numpy")
NETWORKS = ("torch", "diffusers", "transformers")


def animate_folder_cached(config: Config) -> int:
    """`animate_folder` with the configuration's feature cache, and what the cache did at the end of the log.

    Raises: UsageError and SetupError as `animate_folder`. A cache folder that cannot be used is no error.
    """
    settings = config.feature_cache
    if not settings.enabled:
        return animate_folder(config)
    if config.cluster.workers is not None:
        return animate_folder(config, _animator_of(config), cached_work, cached_ahead)
    animator = _animator_of(config)
    try:
        return animate_folder(config, animator)
    finally:
        for line in statistics_lines(animator.features.cache.statistics):
            logger.info("Feature cache, %s", line)


def cached_work(config: Config) -> AnimatorWork:
    """What a worker of the run with a feature cache does; all workers share the folder."""
    return AnimatorWork.of_batch(_animator_of(config))


def cached_ahead(config: Config) -> AnimatorWork:
    """What finds poses for these workers beforehand, into the same folder."""
    animator = _animator_of(config)
    return AnimatorWork(
        [animator], lambda outcome: animator.find_out(outcome.job), lambda _: animator, lambda outcome: False
    )


def _animator_of(config: Config) -> Animator:
    settings = config.feature_cache
    return cached_animator(Models(config), FeatureCache(Path(settings.folder), settings.max_gb, settings.force_refresh))


def cached_animator(models: Models, cache: FeatureCache) -> Animator:
    """An Animator that looks up in `cache` what is known about its inputs. Its results are the same, bit for bit."""
    return Animator(models.config, models, CachedFeatures(InputFeatures(models), cache))


class CachedFeatures:
    """Looks up what InputFeatures finds out, and has it found out where that is not known yet.

    Levels: video, driving_pose, reference_pixels, reference_pose, and with `config.feature_cache.pipeline_features`
    clip_embedding and vae_latents.
    """

    def __init__(self, found: InputFeatures, cache: FeatureCache):
        self.found, self.cache = found, cache
        self.models, self.config, self.stop = found.models, found.models.config, found.stop

    def open_video(self, path: Path) -> VideoSource:
        """A driving video; a file that was decoded once to count its frames is not decoded again."""
        if path.is_dir():
            return self.found.open_video(path)
        require_file(path)
        key = {"content": content_sha256(path), "made_by": made_by(READERS)}
        info = self.cache.get_or_compute(
            "video",
            key,
            lambda: probe_video(path, self.config.video),
            pack=pack_info,
            unpack=unpack_info,
            source=source_of(path),
        )
        return open_video(path, info=info, settings=self.config.video)

    def read_frame(self, path: Path, resolution: int) -> Frame:
        """The reference picture as a frame."""
        require_file(path, "a picture")
        settings = self.config.reference
        key = {
            "content": content_sha256(path),
            "resolution": resolution,
            "aspect": settings.aspect,
            "background": settings.background,
            "made_by": made_by((*READERS, "torch")),
        }
        return self.cache.get_or_compute(
            "reference_pixels",
            key,
            lambda: self.found.read_frame(path, resolution),
            pack=pack_frame,
            unpack=unpack_frame,
            source=source_of(path),
        )

    def driving_poses(self, video: VideoSource, sample_stride: int) -> DetectedPoses:
        """What the detector sees in the sampled frames of a video."""
        key = {
            "content": content_sha256(video.path),
            "sample_stride": sample_stride,
            "batch_size": self.config.pose.batch_size,
            **self._detector_key(),
        }
        return self._poses(
            "driving_pose",
            key,
            lambda: self.found.driving_poses(video, sample_stride),
            pack=pack_detected,
            unpack=unpack_detected,
            source=source_of(video.path),
        )

    def pose_in_picture(self, pixels: np.ndarray) -> dict:
        """The poses in a reference picture."""
        key = {"pixels": pixels_sha256(pixels), **self._detector_key()}
        return self._poses(
            "reference_pose", key, lambda: self.found.pose_in_picture(pixels), pack=pack_pose, unpack=unpack_pose
        )

    def _poses(self, level: str, key: dict, compute: Callable[[], Any], *, unpack, **options) -> Any:
        """As `FeatureCache.get_or_compute`. Former keys named the device of the networks for the detector's, too."""
        former = {**key, "device": hardware_name(self.models.device)}

        def find() -> Any:
            known = self.cache.peek(level, former, unpack) if self.models.backend == "mediapipe" else None
            return compute() if known is None else known

        return self.cache.get_or_compute(level, key, find, unpack=unpack, **options)

    def of_reference(self, reference: Reference, case: TestCase) -> dict[str, torch.Tensor]:
        """The reference's CLIP embedding and VAE latents, as arguments of the pipeline."""
        if not self.config.feature_cache.pipeline_features:
            return {}
        return {"image_embeddings": self._embedding(reference), "image_latents": self._latents(reference, case)}

    def _embedding(self, reference: Reference) -> torch.Tensor:
        key = {
            "pixels": pixels_sha256(reference.pixels),
            "dtype": str(self.models.dtype),
            **self._network_key("image_encoder"),
        }
        return self._tensor(
            "clip_embedding", key, reference, lambda: self.models.pipeline.embed_image(as_image(reference))
        )

    def _latents(self, reference: Reference, case: TestCase) -> torch.Tensor:
        strength, seed = case.noise_aug_strength, case.seed
        key = {
            "pixels": pixels_sha256(reference.pixels),
            "dtype": str(self.models.vae_dtype),
            "noise": {"strength": strength, "seed": seed} if strength else None,
            **self._network_key("vae"),
        }

        def encode() -> torch.Tensor:
            height, width = reference.pixels.shape[:2]
            pipeline = self.models.pipeline
            noise = pipeline.draw_image_noise(1, height, width, torch.Generator("cpu").manual_seed(seed))
            return pipeline.encode_reference(as_image(reference), height, width, strength * noise)

        return self._tensor("vae_latents", key, reference, encode)

    def _tensor(self, level: str, key: dict, reference: Reference, compute) -> torch.Tensor:
        return self.cache.get_or_compute(
            level, key, compute, pack=pack_tensor, unpack=unpack_tensor, source=source_of(reference.path)
        )

    def _detector_key(self) -> dict:
        made, models = made_by(READERS + DETECTORS), self.models
        device = torch.device(detector_device(models.backend, models.device))
        # MediaPipe has threads of its own, so that torch's are of no account.
        hardware = "cpu" if models.backend == "mediapipe" else hardware_name(device)
        return {"detector": models.detector_fingerprint, "device": hardware, "made_by": made}

    def _network_key(self, network: str) -> dict:
        hashes = {name: self.models.weights[name] for name in (network, "configs")}
        return {"weights": hashes, "device": hardware_name(self.models.device), "made_by": made_by(NETWORKS)}


def as_image(reference: Reference) -> Image.Image:
    """The reference's frame as the pipeline takes it."""
    return Image.fromarray(reference.pixels)


@functools.cache
def made_by(packages: tuple[str, ...]) -> dict:
    """What code a value comes from: versions of packages, and of this program's part in it."""
    return {"revision": REVISION, **package_versions(packages)}


def hardware_name(device: torch.device) -> str:
    """The hardware without the number it has in this machine; a CPU with its threads, which round differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def source_of(path: Path) -> dict:
    """Where a value came from, for people: absolute path, size in bytes, time of the last change in ns."""
    status = path.stat()
    return {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def pixels_sha256(pixels: np.ndarray) -> str:
    """The SHA-256 of an array with its shape and type."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------
# Values as dictionaries of tensors and plain values, and back


def pack_info(info: VideoInfo) -> Value:
    """What `unpack_info` turns back."""
    return asdict(info) | {"fps": [info.fps.numerator, info.fps.denominator]}


def unpack_info(value: Value) -> VideoInfo:
    """Raises: TypeError, ZeroDivisionError, KeyError or ValueError for a value that `pack_info` did not make."""
    times = value["times"]
    sequences = {"times": times if times is None else tuple(times), "turn": tuple(value["turn"])}
    return VideoInfo(**value | sequences | {"fps": Fraction(*value["fps"])})


def pack_frame(frame: Frame) -> Value:
    """What `unpack_frame` turns back."""
    return {
        "pixels": torch.from_numpy(frame.pixels),
        "geometry": asdict(frame.geometry),
        "size": list(frame.size),
        "notes": list(frame.notes),
    }


def unpack_frame(value: Value) -> Frame:
    """Raises: ValueError, TypeError or KeyError for a value that `pack_frame` did not make."""
    pixels, geometry = value["pixels"].numpy(), Geometry(**value["geometry"])
    if pixels.shape != (geometry.height, geometry.width, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}")
    height, width = value["size"]
    return Frame(pixels, geometry, (height, width), tuple(value["notes"]))


def pack_detected(detected: DetectedPoses) -> Value:
    """Detected poses as float32 tensors (frames, people, ...), which holds them exactly."""
    fields = {name: torch.from_numpy(array) for name, array in stack_poses(detected.poses).items()}
    return {
        **fields,
        "frame_indices": torch.tensor(detected.frame_indices, dtype=torch.int64),
        "stride": detected.stride,
        "fps": detected.fps,
        "size": list(detected.size),
    }


def unpack_detected(value: Value) -> DetectedPoses:
    """Raises: ValueError, KeyError and the like for a value that `pack_detected` did not make."""
    fields = {name: item.numpy() for name, item in value.items() if isinstance(item, torch.Tensor)}
    indices = fields.pop("frame_indices").tolist()
    poses = unstack_poses(fields)
    if len(poses) != len(indices):
        raise ValueError(f"{len(poses)} poses for {len(indices)} frames")
    height, width = value["size"]
    return DetectedPoses(poses, indices, value["stride"], value["fps"], (height, width))


def pack_pose(pose: dict) -> Value:
    """One pose as tensors, in its own precision."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays_from_pose(pose).items()}


def unpack_pose(value: Value) -> dict:
    """Raises: ValueError, TypeError for a value that `pack_pose` did not make."""
    return pose_from_arrays(**{name: tensor.numpy() for name, tensor in value.items()})


def pack_tensor(tensor: torch.Tensor) -> Value:
    """A value of one tensor."""
    return {"tensor": tensor}


def unpack_tensor(value: Value) -> torch.Tensor:
    """Raises: KeyError, TypeError for a value that `pack_tensor` did not make."""
    if not isinstance(value["tensor"], torch.Tensor):
        raise TypeError("the value is no tensor")
    return value["tensor"]

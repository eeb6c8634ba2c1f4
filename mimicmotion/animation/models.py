"""What the jobs of a run share and is costly to open: networks and pose detector, each opened when first needed."""

import logging
from functools import cached_property
from pathlib import Path

from mimicmotion.config import Config
from mimicmotion.dwpose import choose_backend, detector_fingerprint, make_detector
from mimicmotion.files import require_writable
from mimicmotion.pipelines import check_steps
from mimicmotion.progress import Progress
from mimicmotion.weights import find_lcm_file, weights_fingerprint, weights_sha256

logger = logging.getLogger(__name__)


class Models:
    """The networks and the detector that a configuration names. Making one opens nothing and imports no torch."""

    def __init__(self, config: Config):
        self.config = config

    def check(self) -> None:
        """Raises: UsageError for steps that the scheduler cannot do, SetupError when weights or a pose backend are
        missing or poses cannot be saved; before any work is done.
        """
        check_steps(self.config)
        logger.info("%d weight files of the model are there", len(self.weights))
        _ = self.detector_fingerprint
        pose = self.config.pose
        if pose.save_folder and pose.backend != "file":
            require_writable(pose.save_folder)

    def resolve(self) -> None:
        """Raises: UsageError or SetupError when the device or the precision asked for cannot be had, or LCM weights
        that cannot be applied.
        """
        _ = self.device, self.dtype, self.vae_dtype
        if self.config.turbo.lcm_lora_path:
            from mimicmotion.weights import check_lcm_weights, empty_unet

            check_lcm_weights(empty_unet(self.config), **self._lcm)

    @property
    def _lcm(self) -> dict:
        """Which LCM weights are applied, and how."""
        turbo = self.config.turbo
        return {
            "path": turbo.lcm_lora_path,
            "weight_name": turbo.lcm_weight_name,
            "fuse": turbo.fuse_lcm_lora,
            "svd_base": turbo.lcm_base_path or self.config.base_model_path,
        }

    @cached_property
    def device(self):
        """The torch.device that the settings ask for."""
        from mimicmotion.device import resolve_device

        return resolve_device(self.config.runtime.device)

    @cached_property
    def dtype(self):
        """Precision of UNet, PoseNet and CLIP."""
        from mimicmotion.device import resolve_dtype

        return resolve_dtype(self.config.runtime.dtype, self.device)

    @cached_property
    def vae_dtype(self):
        """Precision of the VAE."""
        from mimicmotion.device import resolve_dtype

        return resolve_dtype(self.config.runtime.vae_dtype, self.device)

    @cached_property
    def weights(self) -> dict[str, str]:
        """Content hashes of all networks, LCM weights included.

        Raises: SetupError when a file is missing or is not what was noted of it.
        """
        hashes, turbo = weights_fingerprint(self.config), self.config.turbo
        if turbo.lcm_lora_path:
            path = find_lcm_file(turbo.lcm_lora_path, turbo.lcm_weight_name)
            hashes["lcm"] = weights_sha256(path, self.config.runtime.verify_weights)
        return hashes

    @cached_property
    def backend(self) -> str:
        """Which detector finds poses in frames; where poses are read from files, in references without a sidecar."""
        pose = self.config.pose
        wanted = "auto" if pose.backend == "file" else pose.backend
        backend, reason = choose_backend(wanted, pose.model_det, pose.model_pose)
        logger.info("Pose backend: %s (%s)", backend, reason)
        return backend

    @cached_property
    def detector_fingerprint(self) -> str:
        """What the detector's poses depend on. Raises: SetupError when its files or its package are missing."""
        pose = self.config.pose
        fingerprint = detector_fingerprint(self.backend, pose.model_det, pose.model_pose)
        if self.backend == "dwpose":
            for path in (pose.model_det, pose.model_pose):
                weights_sha256(Path(path), self.config.runtime.verify_weights)
        return fingerprint

    @cached_property
    def detector(self):
        """The detector, opened."""
        pose = self.config.pose
        return make_detector(
            self.backend, model_det=pose.model_det, model_pose=pose.model_pose, device=str(self.device)
        )

    @cached_property
    def pipeline(self):
        """The pipeline on its device, with LCM weights and the turbo scheduler."""
        import torch

        from mimicmotion.device import describe_device
        from mimicmotion.pipelines import make_scheduler
        from mimicmotion.weights import apply_lcm_weights, create_pipeline, place_pipeline

        config, runtime, turbo = self.config, self.config.runtime, self.config.turbo
        load_device = torch.device("cpu") if runtime.offload != "none" else self.device
        pipeline = create_pipeline(config, load_device, self.dtype, self.vae_dtype)
        if turbo.lcm_lora_path:
            apply_lcm_weights(pipeline, scale=turbo.lcm_lora_scale, **self._lcm)
        if not turbo.skip_lcm_scheduler:
            pipeline.scheduler = make_scheduler(turbo.scheduler, pipeline.scheduler.config, turbo)
        place_pipeline(pipeline, self.device, runtime.offload, runtime.compile)
        pipeline.progress_bar = lambda total: Progress("sampling", total, "tile")
        logger.info("Networks on %s in %s", describe_device(self.device), str(self.dtype).removeprefix("torch."))
        return pipeline

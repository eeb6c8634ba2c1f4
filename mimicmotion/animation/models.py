"""What the jobs of a run share and is costly to open: networks and pose detector, each opened when first needed."""

import copy
import logging
from functools import cached_property
from pathlib import Path

from mimicmotion.animation.opened import Networks, Opened
from mimicmotion.config import Config
from mimicmotion.dwpose import choose_backend, detector_fingerprint, make_detector
from mimicmotion.files import require_writable, sha256_json
from mimicmotion.pipelines import PIECE, Rung, check_steps
from mimicmotion.progress import Progress
from mimicmotion.weights import find_lcm_file, weights_fingerprint, weights_sha256

logger = logging.getLogger(__name__)


class Models:
    """The networks and the detector that a configuration names. Making one opens nothing and imports no torch.

    Args:
        opened: what others have open, to share where it is the same.
    """

    def __init__(self, config: Config, opened: Opened | None = None):
        self.config, self.opened = config, opened or Opened()
        self.rung: Rung | None = None  # how the card is shared, once that is planned

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
        """Raises: UsageError or SetupError when the device or the precision asked for cannot be had."""
        _ = self.device, self.dtype, self.vae_dtype

    def check_lcm(self) -> None:
        """Raises: SetupError when the LCM weights cannot be applied; no other weights are read."""
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

        name = self.config.runtime.device
        return self.opened.once(("device", name), lambda: resolve_device(name))

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
        for number, (path, scale) in enumerate(self._more_loras(), 2):
            digest = weights_sha256(find_lcm_file(path), self.config.runtime.verify_weights)
            hashes[f"lcm {number}"] = f"{digest}, scale {scale!r}"
        return hashes

    def _more_loras(self) -> list[tuple[str, float]]:
        """Path and scale of each LoRA after the first."""
        turbo = self.config.turbo
        paths = turbo.more_lora_paths or []
        return list(zip(paths, turbo.more_lora_scales or [1.0] * len(paths), strict=True))

    @cached_property
    def backend(self) -> str:
        """Which detector finds poses in frames; where poses are read from files, in references without a sidecar."""
        pose = self.config.pose
        wanted = "auto" if pose.backend == "file" else pose.backend

        def choose() -> str:
            backend, reason = choose_backend(wanted, pose.model_det, pose.model_pose)
            logger.info("Pose backend: %s (%s)", backend, reason)
            return backend

        return self.opened.once(("backend", wanted, pose.model_det, pose.model_pose), choose)

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
        pose, device = self.config.pose, str(self.device)
        files = {"model_det": pose.model_det, "model_pose": pose.model_pose}
        return self.opened.once(self._detector_key, lambda: make_detector(self.backend, **files, device=device))

    @property
    def _detector_key(self) -> tuple[str, ...]:
        return ("detector", self.backend, str(self.device), self.config.pose.model_det, self.config.pose.model_pose)

    def make_room_for_sampling(self) -> None:
        """Closes the detector where the plan for the card counts every network; the next use opens it again."""
        if self.rung and self.rung.offload != "none" and vars(self).pop("detector", None) is not None:
            self.opened.forget(self._detector_key)

    @property
    def pipeline(self):
        """The pipeline on its device, with LCM weights and the turbo scheduler."""
        networks = self.opened.networks(self.networks_key, self._load_networks)
        if networks.used_by is not self:
            networks.pipeline.scheduler, networks.used_by = self._scheduler(networks.scheduler), self
            networks.pipeline.work_in_pieces(PIECE if self.rung and self.rung.pieces else None)
        return networks.pipeline

    @property
    def offload(self) -> str:
        """As `runtime.offload`, or as the plan for the card needs it."""
        return self.rung.offload if self.rung else self.config.runtime.offload

    @property
    def cfg_batch(self) -> str:
        """As `sampling.cfg_batch`, or one pass after the other where the plan for the card needs that."""
        return "off" if self.rung and not self.rung.batched else self.config.sampling.cfg_batch

    @cached_property
    def networks_key(self) -> str:
        """All that the loaded networks depend on, as a hash: where it is equal, they are."""
        config, runtime, turbo = self.config, self.config.runtime, self.config.turbo
        lcm = [turbo.lcm_lora_path, turbo.lcm_weight_name, turbo.lcm_lora_scale, turbo.fuse_lcm_lora]
        lcm = [*lcm, turbo.lcm_base_path, self._more_loras()] if turbo.lcm_lora_path else []
        placed = [str(value) for value in (self.device, self.dtype, self.vae_dtype)]
        names = [config.base_model_path, config.ckpt_path]
        return sha256_json([self.weights, names, lcm, placed, self.offload, runtime.compile])

    def _scheduler(self, of_model):
        """The scheduler that the settings ask for; `of_model` is the model's own."""
        from mimicmotion.pipelines import make_scheduler

        turbo = self.config.turbo
        if turbo.skip_lcm_scheduler:
            return copy.deepcopy(of_model)
        return make_scheduler(turbo.scheduler, of_model.config, turbo)

    def _load_networks(self) -> Networks:
        import torch

        from mimicmotion.device import describe_device
        from mimicmotion.weights import apply_lcm_weights, create_pipeline, place_pipeline

        config, runtime, turbo = self.config, self.config.runtime, self.config.turbo
        load_device = torch.device("cpu") if self.offload != "none" else self.device
        pipeline = create_pipeline(config, load_device, self.dtype, self.vae_dtype)
        svd_base = turbo.lcm_base_path or config.base_model_path
        if turbo.lcm_lora_path:
            apply_lcm_weights(pipeline, scale=turbo.lcm_lora_scale, **self._lcm)
        for path, scale in self._more_loras():
            apply_lcm_weights(pipeline, path, scale=scale, svd_base=svd_base)
        place_pipeline(pipeline, self.device, self.offload, runtime.compile)
        pipeline.progress_bar = lambda total: Progress("sampling", total, "tile")
        logger.info("Networks on %s in %s", describe_device(self.device), str(self.dtype).removeprefix("torch."))
        return Networks(pipeline, pipeline.scheduler)

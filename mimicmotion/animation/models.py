"""What the jobs of a run share and is costly to open: networks and pose detector, each opened when first needed."""

import copy
import logging
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from mimicmotion.acceleration import check_acceleration, chosen_acceleration
from mimicmotion.animation.opened import Networks, Opened
from mimicmotion.config import Config
from mimicmotion.dwpose import choose_backend, detector_fingerprint, make_detector
from mimicmotion.files import require_writable, sha256_json
from mimicmotion.pipelines import PIECE, Rung, Shape, check_steps
from mimicmotion.progress import Progress, one_bar
from mimicmotion.weights import (
    SVD_DECODERS,
    decoder_sha256,
    find_lcm_file,
    find_svd_unet,
    hash_ahead,
    is_complete_unet,
    is_known,
    network_files,
    weights_fingerprint,
    weights_sha256,
)

logger = logging.getLogger(__name__)


class Models:
    """The networks and the detector that a configuration names. Making one opens nothing and imports no torch.

    Args:
        opened: what others have open, to share where it is the same.
    """

    def __init__(self, config: Config, opened: Opened | None = None):
        self.config, self.opened = config, opened or Opened()
        self._unknown: list[Path] = []
        self.rung: Rung | None = None  # how the card is shared, once that is planned
        self.planned: list[Shape] = []  # for what, and for how many bytes
        self.room = 0

    def check(self) -> None:
        """Raises: UsageError for steps that the scheduler cannot do and what excludes each other, SetupError when
        weights, a pose backend or an attention kernel are missing or poses cannot be saved; before any work is done.
        """
        check_steps(self.config)
        check_acceleration(self.config)
        files = self._weight_files
        known = {path: self.config.runtime.verify_weights or is_known(path) for path in files.values()}
        self._unknown = [path for path in known if not known[path]]
        if not self._unknown:
            _ = self.weights
        for path in known if self._unknown else ():
            if known[path]:
                weights_sha256(path)  # what it raises is said before any work
        logger.info("%d weight files of the model are there", len(files))
        _ = self.detector_fingerprint, self.decoder_hash
        pose = self.config.pose
        if pose.save_folder and pose.backend != "file":
            require_writable(pose.save_folder)

    def resolve(self) -> None:
        """Raises: UsageError or SetupError when the device, the precision, the decoder or the kernel asked for cannot
        be had, or the networks cannot be placed there as asked.
        """
        from mimicmotion.acceleration import require_acceleration
        from mimicmotion.weights import check_placement, require_fitting_decoder

        chosen = chosen_acceleration(self.config)
        _ = self.device, self.dtype, self.vae_dtype
        check_placement(self.device, self.config.runtime.offload, chosen.compile)
        require_acceleration(chosen, self.device, self.dtype)
        if self.decoder_hash:
            require_fitting_decoder(self.config)

    def check_lcm(self) -> None:
        """The last check before the first job.

        Raises: SetupError when the LCM weights cannot be applied; no other weights are loaded.
        """
        if self.config.turbo.lcm_lora_path:
            from mimicmotion.weights import check_lcm_weights, empty_unet

            unet = empty_unet(self.config)
            check_lcm_weights(unet, **self._lcm)
            for path, _ in self._more_loras():
                check_lcm_weights(unet, path, svd_base=self._svd_base)

    def hash_ahead(self) -> None:
        """Begins to hash large weight files that were never seen, beside whatever is done before `weights` is asked."""
        unknown, self._unknown = self._unknown, []
        if unknown:
            names = ", ".join(path.name for path in unknown)
            logger.info("Large weight files are read for the first time, to know them by their hash: %s", names)
            hash_ahead(unknown)

    @property
    def _lcm(self) -> dict:
        """Which LCM weights are applied, and how."""
        turbo = self.config.turbo
        return {
            "path": turbo.lcm_lora_path,
            "weight_name": turbo.lcm_weight_name,
            "fuse": turbo.fuse_lcm_lora,
            "svd_base": self._svd_base,
        }

    @property
    def _svd_base(self) -> str:
        """Where the UNet lies that a complete LCM UNet was trained from."""
        return self.config.turbo.lcm_base_path or self.config.base_model_path

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
        hashes, verify = weights_fingerprint(self.config), self.config.runtime.verify_weights
        hashes |= {name: weights_sha256(path, verify) for name, path in self._lcm_files.items()}
        for number, (_, scale) in enumerate(self._more_loras(), 2):
            hashes[f"lcm {number}"] += f", scale {scale!r}"
        return hashes

    @cached_property
    def _weight_files(self) -> dict[str, Path]:
        """The files behind `weights`, by the same names. Raises: SetupError when one is missing."""
        return network_files(self.config) | self._lcm_files

    @cached_property
    def _lcm_files(self) -> dict[str, Path]:
        turbo, files = self.config.turbo, {}
        if turbo.lcm_lora_path:
            files["lcm"] = find_lcm_file(turbo.lcm_lora_path, turbo.lcm_weight_name)
        for number, (path, _) in enumerate(self._more_loras(), 2):
            files[f"lcm {number}"] = find_lcm_file(path)
        if of_a_base := next((file for file in files.values() if is_complete_unet(file)), None):
            files["lcm base"] = find_svd_unet(self._svd_base, of_a_base)
        return files

    @cached_property
    def decoder_hash(self) -> str | None:
        """What names the small decoder asked for; None for the model's own. Raises: SetupError when it is not there."""
        return decoder_sha256(self.config.sampling.decoder, SVD_DECODERS, self.config.runtime.verify_weights)

    @property
    def decoder(self):
        """What decodes latents piece by piece: the pipeline, or the small decoder asked for."""
        if not self.decoder_hash:
            return self.pipeline
        key = ("decoder", self.decoder_hash, str(self.device), str(self.vae_dtype), self.weights["vae"])
        return self.opened.once(key, self._load_decoder)

    def decoder_beside(self):
        """A `decoder` for one result, to be used while the pipeline samples another; its chunks stay as they are."""
        decoder = self.decoder
        if decoder is self.pipeline:
            from mimicmotion.pipelines import StandaloneVae

            decoder = StandaloneVae(decoder.vae, decoder._execution_device, decoder.vae_turn)
            decoder.may_halve = False
        return decoder

    def _load_decoder(self):
        from mimicmotion.pipelines import UNLIKE, likeness
        from mimicmotion.weights import load_decoder

        decoder = load_decoder(self.config, self.device, self.vae_dtype)
        found = likeness(self.pipeline.vae, decoder, self.pipeline._execution_device)
        if found < UNLIKE:
            logger.warning(
                "the decoder %s shows a test picture with %.1f dB of what the model's own shows: it seems made for "
                "another VAE's latents, and its frames mean little then",
                self.config.sampling.decoder,
                found,
            )
        return decoder

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

    def share_card(self, rung: Rung, shapes: list[Shape], room: int) -> None:
        """Takes a plan for `room` bytes of the card, made for `shapes`. Networks that are loaded follow it."""
        former = self.networks_key if self.is_loaded else None
        self.rung, self.planned, self.room = rung, shapes, room
        if former and former != self.networks_key:
            self.opened.drop(former)
        elif former and rung.pieces and not self.pipeline.piece:
            self.pipeline.work_in_pieces(PIECE)

    @property
    def offload(self) -> str:
        """As `runtime.offload`, or as the plan for the card needs it."""
        return self.rung.offload if self.rung else self.config.runtime.offload

    @property
    def cfg_batch(self) -> str:
        """As `sampling.cfg_batch`, or one pass after the other where the plan for the card needs that."""
        return "off" if self.rung and not self.rung.batched else self.config.sampling.cfg_batch

    @property
    def is_loaded(self) -> bool:
        """Whether `pipeline` would load nothing; asks no torch."""
        return {"device", "weights"} <= vars(self).keys() and self.opened.holds(self.networks_key)

    @property
    def networks_key(self) -> str:
        """All that the loaded networks depend on, as a hash: where it is equal, they are."""
        config, turbo = self.config, self.config.turbo
        lcm = [turbo.lcm_lora_path, turbo.lcm_weight_name, turbo.lcm_lora_scale, turbo.fuse_lcm_lora]
        lcm = [*lcm, turbo.lcm_base_path, self._more_loras()] if turbo.lcm_lora_path else []
        placed = [str(value) for value in (self.device, self.dtype, self.vae_dtype)]
        names = [config.base_model_path, config.ckpt_path]
        speed = asdict(chosen_acceleration(config))
        return sha256_json([self.weights, names, lcm, placed, self.offload, speed])

    def _scheduler(self, of_model):
        """The scheduler that the settings ask for; `of_model` is the model's own."""
        from mimicmotion.pipelines import make_scheduler

        turbo = self.config.turbo
        if turbo.skip_lcm_scheduler:
            return copy.deepcopy(of_model)
        return make_scheduler(turbo.scheduler, of_model.config, turbo)

    def _load_networks(self) -> Networks:
        import torch

        from mimicmotion.acceleration import arrange_weights, require_acceleration
        from mimicmotion.device import describe_device
        from mimicmotion.weights import apply_lcm_weights, check_placement, create_pipeline, place_pipeline

        config, turbo = self.config, self.config.turbo
        chosen = chosen_acceleration(config)
        # Not every way to come here has been checked before; what is not there would show in the first step only.
        check_acceleration(config)
        require_acceleration(chosen, self.device, self.dtype)
        check_placement(self.device, self.offload, chosen.compile)
        load_device = torch.device("cpu") if self.offload != "none" else self.device
        pipeline = create_pipeline(config, load_device, self.dtype, self.vae_dtype)
        if turbo.lcm_lora_path:
            apply_lcm_weights(pipeline, scale=turbo.lcm_lora_scale, **self._lcm)
        for path, scale in self._more_loras():
            apply_lcm_weights(pipeline, path, scale=scale, svd_base=self._svd_base)
        arrange_weights(pipeline, chosen)
        place_pipeline(pipeline, self.device, self.offload, chosen.compile)
        pipeline.progress_bar = lambda total: Progress("sampling", total, "tile", terminal=one_bar())
        logger.info("Networks on %s in %s", describe_device(self.device), str(self.dtype).removeprefix("torch."))
        return Networks(pipeline, pipeline.scheduler)

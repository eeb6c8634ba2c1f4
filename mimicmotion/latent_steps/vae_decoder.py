"""Latents -> frames with nothing but a model's VAE: Stable Video Diffusion's, the embedded model's, or Wan's; or with a
small decoder's file.

Decoding is in float32 whatever the latents are stored in. Where memory runs out it goes on in tiles, then on the CPU.
"""

import contextlib
import gc
import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from mimicmotion.device import describe_device, resolve_device
from mimicmotion.errors import InputError, NumericalError, SetupError, is_out_of_memory
from mimicmotion.modules import TAEHV, TinyDecoder
from mimicmotion.weights import (
    FETCH,
    SVD_VAES,
    from_hub,
    is_default_path,
    is_hub_id,
    is_small_decoder,
    load_tiny_decoder,
    load_vae,
    local_copy,
    read_json,
    require_embedded_model,
)

logger = logging.getLogger(__name__)

WAN_VAE = "AutoencoderKLWan"
VAES = (WAN_VAE, *SVD_VAES)
VAE_FILES = ["vae/*.json", "vae/*.safetensors"]


class LatentDecoder:
    """Decodes stored latents; used as a context manager, or with `cleanup` at the end.

    The VAE is loaded with the first latents. It decodes one thing at a time; several threads may call `decode`.

    Args:
        model: folder of a model in diffusers' layout or of its VAE, the original file of Stable Video Diffusion, or a
            hub id; or the file of a small decoder.
        device: "auto", "cuda", "cuda:N", "mps" or "cpu".
        chunk_size: frames that Stable Video Diffusion's decoder mixes in one call; Wan's decoder is causal and takes
            all of them.

    Raises: UsageError, SetupError for a device that is not there; SetupError for a model that is not.
    """

    def __init__(self, model: str | Path, device: str = "auto", chunk_size: int = 8):
        self.model = str(model)
        self.device = resolve_device(device)
        self.chunk_size = chunk_size
        self._vae = None
        self._lock = threading.Lock()

    def __enter__(self) -> "LatentDecoder":
        return self

    def __exit__(self, *_) -> None:
        self.cleanup()

    @property
    def vae(self):
        """The VAE on its device, loaded when it is first asked for. Raises: SetupError."""
        if self._vae is None:
            found, cpu = find_vae(self.model), torch.device("cpu")
            small = is_small_decoder(found)
            vae = load_tiny_decoder(found, cpu, torch.float32) if small else load_vae(found, cpu, torch.float32, VAES)
            if hasattr(vae, "use_slicing"):
                vae.enable_slicing()
            self._vae = vae
            try:
                vae.to(self.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._move_to_cpu()
            logger.info("%s of %s on %s in float32", type(vae).__name__, self.model, describe_device(self.device))
        return self._vae

    def decode(self, latents: np.ndarray, layout: str | None = None) -> Iterator[np.ndarray]:
        """Decodes one clip piece by piece.

        Args:
            latents: (1, frames, channels, height, width) for Stable Video Diffusion, (1, channels, frames, height,
                width) for Wan; any floating type.
            layout: "BFCHW" or "BCTHW" where it is known, to be held against what the VAE takes.

        Yields: uint8 (n, height, width, 3), in order; for Wan 1 + 4 (frames - 1) of them in all.

        Raises: InputError for latents that the VAE cannot take; NumericalError for frames that are not finite.
        """
        with self._lock:
            vae = self.vae
        small = isinstance(vae, TinyDecoder)
        is_wan = vae.layout is TAEHV if small else type(vae).__name__ == WAN_VAE
        self._check(latents, layout, "BCTHW" if is_wan else "BFCHW")
        tensor = torch.from_numpy(np.asarray(latents, np.float32))
        if small:
            decoded = self._decode_small(tensor.movedim(1, 2) if is_wan else tensor)
        elif is_wan:
            whole = tensor * _per_channel(vae.config.latents_std) + _per_channel(vae.config.latents_mean)
            decoded = self._decode_pieces([whole])
        else:
            decoded = self._decode_pieces((tensor[0] / vae.config.scaling_factor).split(self.chunk_size))
        for frames in decoded:
            if not torch.isfinite(frames).all():
                raise NumericalError("the decoded frames contain NaN or infinity")
            yield ((frames / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    @torch.no_grad()
    def _decode_small(self, clip: torch.Tensor) -> Iterator[torch.Tensor]:
        """Frames of latents (1, frames, channels, h, w), piece by piece, which needs little memory."""
        memory = None
        for piece in clip.split(self.chunk_size, dim=1):
            with self._lock:
                frames, memory = self.vae(piece.to(self.device), memory)
            yield frames[0].permute(0, 2, 3, 1).float().cpu()

    def _decode_pieces(self, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for piece in pieces:
            with self._lock:
                frames = self._decode_somehow(piece)
            yield frames

    def _check(self, latents: np.ndarray, layout: str | None, expected: str) -> None:
        name, channels = type(self.vae).__name__, self._channels()
        if layout not in (None, expected):
            raise InputError(f"the latents are laid out {layout}; {name} takes {expected}")
        axis = expected.index("C")
        if latents.ndim != 5 or latents.shape[0] != 1 or latents.shape[axis] != channels:
            raise InputError(
                f"latents of shape {latents.shape} do not fit {name}: it takes {expected} with one clip (B = 1) and "
                f"{channels} channels"
            )

    def _channels(self) -> int:
        if isinstance(self.vae, TinyDecoder):
            return self.vae.channels
        config = self.vae.config
        return config.z_dim if type(self.vae).__name__ == WAN_VAE else config.latent_channels

    @torch.no_grad()
    def _decode_somehow(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames (n, height, width, 3), float32 on the CPU, decoded with as little memory as it takes."""
        while True:
            try:
                return self._decode_once(latents.to(self.device))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if not self._use_less_memory():
                raise SetupError("out of memory, even on the CPU; try --workers 1 or another machine")

    def _decode_once(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.vae
        if type(vae).__name__ == WAN_VAE:
            return vae.decode(latents).sample[0].permute(1, 2, 3, 0).float().cpu()  # (C, T, H, W) -> (T, H, W, C)
        extra = {"num_frames": len(latents)} if type(vae).__name__ == "AutoencoderKLTemporalDecoder" else {}
        return vae.decode(latents, **extra).sample.permute(0, 2, 3, 1).float().cpu()

    def _use_less_memory(self) -> bool:
        """Tiles where the VAE has them, then the CPU; False when there is nothing left to try."""
        if self.device.type == "cpu":
            return False
        if getattr(self._vae, "use_tiling", True):
            self._move_to_cpu()
        else:
            logger.warning("Too little memory on %s: decoding goes on in tiles", self.device)
            self._vae.enable_tiling()
            _free_memory()
        return True

    def _move_to_cpu(self) -> None:
        logger.warning("Too little memory on %s: decoding goes on on the CPU", self.device)
        self.device = torch.device("cpu")
        self._vae.to(self.device)
        _free_memory()

    def cleanup(self) -> None:
        """Gives the memory back; decoding again loads the VAE again."""
        self._vae = None
        _free_memory()


def find_vae(model: str, download: bool = True) -> Path:
    """The folder of a model's VAE: below the model's own folder, that folder itself, or in the hub's cache; or the
    original file of Stable Video Diffusion, which has it; or the file of a small decoder.

    Raises: SetupError when it cannot be had; with `download` False also when it would have to be fetched.
    """
    folder = Path(model)
    if folder.is_file():
        return folder
    if not folder.is_dir():
        # A recording of the embedded model may come from another machine: this one has its own.
        folder = require_embedded_model() if is_default_path(model) else _vae_from_hub(model, download)
    for candidate in (folder / "vae", folder):
        is_vae = (candidate / "config.json").is_file()
        if is_vae and str(read_json(candidate / "config.json").get("_class_name")).startswith("Autoencoder"):
            return candidate
    raise SetupError(f"{folder} holds no VAE: expected {folder / 'vae' / 'config.json'}; {FETCH}")


def _vae_from_hub(model: str, download: bool) -> Path:
    if not is_hub_id(model):
        raise SetupError(
            f"model not found: {model} (model_settings.model_id of the experiment); name the folder or hub id that has "
            "its VAE with --model"
        )
    local = local_copy(model)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not download:
        try:
            return Path(snapshot_download(model, allow_patterns=VAE_FILES, local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise SetupError(f"{model} is not on this machine yet") from error
    return from_hub(
        model,
        snapshot_download,
        complete=lambda folder: any((folder / "vae").glob("*.safetensors")),
        allow_patterns=VAE_FILES,
    )


def _per_channel(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1, 1)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        with contextlib.suppress(RuntimeError):
            torch.mps.empty_cache()

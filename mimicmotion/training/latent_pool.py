"""The pool as the UNet sees it: latents of all frames and an embedding of each reference, computed once.

latents.npy     float16 (clips, 16, 4, height / 8, width / 8), not scaled
embeddings.npy  float16 (clips, channels)
latents.json    what they were computed from, and how many clips are there
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mimicmotion.errors import InputError
from mimicmotion.files import require_writable, sha256_path, write_json
from mimicmotion.progress import track
from mimicmotion.training.encoder_stage import make_normaliser
from mimicmotion.training.networks import load_part, prepared
from mimicmotion.training.pool import LATENT_FACTOR, Pool, read_manifest
from mimicmotion.training.vae_stage import to_pixels

MANIFEST = "latents.json"
NOTE_EVERY = 100


@dataclass(frozen=True)
class LatentPool:
    """The arrays, those of the pool with them, and the parts of the model that made them.

    scale: the VAE's scaling factor.
    """

    pool: Pool
    latents: np.ndarray
    embeddings: np.ndarray
    vae: torch.nn.Module
    image_encoder: torch.nn.Module

    @property
    def scale(self) -> float:
        return self.vae.config.scaling_factor


def open_latents(pool: Pool, folder: Path, model: Path, device: torch.device) -> LatentPool:
    """Latents and embeddings of `pool` in `folder`; what is missing, or was made by other weights, is computed.

    Args:
        model: folder with the finished vae and image_encoder.

    Raises: SetupError when `model` lacks one of them or `folder` cannot be written.
    """
    from diffusers import AutoencoderTiny
    from transformers import CLIPVisionModelWithProjection

    vae = prepared(load_part(AutoencoderTiny, model / "vae", "vae")).to(device)
    encoder = load_part(CLIPVisionModelWithProjection, model / "image_encoder", "encoder").to(device)
    source = {
        "pool": (read_manifest(pool.folder) or {}).get("renderer"),
        "vae_encoder": _encoder_digest(vae),
        "image_encoder": sha256_path(model / "image_encoder"),
        "clips": len(pool),
    }
    clips, frames, *sides = pool.frames.shape[:4]
    shapes = {
        "latents": (clips, frames, vae.config.latent_channels, *(side // LATENT_FACTOR for side in sides)),
        "embeddings": (len(pool), encoder.config.projection_dim),
    }
    done = _done(folder, source)
    arrays = {}
    for name, shape in shapes.items():
        path = require_writable(folder) / f"{name}.npy"
        if done == 0:
            path.unlink(missing_ok=True)
            np.lib.format.open_memmap(path, "w+", np.float16, shape)
        arrays[name] = np.load(path, mmap_mode="r+", allow_pickle=False)
    _encode(pool, arrays, vae, encoder, device, done, folder / MANIFEST, source)
    return LatentPool(pool, arrays["latents"], arrays["embeddings"], vae, encoder)


def _encoder_digest(vae: torch.nn.Module) -> str:
    """Latents depend on the encoder only: a decoder may be trained further without making them void."""
    digest = hashlib.sha256()
    for tensor in vae.encoder.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _done(folder: Path, source: dict) -> int:
    """How many clips are there that were computed from `source`."""
    try:
        noted = json.loads((folder / MANIFEST).read_text())
        return int(noted["done"]) if all(noted.get(name) == value for name, value in source.items()) else 0
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST} is damaged ({error}); delete {folder}") from error


@torch.inference_mode()
def _encode(pool, arrays, vae, encoder, device, done: int, manifest: Path, source: dict) -> None:
    normalise = make_normaliser()
    for clip in track(range(done, len(pool)), "encoding", len(pool), "clip", initial=done):
        pixels = to_pixels(pool.frames[clip]).to(device)
        arrays["latents"][clip] = vae.encode(pixels).latents.half().cpu().numpy()
        picture = normalise(pool.pictures[clip : clip + 1]).to(device)
        arrays["embeddings"][clip] = encoder(picture).image_embeds[0].half().cpu().numpy()
        if (clip + 1) % NOTE_EVERY == 0:
            write_json(manifest, source | {"done": clip + 1})
    write_json(manifest, source | {"done": len(pool)})

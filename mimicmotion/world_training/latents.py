"""Sessions as the transformer sees them: latents, image conditions and contexts, computed once, 50 to a file.

latents-000000.safetensors   of the sessions of seeds 0 to 49, see `LatentPool`
latents.json                 digests of the world and of the networks that made them
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from mimicmotion.errors import InputError
from mimicmotion.files import require_writable, sha256_json, write_tensors
from mimicmotion.progress import track
from mimicmotion.streaming import ImageEncoder, StreamingVAE
from mimicmotion.world_training.coding import decode, encode, to_pixels
from mimicmotion.world_training.export import pixel_metric
from mimicmotion.world_training.frames import CHUNK, FRAMES, check_folder, world_digest
from mimicmotion.worlds import Session, Walk, draw_session, render

MASK = 4
WINDOW = 12  # action frames before a block's first latent


@dataclass(frozen=True)
class LatentPool:
    """Of n sessions of L latents, on the CPU.

    latents (n, 16, L, h, w); conditions (n, 16, r, h, w): of the first image and mid-grey after it, as far as they
    depend on the image; tail (16, h, w): what they are from then on; context (n, N, C) of the image encoder;
    keyboard (n, 12 + 4 L, 4) and mouse (n, 12 + 4 L, 2): row 0 is frame -12, frames before the first repeat it;
    cameras (n, 4 L - 3, 4); weights (16,): mean squared error of pixels for a unit error of each channel; loss:
    mean squared error of pixels that the VAE alone makes.
    """

    latents: torch.Tensor
    conditions: torch.Tensor
    context: torch.Tensor
    keyboard: torch.Tensor
    mouse: torch.Tensor
    cameras: torch.Tensor
    tail: torch.Tensor
    weights: torch.Tensor
    loss: float

    def __len__(self) -> int:
        return len(self.latents)

    def condition(self, rows: torch.Tensor, start: int, latents: int) -> torch.Tensor:
        """(len(rows), 20, latents, h, w) from latent `start` on, mask channels first, as the runtime builds it."""
        reach = self.conditions.shape[2]
        chosen = [
            self.conditions[rows, :, number].float() if number < reach else self.tail.expand(len(rows), -1, -1, -1)
            for number in range(start, start + latents)
        ]
        image = torch.stack(chosen, dim=2)
        mask = torch.zeros_like(image[:, :MASK])
        mask[:, :, 0] = float(start == 0)
        return torch.cat((mask, image), dim=1)


class SessionEncoder:
    """Turns sessions into entries of a `LatentPool`, with a finished VAE and image encoder."""

    def __init__(
        self,
        vae: StreamingVAE,
        image_encoder: ImageEncoder,
        height: int,
        width: int,
        walk: Walk,
        held: dict[str, float] | None = None,
    ):
        """walk and held: of the sessions, as `draw_session` takes them."""
        self.vae, self.image_encoder, self.height, self.width = vae, image_encoder, height, width
        self.walk, self.held = walk, held
        self.reach, self.tail = self._reach()

    @torch.no_grad()
    def __call__(self, frames: list[np.ndarray], seeds: range) -> dict[str, torch.Tensor]:
        """The entries of a chunk by name; frames: uint8 (81, H, W, 3) of each seed."""
        parts = [self._encode(to_pixels(np.stack(frames[i : i + 2]))) for i in range(0, len(frames), 2)]
        names = ("latents", "conditions", "context")
        entries = {name: torch.cat([part[i] for part in parts]) for i, name in enumerate(names)}
        sessions = [self.session(seed) for seed in seeds]
        for name in ("keyboard", "mouse", "cameras"):
            entries[name] = torch.from_numpy(np.stack([getattr(session, name) for session in sessions])).float()
        for name in ("keyboard", "mouse"):
            entries[name] = torch.cat((entries[name][:, :1].repeat(1, WINDOW, 1), entries[name]), dim=1)
        return entries

    def session(self, seed: int) -> Session:
        """The session of a seed."""
        return draw_session(seed, FRAMES, self.walk, self.held)

    def render(self, seed: int) -> np.ndarray:
        """Frames uint8 (81, height, width, 3) of the session of a seed."""
        return render(self.session(seed).cameras, self.height, self.width)

    def _encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = (encode(self.vae.vae, pixels, 8) - self.vae.mean) / self.vae.std
        first = pixels[:, :, 0]
        return latents.half(), self.vae.encode_condition(first, self.reach).half(), self.image_encoder(first)

    def _reach(self) -> tuple[int, torch.Tensor]:
        """How many condition latents depend on the image, and what the others are (16, h, w)."""
        noise = torch.Generator().manual_seed(0)
        images = torch.rand((2, 3, self.height, self.width), generator=noise) * 2 - 1
        found = self.vae.encode_condition(images)
        differs = (found[0] - found[1]).abs().amax((0, 2, 3)) > 1e-4
        return int(differs.nonzero().max()) + 1, found[0, :, -1].clone()

    @torch.no_grad()
    def measure(self, frames: list[np.ndarray]) -> tuple[torch.Tensor, float]:
        """The pool's `weights` and `loss`, measured on these sessions."""
        pixels = to_pixels(np.stack(frames))[:, :, :33]
        latents = encode(self.vae.vae, pixels)
        metric = pixel_metric(self.vae.vae, latents[:2], torch.diag(self.vae.std.flatten()))
        return metric.diagonal().clone(), (decode(self.vae.vae, latents) - pixels).square().mean().item()


def open_latents(
    folder: Path, encoder: SessionEncoder, clips: int, frames: list[np.ndarray] | None, first: int = 0
) -> LatentPool:
    """The sessions of the seeds first .. first + clips - 1 in memory; what is missing in `folder` is computed.

    frames: of each session, None to render them at the encoder's size.

    Raises: InputError when the folder was made by another world or other networks, or holds a damaged file.
    """
    check_folder(require_writable(folder), "latents.json", made_by(encoder))
    chunks = []
    entries = {field.name for field in fields(LatentPool)} - {"tail", "weights", "loss"}
    starts = range(0, clips, CHUNK)
    for start in track(starts, "encoding", len(starts), "file"):
        seeds = range(first + start, first + min(start + CHUNK, clips))
        path = folder / f"latents-{seeds.start:07d}.safetensors"
        if not path.is_file():
            some = frames[start : start + CHUNK] if frames else [encoder.render(seed) for seed in seeds]
            _write(path, encoder(some, seeds))
        chunks.append(read_chunk(path, entries, len(seeds)))
    joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    weights, loss = encoder.measure([encoder.render(seed) for seed in range(first, first + 4)])
    return LatentPool(**joined, tail=encoder.tail, weights=weights, loss=loss)


def made_by(encoder: SessionEncoder) -> dict:
    """Which world and networks the entries are of."""
    facts = {
        "world": world_digest(encoder.walk), "networks": _digest(encoder), "size": [encoder.height, encoder.width]
    }  # fmt: skip
    return facts if encoder.held is None else facts | {"held": encoder.held}


def _digest(encoder: SessionEncoder) -> str:
    digest = hashlib.sha256()
    for module in (encoder.vae.vae.encoder, encoder.vae.vae.quant_conv, encoder.image_encoder.model):
        for tensor in module.state_dict().values():
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return sha256_json([digest.hexdigest(), FRAMES])


def _write(path: Path, entries: dict[str, torch.Tensor]) -> None:
    write_tensors(path, {name: tensor.contiguous() for name, tensor in entries.items()})


def read_chunk(path: Path, names: Collection[str], clips: int) -> dict[str, torch.Tensor]:
    """The first `clips` rows of each tensor. Raises: InputError unless the file holds so many of all `names`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        entries = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it") from error
    if set(entries) != set(names) or any(len(entries[name]) < clips for name in names):
        raise InputError(f"{path} does not hold {clips} sessions; delete it")
    return {name: entries[name][:clips] for name in names}

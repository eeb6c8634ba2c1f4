"""The loop of the world model: action in, denoise a block, commit it clean to the cache, decode, frames out.

`start` and `step` are the whole of it; `stream` and `generate` are loops over them, so live and offline runs give
the same frames. The generator holds weights and settings only: a `StreamState` is one session, and any number of
them can take turns. There is no user interface in here.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from mimicmotion.config import ReferenceSettings
from mimicmotion.errors import InputError, MimicMotionError, UsageError
from mimicmotion.files import sha256_json, write_tensors
from mimicmotion.pipelines import UNLIKE
from mimicmotion.streaming.actions import ActionMode, Actions
from mimicmotion.streaming.cache import ModelCache
from mimicmotion.streaming.clip import ImageEncoder
from mimicmotion.streaming.model import CausalWanModel
from mimicmotion.streaming.schedule import block_generator, denoise, make_scheduler
from mimicmotion.streaming.session_file import describe, read_session
from mimicmotion.streaming.vae import (
    CONDITION_LATENTS,
    FRAMES_PER_LATENT,
    StreamingVAE,
    frame_count,
    to_uint8,
)
from mimicmotion.timing import StageClock
from mimicmotion.video import as_rgb, read_picture

logger = logging.getLogger(__name__)

MASK_CHANNELS = 4
REPEAT_MARK = "Rep"  # diffusers' decoder writes this into a memory slot that has seen one latent


@dataclass
class StreamState:
    """One session: everything that the next block depends on. Its size does not grow.

    seed: of the noise; start: index of the next latent; cache: past keys and values; cond (1, 20, 30, h, w): the
    image condition, whose last latent repeats; keyboard (1, n, K) and mouse (1, n, 2): the newest action frames, up
    to the last frame made, None before the first block; memory: of the decoder, None before the first block.
    """

    seed: int
    start: int
    cache: ModelCache
    cond: torch.Tensor
    keyboard: torch.Tensor | None = None
    mouse: torch.Tensor | None = None
    memory: list | None = None

    @property
    def frames_done(self) -> int:
        """Video frames given so far."""
        return frame_count(self.start) if self.start else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        tensors = [*self.cache.tensors().values(), self.cond, self.keyboard, self.mouse, *(self.memory or ())]
        return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))

    def copy(self) -> "StreamState":
        """The session as it is now, to go on from later or another way: the frames are those of this one, to the bit.

        Only what the next block writes to is copied, the rings of the cache; the rest is never changed and shared.
        """
        return replace(self, cache=self.cache.copy())

    def advance(self, after: "StreamState") -> None:
        """Becomes `after`, of the same cache."""
        vars(self).update(vars(after))


@dataclass(frozen=True)
class DenoisedBlock:
    """Clean latents (1, 16, F, h, w) of a block that ends before latent `end`, and the action frames up to there."""

    latents: torch.Tensor
    end: int
    keyboard: torch.Tensor
    mouse: torch.Tensor | None


class StreamingGenerator:
    """Makes video from a first image and actions. See `stream` for the simplest use."""

    def __init__(
        self,
        model: CausalWanModel,
        vae: StreamingVAE,
        image_encoder: ImageEncoder,
        mode: ActionMode,
        *,
        height: int,
        width: int,
        steps: Iterable[int],
        shift: float,
        context_noise: float,
        frames_per_block: int,
    ) -> None:
        """`height` and `width` are of the video, in pixels; `steps` as in `schedule.make_scheduler`.

        Raises: UsageError when the sizes, the mode and the models do not fit together.
        """
        self.model = model.eval().requires_grad_(False)
        self.vae, self.image_encoder, self.mode = vae, image_encoder, mode
        self.height, self.width = height, width
        self.frames_per_block = frames_per_block
        self.scheduler = make_scheduler(list(steps), shift)
        self.context_noise = context_noise
        self._check()
        self._fingerprint: str | None = None

    @torch.inference_mode()
    def start(self, image: Image.Image | np.ndarray, seed: int) -> StreamState:
        """A new session that begins with `image`, PIL or uint8 (H, W, 3) RGB, cropped and resized to fit."""
        pixels = prepare_image(image, self.height, self.width)
        ratio = self.vae.spatial_ratio
        cache = self.model.new_cache(1, self.height // ratio, self.width // ratio)
        context = self.image_encoder(pixels)
        self.model.store_context(context.to(self.model.device, self.model.dtype), cache)
        latents = self.vae.encode_condition(pixels)
        if self.vae.tiny is not None and (found := self.vae.likeness(pixels, latents[:, :, :1])) < UNLIKE:
            logger.warning(
                "the small decoder shows the first picture with %.1f dB only: it seems made for another VAE's latents, "
                "and its frames mean little then",
                found,
            )
        mask = torch.zeros_like(latents[:, :MASK_CHANNELS])
        mask[:, :, 0] = 1
        cond = torch.cat((mask, latents), dim=1).to(self.model.device, self.model.dtype)
        return StreamState(seed, 0, cache, cond)

    def take_picture(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """What a session that begins with `image` sees of it: uint8 (height, width, 3), which is taken as it is.

        Raises: InputError when `image` is not a picture with three channels.
        """
        return fit_picture(image, self.height, self.width)

    def step(self, state: StreamState, action: Actions, clock: StageClock | None = None) -> np.ndarray:
        """The next frames of the session, uint8 (F, H, W, 3): 9 for the first block, then 12.

        `action` holds one frame, which is kept for the whole block, or one for each frame of the block. A call that
        was interrupted leaves the session where it was.

        Raises: UsageError when the action has another number of frames or is of another mode; MimicMotionError when
        the model or the decoder gives numbers that are not finite.
        """
        frames, after = self.next_block(state, action, clock)
        state.advance(after)
        return frames

    def next_block(
        self, state: StreamState, action: Actions, clock: StageClock | None = None
    ) -> tuple[np.ndarray, StreamState]:
        """The frames that `step` gives, and the session after them, for `state.advance`; until then it is where it was.

        Raises: as `step`.
        """
        stage = clock.stage if clock else _unclocked
        with stage("denoise"):
            block = self.denoise_next(state, action)
        return self.decode_next(state, block, clock)

    def denoise_next(self, state: StreamState, action: Actions) -> DenoisedBlock:
        """The first half of `next_block`, for which the session's decoder need not have come as far as its model."""
        keyboard, mouse = self.action_history(state, action)
        latents = self.denoise_block(state, keyboard, mouse)
        return DenoisedBlock(latents, state.start + self.frames_per_block, keyboard, mouse)

    def decode_next(
        self, state: StreamState, block: DenoisedBlock, clock: StageClock | None = None
    ) -> tuple[np.ndarray, StreamState]:
        """The second half of `next_block`; it may run in a thread of its own while the block after is denoised."""
        stage = clock.stage if clock else _unclocked
        with stage("decode"):
            frames, memory = self.vae.decode(block.latents, state.memory)
        with stage("transport"):
            _require_finite(block.latents, frames, state.start)
            frames = to_uint8(frames[0])
        after = replace(state, start=block.end, keyboard=block.keyboard, mouse=block.mouse, memory=memory)
        return frames.numpy(), after

    def stream(
        self, image: Image.Image | np.ndarray, actions: Iterable[Actions], seed: int = 0
    ) -> Iterator[np.ndarray]:
        """Yields the frames of one block for each of `actions`, which may come from a live keyboard."""
        state = self.start(image, seed)
        for action in actions:
            yield self.step(state, action)

    def generate(self, image: Image.Image | np.ndarray, actions: Iterable[Actions], seed: int = 0) -> np.ndarray:
        """All frames of `stream` at once, uint8 (N, H, W, 3)."""
        return np.concatenate(list(self.stream(image, actions, seed)))

    def block_frames(self, state: StreamState) -> int:
        """How many video frames the next step gives."""
        return frame_count(state.start + self.frames_per_block) - state.frames_done

    def action_history(self, state: StreamState, action: Actions) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Keyboard (1, 21, K) and mouse (1, 21, 2) of frames 4 s - 12 .. 4 s + 8 with `action` in the new ones."""
        frames = self.block_frames(state)
        if len(action) not in (1, frames):
            raise UsageError(f"this block has {frames} frames; got actions for {len(action)}")
        if action.keyboard.shape[1] != self.mode.keyboard_dim or (action.mouse is None) == self.mode.has_mouse:
            raise UsageError(f"the action is not one of mode {self.mode.name}")
        action = action if len(action) == frames else action.repeat(frames)
        keyboard = self._append(state.keyboard, action.keyboard)
        return keyboard, self._append(state.mouse, action.mouse) if self.mode.has_mouse else None

    @torch.inference_mode()
    def denoise_block(self, state: StreamState, keyboard: torch.Tensor, mouse: torch.Tensor | None) -> torch.Tensor:
        """Clean latents (1, 16, F, h, w) of the next block, whose keys and values are left clean in the cache."""
        cond = self._condition(state)
        # The newest action frame is first felt by the next block.
        keyboard, mouse = keyboard[:, :-1], None if mouse is None else mouse[:, :-1]

        def flow(x: torch.Tensor, timestep: float) -> torch.Tensor:
            t = torch.full((1, x.shape[2]), timestep, device=x.device)
            return self.model(
                x, t, cond=cond, context=None, mouse=mouse, keyboard=keyboard,
                cache=state.cache, start=state.start,
            )  # fmt: skip

        generator = block_generator(state.seed, state.start)
        shape = (1, self.model.params.out_dim, *cond.shape[2:])
        noise = torch.randn(shape, generator=generator).to(self.model.device, self.model.dtype)
        latents = denoise(flow, self.scheduler, noise, generator)
        flow(latents, self.context_noise)
        return latents

    def compile(self) -> None:
        """Compiles each transformer block and the decoder; the first blocks then take minutes, later ones less."""
        for block in self.model.blocks:
            block.compile()
        self.vae.decoder.compile()

    def save_state(self, state: StreamState, path: str | Path) -> None:
        """Writes a session to `path` (safetensors), from which `load_state` goes on with the same frames.

        The file has a checksum over all of it.

        Raises: MimicMotionError for a session whose cache is further ahead of its frames than one block.
        """
        if state.cache.end not in (None, state.start, state.start + self.frames_per_block):
            raise MimicMotionError(
                f"the session at latent {state.start} cannot be saved: it was cut off between two of its blocks, and "
                "what it needs to go on from there is no longer in its memory"
            )
        tensors = {f"cache.{name}": tensor for name, tensor in state.cache.tensors().items()}
        tensors |= {"cond": state.cond}
        tensors |= {name: tensor for name in ("keyboard", "mouse") if (tensor := getattr(state, name)) is not None}
        memory = state.memory or []
        tensors |= {f"memory.{i}": item for i, item in enumerate(memory) if isinstance(item, torch.Tensor)}
        meta = {
            "fingerprint": self.fingerprint(),
            "seed": state.seed,
            "start": state.start,
            "first": state.cache.first,
            "end": state.cache.end,
            "memory": len(memory),
            "repeat_marks": [i for i, item in enumerate(memory) if isinstance(item, str)],
        }
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_tensors(path, contiguous, describe(tensors, meta))

    def load_state(self, path: str | Path) -> StreamState:
        """A session that `save_state` wrote, for a generator with the same weights and settings.

        Raises: InputError when the file is damaged to any bit, cannot be read, or belongs to other weights or settings.
        """
        tensors, meta = read_session(Path(path), self.frames_per_block, self.vae.memory_slots)
        if meta["fingerprint"] != self.fingerprint():
            raise InputError(f"{path} was saved with other weights or settings; start a new session")
        ratio = self.vae.spatial_ratio
        cache = self.model.new_cache(1, self.height // ratio, self.width // ratio)
        try:
            self._check_tensors(tensors, meta)
            cached = {k.removeprefix("cache."): v for k, v in tensors.items() if k.startswith("cache.")}
            cache.restore(cached, meta["first"], meta["end"])
            own = {
                name: tensors[name].to(self.model.device, copy=True)
                for name in ("cond", "keyboard", "mouse")
                if name in tensors
            }
            return StreamState(
                seed=meta["seed"], start=meta["start"], cache=cache, **own, memory=self._memory(tensors, meta)
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path} is not a complete saved session: {error}") from error

    def fingerprint(self) -> str:
        """Digest of the settings and a sample of every weight: sessions move between equal generators."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            modules = (self.model, *self.vae.modules, self.image_encoder.model)
            for module in modules:
                for name, parameter in sorted(module.state_dict().items()):
                    flat = parameter.flatten()
                    sample = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.float32)
                    digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
                    digest.update(sample.numpy().tobytes())
            settings = [
                self.mode.name, self.height, self.width, self.frames_per_block, self.context_noise,
                self.scheduler.sigmas.tolist(), self.model.params.local_attn_size,
            ]  # fmt: skip
            self._fingerprint = sha256_json([settings, digest.hexdigest()])
        return self._fingerprint

    def _condition(self, state: StreamState) -> torch.Tensor:
        last = state.cond.shape[2] - 1
        latents = [min(state.start + offset, last) for offset in range(self.frames_per_block)]
        return state.cond[:, :, latents]

    def _append(self, history: torch.Tensor | None, new: np.ndarray) -> torch.Tensor:
        """The newest 21 action frames after `new`; before the first frame of all, that frame is repeated."""
        new = torch.from_numpy(np.ascontiguousarray(new, np.float32)).unsqueeze(0)
        new = new.to(self.model.device, self.model.dtype)
        length = self.model.params.action_config.frames_for(self.frames_per_block) + 1
        if history is None:
            history = new[:, :1].expand(-1, length - new.shape[1], -1)
        return torch.cat((history, new), dim=1)[:, -length:]

    def _check_tensors(self, tensors: dict[str, torch.Tensor], meta: dict) -> None:
        """Raises: ValueError unless the tensors of a saved session beside the cache are those that it needs."""
        ratio, dtype = self.vae.spatial_ratio, self.model.dtype
        channels = MASK_CHANNELS + self.model.params.out_dim
        shapes = {"cond": (1, channels, CONDITION_LATENTS, self.height // ratio, self.width // ratio)}
        if meta["start"]:
            frames = self.model.params.action_config.frames_for(self.frames_per_block) + 1
            shapes["keyboard"] = (1, frames, self.mode.keyboard_dim)
            if self.mode.has_mouse:
                shapes["mouse"] = (1, frames, 2)
        memory = {f"memory.{slot}" for slot in set(range(meta["memory"])) - set(meta["repeat_marks"])}
        unknown = {name for name in tensors if not name.startswith("cache.")} - set(shapes) - memory
        if unknown:
            raise ValueError(f"it holds {', '.join(sorted(unknown))}, which no session has here")
        for name, shape in shapes.items():
            if tuple(tensors[name].shape) != shape or tensors[name].dtype != dtype:
                found = f"{tuple(tensors[name].shape)} in {tensors[name].dtype}"
                raise ValueError(f"{name} has the shape {found}, not {shape} in {dtype}")
        for name in memory & set(tensors):
            if tensors[name].ndim != 5 or tensors[name].shape[0] != 1 or tensors[name].dtype != self.vae.decode_dtype:
                raise ValueError(f"{name} is no memory of the decoder")

    def _memory(self, tensors: dict[str, torch.Tensor], meta: dict) -> list | None:
        if not meta["memory"]:
            return None
        memory = [tensors.get(f"memory.{index}") for index in range(meta["memory"])]
        memory = [None if item is None else item.to(self.vae.device, copy=True) for item in memory]
        for index in meta["repeat_marks"]:
            memory[index] = REPEAT_MARK
        return memory

    def _check(self) -> None:
        params, ratio = self.model.params, self.vae.spatial_ratio
        step = 2 * ratio
        if self.height % step or self.width % step or min(self.height, self.width) < step:
            raise UsageError(f"the video size {self.height} x {self.width} must be a multiple of {step}")
        if not 1 <= self.frames_per_block <= params.local_attn_size - params.sink_size:
            raise UsageError(
                f"blocks of {self.frames_per_block} latents do not fit a window of {params.local_attn_size}"
            )
        action = params.action_config
        if (action.keyboard_dim_in, action.enable_mouse) != (self.mode.keyboard_dim, self.mode.has_mouse):
            raise UsageError(
                f"mode {self.mode.name} has {self.mode.keyboard_dim} keys, mouse {self.mode.has_mouse}; the "
                f"model takes {action.keyboard_dim_in}, mouse {action.enable_mouse}"
            )
        if action.vae_time_compression_ratio != FRAMES_PER_LATENT:
            raise UsageError(f"the model must take {FRAMES_PER_LATENT} frames per latent, as the VAE gives them")


def prepare_image(image: Image.Image | np.ndarray, height: int, width: int) -> torch.Tensor:
    """What `fit_picture` gives as networks take it: float32 (1, 3, height, width) in [-1, 1]. Raises: as it."""
    pixels = torch.from_numpy(fit_picture(image, height, width)).permute(2, 0, 1).unsqueeze(0)
    return pixels.float() / 255 * 2 - 1


def fit_picture(image: Image.Image | np.ndarray, height: int, width: int) -> np.ndarray:
    """Crops `image` around its centre to height : width and resizes it: uint8 (height, width, 3).

    White shows through what is transparent. What is cut is told in the log.

    Raises: InputError when `image` is not a picture with three channels.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"the first image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    image = Image.fromarray(as_rgb(ImageOps.exif_transpose(image)))
    w, h = image.size
    crop_w, crop_h = (w, int(w * height / width)) if h / w > height / width else (int(h * width / height), h)
    crop_w, crop_h = max(1, crop_w), max(1, crop_h)
    for name, kept, whole in (("rows", crop_h, h), ("columns", crop_w, w)):
        if kept < whole - 1:  # one is rounding
            share = 100 * (1 - kept / whole)
            logger.info("first picture, %dx%d to %dx%d: %.1f%% of its %s are cut", w, h, width, height, share, name)
    left, top = (w - crop_w) / 2, (h - crop_h) / 2
    image = image.crop((left, top, left + crop_w, top + crop_h)).resize((width, height), Image.BILINEAR)
    return np.array(image)


def load_image(path: str | Path, settings: ReferenceSettings | None = None) -> Image.Image:
    """The picture at `path`, RGB, upright. Raises: InputError as `video.read_picture`."""
    picture = read_picture(path, settings)
    for note in picture.notes:
        logger.warning("%s: %s", path, note)
    return Image.fromarray(picture.pixels)


def _unclocked(_: str) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


def _require_finite(latents: torch.Tensor, frames: torch.Tensor, start: int) -> None:
    for tensor, what, remedy in (
        (latents, "the transformer", "runtime.dtype"),
        (frames, "the decoder", "streaming.decode_dtype"),
    ):
        if not torch.isfinite(tensor).all():
            raise MimicMotionError(
                f"{what} gave numbers that are not finite in {tensor.dtype} from latent {start} on; "
                f"try {remedy}=fp32, or check the weights"
            )

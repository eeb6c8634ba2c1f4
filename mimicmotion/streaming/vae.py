"""The Wan VAE by the block: diffusers' AutoencoderKLWan with its memory held by the session, or a small decoder's.

The first latent is one frame, each later one four, so a block of three gives 9 frames and then 12. Latents here are
in the model's convention, (posterior mean - mean) / std.
"""

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import nn

from mimicmotion.modules import TinyDecoder, use_fast_operations

FRAMES_PER_LATENT = 4
# With the temporal layout of the Wan VAE, condition latents from number 29 on no longer depend on the image.
CONDITION_LATENTS = 30

DecoderMemory = list


def frame_count(latents: int) -> int:
    """Video frames of the first `latents` latents: 1, 5, 9, 13, ..."""
    return 1 + FRAMES_PER_LATENT * (latents - 1)


class StreamingVAE:
    """Encodes the image condition and decodes blocks. Holds weights only.

    encode_dtype and decode_dtype set the precision of the two halves apart from each other. Rollouts were found to
    react strongly to the precision of encoding (FastVideo's measurements), little to that of decoding. A `tiny` decoder
    takes the place of the VAE's own, which gives its memory back.
    """

    def __init__(
        self,
        vae: AutoencoderKLWan,
        encode_dtype: torch.dtype = torch.float32,
        decode_dtype: torch.dtype = torch.float32,
        tiny: TinyDecoder | None = None,
    ) -> None:
        self.vae = use_fast_operations(vae.eval().requires_grad_(False))
        self.encode_dtype, self.decode_dtype = encode_dtype, decode_dtype
        self.tiny = tiny
        if tiny is not None:
            vae.decoder = vae.post_quant_conv = None
        halves = ((vae.encoder, vae.quant_conv), encode_dtype), ((self.decoder, vae.post_quant_conv), decode_dtype)
        for module, dtype in ((module, dtype) for modules, dtype in halves for module in modules if module is not None):
            module.to(dtype)
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1, 1)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vae.quant_conv.weight.device

    @property
    def decoder(self) -> nn.Module:
        """What makes frames: the VAE's own decoder or the small one."""
        return self.vae.decoder if self.tiny is None else self.tiny

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All networks here."""
        return (self.vae,) if self.tiny is None else (self.vae, self.tiny)

    @property
    def memory_slots(self) -> int:
        """How many entries the decoder's memory has."""
        return len(new_memory(self.decoder)) if self.tiny is None else self.tiny.memory_slots

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent along each side: 8."""
        return 2 ** (len(self.vae.config.dim_mult) - 1)

    @torch.inference_mode()
    def encode_condition(self, image: torch.Tensor, latents: int = CONDITION_LATENTS) -> torch.Tensor:
        """Latents of a clip that starts with `image` and goes on in mid-grey: float32 (B, 16, latents, h, w).

        image (B, 3, H, W) in [-1, 1]. The default is long enough for any run: the last latent repeats for ever.
        """
        memory = new_memory(self.vae.encoder)
        first = image.unsqueeze(2).to(self.device, self.encode_dtype)
        grey = torch.zeros_like(first).expand(-1, -1, FRAMES_PER_LATENT, -1, -1)
        chunks = (first if index == 0 else grey for index in range(latents))
        features = [self.vae.encoder(chunk, feat_cache=memory, feat_idx=[0]) for chunk in chunks]
        mean = self.vae.quant_conv(torch.cat(features, dim=2)).chunk(2, dim=1)[0]
        return (mean.float() - self.mean) / self.std

    def likeness(self, image: torch.Tensor, latents: torch.Tensor) -> float:
        """How far the decoder shows an image (1, 3, H, W) in -1..1 of its own latents (1, 16, 1, h, w): PSNR in dB."""
        shown = self.decode(latents)[0][:, :, 0].float().cpu()
        return 10 * torch.log10(4 / (shown - image.cpu()).square().mean().clamp_min(1e-10)).item()

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor, memory: DecoderMemory | None = None) -> tuple[torch.Tensor, DecoderMemory]:
        """Frames (B, 3, N, H, W) in [-1, 1] of the session's next latents (B, 16, F, h, w), and the new memory.

        `memory` None starts a session: N = 1 + 4 (F - 1); later N = 4 F. The memory passed in is not changed, so a
        call that was interrupted can be repeated.
        """
        if self.tiny is not None:
            # (B, C, F, h, w) -> (B, F, C, h, w) and back
            frames, memory = self.tiny(latents.to(self.device, self.decode_dtype).movedim(1, 2), memory)
            return frames.movedim(2, 1).clamp(-1, 1), _settled(memory)
        first = memory is None
        memory = new_memory(self.vae.decoder) if first else list(memory)
        z = (latents.to(self.device, torch.float32) * self.std + self.mean).to(self.decode_dtype)
        z = self.vae.post_quant_conv(z)
        # The first latent makes one frame and needs a call of its own; after it a block is one call.
        parts = [part for part in (z[:, :, :1], z[:, :, 1:]) if part.shape[2]] if first else [z]
        frames = []
        for index, part in enumerate(parts):
            starts = first and index == 0
            frames.append(self.vae.decoder(part, feat_cache=memory, feat_idx=[0], first_chunk=starts))
        return torch.cat(frames, dim=2).clamp(-1, 1), _settled(memory)


def new_memory(coder: nn.Module) -> list:
    """Empty feature memory of an encoder or decoder: one slot for each causal convolution."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in coder.modules())


def _settled(memory: DecoderMemory) -> DecoderMemory:
    """The memory in the layout that it has when it was saved and loaded.

    Convolutions round otherwise for another order of strides, and then a resumed session is not the same to the bit.
    What is kept is also a slice of a whole block's features, which it would keep alive.
    """
    return [item.contiguous() if isinstance(item, torch.Tensor) else item for item in memory]


def to_uint8(frames: torch.Tensor) -> torch.Tensor:
    """(..., 3, N, H, W) in [-1, 1] -> uint8 (..., N, H, W, 3) on the CPU, rounded to the nearest level."""
    levels = (frames.float() + 1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.movedim(-4, -1).contiguous().cpu()

"""How keyboard and mouse enter a transformer block (after GameFactory, arXiv:2501.08325, as Matrix-Game-2 has it).

Latent j sees the 12 action frames 4j-12 .. 4j-1. The mouse joins each spatial position of the hidden state and
attends along time there; the keyboard gives one key and value per latent, which all positions look up.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mimicmotion.streaming.attention import attention
from mimicmotion.streaming.cache import RollingCache
from mimicmotion.streaming.rope import rotate

QK_EPS = 1e-6


@dataclass(frozen=True)
class ActionParams:
    """The `action_config` of an official config.json; the defaults are those of the published constructor."""

    blocks: tuple[int, ...] = ()
    enable_keyboard: bool = True
    enable_mouse: bool = True
    keyboard_dim_in: int = 6
    mouse_dim_in: int = 2
    hidden_size: int = 128
    img_hidden_size: int = 1536
    keyboard_hidden_dim: int = 1024
    mouse_hidden_dim: int = 1024
    heads_num: int = 16
    vae_time_compression_ratio: int = 4
    windows_size: int = 3
    rope_dim_list: tuple[int, ...] = (8, 28, 28)
    mouse_qk_dim_list: tuple[int, ...] = (8, 28, 28)
    rope_theta: float = 256
    patch_size: tuple[int, ...] = (1, 2, 2)
    qk_norm: bool = True
    qkv_bias: bool = False

    @property
    def window_frames(self) -> int:
        """Action frames that one latent sees."""
        return self.vae_time_compression_ratio * self.windows_size

    @property
    def rotated_dim(self) -> int:
        """Features of a head that rotate: the time axis. Row and column have size 1 and do not."""
        return self.mouse_qk_dim_list[0]

    def frames_for(self, latents: int) -> int:
        """Action frames that a block of `latents` needs: 20 for 3."""
        return self.vae_time_compression_ratio * (latents - 1) + self.window_frames

    def windows(self, actions: torch.Tensor) -> torch.Tensor:
        """(B, 4 F + 8, K) action frames -> (B, F, 12 * K), the window of each latent, frame by frame."""
        windows = actions.unfold(1, self.window_frames, self.vae_time_compression_ratio)
        return windows.transpose(2, 3).flatten(2)


class UnweightedRMSNorm(nn.Module):
    """Divides by the root mean square of the last dimension. `weight` is stored and, as published, never used.

    The published forward pass ignores the weight, and the published checkpoints hold one; loading warns if the
    stored values are not ones.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` of any leading shape; computed in float32."""
        return F.rms_norm(x.float(), x.shape[-1:], eps=QK_EPS).to(x.dtype)


class ActionModule(nn.Module):
    """Adds mouse, then keyboard, to the hidden state x (B, F, S, C): F latents of S tokens."""

    def __init__(self, params: ActionParams) -> None:
        super().__init__()
        self.params = params
        self.backend: str | None = None
        dim, mouse_dim, key_dim = params.img_hidden_size, params.mouse_hidden_dim, params.keyboard_hidden_dim
        if params.enable_mouse:
            window = params.mouse_dim_in * params.window_frames
            self.mouse_mlp = nn.Sequential(
                nn.Linear(dim + window, mouse_dim),
                nn.GELU(approximate="tanh"),
                nn.Linear(mouse_dim, mouse_dim),
                nn.LayerNorm(mouse_dim),
            )
            self.t_qkv = nn.Linear(mouse_dim, 3 * mouse_dim, bias=False)
            self.img_attn_q_norm = UnweightedRMSNorm(mouse_dim // params.heads_num)
            self.img_attn_k_norm = UnweightedRMSNorm(mouse_dim // params.heads_num)
            self.proj_mouse = nn.Linear(mouse_dim, dim, bias=False)
        hidden = params.hidden_size
        self.keyboard_embed = nn.Sequential(
            nn.Linear(params.keyboard_dim_in, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.mouse_attn_q = nn.Linear(dim, key_dim, bias=False)
        self.keyboard_attn_kv = nn.Linear(hidden * params.window_frames, 2 * key_dim, bias=False)
        self.key_attn_q_norm = UnweightedRMSNorm(key_dim // params.heads_num)
        self.key_attn_k_norm = UnweightedRMSNorm(key_dim // params.heads_num)
        self.proj_keyboard = nn.Linear(key_dim, dim, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        mouse: torch.Tensor | None,
        keyboard: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        slots: torch.Tensor,
        count: int,
        mouse_cache: RollingCache | None,
        keyboard_cache: RollingCache,
    ) -> torch.Tensor:
        """mouse (B, 4 F + 8, 2) and keyboard (B, 4 F + 8, K) are the action frames of this block."""
        if self.params.enable_mouse:
            x = x + self._mouse(x, mouse, rope, slots, count, mouse_cache)
        return x + self._keyboard(x, keyboard, rope, slots, count, keyboard_cache)

    def _mouse(self, x, mouse, rope, slots, count, cache):
        q, k, v = self.t_qkv(self._mouse_hidden(x, mouse)).unflatten(-1, (3, self.params.heads_num, -1)).unbind(3)
        q = rotate(self.img_attn_q_norm(q), *rope)
        k = rotate(self.img_attn_k_norm(k), *rope)
        k, v = cache.update(slots, count, k, v)
        # (B, F, S, H, D) -> (B * S, F, H, D): every spatial position attends along time on its own
        q, k, v = (tensor.transpose(1, 2).flatten(0, 1) for tensor in (q, k, v))
        attended = attention(q, k, v, self.backend).flatten(2)
        return self.proj_mouse(attended.unflatten(0, (x.shape[0], -1)).transpose(1, 2))

    def _mouse_hidden(self, x, mouse):
        # The first layer takes [token, window]. The window is the same for all S tokens of a latent, so it is
        # multiplied once per latent instead of being copied to each of them.
        first, *rest = self.mouse_mlp
        token_weight, window_weight = first.weight.split((x.shape[-1], first.in_features - x.shape[-1]), dim=1)
        windows = F.linear(self.params.windows(mouse), window_weight, first.bias)
        hidden = F.linear(x, token_weight) + windows.unsqueeze(2)
        for layer in rest:
            hidden = layer(hidden)
        return hidden

    def _keyboard(self, x, keyboard, rope, slots, count, cache):
        q = self.mouse_attn_q(x).unflatten(-1, (self.params.heads_num, -1))
        q = rotate(self.key_attn_q_norm(q), *rope)
        windows = self.params.windows(self.keyboard_embed(keyboard))
        k, v = self.keyboard_attn_kv(windows).unflatten(-1, (2, 1, self.params.heads_num, -1)).unbind(2)
        k = rotate(self.key_attn_k_norm(k), *rope)
        k, v = cache.update(slots, count, k, v)
        # (B, F, S, H, D) -> (B, F * S, H, D) queries against one key per latent
        attended = attention(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), self.backend)
        return self.proj_keyboard(attended.flatten(2)).unflatten(1, x.shape[1:3])

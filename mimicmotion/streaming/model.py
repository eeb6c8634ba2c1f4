"""The causal, action-driven diffusion transformer of Matrix-Game-2: sizes from the official config.json.

A forward pass denoises one block of latents against the cached past of a session. The model holds weights only;
everything that a session remembers is in the `ModelCache` that the caller passes in. Names of parameters are those
of the published checkpoints. Block structure: Wan2.1 (arXiv:2503.20314) with per-latent modulation, image
cross-attention instead of text, and `ActionModule` in the first half of the blocks.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mimicmotion.errors import UsageError
from mimicmotion.streaming.action_module import ActionModule, ActionParams
from mimicmotion.streaming.attention import attention
from mimicmotion.streaming.cache import LayerCache, ModelCache, RollingCache
from mimicmotion.streaming.rope import action_rope, rotate, video_rope

PATCH = 2
IGNORED_KEYS = {"text_len", "text_dim", "inject_sample_info", "num_frame_per_block"}
FIXED_KEYS = {"model_type": "i2v", "patch_size": (1, PATCH, PATCH), "qk_norm": True, "cross_attn_norm": True}
FIXED_ACTION_KEYS = {
    "enable_keyboard": True, "qk_norm": True, "qkv_bias": False, "patch_size": (1, 2, 2),
    "vae_time_compression_ratio": 4,
}  # fmt: skip


@dataclass(frozen=True)
class WanParams:
    """Sizes of a `CausalWanModel`, named as in config.json; the defaults are those of the published constructor.

    `context_dim` is not in official files (it is always 1280 there): the width of the image encoder.
    """

    dim: int = 1536
    ffn_dim: int = 8960
    freq_dim: int = 256
    in_dim: int = 36
    out_dim: int = 16
    num_heads: int = 12
    num_layers: int = 30
    local_attn_size: int = -1
    sink_size: int = 0
    eps: float = 1e-6
    context_dim: int = 1280
    action_config: ActionParams = field(default_factory=ActionParams)

    @classmethod
    def from_config(cls, config: Mapping | str | Path) -> "WanParams":
        """Reads an official config: a mapping, a config.json, or the folder that holds one.

        Raises: UsageError for unknown keys, for sizes that do not fit together and for the bidirectional foundation
        model (local_attn_size -1), which cannot stream.
        """
        config = dict(_read_config(config))
        action = _known(ActionParams, config.pop("action_config", {}), FIXED_ACTION_KEYS, "action_config: ")
        params = cls(**_known(cls, config, FIXED_KEYS, ""), action_config=ActionParams(**action))
        params._check()
        return params

    def _check(self) -> None:
        if self.local_attn_size < 1:
            raise UsageError(
                "local_attn_size must be positive; -1 is the bidirectional foundation model, which cannot "
                "stream: take the config of a distilled model"
            )
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise UsageError(f"dim {self.dim} does not divide into {self.num_heads} heads of even size")
        if not 0 <= self.sink_size < self.local_attn_size:
            raise UsageError(f"sink_size {self.sink_size} must be below local_attn_size {self.local_attn_size}")
        if self.action_config.blocks and self.action_config.img_hidden_size != self.dim:
            raise UsageError(f"action_config: img_hidden_size must equal dim, {self.dim}")


class CausalWanModel(nn.Module):
    """Predicts the flow noise - clean of one block of latents. See `forward`."""

    def __init__(self, params: WanParams) -> None:
        super().__init__()
        self.params = params
        dim = params.dim
        self.patch_embedding = nn.Conv3d(params.in_dim, dim, (1, PATCH, PATCH), stride=(1, PATCH, PATCH))
        self.time_embedding = nn.Sequential(nn.Linear(params.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.img_emb = ImageProjection(params.context_dim, dim)
        self.blocks = nn.ModuleList(Block(params, index) for index in range(params.num_layers))
        self.head = Head(dim, PATCH * PATCH * params.out_dim, params.eps)

    @classmethod
    def from_config(cls, config: Mapping | str | Path) -> "CausalWanModel":
        """A model with the sizes of an official config and untrained weights. Raises: as WanParams.from_config."""
        return cls(WanParams.from_config(config))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the model computes."""
        return self.patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.patch_embedding.weight.device

    def set_attention_backend(self, backend: str | None) -> None:
        """Chooses the kernels of all attention layers; names as in `attention.attention`."""
        for module in self.modules():
            if hasattr(module, "backend"):
                module.backend = backend

    def new_cache(self, batch_size: int = 1, height: int = 44, width: int = 80) -> ModelCache:
        """An empty session for latents of `height` x `width` (44 x 80 for a picture of 352 x 640).

        Raises: ValueError when the sizes are not even.
        """
        if height % PATCH or width % PATCH:
            raise ValueError(f"latents of {height} x {width} do not divide into patches of {PATCH} x {PATCH}")
        rows, columns = height // PATCH, width // PATCH
        return ModelCache(
            batch_size=batch_size,
            grid=(rows, columns),
            window=self.params.local_attn_size,
            sink=self.params.sink_size,
            device=self.device,
            layers=[self._new_layer_cache(block, batch_size, rows * columns) for block in self.blocks],
        )

    def store_context(self, context: torch.Tensor, cache: ModelCache) -> None:
        """Puts keys and values of the image context (B, 257, 1280) into `cache`, for the whole session."""
        tokens = self.img_emb(context)
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            layer.cross = block.cross_attn.keys_values(tokens)

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        *,
        cond: torch.Tensor,
        context: torch.Tensor | None,
        mouse: torch.Tensor | None = None,
        keyboard: torch.Tensor,
        cache: ModelCache,
        start: int,
    ) -> torch.Tensor:
        """Flow of the latents start .. start + F - 1, shape of `x`; F is 3 for the published weights.

        x (B, 16, F, h, w) noisy latents; t (B, F) timesteps 0..1000; cond (B, 20, F, h, w), 4 mask channels, then
        16 of the image condition; context (B, 257, 1280) of the image encoder, needed in a session's first call and
        ignored later; mouse (B, 4 F + 8, 2), None for models without; keyboard (B, 4 F + 8, K). Row 0 of mouse and
        keyboard is action frame 4 * start - 12; frames before the first repeat it.

        The keys and values of the block are left in `cache`: calling again with the same `start` replaces them, the
        next `start` drops the oldest latents.

        Raises: ValueError when shapes do not fit the model, the cache or each other.
        """
        self._check_inputs(x, t, cond, context, mouse, keyboard, cache)
        cache.begin(start, x.shape[2])
        if not cache.has_context:
            self.store_context(context, cache)
        hidden = self.patch_embedding(torch.cat((x, cond), dim=1))
        grid = hidden.shape[2:]
        hidden = hidden.flatten(3).permute(0, 2, 3, 1)  # (B, C, F, rows, columns) -> (B, F, S, C)
        e = self.time_embedding(timestep_embedding(t, self.params.freq_dim).to(hidden.dtype))
        modulation = self.time_projection(e).unflatten(-1, (6, -1))
        rope, turn = self._rope(cache, start, grid)
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            hidden = block(
                hidden, modulation, rope, turn, mouse, keyboard,
                layer, cache.slots, cache.action_slots, cache.count,
            )  # fmt: skip
        return unpatchify(self.head(hidden, e), grid)

    def _new_layer_cache(self, block: "Block", batch_size: int, tokens: int) -> LayerCache:
        params, action = self.params, self.params.action_config

        def ring(tokens: int, width: int, heads: int) -> RollingCache:
            size = (batch_size, params.local_attn_size, tokens, heads, width // heads)
            return RollingCache(*size, dtype=self.dtype, device=self.device)

        layer = LayerCache(ring(tokens, params.dim, params.num_heads))
        if block.action_model is not None:
            layer.keyboard = ring(1, action.keyboard_hidden_dim, action.heads_num)
            if action.enable_mouse:
                layer.mouse = ring(tokens, action.mouse_hidden_dim, action.heads_num)
        return layer

    def _rope(self, cache: ModelCache, start: int, grid: torch.Size) -> tuple:
        # The four or five passes over one block share their angles; the cache forgets them when the block
        # moves on.
        key = (start, tuple(grid))
        if key not in cache.rope:
            head_dim = self.params.dim // self.params.num_heads
            action = self.params.action_config
            cache.rope[key] = (
                video_rope(start, *grid, head_dim, self.device),
                action_rope(start, grid[0], action.rotated_dim, action.rope_theta, self.device),
            )
        return cache.rope[key]

    def _check_inputs(self, x, t, cond, context, mouse, keyboard, cache) -> None:
        batch, frames = x.shape[0], x.shape[2]
        action = self.params.action_config
        action_frames = action.frames_for(frames)
        size = (cache.grid[0] * PATCH, cache.grid[1] * PATCH)
        channels = self.params.in_dim - self.params.out_dim
        _expect("x", x, (cache.batch_size, self.params.out_dim, frames, *size))
        _expect("t", t, (batch, frames))
        _expect("cond", cond, (batch, channels, frames, *size))
        _expect("keyboard", keyboard, (batch, action_frames, action.keyboard_dim_in))
        if action.enable_mouse:
            _expect("mouse", mouse, (batch, action_frames, action.mouse_dim_in))
        if not cache.has_context:
            _expect("context", context, (batch, None, self.params.context_dim))


class Block(nn.Module):
    """Self-attention over the window, image cross-attention, actions, feed-forward. Norms 1 and 2 have no weights."""

    def __init__(self, params: WanParams, index: int) -> None:
        super().__init__()
        dim, eps = params.dim, params.eps
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, params.num_heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = CrossAttention(dim, params.num_heads, eps)
        has_action = index in params.action_config.blocks
        self.action_model = ActionModule(params.action_config) if has_action else None
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(dim, params.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(params.ffn_dim, dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self,
        x: torch.Tensor,
        e: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        turn: tuple[torch.Tensor, torch.Tensor],
        mouse: torch.Tensor | None,
        keyboard: torch.Tensor,
        cache: LayerCache,
        slots: torch.Tensor,
        action_slots: torch.Tensor,
        count: int,
    ) -> torch.Tensor:
        """x (B, F, S, C) tokens, e (B, F, 6, C) timestep modulation; `rope` and `turn` rotate video and actions."""
        # 6 x (B, F, 1, C): one set per latent, the same for its tokens
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + e).unsqueeze(3).unbind(2)
        attended = self.self_attn(self.norm1(x) * (1 + scale1) + shift1, rope, cache.attention, slots, count)
        x = x + attended * gate1
        x = x + self.cross_attn(self.norm3(x), *cache.cross)
        if self.action_model is not None:
            x = self.action_model(x, mouse, keyboard, turn, action_slots, count, cache.mouse, cache.keyboard)
        return x + self.ffn(self.norm2(x) * (1 + scale2) + shift2) * gate2


class SelfAttention(nn.Module):
    """Each token of the block sees all tokens of the window. Keys are cached after rotation."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend: str | None = None
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, eps), RMSNorm(dim, eps)

    def forward(
        self,
        x: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        cache: RollingCache,
        slots: torch.Tensor,
        count: int,
    ) -> torch.Tensor:
        """x (B, F, S, C) -> (B, F, S, C)."""
        shape = x.shape
        x = x.flatten(1, 2)
        q = rotate(self._heads(self.norm_q(self.q(x))), *rope)
        k = rotate(self._heads(self.norm_k(self.k(x))), *rope)
        v = self._heads(self.v(x))
        k, v = cache.update(slots, count, k.unflatten(1, shape[1:3]), v.unflatten(1, shape[1:3]))
        attended = attention(q, k.flatten(1, 2), v.flatten(1, 2), self.backend)
        return self.o(attended.flatten(2)).view(shape)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1))


class CrossAttention(nn.Module):
    """Each token sees the tokens of the session's first image."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend: str | None = None
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, eps), RMSNorm(dim, eps)

    def keys_values(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """context (B, N, C) -> keys and values (B, N, heads, head_dim), constant through a session."""
        heads = (self.num_heads, -1)
        return self.norm_k(self.k(context)).unflatten(-1, heads), self.v(context).unflatten(-1, heads)

    def forward(self, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """x (B, F, S, C) -> (B, F, S, C)."""
        q = self.norm_q(self.q(x.flatten(1, 2))).unflatten(-1, (self.num_heads, -1))
        return self.o(attention(q, k, v, self.backend).flatten(2)).view(x.shape)


class RMSNorm(nn.Module):
    """Root mean square norm over the full width, before the heads are split. Normalises in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` of any leading shape."""
        return F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype) * self.weight


class ImageProjection(nn.Module):
    """Image encoder tokens -> model width."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(in_dim),
            nn.Linear(in_dim, in_dim),
            nn.GELU(),
            nn.Linear(in_dim, out_dim),
            nn.LayerNorm(out_dim),
        )

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """(B, N, in_dim) -> (B, N, out_dim)."""
        return self.proj(context.to(self.proj[0].weight.dtype))


class Head(nn.Module):
    """Modulated norm and the linear layer to patches."""

    def __init__(self, dim: int, out_dim: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.head = nn.Linear(dim, out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        """x (B, F, S, C), e (B, F, C) -> (B, F, S, out_dim)."""
        shift, scale = (self.modulation + e.unsqueeze(2)).unsqueeze(3).unbind(2)
        return self.head(self.norm(x) * (1 + scale) + shift)


def timestep_embedding(t: torch.Tensor, dim: int) -> torch.Tensor:
    """Sinusoids of t (B, F) -> float64 (B, F, dim): the cosines, then the sines (float32 where there is no
    float64).
    """
    dtype = torch.float32 if t.device.type == "mps" else torch.float64
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=dtype, device=t.device) / half)
    angles = t.to(dtype).unsqueeze(-1) * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def unpatchify(x: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """(B, F, rows * columns, 2 * 2 * C) -> (B, C, F, 2 * rows, 2 * columns); channels are innermost in a token."""
    x = x.unflatten(2, tuple(grid[1:])).unflatten(-1, (PATCH, PATCH, -1))
    return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def _read_config(config: Mapping | str | Path) -> Mapping:
    if isinstance(config, Mapping):
        return config
    path = Path(config)
    path = path / "config.json" if path.is_dir() else path
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"cannot read the model config {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"the model config {path} does not hold a JSON object")
    return loaded


def _known(cls: type, config: Mapping, fixed: dict, where: str) -> dict:
    """The entries of `config` that are fields of `cls`, lists as tuples, after checking the others."""
    names = {field.name for field in dataclasses.fields(cls)}
    values = {}
    for key, value in config.items():
        value = tuple(value) if isinstance(value, list | tuple) else value
        if key in fixed and value != fixed[key]:
            raise UsageError(f"{where}{key} is {value!r}; only {fixed[key]!r} is supported")
        if key in names:
            values[key] = value
        elif not (key in fixed or key in IGNORED_KEYS or key.startswith("_")):
            raise UsageError(f"{where}unknown key {key!r} in the model config")
    return values


def _expect(name: str, tensor: torch.Tensor | None, shape: tuple) -> None:
    found = None if tensor is None else tuple(tensor.shape)
    fits = found is not None and len(found) == len(shape)
    if not fits or any(want not in (None, size) for want, size in zip(shape, found, strict=True)):
        raise ValueError(f"{name} has shape {found}, expected {shape}")

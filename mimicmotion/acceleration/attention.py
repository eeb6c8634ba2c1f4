"""Attention kernels by diffusers' names, and the processor through which a UNet calls one of them.

diffusers' UNetSpatioTemporalConditionModel calls torch's kernel itself: its `set_attention_backend` changes nothing.
"""

import torch

from mimicmotion.acceleration.chosen import PACKAGES, require_package
from mimicmotion.errors import SetupError, UsageError

# CUDA kernels count batch and heads in a launch grid whose sides end there (pytorch#142228). Temporal attention has a
# batch of one entry for each latent pixel.
MOST_ENTRIES = 65_535
HALF = (torch.float16, torch.bfloat16)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: str = "native") -> torch.Tensor:
    """Dense attention without a mask, softmax scale 1 / sqrt(D), in as many calls as the kernels' limit asks for.

    q (B, T, H, D), k and v (B, N, H, D) -> (B, T, H, D). `backend`: a name of diffusers' attention dispatcher, native
    for torch's own choice.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    kernel = AttentionBackendName(backend)
    size = max(MOST_ENTRIES // q.shape[2], 1)
    if len(q) <= size:
        return dispatch_attention_fn(q, k, v, backend=kernel)
    parts = zip(*(x.split(size) for x in (q, k, v)), strict=True)
    return torch.cat([dispatch_attention_fn(*part, backend=kernel) for part in parts])


class DispatchedAttention:
    """An attention processor of diffusers whose kernel has a name; with "native" it computes what diffusers' own does.

    A single key has the whole weight, whatever the query: the cross-attention of this UNet looks at one CLIP embedding,
    so the query is not computed.
    """

    def __init__(self, backend: str = "native"):
        self.backend = backend

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None) -> torch.Tensor:
        """hidden_states (B, T, C), encoder_hidden_states (B, N, channels) or None -> (B, T, C)."""
        if attention_mask is not None:
            raise ValueError("attention in this UNet has no mask")
        batch, length, _ = hidden_states.shape
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if context.shape[1] == 1:
            attended = attn.to_v(context).expand(-1, length, -1).contiguous()
        else:
            if attn.fused_projections:
                q, k, v = attn.to_qkv(hidden_states).chunk(3, dim=-1)
            else:
                q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
            heads = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, v))
            attended = attend(*heads, self.backend).reshape(batch, length, -1)
        # The processor that diffusers sets leaves these to it as well: projection, then dropout.
        return attn.to_out[1](attn.to_out[0](attended))


def set_attention(unet, backend: str) -> None:
    """Lets every attention layer of diffusers' UNet call the kernel `backend`."""
    unet.set_attn_processor(DispatchedAttention(backend))


def require_attention(backend: str | None, device: torch.device, dtype: torch.dtype) -> None:
    """Runs a kernel once on a small input, so that a missing one shows before a model is loaded.

    `backend` None and "native" are torch's own.

    Raises: SetupError when its package or its GPU is lacking, or it does not run here; UsageError for a precision that
        it has no kernel for.
    """
    if backend in (None, "native"):
        return
    remedy = "leave --attention out for torch's own kernels"
    require_package(backend)
    if backend in PACKAGES and device.type != "cuda":
        raise SetupError(f"attention {backend!r} needs an NVIDIA GPU; this run is on {device}; {remedy}")
    if backend in PACKAGES and backend != "xformers" and dtype not in HALF:
        name = str(dtype).removeprefix("torch.")
        raise UsageError(f"attention {backend!r} is for fp16 and bf16, not {name}; change --dtype, or {remedy}")
    probe = torch.ones(1, 8, 2, 64, device=device, dtype=dtype)
    try:
        attend(probe, probe, probe, backend)
    except Exception as error:
        raise SetupError(
            f"attention {backend!r} does not run on {device} in {str(dtype).removeprefix('torch.')} ({error}); {remedy}"
        ) from error

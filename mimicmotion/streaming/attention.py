"""One attention call for all layers: torch's own kernels, or one of diffusers' back ends by name."""

import torch
import torch.nn.functional as F

from mimicmotion.errors import SetupError


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: str | None = None) -> torch.Tensor:
    """Dense attention without a mask, softmax scale 1 / sqrt(D).

    q (B, T, H, D), k and v (B, N, H, D) -> (B, T, H, D). `backend` None is torch's scaled_dot_product_attention;
    other names are those of diffusers' attention dispatcher ("flash", "_flash_3", "sage", ...).
    """
    if backend is None:
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName(backend))


def require_backend(backend: str | None, device: torch.device, dtype: torch.dtype) -> None:
    """Runs `backend` once on a small input, so that a missing kernel shows before the model is loaded.

    Raises: SetupError when the back end is unknown or does not run here.
    """
    if backend is None:
        return
    probe = torch.ones(1, 8, 2, 64, device=device, dtype=dtype)
    try:
        attention(probe, probe, probe, backend)
    except Exception as error:
        raise SetupError(
            f"attention back end {backend!r} does not run on {device} in {dtype}: {error}; "
            "leave it out for torch's own attention"
        ) from error

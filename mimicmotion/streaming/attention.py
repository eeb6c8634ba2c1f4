"""One attention call for all layers: torch's own kernels, or one of diffusers' back ends by name."""

import torch
import torch.nn.functional as F

from mimicmotion.acceleration import attend


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: str | None = None) -> torch.Tensor:
    """Dense attention without a mask, softmax scale 1 / sqrt(D).

    q (B, T, H, D), k and v (B, N, H, D) -> (B, T, H, D). `backend` None is torch's scaled_dot_product_attention;
    other names are those of diffusers' attention dispatcher ("flash", "_flash_3", "sage", ...).
    """
    if backend is None:
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    return attend(q, k, v, backend)

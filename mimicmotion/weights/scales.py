"""Weights stored in 8-bit floats: which of a file's tensors are scales of others, and what they make of them.

An 8-bit float holds 3 or 4 binary digits over a small range, so weights are divided by a scale before they are stored,
for the whole tensor or for each of its rows. Tools name it differently; it is always multiplied back.
"""

from collections.abc import Iterable

import torch

EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
# "<module>.weight" has its scale under "<module>" and one of these.
ENDINGS = (".scale_weight", ".weight_scale", ".weight.scale")
# Scales whose layout is known to no common rule: of blocks, of scales.
UNKNOWN = (".weight_scale_inv", ".weight_scale_2", ".scale_inv", ".comfy_quant")
# What concerns activations, which stay in full precision here, and a mark without numbers.
WITHOUT_MEANING = (".scale_input", ".input_scale")
MARK = "scaled_fp8"


def scales_of(names: Iterable[str]) -> tuple[dict[str, str], set[str], list[str]]:
    """(weight -> its scale, names without meaning here, scales that belong to no weight of the file)."""
    names = set(names)
    scales, homeless = {}, []
    for name in sorted(names):
        ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
        weight = f"{name.removesuffix(ending)}.weight" if ending else None
        if weight in names and weight not in scales:
            scales[weight] = name
        elif weight or name.endswith(UNKNOWN):
            homeless.append(name)
    # The mark may stand behind the prefix of its network.
    unused = {name for name in names if name.endswith(WITHOUT_MEANING) or name.rpartition(".")[2] == MARK}
    return scales, unused, homeless


def scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`weight` in float32 times its scale, one number or one for each row. Raises: ValueError for any other scale."""
    scale = scale.float()
    if scale.numel() not in (1, weight.shape[0]) or (scale.numel() > 1 and scale.shape[0] != weight.shape[0]):
        raise ValueError(f"a scale of shape {tuple(scale.shape)} for a weight of {tuple(weight.shape)}")
    if not torch.isfinite(scale).all():
        raise ValueError("a scale that is not finite")
    return weight.float() * scale.reshape(-1, *[1] * (weight.ndim - 1))

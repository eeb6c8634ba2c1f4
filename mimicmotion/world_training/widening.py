"""A network with more channels that begins as the narrower one it learns from (function-preserving, as in Net2Net,
arXiv:1511.05641): every channel is there several times, and what reads them shares its weight among the copies.
"""

import torch
from torch import nn

from mimicmotion.errors import UsageError

ROW_GROUPS = {"to_qkv": 3, "time_conv": 2}  # tensors whose first dimension is several groups of channels, by layer


@torch.no_grad()
def widen(wide: nn.Module, narrow: nn.Module, generator: torch.Generator) -> None:
    """Sets the weights of `wide`, a Wan decoder, to give what `narrow` gives; its attention alone becomes sharper.

    Each width must be the same or a whole multiple. The shares are drawn, so that copies learn different things.

    Raises: UsageError for widths that are none.
    """
    old = narrow.state_dict()
    for name, new in wide.state_dict().items():
        groups = next((count for layer, count in ROW_GROUPS.items() if layer in name), 1)
        new.copy_(_columns(_rows(old[name], len(new), groups), new, generator))


def _rows(old: torch.Tensor, rows: int, groups: int) -> torch.Tensor:
    copies = _multiple(rows, len(old))
    return old.unflatten(0, (groups, -1)).repeat(1, copies, *[1] * (old.ndim - 1)).flatten(0, 1)


def _columns(old: torch.Tensor, new: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if new.ndim == 1 or new.shape[1] == old.shape[1]:
        return old
    copies = _multiple(new.shape[1], old.shape[1])
    shares = torch.rand((old.shape[0], copies, old.shape[1]), generator=generator)
    shares = (shares / shares.sum(1, keepdim=True)).flatten(1)
    tiled = old.repeat(1, copies, *[1] * (old.ndim - 2))
    return tiled * shares.view(*shares.shape, *[1] * (old.ndim - 2))


def _multiple(new: int, old: int) -> int:
    if new % old:
        raise UsageError(f"a layer of {new} channels cannot begin as one of {old}; take a multiple of its width")
    return new // old

"""Unit noise: where it is drawn and from which generators. A given seed gives the numbers that diffusers would draw."""

from collections.abc import Sequence

import torch

Generators = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(
    shape: Sequence[int], generator: Generators, device: torch.device, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Normal random numbers of unit variance, on `device`.

    Args:
        shape: (batch, ...).
        generator: one source for all, or a list with one for each entry of the batch. Numbers are drawn on the
            generator's own device: those of a CPU generator are the same wherever they are used.

    Raises:
        ValueError: for a list that has not one generator for each entry.
    """
    if isinstance(generator, list | tuple):
        require_one_each(generator, shape[0])
        return torch.cat([draw_noise((1, *shape[1:]), one, device, dtype) for one in generator])
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=source, dtype=dtype).to(device)


def require_one_each(generator: Generators, count: int) -> None:
    """Raises: ValueError for a list of generators that is longer or shorter than `count`."""
    if isinstance(generator, list | tuple) and len(generator) != count:
        raise ValueError(
            f"{len(generator)} generators for {count} videos: pass one generator, or a list with one for each video"
        )

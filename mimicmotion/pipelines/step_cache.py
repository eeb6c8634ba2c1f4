"""Deep features of a UNet used again in the steps between two whole ones (DeepCache, arXiv 2312.00858).

From one sampling step to the next the inner, coarse features change little. In a step that uses them again only the
outermost down and up block are computed; what the inner up blocks would have given is taken from the last whole step.
"""

import contextlib
from collections.abc import Hashable, Iterator

import torch
from torch import nn


class StepCache:
    """The stores of one sampling run: one for each key, so that neither tiles nor halves of guidance mix.

    A store holds the input of the innermost of the outer upsamplers, before it is enlarged: a quarter of what comes
    behind it.

    Args:
        unet: diffusers' UNetSpatioTemporalConditionModel with two levels or more, its whole not compiled.
        interval: calls with one key from one whole computation to the next; 1 computes all.

    Raises: ValueError for an interval below 1 and for a UNet that was compiled as a whole.
    """

    def __init__(self, unet: nn.Module, interval: int):
        if interval < 1:
            raise ValueError(f"step_cache is {interval}; it must be 1 or more")
        if interval > 1 and (hasattr(unet, "_orig_mod") or unet._compiled_call_impl is not None):
            raise ValueError("step_cache leaves blocks out; a UNet compiled as a whole has none: compile its blocks")
        self._unet, self._interval = unet, interval
        self._deep: dict[Hashable, torch.Tensor] = {}
        self._uses: dict[Hashable, int] = {}

    @contextlib.contextmanager
    def step(self, key: Hashable) -> Iterator[None]:
        """Makes the UNet's call within a whole one or one that uses what the store of `key` holds."""
        if self._interval == 1:
            yield
            return
        self._uses[key] = (self._uses.get(key, -1) + 1) % self._interval
        if self._uses[key]:
            with self._inner_blocks_left_out(self._deep[key]):
                yield
        else:
            with self._kept_under(key):
                yield

    @contextlib.contextmanager
    def _kept_under(self, key: Hashable) -> Iterator[None]:
        def keep(_module, arguments):
            self._deep[key] = arguments[0]

        hook = self._upsampler.register_forward_pre_hook(keep)
        try:
            yield
        except BaseException:
            # A call that was cut off has stored nothing that the next may use.
            self._uses.pop(key, None)
            raise
        finally:
            hook.remove()

    @contextlib.contextmanager
    def _inner_blocks_left_out(self, deep: torch.Tensor) -> Iterator[None]:
        *inner, last = self._unet.up_blocks[:-1]
        stubs = {block: _down_stub(block) for block in self._unet.down_blocks[1:]}
        stubs |= dict.fromkeys([self._unet.mid_block, *inner], lambda hidden_states, **_: hidden_states)
        stubs[last] = lambda upsample_size=None, **_: self._upsampler(deep, upsample_size)
        with contextlib.ExitStack() as stack:
            for block, stub in stubs.items():
                stack.enter_context(_forward_replaced(block, stub))
            yield

    @property
    def _upsampler(self) -> nn.Module:
        return self._unet.up_blocks[-2].upsamplers[0]


def _down_stub(block: nn.Module):
    """In place of a down block: as many skip tensors as it has; nobody computes with them."""
    count = len(block.resnets) + (0 if block.downsamplers is None else len(block.downsamplers))
    return lambda hidden_states, **_: (hidden_states, (hidden_states,) * count)


@contextlib.contextmanager
def _forward_replaced(module: nn.Module, stub) -> Iterator[None]:
    own = module.__dict__.get("forward")
    module.forward = stub
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own

"""A GPU that computes nothing: fake CUDA tensors, their bytes counted as they come and go.

torch carries devices, types and shapes through every operation and refuses to mix devices, so that a run on this card
shows what a run on a real one would move, wait for and hold. What it cannot show is time, the workspaces of kernels and
what an allocator loses between its blocks. Attention counts as a flash kernel does: its output alone.
"""

import contextlib
import weakref
from collections import Counter

import accelerate.hooks
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
# Without a driver torch asks nobody which device is current.
GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>); }
"""
READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)


def require_guard(folder):
    """Builds and loads what lets CUDA tensors exist without CUDA; skips the test where that cannot be built."""
    if torch.version.cuda is not None:
        pytest.skip("this torch has a CUDA of its own")
    from torch.utils import cpp_extension

    if not cpp_extension.is_ninja_available():
        pytest.skip("no ninja to build the device guard with")
    try:
        cpp_extension.load_inline(
            "no_cuda_guard", GUARD, build_directory=str(folder), is_python_module=False, no_implicit_headers=True
        )
    except (RuntimeError, OSError) as error:
        pytest.skip(f"the device guard cannot be built: {str(error).splitlines()[0]}")


class Card(TorchDispatchMode):
    """Counts while it is entered: bytes on the card now and at the most, by stage; copies; reads that wait for it."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.stage, self.peaks = "", Counter()
        self.reads, self.copied = Counter(), Counter()
        self._alive = {}

    @contextlib.contextmanager
    def during(self, stage):
        """Counts under a name of its own."""
        before, self.stage = self.stage, stage
        self.peaks[stage] = max(self.peaks[stage], self.now)
        try:
            yield
        finally:
            self.stage = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS:
            self.reads[self.stage] += args[0].device.type == "cuda"
            return True if args[0].dtype == torch.bool else 1
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                self._note(tensor)
        if func is torch.ops.aten._to_copy.default and args[0].device != result.device:
            way = f"{args[0].device.type} to {result.device.type}"
            self.copied[way, self.stage] += result.numel() * result.element_size()
        return result

    def _note(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        self._alive[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self.peaks[self.stage] = max(self.peaks[self.stage], self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key):
        self.now -= self._alive.pop(key, 0)


def flash(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """What a flash kernel keeps; it takes no mixture of devices or types."""
    assert query.device == key.device == value.device
    assert query.dtype == key.dtype == value.dtype
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def apply_without_data(module, function, recurse=True):
    """nn.Module._apply for fake parameters, which cannot be given other data."""
    for child in module.children():
        child._apply(function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(function(parameter.detach()), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def set_without_data(module, name, device, value=None, **_):
    """accelerate's set_module_tensor_to_device for fake parameters."""
    *path, name = name.split(".")
    for part in path:
        module = getattr(module, part)
    if name in module._parameters:
        value = module._parameters[name] if value is None else value
        module._parameters[name] = nn.Parameter(value.detach().to(device), requires_grad=False)
    else:
        module._buffers[name] = (module._buffers[name] if value is None else value).to(device)


@contextlib.contextmanager
def fake_card(monkeypatch):
    """Yields a Card; within, tensors are fake and live where they say."""
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", flash)
        patch.setattr(nn.Module, "_apply", apply_without_data)
        patch.setattr(accelerate.hooks, "set_module_tensor_to_device", set_without_data)
        card = Card()
        with FakeTensorMode(allow_non_fake_inputs=True), card, torch.no_grad():
            yield card


def placed(module, device, dtype):
    """A module made on the meta device, with fake weights."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=dtype, device=device)
                part._parameters[name] = nn.Parameter(fake, requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                kind = dtype if buffer.is_floating_point() else buffer.dtype
                part._buffers[name] = torch.empty(buffer.shape, dtype=kind, device=device)
    return module.eval().requires_grad_(False)

"""Few-step (LCM) weights applied to a pipeline's UNet, in whichever of three forms they come.

- "peft": a low-rank adapter with PEFT's or diffusers' names, old or new, see `lora_names`;
- "kohya": the same with kohya's names, `lora_unet_NAME_WITH_UNDERSCORES.lora_down.weight`, `.lora_up.weight`, `.alpha`;
- "unet": a complete UNet, as AnimateLCM-SVD-xt-1.1.safetensors is. Loading it would undo MimicMotion's training, so
  what it changed against its own base is added: W + scale * (W_lcm - W_svd), the arithmetic by which the AnimateLCM
  paper (arXiv 2402.00769, section 4.2) combines its "acceleration" with other fine-tuned weights.

PoseNet is never touched. Sums are made in fp32 and cast last.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mimicmotion.device import give_back_memory
from mimicmotion.errors import SetupError, UsageError
from mimicmotion.weights.layouts import plain_name, plainly_named
from mimicmotion.weights.lookup import broken, find_lcm_file, find_svd_unet, listing, strip_prefix
from mimicmotion.weights.lora_names import is_lora, read_key
from mimicmotion.weights.original_svd import is_original_unet, unet_of, unet_places
from mimicmotion.weights.tensors import Tensors, check_shapes, open_tensors

log = logging.getLogger(__name__)

ADAPTER = "lcm"
LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)
# Above this share of the base's size a difference is hardly that of a fine-tuned copy.
UNRELATED = 0.5


@dataclass(frozen=True)
class LcmReport:
    """What was applied.

    Attributes:
        kind: "peft", "kohya" or "unet".
        path: the file it was read from.
        matched: layers (of a LoRA) or tensors (of a UNet) of the pipeline's UNet that it changed.
        scale: the factor asked for.
        fused: whether the weights themselves were changed; otherwise a live adapter computes beside them.
        ranks: the smallest and the largest rank of a LoRA; None for a UNet.
        relative_change: norm of all that was added, over the norm of the weights it was added to.
    """

    kind: str
    path: Path
    matched: int
    scale: float
    fused: bool
    ranks: tuple[int, int] | None
    relative_change: float

    def __str__(self) -> str:
        form = {"peft": "a PEFT/diffusers LoRA", "kohya": "a kohya-style LoRA", "unet": "a complete UNet"}[self.kind]
        rank = f" of rank {self.ranks[0]} to {self.ranks[1]}" if self.ranks else ""
        how = ("merged as a difference" if self.kind == "unet" else "fused") if self.fused else "kept as live adapter"
        unit = "tensors" if self.kind == "unet" else "layers"
        change = f"scale {self.scale:g}, relative change {self.relative_change:.2e}"
        return f"{self.path} is {form}{rank}: {how}, {self.matched} {unit}, {change}"


@dataclass(frozen=True)
class LoraLayer:
    """The low-rank change of one layer, factor * up @ down.

    down: (rank, in, *kernel); up: (out, rank) or (out, rank, 1, ...); factor: alpha / rank.
    """

    down: torch.Tensor
    up: torch.Tensor
    factor: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self, like: torch.Tensor) -> torch.Tensor:
        """The change as a weight in fp32, with the shape and on the device of `like`."""
        down, up = (matrix.to(like.device, torch.float32).flatten(1) for matrix in (self.down, self.up))
        return (self.factor * (up @ down)).reshape(like.shape)


def apply_lcm_weights(
    pipeline,
    path: str | Path,
    *,
    weight_name: str | None = None,
    scale: float = 1.0,
    fuse: bool = True,
    svd_base: str | Path | None = None,
) -> LcmReport:
    """Applies few-step weights to `pipeline.unet` in place and says in the log which form they had.

    Args:
        path: a file, a folder or a model of the hub.
        weight_name: the file inside a folder or a model; by default pytorch_lora_weights.safetensors, or the only
            weight file of a folder.
        scale: how much of the change is applied; 0 leaves the model as it was.
        fuse: change the weights (no cost per call); otherwise a LoRA is kept as a live adapter.
        svd_base: for a complete UNet, the one its training started from: a file, a UNet's folder, an SVD folder in
            diffusers' layout or a model of the hub.

    Raises: SetupError when a file is absent or damaged, matches the UNet in part or not at all, has other shapes or
        values that are not finite, or when `svd_base` is needed and absent; UsageError for a live adapter of a
        complete UNet. The UNet may be changed in part only when values that are not finite turn up in a complete
        UNet: build the pipeline anew then.
    """
    tensors, kind = _open_lcm(path, weight_name, pipeline.unet, fuse)
    if kind == "unet":
        report = merge_unet(pipeline.unet, tensors, svd_base, scale)
    else:
        report = apply_lora(pipeline.unet, tensors, kind, scale, fuse)
    give_back_memory()
    log.info("LCM weights: %s", report)
    return report


def check_lcm_weights(
    unet: nn.Module,
    path: str | Path,
    *,
    weight_name: str | None = None,
    fuse: bool = True,
    svd_base: str | Path | None = None,
) -> None:
    """Finds out whether `apply_lcm_weights` could apply the weights to `unet`, which may be an empty one.

    Raises: SetupError and UsageError as `apply_lcm_weights`, but for what only the sum of weights shows.
    """
    tensors, kind = _open_lcm(path, weight_name, unet, fuse)
    if kind != "unet":
        read_lora(tensors, unet)
        return
    expected = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    for file in (tensors, open_tensors(find_svd_unet(svd_base, tensors.path))):
        _same_keys(file, expected)


def _open_lcm(path: str | Path, weight_name: str | None, unet: nn.Module, fuse: bool) -> tuple[Tensors, str]:
    """The weights and which form they have. Raises: as `apply_lcm_weights`."""
    tensors = open_tensors(find_lcm_file(path, weight_name))
    kind = recognise(tensors, unet)
    if kind == "unet" and not fuse:
        remedy = "drop --no_fuse_lcm_lora, or make a LoRA of it with scripts/extract_lcm_lora.py"
        raise UsageError(f"{tensors.path} is a complete UNet, which cannot be kept as a live adapter; {remedy}")
    return tensors, kind


def recognise(tensors: Tensors, unet: nn.Module) -> str:
    """Which form the weights have: "peft", "kohya" or "unet". Raises: SetupError when it is none of them."""
    if any(".lora_A." in name for name in tensors):
        return "peft"
    if any(".lora_down." in name for name in tensors):
        return "kohya"
    if is_lora(tensors):
        return "peft"
    own = set(unet.state_dict())
    shared = sum(plain_name(name) in own for name in tensors)
    if 2 * shared > len(own) or is_original_unet(tensors):
        return "unet"
    what = f"is neither a LoRA nor a UNet like the pipeline's; it holds {listing(tensors)}"
    raise SetupError(f"{tensors.path} {what}; check --lcm_lora_path")


def apply_lora(unet: nn.Module, tensors: Tensors, kind: str, scale: float, fuse: bool) -> LcmReport:
    """Fuses a LoRA into the UNet's weights or attaches it as an adapter. Raises: SetupError if it does not fit."""
    layers = read_lora(tensors, unet)
    change = size = 0.0
    for name, layer in layers.items():
        weight = unet.get_submodule(name).weight
        delta = layer.delta(weight) * scale
        merged = weight.detach().float() + delta
        change, size = change + delta.square().sum().item(), size + weight.float().square().sum().item()
        if fuse:
            _store(weight, merged, name, tensors.path)
    if not fuse:
        attach_adapter(unet, layers, scale)
    ranks = [layer.rank for layer in layers.values()]
    relative = (change / size) ** 0.5 if size else float("inf")
    return LcmReport(kind, tensors.path, len(layers), scale, fuse, (min(ranks), max(ranks)), relative)


def _store(parameter: torch.Tensor, merged: torch.Tensor, name: str, path: Path) -> None:
    value = merged.to(parameter.dtype)
    if not torch.isfinite(value).all():
        raise broken(path, f"leads to values of {name} that are not finite in {parameter.dtype}")
    # In place: a new tensor for each old one would leave the memory full of holes, which the system never gets back.
    parameter.data.copy_(value)


def read_lora(tensors: Tensors, unet: nn.Module) -> dict[str, LoraLayer]:
    """Module name -> low-rank change, every tensor of the file accounted for.

    Raises: SetupError that lists keys which match no layer of the UNet, halves without their other half, shapes that
    do not fit, and values that are not finite.
    """
    names = _layer_names(unet)
    parts: dict[str, dict[str, str]] = {}
    unmatched, adapters = [], set()
    for key in tensors:
        named = read_key(key)
        module = names.get(named.module) if named else None
        if module is None:
            unmatched.append(key)
            continue
        other = parts.setdefault(module, {}).setdefault(named.part, key)
        if named.part != "alpha":
            adapters.add(named.adapter or "default")
        if other != key and len(adapters) < 2:
            raise broken(tensors.path, f"holds the same weights twice, as {other} and as {key}")
    if len(adapters) > 1:
        what = f"holds several LoRAs, {listing(sorted(adapters))}"
        raise SetupError(f"{tensors.path} {what}; save the one that is meant in a file of its own")
    if unmatched:
        what = "none of its keys matches" if not parts else "some of its keys match no layer of"
        raise broken(tensors.path, f"does not fit: {what} the UNet: {listing(unmatched)}")
    halves = [name for name, keys in parts.items() if not {"down", "up"} <= keys.keys()]
    if halves:
        raise broken(tensors.path, f"has only one half of the LoRA of {listing(halves)}")
    alphas = _alphas(tensors)
    return {name: _lora_layer(tensors, name, keys, unet, alphas) for name, keys in parts.items()}


def _layer_names(unet: nn.Module) -> dict[str, str]:
    """All names of every layer that a LoRA can change -> its own: the original layout's too, and kohya's of both."""
    places = unet_places(unet.state_dict())
    layers = [name for name, module in unet.named_modules() if isinstance(module, LAYERS)]
    names = {places[f"{name}.weight"].removesuffix(".weight"): name for name in layers}
    names |= {name: name for name in layers}
    return {name.replace(".", "_"): layer for name, layer in names.items()} | names


def _lora_layer(
    tensors: Tensors, name: str, keys: dict[str, str], unet: nn.Module, alphas: Callable[[str, int], float]
) -> LoraLayer:
    down, up = tensors[keys["down"]], tensors[keys["up"]]
    weight = unet.get_submodule(name).weight
    fits = (
        down.ndim > 1
        and up.ndim > 1
        and up.shape[1] == down.shape[0]
        and up.shape[0] == weight.shape[0]
        and up[0, 0].numel() == 1
        and down[0].numel() == weight[0].numel()
    )
    if not fits:
        shapes = f"{tuple(down.shape)} and {tuple(up.shape)} for a weight of {tuple(weight.shape)}"
        raise broken(tensors.path, f"has a LoRA that does not fit {name}: {shapes}")
    if not (down.is_floating_point() and up.is_floating_point()):
        raise broken(tensors.path, f"holds {name} in {down.dtype} and {up.dtype}; a LoRA has floating numbers")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise broken(tensors.path, f"holds values that are not finite for {name}")
    rank = down.shape[0]
    alpha = tensors[keys["alpha"]].item() if "alpha" in keys else alphas(name, rank)
    return LoraLayer(down, up, alpha / rank)


def _alphas(tensors: Tensors) -> Callable[[str, int], float]:
    """(module name, rank) -> alpha, from the file's metadata or PEFT's adapter_config.json beside it.

    Without either alpha equals the rank, that is, the product is added as it is: diffusers' convention.
    """
    config = _adapter_config(tensors)
    patterns = config.get("alpha_pattern") or {}

    def alpha(name: str, rank: int) -> float:
        for pattern, value in patterns.items():
            if re.match(rf"(.*\.)?({pattern})$", name):
                return float(value)
        return float(config.get("lora_alpha") or rank)

    return alpha


def _adapter_config(tensors: Tensors) -> dict:
    stored = tensors.metadata.get("lora_adapter_metadata")
    beside = tensors.path.with_name("adapter_config.json")
    try:
        if stored is not None:
            # diffusers stores one flat dictionary for all parts of a pipeline, each name led by its part.
            config = {strip_prefix(name, "unet."): value for name, value in json.loads(stored).items()}
        else:
            config = json.loads(beside.read_text()) if beside.is_file() else {}
    except (OSError, ValueError, AttributeError) as error:
        raise broken(beside if stored is None else tensors.path, f"has an unreadable LoRA config ({error})") from error
    unsupported = [name for name in ("use_dora", "use_rslora") if config.get(name)]
    if unsupported:
        raise SetupError(f"{tensors.path} is a variant of LoRA that is not supported ({listing(unsupported)})")
    return config


def attach_adapter(unet: nn.Module, layers: dict[str, LoraLayer], scale: float) -> None:
    """Adds the LoRA as PEFT layers named `lcm` that compute beside the unchanged weights, in the weights' dtype.

    diffusers' spatio-temporal UNet cannot load adapters by itself, so PEFT wraps its layers directly.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=1,
        target_modules="|".join(re.escape(name) for name in layers),
        rank_pattern={f"^{re.escape(name)}": layer.rank for name, layer in layers.items()},
        init_lora_weights=False,
    )
    inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    for name, layer in layers.items():
        wrapper = unet.get_submodule(name)
        weight = wrapper.base_layer.weight
        wrapper.lora_A[ADAPTER].weight.data = layer.down.to(weight).reshape(wrapper.lora_A[ADAPTER].weight.shape)
        wrapper.lora_B[ADAPTER].weight.data = layer.up.to(weight).reshape(wrapper.lora_B[ADAPTER].weight.shape)
        wrapper.scaling[ADAPTER] = layer.factor * scale
    unet.eval().requires_grad_(False)


def merge_unet(unet: nn.Module, tensors: Tensors, svd_base: str | Path | None, scale: float) -> LcmReport:
    """Adds scale * (tensors - svd_base) to the UNet's weights, tensor by tensor. See `apply_lcm_weights`."""
    base_path = find_svd_unet(svd_base, tensors.path)
    expected = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    trained, base = (_same_keys(file, expected) for file in (tensors, open_tensors(base_path)))
    change = size = 0.0
    parameters = dict(unet.named_parameters()) | dict(unet.named_buffers())
    for name in expected:
        parameter = parameters[name]
        if not parameter.is_floating_point():
            continue
        original = base[name].float()
        delta = (trained[name].float() - original) * scale
        change, size = change + delta.square().sum().item(), size + original.square().sum().item()
        _store(parameter, parameter.data.float() + delta.to(parameter.device), name, tensors.path)
    relative = (change / size) ** 0.5 if size else float("inf")
    _warn_of_base(tensors.path, base, base_path, relative, scale)
    for file in (tensors, base):
        if file.eight_bit:
            log.warning("%s is stored in 8-bit floats: their rounding is a large part of the difference", file.path)
    return LcmReport("unet", tensors.path, len(expected), scale, True, None, relative)


def _warn_of_base(path: Path, base: Tensors, base_path: Path, relative: float, scale: float) -> None:
    if relative > UNRELATED * abs(scale):
        what = "differs from it like an unrelated model; expect noise unless that is the base it was trained from"
        log.warning("%s, base %s: %s (relative change %.2f)", path, base_path, what, relative)
    if base[next(iter(base))].dtype != torch.float32:
        log.warning("%s is stored in half precision: its rounding becomes part of the difference", base_path)


def _same_keys(tensors: Tensors, expected: dict[str, torch.Size]) -> Tensors:
    renamed = unet_of(tensors, expected) if is_original_unet(tensors) else plainly_named(tensors)
    extras = sorted(set(renamed) - set(expected))
    if extras:
        raise broken(tensors.path, f"is a UNet with weights that the pipeline's does not have: {listing(extras)}")
    check_shapes(renamed, expected, "UNet")
    return renamed

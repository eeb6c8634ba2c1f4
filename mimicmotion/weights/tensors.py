"""Weight files: found, recognised, read tensor by tensor and fingerprinted, without running anything they hold.

This module knows files and the model hub; what the tensors mean is known to `loading` and `lora`.
"""

import contextlib
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from mimicmotion.errors import SetupError
from mimicmotion.weights.lookup import SHARD, broken, check_head, is_index, listing, read_index
from mimicmotion.weights.manifest import verify_small
from mimicmotion.weights.scales import EIGHT_BIT, scaled, scales_of

log = logging.getLogger(__name__)


class Tensors(Mapping):
    """The tensors of one file by name. A tensor is read when it is asked for, so a file may exceed the memory.

    Attributes:
        path: the file.
        kind: how it is stored: "safetensors", "zip" (PyTorch's usual format) or "pickle" (its old one).
        shapes: name -> shape, known without reading a tensor.
        metadata: text -> text, as stored in a safetensors file; empty for others.
        eight_bit: whether some are stored in 8-bit floats; they are read in float32 with their `scales` applied.
        scales: name -> name of the tensor that scales it.
    """

    def __init__(
        self,
        path: Path,
        shapes: dict[str, torch.Size],
        read: Callable[[str], torch.Tensor],
        metadata: dict[str, str] | None = None,
        kind: str = "safetensors",
        eight_bit: bool = False,
    ):
        self.path, self.metadata, self.kind, self.eight_bit = path, metadata or {}, kind, eight_bit
        self.scales, unused, homeless = scales_of(shapes)
        if homeless:
            raise broken(path, f"is stored in fewer bits with scales that cannot be placed: {listing(homeless)}")
        hidden = {*self.scales.values(), *unused}
        self.shapes = {name: shape for name, shape in shapes.items() if name not in hidden}
        self._read = read

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        tensor = self._read(name)
        if tensor.dtype not in EIGHT_BIT:
            if name in self.scales or (tensor.is_floating_point() and tensor.element_size() == 1):
                raise broken(self.path, f"holds {name} in {tensor.dtype}, which cannot be used")
            return tensor
        if name not in self.scales:
            return tensor.float()
        try:
            return scaled(tensor, self._read(self.scales[name]))
        except ValueError as error:
            raise broken(self.path, f"has {error} ({name})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def renamed(self, names: dict[str, str]) -> "Tensors":
        """The same tensors under new names; `names` is new name -> name in the file."""
        shapes = {new: self.shapes[old] for new, old in names.items()}
        return Tensors(self.path, shapes, lambda new: self[names[new]], self.metadata, self.kind, self.eight_bit)

    def rearranged(self, parts: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]]) -> "Tensors":
        """Tensors made of these; `parts` is new name -> (name in the file, what makes the new tensor of that one)."""
        shapes = {}
        for new, (old, pick) in parts.items():
            with torch.device("meta"):
                shapes[new] = pick(torch.empty(self.shapes[old])).shape

        def read(new: str) -> torch.Tensor:
            old, pick = parts[new]
            return pick(self[old])

        return Tensors(self.path, shapes, read, self.metadata, self.kind, self.eight_bit)


class Stored(NamedTuple):
    """What one file holds, scales among the rest: the arguments of Tensors after its path."""

    shapes: dict[str, torch.Size]
    read: Callable[[str], torch.Tensor]
    metadata: dict[str, str] | None = None
    kind: str = "safetensors"
    eight_bit: bool = False


def open_tensors(path: str | Path) -> Tensors:
    """Opens a safetensors or PyTorch file that holds tensors by name, or the index of several that do so together; the
    content decides, and may not contradict a suffix .safetensors.

    PyTorch files are read with `weights_only=True`: objects other than tensors are refused, their code never runs.
    Weights stored in 8-bit floats come out in float32, with their scales applied.

    Raises: SetupError that names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    return Tensors(path, *(_joined(path) if is_index(path) else _stored(path)))


def _joined(index: Path) -> Stored:
    """What the files that an index names hold together. A scale may lie in another file than its weight."""
    places = read_index(index)
    files = {path: _stored(path) for path in sorted(set(places.values()))}
    for path, stored in files.items():
        if missing := sorted(name for name, place in places.items() if place == path and name not in stored.shapes):
            raise broken(path, f"lacks weights that {index.name} says it has: {listing(missing)}")
    homes = {name: path for path, stored in files.items() for name in stored.shapes} | places
    shapes = {name: files[path].shapes[name] for name, path in homes.items()}
    first = files[next(iter(files))]
    eight_bit = any(stored.eight_bit for stored in files.values())
    return Stored(shapes, lambda name: files[homes[name]].read(name), first.metadata, first.kind, eight_bit)


def _stored(path: Path) -> Stored:
    kind = _recognise(path)
    if kind != "safetensors" and path.suffix == ".safetensors":
        # torch.load itself goes by this suffix.
        raise broken(path, f"is a PyTorch file under a safetensors file's name; rename it to {path.stem}.bin")
    verify_small(path)
    return _open_safetensors(path) if kind == "safetensors" else _open_torch(path, kind)


def _recognise(path: Path) -> str:
    head = check_head(path)
    if head.startswith(b"PK"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "pickle"
    raise broken(path, "is neither a safetensors nor a PyTorch file")


def _open_safetensors(path: Path) -> Stored:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise broken(path, f"is not a whole safetensors file ({error})") from error
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    shapes = {name: torch.Size(part.get_shape()) for name, part in slices.items()}
    eight_bit = any(part.get_dtype().startswith("F8") for part in slices.values())
    _refuse_integers(path, [name for name, part in slices.items() if part.get_dtype() in ("I8", "U8")], shapes)
    return Stored(shapes, file.get_tensor, file.metadata(), eight_bit=eight_bit)


def _open_torch(path: Path, kind: str) -> Stored:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except pickle.UnpicklingError as error:
        what = "holds pickled objects other than tensors, which could run code and are not read"
        raise broken(path, what) from error
    except (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise broken(path, f"is damaged or cut short ({reason})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise broken(path, f"holds a {type(state).__name__}, not tensors by name")
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others or not state:
        raise broken(path, f"is not a state dict: {listing(others) if others else 'it holds nothing'}")
    eight_bit = any(tensor.dtype in EIGHT_BIT for tensor in state.values())
    shapes = {name: tensor.shape for name, tensor in state.items()}
    integers = [name for name, tensor in state.items() if tensor.dtype in (torch.int8, torch.uint8)]
    _refuse_integers(path, integers, shapes)
    return Stored(shapes, state.__getitem__, kind=kind, eight_bit=eight_bit)


def _refuse_integers(path: Path, names: list[str], shapes: dict[str, torch.Size]) -> None:
    """Raises: SetupError for matrices of small integers, which mean nothing without the tool that made them."""
    matrices = [name for name in names if len(shapes[name]) > 1]
    if matrices:
        raise broken(path, f"is quantised to 8-bit integers, which cannot be used: {listing(matrices)}")


def assign_weights(
    module: torch.nn.Module, tensors: Tensors, device: torch.device, dtype: torch.dtype, what: str
) -> None:
    """Gives a module that was built on the meta device its weights, each read, converted and moved once.

    Raises: SetupError that lists what the file lacks, what has another shape and what is not finite.
    """
    own = module.state_dict()
    expected = {name: parameter.shape for name, parameter in own.items()}
    check_shapes(tensors, expected, what)
    state = {}
    for name in expected:
        tensor = tensors[name]
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise broken(tensors.path, f"holds {name} of the {what} in {tensor.dtype}; weights are floating numbers")
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        # A copy even where nothing changes: a tensor mapped from the file would change or crash the process with
        # the file, and its alignment would make the last digits of results depend on the file's format.
        state[name] = tensor.to(device=device, dtype=kept, copy=True)
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise broken(tensors.path, f"holds values of the {what} that are not finite in {dtype}: {listing(bad)}")
    module.load_state_dict(state, assign=True)
    module.eval().requires_grad_(False)


def check_shapes(tensors: Tensors, expected: Mapping[str, torch.Size], what: str) -> None:
    """Raises SetupError if `tensors` lacks a name of `expected` or has another shape for it."""
    missing = [name for name in expected if name not in tensors.shapes]
    if missing and SHARD.fullmatch(tensors.path.name):
        several = f"is one of several files that hold the {what} together; name the .index.json beside it"
        raise SetupError(f"{tensors.path} {several} (it lacks {listing(missing)})")
    if missing:
        raise broken(tensors.path, f"lacks weights of the {what}: {listing(missing)}")
    other = [
        f"{name} is {tuple(tensors.shapes[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if tensors.shapes[name] != shape
    ]
    if other:
        raise broken(tensors.path, f"does not fit the {what}: {listing(other)}")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the bars of transformers' own reading and writing, which would disturb the script's."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()

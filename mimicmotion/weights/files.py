"""Weight files: found, recognised, read tensor by tensor and fingerprinted, without running anything they hold.

This module knows files and the model hub; what the tensors mean is known to `loading` and `lora`.
"""

import contextlib
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch

from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_file, write_json

log = logging.getLogger(__name__)

REMEDY = "replace it; scripts/download_weights.py fetches the published files and verifies them"
FETCH = "fetch it with scripts/download_weights.py or correct the path"
SVD_FOLDER = Path("models") / "SVD"
LISTED = 10


class Tensors(Mapping):
    """The tensors of one file by name. A tensor is read when it is asked for, so a file may exceed the memory.

    Attributes:
        path: the file.
        shapes: name -> shape, known without reading a tensor.
        metadata: text -> text, as stored in a safetensors file; empty for others.
    """

    def __init__(
        self,
        path: Path,
        shapes: dict[str, torch.Size],
        read: Callable[[str], torch.Tensor],
        metadata: dict[str, str] | None = None,
    ):
        self.path, self.shapes, self.metadata, self._read = path, shapes, metadata or {}, read

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def renamed(self, names: dict[str, str]) -> "Tensors":
        """The same tensors under new names; `names` is new name -> name in the file."""
        shapes = {new: self.shapes[old] for new, old in names.items()}
        return Tensors(self.path, shapes, lambda new: self._read(names[new]), self.metadata)


def open_tensors(path: str | Path) -> Tensors:
    """Opens a safetensors or PyTorch file that holds tensors by name; the content decides, not the suffix.

    PyTorch files are read with `weights_only=True`: objects other than tensors are refused, their code never runs.

    Raises: SetupError that names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    kind = _recognise(path)
    return _open_safetensors(path) if kind == "safetensors" else _open_torch(path, mapped=kind == "zip")


def _recognise(path: Path) -> str:
    head = check_head(path)
    if head.startswith(b"PK"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "pickle"
    raise broken(path, "is neither a safetensors nor a PyTorch file")


def check_head(path: Path) -> bytes:
    """The first bytes of a file that is not an obvious stand-in for weights.

    Raises: SetupError when it is absent, empty, a Git LFS pointer or a web page.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise SetupError(f"weights not found: {path} {what}; {FETCH}")
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise broken(path, "is empty, perhaps an interrupted download")
    if head.startswith(b"version https://git-lfs"):
        raise broken(path, "is a Git LFS pointer of a few lines, not the weights")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise broken(path, "is a web page, perhaps a log-in or error page saved instead of the weights")
    return head


def broken(path: Path, what: str) -> SetupError:
    """The error for a file that is not what it should be."""
    return SetupError(f"{path} {what}; {REMEDY}")


def _open_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise broken(path, f"is not a whole safetensors file ({error})") from error
    shapes = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return Tensors(path, shapes, file.get_tensor, file.metadata())


def _open_torch(path: Path, mapped: bool) -> Tensors:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        what = "holds pickled objects other than tensors, which could run code and are not read"
        raise broken(path, what) from error
    except (RuntimeError, EOFError, ValueError, IndexError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise broken(path, f"is damaged or cut short ({reason})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise broken(path, f"holds a {type(state).__name__}, not tensors by name")
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others or not state:
        raise broken(path, f"is not a state dict: {listing(others) if others else 'it holds nothing'}")
    return Tensors(path, {name: tensor.shape for name, tensor in state.items()}, state.__getitem__)


def listing(names: Iterable[str]) -> str:
    """The first names and how many there are in all: "a, b (2 in all)"."""
    names = list(names)
    return f"{', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''} ({len(names)} in all)"


def strip_prefix(name: str, *prefixes: str) -> str:
    """`name` without the leading `prefixes`, each removed at most once and in the order given."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


def assign_weights(
    module: torch.nn.Module, tensors: Tensors, device: torch.device, dtype: torch.dtype, what: str
) -> None:
    """Gives a module that was built on the meta device its weights, each read, converted and moved once.

    Raises: SetupError that lists what the file lacks, what has another shape and what is not finite.
    """
    expected = {name: parameter.shape for name, parameter in module.state_dict().items()}
    check_shapes(tensors, expected, what)
    state = {}
    for name in expected:
        tensor = tensors[name]
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
    if missing:
        raise broken(tensors.path, f"lacks weights of the {what}: {listing(missing)}")
    other = [
        f"{name} is {tuple(tensors.shapes[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if tensors.shapes[name] != shape
    ]
    if other:
        raise broken(tensors.path, f"does not fit the {what}: {listing(other)}")


def find_weights(folder: Path, stems: tuple[str, ...] = ("diffusion_pytorch_model",)) -> Path:
    """The weight file of a diffusers component: full precision before the fp16 variant, safetensors before .bin.

    Raises: SetupError when there is none.
    """
    for variant in ("", ".fp16"):
        for stem in stems:
            for suffix in (".safetensors", ".bin"):
                path = folder / f"{stem}{variant}{suffix}"
                if path.exists() or path.is_symlink():
                    return path
    raise SetupError(f"no weights in {folder}: expected {stems[0]}.safetensors; {FETCH}")


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form owner/name of a model on the hub and is no path of this machine."""
    parts = str(name).split("/")
    return len(parts) == 2 and all(parts) and not set("\\:~") & set(str(name)) and parts[0] not in (".", "..")


def local_copy(name: str) -> Path | None:
    """Where scripts/download_weights.py puts the base model `name` of the hub, if it is there; says so in the log."""
    folder = SVD_FOLDER / name.split("/")[-1]
    if not folder.is_dir():
        return None
    log.info("%s: using the copy in %s", name, folder)
    return folder


def from_hub(
    name: str, fetch: Callable[..., str], complete: Callable[[Path], bool] | None = None, **options
) -> Path:
    """Calls a download function of huggingface_hub for the model `name`, first without the network, then with.

    Args:
        fetch: `hf_hub_download` or `snapshot_download`, called with `name` and `options`.
        complete: tells whether what the local cache has is enough; without it anything found is.

    Raises: SetupError that says how to get access when the model is gated, absent or the hub out of reach.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            path = Path(fetch(name, local_files_only=True, **options))
            if complete is None or complete(path):
                return path
        log.info("%s is not, or not wholly, in the local cache; asking the hub", name)
        return Path(fetch(name, **options))
    except hub_errors() as error:
        raise SetupError(explain_hub_error(name, error)) from error


def hub_errors() -> tuple[type[Exception], ...]:
    """What calls to the hub raise when the network, the access or the name is the trouble."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport_error = HfHubHTTPError.__bases__[0]  # the HTTP client's own base class; the client varies by version
    return OSError, HFValidationError, transport_error


def explain_hub_error(name: str, error: Exception) -> str:
    """One sentence or two on why the hub did not give `name`, and what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    page = f"https://huggingface.co/{name}"
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: accept its licence on {page} while logged in, then run `hf auth login` here"
    if isinstance(error, RepositoryNotFoundError):
        return f"{name} is neither a local folder nor a model on the hub (or it is private: run `hf auth login`)"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{name} on the hub lacks the file that is needed: {error}"
    where = "fetch the weights with scripts/download_weights.py on a machine with access and copy them here"
    return f"{name} is neither a local folder nor cached, and the hub is out of reach; {where}, or correct the path"


def cached_sha256(path: str | Path) -> str:
    """The SHA-256 of a file, remembered between runs for as long as its size and times stay as they are.

    Hashing 10 GB takes seconds to minutes. The memory is a JSON file in the user's cache folder; the change time
    is part of its key, so that a file swapped for another with the same size and date is noticed too. Where the
    folder cannot be written the file is hashed each time.
    """
    path = Path(path).resolve()
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    known = _read_hashes()
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        return entry["sha256"]
    digest = sha256_file(path)
    known = _read_hashes() | {str(path): {"stamp": stamp, "sha256": digest}}
    try:
        write_json(_hashes_path(), {name: value for name, value in known.items() if Path(name).exists()})
    except (SetupError, OSError) as error:
        log.debug("the hash of %s is not remembered: %s", path, error)
    return digest


def _hashes_path() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mimicmotion" / "sha256.json"


def _read_hashes() -> dict:
    try:
        known = json.loads(_hashes_path().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


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

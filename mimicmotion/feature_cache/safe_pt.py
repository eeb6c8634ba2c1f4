"""`.pt` files of tensors and plain values: written whole, and read as if a stranger had written them.

A guard, not a sandbox: nothing in a file is executed, nothing is allocated on its word alone, and what a zip
checksum can see is seen.
"""

import io
import pickle
import stat
import zipfile
from pathlib import Path

import torch

from mimicmotion.errors import InputError
from mimicmotion.files import write_bytes

MAX_BYTES = 8 * 2**30
MAX_DEPTH = 8
PLAIN = (str, int, float, bool, type(None))
# What torch.load raises for foreign, damaged or hostile content.
LOAD_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, IndexError, KeyError, ValueError, TypeError)
LOAD_ERRORS += (AttributeError, OSError, AssertionError, MemoryError, RecursionError)


def save_pt(path: str | Path, content: dict) -> None:
    """Writes a dictionary of tensors and plain values (texts, numbers, None, lists and dictionaries of them).

    Tensors come to the CPU and are stored without what lies around them in memory. Equal content gives equal bytes.

    Raises: TypeError for anything that `load_pt` would refuse; SetupError when the file cannot be written.
    """
    write_bytes(path, to_pt(content))


def to_pt(content: dict) -> memoryview:
    """The bytes that `save_pt` writes. Made in memory first: torch.save into a file hides why writing fails.

    Raises: TypeError for anything that `load_pt` would refuse.
    """
    buffer = io.BytesIO()
    torch.save(_compact(content), buffer)
    return buffer.getbuffer()


def load_pt(path: str | Path, max_bytes: int = MAX_BYTES, mapped: bool = False) -> dict:
    """Reads what `save_pt` wrote: a dictionary with text keys, tensors on the CPU.

    Args:
        max_bytes: a larger file is refused.
        mapped: leave tensors in the file and read their pages when they are used, so that a long clip takes no
            memory. The file must not be changed meanwhile; replacing it, as `save_pt` does, is harmless.

    Raises: InputError that names the file when it is missing, too large, damaged or no such file, when it would
        run code, or when a tensor claims more than the file holds.
    """
    path = Path(path)
    _check_container(path, max_bytes)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except LOAD_ERRORS as error:
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is no file of tensors and plain values, or is damaged: {what}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary")
    _check_value(path, "content", content, 0)
    return content


def _check_container(path: Path, max_bytes: int) -> None:
    """Raises: InputError unless `path` is an undamaged, uncompressed zip of a sane size."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is no regular file")
        if not 0 < status.st_size <= max_bytes:
            raise InputError(f"{path} has {status.st_size} bytes; 1 to {max_bytes} are accepted")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise InputError(f"{path} holds compressed parts; no .pt file of this program does")
            if sum(member.file_size for member in members) > status.st_size:
                raise InputError(f"{path} claims more bytes than it has")
            if len({member.filename for member in members}) != len(members):
                raise InputError(f"{path} holds two parts of one name")
            damaged = archive.testzip()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or no .pt file ({error})") from error
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {damaged} is wrong")


def _check_value(path: Path, name: str, value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"{path}: '{name}' is nested too deeply")
    if isinstance(value, torch.Tensor):
        _check_tensor(path, name, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{path}: '{name}' has the key {key!r}, which is no text")
            _check_value(path, key, item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(path, name, item, depth + 1)
    elif not isinstance(value, PLAIN):
        raise InputError(f"{path}: '{name}' is a {type(value).__name__}, which is not expected here")


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Raises: InputError for a tensor that is not stored element by element, such as a view that repeats one number."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise InputError(f"{path}: '{name}' is no plain tensor")
    if not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
        raise InputError(f"{path}: '{name}' claims the shape {tuple(tensor.shape)} without holding that many numbers")


def _compact(value: object) -> object:
    """`value` as it is stored. A view would drag the whole tensor it was cut from into the file."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be texts, not {list(value)!r}")
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_compact(item) for item in value)
    if type(value) not in PLAIN:
        raise TypeError(f"a {type(value).__name__} cannot be stored; use plain Python values")
    return value

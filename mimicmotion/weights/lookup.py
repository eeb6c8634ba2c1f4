"""Which file in a folder has the weights, and what it looks like before it is read.

Nothing here reads a tensor or imports torch.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import why_no_file
from mimicmotion.places import looked_for
from mimicmotion.weights.hub import from_hub, is_hub_id

log = logging.getLogger(__name__)

REMEDY = "replace it; scripts/download_weights.py fetches the published files and verifies them"
FETCH = "fetch it with scripts/download_weights.py or correct the path"
LISTED = 10
LORA_FILE = "pytorch_lora_weights.safetensors"


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


def find_lcm_file(path: str | Path, weight_name: str | None = None) -> Path:
    """The file that a file, a folder or a model of the hub and a name stand for. Raises: SetupError."""
    local = Path(path)
    if os.path.isfile(local):
        return local
    if os.path.isdir(local):
        return _file_in_folder(local, weight_name)
    if os.path.exists(local) or not is_hub_id(str(path)):
        raise SetupError(f"LCM weights not found: {looked_for(path)} {why_no_file(local)}; {FETCH}")
    from huggingface_hub import hf_hub_download

    try:
        return from_hub(str(path), hf_hub_download, filename=weight_name or LORA_FILE)
    except SetupError as error:
        if weight_name:
            raise
        hint = f"looked for {LORA_FILE}; name another file of it with --lcm_weight_name"
        raise SetupError(f"{error} ({hint})") from error


def _file_in_folder(folder: Path, weight_name: str | None) -> Path:
    found = sorted(file for ending in ("safetensors", "bin", "pth", "pt") for file in folder.glob(f"*.{ending}"))
    if weight_name or (folder / LORA_FILE).is_file():
        file = folder / (weight_name or LORA_FILE)
        if not os.path.isfile(file):
            raise SetupError(f"no {file.name} in {folder}; weight files there: {listing(f.name for f in found)}")
        return file
    if len(found) != 1:
        what = f"holds {listing(file.name for file in found)}" if found else "holds no weight file"
        raise SetupError(f"{folder} {what}; choose one with --lcm_weight_name")
    return found[0]


def check_head(path: Path) -> bytes:
    """The first bytes of a file that is not an obvious stand-in for weights.

    Raises: SetupError when it is absent, empty, a Git LFS pointer or a web page.
    """
    if reason := why_no_file(path):
        raise SetupError(f"weights not found: {path} {reason}; {FETCH}")
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


def listing(names: Iterable[str]) -> str:
    """The first names and how many there are in all: "a, b (2 in all)"."""
    names = list(names)
    return f"{', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''} ({len(names)} in all)"


def strip_prefix(name: str, *prefixes: str) -> str:
    """`name` without the leading `prefixes`, each removed at most once and in the order given."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

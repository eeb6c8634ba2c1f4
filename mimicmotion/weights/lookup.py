"""Which file in a folder has the weights, and what it looks like before it is read.

Nothing here reads a tensor or imports torch.
"""

import json
import logging
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import why_no_file
from mimicmotion.places import looked_for
from mimicmotion.weights.hub import from_hub, is_hub_id, local_copy

log = logging.getLogger(__name__)

REMEDY = "replace it; scripts/download_weights.py fetches the published files and verifies them"
FETCH = "fetch it with scripts/download_weights.py or correct the path"
LISTED = 10
LORA_FILE = "pytorch_lora_weights.safetensors"
UNET_BEGINS = ("conv_in.weight", "input_blocks.0.0.weight")  # in diffusers' layout, and in the original one
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.(?:safetensors|bin|pth|pt)")
INDEX = re.compile(r".+\.index(?:\.[\w-]+)?\.json")  # with the variant, as in model.safetensors.index.fp16.json
PICKLED_NAMES = 16 * 2**20  # bytes of an old PyTorch file within which its tensors are named


def find_weights(folder: Path, stems: tuple[str, ...] = ("diffusion_pytorch_model",)) -> Path:
    """The weight file of a diffusers component: full precision before the fp16 variant, safetensors before .bin, one
    file before several, of which the index is named.

    Raises: SetupError when there is none.
    """
    for variant in ("", ".fp16"):
        for stem in stems:
            for suffix in (".safetensors", ".bin"):
                for path in (folder / f"{stem}{variant}{suffix}", folder / f"{stem}{suffix}.index{variant}.json"):
                    if path.exists() or path.is_symlink():
                        return path
    if shards := sorted(path.name for path in folder.glob("*") if SHARD.fullmatch(path.name)):
        index = f"{SHARD.fullmatch(shards[0])['stem']}{Path(shards[0]).suffix}.index.json"
        raise SetupError(f"{folder} holds {listing(shards)} without {index}, which says what is in them; {FETCH}")
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
    if indexes := sorted(file for file in folder.glob("*.json") if is_index(file)):
        shards = {file for index in indexes for file in read_index(index).values()}
        found = [*(file for file in found if file not in shards), *indexes]
    if len(found) != 1:
        what = f"holds {listing(file.name for file in found)}" if found else "holds no weight file"
        raise SetupError(f"{folder} {what}; choose one with --lcm_weight_name")
    return found[0]


def find_svd_unet(svd_base: str | Path | None, lcm_path: Path) -> Path:
    """The weight file of the UNet that LCM training started from. Raises: SetupError when it is not there."""
    need = f"{lcm_path} is a complete UNet, merged by its difference to the Stable Video Diffusion UNet it came from"
    remedy = (
        "fetch the UNet of stable-video-diffusion-img2vid-xt-1-1 (scripts/download_weights.py --only animatelcm) "
        "and name its folder, or use a LoRA made by scripts/extract_lcm_lora.py"
    )
    if svd_base is None:
        raise SetupError(f"{need}, but no such base is set; {remedy}")
    path = Path(svd_base)
    if os.path.isfile(path):
        return path
    if not path.is_dir() and is_hub_id(str(svd_base)):
        path = local_copy(str(svd_base)) or path
    if path.is_dir():
        try:
            return find_weights(path / "unet" if (path / "unet").is_dir() else path)
        except SetupError as error:
            raise SetupError(f"{need}, but {error}") from error
    if not is_hub_id(str(svd_base)):
        raise SetupError(f"{need}, but {svd_base} does not exist; {remedy}")
    from huggingface_hub import hf_hub_download

    return from_hub(str(svd_base), hf_hub_download, filename="unet/diffusion_pytorch_model.safetensors")


def is_complete_unet(lcm_file: Path) -> bool:
    """Whether LCM weights are a complete UNet, from which that of `find_svd_unet` is subtracted, and no LoRA.

    Nothing is loaded, and what is neither is not told from a LoRA. Raises: SetupError as `check_head`.
    """
    return not mentions(lcm_file, "lora") and is_unet(lcm_file)


def is_unet(path: Path) -> bool:
    """Whether a weight file, by its names, holds a UNet. Nothing is loaded. Raises: SetupError as `check_head`."""
    return any(mentions(path, name) for name in UNET_BEGINS)


def is_index(path: str | Path) -> bool:
    """Whether a file, by its name, is the list of several that hold a network together."""
    return INDEX.fullmatch(Path(path).name) is not None


def read_index(index: Path) -> dict[str, Path]:
    """Name of a tensor -> the file beside `index` that holds it.

    Raises: SetupError for an index that cannot be read, and where files are missing that it names.
    """
    check_head(index)
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: index.with_name(file) for name, file in places.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise broken(index, f"is no index of weight files ({first_line(error)})") from error
    if missing := sorted({path.name for path in files.values() if why_no_file(path)}):
        raise SetupError(f"{index} names weight files that are not beside it: {listing(missing)}; {FETCH}")
    if not files:
        raise broken(index, "names no weights")
    return files


def weight_files(path: Path) -> list[Path]:
    """All files that weights consist of: the one, or an index and what it names. Raises: SetupError."""
    return [path, *sorted(set(read_index(path).values()))] if is_index(path) else [path]


def mentions(path: Path, text: str) -> bool:
    """Whether names of tensors in a weight file contain `text`, as far as that can be seen without loading it.

    Raises: SetupError as `check_head`.
    """
    head = check_head(path)
    if is_index(path):
        return any(text in name for name in read_index(path))
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                pickled = [name for name in archive.namelist() if name.endswith("data.pkl")]
                return any(text.encode() in archive.read(name) for name in pickled)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
            return False  # who opens it says what is wrong
    with open(path, "rb") as file:
        if head[8:9] != b"{":
            return text.encode() in file.read(PICKLED_NAMES)
        # safetensors: the length of a list of all names, and the list; remarks of whoever made it are among them.
        size = int.from_bytes(file.read(8), "little")
        try:
            names = json.loads(file.read(min(size, path.stat().st_size)))
        except (ValueError, RecursionError):
            return False
        return any(text in name for name in names if name != "__metadata__")


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

"""The files of an experiment's step latents: names, writing, choosing and reading them.

    <experiment>/configs/generation_config.yaml
    <experiment>/latents/prompt_000/vid_001/step_000.npy.gz           latents after step 0
                                            step_000_x0.npy.gz        the clean latents it predicted, if recorded
                                            step_000_metadata.json    sigma, timestep, shape, if recorded

Files may come from elsewhere: nothing is unpickled, nothing is allocated before a header was believed, and no name
leads out of the experiment. Nothing here imports torch.
"""

import fnmatch
import gzip
import io
import json
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mimicmotion.errors import InputError, NumericalError, UsageError
from mimicmotion.files import why_no_file, write_bytes, write_json

CONFIG_NAME = Path("configs") / "generation_config.yaml"
LATENTS_FOLDER = "latents"
SUFFIX = ".npy.gz"
X0 = "_x0"
METADATA_SUFFIX = "_metadata.json"
STEP_FILE = re.compile(r"(step_\d+)\.npy\.gz")
LONGEST_NAME = 100  # bytes of an experiment's name, which the time comes behind
SAFE_NAME = re.compile(r"\w[\w.+ -]*")
LAYOUTS = ("BFCHW", "BCTHW")
# One compressed step of a long clip at full size has some 40 MB; a file that claims more than this is no step.
MAX_BYTES = 2**30
MAX_HEADER = 16 * 1024
MAX_TEXT = 2**20
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error)


@dataclass(frozen=True)
class Step:
    """One recorded step: where its latents lie, and what they are called on the way there."""

    prompt: str
    video: str
    name: str
    path: Path

    def __str__(self) -> str:
        return f"{self.prompt}/{self.video}/{self.name}"

    @property
    def x0_path(self) -> Path:
        """Where the predicted clean latents lie, if they were recorded."""
        return self.path.with_name(self.name + X0 + SUFFIX)

    @property
    def metadata_path(self) -> Path:
        """Where the step's metadata lies, if it was recorded."""
        return self.path.with_name(self.name + METADATA_SUFFIX)


def require_name(name: str, what: str) -> str:
    """`name` itself. Raises: UsageError unless it is a plain name that can be a folder's."""
    if not SAFE_NAME.fullmatch(name) or len(name.encode()) > LONGEST_NAME:
        raise UsageError(
            f"{what} {name!r} is no plain name: letters, digits, '_', '-', '.', '+' and blanks within, at most "
            f"{LONGEST_NAME} bytes"
        )
    return name


def recorded_folders(parent: Path) -> list[Path]:
    """The folders below `parent` into which recordings of runs write."""
    configs = list(parent.glob(f"*/{CONFIG_NAME}"))
    clips = [clip for config in configs for clip in config.parents[1].glob(f"{LATENTS_FOLDER}/*/*/")]
    return [config.parent for config in configs] + clips


def write_step(folder: Path, name: str, latents: np.ndarray, x0: np.ndarray | None, metadata: dict) -> None:
    """Writes one step atomically, metadata last, so that a step with metadata is whole.

    Args:
        latents, x0: float16 arrays of one shape.

    Raises:
        NumericalError: for values that are not finite; float16 ends at 65504.
        SetupError: when the disk is full.
    """
    for suffix, array in (("", latents), (X0, x0)):
        if array is None:
            continue
        if not np.isfinite(array).all():
            raise NumericalError(f"{folder / name}{suffix}: the latents exceed float16 (65504), NaN or infinity")
        write_bytes(folder / f"{name}{suffix}{SUFFIX}", pack(array))
    facts = {"file": name + SUFFIX, "shape": list(latents.shape), "dtype": str(latents.dtype)}
    write_json(folder / f"{name}{METADATA_SUFFIX}", facts | metadata)


def pack(array: np.ndarray) -> bytes:
    """The array as a gzipped .npy file; equal arrays give equal bytes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    # Noise hardly shrinks at any level; the fastest costs a fifth of the default one.
    return gzip.compress(file.getbuffer(), compresslevel=1, mtime=0)


def read_step(path: Path) -> np.ndarray:
    """The latents of a step file, five-dimensional float16 or float32, all finite.

    Raises: InputError that names the file and what is wrong with it.
    """
    try:
        with gzip.open(path) as stream:
            array = _read_npy(stream)
    except READ_ERRORS as error:
        raise InputError(f"{path}: not a readable step file ({error}); record it again") from error
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"{path}: {bad} of {array.size} values are NaN or infinite")
    return array


def _read_npy(stream) -> np.ndarray:
    """Reads an .npy stream, its header first. Raises: ValueError, EOFError, zlib.error."""
    head = stream.read(MAX_HEADER)
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
        raise ValueError(f"it holds {dtype}; latents are float16 or float32")
    if len(shape) != 5 or min(shape) < 1:
        raise ValueError(f"its shape is {shape}; latents have five dimensions of 1 or more")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise ValueError(f"its header claims {size} bytes; at most {MAX_BYTES} are read")
    data = head[file.tell() :]
    # One byte more than is due, so that a longer file is noticed without being unpacked.
    data += stream.read(max(0, size + 1 - len(data)))
    if len(data) != size:
        raise ValueError(f"it holds {'more' if len(data) > size else 'less'} than its header claims")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_metadata(step: Step) -> dict:
    """What is recorded about a step; {} when nothing is.

    Raises: InputError for a file that is no JSON object, or speaks of another file than the step's own.
    """
    path = step.metadata_path
    reason = why_no_file(path)
    if reason == "does not exist":
        return {}
    if reason:
        raise InputError(f"{path} {reason}")
    try:
        if path.stat().st_size > MAX_TEXT:
            raise ValueError("it is too large")
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: holds a {type(metadata).__name__}, not an object")
    if metadata.get("file", step.path.name) != step.path.name:
        raise InputError(f"{path}: describes {metadata['file']!r}, not {step.path.name}")
    if metadata.get("layout", LAYOUTS[0]) not in LAYOUTS:
        raise InputError(f"{path}: unknown layout {metadata['layout']!r}; known are {', '.join(LAYOUTS)}")
    return metadata


def read_experiment(folder: Path) -> dict:
    """An experiment's generation_config.yaml. Raises: UsageError when the folder is no experiment."""
    path = folder / CONFIG_NAME
    if not os.path.isdir(folder):
        raise UsageError(f"no such experiment folder: {folder}")
    if not path.is_file():
        raise UsageError(f"{folder} is no experiment: {CONFIG_NAME} is missing; record one with --save_step_latents")
    try:
        if path.stat().st_size > MAX_TEXT:
            raise ValueError("it is too large")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must hold keys and values")
    return content


def find_steps(
    experiment: Path, prompts: str | None = None, videos: str | None = None, steps: str | None = None
) -> list[Step]:
    """The recorded steps of an experiment, in order, that the filters choose.

    Args:
        prompts, videos, steps: comma lists of exact names, ranges (step_000-step_009) and globs (step_01*);
            None takes all.

    Raises: UsageError when there are no latents, for a filter item that is a path or chooses nothing.
    """
    root = experiment / LATENTS_FOLDER
    found = all_steps(root)
    if not found:
        raise UsageError(f"no step latents below {root}; record some with --save_step_latents")
    for attribute, text in (("prompt", prompts), ("video", videos), ("name", steps)):
        if text is not None:
            names = list(dict.fromkeys(getattr(step, attribute) for step in found))
            chosen = choose(names, text, "step" if attribute == "name" else attribute)
            found = [step for step in found if getattr(step, attribute) in chosen]
    return found


def all_steps(root: Path) -> list[Step]:
    """Every step file below the latents folder `root`; links that lead elsewhere are left out."""
    found = []
    for path in root.glob(f"*/*/step_*{SUFFIX}"):
        match = STEP_FILE.fullmatch(path.name)
        prompt, video = path.parts[-3:-1]
        plain = SAFE_NAME.fullmatch(prompt) and SAFE_NAME.fullmatch(video)
        if match and plain and path.is_file() and path.resolve().is_relative_to(root.resolve()):
            found.append(Step(prompt, video, match[1], path))
    return sorted(found, key=lambda step: (_natural(step.prompt), _natural(step.video), _natural(step.name)))


def choose(names: Sequence[str], text: str, what: str) -> set[str]:
    """The names that a comma list of names, ranges and globs chooses.

    Raises: UsageError for an item that chooses nothing, listing what there is; also for one that is a path.
    """
    chosen: set[str] = set()
    for item in (part.strip() for part in text.split(",")):
        if "/" in item or "\\" in item or ".." in item or not item:
            raise UsageError(f"{what} filter {text!r}: {item!r} is no name; filters choose within the experiment")
        matched = _matching(names, item)
        if not matched:
            raise UsageError(f"{what} filter {item!r} matches nothing; there are: {', '.join(names)}")
        chosen |= matched
    return chosen


def _matching(names: Sequence[str], item: str) -> set[str]:
    if item in names:
        return {item}
    first, separator, last = item.partition("-")
    if separator and _is_numbered(first) and _is_numbered(last):
        (stem, low), (last_stem, high) = _natural(first)[:2], _natural(last)[:2]
        return {name for name in names if _natural(name)[0] == stem == last_stem and low <= _natural(name)[1] <= high}
    return {name for name in names if fnmatch.fnmatchcase(name, item)}


def _is_numbered(name: str) -> bool:
    return re.fullmatch(r"\w*\d", name) is not None


def _natural(name: str) -> tuple[str, int, str]:
    """Sorts step_9 before step_10."""
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2]), name) if match else (name, -1, name)

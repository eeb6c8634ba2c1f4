"""What a world model is, apart from where and how it runs: one file of configs/streaming.

It holds the sizes of the three networks, the action mode, the denoising steps and the names of the weight files.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.config import LARGEST_SEED, read_yaml, shortened
from mimicmotion.errors import UsageError
from mimicmotion.places import find, looked_for

FOLDER = Path("configs") / "streaming"
LIMITS = {
    "height": (16, 8192),
    "width": (16, 8192),
    "frames_per_block": (1, 100),
    "denoising_steps": (0, 1000),
    "timestep_shift": (0, 1000),
    "context_noise": (0, 1000),
    "tiny_seed": (0, LARGEST_SEED),
}
TAKEN = {
    str: (str, "a name"),
    str | None: (str | None, "a name or null"),
    int: (int, "a whole number"),
    int | None: (int | None, "a whole number or null"),
    float: (int | float, "a number"),
    dict: (dict, "keys and values"),
    tuple[int, ...]: (list, "a list of whole numbers"),
}


@dataclass(frozen=True)
class WorldConfig:
    """One file of configs/streaming: what a world model is, apart from where and how it runs.

    height, width: of the video in pixels. model, vae, clip: sizes, as CausalWanModel.from_config, AutoencoderKLWan
    and CLIPVisionConfig take them. weights_folder and the three file names below it: the checkpoints. tiny_seed: if
    not None, weights that are missing are drawn from it and written there. first_picture: one that the world knows its
    way from, where nobody names another; None is the one of the settings.
    """

    mode: str
    height: int
    width: int
    frames_per_block: int
    denoising_steps: tuple[int, ...]
    timestep_shift: float
    context_noise: float
    weights_folder: str
    model_file: str
    vae_file: str
    clip_file: str
    model: dict
    vae: dict = field(default_factory=dict)
    clip: dict = field(default_factory=dict)
    tiny_seed: int | None = None
    first_picture: str | None = None


def read_world(path: str | Path) -> WorldConfig:
    """Reads a file of configs/streaming. Raises: UsageError that names the file and the key."""
    try:
        values = read_yaml(find(path))
    except FileNotFoundError as error:
        raise UsageError(f"no streaming config {looked_for(path)}; {_name_here(path)}") from error
    fields = {f.name: f for f in dataclasses.fields(WorldConfig)}
    unknown = sorted(set(values) - set(fields))
    required = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise UsageError(f"{path}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}")
    for name, value in values.items():
        _check_value(str(path), name, value, fields[name].type)
    return WorldConfig(**values | {"weights_folder": str(find(values["weights_folder"]))})


def _check_value(path: str, name: str, value: object, kind: object) -> None:
    """Raises: UsageError for a value of another type, or a number that no model has."""
    types, words = TAKEN[kind]
    if isinstance(value, bool) or not isinstance(value, types):
        raise UsageError(f"{path}: {name} is {shortened(repr(value))}; it must be {words}")
    if name not in LIMITS or value is None:
        return
    (low, high), numbers = LIMITS[name], value if isinstance(value, list) else [value]
    if not numbers or not all(type(number) in (int, float) and low <= number <= high for number in numbers):
        raise UsageError(f"{path}: {name} is {shortened(repr(value))}; it must be {low} to {high}")


def _name_here(path: str | Path) -> str:
    """What to pass instead of a file that is not there; the published ones are called inference_universal.yaml etc."""
    known = {file.stem: str(FOLDER / file.name) for file in sorted(find(FOLDER).glob("*.yaml"))}
    mode = Path(path).stem.removeprefix("inference_")
    return f"here it is {known[mode]}" if mode in known else f"there are {', '.join(known.values())}"

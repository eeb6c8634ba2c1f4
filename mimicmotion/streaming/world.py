"""What a world model is, apart from where and how it runs: one file of configs/streaming.

It holds the sizes of the three networks, the action mode, the denoising steps and the names of the weight files.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from mimicmotion.errors import UsageError
from mimicmotion.places import find, looked_for

FOLDER = Path("configs") / "streaming"


@dataclass(frozen=True)
class WorldConfig:
    """One file of configs/streaming: what a world model is, apart from where and how it runs.

    height, width: of the video in pixels. model, vae, clip: sizes, as CausalWanModel.from_config, AutoencoderKLWan
    and CLIPVisionConfig take them. weights_folder and the three file names below it: the checkpoints. tiny_seed: if
    not None, weights that are missing are drawn from it and written there (the embedded default).
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


def read_world(path: str | Path) -> WorldConfig:
    """Reads a file of configs/streaming. Raises: UsageError that names the file and the key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        values = OmegaConf.to_container(OmegaConf.load(find(path)), resolve=True)
    except FileNotFoundError as error:
        raise UsageError(f"no streaming config {looked_for(path)}; {_name_here(path)}") from error
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"cannot read the streaming config {path}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} does not hold keys and values")
    fields = {f.name: f for f in dataclasses.fields(WorldConfig)}
    unknown = sorted(set(values) - set(fields))
    required = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise UsageError(f"{path}: unknown keys {unknown or 'none'}, missing keys {missing or 'none'}")
    return WorldConfig(**values | {"weights_folder": str(find(values["weights_folder"]))})


def _name_here(path: str | Path) -> str:
    """What to pass instead of a file that is not there; the published ones are called inference_universal.yaml etc."""
    known = {file.stem: str(FOLDER / file.name) for file in sorted(find(FOLDER).glob("*.yaml"))}
    mode = Path(path).stem.removeprefix("inference_")
    return f"here it is {known[mode]}" if mode in known else f"there are {', '.join(known.values())}"

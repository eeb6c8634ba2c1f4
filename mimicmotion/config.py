"""The settings of every script: defaults, YAML file, flags and `key=value` pairs become one checked object.

Later layers win: the defaults below, the YAML file, flags that were given, trailing pairs. A mistyped key, a wrong
type or an impossible value is a UsageError that names the key. What a setting may be stands beside its default.
Nothing here imports torch.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mimicmotion.errors import UsageError
from mimicmotion.places import find, looked_for

DEFAULT_CONFIG = "configs/test.yaml"
SIZE_MULTIPLE = 64  # the VAE divides by 8, the UNet by 8 again
ASPECT_RATIO = 9 / 16
LARGEST_SEED = 2**63 - 1
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


def setting(default, *, choices: tuple[str, ...] = (), low: float | None = None, high: float | None = None,
            file: bool = False):  # fmt: skip
    """A field with what its value may be, null aside: one of `choices`, or from `low` to `high`.

    `file` marks a path that is read: where it does not exist in the working directory, it is looked for beside the
    package as well.
    """
    return field(default=default, metadata={"choices": choices, "low": low, "high": high, "file": file})


@dataclass
class TestCase:
    """One reference image with how to animate it. Field names are MimicMotion's."""

    __test__ = False  # the document's name looks like a test class to pytest

    ref_video_path: str | None = setting(None, file=True)  # driving video; used where batch.video_folder is null
    ref_image_path: str | None = setting(None, file=True)
    num_frames: int = setting(72, low=2)  # frames per tile, the reference included; not the length of the video
    resolution: int = 576  # short side in pixels
    frames_overlap: int = setting(6, low=1)
    num_inference_steps: int = setting(25, low=1)
    noise_aug_strength: float = setting(0.0, low=0)
    guidance_scale: float = setting(2.0, low=0)
    sample_stride: int = setting(2, low=1)  # of the driving video, at up to 48 frames per second
    fps: float = setting(15.0, low=0.1, high=1000)  # of the written video
    seed: int = setting(42, low=0, high=LARGEST_SEED)


@dataclass
class BatchSettings:
    """Which driving videos are run."""

    video_folder: str | None = setting(None, file=True)
    videos: list[str] | None = None  # names within the folder; null takes all


@dataclass
class TurboSettings:
    """The few-step run. Null steps or guidance take what the scheduler is made for."""

    scheduler: str = setting(
        "AnimateLCM_SVD", choices=("AnimateLCM_SVD", "EulerDiscreteScheduler", "AYS", "DPMSolver++")
    )
    num_inference_steps: int | None = setting(None, low=1)
    guidance_scale: float | None = setting(None, low=0)
    lcm_lora_path: str | None = setting(None, file=True)  # LoRA or complete UNet: file, folder or hub id
    lcm_weight_name: str | None = None
    lcm_lora_scale: float = 1.0
    more_lora_paths: list[str] | None = setting(None, file=True)  # applied after that one, in this order
    more_lora_scales: list[float] | None = None  # one for each of them; null: 1
    lcm_base_path: str | None = setting(None, file=True)  # SVD's own UNet, needed to merge a complete LCM UNet
    fuse_lcm_lora: bool = True
    skip_lcm_scheduler: bool = False
    scheduler_sigma_min: float = setting(0.002, low=1e-6)
    scheduler_sigma_max: float = 700.0
    scheduler_sigma_data: float = setting(1.0, low=1e-6)
    scheduler_s_noise: float = setting(1.0, low=0)
    scheduler_rho: float = setting(7.0, low=1e-6)
    scheduler_clip_denoised: bool = False
    lcm_num_train_timesteps: int = setting(40, low=1)


@dataclass
class SamplingSettings:
    """How the pipeline samples and decodes, whatever the scheduler."""

    conditioning_fps: int = setting(7, low=1)  # what the UNet is told; the published model always gets 7
    motion_bucket_id: int = setting(127, low=0)
    tile_layout: str = setting("upstream", choices=("upstream", "even"))
    cfg_batch: str = setting("auto", choices=("auto", "on", "off"))
    decode_chunk_size: int = setting(8, low=1)
    decode_overlap: int = setting(0, low=0)


@dataclass
class RuntimeSettings:
    """Where and how precisely the networks run."""

    device: str = "auto"
    dtype: str = setting("auto", choices=PRECISIONS)
    vae_dtype: str = setting("auto", choices=PRECISIONS)
    offload: str = setting("none", choices=("none", "model", "sequential"))
    compile: bool = False


@dataclass
class VideoSettings:
    """How driving videos are read, and what is too much of them."""

    # auto is pyav; decord reads what it can be trusted with, pyav the rest
    reader: str = setting("auto", choices=("auto", "pyav", "decord"))
    accept_damaged: bool = False  # take what is there of a file whose data end early or are wrong
    max_side: int = setting(8192, low=1)  # pixels
    max_pixels: int = setting(8192 * 4320, low=1)  # of one frame
    max_frames: int = setting(100_000, low=1)
    max_bytes: int = setting(10**12, low=1)  # of all frames of a video, decoded


@dataclass
class PoseSettings:
    """Where poses come from and how they are fitted to the reference."""

    backend: str = setting("auto", choices=("auto", "dwpose", "mediapipe", "openpose", "file"))
    model_det: str = setting("models/DWPose/yolox_l.onnx", file=True)
    model_pose: str = setting("models/DWPose/dw-ll_ucoco_384.onnx", file=True)
    folder: str | None = setting(None, file=True)  # of saved poses, <video stem>.npz, for backend "file"
    save_folder: str | None = None
    align: str = setting("robust", choices=("linear", "robust", "none"))
    batch_size: int = setting(16, low=1)  # frames per call of the detector
    max_gap: int = setting(8, low=0)  # frames without a person that are bridged
    restore_parts: bool = False  # lost hands and faces from other frames; published MimicMotion leaves them black


@dataclass
class StreamingSettings:
    """The action-driven world model and what it is to do."""

    config_path: str = setting("configs/streaming/tiny.yaml", file=True)  # sizes, mode and weight files of the model
    weights_folder: str | None = setting(None, file=True)  # null: as in that file, and so for checkpoint_path below
    checkpoint_path: str | None = setting(None, file=True)  # of the transformer
    image: str = setting("assets/streaming/first_frame.png", file=True)
    num_latents: int | None = setting(None, low=1)  # of a batch run; null: as long as the script, 150 for bench
    max_latents: int | None = setting(None, low=1)  # of an interactive session; null: no end
    actions: str | None = None  # "bench", a script such as "W*12 W+L*24", or a file with one; null: bench or typed
    seed: int = setting(0, low=0, high=LARGEST_SEED)
    fps: float = setting(12.0, low=0.1, high=1000)  # of the written videos; the model is meant for up to 25
    encode_dtype: str = setting("auto", choices=PRECISIONS)  # of the VAE; fp32, since rollouts react to it
    decode_dtype: str = setting("auto", choices=PRECISIONS)  # fp16 on a GPU
    attention: str | None = None  # a diffusers attention back end; null: torch's own
    resume_from: str | None = setting(None, file=True)  # a session saved before
    save_state: str | None = None  # where to save the session at its end
    benchmark_blocks: int = setting(200, low=20)
    random_weights: bool = False  # benchmark without weight files, at the sizes of config_path


@dataclass
class OutputSettings:
    """What is written, and where."""

    output_dir: str = "outputs"
    audio: str = setting("keep", choices=("keep", "drop"))
    crf: int = setting(18, low=0, high=51)
    comparison: bool = False
    contact_sheet: bool = True
    overwrite: bool = False
    dry_run: bool = False


@dataclass
class FeatureCacheSettings:
    """The feature cache of inference_raw_batch_cache.py."""

    folder: str = "cache/features"
    enabled: bool = True
    pipeline_features: bool = True  # CLIP embeddings and VAE latents as well as poses
    force_refresh: bool = False
    max_gb: float | None = setting(10.0, low=0)  # of 1e9 bytes; null: no limit
    benchmark: bool = False
    benchmark_repeats: int = setting(3, low=1)


@dataclass
class LatentConcatSettings:
    """Keeping the latents of clips and joining them; see doc/latent_concat_experiment.md."""

    mode: str | None = setting(None, choices=("encode", "decode"))
    cache_dir: str = "latent_cache"
    output_dir: str = "outputs/latent_concat"
    experiment_name: str | None = None  # name of the joined mp4; null makes one of the clips and the options
    # frames sampled, the reference included; the memory of a long clip is bounded by it
    max_pose_frames: int = setting(179, low=2)
    individual_videos: bool = True
    overwrite_cache: bool = False
    keep_stale: bool = False
    drop_first: str = setting("each", choices=("each", "first", "none"))
    interp_frames: int = setting(0, low=0)
    interp_mode: str = setting("linear", choices=("linear", "slerp", "smooth"))
    isolate_clips: bool = False
    bridge_strength: float = setting(0.75, low=0, high=1)
    bridge_frames: int = setting(0, low=0)
    report: bool = False


@dataclass
class SweepSettings:
    """Many settings on the same clips; see doc/experiments.md."""

    settings: list[str] | None = None  # "name=value,value", named as the main script's flags or by path
    output_dir: str = "outputs/sweep"
    metrics: bool = False
    truth: str | None = setting(None, file=True)  # folder of true videos, <video stem>.mp4
    keep_models: int = setting(2, low=1)  # sets of networks that stay loaded


@dataclass
class LatentStepSettings:
    """Recording the latents of every sampling step; see doc/latent_step_decoder.md."""

    folder: str | None = None  # null: no recording
    experiment_name: str | None = None  # of the recording; null takes the name of the videos' folder


@dataclass
class Config:
    """All settings. `base_model_path` is a diffusers folder or hub id, `ckpt_path` MimicMotion's own weights
    (null: the folder holds the whole model).
    """

    base_model_path: str = setting("assets/models/tiny", file=True)
    ckpt_path: str | None = setting(None, file=True)
    batch: BatchSettings = field(default_factory=BatchSettings)
    test_case: list[TestCase] = field(default_factory=lambda: [TestCase()])
    turbo: TurboSettings = field(default_factory=TurboSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    streaming: StreamingSettings = field(default_factory=StreamingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    feature_cache: FeatureCacheSettings = field(default_factory=FeatureCacheSettings)
    latent_steps: LatentStepSettings = field(default_factory=LatentStepSettings)
    latent_concat: LatentConcatSettings = field(default_factory=LatentConcatSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)


@dataclass(frozen=True)
class Origin:
    """Settings with where they came from: "configs/test.yaml", "--seed", "output.crf=20"; defaults are not named.

    `file` is what they started from.
    """

    config: Config
    sources: dict[str, str]
    file: "str | Path | Config | None" = None

    def differences(self) -> list[str]:
        """One line for each setting that is not as its default: path, value and source."""
        return [
            f"{path}: {'null' if value is None else value} ({self.sources.get(path, 'set by the program')})"
            for path, value in different_settings(self.config).items()
        ]


def different_settings(config: Config) -> dict[str, Any]:
    """The settings that are not as their defaults, by path, as `walk` names them."""
    default = Config(test_case=[TestCase() for _ in config.test_case])
    _find_files(default)
    defaults = dict(walk(default))
    return {path: value for path, value in walk(config) if value != defaults[path]}


def load_config(
    path: "str | Path | Config | None" = None,
    given: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
) -> Config:
    """Reads and checks the settings of a run.

    Args:
        path: YAML file over the defaults, or settings to start from, which stay as they are; None is the file that
            comes with the package.
        given: values by path ("turbo.scheduler"; "test_case[*].seed" means every case), as flags give them.
        overrides: "path=value" texts, the value in YAML notation; they win over all else.

    Raises:
        UsageError: for an unreadable file, an unknown key, a wrong type or an impossible value.
    """
    return trace_config(path, given, overrides).config


def trace_config(
    path: "str | Path | Config | None" = None,
    given: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
    names: dict[str, str] | None = None,
) -> Origin:
    """As `load_config`, with the source of every setting; `names` are those of the flags in `given`, by path."""
    origin = _merge_layers(path, given or {}, overrides or [], names or {})
    _find_files(origin.config)
    return origin


def default_config() -> Config:
    """The settings of a run that names none, paths as the file that comes with the package has them."""
    return _merge_layers(None, {}, [], {}).config


def _merge_layers(
    path: str | Path | Config | None, given: dict[str, Any], overrides: list[str], names: dict[str, str]
) -> Origin:
    if isinstance(path, Config):
        settings, sources = OmegaConf.structured(path), {}
    else:
        path = DEFAULT_CONFIG if path is None else path
        settings, in_file = _merge_file(OmegaConf.structured(Config), find(path))
        sources = dict.fromkeys(in_file, str(path))
    for key, value in given.items():
        sources |= dict.fromkeys(_set(settings, key, value, "flag"), names.get(key, "as given"))
    for pair in overrides:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"{pair!r} is not a setting; write path=value, for example turbo.num_inference_steps=8")
        changed = _set(settings, key.strip(), _parse_value(pair, value), "setting")
        sources |= dict.fromkeys(changed, pair)
    config = OmegaConf.to_object(settings)
    check_config(config)
    return Origin(config, sources, path)


def _find_files(config: Config) -> None:
    """Points settings that name files beside the package there, where the working directory lacks them."""
    for owner, _, part in _fields(config):
        value = getattr(owner, part.name)
        if part.metadata.get("file") and isinstance(value, list):
            setattr(owner, part.name, [str(find(path)) for path in value])
        elif part.metadata.get("file") and value and (found := find(value)) != Path(value):
            setattr(owner, part.name, str(found))


def _merge_file(settings, path: Path):
    """The settings with the file's over them, and the paths of what it names."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise UsageError(f"no configuration {looked_for(path)}; pass --inference_config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys and values, not a {type(content).__name__}")
    _check_keys(content, Config, "", str(path))
    # YAML 1.1 reads 1e-3 as text; OmegaConf's own loader reads it as a number.
    loaded = OmegaConf.load(path)
    try:
        return OmegaConf.merge(settings, loaded), [name for name, _ in _leaves(content)]
    except OmegaConfBaseException as error:
        raise UsageError(f"{path}: {_explain(error)}") from error


def _check_keys(content: dict, schema: type, prefix: str, where: str) -> None:
    """Raises: UsageError for the first key that `schema` does not have, with the nearest one that it has."""
    fields = {f.name: f.type for f in dataclasses.fields(schema)}
    for key, value in content.items():
        if key not in fields:
            raise UsageError(f"{where}: unknown setting '{prefix}{key}'{nearest(str(key), list(fields))}")
        if dataclasses.is_dataclass(fields[key]):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: '{prefix}{key}' must hold keys and values, not {value!r}")
            _check_keys(value, fields[key], f"{prefix}{key}.", where)
        if key == "test_case":
            if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
                raise UsageError(f"{where}: 'test_case' must be a list of entries with keys and values")
            for i, case in enumerate(value):
                _check_keys(case, TestCase, f"test_case[{i}].", where)


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"


def _parse_value(pair: str, value: str) -> Any:
    try:
        return OmegaConf.create(f"value: {value}").value
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"{pair!r}: the value is not valid YAML") from error


def _set(settings, key: str, value: Any, kind: str) -> list[str]:
    """Sets one value, or that of every test case; returns the paths."""
    paths = [key]
    if key.startswith("test_case[*]"):
        paths = [key.replace("[*]", f"[{i}]", 1) for i in range(len(settings.test_case))]
    for path in paths:
        _check_path(path, len(settings.test_case), kind)
        try:
            OmegaConf.update(settings, path, value)
        except OmegaConfBaseException as error:
            raise UsageError(f"{kind} {path}={value}: {_explain(error)}") from error
    return paths


def _check_path(path: str, cases: int, kind: str) -> None:
    schema: Any = Config
    for i, part in enumerate(split_path(path)):
        if schema is list:
            if not part.isdigit() or int(part) >= cases:
                raise UsageError(f"{kind} '{path}': there are test cases 0 to {cases - 1}")
            schema = TestCase
            continue
        fields = {f.name: f.type for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        if part not in fields:
            raise UsageError(f"unknown {kind} '{path}'{nearest(part, list(fields)) if fields else ''}")
        schema = list if part == "test_case" and i == 0 else fields[part]


def _explain(error: OmegaConfBaseException) -> str:
    reason = str(error).split("\n")[0]
    return f"{error.full_key}: {reason}" if getattr(error, "full_key", None) else reason


def check_config(config: Config) -> None:
    """Raises: UsageError for the first value that is no choice, out of range or in conflict with another."""
    for owner, path, part in _fields(config):
        _check_value(path, getattr(owner, part.name), part.metadata)
    if config.sampling.decode_overlap >= config.sampling.decode_chunk_size:
        raise UsageError(
            f"sampling.decode_overlap {config.sampling.decode_overlap} must be below "
            f"sampling.decode_chunk_size {config.sampling.decode_chunk_size}"
        )
    if config.turbo.scheduler_sigma_min >= config.turbo.scheduler_sigma_max:
        raise UsageError("turbo.scheduler_sigma_min must be below turbo.scheduler_sigma_max")
    _check_more_loras(config.turbo)
    if not config.test_case:
        raise UsageError("test_case is empty; at least one entry with a ref_image_path is needed")
    for i, case in enumerate(config.test_case):
        _check_case(f"test_case[{i}]", case)


def _check_more_loras(turbo: TurboSettings) -> None:
    paths, scales = turbo.more_lora_paths or [], turbo.more_lora_scales
    if paths and not turbo.lcm_lora_path:
        raise UsageError("turbo.more_lora_paths come after turbo.lcm_lora_path, which is null")
    if scales is not None and len(scales) != len(paths):
        raise UsageError(
            f"{1 + len(scales)} LoRA scales for {1 + len(paths)} LoRA files; give --lcm_lora_scale one for each of "
            "--lcm_lora_path (turbo.lcm_lora_scale, turbo.more_lora_scales)"
        )
    if scales is not None and not all(map(math.isfinite, scales)):
        raise UsageError(f"turbo.more_lora_scales are {scales}; they must be numbers")
    if paths and not turbo.fuse_lcm_lora:
        raise UsageError("several LoRAs are fused; drop --no_fuse_lcm_lora, or give one (turbo.more_lora_paths)")


def _check_value(path: str, value: Any, limits) -> None:
    choices, low, high = (limits.get(name) for name in ("choices", "low", "high"))
    if value is None:
        return
    if choices and value not in choices:
        raise UsageError(f"{path} is {value!r}{nearest(str(value), list(choices))}")
    if isinstance(value, float) and not math.isfinite(value) and high is None:
        raise UsageError(f"{path} is {value}; it must be a number{'' if low is None else f', {low} or more'}")
    if not (low is None or value >= low) or not (high is None or value <= high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"{path} is {value}; it must be {span}")


def _check_case(name: str, case: TestCase) -> None:
    if case.frames_overlap >= case.num_frames:
        raise UsageError(
            f"{name}.frames_overlap {case.frames_overlap} must be below num_frames {case.num_frames} (frames per tile)"
        )
    if case.resolution % SIZE_MULTIPLE or case.resolution < SIZE_MULTIPLE:
        lower = max(case.resolution // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE
        raise UsageError(
            f"{name}.resolution {case.resolution} is not a multiple of {SIZE_MULTIPLE}; "
            f"the nearest are {lower} and {lower + SIZE_MULTIPLE}"
        )


def _fields(owner, prefix: str = "") -> Iterator[tuple[Any, str, dataclasses.Field]]:
    """Every single setting: the object that holds it, its path and its field."""
    for part in dataclasses.fields(owner):
        value, path = getattr(owner, part.name), f"{prefix}{part.name}"
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{path}.")
        elif part.name == "test_case":
            for i, case in enumerate(value):
                yield from _fields(case, f"{path}[{i}].")
        else:
            yield owner, path, part


def walk(config: Config) -> Iterator[tuple[str, Any]]:
    """Path and value of every single setting, in order; the test cases' as "test_case[0].seed"."""
    return ((path, getattr(owner, part.name)) for owner, path, part in _fields(config))


def _leaves(content: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of a file, named as `walk` names them."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif key == "test_case" and not prefix:
            for i, case in enumerate(value):
                yield from _leaves(case, f"{key}[{i}].")
        else:
            yield f"{prefix}{key}", value


def split_path(path: str) -> list[str]:
    """The parts of a setting's path: "test_case[0].seed" has three."""
    return re.sub(r"\[(\w+|\*)\]", r".\1", path).split(".")


def describe_setting(path: str) -> dataclasses.Field:
    """The field of a setting, with choices and limits in its metadata; the index of a test case does not matter.

    Raises: KeyError for a path that is no single setting.
    """
    schema: Any = Config
    parts = split_path(path)
    if parts[0] == "test_case" and len(parts) > 1:
        schema, parts = TestCase, parts[2:]
    part = None
    for name in parts:
        known = {f.name: f for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        part = known[name]
        schema = part.type
    if part is None or part.name == "test_case" or dataclasses.is_dataclass(part.type):
        raise KeyError(path)
    return part


def lookup(config: Config, path: str) -> Any:
    """The value at a path; "test_case[*]" is the first test case."""
    value: Any = config
    for part in split_path(path):
        value = value[0 if part == "*" else int(part)] if isinstance(value, list) else getattr(value, part)
    return value


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML text, ready to be used as a configuration file."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))

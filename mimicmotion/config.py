"""The settings of every script: defaults, YAML file, flags and `key=value` pairs become one checked object.

Later layers win: the defaults below, the YAML file, flags that were given, trailing pairs. A mistyped key, a wrong
type or an impossible value is a UsageError that names the key. Nothing here imports torch.
"""

import dataclasses
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mimicmotion.errors import UsageError

SIZE_MULTIPLE = 64  # the VAE divides by 8, the UNet by 8 again
ASPECT_RATIO = 9 / 16


@dataclass
class TestCase:
    """One reference image with how to animate it. Field names are MimicMotion's."""

    __test__ = False  # the document's name looks like a test class to pytest

    ref_video_path: str | None = None  # driving video; used where batch.video_folder is null
    ref_image_path: str | None = None
    num_frames: int = 72  # frames per tile, the reference included; not the length of the video
    resolution: int = 576  # short side in pixels
    frames_overlap: int = 6
    num_inference_steps: int = 25
    noise_aug_strength: float = 0.0
    guidance_scale: float = 2.0
    sample_stride: int = 2  # of the driving video, at up to 48 frames per second
    fps: float = 15.0  # of the written video
    seed: int = 42


@dataclass
class BatchSettings:
    """Which driving videos are run."""

    video_folder: str | None = None
    videos: list[str] | None = None  # names within the folder; null takes all


@dataclass
class TurboSettings:
    """The few-step run. Null steps or guidance take what the scheduler is made for."""

    scheduler: str = "AnimateLCM_SVD"
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    lcm_lora_path: str | None = None  # LoRA or complete UNet: file, folder or hub id
    lcm_weight_name: str | None = None
    lcm_lora_scale: float = 1.0
    lcm_base_path: str | None = None  # SVD's own UNet, needed to merge a complete LCM UNet
    fuse_lcm_lora: bool = True
    skip_lcm_scheduler: bool = False
    scheduler_sigma_min: float = 0.002
    scheduler_sigma_max: float = 700.0
    scheduler_sigma_data: float = 1.0
    scheduler_s_noise: float = 1.0
    scheduler_rho: float = 7.0
    scheduler_clip_denoised: bool = False
    lcm_num_train_timesteps: int = 40


@dataclass
class SamplingSettings:
    """How the pipeline samples and decodes, whatever the scheduler."""

    conditioning_fps: int = 7  # what the UNet is told; the published model always gets 7
    motion_bucket_id: int = 127
    tile_layout: str = "upstream"
    cfg_batch: str = "auto"
    decode_chunk_size: int = 8
    decode_overlap: int = 0


@dataclass
class RuntimeSettings:
    """Where and how precisely the networks run."""

    device: str = "auto"
    dtype: str = "auto"
    vae_dtype: str = "auto"
    offload: str = "none"
    compile: bool = False


@dataclass
class VideoSettings:
    """How driving videos are read, and what is too much of them."""

    reader: str = "auto"  # auto is pyav; decord reads what it can be trusted with, pyav the rest
    accept_damaged: bool = False  # take what is there of a file whose data end early or are wrong
    max_side: int = 8192  # pixels
    max_pixels: int = 8192 * 4320  # of one frame
    max_frames: int = 100_000
    max_bytes: int = 10**12  # of all frames of a video, decoded


@dataclass
class PoseSettings:
    """Where poses come from and how they are fitted to the reference."""

    backend: str = "auto"
    model_det: str = "models/DWPose/yolox_l.onnx"
    model_pose: str = "models/DWPose/dw-ll_ucoco_384.onnx"
    folder: str | None = None  # of saved poses, <video stem>.npz, for backend "file"
    save_folder: str | None = None
    align: str = "robust"
    batch_size: int = 16  # frames per call of the detector
    max_gap: int = 8  # frames without a person that are bridged
    restore_parts: bool = False  # lost hands and faces from other frames; published MimicMotion leaves them black


@dataclass
class StreamingSettings:
    """The action-driven world model and what it is to do."""

    config_path: str = "configs/streaming/tiny.yaml"  # sizes, mode and weight files of the model
    weights_folder: str | None = None  # null: as in that file, and so for checkpoint_path below
    checkpoint_path: str | None = None  # of the transformer
    image: str = "assets/streaming/first_frame.png"
    num_latents: int | None = None  # of a batch run; null: as long as the script, 150 for bench
    max_latents: int | None = None  # of an interactive session; null: no end
    actions: str | None = None  # "bench", a script such as "W*12 W+L*24", or a file with one; null: bench or typed
    seed: int = 0
    fps: float = 12.0  # of the written videos; the model is meant for up to 25
    encode_dtype: str = "auto"  # of the VAE; fp32, since rollouts react to it
    decode_dtype: str = "auto"  # fp16 on a GPU
    attention: str | None = None  # a diffusers attention back end; null: torch's own
    resume_from: str | None = None  # a session saved before
    save_state: str | None = None  # where to save the session at its end
    benchmark_blocks: int = 200
    random_weights: bool = False  # benchmark without weight files, at the sizes of config_path


@dataclass
class OutputSettings:
    """What is written, and where."""

    output_dir: str = "outputs"
    audio: str = "keep"
    crf: int = 18
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
    max_gb: float | None = 10.0  # of 1e9 bytes; null: no limit
    benchmark: bool = False
    benchmark_repeats: int = 3


@dataclass
class LatentConcatSettings:
    """Keeping the latents of clips and joining them; see doc/latent_concat_experiment.md."""

    mode: str | None = None
    cache_dir: str = "latent_cache"
    output_dir: str = "outputs/latent_concat"
    experiment_name: str | None = None  # name of the joined mp4; null makes one of the clips and the options
    max_pose_frames: int = 179  # frames sampled, the reference included; the memory of a long clip is bounded by it
    individual_videos: bool = True
    overwrite_cache: bool = False
    keep_stale: bool = False
    drop_first: str = "each"
    interp_frames: int = 0
    interp_mode: str = "linear"
    isolate_clips: bool = False
    bridge_strength: float = 0.75
    bridge_frames: int = 0
    report: bool = False


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

    base_model_path: str = "assets/models/tiny"
    ckpt_path: str | None = None
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


CHOICES = {
    "turbo.scheduler": ("AnimateLCM_SVD", "EulerDiscreteScheduler", "AYS", "DPMSolver++"),
    "sampling.tile_layout": ("upstream", "even"),
    "sampling.cfg_batch": ("auto", "on", "off"),
    "runtime.dtype": ("auto", "fp32", "fp16", "bf16"),
    "runtime.vae_dtype": ("auto", "fp32", "fp16", "bf16"),
    "runtime.offload": ("none", "model", "sequential"),
    "video.reader": ("auto", "pyav", "decord"),
    "pose.backend": ("auto", "dwpose", "mediapipe", "openpose", "file"),
    "pose.align": ("linear", "robust", "none"),
    "streaming.encode_dtype": ("auto", "fp32", "fp16", "bf16"),
    "streaming.decode_dtype": ("auto", "fp32", "fp16", "bf16"),
    "output.audio": ("keep", "drop"),
    "latent_concat.mode": ("encode", "decode"),
    "latent_concat.drop_first": ("each", "first", "none"),
    "latent_concat.interp_mode": ("linear", "slerp", "smooth"),
}

# Smallest and largest value of numbers; None leaves a side open.
RANGES = {
    "turbo.num_inference_steps": (1, None),
    "turbo.guidance_scale": (0, None),
    "turbo.scheduler_sigma_min": (1e-6, None),
    "turbo.scheduler_sigma_data": (1e-6, None),
    "turbo.scheduler_s_noise": (0, None),
    "turbo.scheduler_rho": (1e-6, None),
    "turbo.lcm_num_train_timesteps": (1, None),
    "sampling.conditioning_fps": (1, None),
    "sampling.motion_bucket_id": (0, None),
    "sampling.decode_chunk_size": (1, None),
    "sampling.decode_overlap": (0, None),
    "video.max_side": (1, None),
    "video.max_pixels": (1, None),
    "video.max_frames": (1, None),
    "video.max_bytes": (1, None),
    "pose.batch_size": (1, None),
    "pose.max_gap": (0, None),
    "streaming.num_latents": (1, None),
    "streaming.max_latents": (1, None),
    "streaming.seed": (0, 2**63 - 1),
    "streaming.benchmark_blocks": (20, None),
    "streaming.fps": (0.1, 1000),
    "output.crf": (0, 51),
    "feature_cache.max_gb": (0, None),
    "feature_cache.benchmark_repeats": (1, None),
    "latent_concat.max_pose_frames": (2, None),
    "latent_concat.interp_frames": (0, None),
    "latent_concat.bridge_strength": (0, 1),
    "latent_concat.bridge_frames": (0, None),
}
CASE_RANGES = {
    "num_frames": (2, None),
    "frames_overlap": (1, None),
    "num_inference_steps": (1, None),
    "noise_aug_strength": (0, None),
    "guidance_scale": (0, None),
    "sample_stride": (1, None),
    "fps": (0.1, 1000),
    "seed": (0, 2**63 - 1),
}


def load_config(
    path: str | Path, given: dict[str, Any] | None = None, overrides: list[str] | None = None
) -> Config:
    """Reads and checks the settings of a run.

    Args:
        path: YAML file over the defaults.
        given: values by path ("turbo.scheduler"; "test_case[*].seed" means every case), as flags give them.
        overrides: "path=value" texts, the value in YAML notation; they win over all else.

    Raises:
        UsageError: for an unreadable file, an unknown key, a wrong type or an impossible value.
    """
    settings = OmegaConf.structured(Config)
    settings = _merge_file(settings, Path(path))
    for key, value in (given or {}).items():
        _set(settings, key, value, "flag")
    for pair in overrides or []:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"{pair!r} is not a setting; write path=value, for example turbo.num_inference_steps=8")
        _set(settings, key.strip(), _parse_value(pair, value), "setting")
    config = OmegaConf.to_object(settings)
    check_config(config)
    return config


def _merge_file(settings, path: Path):
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
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
        return OmegaConf.merge(settings, loaded)
    except OmegaConfBaseException as error:
        raise UsageError(f"{path}: {_explain(error)}") from error


def _check_keys(content: dict, schema: type, prefix: str, where: str) -> None:
    """Raises: UsageError for the first key that `schema` does not have, with the nearest one that it has."""
    fields = {f.name: f.type for f in dataclasses.fields(schema)}
    for key, value in content.items():
        if key not in fields:
            raise UsageError(f"{where}: unknown setting '{prefix}{key}'{_nearest(str(key), list(fields))}")
        if dataclasses.is_dataclass(fields[key]):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: '{prefix}{key}' must hold keys and values, not {value!r}")
            _check_keys(value, fields[key], f"{prefix}{key}.", where)
        if key == "test_case":
            if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
                raise UsageError(f"{where}: 'test_case' must be a list of entries with keys and values")
            for i, case in enumerate(value):
                _check_keys(case, TestCase, f"test_case[{i}].", where)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"


def _parse_value(pair: str, value: str) -> Any:
    try:
        return OmegaConf.create(f"value: {value}").value
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"{pair!r}: the value is not valid YAML") from error


def _set(settings, key: str, value: Any, kind: str) -> None:
    paths = [key]
    if key.startswith("test_case[*]"):
        paths = [key.replace("[*]", f"[{i}]", 1) for i in range(len(settings.test_case))]
    for path in paths:
        _check_path(path, len(settings.test_case), kind)
        try:
            OmegaConf.update(settings, path, value)
        except OmegaConfBaseException as error:
            raise UsageError(f"{kind} {path}={value}: {_explain(error)}") from error


def _check_path(path: str, cases: int, kind: str) -> None:
    schema: Any = Config
    for i, part in enumerate(re.sub(r"\[(\w+)\]", r".\1", path).split(".")):
        if schema is list:
            if not part.isdigit() or int(part) >= cases:
                raise UsageError(f"{kind} '{path}': there are test cases 0 to {cases - 1}")
            schema = TestCase
            continue
        fields = {f.name: f.type for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        if part not in fields:
            raise UsageError(f"unknown {kind} '{path}'{_nearest(part, list(fields)) if fields else ''}")
        schema = list if part == "test_case" and i == 0 else fields[part]


def _explain(error: OmegaConfBaseException) -> str:
    reason = str(error).split("\n")[0]
    return f"{error.full_key}: {reason}" if getattr(error, "full_key", None) else reason


def check_config(config: Config) -> None:
    """Raises: UsageError for the first value that is no choice, out of range or in conflict with another."""
    for path, choices in CHOICES.items():
        value = lookup(config, path)
        if value is not None and value not in choices:
            raise UsageError(f"{path} is {value!r}{_nearest(str(value), list(choices))}")
    for path, limits in RANGES.items():
        _check_range(path, lookup(config, path), limits)
    if config.sampling.decode_overlap >= config.sampling.decode_chunk_size:
        raise UsageError(
            f"sampling.decode_overlap {config.sampling.decode_overlap} must be below "
            f"sampling.decode_chunk_size {config.sampling.decode_chunk_size}"
        )
    if config.turbo.scheduler_sigma_min >= config.turbo.scheduler_sigma_max:
        raise UsageError("turbo.scheduler_sigma_min must be below turbo.scheduler_sigma_max")
    if not config.test_case:
        raise UsageError("test_case is empty; at least one entry with a ref_image_path is needed")
    for i, case in enumerate(config.test_case):
        _check_case(f"test_case[{i}]", case)


def _check_case(name: str, case: TestCase) -> None:
    for key, limits in CASE_RANGES.items():
        _check_range(f"{name}.{key}", getattr(case, key), limits)
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


def _check_range(path: str, value: float | None, limits: tuple[float | None, float | None]) -> None:
    low, high = limits
    if value is None:
        return
    if not (low is None or value >= low) or not (high is None or value <= high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"{path} is {value}; it must be {span}")


def lookup(config: Config, path: str) -> Any:
    """The value at a dotted path without list indices."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML text, ready to be used as a configuration file."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))

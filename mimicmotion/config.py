"""The settings of every script: defaults, YAML file, flags and `key=value` pairs become one checked object.

Later layers win: the defaults below, the YAML file, flags that were given, trailing pairs. A mistyped key, a wrong
type or an impossible value is a UsageError that names the key. What a setting may be stands beside its default.
Nothing here imports torch.
"""

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mimicmotion.errors import UsageError
from mimicmotion.files import printable, why_no_file
from mimicmotion.places import find, looked_for

DEFAULT_CONFIG = "configs/test.yaml"
SIZE_MULTIPLE = 64  # the VAE divides by 8, the UNet by 8 again
ASPECT_RATIO = 9 / 16
WIDEST = 4  # longest side over shortest of a frame that one may ask for
LARGEST_SEED = 2**63 - 1
MOST_TRANSITION = 10_000  # frames between two words
MOST_LATENTS = 250_000  # of a streaming run: a million frames, 23 hours at 12 a second
# A file of settings is far below all of these; beyond them reading it would take the stack or the memory.
MAX_FILE, MAX_VALUES, MAX_LEVELS = 2**20, 10_000, 20
LISTS = (list[str], list[str] | None, list[float] | None)  # types of settings
PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")
LONGEST_NUMBER = 128  # bits
LONGEST_SHOWN = 200  # characters of a value in a message
LARGEST_STRENGTH = 10.0  # of the pose and of the image embedding, against 1 of the published model
POSE_PARTS = ("body", "hands", "face")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
ASPECTS = ("published", "auto", "keep")


def setting(default, *, choices: tuple[str, ...] = (), low: float | None = None, high: float | None = None,
            most: float | None = None, file: bool = False):  # fmt: skip
    """A field with what its value may be, null aside: one of `choices`, or from `low` to `high`.

    `most` is more than anybody means: a number beyond it is a slip, which would only show when memory or time is used
    up. `file` marks a path that is read: where it does not exist in the working directory, it is looked for beside the
    package as well. Where the value is a list, all of this holds for each of its entries.
    """
    metadata = {"choices": choices, "low": low, "high": high, "most": most, "file": file}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class TestCase:
    """One reference image with how to animate it. Field names are MimicMotion's."""

    __test__ = False  # the document's name looks like a test class to pytest

    ref_video_path: str | None = setting(None, file=True)  # driving video; used where batch.video_folder is null
    ref_image_path: str | None = setting(None, file=True)
    # frames per tile, the reference included; not the length of the video
    num_frames: int = setting(72, low=2, most=100_000)
    resolution: int = setting(576, most=8192)  # short side in pixels
    frames_overlap: int = setting(6, low=1)
    num_inference_steps: int = setting(25, low=1, most=1000)
    noise_aug_strength: float = setting(0.0, low=0, most=1000)
    guidance_scale: float = setting(2.0, low=0, most=1000)
    sample_stride: int = setting(2, low=1, most=100_000)  # of the driving video, at up to 48 frames per second
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
    num_inference_steps: int | None = setting(None, low=1, most=1000)
    guidance_scale: float | None = setting(None, low=0, most=1000)
    lcm_lora_path: str | None = setting(None, file=True)  # LoRA or complete UNet: file, folder or hub id
    lcm_weight_name: str | None = None
    lcm_lora_scale: float = setting(1.0, most=1000)
    more_lora_paths: list[str] | None = setting(None, file=True)  # applied after that one, in this order
    more_lora_scales: list[float] | None = None  # one for each of them; null: 1
    lcm_base_path: str | None = setting(None, file=True)  # SVD's own UNet, needed to merge a complete LCM UNet
    fuse_lcm_lora: bool = True
    skip_lcm_scheduler: bool = False
    scheduler_sigma_min: float = setting(0.002, low=1e-6, most=1e6)
    scheduler_sigma_max: float = setting(700.0, most=1e6)
    scheduler_sigma_data: float = setting(1.0, low=1e-6, most=1e6)
    scheduler_s_noise: float = setting(1.0, low=0, most=1000)
    scheduler_rho: float = setting(7.0, low=1e-6, most=1000)
    scheduler_clip_denoised: bool = False
    lcm_num_train_timesteps: int = setting(40, low=1, most=100_000)


@dataclass
class SamplingSettings:
    """How the pipeline samples and decodes, whatever the scheduler."""

    conditioning_fps: int = setting(7, low=1, most=1000)  # what the UNet is told; the published model always gets 7
    motion_bucket_id: int = setting(127, low=0, most=100_000)
    pose_strength: float = setting(1.0, low=0, high=LARGEST_STRENGTH)  # factor on PoseNet's features; 0: no pose
    # The share of the sampling steps in which the pose acts, from the first on; from the same to the same: in none.
    pose_start: float = setting(0.0, low=0, high=1)
    pose_end: float = setting(1.0, low=0, high=1)
    image_embed_strength: float = setting(1.0, low=0, high=LARGEST_STRENGTH)  # factor on the reference's CLIP embedding
    tile_layout: str = setting("upstream", choices=("upstream", "even"))
    cfg_batch: str = setting("auto", choices=("auto", "on", "off"))
    decode_chunk_size: int = setting(8, low=1, most=100_000)
    decode_overlap: int = setting(0, low=0, most=100_000)


@dataclass
class RuntimeSettings:
    """Where and how precisely the networks run."""

    device: str = "auto"
    dtype: str = setting("auto", choices=PRECISIONS)
    vae_dtype: str = setting("auto", choices=PRECISIONS)
    offload: str = setting("none", choices=("none", "model", "sequential"))
    compile: bool = False
    verify_weights: bool = False  # read every weight file anew to compare it with its hash; small ones always are


@dataclass
class VideoSettings:
    """How driving videos are read, and what is too much of them."""

    # auto is pyav; decord reads what it can be trusted with, pyav the rest
    reader: str = setting("auto", choices=("auto", "pyav", "decord"))
    accept_damaged: bool = False  # take what is there of a file whose data end early or are wrong
    max_side: int = setting(8192, low=1, most=10**6)  # pixels
    max_pixels: int = setting(8192 * 4320, low=1, most=10**12)  # of one frame
    max_frames: int = setting(100_000, low=1, most=10**9)
    max_bytes: int = setting(10**12, low=1, most=10**18)  # of all frames of a video, decoded


@dataclass
class ReferenceSettings:
    """How pictures are read, the reference and streaming's first one, and what shape the frames get from it."""

    # published: 9:16 for upright pictures, 16:9 for others; auto: nearest shape of about as many pixels; keep: the
    # same with nothing cut, the background at its edges; or width:height
    aspect: str = "published"
    background: str = "white"  # behind what is transparent: a name, or #rrggbb
    max_pixels: int = setting(300_000_000, low=1)  # of a picture file; 4 bytes each while it is read

    def __post_init__(self):
        # YAML 1.1 reads an unquoted 16:9 as a number of base 60.
        if re.fullmatch(r"[0-9]{2,9}", self.aspect):
            self.aspect = "{}:{}".format(*divmod(int(self.aspect), 60))


@dataclass
class PoseSettings:
    """Where poses come from and how they are fitted to the reference."""

    backend: str = setting("auto", choices=("auto", "dwpose", "mediapipe", "openpose", "file"))
    model_det: str = setting("models/DWPose/yolox_l.onnx", file=True)
    model_pose: str = setting("models/DWPose/dw-ll_ucoco_384.onnx", file=True)
    folder: str | None = setting(None, file=True)  # of saved poses, <video stem>.npz, for backend "file"
    save_folder: str | None = None
    align: str = setting("robust", choices=("linear", "robust", "none"))
    batch_size: int = setting(16, low=1, most=10_000)  # frames per call of the detector
    max_gap: int = setting(8, low=0, most=10**9)  # frames without a person that are bridged
    draw: list[str] = setting([*POSE_PARTS], choices=POSE_PARTS)
    restore_parts: bool = False  # lost hands and faces from other frames; published MimicMotion leaves them black


@dataclass
class StreamingSettings:
    """The action-driven world model and what it is to do."""

    config_path: str = setting("configs/streaming/tiny.yaml", file=True)  # sizes, mode and weight files of the model
    weights_folder: str | None = setting(None, file=True)  # null: as in that file, and so for checkpoint_path below
    checkpoint_path: str | None = setting(None, file=True)  # of the transformer
    image: str = setting("assets/streaming/first_frame.png", file=True)
    # of a batch run; null: as long as the script, 150 for bench
    num_latents: int | None = setting(None, low=1, most=MOST_LATENTS)
    max_latents: int | None = setting(None, low=1, most=10**9)  # of an interactive session; null: no end
    actions: str | None = None  # "bench", a script such as "W*12 W+L*24", or a file with one; null: bench or typed
    seed: int = setting(0, low=0, high=LARGEST_SEED)
    fps: float = setting(12.0, low=0.1, high=1000)  # of the written videos; the model is meant for up to 25
    encode_dtype: str = setting("auto", choices=PRECISIONS)  # of the VAE; fp32, since rollouts react to it
    decode_dtype: str = setting("auto", choices=PRECISIONS)  # fp16 on a GPU
    attention: str | None = None  # a diffusers attention back end; null: torch's own
    resume_from: str | None = setting(None, file=True)  # a session saved before
    save_state: str | None = None  # where to save the session at its end
    benchmark_blocks: int = setting(200, low=20, most=MOST_LATENTS)
    random_weights: bool = False  # benchmark without weight files, at the sizes of config_path


@dataclass
class OutputSettings:
    """What is written, and where."""

    output_dir: str = "outputs"
    variant: str | None = None  # results are called <video>.<variant>, beside those of other variants
    audio: str = setting("keep", choices=("keep", "drop"))
    crf: int = setting(18, low=0, high=51)
    comparison: bool = False
    contact_sheet: bool = True
    page: bool = True  # index.html in output_dir, a page of all results there; written anew at the end of each run
    overwrite: bool = False
    dry_run: bool = False


@dataclass
class FeatureCacheSettings:
    """The feature cache of inference_raw_batch_cache.py."""

    folder: str = "cache/features"
    enabled: bool = True
    pipeline_features: bool = True  # CLIP embeddings and VAE latents as well as poses
    force_refresh: bool = False
    max_gb: float | None = setting(10.0, low=0, most=1e9)  # of 1e9 bytes; null: no limit
    benchmark: bool = False
    benchmark_repeats: int = setting(3, low=1, most=10_000)


@dataclass
class LatentConcatSettings:
    """Keeping the latents of clips and joining them; see doc/latent_concat_experiment.md."""

    mode: str | None = setting(None, choices=("encode", "decode"))
    cache_dir: str = "latent_cache"
    output_dir: str = "outputs/latent_concat"
    experiment_name: str | None = None  # name of the joined mp4; null makes one of the clips and the options
    # frames sampled, the reference included; the memory of a long clip is bounded by it
    max_pose_frames: int = setting(179, low=2, most=10**6)
    individual_videos: bool = True
    overwrite_cache: bool = False
    keep_stale: bool = False
    drop_first: str = setting("each", choices=("each", "first", "none"))
    interp_frames: int = setting(0, low=0, most=10_000)
    interp_mode: str = setting("linear", choices=("linear", "slerp", "smooth"))
    isolate_clips: bool = False
    bridge_strength: float = setting(0.75, low=0, high=1)
    bridge_frames: int = setting(0, low=0, most=10_000)
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
class SentenceSettings:
    """Sentences made of word clips; see doc/sentences.md."""

    table: str | None = setting(None, file=True)  # CSV: a sentence's id and its words in order
    words: str | None = setting(None, file=True)  # folder of word clips
    csv_encoding: str = "utf-8"  # with or without a mark at its beginning; or another name that Python knows
    output_dir: str = "outputs/sentences"
    missing: str = setting("fail", choices=("skip", "fail"))  # words without a clip
    trim: bool = False  # cut rest pose and stillness off both ends of each word
    trim_hand_score: float = setting(0.8, low=0, high=1)  # median confidence from which on a hand counts as seen
    trim_lowest: float = setting(0.1, low=0, high=1)  # share of the picture in which both hands rest
    trim_still: float = setting(0.02, low=0, high=10)  # body heights; hands that stay within it are still
    join: str = setting("poses", choices=("poses", "cut"))
    transition_frames: str = "auto"  # between two words; auto: as many as the way of the hands takes
    speed_limit: float = setting(1.5, low=0.01, high=1000)  # of hands in a transition, body heights per second


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
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    streaming: StreamingSettings = field(default_factory=StreamingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    feature_cache: FeatureCacheSettings = field(default_factory=FeatureCacheSettings)
    latent_steps: LatentStepSettings = field(default_factory=LatentStepSettings)
    latent_concat: LatentConcatSettings = field(default_factory=LatentConcatSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    sentences: SentenceSettings = field(default_factory=SentenceSettings)


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
        content = _parse_yaml(f"value: {value}", shortened(repr(pair)))
        changed = _set(settings, key.strip(), content["value"], "setting")
        sources |= dict.fromkeys(changed, pair)
    try:
        config = OmegaConf.to_object(settings)
    except OmegaConfBaseException as error:
        raise UsageError(_explain(error)) from error
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
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise UsageError(f"no configuration {looked_for(path)}; pass --inference_config") from error
    _check_keys(content, Config, "", str(path))
    try:
        return OmegaConf.merge(settings, content), [name for name, _ in _leaves(content)]
    except OmegaConfBaseException as error:
        raise UsageError(f"{path}: {_explain(error)}") from error


def read_yaml(path: Path) -> dict:
    """The keys and plain values of a YAML file.

    Raises: FileNotFoundError; UsageError for a pipe or a folder, for text that is no YAML of keys and values or that
        would grow without end, and for interpolations (`${...}`).
    """
    reason = why_no_file(path)
    if reason == "does not exist":
        raise FileNotFoundError(path)
    if reason:
        raise UsageError(f"{path} {reason}; give a file of settings")
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {error.start}"
        raise UsageError(f"{path} is not UTF-8 text ({place}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(text) > MAX_FILE:
        raise UsageError(f"{path} has more than {MAX_FILE} bytes, which is no file of settings")
    content = _parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def _parse_yaml(text: str, where: str) -> Any:
    """Plain values; {} of an empty text."""
    try:
        _check_growth(text, where)
        return OmegaConf.to_container(OmegaConf.create(text))
    # int() and chr(), which YAML's reader calls, raise what they like.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OverflowError) as error:
        raise UsageError(f"{where} is not valid YAML: {error}") from error


def _check_growth(text: str, where: str) -> None:
    """Raises: UsageError for what stands for something else (`${...}`, ???, tags), and for nesting and anchors that
    would take the stack or the memory. Builds nothing.
    """
    finished: dict[str, tuple[int, int]] = {}  # anchor -> values in it, levels in it
    inside: list[list] = [["", 0, 0]]  # of what is open: anchor, values, levels

    def add(values: int, levels: int) -> None:
        inside[-1][1] += values
        inside[-1][2] = max(inside[-1][2], levels)
        if inside[-1][1] > MAX_VALUES or len(inside) + levels > MAX_LEVELS:
            raise UsageError(f"{where} has more than {MAX_VALUES} values or {MAX_LEVELS} levels, which are no settings")

    for event in yaml.parse(text):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor not in finished:
                raise UsageError(f"{where}: *{anchor} stands for something that holds it, or for nothing")
            add(*finished[anchor])
        elif isinstance(event, yaml.ScalarEvent):
            _check_text(event.value, where)
            if len(inside) == 1:
                raise UsageError(f"{where} must hold keys and values, not {shortened(repr(event.value))} alone")
            add(1, 0)
            finished[anchor] = (1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append([anchor, 1, 0])
            add(0, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            own, values, levels = inside.pop()
            finished[own] = (values, levels + 1)
            add(values, levels + 1)
        if getattr(event, "tag", None) not in PLAIN_TAGS:
            raise UsageError(f"{where}: the tag {event.tag} is not taken; write plain values")


def _check_text(text: str, where: str) -> None:
    """Raises: UsageError for a text that OmegaConf would replace, or that no name of a file can hold."""
    if "${" in text:
        raise UsageError(f"{where}: {shortened(text)}: interpolations (${{...}}) are not taken; write the value itself")
    if text == "???":
        raise UsageError(f"{where}: ??? is no value; write one, or leave the key out")
    if "\0" in text:
        raise UsageError(f"{where}: {shortened(text)}: no name holds a NUL character")


def shortened(value: object) -> str:
    """A value for a message, which a page of garbage must not fill."""
    text = printable(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _check_keys(content: dict, schema: type, prefix: str, where: str) -> None:
    """Raises: UsageError for the first key that `schema` does not have, with the nearest one that it has, and for the
    first value of another shape.
    """
    fields = {f.name: f.type for f in dataclasses.fields(schema)}
    for key, value in content.items():
        if key not in fields:
            name = shortened(f"{prefix}{key}")
            raise UsageError(f"{where}: unknown setting '{name}'{nearest(str(key), list(fields))}")
        _check_shape(value, fields[key], f"{prefix}{key}", where)


def _check_shape(value: Any, kind: Any, name: str, where: str) -> None:
    """Raises: UsageError unless a value is as a setting of type `kind` can be: keys and values, a list, or single."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{where}: '{name}' must hold keys and values, not {shortened(repr(value))}")
        _check_keys(value, kind, f"{name}.", where)
    elif name == "test_case":
        if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
            raise UsageError(f"{where}: 'test_case' must be a list of entries with keys and values")
        for i, case in enumerate(value):
            _check_keys(case, TestCase, f"test_case[{i}].", where)
    elif kind in LISTS:
        optional = value is None and type(None) in get_args(kind)
        if not optional and not isinstance(value, list | tuple):
            raise UsageError(f"{where}: '{name}' must be a list, not {shortened(repr(value))}")
        for item in value or ():
            if item is None:
                raise UsageError(f"{where}: '{name}' has an entry without a value")
            _check_shape(item, str, name, where)
    elif isinstance(value, dict | list | tuple):
        what = "keys and values" if isinstance(value, dict) else "a list"
        raise UsageError(f"{where}: '{name}' must be a single value, not {what}")
    elif isinstance(value, str):
        _check_text(value, f"{where}: {name}")
    elif isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        raise UsageError(f"{where}: '{name}' is a number of {value.bit_length()} bits")


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"


def _set(settings, key: str, value: Any, kind: str) -> list[str]:
    """Sets one value, or that of every test case; returns the paths."""
    paths = [key]
    if key.startswith("test_case[*]"):
        paths = [key.replace("[*]", f"[{i}]", 1) for i in range(len(settings.test_case))]
    for path in paths:
        _check_shape(value, _type_at(path, len(settings.test_case), kind), path, kind)
        try:
            OmegaConf.update(settings, path, value)
        except OmegaConfBaseException as error:
            raise UsageError(f"{kind} {path}={shortened(value)}: {_explain(error)}") from error
    return paths


def _type_at(path: str, cases: int, kind: str) -> Any:
    """The type of the setting at a path. Raises: UsageError for a path that leads nowhere."""
    schema: Any = Config
    for i, part in enumerate(split_path(path)):
        if schema is list:
            if not part.isdigit() or int(part) >= cases:
                raise UsageError(f"{kind} '{path}': there are test cases 0 to {cases - 1}")
            schema = TestCase
            continue
        fields = {f.name: f.type for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        if part not in fields:
            raise UsageError(f"unknown {kind} '{shortened(path)}'{nearest(part, list(fields)) if fields else ''}")
        schema = list if part == "test_case" and i == 0 else fields[part]
    return schema


def _explain(error: OmegaConfBaseException) -> str:
    reason = shortened(str(error).split("\n")[0])
    return f"{error.full_key}: {reason}" if getattr(error, "full_key", None) else reason


def check_config(config: Config) -> None:
    """Raises: UsageError for the first value that is no choice, out of range or in conflict with another."""
    for owner, path, part in _fields(config):
        _check_value(path, getattr(owner, part.name), part.metadata)
    if config.batch.videos is not None and not config.batch.videos:
        raise UsageError("batch.videos is empty; name videos, or null to take all of the folder")
    if config.sampling.decode_overlap >= config.sampling.decode_chunk_size:
        raise UsageError(
            f"sampling.decode_overlap {config.sampling.decode_overlap} must be below "
            f"sampling.decode_chunk_size {config.sampling.decode_chunk_size}"
        )
    if config.sampling.pose_start > config.sampling.pose_end:
        raise UsageError(
            f"sampling.pose_start {config.sampling.pose_start} must not be above sampling.pose_end "
            f"{config.sampling.pose_end}: the pose acts from the one to the other"
        )
    if not config.pose.draw:
        raise UsageError(f"pose.draw is empty; name some of {', '.join(POSE_PARTS)}, or pass --pose_strength 0")
    if config.turbo.scheduler_sigma_min >= config.turbo.scheduler_sigma_max:
        raise UsageError("turbo.scheduler_sigma_min must be below turbo.scheduler_sigma_max")
    _check_more_loras(config.turbo)
    if not config.test_case:
        raise UsageError("test_case is empty; at least one entry with a ref_image_path is needed")
    for i, case in enumerate(config.test_case):
        _check_case(f"test_case[{i}]", case)
    variant = config.output.variant
    if variant is not None and (not variant or os.path.basename(variant) != variant or variant in (".", "..")):
        raise UsageError(f"output.variant is {shortened(repr(variant))}; it must be a part of a file name")
    aspect_ratio(config.reference.aspect)
    parse_color(config.reference.background)
    transition_length(config.sentences.transition_frames)


def transition_length(text: str) -> int | None:
    """The number of frames between two words; None for "auto". Raises: UsageError for anything else."""
    if text == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= MOST_TRANSITION:
        return int(text)
    raise UsageError(
        f"sentences.transition_frames is {shortened(repr(text))}; it must be auto or a number of frames, 0 to "
        f"{MOST_TRANSITION}"
    )


def aspect_ratio(aspect: str) -> Fraction | None:
    """Width over height that `reference.aspect` asks for; None for those of its names that depend on the picture.

    Raises: UsageError for anything else, and for a frame more than 4 times as long as wide.
    """
    if aspect in ASPECTS:
        return None
    sides = re.fullmatch(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)", aspect, re.ASCII)
    if not sides or not all(map(float, sides.groups())):
        raise UsageError(f"reference.aspect is {aspect!r}; it must be {', '.join(ASPECTS)} or width:height, as 3:4")
    ratio = Fraction(sides[1]) / Fraction(sides[2])
    if not Fraction(1, WIDEST) <= ratio <= WIDEST:
        raise UsageError(f"reference.aspect is {aspect}; no side may be more than {WIDEST} times as long as the other")
    return ratio


def parse_color(text: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a name or #rrggbb. Raises: UsageError for what is no colour."""
    if text == ReferenceSettings.background:
        return (255, 255, 255)  # the default, for which nothing is imported
    from PIL import ImageColor

    try:
        color = ImageColor.getrgb(text)[:3]
    except ValueError:
        color = (256,)
    if max(color) > 255:
        raise UsageError(f"reference.background is {text!r}; give a colour such as white, grey or '#7f7f7f'")
    return color


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
    choices, low, high, most = (limits.get(name) for name in ("choices", "low", "high", "most"))
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        if choices and item not in choices:
            raise UsageError(f"{path} is {shortened(repr(item))}{nearest(str(item), list(choices))}")
    if isinstance(value, float) and not math.isfinite(value) and high is None:
        raise UsageError(f"{path} is {value}; it must be a number{'' if low is None else f', {low} or more'}")
    if not (low is None or value >= low) or not (high is None or value <= high):
        span = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"{path} is {value}; it must be {span}")
    if most is not None and abs(value) > most:
        raise UsageError(f"{path} is {value}; at most {most} can be meant")


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

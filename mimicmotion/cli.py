"""Flags that the scripts share, and how a script starts and ends.

A flag only overrides the setting it names; its default is None, so that defaults live in the configuration alone.
Nothing heavy is imported here: `--help` and a mistyped flag answer at once.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mimicmotion.config import CHOICES, Config, load_config, to_yaml
from mimicmotion.errors import MimicMotionError

INTERRUPTED = 130
DEFAULT_CONFIG = "configs/test.yaml"
EXIT_CODES = "exit codes: 0 all done, 1 some items failed, 2 wrong use, 3 weights, disk or device, 130 interrupted"

logger = logging.getLogger("mimicmotion")


@dataclass(frozen=True)
class Flag:
    """A command-line flag and the setting that it overrides.

    kind is a type, a list type ("list"), or a constant that the bare flag stands for.
    """

    name: str
    path: str
    kind: Any
    help: str


COMMON = (
    Flag("--batch_folder", "batch.video_folder", str, "folder of driving videos or of frame folders, or one video"),
    Flag("--videos", "batch.videos", "list", "names within the folder, or paths, to run instead of all"),
    Flag("--output_dir", "output.output_dir", str, "folder for results"),
    Flag("--ref_image_path", "test_case[*].ref_image_path", str, "picture of the person to animate"),
    Flag("--resolution", "test_case[*].resolution", int, "short side in pixels, a multiple of 64"),
    Flag("--num_frames", "test_case[*].num_frames", int, "frames per tile, the reference included"),
    Flag("--frames_overlap", "test_case[*].frames_overlap", int, "nominal overlap of tiles"),
    Flag("--sample_stride", "test_case[*].sample_stride", int, "take every n-th frame of the driving video"),
    Flag("--fps", "test_case[*].fps", float, "frames per second of the result"),
    Flag("--noise_aug_strength", "test_case[*].noise_aug_strength", float, "noise on the reference before the VAE"),
    Flag("--seed", "test_case[*].seed", int, "seed of all random numbers"),
    Flag("--overwrite", "output.overwrite", True, "run finished results again"),
    Flag("--dry_run", "output.dry_run", True, "list what would run and its UNet calls, and stop"),
    Flag("--comparison", "output.comparison", True, "also write driving, pose and result side by side"),
    Flag("--audio", "output.audio", str, "the driving video's sound, where the speed is right"),
    Flag("--video_reader", "video.reader", str, "what decodes driving videos"),
    Flag("--accept_damaged", "video.accept_damaged", True, "take what can be read of a damaged driving video"),
)

RUNTIME = (
    Flag("--device", "runtime.device", str, "auto, cuda, cuda:1, mps or cpu"),
    Flag("--dtype", "runtime.dtype", str, "precision of UNet, PoseNet and CLIP"),
    Flag("--no_use_float16", "runtime.dtype", "fp32", "same as --dtype fp32"),
    Flag("--vae_dtype", "runtime.vae_dtype", str, "precision of the VAE"),
    Flag("--offload", "runtime.offload", str, "keep networks on the host: whole models, or layer by layer"),
    Flag("--compile", "runtime.compile", True, "compile the UNet (slow first call)"),
    Flag("--cfg_batch", "sampling.cfg_batch", str, "run both passes of guidance as one batch"),
    Flag("--tile_layout", "sampling.tile_layout", str, "where tiles start"),
    Flag("--decode_chunk_size", "sampling.decode_chunk_size", int, "frames per call of the VAE decoder"),
    Flag("--decode_overlap", "sampling.decode_overlap", int, "frames that neighbouring decoder chunks share and blend"),
)

POSE = (
    Flag("--pose_backend", "pose.backend", str, "where poses come from"),
    Flag("--pose_folder", "pose.folder", str, "folder of saved poses for --pose_backend file"),
    Flag("--save_pose", "pose.save_folder", str, "also write the driving poses there as .npz"),
    Flag("--align", "pose.align", str, "fit of the driving skeleton to the reference"),
)

TURBO = (
    Flag("--scheduler", "turbo.scheduler", str, "sampler"),
    Flag("--num_inference_steps", "turbo.num_inference_steps", int, "denoising steps"),
    Flag("--guidance_scale", "turbo.guidance_scale", float, "classifier-free guidance; 1 runs one pass per tile"),
    Flag("--lcm_lora_path", "turbo.lcm_lora_path", str, "LCM weights: LoRA or complete UNet; file, folder or hub id"),
    Flag("--lcm_weight_name", "turbo.lcm_weight_name", str, "file within --lcm_lora_path"),
    Flag("--lcm_lora_scale", "turbo.lcm_lora_scale", float, "strength of the LCM weights"),
    Flag("--no_fuse_lcm_lora", "turbo.fuse_lcm_lora", False, "keep the LoRA as a live adapter"),
    Flag("--skip_lcm_scheduler", "turbo.skip_lcm_scheduler", True, "LCM weights with the model's own scheduler"),
    Flag("--scheduler_sigma_min", "turbo.scheduler_sigma_min", float, "lowest noise level of the LCM grid"),
    Flag("--scheduler_sigma_max", "turbo.scheduler_sigma_max", float, "highest noise level of the LCM grid"),
    Flag("--scheduler_sigma_data", "turbo.scheduler_sigma_data", float, "data deviation of the LCM preconditioning"),
    Flag("--scheduler_s_noise", "turbo.scheduler_s_noise", float, "factor on the noise added in LCM steps"),
    Flag("--scheduler_rho", "turbo.scheduler_rho", float, "curvature of the LCM grid"),
    Flag("--scheduler_clip_denoised", "turbo.scheduler_clip_denoised", True, "clamp predicted latents to -1..1"),
    Flag("--lcm_num_train_timesteps", "turbo.lcm_num_train_timesteps", int, "points of the LCM grid"),
)

CACHE = (
    Flag("--feature_cache_dir", "feature_cache.folder", str, "folder of the feature cache"),
    Flag("--disable_feature_cache", "feature_cache.enabled", False, "neither read nor write the feature cache"),
    Flag("--disable_pipeline_feature_cache", "feature_cache.pipeline_features", False, "keep poses only"),
    Flag("--feature_cache_force_refresh", "feature_cache.force_refresh", True, "compute and store every feature anew"),
    Flag("--feature_cache_max_gb", "feature_cache.max_gb", float, "bound; the least recently used goes first"),
    Flag("--benchmark_cache", "feature_cache.benchmark", True, "time cold and warm passes, and stop"),
    Flag("--benchmark_repeats", "feature_cache.benchmark_repeats", int, "pairs of passes of --benchmark_cache"),
)

CONCAT = (
    Flag("--mode", "latent_concat.mode", str, "encode: sample clips and keep their latents; decode: join kept latents"),
    Flag("--video_folder", "batch.video_folder", str, "folder of driving videos"),
    Flag("--videos", "batch.videos", "list", "videos to take, in the order of the join, instead of all"),
    Flag("--cache_dir", "latent_concat.cache_dir", str, "folder of kept latents, <video stem>.pt"),
    Flag("--output_dir", "latent_concat.output_dir", str, "folder for mp4 files"),
    Flag("--experiment_name", "latent_concat.experiment_name", str, "name of the joined mp4"),
    Flag("--max_pose_frames", "latent_concat.max_pose_frames", int, "sample at most so many, the reference included"),
    Flag("--disable_individual_videos", "latent_concat.individual_videos", False, "encode: write no mp4 of each clip"),
    Flag("--overwrite_cache", "latent_concat.overwrite_cache", True, "encode: sample again what is kept"),
    Flag("--keep_stale", "latent_concat.keep_stale", True, "encode: keep latents that were made differently"),
    Flag("--drop_first", "latent_concat.drop_first", str, "leave out the reference frame of each clip, or the first"),
    Flag("--keep_first_frame", "latent_concat.drop_first", "none", "same as --drop_first none"),
    Flag("--interp_frames", "latent_concat.interp_frames", int, "frames between clips; with smooth: that overlap"),
    Flag("--interp_mode", "latent_concat.interp_mode", str, "how these frames are made"),
    Flag("--isolate_clips", "latent_concat.isolate_clips", True, "decode each clip by itself"),
    Flag("--bridge_frames", "latent_concat.bridge_frames", int, "frames between clips that the model samples"),
    Flag("--bridge_strength", "latent_concat.bridge_strength", float, "share of the steps that sample a bridge, 0..1"),
    Flag("--report", "latent_concat.report", True, "also compare all ways to join: joins.json, joins.png"),
    *(flag for flag in COMMON if flag.path.startswith("test_case")),
)

STREAMING = (
    Flag("--config_path", "streaming.config_path", str, "world model: a file of configs/streaming"),
    Flag("--checkpoint_path", "streaming.checkpoint_path", str, "weights of the transformer"),
    Flag("--pretrained_model_path", "streaming.weights_folder", str, "folder of all weights"),
    Flag("--img_path", "streaming.image", str, "first picture"),
    Flag("--actions", "streaming.actions", str, "bench, a script such as 'W*12 W+L*24', or a file with one"),
    Flag("--seed", "streaming.seed", int, "seed of the noise and of the bench actions"),
    Flag("--fps", "streaming.fps", float, "frames per second of the videos"),
    Flag("--output_dir", "output.output_dir", str, "folder for results"),
    Flag("--device", "runtime.device", str, "auto, cuda, cuda:1, mps or cpu"),
    Flag("--dtype", "runtime.dtype", str, "precision of transformer and CLIP; auto is bf16 on a GPU"),
    Flag("--encode_dtype", "streaming.encode_dtype", str, "precision of the VAE's encoder"),
    Flag("--decode_dtype", "streaming.decode_dtype", str, "precision of the VAE's decoder"),
    Flag("--attention", "streaming.attention", str, "a diffusers attention back end, such as flash or _flash_3"),
    Flag("--compile", "runtime.compile", True, "compile transformer and decoder (slow first blocks)"),
)

BATCH = (
    Flag("--num_output_frames", "streaming.num_latents", int, "length in latents, a multiple of 3; 150 are 597 frames"),
)

SESSION = (
    Flag("--max_num_output_frames", "streaming.max_latents", int, "end a session after so many latents"),
    Flag("--resume_from", "streaming.resume_from", str, "go on with a session saved before"),
    Flag("--save_state", "streaming.save_state", str, "save the session there at its end"),
)

BENCHMARK = (
    Flag("--blocks", "streaming.benchmark_blocks", int, "blocks to run; memory is read at block 10 and at the last"),
    Flag("--random_weights", "streaming.random_weights", True, "draw weights at the configured sizes, read none"),
)

RECORDING = (
    Flag("--save_step_latents", "latent_steps.folder", str, "record the latents of every step below this folder"),
    Flag("--experiment_name", "latent_steps.experiment_name", str, "name of that recording (the videos' folder's)"),
)

GROUPS = {
    "run": COMMON,
    "recording": RECORDING,
    "device": RUNTIME,
    "pose": POSE,
    "turbo": TURBO,
    "cache": CACHE,
    "concat": CONCAT,
    "streaming": STREAMING,
    "batch": BATCH,
    "session": SESSION,
    "benchmark": BENCHMARK,
}


def build_parser(doc: str, groups: tuple[str, ...]) -> argparse.ArgumentParser:
    """A parser with the flags of `groups`, all of them None until given, and trailing `path=value` settings.

    A flag that two groups share appears in the first and sets what both say.
    """
    summary, _, rest = doc.strip().partition("\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=f"{rest.strip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="any setting, such as sampling.crf=20")
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings (%(default)s)")
    parser.add_argument("--print_config", action="store_true", help="print the resolved settings and stop")
    parser.add_argument("--log_file", metavar="FILE", help="also write the log there")
    parser.add_argument("--log_level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    added: set[str] = set()
    for group in groups:
        section = parser.add_argument_group(group)
        for flag in GROUPS[group]:
            if flag.name not in added:
                _add_flag(section, flag)
            added.add(flag.name)
    return parser


def _add_flag(section, flag: Flag) -> None:
    destination = flag.name.lstrip("-")
    choices = CHOICES.get(flag.path) if flag.kind is str else None
    text = f"{flag.help} ({' | '.join(choices)})" if choices else flag.help
    if flag.kind == "list":
        section.add_argument(flag.name, dest=destination, nargs="+", metavar="NAME", help=text)
    elif isinstance(flag.kind, type):
        section.add_argument(flag.name, dest=destination, type=flag.kind, metavar=flag.kind.__name__.upper(), help=text)
    else:
        section.add_argument(flag.name, dest=destination, action="store_const", const=flag.kind, help=text)


def given_settings(arguments: argparse.Namespace, groups: tuple[str, ...]) -> dict[str, Any]:
    """The settings that flags were given for, by path."""
    flags = [flag for group in groups for flag in GROUPS[group]]
    values = [(flag.path, getattr(arguments, flag.name.lstrip("-"))) for flag in flags]
    return {path: value for path, value in values if value is not None}


def parse_config(arguments: argparse.Namespace, groups: tuple[str, ...]) -> Config:
    """The resolved settings of a script's arguments. Raises: UsageError as `load_config`."""
    given = given_settings(arguments, groups)
    config = load_config(arguments.inference_config, given, arguments.overrides)
    if "turbo" in groups:
        _follow_scheduler(config, arguments)
    return config


def _follow_scheduler(config: Config, arguments: argparse.Namespace) -> None:
    """Steps, guidance and LCM weights of a file belong to its scheduler: another one, asked for by flag, takes its
    own unless they are given too. LCM weights belong to the file's base model as well.
    """
    in_file = load_config(arguments.inference_config)
    own: tuple[str, ...] = ()
    if config.turbo.scheduler != in_file.turbo.scheduler:
        own = ("num_inference_steps", "guidance_scale", "lcm_lora_path")
    elif config.base_model_path != in_file.base_model_path:
        own = ("lcm_lora_path",)
    named = {pair.partition("=")[0] for pair in arguments.overrides}
    for key in own:
        if getattr(arguments, key) is None and f"turbo.{key}" not in named:
            setattr(config.turbo, key, None)


def run_script(doc: str, groups: tuple[str, ...], work: Callable[[Config], int], argv: list[str] | None = None) -> int:
    """Parses, prints the settings and runs `work(config)`; the exit code of a whole script.

    Errors for the user end in one line, an interrupt in 130; a second Ctrl-C ends at once.
    """
    arguments = build_parser(doc, groups).parse_args(argv)
    setup_logging(arguments.log_level, arguments.log_file)
    try:
        config = parse_config(arguments, groups)
        if arguments.print_config:
            print(to_yaml(config), end="")
            return 0
        logger.info("Settings:\n%s", to_yaml(config).rstrip())
        with terminate_as_interrupt():
            return work(config)
    except MimicMotionError as error:
        logger.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        logger.warning("Interrupted; run the same command again to go on")
        return INTERRUPTED


def setup_logging(level: str = "INFO", log_file: str | None = None) -> None:
    """Sends the log to stderr, and to `log_file` too; libraries only speak up with warnings."""
    # At import transformers warns wherever torchvision is absent, which is intended here.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:
        os.makedirs(os.path.dirname(os.path.abspath(log_file)), exist_ok=True)
        handlers.append(logging.FileHandler(log_file, "w", encoding="utf-8"))
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(message)s", handlers=handlers, force=True)
    logger.setLevel(level)
    logging.captureWarnings(True)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Within, SIGTERM (a scheduler's pre-emption) acts like Ctrl-C."""

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

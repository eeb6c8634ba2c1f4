"""Flags that several commands share, by group.

A flag only overrides the setting it names; its default is None, so that defaults live in the configuration alone.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flag:
    """A command-line flag and the setting that it overrides.

    kind is a type, a list type ("list"), texts of a flag that is given many times ("pairs"), or a constant that the
    bare flag stands for. A path that begins with "test_case[*]" means every test case. A flag with `more` takes several
    values, and those after the first are that list.
    """

    name: str
    path: str
    kind: Any
    help: str
    more: str | None = None


RUN = (
    Flag("--batch_folder", "batch.video_folder", str, "folder of driving videos or of frame folders, or one video"),
    Flag("--videos", "batch.videos", "list", "names within the folder, or paths, to run instead of all"),
    Flag("--shard", "batch.shard", str, "make this part of the results: 1/N to N/N, or auto for SLURM, torchrun"),
    Flag("--output_dir", "output.output_dir", str, "folder for results"),
    Flag("--ref_image_path", "test_case[*].ref_image_path", str, "picture of the person to animate"),
    Flag("--resolution", "test_case[*].resolution", int, "short side in pixels, a multiple of 64"),
    Flag("--aspect", "reference.aspect", str, "shape of the frames: published, auto, keep or width:height"),
    Flag("--background", "reference.background", str, "colour behind a picture's transparent parts"),
    Flag("--num_frames", "test_case[*].num_frames", int, "frames per tile, the reference included"),
    Flag("--frames_overlap", "test_case[*].frames_overlap", int, "nominal overlap of tiles"),
    Flag("--sample_stride", "test_case[*].sample_stride", int, "take every n-th frame of the driving video"),
    Flag("--fps", "test_case[*].fps", float, "frames per second of the result"),
    Flag("--noise_aug_strength", "test_case[*].noise_aug_strength", float, "noise on the reference before the VAE"),
    Flag("--seed", "test_case[*].seed", int, "seed of all random numbers"),
    Flag("--variant", "output.variant", str, "name these results <video>.<variant>, beside those made otherwise"),
    Flag("--overwrite", "output.overwrite", True, "run finished results again, and replace those made differently"),
    Flag("--dry_run", "output.dry_run", True, "list what would run and its UNet calls, and stop"),
    Flag("--comparison", "output.comparison", True, "also write driving, pose and result side by side"),
    Flag("--audio", "output.audio", str, "the driving video's sound, where the speed is right"),
    Flag("--video_reader", "video.reader", str, "what decodes driving videos"),
    Flag("--accept_damaged", "video.accept_damaged", True, "take what can be read of a damaged driving video"),
)

MODEL = (
    Flag("--base_model_path", "base_model_path", str, "model in diffusers' layout: folder or hub id"),
    Flag("--ckpt_path", "ckpt_path", str, "MimicMotion's own weights, unless that folder holds the whole model"),
    Flag("--pose_net_path", "pose_net_path", str, "the PoseNet, where it lies in a file of its own"),
    Flag("--verify_weights", "runtime.verify_weights", True, "compare every weight file with its hash before the run"),
)

DEVICE = (
    Flag("--device", "runtime.device", str, "auto, cuda, cuda:1, mps or cpu"),
    Flag("--dtype", "runtime.dtype", str, "precision of UNet, PoseNet and CLIP"),
    Flag("--no_use_float16", "runtime.dtype", "fp32", "same as --dtype fp32"),
    Flag("--vae_dtype", "runtime.vae_dtype", str, "precision of the VAE"),
    Flag("--offload", "runtime.offload", str, "keep networks on the host: whole models, or layer by layer"),
    Flag("--vram", "runtime.vram", str, "GiB of a card that the run is planned for; auto: what is free on the GPU"),
    Flag("--compile", "runtime.compile", True, "compile UNet and VAE decoder (slow first call)"),
    Flag("--speed", "speed.preset", str, "max: --compile, --channels_last and --fuse_qkv"),
    Flag("--attention", "speed.attention", str, "attention kernel of the UNet, by diffusers' name"),
    Flag("--channels_last", "speed.channels_last", True, "convolutions with channels innermost"),
    Flag("--fuse_qkv", "speed.fuse_qkv", True, "query, key and value of the UNet's attention in one product"),
    Flag("--fp8", "speed.fp8", True, "keep the UNet's weights in 8-bit floats: less memory, another result"),
    Flag("--step_cache", "speed.step_cache", int, "compute the UNet's inner blocks in every n-th step only"),
    Flag("--cfg_batch", "sampling.cfg_batch", str, "run both passes of guidance as one batch"),
    Flag("--tile_layout", "sampling.tile_layout", str, "where tiles start"),
    Flag("--decoder", "sampling.decoder", str, "what makes frames of latents: full, tiny or a small decoder's path"),
    Flag("--decode_chunk_size", "sampling.decode_chunk_size", int, "frames per call of the VAE decoder"),
    Flag("--decode_overlap", "sampling.decode_overlap", int, "frames that neighbouring decoder chunks share and blend"),
    Flag("--decode_tile", "sampling.decode_tile", int, "decode frames in tiles of this side in pixels (small cards)"),
)

POSE = (
    Flag("--pose_backend", "pose.backend", str, "where poses come from"),
    Flag("--pose_folder", "pose.folder", str, "folder of saved poses for --pose_backend file"),
    Flag("--save_pose", "pose.save_folder", str, "also write the driving poses there as .npz"),
    Flag("--align", "pose.align", str, "fit of the driving skeleton to the reference"),
    Flag("--draw", "pose.draw", "list", "which parts of a pose are drawn"),
    Flag("--pose_strength", "sampling.pose_strength", float, "how strongly poses act, 0..10; 0 samples without"),
    Flag("--pose_start", "sampling.pose_start", float, "share of the steps after which poses begin to act, 0..1"),
    Flag("--pose_end", "sampling.pose_end", float, "share of the steps after which they no longer do, 0..1"),
    Flag("--image_embed_strength", "sampling.image_embed_strength", float, "factor on the picture's embedding, 0..10"),
)

TURBO = (
    Flag("--scheduler", "turbo.scheduler", str, "sampler"),
    Flag("--num_inference_steps", "turbo.num_inference_steps", int, "denoising steps"),
    Flag("--guidance_scale", "turbo.guidance_scale", float, "classifier-free guidance; 1 runs one pass per tile"),
    Flag(
        "--lcm_lora_path",
        "turbo.lcm_lora_path",
        str,
        "LCM weights: LoRA or complete UNet; file, folder or hub id; several are applied one after the other",
        more="turbo.more_lora_paths",
    ),
    Flag("--lcm_weight_name", "turbo.lcm_weight_name", str, "file within --lcm_lora_path"),
    Flag(
        "--lcm_lora_scale",
        "turbo.lcm_lora_scale",
        float,
        "strength of the LCM weights; of several, one each",
        more="turbo.more_lora_scales",
    ),
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

AHEAD = (
    Flag("--prefetch", "batch.prefetch", int, "clips to make ready ahead; null: 1 beside a GPU, else 0, as on workers"),
    Flag("--overlap", "batch.overlap", str, "decode and write a result while the next is sampled; same bytes"),
)

RECORDING = (
    Flag("--preview", "output.preview", True, "a picture of each clip while it is sampled, a row for each step"),
    Flag("--save_step_latents", "latent_steps.folder", str, "record the latents of every step below this folder"),
    Flag("--experiment_name", "latent_steps.experiment_name", str, "name of that recording; null: that of the videos"),
)

CLUSTER = (
    Flag("--workers", "cluster.workers", str, "make results on so many Ray workers, each on a GPU; auto: on all"),
    Flag("--ray_address", "cluster.address", str, "Ray cluster to work on: auto or host:port; else this machine"),
    Flag("--gpus_per_worker", "cluster.gpus_per_worker", float, "0.5: two share a GPU; null: 1 where there are any"),
    Flag("--cpus_per_worker", "cluster.cpus_per_worker", int, "cores of each worker"),
    Flag("--item_timeout", "cluster.item_timeout", float, "seconds for one result, loading not counted"),
    Flag("--start_timeout", "cluster.start_timeout", float, "seconds for a worker to find a place, or to load"),
    Flag("--attempts", "cluster.attempts", int, "tries of a result that ends its worker"),
)

STREAMING = (
    Flag("--config_path", "streaming.config_path", str, "world model: a file of configs/streaming"),
    Flag("--checkpoint_path", "streaming.checkpoint_path", str, "weights of the transformer"),
    Flag("--pretrained_model_path", "streaming.weights_folder", str, "folder of all weights"),
    Flag("--verify_weights", "runtime.verify_weights", True, "compare every weight file with its hash before the run"),
    Flag("--img_path", "streaming.image", str, "first picture"),
    Flag("--background", "reference.background", str, "colour behind its transparent parts"),
    Flag("--actions", "streaming.actions", str, "bench, a script like 'W*12 W+L*24', or a file: script, log, record"),
    Flag("--seed", "streaming.seed", int, "seed of the noise and of the bench actions"),
    Flag("--fps", "streaming.fps", float, "frames per second of the videos"),
    Flag("--output_dir", "output.output_dir", str, "folder for results"),
    Flag("--variant", "output.variant", str, "name the videos <picture>.<variant>"),
    Flag("--overwrite", "output.overwrite", True, "replace the session of that name instead of numbering a new one"),
    Flag("--device", "runtime.device", str, "auto, cuda, cuda:1, mps or cpu"),
    Flag("--dtype", "runtime.dtype", str, "precision of transformer and CLIP; auto is bf16 on a GPU"),
    Flag("--encode_dtype", "streaming.encode_dtype", str, "precision of the VAE's encoder"),
    Flag("--decode_dtype", "streaming.decode_dtype", str, "precision of the VAE's decoder"),
    Flag("--decoder", "streaming.decoder", str, "what makes frames of latents: full, tiny or a small decoder's path"),
    Flag("--attention", "streaming.attention", str, "a diffusers attention back end, such as flash or _flash_3"),
    Flag("--overlap", "streaming.overlap", str, "decode a block while the next one is denoised; same frames"),
    Flag("--compile", "runtime.compile", True, "compile transformer and decoder (slow first blocks)"),
)

REPLAY = (Flag("--replay", "streaming.replay", str, "make the session of this log (.session.jsonl) again"),)

"""Every setting with its default, and beside it what it may be: choices, range, is it a file."""

import re
from dataclasses import dataclass, field

SIZE_MULTIPLE = 64  # the VAE divides by 8, the UNet by 8 again
ASPECT_RATIO = 9 / 16
WIDEST = 4  # longest side over shortest of a frame that one may ask for
LARGEST_SEED = 2**63 - 1
MOST_TRANSITION = 10_000  # frames between two words
MOST_WORDS = 1000  # of a sentence of random words
JOINS = ("poses", "bridge", "slerp", "linear", "latents", "cut")  # ways from word to word
MOST_LATENTS = 250_000  # of a streaming run: a million frames, 23 hours at 12 a second
LARGEST_STRENGTH = 10.0  # of the pose and of the image embedding, against 1 of the published model
POSE_PARTS = ("body", "hands", "face")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
ASPECTS = ("published", "auto", "keep")
ATTENTION = (
    "native", "sage", "flash", "_flash_3", "xformers", "_native_cudnn", "_native_flash", "_native_efficient",
    "_native_math",
)  # fmt: skip


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
    shard: str | None = None  # "2/4": the second of four parts of all results; "auto": as the scheduler says; null: all
    # clips made ready while one is sampled and written, in a thread of their own; null: 1 beside a GPU, 0 on a CPU.
    # With cluster.workers: clips for each worker whose poses are found ahead, by processes of their own; null: 0.
    prefetch: int | None = setting(None, low=0, high=100)
    # decode and write a result while the next is sampled, the same bytes; auto: on a GPU that has room for both
    overlap: str = setting("auto", choices=("auto", "on", "off"))


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
    decoder: str = setting("full", file=True)  # of latents: the model's VAE, tiny: the published small one, or a path
    decode_chunk_size: int = setting(8, low=1, most=100_000)
    decode_overlap: int = setting(0, low=0, most=100_000)
    # side in pixels of tiles that each frame is decoded in; null: whole frames
    decode_tile: int | None = setting(None, low=128, most=100_000)


@dataclass
class RuntimeSettings:
    """Where and how precisely the networks run."""

    device: str = "auto"
    dtype: str = setting("auto", choices=PRECISIONS)
    vae_dtype: str = setting("auto", choices=PRECISIONS)
    offload: str = setting("none", choices=("none", "model", "sequential"))  # none: where memory does not ask for it
    vram: str = "auto"  # GiB that a run may take of a card; auto: as much as is free on a GPU
    compile: bool = False
    verify_weights: bool = False  # read every weight file anew to compare it with its hash; small ones always are


@dataclass
class SpeedSettings:
    """Other ways to compute the same; see doc/performance.md."""

    # max: compiled, channels_last and fuse_qkv together
    preset: str = setting("plain", choices=("plain", "max"))
    attention: str = setting("native", choices=ATTENTION)  # a kernel by diffusers' name; native: torch chooses
    channels_last: bool = False
    fuse_qkv: bool = False  # query, key and value in one product
    fp8: bool = False  # the UNet's weights in 8-bit floats: half the memory, another result
    # The UNet's inner blocks are computed in every n-th step alone; another result. 1: in every step.
    step_cache: int = setting(1, low=1, high=10)


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

    config_path: str = setting("configs/streaming/world.yaml", file=True)  # sizes, mode and weight files of the model
    weights_folder: str | None = setting(None, file=True)  # null: as in that file, and so for checkpoint_path below
    checkpoint_path: str | None = setting(None, file=True)  # of the transformer
    image: str = setting("assets/streaming/first_frame.png", file=True)
    # of a batch run; null: as long as the script, 150 for bench
    num_latents: int | None = setting(None, low=1, most=MOST_LATENTS)
    max_latents: int | None = setting(None, low=1, most=10**9)  # of an interactive session; null: no end
    # "bench", a script such as "W*12 W+L*24" or "w-12,wl-24", or a file: a script, a session's log or record; null:
    # bench or typed
    actions: str | None = None
    replay: str | None = setting(None, file=True)  # a session's log: its picture, seed and actions again
    seed: int = setting(0, low=0, high=LARGEST_SEED)
    fps: float = setting(12.0, low=0.1, high=1000)  # of the written videos; the model is meant for up to 25
    encode_dtype: str = setting("auto", choices=PRECISIONS)  # of the VAE; fp32, since rollouts react to it
    decode_dtype: str = setting("auto", choices=PRECISIONS)  # fp16 on a GPU
    decoder: str = setting("full", file=True)  # the VAE's, tiny: the published small one, or a path
    attention: str | None = None  # a diffusers attention back end; null: torch's own
    # decode a block while the next is denoised, where actions are prepared; auto: on a GPU, or with cores to spare
    overlap: str = setting("auto", choices=("auto", "on", "off"))
    resume_from: str | None = setting(None, file=True)  # a session saved before
    session_log: str | None = setting(None, file=True)  # of that session; null: the one beside it, where there is one
    whole: bool = False  # the video begins with the session's first block: those before are made again
    save_state: str | None = None  # where to save the session at its end
    # of an interactive session, a block: one takes all keys; three are the published ones
    ask: str = setting("one", choices=("one", "three"))
    lang: str = setting("auto", choices=("auto", "en", "zh"))  # of an interactive session; auto: the terminal's
    benchmark_blocks: int = setting(200, low=20, most=MOST_LATENTS)
    random_weights: bool = False  # benchmark without weight files, at the sizes of config_path


@dataclass
class ServingSettings:
    """A world model played in a browser."""

    # in the place of streaming.config_path, whose default shows no more than that everything runs
    config_path: str = setting("configs/streaming/world.yaml", file=True)
    image: str | None = setting(None, file=True)  # first picture; null: the world's own, else streaming.image
    host: str = "127.0.0.1"  # any other address needs a token, which stands in the link
    port: int = setting(8000, low=0, high=65535)  # 0: any that is free
    names: list[str] | None = None  # further names by which browsers reach this machine
    require_token: bool = False  # for 127.0.0.1 too, as on a machine that others can log into
    idle_timeout: float = setting(600.0, low=1, most=1e9)  # seconds without a key after which a session ends
    turn_seconds: float = setting(120.0, low=1, most=1e9)  # of a turn while others wait for theirs
    history: int = setting(64, low=0, most=100_000)  # blocks that one can go back to at once; others are made again
    history_mb: int = setting(1024, low=0, most=10**9)  # of 2^20 bytes: what these may take of a session


@dataclass
class OutputSettings:
    """What is written, and where."""

    output_dir: str = "outputs"
    variant: str | None = None  # results are called <video>.<variant>, beside those of other variants
    audio: str = setting("keep", choices=("keep", "drop"))
    crf: int = setting(18, low=0, high=51)
    comparison: bool = False
    preview: bool = False  # previews/<result>.jpg beside the results, a row of frames for each sampling step
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
    random: list[str] | None = None  # words of each sentence, and number of sentences, taken at random; no table then
    csv_encoding: str = "utf-8"  # with or without a mark at its beginning; or another name that Python knows
    output_dir: str = "outputs/sentences"
    missing: str = setting("fail", choices=("skip", "fail"))  # words without a clip
    trim: bool = False  # cut rest pose and stillness off both ends of each word
    trim_hand_score: float = setting(0.8, low=0, high=1)  # median confidence from which on a hand counts as seen
    trim_lowest: float = setting(0.1, low=0, high=1)  # share of the picture in which both hands rest
    trim_still: float = setting(0.02, low=0, high=10)  # body heights; hands that stay within it are still
    join: str = setting("poses", choices=JOINS)
    compare: bool = False  # make every sentence in all of these ways, and measure its joins
    truth: str | None = setting(None, file=True)  # folder of true sentences that joins are measured against
    transition_frames: str = "auto"  # between two words; auto: as many as the way of the hands takes
    speed_limit: float = setting(1.5, low=0.01, high=1000)  # of hands in a transition, body heights per second


@dataclass
class EvaluationSettings:
    """Measuring results and sessions; see doc/evaluation.md."""

    results: str | None = setting(None, file=True)  # folder of results, or of sessions
    output_dir: str | None = None  # null: the folder "evaluation" in that of the results
    protocol: str = setting("cross", choices=("cross", "self"))  # self: the driving video is the truth
    truth: str | None = setting(None, file=True)  # folder of true videos
    inputs: str | None = setting(None, file=True)  # where driving videos and references lie now, if not where they did
    fvd_weights: str | None = setting(None, file=True)  # I3D as TorchScript
    fvd_sha256: str | None = None  # of that file; without it the file, which runs code, is not opened
    fid_vid_weights: str | None = setting(None, file=True)  # 3D ResNet-50 of Kinetics as ONNX
    csim_weights: str | None = setting(None, file=True)  # ArcFace as ONNX
    shown: int = setting(3, low=0, most=100)  # worst and best clips of each measure on the page
    play: bool = False  # sessions: make those of the standard actions first


@dataclass
class LatentStepSettings:
    """Recording the latents of every sampling step; see doc/latent_step_decoder.md."""

    folder: str | None = None  # null: no recording
    experiment_name: str | None = None  # of the recording; null takes the name of the videos' folder


@dataclass
class ClusterSettings:
    """Workers on Ray; see doc/scale_out.md."""

    workers: str | None = None  # a number, or "auto": as many as there is room for; null: this process does all
    address: str | None = None  # of a Ray cluster, "auto" or host:port; null: workers on this machine
    # 0.5: two share a GPU; null: 1 where there are GPUs, else 0
    gpus_per_worker: float | None = setting(None, low=0, most=1000)
    cpus_per_worker: int = setting(1, low=1, most=10_000)
    item_timeout: float | None = setting(None, low=0.001, most=1e9)  # seconds for one result; null: no end
    start_timeout: float = setting(900.0, low=0.001, most=1e9)  # seconds to find a place and to get ready, or to load
    attempts: int = setting(2, low=1, most=1000)  # of a result that ends its worker


@dataclass
class Config:
    """All settings. `base_model_path` is a diffusers folder or hub id, `ckpt_path` MimicMotion's own weights
    (null: the folder holds the whole model).
    """

    base_model_path: str = setting("assets/models/tiny", file=True)
    ckpt_path: str | None = setting(None, file=True)
    pose_net_path: str | None = setting(None, file=True)  # a PoseNet in a file of its own; null: ckpt_path has it
    batch: BatchSettings = field(default_factory=BatchSettings)
    test_case: list[TestCase] = field(default_factory=lambda: [TestCase()])
    turbo: TurboSettings = field(default_factory=TurboSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    speed: SpeedSettings = field(default_factory=SpeedSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    streaming: StreamingSettings = field(default_factory=StreamingSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    feature_cache: FeatureCacheSettings = field(default_factory=FeatureCacheSettings)
    latent_steps: LatentStepSettings = field(default_factory=LatentStepSettings)
    latent_concat: LatentConcatSettings = field(default_factory=LatentConcatSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    sentences: SentenceSettings = field(default_factory=SentenceSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

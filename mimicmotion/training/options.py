"""The settings of every training stage: one dataclass each, the only place of their defaults.

`scripts/train_tiny.py` makes its command line from the fields.
"""

# `option` returns a dataclass field; ruff takes it for a call that is made once for all objects.

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from mimicmotion.errors import UsageError
from mimicmotion.files import sha256_json


def option(default, help: str, *, fixed: bool = False, choices: tuple[str, ...] | None = None):
    """A setting; one that is `fixed` may not change when a run is resumed."""
    return field(default=default, metadata={"help": help, "fixed": fixed, "choices": choices})


@dataclass(frozen=True)
class RunOptions:
    """What everything that runs in the training loop shares."""

    name: ClassVar[str]

    run_dir: Path = option(Path("runs/tiny"), "folder of the pool, checkpoints, curves and sheets")
    run: str | None = option(None, "name of the run's folder in RUN_DIR, where a stage runs twice (default: the stage)")
    seed: int = option(0, "seed of the initial weights and of every step", fixed=True)
    steps: int = option(1000, "steps of the whole run")
    learning_rate: float = option(4e-4, "highest learning rate")
    weight_decay: float = option(0.0, "AdamW's weight decay")
    save_every_s: float = option(60, "seconds between checkpoints")
    sheet_every_s: float = option(600, "seconds between sheets of samples")
    stop_after_minutes: float | None = option(None, "write a checkpoint and end after this long; a later call goes on")
    threads: int | None = option(None, "threads of the CPU (default: all)")
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    mixed_precision: str = option("no", "bf16 needs hardware that has it", choices=("no", "bf16"))

    def __post_init__(self):
        for name in ("steps", "learning_rate", "save_every_s", "sheet_every_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be above 0")

    @property
    def folder(self) -> Path:
        """Where the stage keeps its checkpoint, curve and sheets."""
        return self.run_dir / (self.run or self.name)

    def fixed(self) -> dict:
        """The settings that a resumed run must share."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["fixed"]}

    def described(self) -> dict:
        """All settings, for the record."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def step_seed(self, step: int) -> int:
        """The seed of everything that is random in a step (-1: of the initial weights)."""
        return int(sha256_json([self.seed, self.name, step])[:15], 16)


@dataclass(frozen=True)
class StageOptions(RunOptions):
    """What the stages of the model share: they learn from the pool and write a part of the model."""

    out: Path = option(Path("assets/models/tiny"), "folder of the model that the finished part is written to")
    pool: Path | None = option(None, "folder of the rendered clips (default: RUN_DIR/pool)")
    clips: int = option(4000, "clips in the pool, of the seeds 0, 1, 2 ...", fixed=True)
    processes: int = option(2, "workers that render the pool")

    def __post_init__(self):
        super().__post_init__()
        if self.clips < 1:
            raise UsageError(f"--clips is {self.clips}; it must be above 0")

    @property
    def pool_folder(self) -> Path:
        """Where the rendered clips are."""
        return self.pool or self.run_dir / "pool"


@dataclass(frozen=True)
class VaeOptions(StageOptions):
    """The autoencoder, on crops of single frames."""

    name: ClassVar[str] = "vae"

    steps: int = option(4800, "steps of the whole run")
    learning_rate: float = option(1.2e-3, "highest learning rate")
    batch: int = option(8, "crops of a step", fixed=True)
    crop: int = option(64, "side of a crop in pixels, a multiple of 8", fixed=True)
    latent_noise: float = option(0.03, "noise added to the latents, in their standard deviations", fixed=True)
    sharpness_weight: float = option(0.0, "weight of the difference in gradient strength by windows", fixed=True)


@dataclass(frozen=True)
class DecoderOptions(VaeOptions):
    """The autoencoder's decoder alone, made sharper; the latents stay as they are."""

    name: ClassVar[str] = "decoder"

    steps: int = option(1500, "steps of the whole run")
    learning_rate: float = option(5e-4, "highest learning rate")
    sharpness_weight: float = option(1.0, "weight of the difference in gradient strength by windows", fixed=True)


@dataclass(frozen=True)
class EncoderOptions(StageOptions):
    """The image encoder, which learns the colours of the person in the reference picture."""

    name: ClassVar[str] = "encoder"

    steps: int = option(1500, "steps of the whole run")
    learning_rate: float = option(1e-3, "highest learning rate")
    batch: int = option(32, "pictures of a step", fixed=True)


@dataclass(frozen=True)
class Phase:
    """A part of the UNet's training: its share of the steps, and what a batch is.

    frames: of a clip, the reference among them; 1 is a single picture without it, and leaves the temporal layers out;
    consecutive: those after it follow one another, else they are random.
    """

    share: float
    clips: int
    frames: int
    consecutive: bool


PHASES_HELP = "SHARE:CLIPS:FRAMES:random or consecutive, one after the other; 1 frame is a single picture"


def parse_phases(text: str) -> tuple[Phase, ...]:
    """Phases from "SHARE:CLIPS:FRAMES:random|consecutive,...". Raises: UsageError."""
    try:
        phases = tuple(_parse_phase(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"phases {text!r}: {error}; write SHARE:CLIPS:FRAMES:random or consecutive") from None
    if abs(sum(phase.share for phase in phases) - 1) > 1e-6:
        raise UsageError(f"phases {text!r}: the shares must add up to 1")
    return phases


def _parse_phase(text: str) -> Phase:
    share, clips, frames, order = text.split(":")
    if order not in ("random", "consecutive"):
        raise ValueError(f"{order!r} is neither random nor consecutive")
    phase = Phase(float(share), int(clips), int(frames), order == "consecutive")
    if not (0 < phase.share <= 1 and phase.clips > 0 and 1 <= phase.frames <= 16):
        raise ValueError(f"{text!r} is out of range")
    return phase


@dataclass(frozen=True)
class UnetOptions(StageOptions):
    """UNet and PoseNet, with the noise of SVD and the conditioning of MimicMotion."""

    name: ClassVar[str] = "unet"

    steps: int = option(3000, "steps of the whole run")
    learning_rate: float = option(5e-4, "highest learning rate")
    weight_decay: float = option(0.01, "AdamW's weight decay")
    phases: str = option("0.55:8:3:random,0.45:2:16:consecutive", PHASES_HELP)
    sigma_mean: float = option(0.7, "mean of the logarithm of the noise level")
    sigma_deviation: float = option(1.6, "standard deviation of the logarithm of the noise level")
    high_share: float = option(0.1, "share of clips whose noise level is drawn evenly up to the sampler's first")
    drop: float = option(0.1, "share of clips without conditioning, for guidance")
    region_weight: float = option(4.0, "weight of the loss in hands and faces that are clearly seen")
    init_from: Path | None = option(None, "folder of a model whose unet and pose_net to start from")

    def __post_init__(self):
        super().__post_init__()
        parse_phases(self.phases)


@dataclass(frozen=True)
class LcmOptions(StageOptions):
    """The LoRA for few steps, by consistency distillation of the finished UNet."""

    name: ClassVar[str] = "lcm"

    steps: int = option(600, "steps of the whole run")
    learning_rate: float = option(5e-4, "highest learning rate")
    phases: str = option("0.7:16:1:random,0.3:1:16:consecutive", PHASES_HELP)
    rank: int = option(32, "rank of the LoRA", fixed=True)
    guidance: float = option(2.0, "guidance of the teacher, which the LoRA learns", fixed=True)
    skip: int = option(5, "levels are every SKIP-th of the 40-point grid; the teacher's step goes down one of them")
    slow_decay: float = option(0.95, "share that the slow copy keeps of itself in a step")
    huber: float = option(0.001, "size of errors below which the pseudo-Huber loss is quadratic")
    level_power: float = option(0.1, "power of the weight 1 / (step's size in sigma)")
    region_weight: float = option(1.0, "weight of the loss in hands and faces that are clearly seen")

    def __post_init__(self):
        super().__post_init__()
        parse_phases(self.phases)
        if not 1 <= self.skip < 40:
            raise UsageError(f"--skip is {self.skip}; it must be 1 to 39")


STAGES = {options.name: options for options in (VaeOptions, EncoderOptions, UnetOptions, LcmOptions, DecoderOptions)}

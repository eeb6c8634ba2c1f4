"""The settings of every stage of scripts/train_world.py: one dataclass each, the only place of their defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mimicmotion.errors import UsageError
from mimicmotion.training import RunOptions, option
from mimicmotion.worlds import DEFAULT_WALK, WALKS

EVALUATION_SEED = 1_000_000  # sessions from here on are never trained on
WALK_HELP = "what keys do: whole steps from tile to tile, or free walking"
# What a walk's files are called where nothing else is said, so that one walk never overwrites the other's.
FILES = {
    walk: {
        "world": Path(f"configs/streaming/{name}.yaml"),
        "out": Path(f"assets/models/{name}"),
        "run_dir": Path(f"runs/{name}"),
        "page": Path(f"doc/{name}.md"),
    }
    for walk, name in (("tiles", "world"), ("free", "world_free"))
}


def name_files(options) -> None:
    """Sets the files of a frozen dataclass that nothing was said of to those of its walk."""
    for name, path in FILES[options.walk].items():
        if getattr(options, name, path) is None:
            object.__setattr__(options, name, path)


@dataclass(frozen=True)
class CourtyardOptions(RunOptions):
    """What the stages share: they learn from sessions of the courtyard and write a part of the world model."""

    walk: str = option(DEFAULT_WALK, WALK_HELP, fixed=True, choices=WALKS)
    run_dir: Path | None = option(None, "folder of frames, latents, checkpoints, curves and sheets (default: its own)")
    world: Path | None = option(None, "sizes of the networks and names of their files (default: the walk's)")
    out: Path | None = option(None, "folder that the finished part is written to (default: the walk's)")
    threads: int | None = option(1, "threads of the CPU")

    def __post_init__(self):
        name_files(self)
        super().__post_init__()


@dataclass(frozen=True)
class VaeOptions(CourtyardOptions):
    """The Wan VAE, on short cut-outs of sessions, from a start that carries mean colours."""

    name: ClassVar[str] = "vae"

    steps: int = option(1200, "steps of the whole run")
    learning_rate: float = option(4e-4, "highest learning rate; five times as much destroys the carrying start")
    clips: int = option(300, "sessions of 81 frames to learn from, of the seeds 0, 1, 2 ...", fixed=True)
    batch: int = option(2, "cut-outs of a step; from 2 on, torch takes its fast convolutions", fixed=True)
    frames: int = option(13, "frames of a cut-out, 1 and a multiple of 4", fixed=True)
    columns: int = option(56, "width of a cut-out in pixels, a multiple of 8", fixed=True)
    latent_noise: float = option(0.05, "noise added to the latents, in their standard deviations", fixed=True)
    init_from: Path | None = option(None, "folder of a world model whose VAE to start from")

    def __post_init__(self):
        super().__post_init__()
        if self.batch < 1 or self.frames < 5 or self.frames % 4 != 1 or self.columns % 8 or not self.columns >= 8:
            raise UsageError("--batch must be above 0, --frames 5, 9, 13 ..., --columns a multiple of 8")


@dataclass(frozen=True)
class DecoderOptions(CourtyardOptions):
    """The VAE's decoder alone: true latents and those that the transformer plays, toward the true frames."""

    name: ClassVar[str] = "decoder"

    steps: int = option(2000, "steps of the whole run")
    learning_rate: float = option(2.5e-4, "highest learning rate; four times as much destroys what it knows")
    sheet_every_s: float = option(600, "seconds between sheets of decoded sessions")
    clips: int = option(600, "sessions of 81 frames to learn from, of the seeds 0, 1, 2 ...", fixed=True)
    batch: int = option(2, "blocks of a step, all of one number", fixed=True)
    columns: int = option(112, "width of a cut-out in pixels, a multiple of 8", fixed=True)
    latent_noise: float = option(0.05, "noise added to true latents, in their standard deviations", fixed=True)
    played_share: float = option(0.5, "share of steps that decode latents which the transformer played", fixed=True)
    sharpness: float = option(3.0, "weight of edges that are as strong as the true ones, wherever they are", fixed=True)
    init_from: Path | None = option(None, "folder of the world model to start from (default: OUT)")

    def __post_init__(self):
        super().__post_init__()
        if self.init_from is None:
            object.__setattr__(self, "init_from", self.out)
        if self.batch < 1 or self.columns % 8 or not self.columns >= 8:
            raise UsageError("--batch must be above 0, --columns a multiple of 8")


@dataclass(frozen=True)
class WorldOptions(CourtyardOptions):
    """The causal transformer, on latents of whole sessions, all blocks of a session in one pass."""

    name: ClassVar[str] = "world"

    steps: int = option(40000, "steps of the whole run")
    learning_rate: float = option(2e-3, "highest learning rate")
    weight_decay: float = option(0.01, "AdamW's weight decay")
    save_every_s: float = option(100, "seconds between checkpoints")
    sheet_every_s: float = option(1500, "seconds between sheets of played sessions and figures")
    clips: int = option(2400, "sessions to learn from; fewer than 2000 are learnt by heart")
    batch: int = option(2, "sessions of a step", fixed=True)
    copies: int = option(1, "noisy copies of each session in a step; they share its clean blocks", fixed=True)
    height: int | None = option(None, "of frames, smaller for a trial (default: as in --world)", fixed=True)
    width: int | None = option(None, "of the frames in pixels", fixed=True)
    mouse_scale: float = option(15.0, "factor on the mouse in training, folded into the weights at export", fixed=True)
    noise_share: float = option(0.5, "share of blocks that are learnt from noise alone", fixed=True)
    context_noise: float = option(0.25, "highest noise on the clean blocks, in 70 % of the sessions", fixed=True)
    camera_weight: float = option(0.2, "weight of telling the camera from the hidden state", fixed=True)
    weight_power: float = option(0.7, "of the channels' weights in pixels: 1 weighs errors so, less favours detail")
    own_share: float = option(0.5, "share of steps whose clean blocks are a session of the model's own")
    own_from: int = option(5000, "first step with own sessions")
    init_from: Path | None = option(None, "folder of a world model whose transformer to start from")

    def __post_init__(self):
        super().__post_init__()
        if min(self.batch, self.copies, self.clips) < 1 or self.batch < 2:
            raise UsageError("--batch must be at least 2, --copies and --clips at least 1")
        if (self.height is None) != (self.width is None):
            raise UsageError("give both --height and --width, or neither")


@dataclass(frozen=True)
class GateOptions(WorldOptions):
    """A cheap check before the long run: turning at small size, right actions must soon predict better than others."""

    name: ClassVar[str] = "gate"

    steps: int = option(500, "steps of the whole run")
    clips: int = option(400, "sessions to learn from")
    batch: int = option(3, "sessions of a step", fixed=True)
    height: int | None = option(32, "of the frames in pixels", fixed=True)
    width: int | None = option(48, "of the frames in pixels", fixed=True)
    weight_power: float = option(0.7, "of the channels' weights in pixels: 1 weighs errors so, less favours detail")
    own_share: float = option(0.0, "share of steps whose clean blocks are a session of the model's own")
    needed: float = option(1.0, "dB by which right actions must beat another session's")


@dataclass(frozen=True)
class EvaluateOptions:
    """The finished parts, measured on sessions that no stage trained on; writes the page."""

    name: ClassVar[str] = "evaluate"

    walk: str = option(DEFAULT_WALK, WALK_HELP, choices=WALKS)
    world: Path | None = option(None, "the world model, as for the stages (default: the walk's)")
    out: Path | None = option(None, "folder of the world model (default: the walk's)")
    run_dir: Path | None = option(None, "folder of the training, whose curves go into the page (default: the walk's)")
    page: Path | None = option(None, "the page to write; pictures lie beside it (default: doc/, named as the world is)")
    sessions: int = option(32, "sessions of six blocks, and of those that figures without a rollout are taken from")
    long_sessions: int = option(8, "sessions of 21 blocks")
    threads: int | None = option(1, "threads of the CPU")

    def __post_init__(self):
        name_files(self)
        if min(self.sessions, self.long_sessions) < 1:
            raise UsageError("--sessions and --long_sessions must be at least 1")

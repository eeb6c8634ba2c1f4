"""The settings of the evaluation and of the instrument it measures poses with, the only place of their defaults."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mimicmotion.puppets import READER_PATH
from mimicmotion.training.options import RunOptions, option


@dataclass(frozen=True)
class ReaderOptions(RunOptions):
    """The pose reader, which evaluation measures poses with; it is no part of the model."""

    name: ClassVar[str] = "reader"

    steps: int = option(900, "steps of the whole run")
    learning_rate: float = option(3e-3, "highest learning rate")
    batch: int = option(16, "pictures of a step", fixed=True)
    reader: Path = option(READER_PATH, "where the finished reader is written")


@dataclass(frozen=True)
class EvaluateOptions:
    """All ways to sample on people and motions that were never trained on, measured; what is finished is kept."""

    name: ClassVar[str] = "evaluate"

    model: Path = option(Path("assets/models/tiny"), "folder of the model, with lcm_lora in it")
    clips: int = option(32, "validation clips")
    frames: int = option(16, "frames of a clip, the reference among them")
    ways: str | None = option(None, "names with commas between, of those in evaluation.json (default: all)")
    out_dir: Path = option(Path("runs/tiny/evaluation"), "folder of all results")
    doc: Path = option(Path("doc/embedded_model.md"), "the page to write, with its pictures beside it")
    reader: Path = option(READER_PATH, "the pose reader's weights")
    run_dir: Path = option(Path("runs/tiny"), "folder of the training's runs, for the page")
    seed: int = option(42, "seed of the noise; a clip adds its own")
    inference_config: Path = option(Path("configs/test.yaml"), "settings that all ways share")
    device: str = option("auto", "where to sample", choices=("auto", "cpu", "cuda"))

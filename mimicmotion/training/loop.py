"""The training loop of every stage: AdamW, cosine learning rate, moving averages, checkpoints, curve and sheets.

What is random in step i comes from a generator seeded by (seed, stage, i), so a run that was cut and resumed gives
the same weights, bit by bit, as one that was not.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import nn

from mimicmotion.cli import interrupts_noted
from mimicmotion.device import resolve_device
from mimicmotion.errors import NumericalError
from mimicmotion.files import atomic_path, require_writable, write_bytes
from mimicmotion.progress import Progress
from mimicmotion.training import checkpoint
from mimicmotion.training.options import RunOptions

log = logging.getLogger(__name__)

LOSSES = "loss.jsonl"
CURVE = "curve.png"
BETAS = (0.9, 0.98)
WARM_UP_STEPS = 100  # a tenth of shorter runs
LAST_RATE = 0.01  # of the highest
CLIP_NORM = 1.0
HIGHEST_DECAY = 0.999


class Stage(Protocol):
    """What a stage gives to the loop."""

    options: RunOptions
    networks: nn.ModuleDict  # everything that is trained

    def loss(self, step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a step, and numbers to note beside it."""

    def write_sheet(self, path: Path) -> None:
        """Draws samples of the networks as they are, which are the averaged ones here."""

    def export(self) -> None:
        """Writes the finished part of the model from the networks as they are, the averaged ones."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a polite kill, after the checkpoint was written."""


def make_accelerator(options: RunOptions) -> Accelerator:
    """accelerate's device and number format as the options say."""
    if options.threads:
        torch.set_num_threads(options.threads)
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(name)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=options.mixed_precision)


def train(stage: Stage, accelerator: Accelerator) -> bool:
    """Runs the stage's steps from its last checkpoint on, then exports the averaged weights.

    Returns: whether all steps are done; False when the time of `stop_after_minutes` ended first.

    Raises: InputError for a checkpoint that cannot be used; Interrupted after Ctrl-C; NumericalError when the loss is
        not finite (the last checkpoint stays as it is).
    """
    run = TrainingRun(stage, accelerator)
    with interrupts_noted() as signals:
        finished = run.advance(signals)
    with run.averaged():
        stage.export()
        if signals:
            raise Interrupted
        stage.write_sheet(run.folder / f"sheet-{run.step:07d}.jpg")
    return finished


class TrainingRun:
    """A stage under way: networks, averages, optimizer and how many steps are done."""

    def __init__(self, stage: Stage, accelerator: Accelerator):
        self.stage, self.options, self.accelerator = stage, stage.options, accelerator
        self.folder = require_writable(self.options.folder)
        parameters = [p for p in stage.networks.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=0.0, betas=BETAS, weight_decay=self.options.weight_decay, fused=True
        )
        stage.networks, self.optimizer = accelerator.prepare(stage.networks, optimizer)
        trained = {n: p for n, p in stage.networks.named_parameters() if p.requires_grad}
        self.averages = {name: parameter.detach().clone() for name, parameter in trained.items()}
        self.trained = trained
        self.step = 0
        self._resume()

    def _resume(self) -> None:
        saved = checkpoint.load(self.folder, self.options.name, self.options.fixed())
        if saved is not None:
            plain = self.optimizer.optimizer
            checkpoint.unpack(saved.tensors, self.stage.networks, self.averages, plain, self.folder)
            self.step = saved.step
            log.info("%s goes on after step %d", self.options.name, self.step)
        _cut_losses(self.folder / LOSSES, self.step)

    def advance(self, signals: list) -> bool:
        """Steps until the end, the time limit or a signal; a checkpoint is written then. Returns: at the end?"""
        options, start = self.options, time.monotonic()
        saved = drawn = start
        limit = math.inf if options.stop_after_minutes is None else options.stop_after_minutes * 60
        progress = Progress(options.name, options.steps, "step", initial=self.step)
        with open(self.folder / LOSSES, "a") as losses, progress:
            while self.step < options.steps and not signals and time.monotonic() - start < limit:
                line = self._one_step()
                losses.write(json.dumps(line) + "\n")
                losses.flush()
                progress.update(note=f"loss {line['loss']:.4f}")
                if time.monotonic() - saved >= options.save_every_s:
                    self.save()
                    saved = time.monotonic()
                if time.monotonic() - drawn >= options.sheet_every_s:
                    with self.averaged():
                        self.stage.write_sheet(self.folder / f"sheet-{self.step:07d}.jpg")
                    drawn = time.monotonic()
        self.save()
        return self.step >= options.steps

    def _one_step(self) -> dict:
        started = time.perf_counter()
        rate = learning_rate(self.step, self.options.steps, self.options.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(self.options.step_seed(self.step))
        with self.accelerator.autocast():
            loss, numbers = self.stage.loss(self.step, generator)
        value = loss.item()
        if not math.isfinite(value):
            where = f"in step {self.step} of {self.options.name}"
            raise NumericalError(f"the loss is not finite {where}; call again with a lower --learning_rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.trained.values(), CLIP_NORM)
        self.optimizer.step()
        self._average()
        self.step += 1
        seconds = time.perf_counter() - started
        return {"step": self.step, "loss": value, "rate": rate, "norm": float(norm), "seconds": seconds} | numbers

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(HIGHEST_DECAY, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averages.values()), list(self.trained.values()), 1 - decay)

    def save(self) -> None:
        """Writes the checkpoint and draws the loss curve anew."""
        tensors = checkpoint.pack(self.stage.networks, self.averages, self.optimizer.optimizer)
        options = self.options
        checkpoint.save(self.folder, options.name, self.step, options.fixed(), options.described(), tensors)
        draw_curve(self.folder / CURVE, read_losses(self.folder / LOSSES), f"{options.name}: loss")

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the networks have the averaged weights and are in eval mode."""
        kept = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        self._put(self.averages)
        self.stage.networks.eval()
        try:
            yield
        finally:
            self._put(kept)
            self.stage.networks.train()

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.trained.items():
            parameter.copy_(values[name])


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up, then a cosine from `highest` to 1 % of it."""
    warm_up = min(1.0, (step + 1) / max(1, min(WARM_UP_STEPS, steps // 10)))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return highest * warm_up * (LAST_RATE + (1 - LAST_RATE) * fall)


def read_losses(path: Path) -> list[dict]:
    """The lines of a loss file; one that was cut off at the end is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return lines


def _cut_losses(path: Path, step: int) -> None:
    # Steps after the checkpoint are done again.
    kept = [line for line in read_losses(path) if line["step"] <= step]
    write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def draw_curve(path: Path, lines: list[dict], title: str) -> None:
    """Writes the losses over the steps as PNG, both axes logarithmic, with their running mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    if not lines:
        return
    steps, losses = (np.array([line[name] for line in lines]) for name in ("step", "loss"))
    window = max(1, len(losses) // 50)
    running = np.convolve(losses, np.ones(window) / window, "valid")
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    stride = max(1, len(steps) // 4000)
    axes.plot(steps[::stride], losses[::stride], linewidth=0.4, alpha=0.5, label="step")
    axes.plot(steps[window - 1 :], running, linewidth=1.5, label=f"mean of {window} steps")
    for name in sorted({name for line in lines for name in line if name.startswith("loss_")}):
        some = np.array([(line["step"], line[name]) for line in lines if name in line])
        width = max(1, len(some) // 50)
        running = np.convolve(some[:, 1], np.ones(width) / width, "valid")
        axes.plot(some[width - 1 :, 0], running, linewidth=1, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)

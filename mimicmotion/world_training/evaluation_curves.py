"""The course of the transformer's training as a picture."""

from collections.abc import Sequence
from pathlib import Path

from mimicmotion.files import atomic_path

WINDOW = 200  # steps that a loss is averaged over
ACTIONS = {"right": "right", "other": "another session's", "mirrored": "mirrored", "none": "none"}


def draw_curves(path: Path, figures: Sequence[dict], losses: Sequence[dict]) -> None:
    """Writes a PNG: PSNR of unseen blocks with right and wrong actions, and the losses, over the steps.

    figures: lines of figures.jsonl; losses: of loss.jsonl, with loss_flow and loss_camera.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, label in ACTIONS.items():
        left.plot([line["step"] for line in figures], [line[name] for line in figures], marker="o", label=label)
    left.set(title="unseen blocks after true ones, by the actions given", xlabel="step", ylabel="PSNR, dB")
    for name in ("loss_flow", "loss_camera"):
        parts = [losses[start : start + WINDOW] for start in range(0, len(losses), WINDOW)]
        means = [sum(line[name] for line in part) / len(part) for part in parts]
        right.plot([part[-1]["step"] for part in parts], means, label=f"{name}, mean of {WINDOW} steps")
    right.set(title="losses in training", xlabel="step", yscale="log")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        drawing.savefig(temporary, dpi=100)
    plt.close(drawing)

"""What there is to say about a trained model: its parts, and how each was trained."""

import contextlib
import json
from pathlib import Path

from mimicmotion.training.checkpoint import FACTS
from mimicmotion.training.loop import LOSSES, read_losses

PARTS = ("unet", "vae", "image_encoder", "pose_net", "lcm_lora")
# Settings of the place and the machine, which no weights depend on.
PLACES = {"run_dir", "run", "out", "pool", "reader"}
LOCAL = PLACES | {"processes", "save_every_s", "sheet_every_s", "stop_after_minutes", "threads", "device"}


def model_facts(model: Path, run_dir: Path) -> dict:
    """Sizes of the model's parts, and the facts of every run that is still there, in the order of their ends."""
    ended = sorted(run_dir.glob(f"*/{LOSSES}"), key=lambda path: path.stat().st_mtime)
    return {
        "parts": {part: part_facts(model / part) for part in PARTS if (model / part).is_dir()},
        "runs": {path.parent.name: facts for path in ended if (facts := run_facts(path.parent))},
    }


def part_facts(folder: Path) -> dict[str, int]:
    """"parameters" and "bytes" of the weights in a folder."""
    from safetensors import safe_open

    parameters = size = 0
    for path in sorted(folder.glob("*.safetensors")):
        size += path.stat().st_size
        with safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - it is no dictionary
        for shape in shapes:
            count = 1
            for length in shape:
                count *= length
            parameters += count
    return {"parameters": parameters, "bytes": size}


def command(stage: str, settings: dict, run: str | None = None) -> str:
    """The call that trains a stage with `settings`, in the default places: flags for all that differ from the defaults.

    run: the name of the run's folder.
    """
    from mimicmotion.training.evaluation_options import ReaderOptions
    from mimicmotion.training.options import STAGES

    defaults = (STAGES | {ReaderOptions.name: ReaderOptions})[stage]().described()
    changed = {name: value for name, value in settings.items() if name not in LOCAL and value != defaults.get(name)}
    if "init_from" in changed:
        changed["init_from"] = defaults["out"]  # where the run before it writes, whatever the place was called here
    if run not in (None, stage):
        changed = {"run": run} | changed
    flags = "".join(f" --{name} {value}" for name, value in changed.items())
    return f"python scripts/train_tiny.py {stage}{flags}"


def run_facts(folder: Path) -> dict | None:
    """"stage", "steps", "hours" in steps, the last "loss" (mean of up to 100 steps), "settings"; None without a run."""
    lines = read_losses(folder / LOSSES)
    if not lines:
        return None
    noted = {"stage": folder.name, "settings": {}}
    with contextlib.suppress(OSError, ValueError):
        noted |= json.loads((folder / FACTS).read_text())
    last = [line["loss"] for line in lines[-100:]]
    hours = sum(line["seconds"] for line in lines) / 3600
    return {
        "stage": noted["stage"],
        "steps": lines[-1]["step"],
        "hours": round(hours, 3),
        "loss": round(sum(last) / len(last), 5),
        "settings": noted["settings"],
    }

"""Checkpoints of a training run: tensors in one safetensors file, everything else in a JSON file beside it.

    checkpoint.json               stage, step, settings, the name of the tensors' file and its SHA-256
    checkpoint-NNNNNNN.safetensors    weights, their moving averages and AdamW's moments

The JSON is replaced last and names the file it belongs to, so a cut at any moment leaves a whole checkpoint.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.files import read_record, sha256_file, write_json, write_tensors

FACTS = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """step: steps done; tensors: by name; facts: all of checkpoint.json."""

    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict


def save(folder: Path, stage: str, step: int, fixed: dict, described: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Writes a checkpoint and removes the one before. Raises: SetupError when the disk is full.

    Args:
        fixed: settings that `load` will insist on.
        described: all settings, for the record.
    """
    path = folder / f"checkpoint-{step:07d}.safetensors"
    write_tensors(path, {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    facts = {"stage": stage, "step": step, "file": path.name, "sha256": sha256_file(path)}
    write_json(folder / FACTS, facts | {"fixed": fixed, "settings": described})
    for old in folder.glob("checkpoint-*.safetensors"):
        if old != path:
            old.unlink(missing_ok=True)


def load(folder: Path, stage: str, fixed: dict) -> Checkpoint | None:
    """The checkpoint in `folder`; None where there is none.

    Raises: InputError that names the file when it is damaged, of another stage or made with other settings.
    """
    path = folder / FACTS
    if not path.is_file():
        return None
    facts = _read_facts(path)
    if facts["stage"] != stage:
        raise InputError(f"{path} is of the stage {facts['stage']}, not {stage}; name another --run_dir")
    wanted = json.loads(json.dumps(fixed))
    different = [name for name in wanted if facts["fixed"].get(name) != wanted[name]]
    if different:
        changes = ", ".join(f"{name} {facts['fixed'].get(name)} instead of {wanted[name]}" for name in different)
        raise InputError(f"{path} belongs to a run with other settings ({changes}); {remedy(folder)}")
    return Checkpoint(facts["step"], read_tensors(folder / facts["file"], facts["sha256"], folder), facts)


def steps_done(folder: Path) -> int | None:
    """How many steps the run in `folder` has taken, None where there is none. Raises: InputError when damaged."""
    return _read_facts(folder / FACTS)["step"] if (folder / FACTS).is_file() else None


def _read_facts(path: Path) -> dict:
    try:
        facts = read_record(path)
        kinds = {"stage": str, "step": int, "file": str, "sha256": str, "fixed": dict}
        wrong = [name for name, kind in kinds.items() if not isinstance(facts[name], kind)]
        if wrong or Path(facts["file"]).name != facts["file"]:
            raise ValueError(f"wrong entries {wrong or ['file']}")
        return facts
    except (MimicMotionError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); {remedy(path.parent)}") from error


def read_tensors(path: Path, digest: str, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file whose SHA-256 is `digest`. Raises: InputError when it is absent or another."""
    try:
        if sha256_file(path) != digest:
            raise InputError(f"{path} is damaged (its SHA-256 is not the noted one); {remedy(folder)}")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy(folder)}") from error


def remedy(folder: Path) -> str:
    """What to do about a checkpoint that cannot be used."""
    return f"delete {folder} to start anew, or name another --run_dir"


def pack(networks: torch.nn.Module, averages: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> dict:
    """Weights, averages and AdamW's state as tensors by name: model/..., average/..., optimizer/INDEX/..."""
    tensors = {f"model/{name}": tensor for name, tensor in networks.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in averages.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    return tensors


def unpack(
    tensors: dict, networks: torch.nn.Module, averages: dict, optimizer: torch.optim.Optimizer, folder: Path
) -> None:
    """Puts what `pack` made back in place. Raises: InputError when it does not fit these networks."""
    try:
        networks.load_state_dict(_part(tensors, "model/"))
        stored = _part(tensors, "average/")
        for name, average in averages.items():
            average.copy_(stored[name])
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict] = {}
        for name, value in _part(tensors, "optimizer/").items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = _laid_out_like(value, parameters[int(index)])
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    except (RuntimeError, KeyError, ValueError, IndexError) as error:
        first = str(error).strip().splitlines()[0]
        what = f"the checkpoint in {folder} does not fit these networks ({first})"
        raise InputError(f"{what}; {remedy(folder)}") from error


def _laid_out_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    # AdamW's fused kernel walks through weights and moments as they lie in memory.
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _part(tensors: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""Finished results that a run would replace with others, and in what the two differ. Nothing is replaced unasked."""

from collections.abc import Iterable
from pathlib import Path

from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import read_record, sha256_json
from mimicmotion.results.belongings import difference
from mimicmotion.results.sidecar import RESULT, recorded_files, sidecar_path

RECIPE = ("settings", "inputs", "weights", "detector")
LISTED = 20  # results in one message


def made_differently(output: Path, made_from: dict) -> list[str]:
    """In words, what was different when the finished result at `output` was made; empty where there is none, or it
    was made from this recipe.

    What lies there damaged or unfinished is no result, and nothing is lost with it.
    """
    try:
        record = read_record(sidecar_path(output))
    except InputError:
        return []
    files = recorded_files(record) if record else None
    if not files or difference(output, files.get(RESULT)) or record.get("recipe_sha256") == sha256_json(made_from):
        return []
    before = {name: record[name] for name in RECIPE if name in record}
    return differences(before, made_from) or ["it was made by another version of this program"]


def require_kept(results: Iterable[tuple[Path, dict]]) -> None:
    """Stops a run that would replace finished results with others.

    Args:
        results: where each result of the run goes, and its recipe.

    Raises: UsageError that names each of them and what is different.
    """
    changes = ((output, made_differently(output, recipe)) for output, recipe in results)
    lines = [f"{output}: {'; '.join(changed)}" for output, changed in changes if changed]
    if lines:
        more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        raise UsageError(
            "\n  ".join(["these results were made differently and would be replaced:", *lines[:LISTED], *more])
            + "\npass --variant NAME to keep them and write the new ones beside them, another --output_dir, or "
            "--overwrite to replace them"
        )


def differences(old: object, new: object, name: str = "") -> list[str]:
    """Every leaf in which two nested dictionaries differ, as "turbo.scheduler: 'AYS', now 'AnimateLCM_SVD'"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{name}.{key}".strip(".").removeprefix("settings."))
        ]
    return [] if old == new else [f"{name}: {_short(old)}, now {_short(new)}"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:12]}...'"

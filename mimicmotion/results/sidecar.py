"""The JSON beside every result: what made it, so that it can be repeated, judged and skipped when it is finished."""

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from mimicmotion.config import Config, SpeedSettings, TestCase
from mimicmotion.errors import InputError
from mimicmotion.files import is_sealed, read_record, sealed, sha256_json, write_json
from mimicmotion.results.belongings import describe_file, difference

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
RESULT = ".mp4"
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "onnxruntime-gpu", "mediapipe", "peft")
# Settings that name places, or choose what is run and what is written beside the result: they change no pixel of it.
NO_PIXELS = {
    "verify_weights", "output_dir", "variant", "overwrite", "dry_run", "comparison", "contact_sheet", "page", "preview",
    "save_folder", "folder", "model_det", "model_pose", "reader", "max_side", "max_pixels", "max_frames", "max_bytes",
    "ref_video_path", "ref_image_path", "lcm_lora_path", "lcm_base_path", "lcm_weight_name",
    "more_lora_paths", "more_lora_scales",  # their scales stand beside their hashes
    "decoder",  # a small one's hash stands in its place
    "vram",
}  # fmt: skip
# Left out where they have this value, so that results from before there was a choice are still known.
NEVER_CHOSEN = {"decode_tile": None}


def sidecar_path(output: Path) -> Path:
    """Where the sidecar of a result lies."""
    return output.with_suffix(".json")


def recipe(config: Config, case: TestCase, inputs: dict[str, str], weights: dict[str, str], detector: str) -> dict:
    """All that a result depends on: equal recipes give equal results.

    Args:
        config, case: the settings of the run and of its test case.
        inputs: content hashes of the driving video and the reference.
        weights: content hashes of all networks.
        detector: fingerprint of where poses come from.
    """
    names = ("turbo", "sampling", "runtime", "video", "reference", "pose", "output")
    sections = {name: getattr(config, name) for name in names}
    sections["test_case"] = case
    settings = {
        name: {key: value for key, value in dataclasses.asdict(section).items() if _is_part(key, value)}
        for name, section in sections.items()
    }
    # Named only where it is not the default, so that results from before there was a choice are still known.
    default = dataclasses.asdict(SpeedSettings())
    speed = {key: value for key, value in dataclasses.asdict(config.speed).items() if value != default[key]}
    settings |= {"speed": speed} if speed else {}
    return {"settings": settings, "inputs": inputs, "weights": weights, "detector": detector}


def _is_part(key: str, value: object) -> bool:
    return key not in NO_PIXELS and not (key in NEVER_CHOSEN and value == NEVER_CHOSEN[key])


def recipe_tag(made_from: dict) -> str:
    """What the files of a result carry of its recipe: the hash that their sidecar has too."""
    return f"mimicmotion recipe {sha256_json(made_from)}"


def write_sidecar(output: Path, made_from: dict, facts: dict, companions: Iterable[Path] = ()) -> None:
    """Writes the sidecar of a finished result. It is written last: where it is, the result is whole.

    Args:
        companions: files that were made with the result; their names begin with its stem. Those of another result
            that was here before go with it.

    Raises: SetupError when it cannot be written.
    """
    files = {_ending(output, path): describe_file(path) for path in (output, *companions)}
    recipe_sha256 = sha256_json(made_from)
    files |= _companions_before(output, files, recipe_sha256)
    record = {
        "format_version": FORMAT_VERSION,
        "output": output.name,
        "output_sha256": files[RESULT]["sha256"],
        "files": files,
        "recipe_sha256": recipe_sha256,
        **made_from,
        **facts,
        "versions": versions(),
    }
    write_json(sidecar_path(output), sealed(record))


def add_to_sidecar(output: Path, companions: Iterable[Path]) -> None:
    """Notes companions that were made later, from the finished result. Raises: SetupError when it cannot be written."""
    record = read_record(sidecar_path(output))
    files = record.get("files") or {RESULT: describe_file(output)}
    files |= {_ending(output, path): describe_file(path) | {"made_from": output.name} for path in companions}
    write_json(sidecar_path(output), sealed(record | {"files": files}))


def unfinished(output: Path, made_from: dict, companions: Iterable[Path] = ()) -> dict[Path, str]:
    """Which files of a result are still to be made, each with what is wrong with it, "" where that is nothing odd.

    Nothing is, and the result is finished, where `output` and its `companions` are, to the last byte, those that were
    made from this recipe. `output` among the files means that the result itself has to be made.
    """
    if not os.path.exists(output):
        return {output: ""}
    try:
        record = read_record(sidecar_path(output))
    except InputError as error:
        return {output: str(error)}
    if record is None:
        return {output: ""}
    files = recorded_files(record)
    if files is None:
        return {output: f"its record {sidecar_path(output)} is damaged"}
    if record.get("format_version") != FORMAT_VERSION or record.get("recipe_sha256") != sha256_json(made_from):
        return {output: ""}
    if reason := difference(output, files.get(RESULT)):
        return {output: reason}
    # What was made once and lies there belongs to the result as well, asked for or not.
    there = [path for ending in files if (path := _beside(output, ending)) and os.path.isfile(path)]
    reasons = {path: difference(path, files.get(_ending(output, path))) for path in {*companions, *there} - {output}}
    return {path: reason for path, reason in sorted(reasons.items()) if reason}


def recorded_files(record: dict) -> dict | None:
    """What a record says of the files of its result, by their endings; None where the record was changed."""
    if "files" in record:
        return record["files"] if is_sealed(record) and isinstance(record["files"], dict) else None
    # Records of earlier versions know the result's hash alone.
    return {RESULT: {"sha256": record.get("output_sha256")}}


def _companions_before(output: Path, files: dict[str, dict], recipe_sha256: str) -> dict[str, dict]:
    """What the record says of further companions of this very result, made again. Those of another result are removed,
    so that none shows another result than the one it lies beside.
    """
    try:
        record = read_record(sidecar_path(output)) or {}
    except InputError:
        return {}
    before = recorded_files(record) or {}
    further = {ending: described for ending, described in before.items() if ending not in files}
    own = {end: entry for end, entry in further.items() if (p := _beside(output, end)) and not difference(p, entry)}
    same_frames = isinstance(before.get(RESULT), dict) and before[RESULT].get("sha256") == files[RESULT]["sha256"]
    if same_frames and record.get("recipe_sha256") == recipe_sha256:
        return own
    for ending in own:
        path = _beside(output, ending)
        with contextlib.suppress(OSError):
            path.unlink()
            logger.info("%s is removed: it belonged to the result that was here before", path)
    return {}


def _ending(output: Path, path: Path) -> str:
    return path.name.removeprefix(output.stem)


def _beside(output: Path, ending: str) -> Path | None:
    """The file of a result with this ending; None for an ending that leads elsewhere, and for another result, which a
    video called like a companion has: that has a record of its own.
    """
    path = output.with_name(output.stem + ending) if ending and "/" not in ending and "\\" not in ending else None
    if path is None or (sidecar_path(path) != sidecar_path(output) and os.path.exists(sidecar_path(path))):
        return None
    return path


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, where they are installed."""
    return {"python": platform.python_version()} | package_versions(PACKAGES)


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package, or "absent"."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found

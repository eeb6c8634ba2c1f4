"""The JSON beside every result: what made it, so that it can be repeated, judged and skipped when it is finished."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path

from mimicmotion.config import Config, TestCase
from mimicmotion.files import content_sha256, sha256_file, sha256_json, write_json

FORMAT_VERSION = 1
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "onnxruntime-gpu", "mediapipe", "peft")
# Settings that name places, or choose what is run and what is written beside the result: they change no pixel of it.
NO_PIXELS = {
    "output_dir", "overwrite", "dry_run", "comparison", "contact_sheet",
    "save_folder", "folder", "model_det", "model_pose", "reader", "max_side", "max_pixels", "max_frames", "max_bytes",
    "ref_video_path", "ref_image_path", "lcm_lora_path", "lcm_base_path", "lcm_weight_name",
    "more_lora_paths", "more_lora_scales",  # their scales stand beside their hashes
}  # fmt: skip


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
    sections = {name: getattr(config, name) for name in ("turbo", "sampling", "runtime", "video", "pose", "output")}
    sections["test_case"] = case
    settings = {
        name: {key: value for key, value in dataclasses.asdict(section).items() if key not in NO_PIXELS}
        for name, section in sections.items()
    }
    return {"settings": settings, "inputs": inputs, "weights": weights, "detector": detector}


def write_sidecar(output: Path, made_from: dict, facts: dict) -> None:
    """Writes the sidecar of a finished result. It is written last: where it is, the result is whole.

    Raises: SetupError when it cannot be written.
    """
    record = {
        "format_version": FORMAT_VERSION,
        "output": output.name,
        "output_sha256": sha256_file(output),
        "recipe_sha256": sha256_json(made_from),
        **made_from,
        **facts,
        "versions": versions(),
    }
    write_json(sidecar_path(output), record)


def is_finished(output: Path, made_from: dict) -> bool:
    """Whether `output` exists whole and was made from the same recipe."""
    try:
        record = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
        return (
            record["format_version"] == FORMAT_VERSION
            and record["recipe_sha256"] == sha256_json(made_from)
            and record["output_sha256"] == content_sha256(output)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


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

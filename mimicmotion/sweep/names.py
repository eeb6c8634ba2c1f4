"""What a combination of settings is called: short, readable, safe as the name of a folder anywhere, and its own.

A name depends on the combination alone and not on its company, so that a sweep with more values finds what is there.
"""

import functools
import hashlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mimicmotion.config import Config, TestCase, describe_setting
from mimicmotion.files import sha256_json

LONGEST = 100
LONGEST_TEXT = 20
# What the rest is called by its own name.
LABELS = {
    "turbo.scheduler": "",
    "turbo.num_inference_steps": "steps",
    "turbo.guidance_scale": "guidance",
    "turbo.lcm_lora_scale": "scale",
    "turbo.lcm_lora_path": "lora",
    "turbo.more_lora_scales": "more-scales",
    "turbo.more_lora_paths": "more-loras",
    "test_case[*].ref_image_path": "ref",
    "test_case[*].seed": "seed",
    "test_case[*].fps": "fps",
    "base_model_path": "model",
    "ckpt_path": "checkpoint",
}


def cell_name(values: dict[str, Any]) -> str:
    """The folder of a combination, such as "AYS_steps-4_seed-1"; `values` are its swept settings by path."""
    parts = ["-".join(part) for part in name_parts(values)]
    name = "_".join(parts)
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{sha256_json(values)[:12]}"


def title_of(values: dict[str, Any]) -> str:
    """The same for people: "AYS, steps 4, seed 1"."""
    return ", ".join(" ".join(part) for part in name_parts(values))


def name_parts(values: dict[str, Any]) -> list[tuple[str, ...]]:
    """(label, value) of each setting in the order of the configuration, test cases last; (value,) of the scheduler."""
    ordered = sorted(values, key=lambda path: (path.startswith("test_case"), _place(path), path))
    return [tuple(word for word in (label(path), text_of(path, values[path])) if word) for path in ordered]


def label(path: str) -> str:
    """A setting's short name, which no other setting has."""
    if path in LABELS:
        return LABELS[path]
    last = path.rpartition(".")[2]
    common = last in LABELS.values() or sum(last == name for _, name in _settings()) > 1
    number = re.search(r"\[(\d+)\]", path)
    spelled = path.replace("[*]", "") if common else last
    return _safe(f"case {number[1]} {last}" if number else spelled)


def text_of(path: str, value: Any) -> str:
    """A value as part of a name. Free text, such as a path, is shortened, and a hash tells it from its like."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value + 0.0).removesuffix(".0")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return "+".join(text_of(path, item) for item in value) or "none"
    text = str(value)
    if describe_setting(path).metadata.get("choices"):
        return _safe(text)
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    stems = "+".join(Path(str(item)).stem for item in (value if isinstance(value, list) else [value]))
    return f"{_safe(stems)[:LONGEST_TEXT]}-{digits}".lower().lstrip("-")


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")


@functools.cache
def _settings() -> tuple[tuple[str, str], ...]:
    """Section and name of every setting."""
    found = []
    for part in fields(Config):
        schema = TestCase if part.name == "test_case" else part.type
        if is_dataclass(schema):
            found += [(part.name, inner.name) for inner in fields(schema)]
        else:
            found.append(("", part.name))
    return tuple(found)


def _place(path: str) -> int:
    section, _, name = re.sub(r"\[.*?\]", "", path).rpartition(".")
    return _settings().index((section, name))

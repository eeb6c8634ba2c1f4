"""Settings by path: "turbo.scheduler", "test_case[0].seed"."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from mimicmotion.config.settings import Config, TestCase


def walk(config: Config) -> Iterator[tuple[str, Any]]:
    """Path and value of every single setting, in order; the test cases' as "test_case[0].seed"."""
    return ((path, getattr(owner, part.name)) for owner, path, part in fields_of(config))


def describe_setting(path: str) -> dataclasses.Field:
    """The field of a setting, with choices and limits in its metadata; the index of a test case does not matter.

    Raises: KeyError for a path that is no single setting.
    """
    schema: Any = Config
    parts = split_path(path)
    if parts[0] == "test_case" and len(parts) > 1:
        schema, parts = TestCase, parts[2:]
    part = None
    for name in parts:
        known = {f.name: f for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        part = known[name]
        schema = part.type
    if part is None or part.name == "test_case" or dataclasses.is_dataclass(part.type):
        raise KeyError(path)
    return part


def lookup(config: Config, path: str) -> Any:
    """The value at a path; "test_case[*]" is the first test case."""
    value: Any = config
    for part in split_path(path):
        value = value[0 if part == "*" else int(part)] if isinstance(value, list) else getattr(value, part)
    return value


def split_path(path: str) -> list[str]:
    """The parts of a setting's path: "test_case[0].seed" has three."""
    return re.sub(r"\[(\w+|\*)\]", r".\1", path).split(".")


def fields_of(owner, prefix: str = "") -> Iterator[tuple[Any, str, dataclasses.Field]]:
    """Every single setting: the object that holds it, its path and its field."""
    for part in dataclasses.fields(owner):
        value, path = getattr(owner, part.name), f"{prefix}{part.name}"
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{path}.")
        elif part.name == "test_case":
            for i, case in enumerate(value):
                yield from fields_of(case, f"{path}[{i}].")
        else:
            yield owner, path, part


def leaves(content: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and values of a file, named as `walk` names them."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key == "test_case" and not prefix:
            for i, case in enumerate(value):
                yield from leaves(case, f"{key}[{i}].")
        else:
            yield f"{prefix}{key}", value

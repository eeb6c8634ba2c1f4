"""Whether a value can be that of a setting at all: known keys; a list, keys and values, or a single value."""

import dataclasses
from typing import Any, get_args

from mimicmotion.config.messages import nearest, shortened
from mimicmotion.config.paths import split_path
from mimicmotion.config.settings import Config, TestCase
from mimicmotion.config.yaml_file import check_text
from mimicmotion.errors import UsageError

LISTS = (list[str], list[str] | None, list[float] | None)  # types of settings
LONGEST_NUMBER = 128  # bits


def check_keys(content: dict, schema: type, prefix: str, where: str) -> None:
    """Raises: UsageError for the first key that `schema` does not have, with the nearest one that it has, and for the
    first value of another shape.
    """
    fields = {f.name: f.type for f in dataclasses.fields(schema)}
    for key, value in content.items():
        if key not in fields:
            name = shortened(f"{prefix}{key}")
            raise UsageError(f"{where}: unknown setting '{name}'{nearest(str(key), list(fields))}")
        check_shape(value, fields[key], f"{prefix}{key}", where)


def check_shape(value: Any, kind: Any, name: str, where: str) -> None:
    """Raises: UsageError unless a value is as a setting of type `kind` can be: keys and values, a list, or single."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UsageError(f"{where}: '{name}' must hold keys and values, not {shortened(repr(value))}")
        check_keys(value, kind, f"{name}.", where)
    elif name == "test_case":
        if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
            raise UsageError(f"{where}: 'test_case' must be a list of entries with keys and values")
        for i, case in enumerate(value):
            check_keys(case, TestCase, f"test_case[{i}].", where)
    elif kind in LISTS:
        optional = value is None and type(None) in get_args(kind)
        if not optional and not isinstance(value, list | tuple):
            raise UsageError(f"{where}: '{name}' must be a list, not {shortened(repr(value))}")
        for item in value or ():
            if item is None:
                raise UsageError(f"{where}: '{name}' has an entry without a value")
            check_shape(item, str, name, where)
    elif isinstance(value, dict | list | tuple):
        what = "keys and values" if isinstance(value, dict) else "a list"
        raise UsageError(f"{where}: '{name}' must be a single value, not {what}")
    elif isinstance(value, str):
        check_text(value, f"{where}: {name}")
    elif isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        raise UsageError(f"{where}: '{name}' is a number of {value.bit_length()} bits")


def type_at(path: str, cases: int, kind: str) -> Any:
    """The type of the setting at a path. Raises: UsageError for a path that leads nowhere."""
    schema: Any = Config
    for i, part in enumerate(split_path(path)):
        if schema is list:
            if not part.isdigit() or int(part) >= cases:
                raise UsageError(f"{kind} '{path}': there are test cases 0 to {cases - 1}")
            schema = TestCase
            continue
        fields = {f.name: f.type for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
        if part not in fields:
            raise UsageError(f"unknown {kind} '{shortened(path)}'{nearest(part, list(fields)) if fields else ''}")
        schema = list if part == "test_case" and i == 0 else fields[part]
    return schema

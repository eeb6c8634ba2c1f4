"""A file of settings as plain values: nothing in it stands for something else, or grows without end."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mimicmotion.config.messages import shortened
from mimicmotion.errors import UsageError
from mimicmotion.files import why_no_file

# A file of settings is far below all of these; beyond them reading it would take the stack or the memory.
MAX_FILE, MAX_VALUES, MAX_LEVELS = 2**20, 10_000, 20
PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")


def read_yaml(path: Path) -> dict:
    """The keys and plain values of a YAML file.

    Raises: FileNotFoundError; UsageError for a pipe or a folder, for text that is no YAML of keys and values or that
        would grow without end, and for interpolations (`${...}`).
    """
    reason = why_no_file(path)
    if reason == "does not exist":
        raise FileNotFoundError(path)
    if reason:
        raise UsageError(f"{path} {reason}; give a file of settings")
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {error.start}"
        raise UsageError(f"{path} is not UTF-8 text ({place}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(text) > MAX_FILE:
        raise UsageError(f"{path} has more than {MAX_FILE} bytes, which is no file of settings")
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys and values, not a {type(content).__name__}")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """Plain values; {} of an empty text."""
    try:
        _check_growth(text, where)
        return OmegaConf.to_container(OmegaConf.create(text))
    # int() and chr(), which YAML's reader calls, raise what they like.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OverflowError) as error:
        raise UsageError(f"{where} is not valid YAML: {error}") from error


def _check_growth(text: str, where: str) -> None:
    """Raises: UsageError for what stands for something else (`${...}`, ???, tags), and for nesting and anchors that
    would take the stack or the memory. Builds nothing.
    """
    finished: dict[str, tuple[int, int]] = {}  # anchor -> values in it, levels in it
    inside: list[list] = [["", 0, 0]]  # of what is open: anchor, values, levels

    def add(values: int, levels: int) -> None:
        inside[-1][1] += values
        inside[-1][2] = max(inside[-1][2], levels)
        if inside[-1][1] > MAX_VALUES or len(inside) + levels > MAX_LEVELS:
            raise UsageError(f"{where} has more than {MAX_VALUES} values or {MAX_LEVELS} levels, which are no settings")

    for event in yaml.parse(text):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor not in finished:
                raise UsageError(f"{where}: *{anchor} stands for something that holds it, or for nothing")
            add(*finished[anchor])
        elif isinstance(event, yaml.ScalarEvent):
            check_text(event.value, where)
            if len(inside) == 1:
                raise UsageError(f"{where} must hold keys and values, not {shortened(repr(event.value))} alone")
            add(1, 0)
            finished[anchor] = (1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append([anchor, 1, 0])
            add(0, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            own, values, levels = inside.pop()
            finished[own] = (values, levels + 1)
            add(values, levels + 1)
        if getattr(event, "tag", None) not in PLAIN_TAGS:
            raise UsageError(f"{where}: the tag {event.tag} is not taken; write plain values")


def check_text(text: str, where: str) -> None:
    """Raises: UsageError for a text that OmegaConf would replace, or that no name of a file can hold."""
    if "${" in text:
        raise UsageError(f"{where}: {shortened(text)}: interpolations (${{...}}) are not taken; write the value itself")
    if text == "???":
        raise UsageError(f"{where}: ??? is no value; write one, or leave the key out")
    if "\0" in text:
        raise UsageError(f"{where}: {shortened(text)}: no name holds a NUL character")

"""Defaults, YAML file, flags and `path=value` pairs become one checked object, and where each value came from.

Later layers win: the defaults, the file, flags that were given, trailing pairs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mimicmotion.config.checks import check_config
from mimicmotion.config.messages import shortened
from mimicmotion.config.paths import fields_of, leaves, walk
from mimicmotion.config.settings import Config, TestCase
from mimicmotion.config.shapes import check_keys, check_shape, type_at
from mimicmotion.config.yaml_file import parse_yaml, read_yaml
from mimicmotion.errors import UsageError
from mimicmotion.places import find, looked_for

DEFAULT_CONFIG = "configs/test.yaml"


@dataclass(frozen=True)
class Origin:
    """Settings with where they came from: "configs/test.yaml", "--seed", "output.crf=20"; defaults are not named.

    `file` is what they started from.
    """

    config: Config
    sources: dict[str, str]
    file: "str | Path | Config | None" = None

    def differences(self, parts: set[str] | None = None) -> list[str]:
        """One line for each setting that is not as its default: path, value and source.

        parts: the settings' first names that matter to a command; what the file that comes with the package says
        of others is left out. None leaves out nothing.
        """
        found = []
        for path, value in different_settings(self.config).items():
            source = self.sources.get(path, "set by the program")
            if parts is None or first_name(path) in parts or source != DEFAULT_CONFIG:
                found.append(f"{path}: {'null' if value is None else value} ({source})")
        return found


def first_name(path: str) -> str:
    """`test_case` of `test_case[0].seed`."""
    return path.partition(".")[0].partition("[")[0]


def different_settings(config: Config) -> dict[str, Any]:
    """The settings that are not as their defaults, by path, as `walk` names them."""
    default = Config(test_case=[TestCase() for _ in config.test_case])
    _find_files(default)
    defaults = dict(walk(default))
    return {path: value for path, value in walk(config) if value != defaults[path]}


def load_config(
    path: "str | Path | Config | None" = None,
    given: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
) -> Config:
    """Reads and checks the settings of a run.

    Args:
        path: YAML file over the defaults, or settings to start from, which stay as they are; None is the file that
            comes with the package.
        given: values by path ("turbo.scheduler"; "test_case[*].seed" means every case), as flags give them.
        overrides: "path=value" texts, the value in YAML notation; they win over all else.

    Raises:
        UsageError: for an unreadable file, an unknown key, a wrong type or an impossible value.
    """
    return trace_config(path, given, overrides).config


def trace_config(
    path: "str | Path | Config | None" = None,
    given: dict[str, Any] | None = None,
    overrides: list[str] | None = None,
    names: dict[str, str] | None = None,
) -> Origin:
    """As `load_config`, with the source of every setting; `names` are those of the flags in `given`, by path."""
    origin = _merge_layers(path, given or {}, overrides or [], names or {})
    _find_files(origin.config)
    return origin


def default_config() -> Config:
    """The settings of a run that names none, paths as the file that comes with the package has them."""
    return _merge_layers(None, {}, [], {}).config


def _merge_layers(
    path: str | Path | Config | None, given: dict[str, Any], overrides: list[str], names: dict[str, str]
) -> Origin:
    if isinstance(path, Config):
        settings, sources = OmegaConf.structured(path), {}
    else:
        path = DEFAULT_CONFIG if path is None else path
        settings, in_file = _merge_file(OmegaConf.structured(Config), find(path))
        sources = dict.fromkeys(in_file, str(path))
    for key, value in given.items():
        sources |= dict.fromkeys(_set(settings, key, value, "flag"), names.get(key, "as given"))
    for pair in overrides:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"{pair!r} is not a setting; write path=value, for example turbo.num_inference_steps=8")
        content = parse_yaml(f"value: {value}", shortened(repr(pair)))
        changed = _set(settings, key.strip(), content["value"], "setting")
        sources |= dict.fromkeys(changed, pair)
    try:
        config = OmegaConf.to_object(settings)
    except OmegaConfBaseException as error:
        raise UsageError(_explain(error)) from error
    _take_switches(config)
    check_config(config)
    return Origin(config, sources, path)


def _take_switches(config: Config) -> None:
    """Takes on and off for the choices of that name, which YAML 1.1 reads as true and false."""
    for owner, _, part in fields_of(config):
        meant = {"True": "on", "False": "off"}.get(getattr(owner, part.name)) if part.type is str else None
        if meant in (part.metadata.get("choices") or ()):
            setattr(owner, part.name, meant)


def _find_files(config: Config) -> None:
    """Points settings that name files beside the package there, where the working directory lacks them."""
    for owner, _, part in fields_of(config):
        value = getattr(owner, part.name)
        if part.metadata.get("file") and isinstance(value, list):
            setattr(owner, part.name, [str(find(path)) for path in value])
        elif part.metadata.get("file") and value and (found := find(value)) != Path(value):
            setattr(owner, part.name, str(found))


def _merge_file(settings, path: Path):
    """The settings with the file's over them, and the paths of what it names."""
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise UsageError(f"no configuration {looked_for(path)}; pass --inference_config") from error
    check_keys(content, Config, "", str(path))
    try:
        return OmegaConf.merge(settings, content), [name for name, _ in leaves(content)]
    except OmegaConfBaseException as error:
        raise UsageError(f"{path}: {_explain(error)}") from error


def _set(settings, key: str, value: Any, kind: str) -> list[str]:
    """Sets one value, or that of every test case; returns the paths."""
    paths = [key]
    if key.startswith("test_case[*]"):
        paths = [key.replace("[*]", f"[{i}]", 1) for i in range(len(settings.test_case))]
    for path in paths:
        check_shape(value, type_at(path, len(settings.test_case), kind), path, kind)
        try:
            OmegaConf.update(settings, path, value)
        except OmegaConfBaseException as error:
            raise UsageError(f"{kind} {path}={shortened(value)}: {_explain(error)}") from error
    return paths


def _explain(error: OmegaConfBaseException) -> str:
    reason = shortened(str(error).split("\n")[0])
    return f"{error.full_key}: {reason}" if getattr(error, "full_key", None) else reason


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML text, ready to be used as a configuration file."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))

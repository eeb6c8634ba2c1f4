"""What a command line says: flags and `path=value` pairs over a file, as one checked configuration."""

import argparse
import dataclasses
import os
import re
from typing import Any

from mimicmotion.cli.flags import TURBO, Flag
from mimicmotion.config import (
    DEFAULT_CONFIG,
    Config,
    Origin,
    default_config,
    describe_setting,
    lookup,
    nearest,
    split_path,
    trace_config,
)
from mimicmotion.errors import UsageError

Groups = dict[str, tuple[Flag, ...]]  # title -> flags

EXIT_CODES = "exit codes: 0 all done, 1 some items failed, 2 wrong use, 3 weights, disk or device, 130 interrupted"
# The weights that belong to a file's scheduler and base model.
LORAS = ("lcm_lora_path", "more_lora_paths", "more_lora_scales")
PAIR = re.compile(r"([A-Za-z_]\w*)((\[(\d+|\*)\])?(\.\w+)*)=")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and adds to a flag's help its default, where it has one and does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help or "", action.default
        if not action.option_strings or default in (None, False, argparse.SUPPRESS) or "default" in text:
            return action.help
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})".lstrip()


def build_parser(doc: str, groups: Groups, prog: str | None = None) -> argparse.ArgumentParser:
    """A parser with the flags of `groups`, all of them None until given, and `path=value` settings.

    A flag that two groups share appears in the first and sets what both say.
    """
    summary, _, rest = doc.strip().partition("\n")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{summary}\nIn brackets: the setting that a flag overrides, and its value in {DEFAULT_CONFIG}.",
        epilog=f"{rest.strip()}\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="any setting, such as output.crf=20")
    parser.add_argument("--inference_config", default=DEFAULT_CONFIG, metavar="YAML", help="settings")
    parser.add_argument("--print_config", action="store_true", help="print the resolved settings and stop")
    parser.add_argument("--log_file", metavar="FILE", help="also write the log there")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    parser.add_argument("--log_level", default="INFO", choices=levels, help="least important lines to log")
    added: set[str] = set()
    defaults = default_config()
    for title, flags in groups.items():
        section = parser.add_argument_group(title)
        for flag in flags:
            if flag.name not in added:
                _add_flag(section, flag, lookup(defaults, flag.path))
            added.add(flag.name)
    return parser


def _add_flag(section, flag: Flag, default: Any) -> None:
    destination = flag.name.lstrip("-")
    choices = describe_setting(flag.path).metadata.get("choices") if flag.kind in (str, "list") else None
    text = f"{flag.help} ({' | '.join(choices)})" if choices else flag.help
    text = f"{text} [{flag.path}, default {_yaml(default)}]".replace("%", "%%")
    if flag.kind == "list":
        section.add_argument(flag.name, dest=destination, nargs="+", metavar="NAME", help=text)
    elif flag.kind == "pairs":
        section.add_argument(flag.name, dest=destination, action="append", metavar="NAME=VALUE,...", help=text)
    elif isinstance(flag.kind, type):
        many = {"nargs": "+"} if flag.more else {}
        metavar = flag.kind.__name__.upper()
        section.add_argument(flag.name, dest=destination, type=flag.kind, metavar=metavar, help=text, **many)
    else:
        section.add_argument(flag.name, dest=destination, action="store_const", const=flag.kind, help=text)


def _yaml(value: Any) -> str:
    """A value as a configuration file has it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_arguments(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """The arguments of a `build_parser` parser; settings count wherever they stand, also behind `--videos a.mp4`."""
    before, separator, behind = _split(argv, "--")
    settings = [token for token in before if is_setting(token)]
    arguments = parser.parse_args([token for token in before if not is_setting(token)] + separator + behind)
    arguments.overrides = settings + arguments.overrides
    return arguments


def _split(argv: list[str], separator: str) -> tuple[list[str], list[str], list[str]]:
    place = argv.index(separator) if separator in argv else len(argv)
    return argv[:place], argv[place : place + 1], argv[place + 1 :]


def is_setting(token: str) -> bool:
    """Whether a word of a command line is a `path=value` pair: its path begins as settings do, and it is no file."""
    match = PAIR.match(token)
    return bool(match) and match[1] in {f.name for f in dataclasses.fields(Config)} and not os.path.exists(token)


def given_settings(arguments: argparse.Namespace, groups: Groups) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that flags were given for, by path, and the names of these flags."""
    given, names = {}, {}
    for flag in (flag for group in groups.values() for flag in group):
        value = getattr(arguments, _attribute(flag))
        if value is None:
            continue
        values = {flag.path: value[0] if flag.more else value}
        # One file alone leaves nothing of the others that a configuration has; one number leaves theirs.
        if flag.more and (value[1:] or flag.kind is str):
            values[flag.more] = value[1:] or None
        given |= values
        names |= dict.fromkeys(values, flag.name)
    return given, names


def _attribute(flag: Flag) -> str:
    return flag.name.lstrip("-")


def parse_config(arguments: argparse.Namespace, groups: Groups) -> Origin:
    """The resolved settings of a script's arguments, with their sources. Raises: UsageError as `load_config`."""
    given, names = given_settings(arguments, groups)
    origin = trace_config(arguments.inference_config, given, arguments.overrides, names)
    if TURBO in groups.values():
        follow_scheduler(origin, arguments.inference_config)
    return origin


def settings_by_flag(values: dict[str, Any], groups: Groups) -> dict[str, Any]:
    """Settings by path of values that are named as flags without their dashes, or by path already.

    Raises: UsageError for a name that is neither.
    """
    return {setting_of_flag(name, groups): value for name, value in values.items()}


def setting_of_flag(name: str, groups: Groups) -> str:
    """The path of the setting that is named as a flag without its dashes, or by path already.

    Raises: UsageError for a name that is neither.
    """
    paths = {_attribute(flag): flag.path for group in groups.values() for flag in group}
    roots = {f.name for f in dataclasses.fields(Config)}
    if name not in paths and split_path(name)[0] not in roots:
        raise UsageError(f"unknown setting '{name}'{nearest(name, list(paths))}")
    return paths.get(name, name)


def follow_scheduler(origin: Origin, path: str | Config) -> None:
    """Steps, guidance and LCM weights of a file belong to its scheduler: another one, asked for by flag, takes its
    own unless they are given too. LCM weights belong to the file's base model as well.
    """
    if all(origin.sources.get(key, path) == path for key in ("turbo.scheduler", "base_model_path")):
        return
    config, in_file = origin.config, trace_config(path).config
    own: tuple[str, ...] = ()
    if config.turbo.scheduler != in_file.turbo.scheduler:
        own = ("num_inference_steps", "guidance_scale", *LORAS)
    elif config.base_model_path != in_file.base_model_path:
        own = LORAS
    for key in own:
        if origin.sources.get(f"turbo.{key}", path) == path:
            setattr(config.turbo, key, None)

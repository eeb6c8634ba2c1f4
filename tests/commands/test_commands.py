"""The commands by either name: the console program and the scripts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mimicmotion.commands import SCRIPTS, run_command, run_console

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("inference_*.py"), *(ROOT / "scripts").glob("*.py")])


def python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "1000"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, **options)


def help_of(name, console, capsys):
    with pytest.raises(SystemExit) as caught:
        run_command(name, ["--help"], console)
    assert not caught.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_name_what_one_types(name, capsys):
    console, script = help_of(name, True, capsys), help_of(name, False, capsys)
    assert console.startswith(f"usage: mimicmotion {name} ")
    assert f"  mimicmotion {name}" in console and "python " not in console
    assert f"  {'python ' if SCRIPTS[name].endswith('.py') else ''}{SCRIPTS[name]}" in script
    assert "mimicmotion " + name not in script
    assert not [other for other in SCRIPTS if f"{{{other}}}" in script + console]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_has_its_script(name):
    path = ROOT / SCRIPTS[name]
    assert path.is_file()
    expected = f'run_command("{name}"' if path.suffix == ".py" else f"-m mimicmotion {name}"
    assert expected in path.read_text()


def test_the_console_lists_its_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        run_console(["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    for name in SCRIPTS:
        assert re.search(rf"^  {name} +[A-Z].*\.$|^  {name} +[A-Z].*\?$", text, re.M), name


@pytest.mark.parametrize("argv", [[], ["tubro"], ["--seed", "5"]])
def test_a_mistyped_command_ends_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        run_console(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize("argv", [["turbo", "--schedulr", "AYS"], ["steps", "--nothing"], ["stream", "--help"]])
def test_parsing_costs_nothing(argv):
    """Neither torch nor numpy nor diffusers is imported to answer."""
    code = (
        "import sys\n"
        "from mimicmotion.commands import run_console\n"
        "try:\n"
        f"    run_console({argv!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "else:\n"
        "    sys.exit('did not stop')\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'PIL', 'cv2', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", FILES, ids=lambda path: path.name)
def test_help_of_every_script_answers_without_torch_and_shows_defaults(script, tmp_path):
    """Run from another folder; every flag with a default says it."""
    code = (
        "import argparse, runpy, sys\n"
        "show = argparse.ArgumentParser.print_help\n"
        "def check(parser, file=None):\n"
        "    text = ' '.join(parser.format_help().split())\n"
        "    for action in parser._actions:\n"
        "        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):\n"
        "            about = action.help and parser._get_formatter()._expand_help(action)\n"
        "            assert about and 'default' in about, (action.option_strings, about)\n"
        "    show(parser, file)\n"
        "argparse.ArgumentParser.print_help = check\n"
        f"sys.argv = [{str(script)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
    assert "sampling.crf" not in done.stdout


def test_python_m_is_the_console_program(tmp_path):
    done = python("-m", "mimicmotion", "turbo", "--print_config", "--seed", "9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed: 9" in done.stdout
    assert f"base_model_path: {ROOT / 'assets' / 'models' / 'tiny'}" in done.stdout

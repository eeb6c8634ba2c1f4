"""What `pip install .` brings."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))


def pins(path):
    return [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_each_pin_stands_once():
    """A package of two platforms may have a line for each."""
    lines = [line for path in REQUIREMENTS for line in pins(path)]
    assert len(lines) == len(set(lines))
    unconditional = [line.partition("=")[0].rstrip("><") for line in lines if ";" not in line]
    assert len(unconditional) == len(set(unconditional))
    assert all("==" in line or "<" in line for line in lines)


def test_the_project_takes_its_pins_from_the_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert not {"dependencies", "optional-dependencies"} & set(project["project"])
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    extras = {name: entry["file"] for name, entry in dynamic["optional-dependencies"].items()}
    assert extras == {path.stem.partition("-")[2]: [path.name] for path in REQUIREMENTS if path.stem != "requirements"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The unpacked wheel of the tracked files, and its list of names."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "setup.py", "README.md", *(path.name for path in REQUIREMENTS)):
        shutil.copy(ROOT / name, source)
    for name in ("mimicmotion", "configs", "assets/models", "assets/streaming"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "streaming_tiny"))
    (source / "assets" / "demo").mkdir()
    (source / "assets" / "demo" / "somebody.mp4").touch()
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
        wheel.extractall(target)
        return target, wheel.namelist()


def test_the_wheel_holds_the_package_with_the_files_it_needs(installed):
    _, names = installed
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mimicmotion").rglob("*.py")}
    models = (f"assets/models/{name}" for name in ("tiny", "world", "world_free"))
    for folder in ("configs", *models, "assets/streaming"):
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
        expected |= {f"mimicmotion/{path.relative_to(ROOT).as_posix()}" for path in files}
    expected |= {f"mimicmotion/assets/models/puppet_pose_reader.{end}" for end in ("json", "safetensors")}
    expected.add("mimicmotion/assets/models/weights.json")
    expected |= {f"mimicmotion/{room}/page.html" for room in ("gallery", "evaluation")}
    served = (path for path in (ROOT / "mimicmotion/serving").iterdir() if path.suffix in (".html", ".css", ".js"))
    expected |= {path.relative_to(ROOT).as_posix() for path in served}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_the_wheel_names_the_console_program_and_the_pins(installed):
    folder, _ = installed
    (facts,) = folder.glob("*.dist-info")
    assert "mimicmotion = mimicmotion.commands:run_console" in (facts / "entry_points.txt").read_text()
    lines = (facts / "METADATA").read_text().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist: ")]
    plain = [line for line in required if "extra ==" not in line]
    assert len(plain) == len(pins(ROOT / "requirements.txt"))
    assert len(required) == sum(len(pins(path)) for path in REQUIREMENTS)


def test_an_installed_package_finds_its_own_files(installed, tmp_path):
    folder, _ = installed
    code = (
        "import runpy, sys\n"
        "sys.argv = ['mimicmotion', 'turbo', '--print_config', '--seed', '9']\n"
        "runpy.run_module('mimicmotion', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert f"base_model_path: {folder / 'mimicmotion' / 'assets' / 'models' / 'tiny'}" in done.stdout
    assert "seed: 9" in done.stdout

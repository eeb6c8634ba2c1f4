"""Commands and snippets of the documents: both READMEs, doc/*.md and the examples of every --help, as one types them.

A page is a session: what stands on it runs in order, in one fresh folder that looks like the repository's root with
`videos/` and `person.png` in it. What cannot be run here says why in the page's source, in a comment before its block
(<!-- needs: weights -->) or at the end of its line (# needs weights):

    weights, gpu, network    the command's own parser reads it, then the test is skipped
    minutes                  the command's own parser reads it
    fragment                 Python that stands for something in your program: it compiles, and its imports exist
"""

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.commands import SCRIPTS

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("weights", "gpu", "network", "minutes", "fragment")
# Pages that go on in the folder of another one, since they use what that one's commands made.
GOES_ON = {
    "doc/latent_concat_experiment.md": "README.md",
    "doc/experiments.md": "README.md",
    "mimicmotion/commands/concat.py": "README.md",
    "mimicmotion/commands/turbo.py": "README.md",
    "mimicmotion/commands/gallery.py": "README.md",
    "mimicmotion/commands/cache.py": "doc/feature_cache.md",
    "scripts/feature_cache.py": "doc/feature_cache.md",
    "mimicmotion/commands/steps.py": "doc/latent_step_decoder.md",
    "scripts/draw_puppets.py": "doc/puppets.md",
}
MARK = re.compile(r"^<!-- needs: (.+) -->$")
LINE_MARK = re.compile(r"#.*\bneeds (\w+)")
COMMAND = re.compile(r"([A-Z_]+=\S+ )*(python3? |pip |mimicmotion |scripts/\w+\.sh)")
SNIPPET = re.compile(r"(from|import) \w")
PROGRAM = re.compile(r"python (\S+\.py)|mimicmotion (\w+)")
READY = ROOT / "tests" / "ready_python.py"
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:python |mimicmotion )[^`]+)`")


@dataclass(frozen=True)
class Example:
    """A shell command or a Python snippet (`is_python`), and why it cannot be run here (None: it can)."""

    page: str
    line: int
    text: str
    is_python: bool = False
    needs: str | None = None

    def __str__(self):
        return f"{self.page}:{self.line}: {self.text.splitlines()[0][:80]}"


def examples_of_page(page: str, text: str) -> list[Example]:
    """What can be typed on a page: indented and fenced blocks, and commands within a sentence."""
    found, lines, needs, at = [], text.splitlines(), None, 0
    while at < len(lines):
        line = lines[at]
        if mark := MARK.match(line):
            needs = mark[1]
        elif line.startswith(("    ", "```")):
            start, block, at = _block(lines, at)
            found += _examples_of_block(page, start, block, needs)
            needs = None
            continue
        elif line:
            commands = INLINE.findall(line)
            found += [_example(page, at + 1, command, needs) for command in commands]
            needs = None if commands else needs
        at += 1
    return found


def _block(lines: list[str], at: int) -> tuple[int, list[str], int]:
    """The first line's number, the lines without their indent, and the index behind the block."""
    if lines[at].startswith("```"):
        end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
        return at + 2, lines[at + 1 : end], end + 1
    end = at
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
        end += 1
    return at + 1, [line[4:] for line in lines[at:end]], end


def _examples_of_block(page: str, start: int, block: list[str], needs: str | None) -> list[Example]:
    if SNIPPET.match(block[0]):
        return [Example(page, start, "\n".join(block).rstrip() + "\n", True, needs)]
    return [_example(page, start + i, command, needs) for i, command in commands_of(block)]


def commands_of(lines: list[str]) -> list[tuple[int, str]]:
    """Index and text of each command; a line that ends with a backslash goes on. What a command prints is left out."""
    found, behind = [], 0
    for i, line in enumerate(lines):
        if i < behind or not COMMAND.match(line.strip()):
            continue
        behind = i + 1
        while lines[behind - 1].endswith("\\"):
            behind += 1
        found.append((i, "\n".join(part.strip() for part in lines[i:behind])))
    return found


def _example(page: str, line: int, command: str, needs: str | None) -> Example:
    mark = LINE_MARK.search(command)
    return Example(page, line, command, needs=mark[1] if mark else needs)


def help_pages() -> dict[str, str]:
    """The docstring that the --help of each script shows, by the script's name; commands named as for a script."""
    pages = {f"mimicmotion/commands/{name}.py": ROOT / "mimicmotion" / "commands" / f"{name}.py" for name in SCRIPTS}
    pages |= {f"scripts/{path.name}": path for path in sorted((ROOT / "scripts").glob("*.py"))}
    return {page: ast.get_docstring(ast.parse(path.read_text()), clean=False) for page, path in pages.items()}


def typed(text: str) -> str:
    """A help text with its commands as they are typed: {turbo} is a script's path."""

    def spell(match):
        script = SCRIPTS[match[1]]
        return f"python {script}" if script.endswith(".py") else script

    return re.sub(rf"\{{({'|'.join(SCRIPTS)})\}}", spell, text)


def sessions() -> dict[str, list[Example]]:
    """All examples by the page whose folder they run in, without those that an earlier page has."""
    pages = {page: examples_of_page(page, (ROOT / page).read_text()) for page in page_names()}
    for page, text in help_pages().items():
        pages[page] = [_example(page, i + 1, command, None) for i, command in commands_of(typed(text).splitlines())]
    seen, found = set(), {}
    for page, examples in pages.items():
        new = [example for example in examples if bare(example) not in seen]
        seen |= set(map(bare, new))
        found.setdefault(GOES_ON.get(page, page), []).extend(new)
    return {page: examples for page, examples in found.items() if examples}


def page_names() -> list[str]:
    return ["README.md", "README.zh.md", *(f"doc/{path.name}" for path in sorted((ROOT / "doc").glob("*.md")))]


def bare(example: Example) -> str:
    """A command without its comment and its breaks; a snippet without its comments: pages differ in them."""
    if example.is_python:
        return re.sub(r"\s+#.*", "", example.text)
    return " ".join(re.sub(r"\s#.*|\\\n", " ", example.text).split())


def make_material(folder: Path) -> None:
    """What a user brings, drawn and tiny: `videos/`, `person.png`; and the demo's inputs, where the default
    configuration looks for them.
    """
    from mimicmotion.puppets import draw_puppets

    drawn, puppets = folder / "drawn", folder / "assets" / "demo" / "puppets"
    kinds = ("jump", "wave", "dance")
    draw_puppets(drawn, count=0, kinds=kinds, seconds=0.5, height=480, width=320)
    draw_puppets(puppets, count=1, kinds=(), seed=4)
    names = ("assets/demo/driving/jumping_jacks", "videos/a", "videos/b")
    for name, kind in zip(names, kinds, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / "driving" / f"{kind}.mp4", folder / f"{name}.mp4")
    shutil.rmtree(drawn)
    reference = puppets / "references" / "person-04.png"
    for target in (folder / "person.png", folder / "assets" / "demo" / "reference.png"):
        shutil.copy(reference, target)


def make_root(folder: Path, material: Path) -> Path:
    """A folder that looks like the repository's root to whoever types a command in it."""
    shutil.copytree(material, folder)
    for name in ("mimicmotion", "configs", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt"))):
        (folder / name).symlink_to(ROOT / name)
    # Scripts are copied: some write beside themselves.
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for path in (ROOT / "assets" / "models", ROOT / "assets" / "streaming"):
        (folder / "assets" / path.name).mkdir()
        for entry in path.iterdir():
            if entry.name != "streaming_tiny":
                (folder / "assets" / path.name / entry.name).symlink_to(entry)
    (folder / "doc").mkdir()
    return folder


def make_environment(folder: Path, parse_only: bool) -> None:
    """A `.venv` in `folder` with this interpreter; with `parse_only` its programs read a command line and stop."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    reader = f' "{ROOT / "tests" / "parse_only.py"}"' if parse_only else ""
    for name, arguments in (("python", ""), ("mimicmotion", " -m mimicmotion"), ("pip", " -m pip")):
        words = f'{reader}{arguments} "$@"\n'
        ready = f'[ -z "$READY_PYTHON" ] || exec "{sys.executable}" -I -S "{READY}" "$READY_PYTHON"{words}'
        (programs / name).write_text(f'#!/bin/sh\n{ready}exec "{sys.executable}"{words}')
        (programs / name).chmod(0o755)
    # scripts/setup.sh takes an environment with this stamp as complete.
    stamp = "cat requirements.txt requirements-dev.txt requirements-cluster.txt requirements-web.txt | sha256sum"
    run(f'{stamp} | cut -d" " -f1 > .venv/requirements.sha256', folder)


@contextlib.contextmanager
def ready_python(folder: Path) -> Iterator[str]:
    """The socket in `folder` of a running `tests/ready_python.py`."""
    command = [sys.executable, READY, "--serve", str(folder / "socket")]
    quiet = {"TRANSFORMERS_VERBOSITY": "error"}  # as the product asks of it
    with subprocess.Popen(command, env=_environment() | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield str(folder / "socket")
        finally:
            server.stdin.close()


def run_fresh(sessions: dict[str, list[Example]]) -> set[Example]:
    """The first example of each script that is run, and the first snippet: in a fresh interpreter, so that each has
    been seen in one.
    """
    first = {}
    for example in (example for examples in sessions.values() for example in examples if example.needs is None):
        script = PROGRAM.search(example.text)
        first.setdefault("snippet" if example.is_python else script and SCRIPTS.get(script[2], script[1]), example)
    return set(first.values())


def run(command: str, folder: Path, is_python: bool = False, ready: str | None = None) -> subprocess.CompletedProcess:
    """What bash makes of a command typed in `folder`; or what Python makes of a snippet. With `ready`, the socket of
    `ready_python`, its Python is that one.
    """
    environment = _environment() | ({"READY_PYTHON": ready} if ready else {})
    environment["PATH"] = f"{folder / '.venv' / 'bin'}:{environment['PATH']}"
    arguments = [str(folder / ".venv" / "bin" / "python"), "-c", command] if is_python else ["bash", "-c", command]
    return subprocess.run(
        arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _environment() -> dict[str, str]:
    """That of a user who has no Python of his own choice."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MIMICMOTION_VENV")}
    return own | {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1"}

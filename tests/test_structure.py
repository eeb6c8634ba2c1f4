"""The shape of the package: rooms with one door each, imports that run down, no circles, few modules lying flat."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mimicmotion"
PAGE = ROOT / "doc" / "structure.md"
ROOMS = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted([*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")])
MAX_FLAT = 10
MAX_PAGE_LINES = 60


def name_of(file: Path) -> str:
    """The dotted name of a module of the package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(file) for file in MODULES}


def imports(file: Path, with_types: bool = False) -> set[str]:
    """Names of the package's modules that a file imports, anywhere in it; a module taken as a name counts as itself.

    Imports for type checkers alone are left out unless `with_types`.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if not with_types:
        tree = WithoutTypes().visit(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{file}: relative imports are not used here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in NAMES else node.module)
    return {name for name in found if name.partition(".")[0] == "mimicmotion"}


class WithoutTypes(ast.NodeTransformer):
    def visit_If(self, node):
        typing_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if typing_only else self.generic_visit(node)


def room_of(name: str) -> str:
    """The room of a module: its subpackage, or itself where it lies flat; "" for the package's own door."""
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("file", [*MODULES, *SCRIPTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_is_entered_by_its_door_alone(file):
    own = room_of(name_of(file)) if PACKAGE in file.parents else None
    for name in imports(file, with_types=True):
        room = room_of(name)
        assert room == own or room not in ROOMS or name == f"mimicmotion.{room}", f"{file} imports {name}"


def test_few_modules_lie_flat():
    flat = [file.stem for file in PACKAGE.glob("*.py") if file.name != "__init__.py"]
    assert len(flat) <= MAX_FLAT, flat


def test_no_circle_of_files():
    graph = {name_of(file): imports(file) - {name_of(file)} for file in MODULES if file.name != "__init__.py"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def order() -> list[str]:
    """The rooms and flat modules in the order of the structure page, the highest first."""
    return re.findall(r"^\| `(\w+)(?:/|\.py)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_names_every_room_once():
    flat = {file.stem for file in PACKAGE.glob("*.py") if not file.name.startswith("__")}
    assert sorted(order()) == sorted(ROOMS | flat)
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= MAX_PAGE_LINES


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_run_down_the_page(file):
    own, places = room_of(name_of(file)), {room: place for place, room in enumerate(order())}
    if not own or own.startswith("__"):
        return
    for name in imports(file):
        room = room_of(name)
        assert room in ("", own) or places[room] > places[own], f"{file} imports {name}, which stands above it"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_everything_behind_a_door_is_there(room):
    door = __import__(f"mimicmotion.{room}", fromlist=["*"])
    assert door.__all__ and all(hasattr(door, name) for name in door.__all__)

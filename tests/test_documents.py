"""Every command and snippet of the documents works as typed; every file, name and test that they speak of exists."""

import ast
import pkgutil
import re
import shutil

import pytest

from tests import documents
from tests.documents import NEEDS, ROOT, examples_of_page, page_names, sessions

SESSIONS = sessions()
RUNNABLE = [page for page, examples in SESSIONS.items() if any(example.needs is None for example in examples)]
FRESH = documents.run_fresh(SESSIONS)
MARKED = [example for examples in SESSIONS.values() for example in examples if example.needs]
PAGES = {page: (ROOT / page).read_text() for page in page_names()}


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents") / "material"
    documents.make_material(folder)
    return folder


@pytest.fixture(scope="session")
def parsing_root(tmp_path_factory, material):
    """A root where commands are read and not run."""
    root = documents.make_root(tmp_path_factory.mktemp("parsed") / "root", material)
    documents.make_environment(root, parse_only=True)
    return root


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """The socket of a Python that has its libraries; a worker has one while it runs pages."""
    with documents.ready_python(tmp_path_factory.mktemp("ready")) as socket:
        yield socket


def require_success(example, done):
    output = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
    assert done.returncode == 0, f"{example}\n{example.text}\nended with {done.returncode}:\n{output}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_works_as_typed(page, tmp_path, material, ready):
    root = documents.make_root(tmp_path / "root", material)
    documents.make_environment(root, parse_only=False)
    for example in SESSIONS[page]:
        if example.needs is None:
            python = None if example in FRESH else ready
            require_success(example, documents.run(example.text, root, example.is_python, python))
    shutil.rmtree(root)


@pytest.mark.parametrize("example", MARKED, ids=str)
def test_what_cannot_be_run_here_is_read(example, parsing_root, ready):
    assert example.needs in NEEDS, f"{example}: unknown mark '{example.needs}'"
    if example.is_python:
        check_snippet(example)
    else:
        require_success(example, documents.run(example.text, parsing_root, ready=ready))
    if example.needs not in ("minutes", "fragment"):
        pytest.skip(f"needs {example.needs}; its command line was read")


def check_snippet(example):
    tree = ast.parse(example.text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), str(example), "exec"), {})


def test_examples_are_found_where_they_stand():
    page = """
    python a.py --one \\
        --two   # as typed

    printed by it

Text with `python b.py c` and `b.py`.

<!-- needs: gpu -->

    scripts/demo.sh
    OMP_NUM_THREADS=1 python d.py    # needs weights

```
mimicmotion turbo
```

    from mimicmotion import animate

    animate(
        1)

    outputs/a.mp4     a file
"""
    found = examples_of_page("p", page)
    assert [(example.line, example.text.split("\n")[0], example.needs) for example in found] == [
        (2, "python a.py --one \\", None),
        (7, "python b.py c", None),
        (11, "scripts/demo.sh", "gpu"),
        (12, "OMP_NUM_THREADS=1 python d.py    # needs weights", "weights"),
        (15, "mimicmotion turbo", None),
        (18, "from mimicmotion import animate", None),
    ]
    assert found[0].text.endswith("--two   # as typed")


def test_every_command_is_documented():
    """The extraction finds what is there: each script is typed somewhere."""
    text = "\n".join(example.text for examples in SESSIONS.values() for example in examples)
    scripts = [path.name for path in [*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py")] if path.name != "setup.py"]
    assert [name for name in scripts if name not in text] == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("python inference_raw_batch_turbo.py --no_such_flag", 2),
        ("python inference_raw_batch_turbo.py turbo.no_such_setting=1", 2),
        ("python inference_raw_batch_turbo.py --num_inference_steps many", 2),
        ("python scripts/train_tiny.py no_such_stage", 2),
        ("mimicmotion turbo --no_such_flag", 2),
        ("mimicmotion turbo --scheduler AYS", 0),
    ],
)
def test_reading_a_command_finds_what_is_wrong(command, code, parsing_root):
    assert documents.run(command, parsing_root).returncode == code


def without_other_names(page):
    """A page without what its tables say is named otherwise elsewhere."""
    tables = re.compile(r"^\| name there.*?(\n\n|\Z)", re.M | re.S)
    return tables.sub(lambda table: re.sub(r"^\|.*?\|", "|", table[0], flags=re.M), PAGES[page])


@pytest.mark.parametrize(
    "room", sorted((ROOT / "mimicmotion").glob("*/__init__.py")), ids=lambda path: path.parent.name
)
def test_a_rooms_door_has_a_phrase_for_each_file(room):
    text = ast.get_docstring(ast.parse(room.read_text()))
    phrases = re.findall(r"^(\w+)  +\S", text, re.M)
    assert sorted(phrases) == sorted({path.stem for path in room.parent.glob("*.py")} - {"__init__"})


@pytest.mark.parametrize("page", PAGES)
def test_files_exist_that_a_page_names(page):
    named = re.findall(r"`((?:mimicmotion|tests|scripts|configs|doc)/[\w./-]+|[\w]+\.py)`", without_other_names(page))
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    known = {path.name for path in ROOT.glob("*.py")}
    known |= {path.name for room in ("scripts", "mimicmotion", "tests") for path in (ROOT / room).rglob("*.py")}
    assert [name for name in named if not (ROOT / name).exists() and name not in known] == []
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_tests_exist_that_a_page_names(page):
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`(?:(test_\w+)::)?(test_(?!case`)\w+)`", PAGES[page])
    assert [name for _, name in named if f"def {name}(" not in tests and name not in files] == []
    assert [name for name, _ in named if name and name not in files] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_exist_that_a_page_names(page):
    """`mimicmotion.dwpose.draw_pose` and the like, outside of tables of what stands elsewhere."""
    for name in sorted(set(re.findall(r"`(mimicmotion(?:\.\w+)+)`", PAGES[page]))):
        pkgutil.resolve_name(name)

"""doc/notebook.ipynb runs from an empty folder, and holds what it gives."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (requirements-dev.txt)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (requirements-dev.txt)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (requirements-dev.txt)")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "doc" / "notebook.ipynb"


def outputs(notebook):
    """The kinds of output of each code cell; warnings differ from machine to machine."""
    cells = [
        [output for output in cell.outputs if output.get("name") != "stderr"]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [[sorted(output.get("data", {"text": ""})) for output in cell] for cell in cells]


def test_the_notebook_runs_and_holds_its_results(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(executed, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert outputs(executed) == outputs(committed)
    for notebook in (executed, committed):
        assert notebook.cells[3].outputs[-1].data["text/plain"] == "(12, 192, 128, 3)"
    assert NOTEBOOK.stat().st_size < 500_000

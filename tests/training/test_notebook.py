"""The notebook of `examples/` is stored with the outputs of one run, and still runs."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "draw_and_hear.ipynb"
LARGEST = 1_000_000  # bytes


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_bytes())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell):
    """Types of what a cell shows: stream names and MIME types."""
    return {kind for output in cell["outputs"] for kind in output.get("data", [output.get("name", "error")])}


def test_stored_outputs_are_of_one_run_and_hold_sounds_and_plots(notebook):
    cells = code_cells(notebook)
    assert NOTEBOOK.stat().st_size < LARGEST
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = [kinds(cell) for cell in cells]
    assert not any(kind & {"stderr", "error"} for kind in shown)
    assert sum("image/png" in kind for kind in shown) == 2
    assert json.dumps(notebook).count("<audio") == 2


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_is_stored(notebook, tmp_path):
    client = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    fresh = nbformat.read(NOTEBOOK, 4)
    client.NotebookClient(
        fresh, timeout=600, startup_timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert [kinds(cell) for cell in code_cells(fresh)] == [kinds(cell) for cell in code_cells(notebook)]

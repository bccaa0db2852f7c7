"""The notebooks run from top to bottom on small inputs, and what is committed of them shows nothing of the machine they ran on."""

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

BOOKS = ROOT / "examples" / "notebooks"
# What the cell tagged "parameters" says here, and the cell's own values otherwise.
SMALL = {
    "recording": {},
    "study": {"seconds": 4.0, "height": 160},
    "faces_to_bundle": {"drawn_faces": 240, "epochs": 2},
    # A small recipe that the notebook's own includes: one network, one head.
    "rehearse_a_paper": {"recipe": "abaw-baseline-mtl", "size": 600},
}
NEEDS = {
    "recording": ("matplotlib",),
    "study": ("matplotlib", "scipy", "jinja2"),
    "faces_to_bundle": ("torch", "matplotlib"),
    "rehearse_a_paper": ("torch", "matplotlib"),
}


def read(name):
    return nbformat.read(BOOKS / f"{name}.ipynb", as_version=4)


def outputs(book):
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def test_every_notebook_is_held():
    assert {path.stem for path in BOOKS.glob("*.ipynb")} == set(SMALL)


# Jupyter's own client warns of its event loop and of its folders; neither is news here.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    for module in NEEDS[name]:
        pytest.importorskip(module)
    # `!mien` in a cell is the command of this environment and of this checkout.
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    book = read(name)
    (parameters,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source += "".join(f"\n{key} = {value!r}" for key, value in SMALL[name].items())
    context = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=context).execute()
    assert not [output for output in outputs(book) if output.get("name") == "stderr"]
    plots = [output for output in outputs(book) if "image/png" in output.get("data", {})]
    assert plots


@pytest.mark.parametrize("name", SMALL)
def test_a_committed_notebook_was_run_and_shows_nothing_of_its_machine(name):
    path = BOOKS / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 150_000
    counts = [cell.execution_count for cell in read(name).cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not re.findall(r"/(?:home|root|tmp|work|Users|usr)/|[A-Z]:\\\\", text)
    assert not [output for output in outputs(read(name)) if output.output_type == "error"]

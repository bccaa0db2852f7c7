"""Rules that hold for the whole package: rooms import only upward, names are public on purpose, importing is free."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mien

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "mien"
# From the ground up; a room imports only rooms before it. Keep in step with docs/architecture.md.
ROOMS = (
    "errors", "text", "documents", "files", "claims", "tasks", "records", "metrics", "sources", "faces", "bundles", "zoo", "compat",
    "temporal", "outputs", "options", "networks", "progress", "given", "pipeline", "analysis",
    "batch", "many", "demo", "doctor", "data", "train", "recipes", "cli", "__main__",
)  # fmt: skip
MODULES = sorted(SRC.rglob("*.py"))


def room_of(module: str) -> str:
    return module.removeprefix("mien").removeprefix(".").split(".")[0]


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_rooms_import_only_upward(path):
    here = path.relative_to(SRC).with_suffix("").parts[0]
    if here == "__init__":
        return
    rooms = {room_of(name) for name in imports(path) if name.split(".")[0] == "mien"} - {"", here}
    below = {room for room in rooms if ROOMS.index(room) > ROOMS.index(here)}
    assert not below, f"{here} must not import {below}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_torch_lives_in_train_only(path):
    tops = {name.split(".")[0] for name in imports(path)}
    if path.relative_to(SRC).parts[0] != "train":
        assert not tops & {"torch", "timm", "torchvision"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_one_look_is_enough(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 50, f"{node.name} has {lines} lines"


def test_no_pickle_is_ever_loaded():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text
        loads = [line for line in text.splitlines() if "torch.load(" in line]
        assert all("weights_only=True" in line for line in loads), path


def test_public_names_exist():
    for name in mien.__all__:
        assert getattr(mien, name).__doc__ or name == "TASKS"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mien.nothing  # noqa: B018


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    modules = run_python("import mien, sys; print(*sys.modules)").split()
    assert not {"torch", "cv2", "numpy", "pandas", "av", "socket"} & set(modules)


def test_run_street_needs_no_torch():
    modules = run_python("import mien.cli, sys; print(*sys.modules)").split()
    assert not {"torch", "timm", "openvino"} & set(modules)

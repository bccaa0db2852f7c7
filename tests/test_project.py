"""Rules that hold for the whole package: rooms import only upward, names are public on purpose, importing is free."""

import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import mien

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "mien"
# From the ground up: a room imports only rooms before it, and inside a room with rooms of its own the same holds of those.
# Keep in step with docs/explanation/architecture.md.
ROOMS = {
    "": (
        "_version", "errors", "text", "extensions", "documents", "files", "remote", "progress", "processes", "tasks", "records", "metrics", "protocols", "sources", "faces",
        "bundles", "temporal", "systems", "zoo", "compat", "outputs", "analysis", "batch", "study", "realtime", "exports", "report", "doctor", "data", "demo", "evaluation", "train", "recipes",
        "extend", "app", "cli", "__main__",
    ),
    "sources": (
        "suffixes", "stored", "base", "integrity", "interval", "sound", "fetched", "inputs", "arrays", "live", "camera", "still", "video", "network", "opening", "__init__",
    ),
    "analysis": ("options", "quality", "landmarks", "networks", "inputs", "decoding", "cutting", "pipeline", "reader"),
    "realtime": (
        "moments", "lags", "baseline", "film", "table", "lines", "websocket", "osc", "lsl", "keys", "opening", "session",
    ),
    "app": ("errors", "recordings", "work", "server"),
    "study": ("strict", "edits", "rows", "tables", "episodes", "statistics", "project"),
    "data": (
        "label_table", "stored_pictures", "label_checks", "spec", "blendshapes", "images", "annotation_codes", "presence", "frame_lists", "drawn", "rendered", "sets", "joining", "mixing",
        "registry", "balance", "standins", "submissions", "superres",
    ),
    "train": (
        "settings", "objective", "networks", "inputs", "optim", "distributed", "runs", "onnx", "open_run", "open_model", "evaluate_models", "bundle",
        "distillation", "cost", "features", "loop", "superres", "builtin", "mien_face", "mien_s", "mien_xs",
    ),
    "recipes": (
        "names", "tree", "predictions", "compounds", "steps", "options", "schema", "engine", "costs", "evaluate_steps", "plan", "submissions", "report", "plot",
        "reproduce",
    ),
}  # fmt: skip
# Where torch may be imported: the rest of the package works without the extra that brings it.
TORCH = ("train",)
NO_TORCH = ("train.settings",)
MODULES = sorted(SRC.rglob("*.py"))


def _house():
    """The script that measures how the source reads; it is no module of the package."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "bench" / "house.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


HOUSE = _house()


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    return found | {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }


@functools.cache
def imported_modules(path: Path) -> set[str]:
    """Names below `mien` that a module imports, anywhere in it: `from mien.sources.still import decoder` is sources.still.decoder."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.partition(".")[0] == "mien"
        ):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("mien.") for name in names}


def room_in(parent: str, name: str) -> str:
    """Which room of `parent` a dotted name lies in; "" for one that lies elsewhere, or in `parent` itself."""
    inner = name.removeprefix(f"{parent}.") if parent else name
    if parent and inner == name:
        return ""
    room = inner.split(".")[0]
    return room if room in ROOMS[parent] else "__init__" if "__init__" in ROOMS[parent] else ""


@pytest.mark.parametrize("parent", ROOMS, ids=lambda parent: parent or "mien")
def test_rooms_import_only_upward(parent):
    wrong = []
    for path in MODULES:
        name = ".".join(path.relative_to(SRC).with_suffix("").parts)
        here = room_in(parent, name)
        if not here or (parent == "" and name == "__init__"):
            continue
        assert here in ROOMS[parent], f"{name} has no place in the order of {parent or 'mien'}"
        for target in imported_modules(path):
            there = room_in(parent, target)
            if there and there != here and ROOMS[parent].index(there) > ROOMS[parent].index(here):
                wrong.append(f"{name} imports {target}")
    assert not wrong


@pytest.mark.parametrize("parent", ROOMS, ids=lambda parent: parent or "mien")
def test_every_room_has_its_place_in_the_order(parent):
    folder = SRC / parent
    rooms = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    assert rooms - {"__init__"} == set(ROOMS[parent]) - {"__init__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_torch_lives_in_train_only(path):
    tops = {name.split(".")[0] for name in imports(path)}
    name = ".".join(path.relative_to(SRC).parts)
    if not name.startswith(TORCH) or name.startswith(NO_TORCH):
        assert not tops & {"torch", "timm", "torchvision", "lightning_fabric"}


def test_no_folder_is_crowded():
    assert HOUSE.crowded_folders(SRC) == []


def test_no_modules_import_one_another():
    assert HOUSE.import_circles(SRC) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_every_module_reads_well(path):
    """By the measures of bench/house.py that are 0 or not."""
    count = HOUSE.Count()
    count.add(path, SRC)
    assert count.long_lines == 0
    assert count.empty_words == []
    assert count.heavy == []
    assert count.without_sections == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_one_look_is_enough(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{node.name} has {lines} lines"


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
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import_is_light():
    modules = run_python("import mien, sys; print(*sys.modules)").split()
    assert not {"torch", "cv2", "numpy", "pandas", "av", "socket"} & set(modules)


def test_inference_needs_no_torch():
    modules = run_python("import mien.cli, sys; print(*sys.modules)").split()
    assert not {"torch", "timm", "openvino"} & set(modules)


@pytest.mark.parametrize(
    "module",
    [
        "mien.evaluation.report",
        "mien.train.settings.template",
        "mien.recipes.names",
        "mien.data.registry",
    ],
)
def test_settings_and_evaluation_load_without_torch(module):
    modules = run_python(f"import {module}, sys; print(*sys.modules)").split()
    assert not {"torch", "timm", "lightning_fabric"} & set(modules)

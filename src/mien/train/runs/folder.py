"""A run folder: everything needed to repeat a run, to go on with it after a kill, and to see how it went.

settings.yaml   the settings, every default spelled out
run.json        tasks, weights counted in the labels, rows, versions, device, time
points.parquet  five points that were found because the pictures had none (only then)
curve.csv       one line an epoch
last.pt         where to go on from
best.pt         the weights with the best score on the watched measure
"""

import csv
import errno
import io
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

import mien
from mien.errors import DataError, OutputError
from mien.files import AtomicFile, atomic_write
from mien.train.settings.training import Settings, TaskSettings, read_settings, write_settings

__all__ = ["RunFolder", "versions"]

_HOW_NOT_WHAT: Final = ("fit.workers", "fit.save_minutes", "fit.devices", "fit.accelerator", "card")
"""Settings that may change when a run goes on: they say how it is computed or what is told of it, not what comes out."""


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {"mien": mien.__version__, "python": platform.python_version()}
    for name in ("torch", "timm", "lightning-fabric", "numpy", "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _keep_last(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into advice: the file of before is still there to go on from."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its own.
        reason = "the disk may be full"
        if isinstance(error, OSError) and error.errno not in _FULL:
            reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}); "
            "the last whole one is kept: make room and run the same again"
        ) from error


class RunFolder:
    """Reads and writes a run's files; every file is whole or not there.

    Raises DataError when the folder holds a run with other settings, OutputError when it cannot be written.
    """

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        self._events: Any = None
        if settings is not None:
            self._begin(settings)

    def _begin(self, settings: Settings) -> None:
        path = self.folder / "settings.yaml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: {error.strerror}; choose another folder with --out"
            ) from error
        if path.exists():
            before, now = (
                _flat(one.model_dump(mode="json")) for one in (read_settings(path), settings)
            )
            other = [
                key
                for key in {**before, **now}
                if before.get(key) != now.get(key) and not key.startswith(_HOW_NOT_WHAT)
            ]
            if other:
                told = "; ".join(
                    f"{key} was {before.get(key)}, now {now.get(key)}" for key in other[:3]
                )
                raise DataError(
                    f"{self.folder}: holds a run with other settings: {told}; choose another folder with --out, or delete it"
                )
        self.write("settings.yaml", write_settings(settings).encode())

    @property
    def settings(self) -> Settings:
        """The settings it was made with; raises DataError when this is no run folder."""
        if not (self.folder / "settings.yaml").is_file():
            raise DataError(
                f"{self.folder}: no settings.yaml in it; give the folder that mien train wrote"
            )
        return read_settings(self.folder / "settings.yaml")

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to run.json."""
        self.write("run.json", (json.dumps({**self.facts, **facts}, indent=2) + "\n").encode())

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json holds; empty before the run has begun."""
        path = self.folder / "run.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    @property
    def tasks(self) -> tuple[TaskSettings, ...]:
        """What the network predicts, in output order; raises DataError before the run has begun."""
        if "tasks" not in self.facts:
            raise DataError(
                f"{self.folder}: no finished start of a run in it; run mien train first"
            )
        return tuple(TaskSettings.model_validate(spec) for spec in self.facts["tasks"])

    def curve(self, rows: list[dict[str, float]]) -> None:
        """Write all the rows, so that a run that goes on never shows an epoch twice."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
        self.write("curve.csv", text.getvalue().encode())

    def show(self, row: Mapping[str, float]) -> None:
        """Add an epoch to the curves of TensorBoard, where that is installed."""
        if self._events is None and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            # A run that goes on may show an epoch again; what came before from there on is forgotten.
            self._events = SummaryWriter(self.folder / "events", purge_step=int(row["epoch"]))
        if self._events is not None:
            for key, value in row.items():
                self._events.add_scalar(key, value, int(row["epoch"]))
            self._events.flush()

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; the one before stays until the new one is whole."""
        path = self.folder / name
        with AtomicFile(path, _keep_last) as part, _keep_last(path):
            torch.save(dict(state), part)

    def load(self, name: str) -> dict[str, Any] | None:
        """A checkpoint, or None when there is none; raises DataError for a damaged one."""
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many types for damaged files
            raise DataError(
                f"{path}: damaged ({type(error).__name__}); delete it to start again from the beginning"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        atomic_write(self.folder / name, content, _keep_last)


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted keys."""
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else None
    )
    if pairs is None:
        return {prefix: tree}
    found: dict[str, object] = {}
    for key, value in pairs:
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found

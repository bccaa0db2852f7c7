"""A run folder: what repeats a run, resumes it after a kill, and shows its course.

settings.yaml   the settings, every default spelled out
run.json        tasks, weights counted in the labels, rows, versions, device, time
points.parquet  five points found in pictures that had none (only then)
curve.csv       one row per epoch
events          the same for TensorBoard (only where it is installed)
last.pt         the state to resume from
best.pt         the weights with the best score on the watched measure
"""

import errno
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

import mien
from mien.errors import DataError, OutputError
from mien.files import AtomicFile, atomic_write
from mien.train.settings.training import (
    SPEED_KEYS,
    Settings,
    TaskSettings,
    read_settings,
    with_absolute_paths,
    write_settings,
)

__all__ = ["RunFolder", "versions"]

# Settings that may change when a run is resumed: they decide how it is computed or described,
# not its result.
_WITHOUT_EFFECT: Final = (*(f"fit.{key}" for key in SPEED_KEYS), "card")

_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def versions() -> dict[str, str]:
    """List the versions of what decides the numbers.

    Returns:
        Versions by package; packages that are not installed are left out.
    """
    known = {"mien": mien.__version__, "python": platform.python_version()}
    for name in ("torch", "timm", "lightning-fabric", "numpy", "opencv-python-headless"):
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known


@contextmanager
def _keep_last(path: Path) -> Iterator[None]:
    """Turn a refused write into advice: the previous file is still there to resume from."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError.
        reason = "the disk may be full"
        if isinstance(error, OSError) and error.errno not in _DISK_FULL:
            reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}); the previous one is kept: "
            "make room and run the same command again"
        ) from error


class RunFolder:
    """Reads and writes a run's files; every file is complete or absent.

    Args:
        folder: The run's folder.
        settings: Settings to begin or resume with; None only opens the folder.

    Raises:
        DataError: The folder holds a run with other settings.
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
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
        # The file's own paths start from its folder, those of a caller from where it runs.
        settings = with_absolute_paths(settings)
        if path.exists():
            self._check_settings(read_settings(path), settings)
        self.write("settings.yaml", write_settings(settings).encode())

    def _check_settings(self, before: Settings, now: Settings) -> None:
        """Raises DataError if settings that decide the result have changed."""
        changes = _changes(before, now)
        if changes:
            raise DataError(
                f"{self.folder}: holds a run with other settings: {'; '.join(changes[:3])}; "
                "choose another folder with --out, or delete it"
            )

    @property
    def settings(self) -> Settings:
        """The settings it was made with; raises DataError when this is no run folder."""
        if not (self.folder / "settings.yaml").is_file():
            raise DataError(
                f"{self.folder}: no settings.yaml in it; give the folder that mien train wrote"
            )
        return read_settings(self.folder / "settings.yaml")

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to run.json.

        Args:
            facts: For JSON; a fact of the same name is replaced.

        Raises:
            OutputError: The file cannot be written.
        """
        content = json.dumps({**self.facts, **facts}, indent=2) + "\n"
        self.write("run.json", content.encode())

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json holds; empty before the run has begun."""
        path = self.folder / "run.json"
        if not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    @property
    def tasks(self) -> tuple[TaskSettings, ...]:
        """The tasks of the network in output order; raises DataError before the run has begun."""
        facts = self.facts
        if "tasks" not in facts:
            raise DataError(f"{self.folder}: holds no run that has begun; run mien train first")
        tasks = [TaskSettings.model_validate(spec) for spec in facts["tasks"]]
        return tuple(tasks)

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; the one before stays until the new one is complete.

        Args:
            name: File name.
            state: Tensors and plain values.

        Raises:
            OutputError: The file cannot be written.
        """
        path = self.folder / name
        with AtomicFile(path, _keep_last) as part, _keep_last(path):
            torch.save(dict(state), part)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read a checkpoint.

        Args:
            name: File name.

        Returns:
            Its content on the CPU; None when there is no such file.

        Raises:
            DataError: The file is damaged.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        # torch raises many types for damaged files.
        except Exception as error:
            raise DataError(
                f"{path}: damaged ({type(error).__name__}); "
                "delete it to start again from the beginning"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Args:
            name: File name.
            content: All that is in it.

        Raises:
            OutputError: The file cannot be written.
        """
        atomic_write(self.folder / name, content, _keep_last)


def _changes(before: Settings, now: Settings) -> list[str]:
    """The differences, in words, between settings that give different results."""
    old = _flat(before.model_dump(mode="json"))
    new = _flat(now.model_dump(mode="json"))
    changes = []
    # A table such as `losses` may have gained keys, or lost some.
    for key in {**old, **new}:
        if key.startswith(_WITHOUT_EFFECT):
            continue
        if old.get(key) != new.get(key):
            changes.append(f"{key} was {old.get(key)}, now {new.get(key)}")
    return changes


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted keys."""
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list):
        pairs = list(enumerate(tree))
    else:
        return {prefix: tree}
    flat: dict[str, object] = {}
    for key, value in pairs:
        name = f"{prefix}.{key}" if prefix else str(key)
        flat |= _flat(value, name)
    return flat

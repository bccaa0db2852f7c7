"""What the builders of stand-ins share: the order they work to, and how lists are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mien.data.standins.faces import Faces
from mien.files import wrap_os_errors

__all__ = ["LABELS", "Order", "Work", "folder", "write_labels", "write_lines"]

Work = tuple[int, Callable[[], object]]
"""How many pictures a piece of work makes, and the call that makes them."""

LABELS: Final = "standin-labels"
"""Folder of what a real data set keeps to itself."""


@dataclass(frozen=True, slots=True)
class Order:
    """A stand-in to be made.

    Attributes:
        root: The folder to fill.
        rows: Rows by split.
        seed: All chance follows from it.
        faces: Faces by split.
    """

    root: Path
    rows: Mapping[str, int]
    seed: int
    faces: Mapping[str, Faces]

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers for one purpose.

        Args:
            key: Names the purpose, so that a change of one list does not change another.

        Returns:
            A generator that depends on the seed and the key alone.
        """
        return np.random.default_rng((self.seed, *key))


def folder(path: Path) -> Path:
    """Make a folder and those above it.

    Args:
        path: The folder; it may exist.

    Returns:
        The same path.

    Raises:
        OutputError: Where it cannot be made.
    """
    with wrap_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, UTF-8, with a line feed after every line.

    Args:
        path: The file; its folder is made if missing.
        lines: Without their ends.

    Raises:
        OutputError: Where it cannot be written.
    """
    folder(path.parent)
    with wrap_os_errors(path):
        path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def write_labels(root: Path, name: str, table: pd.DataFrame) -> None:
    """Write labels that the real data set does not give out, as ``standin-labels/<name>.csv``.

    Args:
        root: Folder of the stand-in.
        name: Name of the file without its ending.
        table: Labels by mien's own column names.

    Raises:
        OutputError: Where it cannot be written.
    """
    path = folder(root / LABELS) / f"{name}.csv"
    with wrap_os_errors(path):
        table.to_csv(path, index=False, lineterminator="\n", float_format="%.4f")

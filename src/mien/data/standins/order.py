"""What the builders of stand-ins share: the order they work to, and how their lists and labels are written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mien.data.standins.faces import Faces
from mien.files import wrap_os_errors

__all__ = ["LABELS", "Order", "Work", "folder", "write_labels", "write_lines"]

Work = tuple[int, Callable[[], object]]
"""How many pictures a piece of work makes, and the call that makes them."""

LABELS = "standin-labels"
"""Folder of what a real data set keeps to itself."""


@dataclass(frozen=True, slots=True)
class Order:
    """A stand-in to be made: into `root`, of `rows` rows by split, from `faces` by split."""

    root: Path
    rows: Mapping[str, int]
    seed: int
    faces: Mapping[str, Faces]

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers of their own for each key."""
        return np.random.default_rng((self.seed, *key))


def folder(path: Path) -> Path:
    """Make a folder; raises OutputError."""
    with wrap_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """A text file, UTF-8, a line feed after every line; raises OutputError."""
    folder(path.parent)
    with wrap_os_errors(path):
        path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def write_labels(root: Path, name: str, table: pd.DataFrame) -> None:
    """Labels that the real data set does not give out, by our own column names, as ``standin-labels/<name>.csv``."""
    path = folder(root / LABELS) / f"{name}.csv"
    with wrap_os_errors(path):
        table.to_csv(path, index=False, lineterminator="\n", float_format="%.4f")

"""Bundles and runs as models that score pictures, and the label tables they are judged on.

Importing this module needs no torch; opening a run does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.bundles.store import Model
from mien.data.registry import Cut, File, Set, load_set
from mien.errors import DataError, MissingExtraError
from mien.faces.prepare import Pixels
from mien.systems.opening import load
from mien.systems.system import System
from mien.tasks import Task
from mien.train.runs.points import find_points
from mien.train.settings.training import Settings

__all__ = ["ENGINE", "complete_points", "is_run", "load_rows", "open_model", "table_for"]

ENGINE: Final = "onnxruntime"
"""The engine that measures and caches.

It comes with mien, so numbers compare whatever else is installed.
"""


def is_run(folder: str | Path) -> bool:
    """Tell whether a folder is one that mien train wrote.

    Args:
        folder: Any path.

    Returns:
        True where the folder has a ``settings.yaml``.
    """
    return (Path(folder) / "settings.yaml").is_file()


def open_model(name: str | Path) -> Model | System:
    """Open a bundle, a system of several networks, or the best network of a run so far.

    Args:
        name: A bundle's name or folder, or a run folder.

    Returns:
        The model or system, ready to score pictures.

    Raises:
        UnknownNameError: There is no bundle of that name.
        BundleError: The bundle, or the one whose features a run's heads read, cannot be used.
        DataError: The run has no network yet.
        MissingExtraError: A run needs torch, and it is not installed.
    """
    if not is_run(name):
        return load(name, ENGINE)
    # Runs alone need torch: a bundle must open where the extra `train` is not installed.
    try:
        from mien.train.open_run import open_run
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # A module of mien's own that is missing is a fault of mien, not of the installation.
        if missing.partition(".")[0] == "mien":
            raise
        raise MissingExtraError("train", f"opening the run {name} ({error.name})") from error
    return open_run(name, ENGINE)


def table_for(
    settings: Settings,
    tasks: Sequence[Task],
    pixels: Pixels,
    split: str | None = None,
    *,
    by: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Load the label table of the data of some settings.

    Faces are detected in pictures without points where ``fit.find_points`` is set.

    Args:
        settings: Settings whose ``data`` and ``fit`` are used.
        tasks: Tasks whose labels are read.
        pixels: Crops of the network that will read the table.
        split: The split to keep; None keeps all rows.
        by: A further column of label files to bring along.
        note: Called with every note for the user.

    Returns:
        The label table.

    Raises:
        DataError: The data cannot be read, or the split has no face.
    """
    table = load_rows(settings, tasks, by)
    if split is not None:
        known = ", ".join(sorted(set(table["split"].dropna())))
        table = table[table["split"] == split].reset_index(drop=True)
        if table.empty:
            raise DataError(f"{settings.name}: no face is in split {split}; the data has {known}")

    with TemporaryDirectory() as folder:
        memory = Path(folder) / "points.parquet"
        return complete_points(table, memory, settings, pixels, note)


def load_rows(settings: Settings, tasks: Sequence[Task], by: str | None = None) -> pd.DataFrame:
    """Load the label table of the data of some settings, without a search for faces.

    Args:
        settings: Settings whose ``data`` is used.
        tasks: Tasks whose labels are read.
        by: A further column of label files to bring along.

    Returns:
        The label table, all splits.

    Raises:
        DataError: The data cannot be read.
    """
    return pd.concat(_load_parts(settings, tasks, by), ignore_index=True)


def complete_points(
    table: pd.DataFrame,
    memory: Path,
    settings: Settings,
    pixels: Pixels,
    note: Callable[[str], None],
) -> pd.DataFrame:
    """Find the points that pictures lack, where ``fit.find_points`` is set and pixels need them.

    Args:
        table: A label table.
        memory: Parquet file that keeps the points.
        settings: Settings whose ``fit`` is used.
        pixels: Crops of the network that will read the table.
        note: Called with every note for the user.

    Returns:
        The table with the points filled in.

    Raises:
        DataError: A picture cannot be read, or the memory is damaged.
        OutputError: The memory cannot be written.
    """
    needs_points = settings.fit.find_points and pixels.template is not None
    if not needs_points or not table["points"].isna().any():
        return table
    completed, _ = find_points(table, memory, note, settings.fit.skip_unreadable)
    return completed


def _load_parts(settings: Settings, tasks: Sequence[Task], by: str | None) -> list[pd.DataFrame]:
    """The label table of each data set, with the column `by` where label files have it."""
    parts = [load_set(spec, tasks) for spec in settings.data]
    if by is None or by in parts[0]:
        return parts
    widened = []
    for part, spec in zip(parts, settings.data, strict=True):
        column = _column(spec, tasks, by)
        widened.append(part.assign(**{by: column}))
    return widened


def _column(spec: Set, tasks: Sequence[Task], name: str) -> NDArray[np.object_] | None:
    """A column of a label file that label tables do not have; None for other data sets."""
    if not isinstance(spec, File):
        return None
    # Text columns come through unchanged, so the file is read again with this column as its
    # subject, or as its video where rows are split by subject.
    text_column = "subject"
    if isinstance(spec.split, Cut) and spec.split.by == "subject":
        text_column = "video"
    columns = {**spec.columns, text_column: name}
    table = load_set(spec.model_copy(update={"columns": columns}), tasks)
    return table[text_column].to_numpy(object)

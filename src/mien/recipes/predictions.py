"""What a step predicts: scores of every listed face, for several seeds and versions of tuning."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_table import labels, recordings
from mien.errors import DataError
from mien.evaluation.nested_tuning import video_folds
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.tasks import Floats, Task, task

__all__ = ["FOLDS", "Part", "Predicted", "listed_name", "part_of"]

FOLDS: Final = 5
"""Folds of whole recordings for nested tuning."""

Values = Mapping[str, Floats]


@dataclass(frozen=True)
class Part:
    """The faces of one split, and their scores.

    Attributes:
        table: A label table without pictures: `name` (as challenges list it), `video`, `frame`,
            `fold`, `recording` and the label columns; N rows.
        values: By task family (S, V, N, K): seeds; versions (see `mien.evaluation.nested_tuning`;
            one if nothing was tuned); faces; columns.
    """

    table: pd.DataFrame
    values: Values

    @property
    def fold(self) -> NDArray[np.intp]:
        """The fold of each face (N,)."""
        return self.table["fold"].to_numpy(np.intp)

    def with_values(self, values: Values) -> "Part":
        """Return the same faces with other scores.

        Args:
            values: By task family (S, V, N, K).

        Returns:
            A new part.
        """
        return Part(self.table, values)

    def truth(self, task: Task) -> Floats:
        """Return the labels of a task.

        Args:
            task: Whose columns the table has.

        Returns:
            Labels (N, K); NaN means not annotated.
        """
        return labels(self.table, task)


@dataclass(frozen=True)
class Predicted:
    """Scores of split val, on which choices are made and judged, and of split test if there is one.

    Attributes:
        tasks: What is predicted.
        parts: By split.
    """

    tasks: tuple[Task, ...]
    parts: Mapping[str, Part]

    def task(self, family: str) -> Task:
        """Return the task of a family.

        Args:
            family: Such as ``expr``.

        Returns:
            The task.

        Raises:
            DataError: No task of that family is predicted.
        """
        for candidate in self.tasks:
            if candidate.family == family:
                return candidate
        families = ", ".join(predicted.family for predicted in self.tasks)
        raise DataError(
            f"nothing predicts {family} here, only {families}; correct the recipe's `of`"
        )

    def mapped(self, change: Callable[[Task, Floats, Part], Floats]) -> "Predicted":
        """Change the scores of every task and split.

        Args:
            change: Called with the task, its scores (S, V, N, K) and their part; returns new
                scores.

        Returns:
            New predictions.
        """
        parts = {}
        for split, part in self.parts.items():
            values = {}
            for predicted in self.tasks:
                family = predicted.family
                before = part.values[family]
                values[family] = change(predicted, before, part)
            parts[split] = part.with_values(values)
        return Predicted(self.tasks, parts)

    def save(self, folder: Path) -> None:
        """Write the predictions.

        Args:
            folder: Gets ``tasks.json``, and a ``.parquet`` and an ``.npz`` for each split.

        Raises:
            OutputError: They cannot be written.
        """
        # Tasks are saved by their keys: their names and order are those of `mien.tasks`.
        keys = [predicted.key for predicted in self.tasks]
        atomic_write(folder / "tasks.json", json.dumps(keys).encode())
        for split, part in self.parts.items():
            with AtomicFile(folder / f"{split}.parquet") as path, wrap_os_errors(folder):
                part.table.to_parquet(path)
            with AtomicFile(folder / f"{split}.npz") as path, wrap_os_errors(folder):
                _save_arrays(path, part.values)

    @staticmethod
    def load(folder: Path) -> "Predicted":
        """Read what `save` wrote.

        Args:
            folder: As for `save`.

        Returns:
            The predictions.

        Raises:
            DataError: There are none, or they are damaged.
        """
        parts = {}
        try:
            keys = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
            tasks = tuple(map(task, keys))
            for path in sorted(folder.glob("*.parquet")):
                values = _load_arrays(path.with_suffix(".npz"), tasks)
                parts[path.stem] = Part(pd.read_parquet(path), values)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            kind = type(error).__name__
            raise DataError(
                f"{folder}: no complete predictions in it ({kind}); delete it and run the same "
                "again"
            ) from error
        return Predicted(tasks, parts)


def _save_arrays(path: Path, values: Values) -> None:
    arrays = {}
    for family, scores in values.items():
        arrays[family] = np.asarray(scores, np.float32)
    # An open file, since NumPy would add a suffix to the temporary name.
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load_arrays(path: Path, tasks: Sequence[Task]) -> dict[str, Floats]:
    # NumPy unpickles nothing unless it is allowed to.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        values = {}
        for predicted in tasks:
            family = predicted.family
            values[family] = saved[family]
        return values


def part_of(table: pd.DataFrame, values: Values, tasks: Sequence[Task]) -> Part:
    """Make a part of the rows of a label table.

    Recordings (`subject`, else `video`, else the face by itself) are never split between folds.

    Args:
        table: A label table (N rows).
        values: Scores of its rows by task family (S, V, N, K).
        tasks: Whose labels are kept.

    Returns:
        The part, its rows in the table's order.
    """
    recording = recordings(table)
    video = table["video"].to_numpy(object)
    columns = {
        "name": list(map(listed_name, table["image"], video)),
        "video": video,
        "frame": table["frame"].to_numpy(),
        "fold": _folds(recording),
        "recording": recording.astype(str).to_numpy(object),
    }
    for predicted in tasks:
        for name in predicted.columns:
            columns[name] = table[name].to_numpy(np.float32)
    return Part(pd.DataFrame(columns), values)


def _folds(recording: pd.Series) -> NDArray[np.intp]:
    """Folds (N,) of whole recordings; all 0 if there is only one recording."""
    count = min(FOLDS, recording.nunique())
    # Then nothing can be chosen on other recordings.
    if count < 2:
        return np.zeros(len(recording), np.intp)
    return video_folds(recording.to_numpy(object), count)


def listed_name(image: object, video: object) -> str:
    """Name a picture as challenges do: by its video and file, or by its file alone.

    Args:
        image: A cell of the column `image`: a path, or pixels, which have no name.
        video: A cell of the column `video`: a name, or a missing value.

    Returns:
        The name.

    >>> listed_name("/data/cropped_aligned/video1/00001.jpg", "video1")
    'video1/00001.jpg'
    >>> listed_name("/data/lsd_test_data/7.jpg", None)
    '7.jpg'
    """
    name = Path(image).name if isinstance(image, str) else ""
    return name if pd.isna(video) else f"{video}/{name}"  # type: ignore[call-overload]

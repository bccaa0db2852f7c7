"""What a step predicts: scores of every listed face, for several seeds, and for several ways to have been tuned."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_table import labels
from mien.errors import DataError
from mien.evaluation.nested_tuning import video_folds
from mien.files import AtomicFile, atomic_write, wrap_os_errors
from mien.tasks import Floats, Task, task

__all__ = ["FOLDS", "Part", "Predicted", "listed_name", "part_of"]

FOLDS: Final = 5
"""Folds of whole recordings that what is tuned is judged over."""

Values = Mapping[str, Floats]


@dataclass(frozen=True)
class Part:
    """One split's faces and what is said of them.

    table: a label table without pictures: `name` (as challenges list it), `video`, `frame`, `fold` and the label columns.
    values: by task family (S, V, N, K): seeds; versions (see `mien.evaluation.nested_tuning`: one where nothing was tuned); faces; columns.
    """

    table: pd.DataFrame
    values: Values

    @property
    def fold(self) -> NDArray[np.intp]:
        """(N,) the fold of each face."""
        return self.table["fold"].to_numpy(np.intp)

    def with_values(self, values: Values) -> "Part":
        """The same faces with other scores."""
        return Part(self.table, values)

    def truth(self, task: Task) -> Floats:
        """Labels (N, K) of a task, NaN = not annotated."""
        return labels(self.table, task)


@dataclass(frozen=True)
class Predicted:
    """Scores of split val, on which things are chosen and told, and of split test where the data have one."""

    tasks: tuple[Task, ...]
    parts: Mapping[str, Part]

    def task(self, family: str) -> Task:
        """The task of a family; raises DataError where nothing is predicted of it."""
        for each in self.tasks:
            if each.family == family:
                return each
        raise DataError(
            f"nothing predicts {family} here, only {', '.join(each.family for each in self.tasks)}; mend the recipe's `of`"
        )

    def mapped(self, change: Callable[[Task, Floats, Part], Floats]) -> "Predicted":
        """Every family's values of every split changed."""
        return Predicted(
            self.tasks,
            {
                split: part.with_values(
                    {
                        each.family: change(each, part.values[each.family], part)
                        for each in self.tasks
                    }
                )
                for split, part in self.parts.items()
            },
        )

    def save(self, folder: Path) -> None:
        """Write it into a folder; raises OutputError."""
        atomic_write(folder / "tasks.json", json.dumps([task.key for task in self.tasks]).encode())
        for split, part in self.parts.items():
            with AtomicFile(folder / f"{split}.parquet") as aside, wrap_os_errors(folder):
                part.table.to_parquet(aside)
            with (
                AtomicFile(folder / f"{split}.npz") as aside,
                wrap_os_errors(folder),
                aside.open("wb") as file,
            ):
                np.savez(
                    file,
                    allow_pickle=False,
                    **{
                        family: np.asarray(values, np.float32)
                        for family, values in part.values.items()
                    },
                )

    @staticmethod
    def load(folder: Path) -> "Predicted":
        """What `save` wrote; raises DataError where nothing was, or it is damaged."""
        parts = {}
        try:
            tasks = tuple(
                task(key) for key in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
            )
            for path in sorted(folder.glob("*.parquet")):
                with (
                    path.with_suffix(".npz").open("rb") as file,
                    np.load(file, allow_pickle=False) as saved,
                ):
                    parts[path.stem] = Part(
                        pd.read_parquet(path), {each.family: saved[each.family] for each in tasks}
                    )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{folder}: no whole predictions in it ({type(error).__name__}); delete it and run the same again"
            ) from error
        return Predicted(tasks, parts)


def part_of(table: pd.DataFrame, values: Values, tasks: Sequence[Task]) -> Part:
    """A part from the rows of a label table, in their order. Recordings (`subject`, else `video`, else the face) stay in one fold."""
    own = pd.Series([f"row {i}" for i in range(len(table))], index=table.index)
    recording = table["subject"].fillna(table["video"]).fillna(own)
    count = min(FOLDS, recording.nunique())
    fold = (
        video_folds(recording.to_numpy(object), count)
        if count > 1
        else np.zeros(len(table), np.intp)
    )
    names = [
        listed_name(image, video)
        for image, video in zip(table["image"], table["video"], strict=True)
    ]
    facts = {
        "name": names,
        "video": table["video"].to_numpy(object),
        "frame": table["frame"].to_numpy(),
        "fold": fold,
    }
    facts |= {"recording": recording.astype(str).to_numpy(object)}
    kept = pd.DataFrame(
        {
            **facts,
            **{name: table[name].to_numpy(np.float32) for each in tasks for name in each.columns},
        }
    )
    return Part(kept, values)


def listed_name(image: object, video: object) -> str:
    """How challenges name a picture: by its video and file, or by its file alone.

    >>> listed_name("/data/cropped_aligned/video1/00001.jpg", "video1"), listed_name("/data/lsd_test_data/7.jpg", None)
    ('video1/00001.jpg', '7.jpg')
    """
    name = Path(image).name if isinstance(image, str) else ""
    return name if pd.isna(video) else f"{video}/{name}"  # type: ignore[call-overload]

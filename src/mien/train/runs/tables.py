"""The label tables of a run: loaded, checked, joined, split, and given the five points that its crops need."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mien.data.label_checks import check
from mien.data.registry import Folder, load_set, set_name
from mien.data.sets.class_folders import load_folder
from mien.errors import DataError
from mien.tasks import Task
from mien.train.runs.points import find_points
from mien.train.settings.training import Settings

__all__ = ["load_tables", "tasks_of"]

Note = Callable[[str], None]


def tasks_of(settings: Settings) -> tuple[Task, ...]:
    """The tasks that the settings name, or the one that the class folders make; raises DataError where neither is clear."""
    if settings.tasks:
        return settings.named_tasks()
    first = settings.data[0]
    if len(settings.data) > 1 or not isinstance(first, Folder):
        raise DataError(
            "tasks: name what is to be learned; only for a single folder of classes do the folders say it"
        )
    return (load_folder(first.root, subject=first.subject)[1],)


def load_tables(
    settings: Settings, run: Path, note: Note
) -> tuple[dict[str, pd.DataFrame], tuple[Task, ...], list[str]]:
    """The label table of each split, with a column `set` more, the tasks, and notes worth keeping.

    run: folder that remembers points found in pictures. note: called with every note as it comes up.
    Raises DataError for tables that cannot be trained on, or lack a split ``train`` or ``val``.
    """
    tasks = tasks_of(settings)
    parts = [load_set(spec, tasks) for spec in settings.data]
    notes = [line for part in parts for line in part.attrs["notes"]]
    named = zip(parts, settings.data, strict=True)
    table = pd.concat(
        [_own(part, set_name(spec), len(settings.data)) for part, spec in named], ignore_index=True
    )
    notes += check(table, tasks, settings.name)
    table, dropped = _without_leaks(table)
    notes += (
        [f"{dropped} training pictures that also lie in another split were left out"]
        if dropped
        else []
    )
    if not settings.teachers:
        table, dropped = _with_labels(
            table,
            tasks,
            windows=settings.features is not None and settings.features.window is not None,
        )
        notes += (
            [
                f"{dropped} training pictures have no label of {', '.join(t.key for t in tasks)} and were left out"
            ]
            if dropped
            else []
        )
    for line in notes:
        note(line)
    if (
        settings.fit.find_points
        and settings.pixels.template is not None
        and table["points"].isna().any()
    ):
        table, found = find_points(
            table, run / "points.parquet", note, settings.fit.skip_unreadable
        )
        notes.append(found)
    splits = {str(split): part.reset_index(drop=True) for split, part in table.groupby("split")}
    for name in ("train", "val"):
        if name not in splits:
            raise DataError(
                f"{settings.name}: no face is in split {name}; give `split` with shares of train and val"
            )
    return splits, tasks, notes


def _own(table: pd.DataFrame, name: str, count: int) -> pd.DataFrame:
    """The table of one set of `count`; where there are others, its subjects and videos bear its name, for numbers may come twice."""
    if count > 1:
        named = {by: f"{name}: " + table[by].astype(str) for by in ("subject", "video")}
        table = table.assign(
            **{by: column.where(table[by].notna(), None) for by, column in named.items()}
        )
    return table.assign(set=name)


def _without_leaks(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table without training rows whose very picture is judged as well, and how many there were."""
    known = table["image"].map(
        lambda image: image.tobytes() if isinstance(image, np.ndarray) else image
    )
    training = table["split"] == "train"
    leaks = training & known.isin(set(known[~training]))
    return table[~leaks].reset_index(drop=True), int(leaks.sum())


def _with_labels(
    table: pd.DataFrame, tasks: tuple[Task, ...], *, windows: bool
) -> tuple[pd.DataFrame, int]:
    """The table without training rows that have no label of any task, and how many there were: only a teacher could use them.

    windows: they stay, since the frames around read them. Raises DataError where nothing is left.
    """
    bare = table[[name for task in tasks for name in task.columns]].isna().all(axis=1) & (
        table["split"] == "train"
    )
    if bare.any() and bare.sum() == (table["split"] == "train").sum():
        told = ", ".join(task.key for task in tasks)
        raise DataError(
            f"no training row has a label of {told}; name a teacher that knows it, or add data that has"
        )
    if windows:
        return table, 0
    return table[~bare].reset_index(drop=True), int(bare.sum())

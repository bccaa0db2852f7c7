"""The label tables of a run: loaded, checked, combined, split, and completed with points."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_checks import check
from mien.data.label_table import labels, recordings
from mien.data.registry import Folder, load_set, set_name
from mien.data.sets.class_folders import load_folder
from mien.data.sets.vggface2 import VggFace2
from mien.data.stored_pictures import digests, is_stored
from mien.errors import DataError
from mien.evaluation.nested_tuning import video_folds
from mien.tasks import Task
from mien.temporal.external import report_fit
from mien.train.runs.points import find_points
from mien.train.settings.training import Settings

__all__ = ["fold_numbers", "load_tables", "tasks_of"]

Note = Callable[[str], None]

# How often folds are drawn, and from which share or label on a row shows a class or unit.
_DRAWS: Final = 200
_PRESENT: Final = 0.5


def tasks_of(settings: Settings) -> tuple[Task, ...]:
    """List the tasks that a run learns.

    Args:
        settings: Settings of the run.

    Returns:
        The tasks that the settings name, or the one that a single folder of classes, or of people,
        makes.

    Raises:
        DataError: Neither the settings nor the folders name them.
    """
    if settings.tasks:
        return settings.named_tasks()
    first = settings.data[0]
    if len(settings.data) == 1 and isinstance(first, VggFace2):
        return (first.people(),)
    if len(settings.data) > 1 or not isinstance(first, Folder):
        raise DataError(
            "tasks: name what is to be learned; only for a single folder of classes, or vggface2, "
            "do the folders say it"
        )
    _, task = load_folder(first.root, subject=first.subject)
    return (task,)


def load_tables(
    settings: Settings, run: Path, note: Note
) -> tuple[dict[str, pd.DataFrame], tuple[Task, ...], list[str]]:
    """Load, check and split the label tables of a run.

    Args:
        settings: Settings of the run.
        run: Folder that keeps points found in pictures.
        note: Called with every note for the user.

    Returns:
        The label table of each split, with a column `set` more; the tasks; all notes. After a
        refit the table of split val has no rows.

    Raises:
        DataError: The tables cannot be trained on, or lack a split ``train`` or ``val``.
    """
    tasks = tasks_of(settings)
    table, notes = _combine(settings, tasks)
    table = _regrouped(table, settings, tasks)
    official = table.pop("official").to_numpy(bool)
    notes += check(table, tasks, settings.name, official=official)
    # Films end where their tables do, so before rows are left out.
    if settings.features is not None:
        notes += report_fit(settings.features.external, table, settings.features.hold)
    table, leaks = _without_leaks(table, tasks)
    if leaks:
        notes.append(f"{leaks} training pictures that also lie in another split were left out")
    # A teacher scores every face, so those without a label are of use too.
    if not settings.teachers:
        windows = settings.features is not None and settings.features.window is not None
        table, unlabelled = _with_labels(table, tasks, windows=windows)
        if unlabelled:
            keys = ", ".join(task.key for task in tasks)
            notes.append(
                f"{unlabelled} training pictures have no label of {keys} and were left out"
            )
    for line in notes:
        note(line)

    # After rows were left out: searching faces takes long.
    needs_points = settings.fit.find_points and settings.filled_pixels.template is not None
    if needs_points and table["points"].isna().any():
        memory = run / "points.parquet"
        table, line = find_points(table, memory, note, settings.fit.skip_unreadable)
        notes.append(line)
    return _split(table, settings), tasks, notes


def _split(table: pd.DataFrame, settings: Settings) -> dict[str, pd.DataFrame]:
    """The table of each split; raises DataError where train or val is missing."""
    splits = {}
    for split, part in table.groupby("split"):
        splits[str(split)] = part.reset_index(drop=True)
    if settings.refit:
        splits["val"] = table.iloc[:0]
    for split in ("train", "val"):
        if split not in splits:
            raise DataError(
                f"{settings.name}: no face is in split {split}; give `split` with shares of train "
                "and val"
            )
    return splits


def _regrouped(table: pd.DataFrame, settings: Settings, tasks: Sequence[Task]) -> pd.DataFrame:
    """The table with splits train and val as the settings ask for them."""
    if settings.refit:
        return table.assign(split=table["split"].replace("val", "train"))
    if settings.folds is None:
        return table
    numbers = fold_numbers(table, settings.folds.count, tasks)
    split = table["split"].mask(numbers >= 0, "train")
    return table.assign(split=split.mask(numbers == settings.folds.held_out, "val"))


def fold_numbers(table: pd.DataFrame, count: int, tasks: Sequence[Task]) -> NDArray[np.intp]:
    """Cut the recordings of splits train and val into folds of about as many faces each.

    Folds are drawn anew until, whichever is held out, the others show every class and every unit.

    Args:
        table: A label table of N rows.
        count: How many folds.
        tasks: Whose labels are learned.

    Returns:
        Fold numbers (N,), from 0; -1 for rows of other splits. The same table always gives the
        same.

    Raises:
        DataError: There are fewer recordings than folds, or no such folds were drawn.
    """
    pooled = table["split"].isin(["train", "val"]).to_numpy()
    numbers = np.full(len(table), -1)
    names = recordings(table)[pooled].astype(str).to_numpy(object)
    shown = _shown(table[pooled], tasks)
    # What one recording alone shows cannot be learned where that one is held out.
    lacking = _in_one(names, shown)
    draws = 0 if lacking else _DRAWS
    for seed in range(draws):
        drawn = video_folds(names, count, seed)
        lacking = _in_one(drawn, shown)
        if not lacking:
            numbers[pooled] = drawn
            return numbers
    raise DataError(
        f"{count} folds of {len(set(names))} recordings: too few of them show "
        f"{', '.join(lacking)} for each fold to be held out; use more folds, or a label set "
        "without"
    )


def _shown(table: pd.DataFrame, tasks: Sequence[Task]) -> dict[str, NDArray[np.bool_]]:
    """By class and unit that any row shows, which rows (N,) do."""
    shown = {}
    for task in tasks:
        if task.kind == "scalar" or task.numbered:
            continue
        # More than half of the votes, or present.
        present = labels(table, task) > _PRESENT
        for column, name in enumerate(task.names):
            if present[:, column].any():
                shown[name] = present[:, column]
    return shown


def _in_one(groups: NDArray[Any], shown: dict[str, NDArray[np.bool_]]) -> list[str]:
    """What only the rows of a single group show, of groups by row (N,)."""
    return [name for name, rows in shown.items() if len(set(groups[rows])) < 2]


def _combine(settings: Settings, tasks: tuple[Task, ...]) -> tuple[pd.DataFrame, list[str]]:
    """One table of all data sets, and the notes of their loaders.

    Its column `official` says of which rows the splits are a challenge's.
    """
    parts = []
    notes: list[str] = []
    for spec in settings.data:
        part = load_set(spec, tasks)
        notes += part.attrs["notes"]
        # Several sets may number their subjects and videos alike, so each adds its name.
        if len(settings.data) > 1:
            part = _with_prefix(part, set_name(spec))
        parts.append(part.assign(set=set_name(spec), official=spec.official_splits))
    return pd.concat(parts, ignore_index=True), notes


def _with_prefix(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table with the set's name in front of its subjects and videos."""
    columns = {}
    for column in ("subject", "video"):
        prefixed = f"{name}: " + table[column].astype(str)
        columns[column] = prefixed.where(table[column].notna(), None)
    return table.assign(**columns)


def _without_leaks(table: pd.DataFrame, tasks: Sequence[Task]) -> tuple[pd.DataFrame, int]:
    """Leave out training rows whose picture is also judged; also gives their number.

    A list of test rows without labels has no part in it.
    """
    # Arrays cannot be compared by `isin`, their bytes can.
    images = table["image"]
    pictures = digests(images) if is_stored(images) else images.map(_hashable)
    is_training = table["split"] == "train"
    columns = [name for task in tasks for name in task.columns]
    is_judged = (table["split"] == "val") | (~is_training & table[columns].notna().any(axis=1))
    leaks = is_training & pictures.isin(set(pictures[is_judged]))
    return table[~leaks].reset_index(drop=True), int(leaks.sum())


def _hashable(image: Any) -> Any:
    """A picture of a label table as what can be compared."""
    if isinstance(image, dict):
        return image["digest"]
    return image.tobytes() if isinstance(image, np.ndarray) else image


def _with_labels(
    table: pd.DataFrame, tasks: tuple[Task, ...], *, windows: bool
) -> tuple[pd.DataFrame, int]:
    """Leave out training rows without any label, which only a teacher could use.

    Windows keep them, since the frames around them need their features. Also gives their number.
    Raises DataError where no training row has a label.
    """
    columns: list[str] = []
    for task in tasks:
        columns += task.columns
    is_training = table["split"] == "train"
    unlabelled = table[columns].isna().all(axis=1) & is_training
    if unlabelled.any() and unlabelled.sum() == is_training.sum():
        keys = ", ".join(task.key for task in tasks)
        raise DataError(
            f"no training row has a label of {keys}; name a teacher that knows it, "
            "or add data that has"
        )
    if windows:
        return table, 0
    return table[~unlabelled].reset_index(drop=True), int(unlabelled.sum())

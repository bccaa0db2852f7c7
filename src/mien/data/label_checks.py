"""Whether a label table can be trained on, told before anything is trained."""

import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mien.data.label_table import COLUMNS, SPLITS, labels
from mien.data.stored_pictures import digests, is_stored, stored_name
from mien.errors import DataError
from mien.tasks import Task

__all__ = ["absent", "check"]

# What rounding may add to the ends of a range.
_SLACK: Final = 1e-4
# Shares written with three decimals still sum to 1.
_SUM_SLACK: Final = 2e-3
_IMAGES: Final = (str, bytes, np.ndarray, dict)

Mask = NDArray[np.bool_]


def check(
    table: pd.DataFrame, tasks: Sequence[Task], where: str, *, official: Mask | None = None
) -> list[str]:
    """Check a label table before it is trained on.

    Several tables that are trained on together are checked together: one alone may well lack a
    class.

    Args:
        table: The label table.
        tasks: The tasks that are to be learned from it.
        where: What error messages begin with: the file, folder or run.
        official: Which rows have the splits of a challenge (N,), in which a few subjects may be in
            two splits; None for no row.

    Returns:
        Notes, one line each: labels or classes that a split lacks, and pictures that come twice.

    Raises:
        DataError: A column is missing; there are no rows; a split is not one of `SPLITS`; a label
            is outside its task's range; class shares do not sum to 1; pictures are not there;
            points are not ten numbers; a subject or a video is in two splits; no face in split
            train shows a class.
    """
    names = [*COLUMNS]
    for task in tasks:
        names.extend(task.columns)
    if lacking := [name for name in names if name not in table]:
        raise DataError(
            f"{where}: no column {', '.join(lacking)}; the columns are {', '.join(table.columns)}"
        )
    if table.empty:
        raise DataError(f"{where}: the label table has no rows")
    _check_splits(table, where)
    notes: list[str] = []
    for task in tasks:
        values = _checked_labels(table, task, where)
        notes += _class_notes(values, task, table["split"], where)
    _check_points(table, where)
    ours = table if official is None else table[~official]
    _check_apart(ours, "subject", where)
    _check_apart(table, "video", where)
    return notes + _image_notes(table, where)


def absent(paths: pd.Series) -> Mask:
    """Find the paths that no file is at.

    A folder is listed once: asking for each file is slow, above all on network drives.

    Args:
        paths: Paths (N,) as text.

    Returns:
        True (N,) where nothing is there.
    """
    if not len(paths):
        return np.zeros(0, bool)
    # Bytes, as names on disk need not be text.
    texts = paths if _is_text(paths) else [os.fsencode(path) for path in paths]
    raw = pa.array(texts).cast(pa.large_binary())
    if isinstance(raw, pa.ChunkedArray):
        raw = raw.combine_chunks()
    folders, names = _split_paths(raw)
    codes = folders.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(folders.dictionary)))
    lost = np.zeros(len(raw), bool)
    rows_by_folder = np.split(order, ends[:-1])
    for folder, rows in zip(folders.dictionary.to_pylist(), rows_by_folder, strict=True):
        try:
            listed = os.listdir(folder + os.fsencode(os.sep))
        except OSError:
            listed = []
        known = pa.array(listed, pa.large_binary())
        present = pc.is_in(names.take(pa.array(rows)), value_set=known)
        lost[rows] = ~np.asarray(present.to_numpy(zero_copy_only=False), bool)
    # Some drives open names in other spellings than they list.
    for row in np.flatnonzero(lost).tolist():
        lost[row] = not os.path.isfile(raw[row].as_py())
    return lost


def _split_paths(raw: "pa.Array") -> tuple["pa.DictionaryArray", "pa.Array"]:
    """The folders of paths, each one once, and the names in them."""
    rooted = pc.match_substring(raw, os.sep)
    if not pc.all(rooted).as_py():
        # A bare name lies in the working folder.
        working_folder = pa.scalar(b".", pa.large_binary())
        separator = pa.scalar(os.fsencode(os.sep), pa.large_binary())
        joined = pc.binary_join_element_wise(working_folder, raw, separator)
        raw = pc.if_else(rooted, raw, joined)
    parts = pc.split_pattern(raw, os.sep, max_splits=1, reverse=True).flatten()
    folders = parts.take(pa.array(np.arange(0, len(parts), 2))).dictionary_encode()
    return folders, parts.take(pa.array(np.arange(1, len(parts), 2)))


def _first(rows: Mask) -> int:
    return int(rows.argmax())


def _row(table: pd.DataFrame, row: int) -> str:
    """How a message names a row, counted from 0."""
    image = table["image"].iloc[row]
    if isinstance(image, bytes):
        image = f"{len(image)} bytes"
    elif isinstance(image, np.ndarray):
        image = f"array {image.shape}"
    elif isinstance(image, dict):
        image = stored_name(image)
    return f"row {row} ({image})"


def _check_splits(table: pd.DataFrame, where: str) -> None:
    wrong = ~table["split"].isin(SPLITS).to_numpy()
    if wrong.any():
        row = _first(wrong)
        split = table["split"].iloc[row]
        problem = "no split" if pd.isna(split) else f"the split {split!r}"
        raise DataError(
            f"{where}: {wrong.sum()} rows like {_row(table, row)} have {problem}; "
            f"splits are {', '.join(SPLITS)}"
        )


def _checked_labels(table: pd.DataFrame, task: Task, where: str) -> NDArray[np.float32]:
    """The labels (N, K) of a task, all of them within its range."""
    try:
        values = labels(table, task)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if task.numbered:
        return _checked_numbers(values, task, where)
    outside = (values < task.low - _SLACK) | (values > task.high + _SLACK)
    if outside.any():
        row, column = divmod(_first(outside), values.shape[1])
        value = f"column {task.columns[column]} is {values[row, column]:g} in {_row(table, row)}"
        raise DataError(
            f"{where}: {value}, outside {task.low:g} to {task.high:g}; {outside.sum()} labels "
            "are. Codes that mean not annotated belong in `missing`"
        )
    if task.kind == "one_of":
        _check_shares(table, task, values, where)
    return values


def _check_shares(table: pd.DataFrame, task: Task, values: NDArray[np.float32], where: str) -> None:
    """Refuse rows whose class shares (N, K) do not sum to 1."""
    total = values.sum(axis=1)
    # A sum is NaN where a share is; that is fine only where all of them are.
    partial = np.isnan(total) & ~np.isnan(values).all(axis=1)
    wrong = (np.abs(total - 1) > _SUM_SLACK) | partial
    if wrong.any():
        row = _first(wrong)
        raise DataError(
            f"{where}: the shares of {task.key} sum to {total[row]:g}, not 1, in "
            f"{_row(table, row)} and {wrong.sum() - 1} more rows; "
            "give all shares of a row, or none"
        )


def _checked_numbers(numbers: NDArray[np.float32], task: Task, where: str) -> NDArray[np.float32]:
    """The class numbers (N, 1) of a numbered task, all of them of a class that there is."""
    known = numbers[~np.isnan(numbers)]
    classes = len(task.names)
    wrong = (known != known.round()) | (known < 0) | (known >= classes)
    if wrong.any():
        raise DataError(
            f"{where}: column {task.family} is {known[wrong][0]:g} in one of {wrong.sum()} rows, "
            f"and classes are numbered 0 to {classes - 1}; correct it"
        )
    return numbers


def _class_notes(
    values: NDArray[np.float32], task: Task, split: pd.Series, where: str
) -> list[str]:
    """Lines on labels or classes that a split lacks; refuses a class that training lacks."""
    notes = []
    for name in SPLITS:
        rows = (split == name).to_numpy()
        if not rows.any():
            continue
        part = values[rows]
        annotated = np.asarray((~np.isnan(part)).any(axis=0))
        if not annotated.any():
            notes.append(f"{task.key}: no label in split {name}")
            continue
        if not annotated.all():
            notes.append(f"{task.key}: no label of {_listed(task, ~annotated)} in split {name}")
        # People who lack a picture in a split are expected, and may be thousands.
        if task.kind == "scalar" or task.numbered:
            continue
        bare = np.asarray(annotated & (np.nansum(part, axis=0) == 0))
        if bare.any() and name == "train":
            raise DataError(
                f"{where}: {task.key}: no face in split train shows {_listed(task, bare)}; "
                "add some, or use a label set without"
            )
        if bare.any():
            notes.append(f"{task.key}: no face in split {name} shows {_listed(task, bare)}")
    return notes


def _listed(task: Task, which: Mask) -> str:
    return ", ".join(np.array(task.names)[which])


def _ten_numbers(points: Any) -> bool:
    return np.shape(points) == (10,) and np.asarray(points).dtype.kind in "fiu"


def _check_points(table: pd.DataFrame, where: str) -> None:
    given = table["points"].notna().to_numpy()
    points = table["points"][given].tolist()
    wrong = ~np.array([_ten_numbers(cell) for cell in points], bool)
    if points and not wrong.any():
        wrong = np.asarray(~np.isfinite(np.array(points, np.float64)).all(axis=1))
    if wrong.any():
        row = _row(table, int(np.flatnonzero(given)[_first(wrong)]))
        raise DataError(
            f"{where}: the points of {row} are not ten numbers x, y, x, y, …; "
            "give five points in pixels, or none"
        )


def _check_apart(table: pd.DataFrame, by: str, where: str) -> None:
    """Refuse a subject or a video that lies in two splits: its evaluation would be a memory
    test."""
    pairs = table[[by, "split"]].dropna().drop_duplicates()
    shared = pairs[by][pairs[by].duplicated()]
    if len(shared):
        splits = " and ".join(sorted(set(pairs["split"][pairs[by] == shared.iloc[0]])))
        more = f" ({shared.nunique() - 1} more do)" if shared.nunique() > 1 else ""
        raise DataError(
            f"{where}: {by} {shared.iloc[0]!r} lies in {splits}{more}; keep each {by} in one split"
        )


def _image_notes(table: pd.DataFrame, where: str) -> list[str]:
    """A line on pictures that come twice; refuses pictures that are not there."""
    keys = table["image"]
    if is_stored(keys):
        keys = digests(keys)
        if keys.nunique() == len(keys):
            return []
        return _repeated(keys, table["split"])
    paths = keys if _is_text(keys) else _paths(keys, where)
    lost = absent(paths)
    if lost.any():
        raise DataError(
            f"{where}: {lost.sum()} of {len(paths)} pictures are not there, the first is "
            f"{paths.iloc[_first(lost)]}; check the folder they start from"
        )
    # Counting is far cheaper than finding duplicates, and most tables have none.
    if _is_text(keys) and pc.count_distinct(pa.array(keys, pa.large_string())).as_py() == len(keys):
        return []
    if len(paths) < len(keys):
        keys = pd.Series([_hashable(cell) for cell in keys.to_numpy(object)], dtype=object)
    return _repeated(keys, table["split"])


def _repeated(keys: pd.Series, split: pd.Series) -> list[str]:
    """A line on pictures that come twice, by what tells pictures apart."""
    repeated = keys.duplicated()
    if not repeated.any():
        return []
    note = f"{repeated.sum()} rows repeat a picture of another row"
    pairs = pd.DataFrame({"image": keys.to_numpy(object), "split": split.to_numpy()})
    crossing = pairs.drop_duplicates()["image"].duplicated().sum()
    if crossing:
        note += f"; pictures in two splits: {crossing}"
    return [note]


def _hashable(cell: object) -> object:
    if isinstance(cell, dict):
        return cell["digest"]
    return hash((cell.shape, cell.tobytes())) if isinstance(cell, np.ndarray) else cell


def _is_text(images: pd.Series) -> bool:
    """Whether all are paths, as the type of the column alone says.

    As objects they would need far more memory.
    """
    return isinstance(images.dtype, pd.StringDtype) and not images.hasnans


def _paths(images: pd.Series, where: str) -> pd.Series:
    """The images that are paths; raises DataError for one that is no picture either."""
    cells = images.to_numpy(object).tolist()
    strange = {kind for kind in set(map(type, cells)) if not issubclass(kind, _IMAGES)}
    if strange:
        row = next(i for i, image in enumerate(cells) if type(image) in strange)
        raise DataError(
            f"{where}: the image of row {row} is {cells[row]!r}; give a path, the bytes of a "
            "picture or an RGB array"
        )
    return pd.Series([image for image in cells if isinstance(image, str)], dtype=object)

"""Label tables joined into one, with a row for each face and the labels of all tables."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.data.label_table import COLUMNS, SPLITS
from mien.data.presence import attach_notes
from mien.errors import DataError
from mien.tasks import TASKS

__all__ = ["join"]

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Labels that differ by less are the same.
_SAME: Final = 1e-6
_ONE_OF: Final = tuple(
    dict.fromkeys(task.family for task in TASKS.values() if task.kind == "one_of")
)


def join(tables: Sequence[pd.DataFrame], *, strict: bool = False) -> pd.DataFrame:
    """Join label tables: an outer join with one row for each face and all its labels.

    Two rows are the same face if they have the same video and frame or, where one has no video,
    the same image; where a table has several such rows, their images and points must be the same
    too. Names of videos and subjects mean the same in all tables. Where labels contradict, those
    of the first table stay. What is evaluated on in any table is trained on in none: a face or
    video that is in val or test in one table loses its training rows in the others, and its val
    rows where another has it in test.

    Args:
        tables: Label tables in which every row has a split.
        strict: The same for subjects, of whom official splits may share a few.

    Returns:
        All faces; NaN where no table has a label.

    Raises:
        DataError: There is no table, a row has no split, or two tables have different classes of
            one family.
    """
    _check(tables)
    rows = pd.concat(tables, ignore_index=True)
    rows.attrs = {}
    notes: list[str] = []
    for table in tables:
        notes += table.attrs.get("notes", ())
    part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    key = _face_keys(rows, part)
    leaking = _leaking_rows(rows, key, strict=strict)
    if leaking.any():
        shared = "face, video or subject" if strict else "face or video"
        notes.append(
            f"{leaking.sum()} rows were left out: their {shared} is in a split that judges"
        )
        rows = rows[~leaking].reset_index(drop=True)
        part, key = part[~leaking], key[~leaking]
    if len(tables) > 1:
        faces, differ = _merge(rows, part, pd.factorize(key)[0])
        notes.append(f"joined {len(rows)} rows of {len(tables)} sets to {len(faces)} faces")
        if differ:
            listed = ", ".join(f"{name} {count}" for name, count in differ.items())
            notes.append(f"labels that contradict those of an earlier set, which stay: {listed}")
        rows = faces
    return attach_notes(rows, notes)


def _check(tables: Sequence[pd.DataFrame]) -> None:
    """Refuse rows without a split, and tables with different classes of one family."""
    if not tables:
        raise DataError("join: no tables; give at least one")
    for table in tables:
        wrong = ~table["split"].isin(SPLITS)
        if wrong.any():
            raise DataError(
                f"join: {wrong.sum()} of {len(table)} rows have no split; splits are "
                f"{', '.join(SPLITS)}"
            )
        for family in _ONE_OF:
            first, columns = _family_columns(tables[0], family), _family_columns(table, family)
            # A table without the family is fine: its rows have no label of it.
            if first and columns and first != columns:
                unshared = ", ".join(sorted(first ^ columns))
                raise DataError(
                    f"join: one table has {unshared} and another has not; load both with the same "
                    "tasks"
                )


def _family_columns(table: pd.DataFrame, family: str) -> set[str]:
    """The label columns of a family of tasks."""
    return {str(name) for name in table if str(name).startswith(f"{family}_")}


def _face_keys(rows: pd.DataFrame, part: NDArray[np.intp]) -> Ints:
    """A number for each face (N,): no two rows of one part have the same."""
    image = pd.factorize(pd.Series([_hashable(cell) for cell in rows["image"]], dtype=object))[0]
    time = rows.groupby(["video", "frame"], sort=False).ngroup().to_numpy()
    timed = time >= 0
    base = np.where(timed, time, len(rows) + image)
    # A picture without a video may be one that another table has with its video.
    if timed.any() and not timed.all():
        known = pd.Series(time[timed], image[timed])
        known = known[~known.index.duplicated()]
        matched = pd.Series(image[~timed]).map(known)
        base[~timed] = matched.fillna(pd.Series(base[~timed])).astype(np.int64)
    # Where a table has several faces in a frame, images and points tell them apart.
    repeated = pd.DataFrame({"part": part, "base": base}).duplicated()
    several = np.isin(base, base[repeated])
    points = np.full(len(rows), "", object)
    points[several] = [_point_bytes(cell) for cell in rows["points"][several]]
    images = np.where(several, image, -1)
    faces = pd.DataFrame({"base": base, "image": images, "points": points, "part": part})
    faces["again"] = faces.groupby(["part", "base", "image", "points"], sort=False).cumcount()
    groups = faces.groupby(["base", "image", "points", "again"], sort=False)
    return np.asarray(groups.ngroup(), np.int64)


def _hashable(cell: object) -> object:
    """A path or encoded picture as it is; an array by its shape and bytes; others by their hash."""
    if isinstance(cell, dict):
        return cell["digest"]
    return (cell.shape, cell.tobytes()) if isinstance(cell, np.ndarray) else cell


def _point_bytes(cell: Any) -> bytes:
    """Five points as bytes; none where there are no points."""
    return b"" if np.ndim(cell) == 0 else np.asarray(cell, np.float32).tobytes()


def _leaking_rows(rows: pd.DataFrame, key: Ints, *, strict: bool) -> Mask:
    """Rows (N,) whose face or video, or with `strict` subject, is in a later split as well.

    Later is by the order of `SPLITS`: what is evaluated on is not trained on.
    """
    rank = pd.Series(rows["split"].map(SPLITS.index).to_numpy())
    groups = [key, pd.factorize(rows["video"])[0]]
    if strict:
        groups.append(pd.factorize(rows["subject"])[0])
    leaking = np.zeros(len(rows), bool)
    for codes in groups:
        last = rank.groupby(codes).transform("max")
        leaking |= (codes >= 0) & (rank < last).to_numpy()
    return leaking


def _merge(
    rows: pd.DataFrame, part: NDArray[np.intp], key: NDArray[np.intp]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """A row for each key (N,) in order of first appearance, its gaps filled by later parts.

    Returns the rows, and how many labels contradict by column.
    """
    first = ~pd.Series(key).duplicated().to_numpy()
    merged = rows[first].reset_index(drop=True)
    later = []
    for k in range(1, part.max(initial=0) + 1):
        of_part = np.flatnonzero(~first & (part == k))
        if len(of_part):
            later.append(of_part)
    contradicting: dict[str, int] = {}
    if not later:
        return merged, contradicting
    for name in rows:
        if name in ("image", "split"):
            continue
        cells, kept = rows[name].to_numpy(), merged[name].to_numpy(copy=True)
        for of_part in later:
            given = of_part[pd.notna(pd.Series(cells[of_part]))]
            is_gap = pd.isna(pd.Series(kept[key[given]])).to_numpy()
            # Only labels are numbers that can contradict.
            if name not in COLUMNS:
                both = given[~is_gap]
                count = int((np.abs(cells[both] - kept[key[both]]) > _SAME).sum())
                if count:
                    contradicting[str(name)] = contradicting.get(str(name), 0) + count
            kept[key[given[is_gap]]] = cells[given[is_gap]]
        merged[name] = kept
    return merged, contradicting

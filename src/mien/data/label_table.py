"""The label table: made, checked, split, counted, and moved from one label set to another.

Everything here works on whole columns: 2.9 million rows pass in seconds.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError, LabelMismatchError, UnknownNameError
from mien.tasks import Floats, Task

__all__ = [
    "COLUMNS", "SPLITS", "Rule", "Split", "absent", "check", "class_weights", "in_split", "labels", "positive_weights", "read_table",
    "remap_labels", "split_by", "split_names", "table_of",
]  # fmt: skip

Split = Literal["train", "val", "test"]
Rule = Literal["max", "mean"]

COLUMNS: Final = ("image", "video", "frame", "subject", "split", "points")
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

_SLACK: Final = 1e-4  # what rounding may add to the ends of a range
_SUM_SLACK: Final = 2e-3  # shares written with three decimals still sum to 1


def table_of(
    images: Sequence[Any] | pd.Series,
    about: Mapping[str, Any],
    labels: Mapping[Task, Floats],
    split: str | None = None,
) -> pd.DataFrame:
    """A label table of N rows.

    images: N paths (str), encoded pictures (bytes) or RGB uint8 arrays (H, W, 3). labels: (N, K) by task.
    about: further columns of `COLUMNS` that are known; the others are empty.
    """
    empty = {"video": None, "frame": np.nan, "subject": None, "split": split, "points": None}
    columns = {
        name: column
        for task, values in labels.items()
        for name, column in zip(task.columns, values.T, strict=True)
    }
    index = images.index if isinstance(images, pd.Series) else range(len(images))
    return pd.DataFrame({"image": images, **empty, **about, **columns}, index=index)


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Those columns of a Parquet file; raises DataError when the file or a column is missing."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds {path.name}")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: {error}; expected a Parquet file with the columns {', '.join(columns)}"
        ) from error


def labels(table: pd.DataFrame, task: Task) -> NDArray[np.float32]:
    """Labels (N, K) of one task, NaN = not annotated; raises DataError for a missing column or one that holds no numbers.

    >>> from mien.tasks import TASKS
    >>> labels(pd.DataFrame({"arousal": [0.5], "valence": [None]}), TASKS["va"]).tolist()
    [[nan, 0.5]]
    """
    values = np.empty((len(table), len(task.columns)), np.float32)
    for i, name in enumerate(task.columns):
        if name not in table:
            raise DataError(
                f"the label table has no column {name}, which {task.key} needs; its columns are {', '.join(table.columns)}"
            )
        try:
            values[:, i] = pd.to_numeric(table[name])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"column {name} of the label table holds more than numbers ({error}); map its codes to names"
            ) from error
    return values


def check(table: pd.DataFrame, tasks: Sequence[Task], where: str) -> list[str]:
    """Notes, one line each, on a table that can be trained on; raises DataError, which starts with `where`, on one that cannot.

    A table is refused for: a missing column, no rows, a split that is not one of `SPLITS`, a label outside its task's range,
    class shares that do not sum to 1, pictures that are not there, points that are not ten numbers, a subject or a video in two
    splits, a class that no face in split `train` shows. Noted are: labels or classes that a split lacks, pictures that come twice.
    Several tables that are trained on together are checked together: one alone may well lack a class.
    """
    names = [*COLUMNS, *(column for task in tasks for column in task.columns)]
    if absent := [name for name in names if name not in table]:
        raise DataError(
            f"{where}: no column {', '.join(absent)}; the columns are {', '.join(table.columns)}"
        )
    if table.empty:
        raise DataError(f"{where}: the label table has no rows")
    _check_splits(table, where)
    notes: list[str] = []
    for task in tasks:
        values = _checked_labels(table, task, where)
        notes += _class_notes(values, task, table["split"], where)
    _check_points(table, where)
    for by in ("subject", "video"):
        _check_apart(table, by, where)
    return notes + _image_notes(table, where)


def _row(table: pd.DataFrame, row: int) -> str:
    """How a message names a row, counted from 0."""
    image = table["image"].iloc[row]
    kind = (
        f"{len(image)} bytes"
        if isinstance(image, bytes)
        else f"array {image.shape}"
        if isinstance(image, np.ndarray)
        else image
    )
    return f"row {row} ({kind})"


def _first(where: "NDArray[np.bool_]") -> int:
    return int(where.argmax())


def _check_splits(table: pd.DataFrame, where: str) -> None:
    wrong = ~table["split"].isin(SPLITS).to_numpy()
    if wrong.any():
        row = _first(wrong)
        found = table["split"].iloc[row]
        said = "no split" if pd.isna(found) else f"the split {found!r}"
        raise DataError(
            f"{where}: {wrong.sum()} rows like {_row(table, row)} have {said}; splits are {', '.join(SPLITS)}"
        )


def _checked_labels(table: pd.DataFrame, task: Task, where: str) -> NDArray[np.float32]:
    try:
        values = labels(table, task)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    outside = (values < task.low - _SLACK) | (values > task.high + _SLACK)
    if outside.any():
        row, column = divmod(_first(outside), values.shape[1])
        raise DataError(
            f"{where}: column {task.columns[column]} is {values[row, column]:g} in {_row(table, row)}, outside {task.low:g} to "
            f"{task.high:g}; {outside.sum()} labels are. Codes that mean not annotated belong in `missing`"
        )
    if task.kind == "one_of":
        total = values.sum(axis=1)
        wrong = (np.abs(total - 1) > _SUM_SLACK) | (np.isnan(total) & ~np.isnan(values).all(axis=1))
        if wrong.any():
            row = _first(wrong)
            raise DataError(
                f"{where}: the shares of {task.key} sum to {total[row]:g}, not 1, in {_row(table, row)} and {wrong.sum() - 1} more rows; "
                "give all shares of a row, or none"
            )
    return values


def _class_notes(
    values: NDArray[np.float32], task: Task, split: pd.Series, where: str
) -> list[str]:
    notes = []
    for name in SPLITS:
        rows = (split == name).to_numpy()
        if not rows.any():
            continue
        part = values[rows]
        seen = np.asarray((~np.isnan(part)).any(axis=0))
        if not seen.any():
            notes.append(f"{task.key}: no label in split {name}")
            continue
        if not seen.all():
            notes.append(f"{task.key}: no label of {_listed(task, ~seen)} in split {name}")
        if task.kind == "scalar":
            continue
        bare = np.asarray(seen & (np.nansum(part, axis=0) == 0))
        if bare.any() and name == "train":
            raise DataError(
                f"{where}: {task.key}: no face in split train shows {_listed(task, bare)}; add some, or use a label set without"
            )
        if bare.any():
            notes.append(f"{task.key}: no face in split {name} shows {_listed(task, bare)}")
    return notes


def _listed(task: Task, which: "NDArray[np.bool_]") -> str:
    return ", ".join(np.array(task.names)[which])


def _check_points(table: pd.DataFrame, where: str) -> None:
    given = table["points"].notna().to_numpy()
    points = table["points"][given].tolist()
    wrong = np.array(
        [np.shape(each) != (10,) or np.asarray(each).dtype.kind not in "fiu" for each in points],
        bool,
    )
    if points and not wrong.any():
        wrong = np.asarray(~np.isfinite(np.array(points, np.float64)).all(axis=1))
    if wrong.any():
        row = _row(table, int(np.flatnonzero(given)[_first(wrong)]))
        raise DataError(
            f"{where}: the points of {row} are not ten numbers x, y, x, y, …; give five points in pixels, or none"
        )


def _check_apart(table: pd.DataFrame, by: str, where: str) -> None:
    pairs = table[[by, "split"]].dropna().drop_duplicates()
    twice = pairs[by][pairs[by].duplicated()]
    if len(twice):
        splits = " and ".join(sorted(set(pairs["split"][pairs[by] == twice.iloc[0]])))
        more = f" ({twice.nunique() - 1} more do)" if twice.nunique() > 1 else ""
        raise DataError(
            f"{where}: {by} {twice.iloc[0]!r} lies in {splits}{more}; keep each {by} in one split"
        )


def _image_notes(table: pd.DataFrame, where: str) -> list[str]:
    keys = table["image"]
    paths = keys if _is_text(keys) else _paths(keys, where)
    lost = absent(paths)
    if lost.any():
        raise DataError(
            f"{where}: {lost.sum()} of {len(paths)} pictures are not there, the first is {paths.iloc[_first(lost)]}; "
            "check the folder they start from"
        )
    if _is_text(keys) and pc.count_distinct(pa.array(keys, pa.large_string())).as_py() == len(keys):
        return []
    if len(paths) < len(keys):
        cells = keys.to_numpy(object)
        keys = pd.Series(
            [
                hash((each.shape, each.tobytes())) if isinstance(each, np.ndarray) else each
                for each in cells
            ],
            dtype=object,
        )
    again = keys.duplicated()
    if not again.any():
        return []
    crossing = (
        pd.DataFrame({"image": keys.to_numpy(object), "split": table["split"].to_numpy()})
        .drop_duplicates()["image"]
        .duplicated()
        .sum()
    )
    return [
        f"{again.sum()} rows repeat a picture of another row"
        + (f"; pictures in two splits: {crossing}" if crossing else "")
    ]


def _is_text(images: pd.Series) -> bool:
    """Whether all are paths, as the type of the column alone says; as objects they would need far more memory."""
    return isinstance(images.dtype, pd.StringDtype) and not images.hasnans


def _paths(images: pd.Series, where: str) -> pd.Series:
    """The images that are paths; raises DataError for one that is no picture either."""
    cells = images.to_numpy(object).tolist()
    kinds = set(map(type, cells))
    if strange := {kind for kind in kinds if not issubclass(kind, str | bytes | np.ndarray)}:
        row = next(i for i, image in enumerate(cells) if type(image) in strange)
        raise DataError(
            f"{where}: the image of row {row} is {cells[row]!r}; give a path, the bytes of a picture or an RGB array"
        )
    return pd.Series([image for image in cells if isinstance(image, str)], dtype=object)


def absent(paths: pd.Series) -> NDArray[np.bool_]:
    """Which of these paths (N,) nothing is at. A folder is listed once: asking for each file is slow, above all on network drives."""
    if not len(paths):
        return np.zeros(0, bool)
    # Bytes, as names on disk need not be text.
    raw = pa.array(paths if _is_text(paths) else [os.fsencode(path) for path in paths]).cast(
        pa.large_binary()
    )
    raw = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    rooted = pc.match_substring(raw, os.sep)
    if not pc.all(rooted).as_py():
        sep = pa.scalar(os.fsencode(os.sep), pa.large_binary())
        raw = pc.if_else(
            rooted, raw, pc.binary_join_element_wise(pa.scalar(b".", pa.large_binary()), raw, sep)
        )
    parts = pc.split_pattern(raw, os.sep, max_splits=1, reverse=True).flatten()
    known = parts.take(pa.array(np.arange(0, len(parts), 2))).dictionary_encode()
    names = parts.take(pa.array(np.arange(1, len(parts), 2)))
    codes = known.indices.to_numpy(zero_copy_only=False)
    order, ends = (
        np.argsort(codes, kind="stable"),
        np.cumsum(np.bincount(codes, minlength=len(known.dictionary))),
    )
    lost = np.zeros(len(raw), bool)
    for folder, rows in zip(known.dictionary.to_pylist(), np.split(order, ends[:-1]), strict=True):
        try:
            listed = os.listdir(folder + os.fsencode(os.sep))
        except OSError:
            listed = []
        there = pc.is_in(names.take(pa.array(rows)), value_set=pa.array(listed, pa.large_binary()))
        lost[rows] = ~np.asarray(there.to_numpy(zero_copy_only=False), bool)
    for row in np.flatnonzero(lost).tolist():
        lost[row] = not os.path.isfile(
            raw[row].as_py()
        )  # some drives take other spellings than they list
    return lost


def split_names(found: pd.Series, where: str) -> pd.Series:
    """The splits of a source by our names (``valid`` is ``val``, in any case of letters); empty stays empty.

    Raises DataError that lists what is no split, with counts.
    """
    names = found.map(
        lambda name: {"valid": "val"}.get(str(name).strip().lower(), str(name).strip().lower()),
        na_action="ignore",
    )
    strange = found[names.notna() & ~names.isin(SPLITS)]
    if len(strange):
        raise DataError(
            f"{where}: no split is named {_counted(strange)}; splits are train, val (or valid) and test"
        )
    return names.astype(object).where(names.notna(), None)


def _counted(values: pd.Series) -> str:
    return ", ".join(f"{name} ({count} rows)" for name, count in values.value_counts().items())


def in_split(table: pd.DataFrame, split: Split | None, where: str) -> pd.DataFrame:
    """The rows of that split; where no row has a split, all of them, now in that split. None leaves the table as it is.

    Raises DataError for a split that is unknown or holds no row.
    """
    if split is None:
        return table
    if split not in SPLITS:
        raise DataError(f"{where}: {UnknownNameError('split', split, SPLITS)}")
    if table["split"].isna().all():
        return table.assign(split=split)
    part = table[table["split"] == split].reset_index(drop=True)
    if part.empty:
        raise DataError(
            f"{where}: no row is in split {split}; there are {_counted(table['split'].dropna())}"
        )
    return part


def split_by(
    table: pd.DataFrame,
    by: str | None,
    shares: Mapping[str, float] | Mapping[Split, float],
    seed: int,
) -> pd.DataFrame:
    """The table with a new column `split`: whole subjects or videos at random, so that none lies in two splits.

    by: ``subject``, ``video``, or None for single rows; rows without one stand alone.
    shares: the share of rows each split should get, summing to 1; one large subject may take a split off it by up to its size.
    The same seed gives the same splits whatever the order of named rows. No split is left empty.
    Raises DataError for shares that are no shares, and where there are fewer subjects than splits.
    """
    if strange := [name for name in shares if name not in SPLITS]:
        raise DataError(f"shares: {UnknownNameError('split', strange[0], SPLITS)}")
    parts = np.array(list(shares.values()), np.float64)
    if not parts.size or not (parts > 0).all() or abs(parts.sum() - 1) > 1e-6:
        raise DataError(f"shares are {dict(shares)}; each must be above 0 and all must sum to 1")
    group, count = _groups(table, by)
    if count < len(shares):
        raise DataError(
            f"{count} {by or 'row'}s cannot fill {len(shares)} splits; ask for fewer splits or give more data"
        )
    sizes = np.bincount(group, minlength=count)
    order = np.random.default_rng(seed).permutation(count)
    middles = sizes[order].cumsum() - sizes[order] / 2
    target = np.empty(count, np.intp)
    target[order] = np.searchsorted(parts.cumsum()[:-1] * len(table), middles, side="right")
    for split in range(len(shares)):
        if not (target == split).any():
            donors = np.flatnonzero(target == np.bincount(target).argmax())
            target[donors[sizes[donors].argmin()]] = split
    return table.assign(split=np.array(list(shares), object)[target[group]])


def _groups(table: pd.DataFrame, by: str | None) -> tuple[NDArray[np.intp], int]:
    """Number of the group of each row, and how many groups there are."""
    if by is None:
        return np.arange(len(table)), len(table)
    if by not in ("subject", "video"):
        raise DataError(f"split: {UnknownNameError('way to split', by, ('subject', 'video'))}")
    codes, names = pd.factorize(table[by], sort=True)
    alone = codes < 0
    if alone.all():
        raise DataError(
            f"split: no row has a {by}; give the column or pattern that holds it, or split by null, that is by single rows"
        )
    group = codes.astype(np.intp)
    group[alone] = len(names) + np.arange(alone.sum())
    return group, len(names) + int(alone.sum())


def class_weights(shares: ArrayLike, rule: Rule) -> Floats:
    """A weight for each class, (K,), from shares (N, K); rows with a NaN are left out, soft counts are sums of shares.

    ``max``: largest count / count (the largest class weighs 1; HSEmotion's multi-task heads). ``mean``: mean count / count
    (a class of mean size weighs 1; HSEmotion on synthetic faces). Raises DataError for a class without a face.

    >>> class_weights([[1, 0], [1, 0], [0, 1], [np.nan, np.nan]], "max").tolist()
    [1.0, 2.0]
    """
    if rule not in get_args(Rule):
        raise UnknownNameError("rule of class weights", rule, get_args(Rule))
    values = np.asarray(shares)
    counts = values[~np.isnan(values).any(axis=1)].sum(axis=0, dtype=np.float64)
    if (counts == 0).any():
        raise DataError(
            f"class {_first(counts == 0)} of {counts.size} (from 0) has no face, so it has no weight; add faces or drop the class"
        )
    return np.asarray((counts.max() if rule == "max" else counts.mean()) / counts)


def positive_weights(target: ArrayLike) -> Floats:
    """Weights (2, K) that balance absent and present: N / (2 absent), N / (2 present), from labels (N, K) in 0..1.

    N counts a column's own annotated rows, so rows that are annotated in part count where they are (HSEmotion, ABAW4).
    Raises DataError for a column that is never or always present.

    >>> positive_weights([[1, 0], [0, 1], [0, np.nan], [0, np.nan]]).round(3).tolist()
    [[0.667, 1.0], [2.0, 1.0]]
    """
    values = np.asarray(target)
    n = (~np.isnan(values)).sum(axis=0)
    present = np.nansum(values, axis=0, dtype=np.float64)
    counts = np.stack([n - present, present])
    if (counts <= 0).any():
        side, column = divmod(_first(counts <= 0), counts.shape[1])
        said = "absent" if side == 0 else "present"
        raise DataError(
            f"column {column} of {counts.shape[1]} (from 0) is never {said} in {n[column]} labels; add faces or drop the column"
        )
    return np.asarray(n / (2 * counts))


def remap_labels(table: pd.DataFrame, source: Task, target: Task) -> pd.DataFrame:
    """The table with the columns of `target` in place of those of `source`, matched by name.

    Of a ``one_of`` set: a row with any share in a class that `target` lacks becomes NaN, as its shares would no longer sum to 1;
    a class that `source` lacks gets share 0. Of the other kinds: what `source` lacks is NaN, what `target` lacks is left out.
    Raises LabelMismatchError when kinds, ranges or all names differ.
    """
    if (source.kind, source.low, source.high) != (target.kind, target.low, target.high):
        raise LabelMismatchError(f"{source.key} cannot become {target.key}: kind or range differ")
    shared = [name for name in target.names if name in source.names]
    if not shared:
        raise LabelMismatchError(f"{source.key} cannot become {target.key}: no name in common")
    given = labels(table, source)
    moved = np.full(
        (len(table), len(target.names)), 0.0 if target.kind == "one_of" else np.nan, np.float32
    )
    moved[:, [target.names.index(name) for name in shared]] = given[
        :, [source.names.index(name) for name in shared]
    ]
    if target.kind == "one_of":
        lost = given[:, [name not in target.names for name in source.names]].sum(axis=1)
        moved[~(lost <= _SLACK) | np.isnan(given).any(axis=1)] = np.nan
    kept = table.drop(columns=list(source.columns))
    return kept.assign(**dict(zip(target.columns, moved.T, strict=True)))

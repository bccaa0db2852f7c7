"""One's own table of labels in CSV, TSV or Parquet, with a map from our columns to its own."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TextIO, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from mien.data.blendshapes import AU_BLENDSHAPES
from mien.data.label_table import COLUMNS, Split, split_names, table_of
from mien.data.presence import attach_notes
from mien.data.spec import TERMS_NOT_STATED, Cut, DataSet, DataSetInfo, Place, find_task
from mien.data.stored_pictures import stored_pictures
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Floats, Task

__all__ = ["Codes", "File", "load_file"]

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
# More columns or longer lines than these are no table of labels, such as a picture named .csv.
_MOST_COLUMNS: Final = 10_000
_LONGEST_LINE: Final = 1 << 20
# Columns that stay text, so that subject 007 and code 1 keep their spelling.
_TEXT: Final = ("image", "video", "subject", "split")

ColumnMap = str | Sequence[str]
Column = NDArray[np.float32]


class Codes(BaseModel):
    """How a file gives the class of a face: in one column, by codes or by our names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    column: str
    """The file's column."""
    values: dict[int | str, str] = Field(default={})
    """The file's code to our name; several codes may share a name. Our own names, in capitals or
    small letters, need no entry."""


def load_file(
    path: Path,
    tasks: Sequence[Task],
    columns: Mapping[str, ColumnMap] | None = None,
    classes: Mapping[str, Codes] | None = None,
    *,
    images: Path | None = None,
    missing: Sequence[float | str] = (),
) -> pd.DataFrame:
    """Load the label table of one file.

    Args:
        path: A CSV, TSV or Parquet file.
        tasks: The tasks whose label columns the table gets.
        columns: Our columns to the file's; a column that is not in the map goes by our own name.
            ``points`` is one column of ten numbers (Parquet), or the names of ten columns, x and y
            in turn.
        classes: By the key of a ``one_of`` task, the column of codes that stands for its shares.
        images: Where relative paths start from; None is the folder of the file.
        missing: Codes that mean not annotated, such as -5 or -1, in label columns and columns of
            codes only.

    Returns:
        The label table; label columns that the file lacks are NaN.

    Raises:
        DataError: The file cannot be read; a column is missing (the nearest is named); there is
            text in place of numbers; codes are no class and have none in `classes` (they are
            listed with counts); or the file has not one label of `tasks`.
    """
    path, columns, classes = Path(path), columns or {}, classes or {}
    _check_classes(path, tasks, classes)
    header = _read_header(path)
    sources = _map_columns(path, header, tasks, columns, classes)
    code_columns = {codes.column for codes in classes.values()}
    stored, notes = _stored_pictures(path, str(sources["image"]))
    if stored is not None:
        del sources["image"]
    source = _read_columns(path, header, sources, code_columns)
    renamed = {}
    for name, theirs in sources.items():
        # Only points may be made up of several columns of the file.
        if isinstance(theirs, str):
            renamed[name] = source[theirs]
    about = _about(path, source, renamed, sources.get("points"))
    values: dict[Task, Floats] = {}
    for task in tasks:
        if task.key in classes:
            codes = classes[task.key]
            values[task] = _shares(path, source[codes.column], task, codes, missing)
        else:
            values[task] = _values(path, renamed, len(source), task, missing)
    if stored is None:
        stored = _absolute_paths(renamed["image"], images or path.parent)
    return attach_notes(table_of(stored, about, values), notes)


def _about(
    path: Path,
    source: pd.DataFrame,
    renamed: Mapping[str, pd.Series],
    points: ColumnMap | None,
) -> dict[str, Any]:
    """The columns of a label table that are neither pictures nor labels."""
    about: dict[str, Any] = {"points": _points(path, source, points)}
    for name in ("video", "subject"):
        if name in renamed:
            about[name] = _texts(renamed[name])
    if "frame" in renamed:
        about["frame"] = _numbers(path, renamed["frame"])
    if "split" in renamed:
        about["split"] = split_names(renamed["split"], str(path))
    return about


def _stored_pictures(path: Path, column: str) -> tuple[pd.Series | None, list[str]]:
    """References to the pictures of a file that has many; raises DataError where it is damaged."""
    if path.suffix.lower() != ".parquet":
        return None, []
    with _unreadable(path):
        return stored_pictures(path, column)


def _check_classes(path: Path, tasks: Sequence[Task], classes: Mapping[str, Codes]) -> None:
    """Refuse columns of codes for unknown tasks or classes."""
    by_key = {task.key: task for task in tasks}
    for key, codes in classes.items():
        if key not in by_key:
            raise DataError(f"{path}: classes: {UnknownNameError('task', key, by_key)}")
        task = by_key[key]
        if task.kind != "one_of":
            raise DataError(
                f"{path}: classes: {key} is not one_of several classes; map its columns in "
                "`columns`"
            )
        for name in codes.values.values():
            if name not in task.names:
                unknown = UnknownNameError(f"class of {key}", name, task.names)
                raise DataError(f"{path}: classes: {unknown}")


def _read_header(path: Path) -> list[str]:
    """The names of the file's columns, without spaces around them."""
    suffix = path.suffix.lower()
    if suffix not in (*_SEPARATORS, ".parquet"):
        raise DataError(
            f"{path}: a label file ends in {', '.join(_SEPARATORS)} or .parquet; rename or "
            "convert it"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a CSV, TSV or Parquet file")
    try:
        if suffix == ".parquet":
            names = list(pq.read_schema(path).names)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(_short_lines(file), delimiter=_SEPARATORS[suffix])
                names = [name.strip() for name in next(reader, [])]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({_one_line(error)}); save it again as UTF-8 CSV or as Parquet"
        ) from error
    if not names:
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    if len(names) > _MOST_COLUMNS:
        raise DataError(
            f"{path}: {len(names)} columns, and no table of labels has more than "
            f"{_MOST_COLUMNS}; leave out those not needed"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: two columns are named {min(repeated)!r}; rename one")
    return names


def _short_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; raises ValueError for one that is too long for a table's header."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE} letters")
        yield line


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises inside into a DataError that names the file."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({_one_line(error)}); correct the file or the map of its "
            "columns"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _as_list(theirs: ColumnMap) -> Sequence[str]:
    """The file's columns that make up one of ours."""
    return [theirs] if isinstance(theirs, str) else theirs


def _map_columns(
    path: Path,
    header: list[str],
    tasks: Sequence[Task],
    columns: Mapping[str, ColumnMap],
    classes: Mapping[str, Codes],
) -> dict[str, ColumnMap]:
    """The file's column for each of ours that it has."""
    _check_map(path, header, tasks, columns, classes)
    label_columns: list[str] = []
    for task in tasks:
        if task.key not in classes:
            label_columns += task.columns
    sources: dict[str, ColumnMap] = {}
    for name in (*COLUMNS, *label_columns):
        if name in columns or name in header:
            sources[name] = columns.get(name, name)
    for task in tasks:
        if task.kind != "one_of" or task.key in classes:
            continue
        missing = [name for name in task.columns if name not in sources]
        if 0 < len(missing) < len(task.columns):
            raise DataError(
                f"{path}: has no column {', '.join(missing)}, but others of {task.key}; a face "
                "needs the shares of all classes"
            )
    if tasks and not classes and sources.keys().isdisjoint(label_columns):
        keys = ", ".join(task.key for task in tasks)
        raise DataError(
            f"{path}: holds no label of {keys}; map its columns in `columns` or `classes`"
        )
    return sources


def _check_map(
    path: Path,
    header: list[str],
    tasks: Sequence[Task],
    columns: Mapping[str, ColumnMap],
    classes: Mapping[str, Codes],
) -> None:
    """Refuse columns that mien does not know, or that the user gave and the file lacks."""
    known = set(COLUMNS)
    for task in (*TASKS.values(), AU_BLENDSHAPES, *tasks):
        known.update(task.columns)
    required: list[str] = []
    for name, theirs in columns.items():
        if name not in known:
            raise DataError(f"{path}: columns: {UnknownNameError('column of ours', name, known)}")
        if not isinstance(theirs, str) and (name != "points" or len(theirs) != 10):
            raise DataError(
                f"{path}: columns: {name} has {len(theirs)} names; give one name, or ten for points"
            )
        required += _as_list(theirs)
    required += [codes.column for codes in classes.values()]
    if "image" not in columns:
        required.append("image")
    for name in required:
        if name not in header:
            unknown = UnknownNameError("column", name, header)
            raise DataError(f"{path}: {unknown} Map ours to theirs in `columns`")


def _read_columns(
    path: Path, header: list[str], sources: Mapping[str, ColumnMap], codes: set[str]
) -> pd.DataFrame:
    """The file's columns that are used: `_TEXT` and codes as text, all others as numbers."""
    names: list[str] = []
    for theirs in sources.values():
        names += _as_list(theirs)
    names = list(dict.fromkeys([*names, *codes]))
    with _unreadable(path):
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path, columns=names)
        else:
            text = codes | {str(sources[name]) for name in _TEXT if name in sources}
            types = {name: pa.string() if name in text else pa.float32() for name in names}
            table = pa.csv.read_csv(
                path,
                pa.csv.ReadOptions(column_names=header, skip_rows=1),
                pa.csv.ParseOptions(delimiter=_SEPARATORS[path.suffix.lower()]),
                pa.csv.ConvertOptions(include_columns=names, column_types=types),
            )
    # An index that pandas once stored would hide columns.
    return cast(pd.DataFrame, table.to_pandas(ignore_metadata=True))


def _texts(column: pd.Series) -> pd.Series:
    """Text, whole numbers without a point; empty cells become None."""
    texts = _normalised(column)
    return texts.astype(object).where(texts.notna() & (texts != ""), None)


def _normalised(column: pd.Series) -> pd.Series:
    """Text of codes and names: 1, 1.0 and "1 " are all "1"."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("string").str.strip()


def _normalised_code(code: float | str) -> str:
    """A code as `_normalised` spells it."""
    return code.strip() if isinstance(code, str) else f"{code:g}"


def _absolute_paths(column: pd.Series, images: Path) -> pd.Series:
    """Relative paths continued from `images`; pictures in the file itself stay as they are."""
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return column
    # Three letters decide on any system whether a path is absolute, and few beginnings differ.
    codes, beginnings = pd.factorize(column.str.slice(0, 3))
    # An empty cell has code -1, which takes the False at the end.
    absolute = np.array([*map(os.path.isabs, beginnings), False], bool)
    return column.where(absolute[codes], f"{images}{os.sep}" + column)


def _numbers(path: Path, column: pd.Series) -> Column:
    """The numbers (N,) of a column, NaN where it is empty."""
    try:
        return np.asarray(pd.to_numeric(column).to_numpy(np.float32, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: column {column.name} holds more than numbers ({error}); list its class codes "
            "in `classes`"
        ) from error


def _points(path: Path, source: pd.DataFrame, theirs: ColumnMap | None) -> list[Any] | None:
    """Ten numbers for each face, or None where any is missing."""
    if theirs is None:
        return None
    if isinstance(theirs, str):
        return list(source[theirs])
    values = np.stack([_numbers(path, source[name]) for name in theirs], axis=1)
    return [row if np.isfinite(row).all() else None for row in values]


def _values(
    path: Path,
    renamed: Mapping[str, pd.Series],
    rows: int,
    task: Task,
    missing: Sequence[float | str],
) -> Column:
    """Labels (N, K) from K columns; NaN where a column, a cell or an annotation is missing."""
    values = np.full((rows, len(task.columns)), np.nan, np.float32)
    for i, name in enumerate(task.columns):
        if name in renamed:
            values[:, i] = _numbers(path, renamed[name])
    values[np.isin(values, [code for code in missing if not isinstance(code, str)])] = np.nan
    return values


def _shares(
    path: Path, column: pd.Series, task: Task, codes: Codes, missing: Sequence[float | str]
) -> Column:
    """One-hot shares (N, K); NaN where the cell is empty or holds a missing code."""
    texts = _normalised(column)
    missing_texts = {_normalised_code(code) for code in missing}
    index = _class_index(texts, task, codes)
    empty = (texts.isna() | (texts == "") | texts.isin(missing_texts)).to_numpy(bool, na_value=True)
    unnamed = texts[~empty & (index < 0)].value_counts()
    if len(unnamed):
        listed = ", ".join(f"{code} ({count} rows)" for code, count in unnamed.items())
        raise DataError(
            f"{path}: column {codes.column} holds codes without a name: {listed}; map them "
            f"to classes of {task.key} in `values`, or add them to `missing`"
        )
    shares = np.full((len(texts), len(task.names)), np.nan, np.float32)
    shares[~empty] = np.eye(len(task.names), dtype=np.float32)[index[~empty]]
    return shares


def _class_index(texts: pd.Series, task: Task, codes: Codes) -> NDArray[np.intp]:
    """The class (N,) of each cell; -1 where it is neither a code nor a name of the task."""
    index_of = {}
    for code, name in codes.values.items():
        index_of[_normalised_code(code)] = task.names.index(name)
    names = [name.casefold() for name in task.names]
    # A table has few different codes.
    for text in texts.dropna().unique():
        # What the user says of a code comes before what it looks like.
        if text not in index_of and text.casefold() in names:
            index_of[text] = names.index(text.casefold())
    return np.asarray(texts.map(index_of).fillna(-1).to_numpy(np.intp))


Names = Annotated[tuple[str, ...], Field(strict=False, min_length=10, max_length=10)]
"""Ten columns; a list in YAML and JSON."""


class File(DataSet):
    """A CSV, TSV or Parquet file of labels; see `mien.data.sets.label_file.load_file`."""

    info: ClassVar = DataSetInfo(
        name=None,
        title=None,
        terms=TERMS_NOT_STATED,
        supervision={"*": "the labels in {name}, where it has them"},
        tasks=(),
        source="one's own table of labels",
        paper=None,
    )

    set: Literal["file"]
    path: Place
    """The file; its ending gives its format."""
    columns: dict[str, str | Names] = Field(default={})
    """Our columns to the file's; others go by our own name. Points: one column or ten."""
    classes: dict[str, Codes] = Field(default={})
    """By label set (its key): the column of class codes, and their codes to our names; a column of
    our names needs no codes."""
    images: Place | None = None
    """Where relative paths start from; null: the folder of the file."""
    missing: Annotated[tuple[float | str, ...], Field(strict=False)] = ()
    """Codes that mean not annotated, in label columns only."""
    split: Split | Cut | None = None
    """A name: only this split, or all of a file without splits. A cut: for a file without. Null: as
    the file says."""

    @override
    def load(self, tasks: Sequence[Task]) -> tuple[pd.DataFrame, Sequence[Task]]:
        """Load the label table; see `DataSet.load`."""
        has = self._tasks_in_file(tasks)
        table = load_file(
            self.path, has, self.columns, self.classes, images=self.images, missing=self.missing
        )
        return table, has

    def _tasks_in_file(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with codes, and of all other families those asked for."""
        coded = [find_task(key, tasks) for key in self.classes]
        families = {task.family for task in coded}
        return [*coded, *(task for task in tasks if task.family not in families)]

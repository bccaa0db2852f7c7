"""Any table of labels, CSV, TSV or Parquet, with a map from our columns to its own."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from mien.data.spec import TERMS_NOT_STATED, Cut, DataSet, DataSetInfo, Place, find_task
from mien.errors import DataError, UnknownNameError
from mien.tasks import TASKS, Floats, Task

__all__ = ["Codes", "File", "load_file"]

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_MOST_COLUMNS: Final = 10_000
_LONGEST_LINE: Final = 1 << 20
_TEXT: Final = ("image", "video", "subject", "split")

Theirs = str | Sequence[str]
Column = NDArray[np.float32]


class Codes(BaseModel):
    """How a file says the class of a face: in one column, by codes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    column: str
    """Their column."""
    values: Annotated[dict[int | str, str], Field(min_length=1)]
    """Their code to our name; several codes may share a name."""


def load_file(
    path: Path,
    tasks: Sequence[Task],
    columns: Mapping[str, Theirs] | None = None,
    classes: Mapping[str, Codes] | None = None,
    *,
    images: Path | None = None,
    missing: Sequence[float | str] = (),
) -> pd.DataFrame:
    """Load the label table of one file.

    Args:
        path: A CSV, TSV or Parquet file.
        tasks: The tasks whose label columns the table gets.
        columns: Our columns to theirs; what is not named goes by our own name. ``points`` is one
            column of ten numbers (Parquet), or the names of ten columns, x and y in turn.
        classes: By the key of a ``one_of`` task, the column of codes that stands for its shares.
        images: Where relative paths start from; None is the folder of the file.
        missing: Codes that mean not annotated, such as -5 or -1, in label columns and columns of
            codes only.

    Returns:
        The label table; label columns that the file lacks are NaN.

    Raises:
        DataError: The file cannot be read; a column is missing (the nearest is named); there is
            text in place of numbers; codes have no name (they are listed with counts); or the file
            has not one label of `tasks`.
    """
    path, columns, classes = Path(path), columns or {}, classes or {}
    coded = _coded_tasks(path, tasks, classes)
    header = _header(path)
    wanted = _wanted(path, header, tasks, columns, classes)
    source = _read(path, header, wanted, {classes[task.key].column for task in coded})
    made = {name: source[theirs] for name, theirs in wanted.items() if isinstance(theirs, str)}
    about = {
        "video": _texts(made.get("video")),
        "frame": _numbers(path, made["frame"]) if "frame" in made else np.nan,
        "subject": _texts(made.get("subject")),
        "split": split_names(made["split"], str(path)) if "split" in made else None,
        "points": _points(path, source, wanted.get("points")),
    }
    values: dict[Task, Floats] = {}
    for task in tasks:
        if task in coded:
            values[task] = _shares(
                path, source[classes[task.key].column], task, classes[task.key], missing
            )
        else:
            values[task] = _values(path, made, len(source), task, missing)
    return table_of(_located(made["image"], images or path.parent), about, values)


def _coded_tasks(path: Path, tasks: Sequence[Task], classes: Mapping[str, Codes]) -> list[Task]:
    by_key = {task.key: task for task in tasks}
    for key, codes in classes.items():
        if key not in by_key:
            raise DataError(f"{path}: classes: {UnknownNameError('task', key, by_key)}")
        if by_key[key].kind != "one_of":
            raise DataError(
                f"{path}: classes: {key} is not one_of several classes; map its columns in `columns`"
            )
        if strange := [name for name in codes.values.values() if name not in by_key[key].names]:
            raise DataError(
                f"{path}: classes: {UnknownNameError(f'class of {key}', strange[0], by_key[key].names)}"
            )
    return [by_key[key] for key in classes]


def _header(path: Path) -> list[str]:
    """The names of the file's columns, without spaces around them."""
    suffix = path.suffix.lower()
    if suffix not in (*_SEPARATORS, ".parquet"):
        raise DataError(
            f"{path}: a label file ends in {', '.join(_SEPARATORS)} or .parquet; rename or convert it"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a CSV, TSV or Parquet file")
    try:
        if suffix == ".parquet":
            names = list(pq.read_schema(path).names)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                names = [
                    name.strip()
                    for name in next(
                        csv.reader(_short_lines(file), delimiter=_SEPARATORS[suffix]), []
                    )
                ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({_one_line(error)}); save it again as UTF-8 CSV or as Parquet"
        ) from error
    if not names:
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    if len(names) > _MOST_COLUMNS:
        raise DataError(
            f"{path}: {len(names)} columns, and no table of labels has more than {_MOST_COLUMNS}; leave out those not needed"
        )
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(f"{path}: two columns are named {twice[0]!r}; rename one")
    return names


def _short_lines(file: TextIO) -> Iterator[str]:
    """The lines of a file, as far as they can be a table's header; raises ValueError for one that
    is too long."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of more than {_LONGEST_LINE} letters")
        yield line


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _each(theirs: Theirs) -> Sequence[str]:
    return [theirs] if isinstance(theirs, str) else theirs


def _wanted(
    path: Path,
    header: list[str],
    tasks: Sequence[Task],
    columns: Mapping[str, Theirs],
    classes: Mapping[str, Codes],
) -> dict[str, Theirs]:
    """Their column of each of ours that the file has; every name that the user gave must be
    there."""
    ours = [*COLUMNS, *(name for task in tasks if task.key not in classes for name in task.columns)]
    known = {*ours, *(name for task in (*TASKS.values(), AU_BLENDSHAPES) for name in task.columns)}
    for name, theirs in columns.items():
        if name not in known:
            raise DataError(f"{path}: columns: {UnknownNameError('column of ours', name, known)}")
        if not isinstance(theirs, str) and (name != "points" or len(theirs) != 10):
            raise DataError(
                f"{path}: columns: {name} has {len(theirs)} names; give one name, or ten for points"
            )
    named = [name for theirs in columns.values() for name in _each(theirs)]
    for name in [
        *named,
        *(codes.column for codes in classes.values()),
        *([] if "image" in columns else ["image"]),
    ]:
        if name not in header:
            raise DataError(
                f"{path}: {UnknownNameError('column', name, header)} Map ours to theirs in `columns`"
            )
    wanted = {name: columns.get(name, name) for name in ours if name in columns or name in header}
    for task in tasks:
        lacking = [name for name in task.columns if name not in wanted]
        if (
            task.kind == "one_of"
            and task.key not in classes
            and 0 < len(lacking) < len(task.columns)
        ):
            raise DataError(
                f"{path}: has no column {', '.join(lacking)}, but others of {task.key}; a face needs the shares of all classes"
            )
    if tasks and not classes and not any(name in wanted for name in ours[len(COLUMNS) :]):
        raise DataError(
            f"{path}: holds no label of {', '.join(task.key for task in tasks)}; map its columns in `columns` or `classes`"
        )
    return wanted


def _read(
    path: Path, header: list[str], wanted: Mapping[str, Theirs], codes: set[str]
) -> pd.DataFrame:
    """Their columns that are wanted; text stays text, so that subject 007 and code 1 keep their
    spelling."""
    names = list(
        dict.fromkeys([*(name for theirs in wanted.values() for name in _each(theirs)), *codes])
    )
    text = codes | {str(wanted[name]) for name in _TEXT if name in wanted}
    try:
        if path.suffix.lower() == ".parquet":
            return cast(
                pd.DataFrame, pq.read_table(path, columns=names).to_pandas(ignore_metadata=True)
            )
        found = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=header, skip_rows=1),
            parse_options=pa.csv.ParseOptions(delimiter=_SEPARATORS[path.suffix.lower()]),
            convert_options=pa.csv.ConvertOptions(
                include_columns=names,
                column_types={
                    name: pa.string() if name in text else pa.float32() for name in names
                },
            ),
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({_one_line(error)}); correct the file or the map of its columns"
        ) from error
    return cast(pd.DataFrame, found.to_pandas(ignore_metadata=True))


def _texts(column: pd.Series | None) -> pd.Series | None:
    """Text, whole numbers without a point; empty is None."""
    if column is None:
        return None
    texts = _spelt(column)
    return texts.astype(object).where(texts.notna() & (texts != ""), None)


def _spelt(column: pd.Series) -> pd.Series:
    """Text of codes and names: 1, 1.0 and "1 " are all "1"."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("string").str.strip()


def _code(code: float | str) -> str:
    """A code as `_spelt` has it."""
    return code.strip() if isinstance(code, str) else f"{code:g}"


def _located(column: pd.Series, images: Path) -> pd.Series:
    """Relative paths from `images` on; pictures in the file itself as they are."""
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return column
    heads, kinds = pd.factorize(
        column.str.slice(0, 3)
    )  # what makes a path absolute on any system; there are few of them
    absolute = np.array([*map(os.path.isabs, kinds), False], bool)[
        heads
    ]  # an empty cell has number -1
    return column.where(absolute, f"{images}{os.sep}" + column)


def _numbers(path: Path, found: pd.Series) -> Column:
    try:
        return np.asarray(pd.to_numeric(found).to_numpy(np.float32, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: column {found.name} holds more than numbers ({error}); list its class codes in `classes`"
        ) from error


def _points(path: Path, source: pd.DataFrame, theirs: Theirs | None) -> list[Any] | None:
    """Ten numbers each, or None where any is missing."""
    if theirs is None:
        return None
    if isinstance(theirs, str):
        return list(source[theirs])
    values = np.stack([_numbers(path, source[name]) for name in theirs], axis=1)
    return [row if np.isfinite(row).all() else None for row in values]


def _values(
    path: Path, made: Mapping[str, pd.Series], rows: int, task: Task, missing: Sequence[float | str]
) -> Column:
    """Labels (N, K) from a column each; NaN where there is no column, the cell is empty, or it says
    a missing code."""
    values = np.full((rows, len(task.columns)), np.nan, np.float32)
    for i, name in enumerate(task.columns):
        if name in made:
            values[:, i] = _numbers(path, made[name])
    values[np.isin(values, [code for code in missing if not isinstance(code, str)])] = np.nan
    return values


def _shares(
    path: Path, column: pd.Series, task: Task, codes: Codes, missing: Sequence[float | str]
) -> Column:
    """One-hot shares (N, K); NaN where the cell is empty or says a missing code."""
    found = _spelt(column)
    gone = {_code(code) for code in missing}
    names = {_code(code): task.names.index(name) for code, name in codes.values.items()}
    empty = (found.isna() | (found == "") | found.isin(gone)).to_numpy(bool, na_value=True)
    strange = found[~empty & ~found.isin(names).to_numpy(bool)].value_counts()
    if len(strange):
        listed = ", ".join(f"{code} ({count} rows)" for code, count in strange.items())
        raise DataError(
            f"{path}: column {codes.column} holds codes without a name: {listed}; add them to `values` or to `missing`"
        )
    shares = np.full((len(found), len(task.names)), np.nan, np.float32)
    index = found[~empty].map(names).to_numpy(np.intp)
    shares[~empty] = np.eye(len(task.names), dtype=np.float32)[index]
    return shares


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
    """The file; its ending says what it is."""
    columns: dict[str, str | Names] = Field(default={})
    """Our columns to theirs; what is not named goes by our own name. Points: one column or ten."""
    classes: dict[str, Codes] = Field(default={})
    """By label set (its key): the column of class codes, and their codes to our names."""
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
        """The tasks that there are codes for, and those asked for of all other families."""
        coded = [find_task(key, tasks) for key in self.classes]
        families = {task.family for task in coded}
        return [*coded, *(task for task in tasks if task.family not in families)]

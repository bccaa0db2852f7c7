"""Tables that mien wrote, read back with the types and the meaning that their dictionary gives them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pyarrow as pa

from mien.errors import TableError, UnknownNameError
from mien.outputs.cells import restored
from mien.outputs.columns import Column, Dtype
from mien.outputs.tables import schema_of, to_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_table"]

_TYPES: Final[Mapping[str, Dtype]] = {name: name for name in get_args(Dtype)} | {"string": "str"}
_BLOCK: Final = 1 << 24  # bytes that are parsed together; a row must fit


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a table that mien wrote, whatever its format, as `Analysis.frame` gave it.

    Its data dictionary must lie beside it, as it was written: it says which type each column has. Whole numbers stay whole,
    missing values are missing, and what was made harmless for spreadsheets is as it was. Parquet keeps every digit; CSV and JSON
    lines are rounded: scores to 5 decimals, seconds to 6, pixels to 2.

    Args:
        path: The ``.csv``, ``.parquet`` or ``.jsonl`` file.

    Returns:
        A data frame with a row per face per frame; its ``.attrs["dictionary"]`` holds the dictionary.

    Raises:
        UnknownNameError: The suffix is none of these.
        TableError: The table or its dictionary is missing, cut off, or they do not belong together.

    >>> import mien, tempfile
    >>> from mien.demo import portrait
    >>> table = mien.read_table(mien.analyze(portrait()).save(Path(tempfile.mkdtemp()) / "eileen.csv"))
    >>> table["expression"].tolist(), table.attrs["dictionary"]["bundle"]["name"]
    (['happiness'], 'mien-s')
    """
    path = Path(path)
    suffix = path.suffix.removeprefix(".").lower()
    if path.is_dir():
        raise TableError(f"{path}: is a folder; name one table in it")
    if what := next((what for ending, what in _BESIDE.items() if path.name.endswith(ending)), None):
        raise TableError(f"{path}: is {what}, no table; give {_table_of(path)}")
    if suffix not in _READERS:
        raise UnknownNameError("format", suffix, _READERS)
    if not path.is_file():
        raise TableError(f"{path}: no such table; name a file that mien wrote")
    page = _dictionary(path)
    columns = _columns(page, path)
    _check_content(path, page)
    try:
        table = _READERS[suffix](path, columns)
        _check_names(table.column_names, columns, path)
        table = table.cast(schema_of(columns))
    except (OSError, ValueError, pa.ArrowException) as error:
        why = str(error).partition("\n")[0]
        raise TableError(
            f"{path}: cannot be read ({why}); it was changed or cut off, make it again"
        ) from error
    _check_rows(table.num_rows, page, path)
    frame = to_frame(table, columns)
    frame.attrs["dictionary"] = page
    return frame


def _table_of(path: Path) -> str:
    """The table that a file was written with, as far as it lies beside it."""
    stem = next(path.name.removesuffix(ending) for ending in _BESIDE if path.name.endswith(ending))
    there = (path.with_name(f"{stem}.{suffix}") for suffix in _READERS)
    beside = next((str(table) for table in there if table.is_file()), None)
    return (
        beside
        or f"the {', '.join(f'.{suffix}' for suffix in _READERS)} file that was written with it"
    )


def _dictionary(path: Path) -> dict[str, Any]:
    """The data dictionary beside a table."""
    beside = path.with_suffix(".dictionary.json")
    try:
        page = json.loads(beside.read_bytes())
    except FileNotFoundError as error:
        raise TableError(
            f"{path}: its dictionary {beside.name} is not beside it; bring both, or read it with pandas alone"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(
            f"{beside}: cannot be read ({error}); make the table again, or read it with pandas alone"
        ) from error
    if not (isinstance(page, dict) and isinstance(page.get("columns"), list) and "mien" in page):
        raise TableError(
            f"{beside}: is no data dictionary of mien's; make the table again, or read it with pandas alone"
        )
    return page


def _columns(page: Mapping[str, Any], path: Path) -> tuple[Column, ...]:
    """Names and types of the columns that a dictionary lists."""
    beside = path.with_suffix(".dictionary.json")
    columns = []
    for number, entry in enumerate(page["columns"]):
        name, dtype = (
            (entry.get("name"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in _TYPES:
            raise TableError(
                f"{beside}: columns.{number}: {name!r} of type {dtype!r} is no column that this mien knows; update mien, or read the "
                "table with pandas alone"
            )
        columns.append(Column(name, _TYPES[dtype], str(entry.get("meaning", ""))))
    return tuple(columns)


def _check_names(names: Sequence[str], columns: Sequence[Column], path: Path) -> None:
    told = [column.name for column in columns]
    if list(names) == told:
        return
    differing = [name for name in names if name not in told] + [
        name for name in told if name not in names
    ]
    which = (
        f"column {differing[0]!r} is in one of them only"
        if differing
        else "their columns are in another order"
    )
    raise TableError(
        f"{path}: is not the table that its dictionary is about: {which}; bring the two that were written together"
    )


def _check_content(path: Path, page: Mapping[str, Any]) -> None:
    """Raise TableError where a table is not, byte for byte, the one whose hash its dictionary holds; it need not hold any."""
    tables = page.get("tables")
    if not isinstance(tables, dict):
        return
    # A table and its dictionary that were renamed together still belong together.
    alike = [name for name in tables if Path(name).suffix.lower() == path.suffix.lower()]
    facts = tables.get(path.name if path.name in tables or len(alike) != 1 else alike[0])
    told = facts.get("sha256") if isinstance(facts, dict) else None
    if not isinstance(told, str):
        return
    try:
        with path.open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}); check that you may read it"
        ) from error
    if now != told:
        raise TableError(
            f"{path}: was changed or cut off since it was written; make it again, or read it with pandas alone"
        )


def _check_rows(count: int, page: Mapping[str, Any], path: Path) -> None:
    """Raise TableError where a dictionary counts other rows than there are; it need not count any."""
    by_status = page.get("rows")
    if not isinstance(by_status, dict) or not all(
        isinstance(rows, int) for rows in by_status.values()
    ):
        return
    if count != (told := sum(by_status.values())):
        raise TableError(
            f"{path}: has {count} rows, its dictionary counts {told}; it was changed or cut off, make it again"
        )


def _read_csv(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow import csv

    # Types go by the names as they stand in the file's header, where those are made harmless too.
    with csv.open_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True)) as header:
        in_file = header.schema.names
    types = dict(zip(in_file, schema_of(columns).types, strict=False))
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=_BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    arrays = [
        _restored(array) if pa.types.is_string(array.type) else array for array in table.columns
    ]
    return pa.table(arrays, names=[restored(name) for name in table.column_names])


def _restored(array: pa.ChunkedArray) -> pa.Array:
    """Text as it was before it was made harmless; few texts come often."""
    encoded = array.combine_chunks().dictionary_encode()
    texts = [restored(text) for text in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string())).cast(
        pa.string()
    )


def _read_json(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow import json as arrow_json

    schema = schema_of(columns)
    if not path.stat().st_size:
        return schema.empty_table()
    return arrow_json.read_json(
        path,
        read_options=arrow_json.ReadOptions(block_size=_BLOCK),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, newlines_in_values=False),
    )


def _read_parquet(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(
        path
    ) as file:  # read_table of pyarrow would take folders named a=b for columns
        return file.read()


_BESIDE: Final = {
    ".dictionary.json": "a data dictionary",
    ".overlay.mp4": "an overlay",
    ".overlay.jpg": "an overlay",
}
_READERS: Final[Mapping[str, Callable[[Path, Sequence[Column]], pa.Table]]] = {
    "csv": _read_csv, "jsonl": _read_json, "parquet": _read_parquet,
}  # fmt: skip

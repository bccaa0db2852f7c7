"""Tables that mien wrote, read back with the types that their data dictionary gives them."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pyarrow as pa

from mien.errors import TableError, UnknownNameError
from mien.outputs.cells import restored
from mien.outputs.columns import Column, Dtype
from mien.outputs.tables import schema_of, to_frame
from mien.remote.address import is_address, parent, parts
from mien.remote.folder import RemoteFolder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EMBEDDED", "read_rows", "read_table"]

EMBEDDED: Final = b"mien"
"""Key of a Parquet file's metadata under which `mien convert` puts the dictionary."""

# Dictionaries of earlier versions may say "string" for text.
_TYPES: Final[Mapping[str, Dtype]] = {name: name for name in get_args(Dtype)} | {"string": "str"}
# Bytes that are parsed together; a row must fit.
_BLOCK: Final = 1 << 24


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a table that mien wrote, in whatever format, as `Analysis.table` gave it.

    Its data dictionary must be beside it, unchanged, or inside of it (Parquet that `mien convert`
    wrote): it says which type each column has. Whole
    numbers stay whole, missing values are missing, and what was escaped for spreadsheets is as it
    was. Parquet keeps every digit; CSV and JSON lines are rounded: scores to 5 decimals, seconds to
    6, pixels to 2.

    Args:
        path: The ``.csv``, ``.parquet`` or ``.jsonl`` file, or its address (``s3://…``).

    Returns:
        A data frame with a row per face per frame; its ``.attrs["dictionary"]`` holds the
        dictionary.

    Raises:
        UnknownNameError: The suffix is none of these.
        TableError: The table or its dictionary is missing or cut off, or they do not belong
            together.

    Examples:
        >>> import mien, tempfile
        >>> from mien.demo import portrait
        >>> path = Path(tempfile.mkdtemp()) / "eileen.csv"
        >>> table = mien.read_table(mien.analyze(portrait()).save(path))
        >>> table["expression"].tolist(), table.attrs["dictionary"]["bundle"]["name"]
        (['happiness'], 'mien-s')
    """
    if is_address(str(path)):
        return _read_elsewhere(str(path))
    path = Path(path)
    suffix = path.suffix.removeprefix(".").lower()
    if path.is_dir():
        raise TableError(f"{path}: is a folder; name one table in it")
    for ending, kind in _COMPANIONS.items():
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            raise TableError(f"{path}: is {kind}, no table; give {_table_beside(path, stem)}")
    if suffix not in _READERS:
        raise UnknownNameError("format", suffix, _READERS)
    if not path.is_file():
        raise TableError(f"{path}: no such table; name a file that mien wrote")
    dictionary = _dictionary(path)
    _check_content(path, dictionary)
    frame = read_rows(path, suffix, dictionary)
    _check_rows(len(frame), dictionary, path)
    return frame


def _read_elsewhere(address: str) -> "pd.DataFrame":
    """Read a table at an address, with its dictionary."""
    folder = RemoteFolder(parent(address))
    with tempfile.TemporaryDirectory(prefix="mien-table-") as temporary:
        table = Path(temporary) / parts(address)[-1]
        for path in (table, table.with_suffix(".dictionary.json")):
            if folder.look(path.name) is not None:
                folder.get(path.name, path)
        try:
            return read_table(table)
        except TableError as error:
            raise TableError(str(error).replace(temporary, folder.address)) from error


def read_rows(path: Path, suffix: str, dictionary: dict[str, Any]) -> "pd.DataFrame":
    """Read a table whose dictionary is known.

    Args:
        path: Its file, of any name.
        suffix: ``csv``, ``parquet`` or ``jsonl``.
        dictionary: Its data dictionary.

    Returns:
        As `read_table`.

    Raises:
        TableError: The table is damaged, or is not what the dictionary describes.
    """
    columns = _columns(dictionary, path)
    frame = to_frame(_parsed(path, suffix, columns), columns)
    frame.attrs["dictionary"] = dictionary
    return frame


def _parsed(path: Path, suffix: str, columns: Sequence[Column]) -> pa.Table:
    try:
        table = _READERS[suffix](path, columns)
        _check_names(table.column_names, columns, path)
        return table.cast(schema_of(columns))
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise TableError(
            f"{path}: cannot be read ({reason}); it was changed or cut off, make it again"
        ) from error


def _table_beside(path: Path, stem: str) -> str:
    """The table that a file was written with, or what to look for where it is missing."""
    for suffix in _READERS:
        table = path.with_name(f"{stem}.{suffix}")
        if table.is_file():
            return str(table)
    suffixes = ", ".join(f".{suffix}" for suffix in _READERS)
    return f"the {suffixes} file that was written with it"


def _dictionary(path: Path) -> dict[str, Any]:
    """The data dictionary beside a table."""
    beside = path.with_suffix(".dictionary.json")
    try:
        dictionary = json.loads(beside.read_bytes())
    except FileNotFoundError as error:
        embedded = _embedded_dictionary(path)
        if embedded is not None:
            return embedded
        raise TableError(
            f"{path}: its dictionary {beside.name} is not beside it; bring both, "
            "or read it with pandas alone"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(
            f"{beside}: cannot be read ({error}); make the table again, "
            "or read it with pandas alone"
        ) from error
    if not _is_dictionary(dictionary):
        raise TableError(
            f"{beside}: is no data dictionary of mien's; make the table again, "
            "or read it with pandas alone"
        )
    return dict(dictionary)


def _embedded_dictionary(path: Path) -> dict[str, Any] | None:
    """The data dictionary in a Parquet file's metadata; None where there is none."""
    from pyarrow.parquet import read_schema

    if path.suffix.lower() != ".parquet":
        return None
    try:
        metadata = read_schema(path).metadata or {}
        dictionary = json.loads(metadata[EMBEDDED])
    except (OSError, KeyError, ValueError, RecursionError, pa.ArrowException):
        return None
    return dict(dictionary) if _is_dictionary(dictionary) else None


def _is_dictionary(content: object) -> bool:
    if not isinstance(content, dict):
        return False
    # Every edition has had both.
    return isinstance(content.get("columns"), list) and "mien" in content


def _columns(dictionary: Mapping[str, Any], path: Path) -> tuple[Column, ...]:
    """Names and types of the columns that a dictionary lists."""
    beside = path.with_suffix(".dictionary.json")
    columns = []
    for number, entry in enumerate(dictionary["columns"]):
        facts = entry if isinstance(entry, dict) else {}
        name = facts.get("name")
        dtype = facts.get("dtype")
        if not isinstance(name, str) or not isinstance(dtype, str) or dtype not in _TYPES:
            raise TableError(
                f"{beside}: columns.{number}: {name!r} of type {dtype!r} is no column that this "
                "mien knows; update mien, or read the table with pandas alone"
            )
        columns.append(Column(name, _TYPES[dtype], str(facts.get("meaning", ""))))
    return tuple(columns)


def _check_names(names: Sequence[str], columns: Sequence[Column], path: Path) -> None:
    """Raise TableError where a table has other columns than its dictionary."""
    listed = [column.name for column in columns]
    if list(names) == listed:
        return
    difference = "their columns are in another order"
    # Of the table's own columns first: a user sees those.
    for name in (*names, *listed):
        if (name in names) != (name in listed):
            difference = f"column {name!r} is in one of them only"
            break
    raise TableError(
        f"{path}: is not the table that its dictionary is about: {difference}; "
        "bring the two that were written together"
    )


def _check_content(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Raise TableError where a table has another hash than its dictionary records.

    Dictionaries of earlier versions record none.
    """
    recorded = _recorded_hash(path, dictionary.get("tables"))
    if recorded is None:
        return
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}); check that you may read it"
        ) from error
    if digest != recorded:
        raise TableError(
            f"{path}: was changed or cut off since it was written; make it again, "
            "or read it with pandas alone"
        )


def _recorded_hash(path: Path, tables: object) -> str | None:
    if not isinstance(tables, dict):
        return None
    name = path.name
    # A table and its dictionary that were renamed together still belong together.
    same_format = [table for table in tables if Path(table).suffix.lower() == path.suffix.lower()]
    if name not in tables and len(same_format) == 1:
        name = same_format[0]
    facts = tables.get(name)
    recorded = facts.get("sha256") if isinstance(facts, dict) else None
    return recorded if isinstance(recorded, str) else None


def _check_rows(count: int, dictionary: Mapping[str, Any], path: Path) -> None:
    """Raise TableError where a table has another number of rows than its dictionary records.

    Dictionaries of single inputs record none.
    """
    by_status = dictionary.get("rows")
    if not isinstance(by_status, dict):
        return
    if not all(isinstance(rows, int) for rows in by_status.values()):
        return
    recorded = sum(by_status.values())
    if count != recorded:
        raise TableError(
            f"{path}: has {count} rows, its dictionary counts {recorded}; "
            "it was changed or cut off, make it again"
        )


def _read_csv(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow import csv

    parsing = csv.ParseOptions(newlines_in_values=True)
    # Types are given by name as the file's header has it, which may be escaped too.
    with csv.open_csv(path, parse_options=parsing) as header:
        names = header.schema.names
    types = dict(zip(names, schema_of(columns).types, strict=False))
    # An empty cell is missing, an empty text is in quotes (see `mien.outputs.cells`).
    conversion = csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=_BLOCK),
        parse_options=parsing,
        convert_options=conversion,
    )
    arrays = [_unescaped(array) for array in table.columns]
    return pa.table(arrays, names=[restored(name) for name in table.column_names])


def _unescaped(array: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Text as it was before it was escaped for spreadsheets; numbers as they are."""
    if not pa.types.is_string(array.type):
        return array
    # Text by text, not row by row: a table has few different ones.
    encoded = array.combine_chunks().dictionary_encode()
    texts = [restored(text) for text in encoded.dictionary.to_pylist()]
    decoded = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string()))
    return decoded.cast(pa.string())


def _read_json(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow import json as arrow_json

    schema = schema_of(columns)
    # pyarrow takes an empty file for a broken one.
    if not path.stat().st_size:
        return schema.empty_table()
    return arrow_json.read_json(
        path,
        read_options=arrow_json.ReadOptions(block_size=_BLOCK),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, newlines_in_values=False),
    )


def _read_parquet(path: Path, columns: Sequence[Column]) -> pa.Table:
    from pyarrow.parquet import ParquetFile

    # pyarrow's `read_table` would take folders named a=b for columns.
    with ParquetFile(path) as file:
        return file.read()


# Files that are written beside a table: how their names end, and what they are.
_COMPANIONS: Final = {
    ".dictionary.json": "a data dictionary",
    ".overlay.mp4": "an overlay",
    ".overlay.jpg": "an overlay",
}
_READERS: Final[Mapping[str, Callable[[Path, Sequence[Column]], pa.Table]]] = {
    "csv": _read_csv,
    "jsonl": _read_json,
    "parquet": _read_parquet,
}

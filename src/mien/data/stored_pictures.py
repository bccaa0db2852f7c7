"""Pictures that stay in the Parquet file of their label table, and are read as they are needed.

A label table then holds a reference to each: the file, the row, and a hash of the content, by which
pictures are compared and a changed file is noticed. Parquet is read by row groups, so these must be
small; each process keeps the last few.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypedDict, cast, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.errors import DataError

__all__ = [
    "IN_MEMORY",
    "LARGEST_GROUP",
    "Cells",
    "StoredPicture",
    "digests",
    "is_stored",
    "read_stored",
    "stored_name",
    "stored_pictures",
]

IN_MEMORY: Final = 256 << 20
"""Bytes of pictures up to which a table holds them itself."""
LARGEST_GROUP: Final = 4 << 20
"""Bytes of pictures in a row group up to which single ones are read from it: some milliseconds."""

# Row groups that a process keeps: enough for pictures that are read in order.
_KEPT_GROUPS: Final = 8
_TYPE: Final = pa.struct(
    [
        ("path", pa.dictionary(pa.int32(), pa.string())),
        ("column", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("digest", pa.binary(32)),
    ]
)


class StoredPicture(TypedDict):
    """A cell of the column `image`: an encoded picture in a Parquet file."""

    path: str
    column: str
    row: int
    digest: bytes
    """SHA-256 of the picture."""


def stored_pictures(path: Path, column: str) -> "tuple[pd.Series[Any] | None, list[str]]":
    """Refer to the pictures of a Parquet file in place of reading them, where they are many.

    Args:
        path: The file.
        column: Its column of encoded pictures.

    Returns:
        The references; None where the column holds no pictures, or so few that they fit into
        memory, or row groups that are too large. And notes on that.

    Raises:
        OSError: The file cannot be read.
        pyarrow.ArrowInvalid: The file is damaged.
    """
    with pq.ParquetFile(path) as file:
        kind = file.schema_arrow.field(column).type
        sizes = _group_sizes(file, column)
        if not _is_bytes(kind) or sum(sizes) <= IN_MEMORY:
            return None, []
        if max(sizes) > LARGEST_GROUP:
            gigabytes, megabytes = sum(sizes) / 1e9, max(sizes) / 1e6
            return None, [
                f"{path.name}: {gigabytes:.1f} GB of pictures are held in memory, since its row "
                f"groups have up to {megabytes:.0f} MB of them; written with row groups of at most "
                f"{LARGEST_GROUP >> 20} MB, it is read as needed"
            ]
        hashes = _all_digests(file, column)
    # A cell without a picture is refused by whoever checks the table.
    if hashes is None:
        return None, []
    count = len(hashes)
    rows = pa.array(np.arange(count))
    fields = [_repeated(os.path.abspath(path), count), _repeated(column, count), rows, hashes]
    array = pa.StructArray.from_arrays(fields, fields=list(_TYPE))
    return pd.Series(array, dtype=pd.ArrowDtype(_TYPE)), []


def _repeated(text: str, count: int) -> pa.Array:
    """A text so many times, in the memory of one."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _group_sizes(file: pq.ParquetFile, column: str) -> list[int]:
    """Bytes of a column in each row group."""
    number = file.schema_arrow.names.index(column)
    # Nested columns are several in a file, and stand before others.
    if len(file.schema_arrow.names) != len(file.schema.names):
        names = [file.schema.column(i).path for i in range(len(file.schema))]
        number = names.index(column) if column in names else 0
    sizes = []
    for group in range(file.num_row_groups):
        sizes.append(file.metadata.row_group(group).column(number).total_uncompressed_size)
    return sizes or [0]


def _all_digests(file: pq.ParquetFile, column: str) -> pa.Array | None:
    """SHA-256 of all pictures, read group by group; None where a cell is empty."""
    hashes = []
    for group in range(file.num_row_groups):
        for picture in file.read_row_group(group, [column], use_threads=False)[column]:
            if not picture.is_valid:
                return None
            hashes.append(hashlib.sha256(picture.as_buffer()).digest())
    return pa.array(hashes, pa.binary(32))


def is_stored(images: "pd.Series[Any]") -> bool:
    """Tell whether a column holds references alone.

    Args:
        images: The column `image` of a label table.

    Returns:
        True where all are of stored pictures.
    """
    kind = images.dtype
    return isinstance(kind, pd.ArrowDtype) and kind.pyarrow_dtype == _TYPE


def digests(images: "pd.Series[Any]") -> "pd.Series[Any]":
    """List the hashes of stored pictures.

    Args:
        images: A column of references.

    Returns:
        SHA-256 of each, with the same index.
    """
    array = pc.struct_field(pa.array(images), "digest")
    return pd.Series(array, dtype=pd.ArrowDtype(pa.binary(32)), index=images.index)


def stored_name(cell: Mapping[str, object]) -> str:
    """Name a stored picture for messages.

    Args:
        cell: The reference.

    Returns:
        File and row, counted from 0.
    """
    return f"{cell['path']}, row {cell['row']}"


def read_stored(cell: StoredPicture) -> bytes:
    """Read a stored picture.

    Args:
        cell: The reference.

    Returns:
        The encoded picture.

    Raises:
        DataError: The file cannot be read, or has changed since the table was loaded.
    """
    # A process that was forked must not share the place in an open file.
    process = os.getpid()
    try:
        starts = _group_starts(cell["path"], process)
        group = int(np.searchsorted(starts, cell["row"], side="right")) - 1
        pictures = _read_group(cell["path"], cell["column"], group, process)
        picture = pictures[cell["row"] - int(starts[group])].as_py()
    except (OSError, IndexError, KeyError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{stored_name(cell)}: cannot be read ({reason})") from error
    if picture is None or hashlib.sha256(picture).digest() != cell["digest"]:
        raise DataError(
            f"{stored_name(cell)}: the file has changed since its table was loaded; start again"
        )
    return cast(bytes, picture)


@lru_cache(maxsize=4)
def _open(path: str, process: int) -> pq.ParquetFile:
    return pq.ParquetFile(path)


@lru_cache(maxsize=4)
def _group_starts(path: str, process: int) -> NDArray[np.int64]:
    """The first row of each row group."""
    metadata = _open(path, process).metadata
    counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.cumsum([0, *counts])[:-1]


@lru_cache(maxsize=_KEPT_GROUPS)
def _read_group(path: str, column: str, group: int, process: int) -> pa.ChunkedArray:
    return _open(path, process).read_row_group(group, [column], use_threads=False)[column]


class Cells(Sequence[Any]):
    """The cells of a column `image`, made when one is asked for.

    Millions of Python objects would need more memory than the column, in each process that loads.

    Args:
        images: The column.
    """

    def __init__(self, images: "pd.Series[Any]") -> None:
        self._cells: Any
        if is_stored(images) or isinstance(images.dtype, pd.StringDtype):
            array = pa.array(images)
            self._cells = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        else:
            self._cells = images.to_numpy(object)

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        cell = self._cells[place]
        return cell.as_py() if isinstance(cell, pa.Scalar) else cell

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self)):
            yield self[place]

"""Tables of readings: CSV, Parquet and JSON lines, written in passing, complete or not at all."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final, Protocol, Self

import numpy as np
import pyarrow as pa

from mien.errors import UnknownNameError
from mien.files import Transaction, wrap_os_errors
from mien.outputs.cells import quoted
from mien.outputs.columns import ARROW, Column, batch_of, columns
from mien.records import Reading

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "Column", "Format", "TableWriter", "columns", "finished_rows", "frame_of"]

GROUP: Final = 1024
"""Rows that are written together; no more are ever held."""

_DIGITS: Final = {"pixels": 2, "seconds": 6}  # after the point, in text formats; scores have 5


class Format(Protocol):
    """Writes record batches of one table into an open file."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None: ...

    @staticmethod
    def rows(path: Path) -> Any:
        """The rows of a finished table, to be sliced and given to `copy`."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows."""

    def copy(self, rows: Any) -> None:
        """Write rows of a finished table as they stand there."""

    def close(self) -> None:
        """Write what belongs at the end; the file stays open."""


class _Lines(ABC):
    """A text format with one line per row. Numbers have fixed precision."""

    start: ClassVar[str] = ""
    gap: ClassVar[str] = ""
    end: ClassVar[str] = "\n"
    missing: ClassVar[str] = ""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._file = file
        self._cells = [self.lead(column).replace("%", "%%") + _shape(column) for column in columns]
        self._absent = [self.lead(column) + self.missing for column in columns]
        self._row = self.start + self.gap.join(self._cells) + self.end

    def write(self, batch: pa.RecordBatch) -> None:
        rows = zip(*map(self._values, batch.columns), strict=True)
        text = "".join(
            [
                self._row % row if whole else self._gappy(row)
                for row, whole in zip(rows, _whole(batch), strict=True)
            ]
        )
        self._file.write(text.encode())

    def copy(self, rows: Sequence[bytes]) -> None:
        self._file.write(b"".join(rows))

    def close(self) -> None:
        """Put out what the format still owes; text owes nothing."""
        self._file.flush()

    @abstractmethod
    def lead(self, column: Column) -> str:
        """What stands in a row before a value."""

    @abstractmethod
    def text(self, value: str) -> str:
        """Text as this format writes it."""

    def _values(self, array: pa.Array) -> list[Any]:
        """Python values, None where missing, text ready to be written."""
        values: list[Any] = array.to_pylist()
        if pa.types.is_string(array.type):
            return [None if value is None else self.text(value) for value in values]
        return values

    def _gappy(self, row: tuple[Any, ...]) -> str:
        each = zip(row, self._cells, self._absent, strict=True)
        cells = [absent if value is None else cell % value for value, cell, absent in each]
        return self.start + self.gap.join(cells) + self.end


def _shape(column: Column) -> str:
    if column.dtype.startswith("float"):
        return f"%.{_DIGITS.get(column.unit, 5)}f"
    return "%s" if column.dtype == "str" else "%d"


def _whole(batch: pa.RecordBatch) -> list[bool]:
    """Which rows have a value in every column."""
    whole = np.ones(batch.num_rows, bool)
    for array in batch.columns:
        if array.null_count:
            whole &= array.is_valid().to_numpy(zero_copy_only=False)
    return list(map(bool, whole))


class Csv(_Lines):
    """Comma-separated UTF-8 with a header; missing values are empty, and no text is a formula (`mien.outputs.cells`)."""

    gap = ","

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        super().__init__(file, columns)
        file.write((",".join(self.text(column.name) for column in columns) + self.end).encode())

    @staticmethod
    def rows(path: Path) -> list[bytes]:
        rows: list[bytes] = []
        with path.open("rb") as lines:
            for line in lines:
                row = line
                while row.count(b'"') % 2:  # a line break within quotes
                    row += next(lines)
                rows.append(row)
        return rows[1:]

    def lead(self, column: Column) -> str:
        return ""

    def text(self, value: str) -> str:
        return quoted(value)


class JsonLines(_Lines):
    """One JSON object per line with all columns; missing values are null."""

    start, gap, end, missing = "{", ", ", "}\n", "null"

    @staticmethod
    def rows(path: Path) -> list[bytes]:
        return path.read_bytes().splitlines(keepends=True)

    def lead(self, column: Column) -> str:
        return f"{json.dumps(column.name)}: "

    def text(self, value: str) -> str:
        return _dumped(value)


@lru_cache(maxsize=256)
def _dumped(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


class Parquet:
    """Parquet with row groups of one size, full precision, and pandas' own dtypes in its metadata."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        from pyarrow.parquet import ParquetWriter

        metadata = pa.Schema.from_pandas(frame_of([], columns), preserve_index=False).metadata
        self._writer = ParquetWriter(file, schema_of(columns).with_metadata(metadata))
        self._waiting: list[pa.Table] = []

    @staticmethod
    def rows(path: Path) -> pa.Table:
        from pyarrow.parquet import read_table

        return read_table(path, partitioning=None)

    def write(self, batch: pa.RecordBatch) -> None:
        self.copy(pa.Table.from_batches([batch]))

    def copy(self, rows: pa.Table) -> None:
        self._waiting.append(rows.cast(self._writer.schema))
        while sum(table.num_rows for table in self._waiting) >= GROUP:
            self._put_out(GROUP)

    def _put_out(self, count: int) -> None:
        """Write the first `count` of the waiting rows as one group."""
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = [rows.slice(count)]
        self._writer.write_table(rows.slice(0, count))

    def close(self) -> None:
        try:
            if rest := sum(table.num_rows for table in self._waiting):
                self._put_out(rest)
            self._writer.close()
        finally:
            self._writer.is_open = (
                False  # a failed close is not tried again when the object is collected
            )


FORMATS: Final[dict[str, type[Format]]] = {"csv": Csv, "jsonl": JsonLines, "parquet": Parquet}
"""Format by name, which is also the file's suffix."""


class TableWriter:
    """Writes readings into one table per format: ``<stem>.csv`` and so on, a row each.

    All files appear together when the ``with`` block ends; if it ends by an exception, none does. With `files`, they appear
    with the others of that transaction. Memory does not grow with the number of rows.
    Raises UnknownNameError for a format, OutputError when a file cannot be written.
    """

    def __init__(
        self,
        stem: Path,
        formats: Iterable[str],
        columns: Sequence[Column],
        files: Transaction | None = None,
    ) -> None:
        self._formats = tuple(dict.fromkeys(formats))
        for name in self._formats:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        self._stem, self._columns = stem, tuple(columns)
        self._own = files is None
        self._files = Transaction() if files is None else files
        self._tables: dict[str, _Table] = {}
        self._waiting: list[Reading] = []
        self._rows = 0

    def __enter__(self) -> Self:
        try:
            for name in self._formats:
                path = self._stem.with_name(f"{self._stem.name}.{name}")
                self._tables[name] = _Table(path, FORMATS[name], self._columns, self._files)
        except BaseException:
            self._drop()
            raise
        return self

    def write(self, readings: Iterable[Reading]) -> None:
        """Take the next rows."""
        rest = iter(readings)
        while taken := list(islice(rest, GROUP - len(self._waiting))):
            self._waiting += taken
            if len(self._waiting) == GROUP:
                self._flush()

    def copy(self, rows: Mapping[str, Any], first: int, count: int) -> None:
        """Take the next rows from finished tables (see `finished_rows`), which must have the same columns and formats."""
        self._flush()
        self._rows += count
        for name, table in self._tables.items():
            table.copy(rows[name][first : first + count])

    def facts(self) -> dict[str, dict[str, object]]:
        """Of each file, once the block has ended: its rows, bytes and sha256, by name."""
        return {
            table.path.name: {"rows": self._rows, **table.facts} for table in self._tables.values()
        }

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
                for table in self._tables.values():
                    table.finish()
                if self._own:
                    self._files.commit()
        finally:
            self._drop()

    def _flush(self) -> None:
        if self._waiting:
            batch = batch_of(self._waiting, self._columns)
            self._rows += len(self._waiting)
            self._waiting.clear()
            for table in self._tables.values():
                table.write(batch)

    def _drop(self) -> None:
        for table in self._tables.values():
            table.let_go()
        if self._own:
            self._files.drop()


class _Table:
    """One table file under its temporary name."""

    def __init__(
        self, path: Path, kind: type[Format], columns: Sequence[Column], files: Transaction
    ) -> None:
        self.path = path
        self.facts: dict[str, object] = {}
        self._part = files.add(path).part
        self._format: Format | None = None
        with wrap_os_errors(path):
            self._file: BinaryIO = self._part.open("wb")
            try:
                self._format = kind(self._file, columns)
            except BaseException:
                self._file.close()
                raise

    def write(self, batch: pa.RecordBatch) -> None:
        assert self._format is not None
        with wrap_os_errors(self.path):
            self._format.write(batch)

    def copy(self, rows: Any) -> None:
        assert self._format is not None
        with wrap_os_errors(self.path):
            self._format.copy(rows)

    def finish(self) -> None:
        """Complete the file, and learn what tells later that it is still whole."""
        assert self._format is not None
        with wrap_os_errors(self.path):
            self._format.close()
            self._file.close()
            with self._part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.facts = {"bytes": self._part.stat().st_size, "sha256": digest}

    def let_go(self) -> None:
        """Close what is open, whatever state it is in."""
        for closing in (self._format, self._file):
            with suppress(Exception):
                if closing is not None:
                    closing.close()


def finished_rows(stem: Path, formats: Iterable[str]) -> dict[str, Any]:
    """The rows of finished tables by format, for `TableWriter.copy`."""
    return {name: FORMATS[name].rows(stem.with_name(f"{stem.name}.{name}")) for name in formats}


def frame_of(readings: Iterable[Reading], columns: Sequence[Column]) -> "pd.DataFrame":
    """Readings as a data frame, a row each, with the columns' names and dtypes."""
    return to_frame(pa.Table.from_batches(_batches(readings, columns), schema_of(columns)), columns)


def to_frame(table: pa.Table, columns: Sequence[Column]) -> "pd.DataFrame":
    """A table with these columns as a data frame with their dtypes, text in pandas' own default."""
    import pandas as pd

    plain = table.replace_schema_metadata()
    frame: pd.DataFrame = plain.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    text = pd.Series(["text"]).dtype  # objects before pandas 3, a type of its own since
    for column, given in zip(columns, frame.dtypes, strict=True):
        wanted = text if column.dtype == "str" else pd.api.types.pandas_dtype(column.dtype)
        if given != wanted:  # few are; a cast of the whole frame costs more than a photo's networks
            frame[column.name] = frame[column.name].astype(wanted)
    return frame


def _batches(readings: Iterable[Reading], columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    rest = iter(readings)
    while taken := list(islice(rest, GROUP)):
        yield batch_of(taken, columns)


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Names and types of the columns."""
    return pa.schema([pa.field(column.name, ARROW[column.dtype]) for column in columns])

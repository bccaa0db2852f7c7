"""Tables of readings: CSV, Parquet and JSON lines, written in passing, complete or not at all."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final, Protocol, Self

import numpy as np
import pyarrow as pa

from mien.errors import UnknownNameError
from mien.files import Aside, explained
from mien.outputs.cells import quoted
from mien.outputs.columns import ARROW, Column, batch_of, columns
from mien.records import Reading

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "Column", "Format", "TableWriter", "columns", "frame_of"]

GROUP: Final = 1024
"""Rows that are written together; no more are ever held."""

_DIGITS: Final = {"pixels": 2, "seconds": 6}  # after the point, in text formats; scores have 5


class Format(Protocol):
    """Writes record batches of one table into an open file."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None: ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows."""

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
        text = "".join([self._row % row if whole else self._gappy(row) for row, whole in zip(rows, _whole(batch), strict=True)])
        self._file.write(text.encode())

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

    def lead(self, column: Column) -> str:
        return ""

    def text(self, value: str) -> str:
        return quoted(value)


class JsonLines(_Lines):
    """One JSON object per line with all columns; missing values are null."""

    start, gap, end, missing = "{", ", ", "}\n", "null"

    def lead(self, column: Column) -> str:
        return f"{json.dumps(column.name)}: "

    def text(self, value: str) -> str:
        return _dumped(value)


@lru_cache(maxsize=256)
def _dumped(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


class Parquet:
    """Parquet with a row group per batch, full precision, and pandas' own dtypes in its metadata."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        from pyarrow.parquet import ParquetWriter

        metadata = pa.Schema.from_pandas(frame_of([], columns), preserve_index=False).metadata
        self._writer = ParquetWriter(file, schema_of(columns).with_metadata(metadata))

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_table(pa.Table.from_batches([batch]).cast(self._writer.schema))

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # a failed close is not tried again when the object is collected


FORMATS: Final[dict[str, type[Format]]] = {"csv": Csv, "jsonl": JsonLines, "parquet": Parquet}
"""Format by name, which is also the file's suffix."""


class TableWriter:
    """Writes readings into one table per format: ``<stem>.csv`` and so on, a row each.

    All files appear together when the ``with`` block ends; if it ends by an exception, none does. Memory does not grow
    with the number of rows. Raises UnknownNameError for a format, OutputError when a file cannot be written.
    """

    def __init__(self, stem: Path, formats: Iterable[str], columns: Sequence[Column]) -> None:
        names = tuple(dict.fromkeys(formats))
        for name in names:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        self._columns = tuple(columns)
        self._tables = [_Table(stem.with_name(f"{stem.name}.{name}"), FORMATS[name], self._columns) for name in names]
        self._waiting: list[Reading] = []

    def __enter__(self) -> Self:
        try:
            for table in self._tables:
                table.open()
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
                for table in self._tables:
                    table.finish()
                for table in self._tables:
                    table.aside.place()
        finally:
            self._drop()

    def _flush(self) -> None:
        if self._waiting:
            batch = batch_of(self._waiting, self._columns)
            self._waiting.clear()
            for table in self._tables:
                table.write(batch)

    def _drop(self) -> None:
        for table in self._tables:
            table.drop()


class _Table:
    """One table file under its temporary name."""

    def __init__(self, path: Path, kind: type[Format], columns: Sequence[Column]) -> None:
        self.aside = Aside(path)
        self._kind, self._columns = kind, columns
        self._file: BinaryIO | None = None
        self._format: Format | None = None

    def open(self) -> None:
        self.aside.begin()
        with explained(self.aside.path):
            self._file = self.aside.part.open("wb")
            self._format = self._kind(self._file, self._columns)

    def write(self, batch: pa.RecordBatch) -> None:
        assert self._format is not None
        with explained(self.aside.path):
            self._format.write(batch)

    def finish(self) -> None:
        """Complete the file and bring it to the disk."""
        assert self._file is not None
        assert self._format is not None
        with explained(self.aside.path):
            self._format.close()
            self._file.close()
        self.aside.keep()

    def drop(self) -> None:
        """Let go of a file that is not in place yet, whatever state it is in."""
        for closing in (self._format, self._file):
            with suppress(Exception):
                if closing is not None:
                    closing.close()
        self.aside.drop()


def frame_of(readings: Iterable[Reading], columns: Sequence[Column]) -> "pd.DataFrame":
    """Readings as a data frame, a row each, with the columns' names and dtypes."""
    return to_frame(pa.Table.from_batches(_batches(readings, columns), schema_of(columns)), columns)


def to_frame(table: pa.Table, columns: Sequence[Column]) -> "pd.DataFrame":
    """A table with these columns as a data frame with their dtypes, text in pandas' own default."""
    import pandas as pd

    plain = table.replace_schema_metadata()
    frame: pd.DataFrame = plain.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    text = pd.Series(["text"]).dtype  # objects before pandas 3, a type of its own since
    return frame.astype({column.name: text if column.dtype == "str" else column.dtype for column in columns})


def _batches(readings: Iterable[Reading], columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    rest = iter(readings)
    while taken := list(islice(rest, GROUP)):
        yield batch_of(taken, columns)


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Names and types of the columns."""
    return pa.schema([pa.field(column.name, ARROW[column.dtype]) for column in columns])

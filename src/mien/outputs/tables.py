"""Tables of readings: CSV, Parquet and JSON lines.

They are written as the readings come, and are complete or absent.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, Self

import pyarrow as pa

from mien.errors import UnknownNameError
from mien.extensions.entry_points import WRITERS, extensions
from mien.files import Transaction, wrap_os_errors
from mien.outputs.arrays import HeldRows, PeopleBySource, batch_of, fill_people
from mien.outputs.columns import ARROW, Column, Dtype, columns
from mien.outputs.text_formats import Csv, JsonLines
from mien.outputs.writers.fex import Fex
from mien.outputs.writers.german_csv import GermanCsv
from mien.outputs.writers.openface import OpenFace
from mien.records import Reading

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FOREIGN",
    "FORMATS",
    "Column",
    "Format",
    "TableWriter",
    "columns",
    "described_schema",
    "finished_rows",
    "frame_of",
    "table_format",
    "table_path",
]

# Rows that are written together; no more are ever held.
GROUP: Final = 1024


class Format(Protocol):
    """Writes record batches of one table into an open file.

    Args:
        file: The file, open for writing bytes.
        columns: The columns of the table.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None: ...

    @staticmethod
    def rows(path: Path) -> Any:
        """Read the rows of a finished table.

        Args:
            path: The table.

        Returns:
            A sequence of rows, to be sliced and given to `copy`.
        """

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows.

        Args:
            batch: The rows, with the columns of the table.
        """

    def copy(self, rows: Any) -> None:
        """Write rows of a finished table unchanged.

        Args:
            rows: A slice of what `rows` gave.
        """

    def close(self) -> None:
        """Write what belongs at the end; the file stays open."""


class _Parquet:
    """Parquet with row groups of one size, full precision, and pandas' dtypes in its metadata."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        from pyarrow.parquet import ParquetWriter

        self._writer = ParquetWriter(file, described_schema(columns))
        self._waiting: list[pa.Table] = []

    @staticmethod
    def rows(path: Path) -> pa.Table:
        """Read the rows of a finished table."""
        from pyarrow.parquet import read_table

        # Folders named a=b are no columns.
        return read_table(path, partitioning=None)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows."""
        self.copy(pa.Table.from_batches([batch]))

    def copy(self, rows: pa.Table) -> None:
        """Write rows of a finished table unchanged."""
        # With pandas' metadata, which batches do not carry.
        self._waiting.append(rows.cast(self._writer.schema))
        while self._count_waiting() >= GROUP:
            self._write_group(GROUP)

    def _count_waiting(self) -> int:
        return sum(table.num_rows for table in self._waiting)

    def _write_group(self, count: int) -> None:
        """Write the first `count` of the waiting rows as one group."""
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = [rows.slice(count)]
        self._writer.write_table(rows.slice(0, count))

    def close(self) -> None:
        """Write the last group and the footer."""
        try:
            rest = self._count_waiting()
            if rest:
                self._write_group(rest)
            self._writer.close()
        finally:
            # Else a failed close would be tried again when the object is collected.
            self._writer.is_open = False


_METHODS: Final = ("rows", "write", "copy", "close")
"""Of every format."""
FORMATS: Final[dict[str, type[Format]]] = {"csv": Csv, "jsonl": JsonLines, "parquet": _Parquet}
"""Format by name, which is also the file's suffix."""
FOREIGN: Final[dict[str, type[Format]]] = {"csv:de": GermanCsv, "openface": OpenFace, "fex": Fex}
"""Formats of other programs, each with a `suffix`; `mien.read_table` does not read them."""


def table_path(stem: Path, name: str) -> Path:
    """The file of a table in one format.

    Args:
        stem: The path of the tables without suffix.
        name: Of the format.

    Returns:
        The path.
    """
    suffix = getattr(FOREIGN.get(name), "suffix", name)
    return stem.with_name(f"{stem.name}.{suffix}")


def table_format(name: str) -> type[Format]:
    """Find a format of tables.

    Args:
        name: Of a format in `FORMATS` or `FOREIGN`, or of an extension.

    Returns:
        Its class.

    Raises:
        UnknownNameError: There is no such format.
        ExtensionError: The extension cannot be used.
    """
    known = FORMATS | FOREIGN
    listed = extensions(WRITERS, known)
    if name not in listed:
        if name not in known:
            raise UnknownNameError("format", name, [*known, *listed])
        return known[name]
    kind: type[Format] = listed[name].load()
    missing = [method for method in _METHODS if not hasattr(kind, method)]
    if not isinstance(kind, type) or missing:
        raise listed[name].refused("is no class with the methods of mien.extend.TableFormat")
    return kind


class TableWriter:
    """Writes readings into one table per format, ``<stem>.csv`` and so on, a row each.

    A context manager. All files appear together when the block ends, and none after an exception.
    Memory does not grow with the number of rows.

    Args:
        stem: The path of the tables without suffix.
        formats: Names of the formats.
        columns: The columns of the tables.
        files: A transaction with which the files appear; None for one of their own.
        hold: Rows wait in a temporary file until the block ends, for the column `person` (see
            `set_people`).

    Raises:
        UnknownNameError: There is no such format.
        OutputError: A file cannot be written; any method may raise it.
    """

    def __init__(
        self,
        stem: Path,
        formats: Iterable[str],
        columns: Sequence[Column],
        files: Transaction | None = None,
        *,
        hold: bool = False,
    ) -> None:
        self._formats = tuple(dict.fromkeys(formats))
        self._kinds = {name: table_format(name) for name in self._formats}
        self._stem = stem
        self._columns = tuple(columns)
        self._owns_files = files is None
        self._files = Transaction() if files is None else files
        self._tables: dict[str, _Table] = {}
        self._waiting: list[Reading] = []
        self._rows = 0
        self._holds = hold
        self._held: HeldRows | None = None
        self._people: PeopleBySource = {}

    def __enter__(self) -> Self:
        try:
            for name in self._formats:
                path = table_path(self._stem, name)
                self._tables[name] = _Table(path, self._kinds[name], self._columns, self._files)
            if self._holds:
                with wrap_os_errors(self._stem):
                    self._held = HeldRows(self._stem.parent, schema_of(self._columns))
        except BaseException:
            self._drop()
            raise
        return self

    def write(self, readings: Iterable[Reading]) -> None:
        """Write the next rows.

        Args:
            readings: The readings, in the order of the rows.
        """
        rest = iter(readings)
        # Readings are taken one group at a time: they may be made while they are asked for.
        while group := list(islice(rest, GROUP - len(self._waiting))):
            self._waiting += group
            if len(self._waiting) == GROUP:
                self._flush()

    def set_people(self, people: PeopleBySource) -> None:
        """Say who the people of rows that are held are.

        Args:
            people: Persons by source and face; what it lacks stays empty.
        """
        self._people = people

    def copy(self, rows: Mapping[str, Any], first: int, count: int) -> None:
        """Write rows of finished tables of the same columns and formats unchanged.

        Args:
            rows: The rows by format, as `finished_rows` gives them.
            first: Number of the first row to copy.
            count: How many rows to copy.
        """
        # What was given before must come before.
        self._flush()
        self._rows += count
        for name, table in self._tables.items():
            table.copy(rows[name][first : first + count])

    def part(self, name: str) -> Path:
        """Where the table of a format lies until all files appear.

        Args:
            name: One of the formats.

        Returns:
            The temporary file; complete once the block has ended.
        """
        return self._tables[name].part

    def facts(self) -> dict[str, dict[str, object]]:
        """What tells later whether the files are still complete; known once the block has ended.

        Returns:
            The number of rows, the size in bytes and the sha256 of each file, by its name.
        """
        facts: dict[str, dict[str, object]] = {}
        for table in self._tables.values():
            name = table.path.name
            facts[name] = {"rows": self._rows, **table.facts}
        return facts

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._release()
                for table in self._tables.values():
                    table.finish()
                if self._owns_files:
                    self._files.commit()
        finally:
            self._drop()

    def _flush(self) -> None:
        if not self._waiting:
            return
        batch = batch_of(self._waiting, self._columns)
        self._rows += len(self._waiting)
        self._waiting = []
        if self._held is None:
            self._write(batch)
            return
        with wrap_os_errors(self._stem):
            self._held.add(batch)

    def _release(self) -> None:
        """Write the rows that were held."""
        if self._held is None:
            return
        with wrap_os_errors(self._stem):
            for batch in self._held.rows(self._people):
                self._write(batch)

    def _write(self, batch: pa.RecordBatch) -> None:
        for table in self._tables.values():
            table.write(batch)

    def _drop(self) -> None:
        if self._held is not None:
            self._held.close()
        for table in self._tables.values():
            table.close_quietly()
        if self._owns_files:
            self._files.drop()


class _Table:
    """One table file under its temporary name."""

    def __init__(
        self, path: Path, kind: type[Format], columns: Sequence[Column], files: Transaction
    ) -> None:
        self.path = path
        self.facts: dict[str, object] = {}
        self.part = files.add(path).part
        self._format: Format | None = None
        with wrap_os_errors(path):
            self._file: BinaryIO = self.part.open("wb")
            # The format may write a header at once, for which the disk may be full.
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
        """Complete the file, and note its size and hash."""
        assert self._format is not None
        with wrap_os_errors(self.path):
            self._format.close()
            self._file.close()
            # Read back from the disk, so that the hash is of what is there.
            with self.part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = self.part.stat().st_size
            self.facts = {"bytes": size, "sha256": digest}

    def close_quietly(self) -> None:
        """Close what is open, whatever state it is in."""
        for resource in (self._format, self._file):
            with suppress(Exception):
                if resource is not None:
                    resource.close()


def finished_rows(stem: Path, formats: Iterable[str]) -> dict[str, Any]:
    """Read the rows of finished tables, for `TableWriter.copy`.

    Args:
        stem: The path of the tables without suffix.
        formats: Their formats.

    Returns:
        The rows by format.
    """
    rows = {}
    for name in formats:
        rows[name] = table_format(name).rows(table_path(stem, name))
    return rows


def frame_of(
    readings: Iterable[Reading],
    columns: Sequence[Column],
    people: PeopleBySource | None = None,
) -> "pd.DataFrame":
    """Turn readings into a data frame.

    Args:
        readings: The readings, which become a row each.
        columns: The columns of the table.
        people: Persons by source and face, for the column `person`.

    Returns:
        A data frame with the columns' names and dtypes.
    """
    batches = [fill_people(batch, people or {}) for batch in _batches(readings, columns)]
    return to_frame(pa.Table.from_batches(batches, schema_of(columns)), columns)


def to_frame(table: pa.Table, columns: Sequence[Column]) -> "pd.DataFrame":
    """Turn an Arrow table into a data frame.

    Args:
        table: The table.
        columns: Its columns.

    Returns:
        A data frame with the columns' dtypes, text in pandas' own default.
    """
    import pandas as pd

    # Text is of type object before pandas 3, and of a type of its own since.
    text_dtype = pd.Series(["text"]).dtype
    int64_dtype: Any = pd.Int64Dtype()  # the stubs leave out what Arrow calls

    def array_of(values: pa.ChunkedArray, dtype: Dtype) -> Any:
        if dtype == "str":
            return values.to_pandas().astype(text_dtype).array
        if dtype in ("int64", "Int64"):
            integers = int64_dtype.__from_arrow__(values)
            # The cast to plain integers raises ValueError where one is missing.
            return integers if dtype == "Int64" else integers.astype(dtype)
        return values.to_numpy()

    # Column by column: for the one row of a photo, `table.to_pandas` takes twice as long.
    pairs = zip(columns, table.columns, strict=True)
    return pd.DataFrame({column.name: array_of(values, column.dtype) for column, values in pairs})


def _batches(readings: Iterable[Reading], columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    rest = iter(readings)
    while group := list(islice(rest, GROUP)):
        yield batch_of(group, columns)


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of a table.

    Args:
        columns: The columns of the table.

    Returns:
        Their names and types, in order.
    """
    return pa.schema([pa.field(column.name, ARROW[column.dtype]) for column in columns])


def described_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of a table with what its columns mean.

    Args:
        columns: The columns of the table.

    Returns:
        The schema of `schema_of` with each column's unit and meaning, which R's arrow and DuckDB
        carry along, and with pandas' metadata.
    """
    fields = []
    for field, column in zip(schema_of(columns), columns, strict=True):
        fields.append(field.with_metadata({"unit": column.unit, "meaning": column.meaning}))
    # So that `pandas.read_parquet` gives the same dtypes as `Analysis.table`.
    metadata = pa.Schema.from_pandas(frame_of([], columns), preserve_index=False).metadata
    return pa.schema(fields, metadata)

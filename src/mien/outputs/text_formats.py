"""The text formats of tables, CSV and JSON lines: one line per row, numbers of fixed precision."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
import pyarrow as pa

from mien.outputs.cells import quoted
from mien.outputs.columns import Column

__all__ = ["DIGITS", "SCORE_DIGITS", "Csv", "JsonLines"]

DIGITS: Final = {"pixels": 2, "seconds": 6}
"""Digits after the point, by unit."""
SCORE_DIGITS: Final = 5
"""Digits after the point of all other numbers."""


class _Lines(ABC):
    """A text format with one line per row. Numbers have fixed precision.

    Attributes:
        start: What a row begins with.
        separator: What stands between two values.
        end: What a row ends with.
        missing: What stands for a missing value.
    """

    start: ClassVar[str] = ""
    separator: ClassVar[str] = ""
    end: ClassVar[str] = "\n"
    missing: ClassVar[str] = ""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._file = file
        self._cells: list[str] = []
        self._missing_cells: list[str] = []
        for column in columns:
            label = self.label(column)
            self._cells.append(label.replace("%", "%%") + _number_format(column))
            self._missing_cells.append(label + self.missing)
        self._row = self.start + self.separator.join(self._cells) + self.end

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows."""
        rows = zip(*map(self._values, batch.columns), strict=True)
        lines = []
        # One `%` per row, not per cell, where no value is missing: most rows of most tables.
        for row, complete in zip(rows, _complete_rows(batch), strict=True):
            lines.append(self._row % row if complete else self._row_with_gaps(row))
        self._file.write("".join(lines).encode())

    def copy(self, rows: Sequence[bytes]) -> None:
        """Write rows of a finished table unchanged."""
        self._file.write(b"".join(rows))

    def close(self) -> None:
        """Write what is buffered; nothing else belongs at the end of text."""
        self._file.flush()

    @abstractmethod
    def label(self, column: Column) -> str:
        """What stands before each value of a column."""

    @abstractmethod
    def text(self, value: str) -> str:
        """A text as this format writes it."""

    def _values(self, array: pa.Array) -> list[Any]:
        """Python values, None where missing, text ready to be written."""
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.string())
            return list(array.to_pylist())
        values: list[Any] = array.to_pylist()
        if not pa.types.is_string(array.type):
            return values
        # Sources and statuses repeat, so their texts come from a cache.
        return [None if value is None else self.text(value) for value in values]

    def _row_with_gaps(self, row: tuple[Any, ...]) -> str:
        cells = []
        for value, cell, missing in zip(row, self._cells, self._missing_cells, strict=True):
            cells.append(missing if value is None else cell % value)
        return self.start + self.separator.join(cells) + self.end


def _number_format(column: Column) -> str:
    """The `%` format of a column's values."""
    if column.dtype.startswith("float"):
        digits = DIGITS.get(column.unit, SCORE_DIGITS)
        return f"%.{digits}f"
    return "%s" if column.dtype in ("str", "bool") else "%d"


def _complete_rows(batch: pa.RecordBatch) -> list[bool]:
    """Which rows have a value in every column."""
    complete = np.ones(batch.num_rows, bool)
    for array in batch.columns:
        if array.null_count:
            complete &= array.is_valid().to_numpy(zero_copy_only=False)
    return list(map(bool, complete))


class Csv(_Lines):
    """Comma-separated UTF-8 with a header.

    Missing values are empty, and no text is a formula (`mien.outputs.cells`).
    """

    separator = ","

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        super().__init__(file, columns)
        names = [self.text(column.name) for column in columns]
        file.write((",".join(names) + self.end).encode())

    @staticmethod
    def rows(path: Path) -> list[bytes]:
        """Read the rows of a finished table, without the header.

        Args:
            path: The table.

        Returns:
            A line per row, as bytes.
        """
        rows: list[bytes] = []
        with path.open("rb") as lines:
            for line in lines:
                row = line
                # An odd number of quotes: the line break is part of a text.
                while row.count(b'"') % 2:
                    row += next(lines)
                rows.append(row)
        return rows[1:]

    def label(self, column: Column) -> str:
        """What stands before each value: nothing, columns are known by their position.

        Args:
            column: The column of the values.

        Returns:
            An empty text.
        """
        return ""

    def text(self, value: str) -> str:
        """A text as this format writes it.

        Args:
            value: Any text.

        Returns:
            A cell, quoted where needed, and never a formula.
        """
        return quoted(value)


class JsonLines(_Lines):
    """One JSON object per line with all columns; missing values are null."""

    start = "{"
    separator = ", "
    end = "}\n"
    missing = "null"

    @staticmethod
    def rows(path: Path) -> list[bytes]:
        """Read the rows of a finished table.

        Args:
            path: The table.

        Returns:
            A line per row, as bytes.
        """
        return path.read_bytes().splitlines(keepends=True)

    def label(self, column: Column) -> str:
        """What stands before each value: its key.

        Args:
            column: The column of the values.

        Returns:
            The name of the column as a JSON string, and a colon.
        """
        return f"{json.dumps(column.name)}: "

    def text(self, value: str) -> str:
        """A text as this format writes it.

        Args:
            value: Any text.

        Returns:
            A JSON string.
        """
        return _json_string(value)


@lru_cache(maxsize=256)
def _json_string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)

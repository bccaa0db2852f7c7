"""What the flat formats of other programs share: fields that are computed from the table's."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from mien.faces.landmarks import COUNT
from mien.outputs.cells import quoted
from mien.outputs.columns import Column
from mien.outputs.text_formats import Csv

__all__ = ["FieldTable", "TextField", "decimals", "landmark_fields"]


@dataclass(frozen=True, slots=True)
class TextField:
    """One field of another program's file.

    Attributes:
        column: Its name, type, unit and meaning there.
        source: The column of mien's table that it comes from.
        text: Turns a value of that column, never a missing one, into the field's text.
    """

    column: Column
    source: str
    text: Callable[[Any], str]


def decimals(digits: int, factor: float = 1.0) -> Callable[[float], str]:
    """Make a function that writes numbers.

    Args:
        digits: Digits after the point.
        factor: What values are multiplied with first.

    Returns:
        A function from a number to its text.

    Examples:
        >>> decimals(2, factor=5)(0.5)
        '2.50'
    """

    def text(value: float) -> str:
        return f"{value * factor:.{digits}f}"

    return text


def landmark_fields(columns: Mapping[str, Column]) -> list[TextField]:
    """The fields ``x_0`` to ``x_67``, ``y_0`` to ``y_67``, as OpenFace and Py-Feat call them.

    Args:
        columns: The columns of the table by name.

    Returns:
        The fields; none where the table has no landmarks.
    """
    fields = []
    for axis in "xy":
        for number in range(COUNT):
            source = columns.get(f"landmark_{number}_{axis}")
            if source is not None:
                column = Column(f"{axis}_{number}", "float32", source.meaning, source.unit)
                fields.append(TextField(column, source.name, decimals(2)))
    return fields


class FieldTable(ABC):
    """A text file of fields, with a header; has the methods of `mien.outputs.tables.Format`.

    What is missing in the table is an empty field: never a zero, which would be a measurement.

    Attributes:
        suffix: What its file's name ends with, after the stem and a point.
        separator: What stands between two cells.
    """

    suffix: ClassVar[str] = ""
    separator: ClassVar[str] = ","

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._file = file
        self._fields = self.fields({column.name: column for column in columns})
        names = [quoted(field.column.name) for field in self._fields]
        file.write((self.separator.join(names) + "\n").encode())

    @classmethod
    @abstractmethod
    def fields(cls, columns: dict[str, Column]) -> list[TextField]:
        """The fields that a table gives.

        Args:
            columns: The columns of the table by name.

        Returns:
            The fields in the order of the file.
        """

    @staticmethod
    def rows(path: Path) -> list[bytes]:
        """Read the rows of a finished table, without the header.

        Args:
            path: The table.

        Returns:
            A line per row, as bytes.
        """
        return Csv.rows(path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the next rows.

        Args:
            batch: The rows, with the columns of the table.
        """
        cells = []
        for field in self._fields:
            values = batch.column(field.source).to_pylist()
            cells.append(["" if value is None else field.text(value) for value in values])
        lines = [self.separator.join(row) + "\n" for row in zip(*cells, strict=True)]
        self._file.write("".join(lines).encode())

    def copy(self, rows: Sequence[bytes]) -> None:
        """Write rows of a finished table unchanged.

        Args:
            rows: A slice of what `rows` gave.
        """
        self._file.write(b"".join(rows))

    def close(self) -> None:
        """Write what is buffered; the file stays open."""
        self._file.flush()

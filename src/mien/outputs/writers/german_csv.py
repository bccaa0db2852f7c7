"""CSV for spreadsheets of countries that write a decimal comma."""

import codecs
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, ClassVar

from mien.outputs.cells import quoted
from mien.outputs.columns import Column
from mien.outputs.text_formats import DIGITS, SCORE_DIGITS
from mien.outputs.writers.fields import FieldTable, TextField

__all__ = ["GermanCsv"]


class GermanCsv(FieldTable):
    """The whole table with semicolons between cells and a comma in numbers.

    It begins with a byte order mark, without which Excel takes UTF-8 for something else.
    R reads it with ``read.csv2(…, fileEncoding = "UTF-8-BOM")``, pandas with
    ``read_csv(…, sep=";", decimal=",")``.
    """

    suffix: ClassVar[str] = "de.csv"
    separator: ClassVar[str] = ";"

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        file.write(codecs.BOM_UTF8)
        super().__init__(file, columns)

    @classmethod
    def fields(cls, columns: dict[str, Column]) -> list[TextField]:
        """The fields that a table gives: all of its columns.

        Args:
            columns: The columns of the table by name.

        Returns:
            The fields in the order of the table.
        """
        return [TextField(column, name, _text_of(column)) for name, column in columns.items()]


def _text_of(column: Column) -> Callable[[Any], str]:
    """How the values of a column are written."""
    if column.dtype == "str":
        return quoted
    if not column.dtype.startswith("float"):
        return str
    digits = DIGITS.get(column.unit, SCORE_DIGITS)
    return lambda value: f"{value:.{digits}f}".replace(".", ",")

"""Excel workbooks: the table on one sheet, its data dictionary on another."""

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.errors import MissingExtraError, TableError
from mien.exports.recording import Recording

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_workbook", "sheet_bytes", "workbook_bytes"]

# Of a sheet, with its header; and characters of a cell.
_MOST_ROWS: Final = 1_048_576
_MOST_COLUMNS: Final = 16_384
_MOST_CHARACTERS: Final = 32_767
# Rows that are turned into cells together.
_CHUNK: Final = 5000


def check_workbook(recording: Recording) -> None:
    """Refuse what a sheet cannot hold.

    Args:
        recording: The table.

    Raises:
        TableError: It has too many rows or columns.
    """
    rows, columns = recording.table.shape
    if rows >= _MOST_ROWS or columns > _MOST_COLUMNS:
        raise TableError(
            f"{recording.path}: has {rows:,} rows and {columns:,} columns, an Excel sheet takes "
            f"{_MOST_ROWS - 1:,} and {_MOST_COLUMNS:,}; choose parquet, or convert parts of it"
        )


def workbook_bytes(recording: Recording) -> bytes:
    """A workbook with the sheets ``table`` and ``dictionary``.

    Args:
        recording: The table.

    Returns:
        The .xlsx file. Missing values are empty cells, and no text is a formula.

    Raises:
        TableError: A sheet cannot hold the table.
        MissingExtraError: openpyxl is not installed.
    """
    check_workbook(recording)
    entries: list[list[Any]] = [["column", "type", "unit", "lowest", "highest", "meaning"]]
    for column in recording.columns:
        limits = [column.low, column.high]
        entries.append([column.name, column.dtype, column.unit, *limits, column.meaning])
    return sheet_bytes({"table": _rows(recording), "dictionary": entries}, recording.path)


def sheet_bytes(sheets: Mapping[str, Iterable[Iterable[Any]]], path: Path) -> bytes:
    """A workbook of these sheets.

    Args:
        sheets: Rows by the name of the sheet, the header first; None is an empty cell.
        path: The table they come from, for messages.

    Returns:
        The .xlsx file.

    Raises:
        TableError: A text is too long, or holds characters that the format cannot have.
        MissingExtraError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.utils.exceptions import IllegalCharacterError
    except ImportError as error:
        raise MissingExtraError("exports", "writing Excel files") from error
    # Without holding all cells in memory.
    book = Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        # The header stays in view.
        sheet.freeze_panes = "A2"
        for row in rows:
            try:
                sheet.append([_cell(value, sheet, path) for value in row])
            except IllegalCharacterError as error:
                raise TableError(
                    f"{path}: holds a control character, which Excel files cannot have; "
                    "rename the input, or choose parquet"
                ) from error
    file = BytesIO()
    book.save(file)
    return file.getvalue()


def _cell(value: Any, sheet: Any, path: Path) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > _MOST_CHARACTERS:
        raise TableError(
            f"{path}: holds a text of {len(value):,} characters, a cell takes "
            f"{_MOST_CHARACTERS:,}; choose parquet"
        )
    if not value.startswith("="):
        return value
    from openpyxl.cell import WriteOnlyCell

    # A text that begins with = would be a formula; as a string it is only shown.
    cell = WriteOnlyCell(sheet, value)
    cell.data_type = "s"
    return cell


def _rows(recording: Recording) -> Iterable[list[Any]]:
    """The header and the rows as Python values, None where missing."""
    yield list(recording.table.columns)
    # As Python's numbers an hour of several people would fill the memory.
    for first in range(0, len(recording.table), _CHUNK):
        yield from _chunk(recording.table.iloc[first : first + _CHUNK])


def _chunk(table: "pd.DataFrame") -> Iterator[list[Any]]:
    """Rows as Python values, None where missing."""
    columns = []
    for name in table.columns:
        values = table[name]
        present = values.notna().to_numpy()
        if values.dtype.kind == "f":
            # A float32 carries 7 digits; further ones would come from its conversion.
            digits = 9 if values.dtype == np.float64 else 7
            cells = [float(f"{value:.{digits}g}") for value in values.to_numpy()]
        else:
            cells = values.to_numpy(object).tolist()
        columns.append(
            [cell if is_there else None for cell, is_there in zip(cells, present, strict=True)]
        )
    for row in zip(*columns, strict=True):
        yield list(row)

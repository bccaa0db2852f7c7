"""The data dictionary beside a table: what every column means, and where the numbers came from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import mien
from mien.files import atomic_write
from mien.outputs.columns import Column
from mien.records import STATUSES

__all__ = ["EDITION", "dictionary_bytes", "write_dictionary"]

EDITION = 2
"""Version of the dictionary's form; the first had no number."""


def write_dictionary(
    path: str | Path, columns: Sequence[Column], facts: Mapping[str, object]
) -> None:
    """Write the dictionary of a table as JSON, complete or not at all.

    Args:
        path: The file to write.
        columns: The columns of the table.
        facts: What the columns do not say: the sources, the bundle's name and sha256, the options;
            whatever JSON can hold.

    Raises:
        OutputError: The file cannot be written.
    """
    atomic_write(Path(path), dictionary_bytes(columns, facts))


def dictionary_bytes(columns: Sequence[Column], facts: Mapping[str, object]) -> bytes:
    """The content of a dictionary's file.

    Args:
        columns: The columns of the table.
        facts: What the columns do not say; see `write_dictionary`.

    Returns:
        JSON, UTF-8.
    """
    content = {
        "dictionary": EDITION,
        "mien": mien.__version__,
        **facts,
        "columns": [_entry(column) for column in columns],
        "statuses": {status.value: meaning for status, meaning in STATUSES.items()},
    }
    # NaN is no JSON, though Python would write it.
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _entry(column: Column) -> dict[str, object]:
    has_range = column.low is not None or column.high is not None
    return {
        "name": column.name,
        "dtype": column.dtype,
        "unit": column.unit or None,
        "range": [column.low, column.high] if has_range else None,
        "task": column.task.key if column.task else None,
        "fwhm_s": column.fwhm_s,
        "meaning": column.meaning,
    }

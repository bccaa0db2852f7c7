"""The data dictionary beside a table: what every column means, and what the numbers came from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import mien
from mien.files import atomic_write
from mien.outputs.columns import Column
from mien.records import STATUSES

__all__ = ["EDITION", "dictionary_bytes", "write_dictionary"]

EDITION = 2
"""Of the dictionary's form; the first had no number."""


def write_dictionary(
    path: str | Path, columns: Sequence[Column], facts: Mapping[str, object]
) -> None:
    """Write the dictionary of a table with these columns as JSON, complete or not at all.

    facts: what the columns cannot know: the source, the bundle's name and sha256, the options. They must fit in JSON.
    Raises OutputError when the file cannot be written.
    """
    atomic_write(Path(path), dictionary_bytes(columns, facts))


def dictionary_bytes(columns: Sequence[Column], facts: Mapping[str, object]) -> bytes:
    """The dictionary of a table, as it stands in its file; see `write_dictionary`."""
    page = {
        "dictionary": EDITION,
        "mien": mien.__version__,
        **facts,
        "columns": [_entry(column) for column in columns],
        "statuses": {status.value: meaning for status, meaning in STATUSES.items()},
    }
    return (json.dumps(page, indent=2, allow_nan=False) + "\n").encode()


def _entry(column: Column) -> dict[str, object]:
    bounded = column.low is not None or column.high is not None
    return {
        "name": column.name,
        "dtype": column.dtype,
        "unit": column.unit or None,
        "range": [column.low, column.high] if bounded else None,
        "task": column.task.key if column.task else None,
        "fwhm_s": column.fwhm_s,
        "meaning": column.meaning,
    }

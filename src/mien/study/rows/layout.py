"""What a table of rows is made of: its keys, its scores, its recordings."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pandas as pd

from mien.errors import StudyError

__all__ = [
    "KEYS",
    "MEASURED",
    "SUFFIXES",
    "label",
    "require_columns",
    "score_columns",
    "streams",
    "without_attributes",
]

KEYS: Final = ("participant", "condition", "session", "recording")
"""What every row of every table of a study begins with."""
MEASURED: Final = ("ok", "gap", "doubtful")
"""Statuses of rows that carry scores."""
SUFFIXES: Final = ("_corrected", "_z", "_change", "_z_change")
"""Ends of the names of columns that are computed from scores, beside these."""
_SCORE: Final = re.compile(
    rf"(valence|arousal|AU\d\d|(expr|ce)_[a-z_]+?)(?P<suffix>{'|'.join(SUFFIXES)})?"
)


def score_columns(columns: Iterable[str], *, computed: bool = True) -> list[str]:
    """The columns of a table that hold scores: expressions, valence and arousal, action units.

    Args:
        columns: Names of columns.
        computed: Whether to list columns that were computed from scores as well (`SUFFIXES`).

    Returns:
        Their names, in the order of the table; none of scores before smoothing (``_raw``).

    >>> score_columns(["face", "valence", "AU12", "AU12_raw", "AU12_corrected", "expr_neutral"])
    ['valence', 'AU12', 'AU12_corrected', 'expr_neutral']
    """
    names = []
    for column in columns:
        match = _SCORE.fullmatch(column)
        if match is None or column.endswith("_raw"):
            continue
        if computed or match["suffix"] is None:
            names.append(column)
    return names


def require_columns(table: pd.DataFrame, names: Sequence[str], what: str, then: str) -> None:
    """Check that a table has the columns that a step reads.

    Args:
        table: The table.
        names: Names of columns.
        what: What the table is called in the message.
        then: The next step, the end of the message.

    Raises:
        StudyError: A column is missing.
    """
    missing = [name for name in names if name not in table]
    if missing:
        raise StudyError(f"{what} has no column {', '.join(missing)}; {then}")


def streams(rows: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Each participant in each recording, in the order of the table.

    Args:
        rows: Rows of a study; see `mien.study.rows.people.participant_rows`.

    Yields:
        The keys by name, and their rows in order of time.

    Raises:
        StudyError: A key is missing from the table, or time runs backwards.
    """
    then = "make rows with `mien study rows` first"
    require_columns(rows, [*KEYS, "time_s", "duration_s"], "the table", then)
    for values, part in rows.groupby(list(KEYS), sort=False, dropna=False):
        keys = {name: str(value) for name, value in zip(KEYS, values, strict=True)}
        if not part["time_s"].is_monotonic_increasing:
            raise StudyError(f"{label(keys)}: time runs backwards; sort the rows by time_s")
        yield keys, part


def label(keys: dict[str, str]) -> str:
    """Name a participant in a recording, for messages.

    Args:
        keys: The keys by name; those that are empty are left out.

    Returns:
        Such as ``participant 01, recording sub-01_rest``.

    >>> label({"participant": "01", "condition": "", "recording": "a"})
    'participant 01, recording a'
    """
    return ", ".join(f"{name} {value}" for name, value in keys.items() if value)


def without_attributes(table: pd.DataFrame) -> pd.DataFrame:
    """A shallow copy that pandas handles fast.

    Args:
        table: A table, perhaps with its dictionary in ``.attrs``, which pandas would copy deeply
            with every operation.

    Returns:
        The same data without ``.attrs``.
    """
    copy = table.copy(deep=False)
    copy.attrs = {}
    return copy

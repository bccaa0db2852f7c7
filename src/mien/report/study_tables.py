"""The tables of a study that its page shows."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.outputs.read import read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["study_tables"]

# What a page shows of dozens of measures.
_MAIN: Final = re.compile(
    r"(?:valence|arousal)(?:_corrected|_z)?_mean|usable_share|(?:smile|blink)_per_min|"
    r"expr_[a-z_]+(?<!_label)(?<!_present)_share"
)
_MOST_ROWS: Final = 60
_TABLES: Final = (
    (
        "contrasts",
        "Contrasts",
        "Differences within people, b minus a, with 95 % intervals by bootstrap over people.",
    ),
    ("groups", "Groups", "Means over people, with 95 % intervals by bootstrap over people."),
    ("synchrony", "Synchrony", "Windowed lagged cross-correlation, against surrogates."),
)


def study_tables(folder: Path) -> list[dict[str, Any]]:
    """Read what `mien study run` left in a folder.

    Args:
        folder: The folder of the study.

    Returns:
        ``title``, ``note``, ``names`` of columns and ``rows`` of each table that is there: at most
        60 rows, and where there are more, those of the main measures.

    Raises:
        TableError: A table is damaged.
    """
    tables = []
    for name, title, what in _TABLES:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            continue
        table = read_table(path)
        count = len(table)
        if "measure" in table and count > _MOST_ROWS:
            table = table[table["measure"].str.fullmatch(_MAIN)]
        table = table.head(_MOST_ROWS)
        note = what
        if len(table) < count:
            note += f" Shown are {len(table)} of {count} rows; all are in {path.name}."
        if not table.empty:
            names = [str(column).replace("_", " ") for column in _filled(table)]
            rows = _cells(table[_filled(table)])
            tables.append({"title": title, "note": note, "names": names, "rows": rows})
    return tables


def _filled(table: "pd.DataFrame") -> list[str]:
    """Columns that say something: a study may have no sessions."""
    return [str(name) for name in table if not (table[name].isna() | (table[name] == "")).all()]


def _cells(table: "pd.DataFrame") -> list[list[str]]:
    rows = []
    for values in table.itertuples(index=False):
        rows.append([_cell(value) for value in values])
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3g}".replace("-", "−")
    return str(value).replace("_", " ")

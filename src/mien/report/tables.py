"""The tables of recordings below a folder."""

import json
from pathlib import Path
from typing import Final

from mien.errors import TableError

__all__ = ["table_beside", "tables_below"]

_ENDING: Final = ".dictionary.json"
# Parquet keeps every digit and is read fastest.
_PREFERRED: Final = (".parquet", ".csv", ".jsonl")


def tables_below(path: Path) -> list[Path]:
    """The tables of what was analysed, one for each recording.

    Args:
        path: A folder that `mien analyze` wrote into, or a table.

    Returns:
        The tables in the order of their paths; of several formats the one that is read fastest.
        Tables of a study, which are not about one input, and converted ones are no such tables.

    Raises:
        TableError: There is no table.
    """
    if not path.is_dir():
        return [path]
    tables = []
    for dictionary in sorted(path.rglob(f"*{_ENDING}")):
        table = table_beside(dictionary)
        if table is not None:
            tables.append(table)
    if not tables:
        raise TableError(
            f"{path}: holds no table of a recording; name a folder that `mien analyze` wrote into"
        )
    return tables


def table_beside(dictionary: Path) -> Path | None:
    """The table of a recording by its dictionary.

    Args:
        dictionary: The dictionary.

    Returns:
        The table, of several formats the one that is read fastest; None where it is missing, or the
        dictionary is that of something else.
    """
    try:
        content = json.loads(dictionary.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("tables"), dict):
        return None
    entries = content.get("columns")
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)] if entries else []
    # Rows of a study are about participants, and come from these tables.
    if "source" not in names:
        return None
    stem = dictionary.name.removesuffix(_ENDING)
    for suffix in _PREFERRED:
        table = dictionary.with_name(f"{stem}{suffix}")
        if table.is_file() and table.name in content["tables"]:
            return table
    return None

"""How a recording is named in addresses: by a hash of where its table lies, never by a path."""

import hashlib
from pathlib import Path

__all__ = ["recording_id"]


def recording_id(root: Path, table: Path) -> str:
    """Name the recording of a table.

    Args:
        root: The workspace.
        table: The table, somewhere below it.

    Returns:
        Sixteen hexadecimal digits, the same for as long as the table keeps its place.

    >>> recording_id(Path("/home/ann/mien"), Path("/home/ann/mien/results/clip.parquet"))
    '4b2673336451b09e'
    """
    place = table.relative_to(root).as_posix()
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]

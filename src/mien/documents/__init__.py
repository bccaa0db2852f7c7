"""Files that people and strangers wrote, JSON and YAML: read once, strictly, and within bounds."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from mien.errors import DataError, MienError

__all__ = ["at_home", "check_json", "read_bounded"]


def read_bounded(path: Path, most: int, kind: type[MienError], then: str) -> bytes:
    """Read a regular file of a bounded size.

    Symbolic links are followed. It never waits for a pipe, and reads nothing of a device or of a
    file that is too large.

    Args:
        path: The file.
        most: Largest permitted size in bytes.
        kind: The class of the error to raise.
        then: The next step, the end of the message.

    Returns:
        The content.

    Raises:
        MienError: Of that kind: the file is missing, cannot be read, is no regular file, or is
            too large.
    """
    try:
        # Before it is opened, as opening some devices does something.
        _check_status(os.stat(path), path, most, kind, then)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
        with open(descriptor, "rb") as source:
            # Again, as another file may have taken its place.
            status = os.fstat(descriptor)
            _check_status(status, path, most, kind, then)
            return source.read(status.st_size)
    except MemoryError as error:
        raise kind(
            f"{path}: this machine has not enough memory to hold it; "
            "end other programs, or use a smaller one"
        ) from error
    # ValueError is for a name with a null character in it.
    except (OSError, ValueError) as error:
        raise kind(f"{path}: {getattr(error, 'strerror', None) or error}; {then}") from error


def _check_status(
    status: os.stat_result, path: Path, most: int, kind: type[MienError], then: str
) -> None:
    """Raise the error unless it is a regular file of at most `most` bytes."""
    if stat.S_ISDIR(status.st_mode):
        raise kind(f"{path}: a folder, not a file; {then}")
    if not stat.S_ISREG(status.st_mode):
        raise kind(f"{path}: no regular file; {then}")
    if status.st_size > most:
        raise kind(f"{path}: {status.st_size} bytes, more than it can have ({most}); {then}")


def at_home(path: str | Path, where: str = "") -> Path:
    """Replace a leading ``~`` by a home folder.

    Args:
        path: A path.
        where: What the message begins with, such as the key that holds the path.

    Returns:
        The path.

    Raises:
        DataError: The user that the path names has no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        prefix = f"{where}: " if where else ""
        raise DataError(
            f"{prefix}{path}: no home folder of that user is known; write the path in full"
        ) from error


def check_json(content: bytes | str) -> None:
    """Check that JSON means the same to every reader.

    Args:
        content: The JSON.

    Raises:
        ValueError: A key comes twice (the message names it), a number is NaN or infinite, it is
            nested too deep, or it is no JSON.
    """
    try:
        json.loads(content, object_pairs_hook=_refuse_repeats, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("lists and sections in one another without end") from error


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys: set[str] = set()
    for key, _ in pairs:
        if key in keys:
            raise ValueError(f"{key}: given twice; keep one")
        keys.add(key)
    return dict(pairs)


def _refuse_constant(text: str) -> None:
    """Refuse NaN and Infinity, which Python's reader takes and JSON does not have."""
    raise ValueError(f"{text} is no number of JSON")

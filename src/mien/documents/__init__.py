"""Files that people and strangers wrote, JSON and YAML: read once, strictly, and within bounds that are known before."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from mien.errors import DataError, MienError

__all__ = ["at_home", "check_json", "read_bounded"]


def read_bounded(path: Path, most: int, kind: type[MienError], then: str) -> bytes:
    """The content of a regular file of at most so many bytes.

    Links are followed to what they stand for. Nothing waits for a pipe, and nothing is read of a device or of what is too large.

    Args:
        path: The file.
        most: Bytes it may have.
        kind: What is raised.
        then: The next step, the end of the message.

    Raises:
        MienError: Of that kind: it is not there, cannot be read, is no regular file, or is too large.
    """
    try:
        facts = os.stat(path)  # before it is opened, for opening some devices does something
        if why := _irregular(facts, most):
            raise kind(f"{path}: {why}; {then}")
        number = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        with open(number, "rb") as source:
            facts = os.fstat(number)
            if why := _irregular(facts, most):  # another may have taken its place
                raise kind(f"{path}: {why}; {then}")
            return source.read(facts.st_size)
    except MemoryError as error:
        raise kind(
            f"{path}: this machine has not memory enough to hold it; end other programs, or use a smaller one"
        ) from error
    except (OSError, ValueError) as error:  # ValueError for a name with a null in it
        raise kind(f"{path}: {getattr(error, 'strerror', None) or error}; {then}") from error


def _irregular(facts: os.stat_result, most: int) -> str:
    """What keeps it from being read; nothing for a regular file of at most so many bytes."""
    if not stat.S_ISREG(facts.st_mode):
        return "a folder, not a file" if stat.S_ISDIR(facts.st_mode) else "no regular file"
    return f"{facts.st_size} bytes, more than it can have ({most})" if facts.st_size > most else ""


def at_home(path: str | Path, where: str = "") -> Path:
    """The path, with ``~`` replaced by a home folder; raises DataError, which begins with `where`, for a user who has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{where + ': ' if where else ''}{path}: no home folder of that user is known; write the path in full"
        ) from error


def check_json(content: bytes | str) -> None:
    """Raises ValueError, which names the key, for JSON that holds a key twice, NaN, or what is nested too deep, and for what is no JSON."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(
                f"{next(key for key in keys if keys.count(key) > 1)}: given twice; keep one"
            )
        return found

    def no_number(text: str) -> None:
        raise ValueError(f"{text} is no number of JSON")

    try:
        json.loads(content, object_pairs_hook=once, parse_constant=no_number)
    except RecursionError as error:
        raise ValueError("lists and sections in one another without end") from error

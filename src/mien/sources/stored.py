"""What an input is stored in: a file on disk, or bytes of Python, an open file or a pipe."""

import io
import mmap
import os
import sys
import tempfile
from functools import cache
from typing import IO, Any, BinaryIO, Final

from mien.errors import SourceError

__all__ = [
    "MAX_IN_MEMORY",
    "Stored",
    "content_of",
    "head",
    "is_open_file",
    "open_stored",
    "spool",
    "standard_input",
]

Stored = str | memoryview
"""An absolute path, or the whole content."""

MAX_IN_MEMORY: Final = 64 << 20
"""Longer content is kept in a temporary file without a name, bytes."""
_CHUNK: Final = 1 << 20


class _View(io.RawIOBase):
    """Reads bytes without copying them; several such readers may share the same bytes."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._data)}
        position = starts[whence] + offset
        if position < 0:
            raise OSError("cannot seek before the beginning")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def open_stored(stored: Stored) -> BinaryIO:
    """Open the content.

    Args:
        stored: A path, or the content.

    Returns:
        A new binary reader, at its beginning.

    Raises:
        OSError: The file cannot be opened.
    """
    if isinstance(stored, str):
        return open(stored, "rb")
    return io.BufferedReader(_View(stored))


def head(stored: Stored, count: int) -> bytes:
    """Read the first bytes.

    Args:
        stored: A path, or the content.
        count: How many bytes, at most.

    Returns:
        The bytes; fewer where the content is shorter.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(stored, memoryview):
        return bytes(stored[:count])
    with open(stored, "rb") as file:
        return file.read(count)


def is_open_file(item: object) -> bool:
    """Whether something can be read like an open file.

    Args:
        item: Anything.

    Returns:
        Whether it has a method ``read``.
    """
    return callable(getattr(item, "read", None))


def spool(name: str, file: IO[Any]) -> memoryview:
    """Read the rest of an open binary file.

    Args:
        name: What errors call it.
        file: The open file.

    Returns:
        The bytes, in memory; where there are many, mapped from a temporary file without a name.

    Raises:
        SourceError: It is open as text, or cannot be read.
    """
    with tempfile.SpooledTemporaryFile(MAX_IN_MEMORY) as spooled:
        _copy(name, file, spooled)
        return content_of(spooled)


def content_of(spooled: "tempfile.SpooledTemporaryFile[bytes]") -> memoryview:
    """The content of a temporary file, which outlives it.

    Args:
        spooled: The file, written to its end.

    Returns:
        The bytes, in memory or mapped.
    """
    size = spooled.tell()
    spooled.seek(0)
    if size <= MAX_IN_MEMORY:
        return memoryview(spooled.read())
    return memoryview(mmap.mmap(spooled.fileno(), 0, access=mmap.ACCESS_READ))


def _copy(name: str, file: IO[Any], spooled: IO[bytes]) -> None:
    as_text = f"{name}: is open as text; open it in binary mode ('rb')"
    try:
        while chunk := file.read(_CHUNK):
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise SourceError(as_text)
            spooled.write(chunk)
    except UnicodeDecodeError as error:
        raise SourceError(as_text) from error
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{name}: cannot be read ({error}); give the path, or the bytes"
        ) from error


@cache
def standard_input() -> memoryview:
    """Read all of standard input. It can be read only once, so the answer is kept.

    Returns:
        The bytes.

    Raises:
        SourceError: It is a terminal, or cannot be read.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError(
            "-: standard input is a terminal; pipe a file into it, "
            "as in: mien analyze - --out results < film.mp4"
        )
    return spool("-", sys.stdin.buffer)

"""What an input is stored in: a file on disk, or bytes in memory (from Python, an open file or standard input)."""

import io
import mmap
import os
import sys
import tempfile
from functools import cache
from typing import IO, Any, BinaryIO, Final

from mien.errors import SourceError

__all__ = ["Stored", "head", "is_open_file", "open_stored", "spool", "standard_input"]

Stored = str | memoryview
"""An absolute path, or the whole content."""

_IN_MEMORY: Final = 64 << 20  # bytes; what is longer waits in a temporary file without a name
_CHUNK: Final = 1 << 20


class _View(io.RawIOBase):
    """A reader of its own over bytes that stay where they are, so that several may read them at once."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        if start + offset < 0:
            raise OSError("cannot seek before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def open_stored(stored: Stored) -> BinaryIO:
    """A new binary reader over the content, from its beginning. Raises OSError."""
    return open(stored, "rb") if isinstance(stored, str) else io.BufferedReader(_View(stored))


def head(stored: Stored, count: int) -> bytes:
    """The first bytes, at most `count`. Raises OSError."""
    if isinstance(stored, memoryview):
        return bytes(stored[:count])
    with open(stored, "rb") as file:
        return file.read(count)


def is_open_file(item: object) -> bool:
    """Whether something can be read like an open file."""
    return callable(getattr(item, "read", None))


def spool(name: str, file: IO[Any]) -> memoryview:
    """The rest of an open binary file: in memory, or where it is long in a temporary file that no name leads to.

    Raises SourceError for a text file and where it cannot be read.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spooled:
        try:
            while chunk := file.read(_CHUNK):
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise SourceError(f"{name}: is open as text; open it in binary mode ('rb')")
                spooled.write(chunk)
        except UnicodeDecodeError as error:
            raise SourceError(f"{name}: is open as text; open it in binary mode ('rb')") from error
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{name}: cannot be read ({error}); give the path, or the bytes"
            ) from error
        size = spooled.tell()
        spooled.seek(0)
        if size <= _IN_MEMORY:
            return memoryview(spooled.read())
        return memoryview(mmap.mmap(spooled.fileno(), 0, access=mmap.ACCESS_READ))


@cache
def standard_input() -> memoryview:
    """All of standard input; read once, since it can be read only once. Raises SourceError for a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError(
            "-: standard input is a terminal; pipe a file into it, as in: mien analyze - --out results < film.mp4"
        )
    return spool("-", sys.stdin.buffer)

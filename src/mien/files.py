"""Files that are complete or absent: written aside, flushed to the disk, then renamed into place."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from mien.errors import OutputError

__all__ = ["LOST_WORKER", "Aside", "explained", "write_aside"]

LOST_WORKER: Final = (
    "a worker process ended by itself, perhaps for want of memory; what is finished is kept; use fewer workers, and in a "
    'script call this under `if __name__ == "__main__":`'
)
"""What to say where a process that makes files is gone."""

_CHOOSE = "choose a folder you may write to"
_STEPS: Final[dict[int | None, str]] = {
    errno.ENOSPC: "free some space there or choose another folder",
    errno.EDQUOT: "free some space there or choose another folder",
    errno.EFBIG: "choose a folder that takes files of this size",
    errno.EACCES: _CHOOSE,
    errno.EPERM: _CHOOSE,
    errno.EROFS: _CHOOSE,
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "move that folder away or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError inside into an OutputError that says what, where, and the next step."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error).partition("\n")[0]
        raise OutputError(f"{path}: cannot be written ({why}); {_STEPS.get(error.errno, 'check the folder and the disk')}") from error


class Aside:
    """An output file under a temporary name, ``.<name>.part`` in its final folder.

    As a context manager it gives the temporary path, renames the file when left in peace and removes it otherwise; a killed
    process leaves the hidden file, which the next run overwrites. `keep` and `place` are the two halves of the
    renaming, for files that must appear together. `begin`, `keep` and `place` raise OutputError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.part")

    def __enter__(self) -> Path:
        self.begin()
        return self.part

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.keep()
                self.place()
        finally:
            self.drop()

    def begin(self) -> None:
        """Make an empty temporary file, to learn early whether the folder can be written to."""
        with explained(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self.part.open("wb").close()

    def keep(self) -> None:
        """Wait until what was written is on the disk."""
        with explained(self.path), self.part.open("rb+") as file:
            os.fsync(file.fileno())

    def place(self) -> None:
        """Give the file its final name, in place of an older one."""
        with explained(self.path):
            os.replace(self.part, self.path)

    def drop(self) -> None:
        """Remove the temporary file; nothing happens once it is in place."""
        with suppress(OSError):
            self.part.unlink(missing_ok=True)


def write_aside(path: Path, data: bytes) -> None:
    """Write a small file in one go, complete or not at all; raises OutputError."""
    with Aside(path) as part, explained(path):
        part.write_bytes(data)

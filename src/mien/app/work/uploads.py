"""Films and photos that are sent: written as they come, complete or absent."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import IO, Final, Self

from pydantic import BaseModel

from mien.app.errors import FullDiskError, InvalidError, TooLargeError
from mien.app.work.places import kind_of
from mien.batch.names import portable
from mien.errors import OutputError
from mien.files import AtomicFile, wrap_os_errors

__all__ = ["Upload", "Uploaded"]

# Two uploads of the same name must not choose the same free one.
_placing: Final = Lock()
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Uploaded(BaseModel):
    """A file that was sent.

    Attributes:
        path: Its absolute path.
        name: Its name, which need not be the one that was asked for.
        size: Bytes.
    """

    path: str
    name: str
    size: int


class Upload:
    """A file while it is being sent; a context manager, which leaves nothing half-written.

    Args:
        folder: Where it goes.
        name: What it is called; made safe.
        expected: How many bytes are announced; None where none are.
        most: How many bytes are taken; None for any number.

    Raises:
        InvalidError: Its name is none of a film or a photo.
        TooLargeError: It is announced to be larger than is taken.
        FullDiskError: It is announced to be larger than the disk has room for.
    """

    def __init__(
        self, folder: Path, name: str, expected: int | None = None, most: int | None = None
    ) -> None:
        self._name = portable(name)
        if kind_of(self._name) == "other":
            raise InvalidError(
                f"{name}: is no film or photo that mien reads; choose a file such as clip.mp4 or "
                "face.jpg"
            )
        self._folder = folder
        self._most = most
        self._size = 0
        self._check_size(expected or 0)
        with _full_disk_explained(folder, name), wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if (expected or 0) > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, "No space left on device")
        self._file: IO[bytes] | None = None
        self._part = AtomicFile(folder / self._name)

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Make the file, still under a temporary name.

        Raises:
            FullDiskError: The disk has no room for it.
            OutputError: The folder cannot be written to.
        """
        with _full_disk_explained(self._folder, self._name):
            self._part.begin()
            with wrap_os_errors(self._part.path):
                self._file = self._part.part.open("wb")

    def __exit__(self, *_: object) -> None:
        try:
            if self._file is not None:
                # On a full disk what is still buffered cannot be written, and need not be.
                with suppress(OSError):
                    self._file.close()
        finally:
            self._part.drop()

    def write(self, data: bytes) -> None:
        """Write what has come.

        Args:
            data: The next bytes.

        Raises:
            TooLargeError: They are more than are taken.
            FullDiskError: The disk has no room for them.
            OutputError: They cannot be written for another reason.
        """
        assert self._file is not None
        self._check_size(self._size + len(data))
        self._size += len(data)
        with _full_disk_explained(self._folder, self._name), wrap_os_errors(self._part.path):
            self._file.write(data)

    def finish(self) -> Uploaded:
        """Give the file its name.

        Returns:
            The file, under its own name or one with a number.

        Raises:
            InvalidError: It is empty.
            FullDiskError: The disk has no room for it.
            OutputError: It cannot be written for another reason.
        """
        assert self._file is not None
        if self._size == 0:
            raise InvalidError(f"{self._name}: is empty; choose a file that holds a picture")
        with _full_disk_explained(self._folder, self._name):
            with wrap_os_errors(self._part.path):
                self._file.close()
            self._part.keep()
            with _placing:
                self._part.path = _free(self._folder, self._name)
                self._part.place()
        path = self._part.path
        return Uploaded(path=str(path), name=path.name, size=self._size)

    def _check_size(self, size: int) -> None:
        if self._most is not None and size > self._most:
            raise TooLargeError(
                f"{self._name}: is larger than the {self._most / 1e6:.0f} MB that are taken; send "
                "a shorter film, or start the server with a larger limit"
            )


def _free(folder: Path, name: str) -> Path:
    """A path that no file has: the name itself, or with a number before its suffix."""
    path = folder / name
    number = 2
    while path.exists() or path.is_symlink():
        given = Path(name)
        path = folder / f"{given.stem} ({number}){given.suffix}"
        number += 1
    return path


@contextmanager
def _full_disk_explained(folder: Path, name: str) -> Iterator[None]:
    """Tell a full disk from other reasons why a file cannot be written.

    Raises:
        FullDiskError: The disk is full.
    """
    try:
        yield
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
            raise FullDiskError(
                f"{name}: the disk of {folder} has no room for it; free some space, then send it "
                "again"
            ) from error
        raise

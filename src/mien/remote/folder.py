"""A folder of results at an address: files are read, written whole, and made at most once."""

from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from mien.errors import OutputError
from mien.files import part_of
from mien.remote.access import RemoteFile, list_folder, open_system, wrap_remote_errors
from mien.remote.address import absolute, scheme

__all__ = ["RemoteFolder"]

# Whole objects appear at once there, and folders are only the beginnings of names.
_OBJECT_STORES: Final = frozenset(
    {"abfs", "abfss", "az", "gcs", "gs", "memory", "oci", "oss", "s3", "s3a"}
)


class RemoteFolder:
    """A folder at an address; names are paths below it, with ``/``.

    Attributes:
        address: The address, without a slash at its end.
    """

    def __init__(self, address: str) -> None:
        """Open the folder's file system.

        Args:
            address: The address.

        Raises:
            OutputError: It cannot be opened.
        """
        self.address = absolute(address)
        with self._wrapped("", "written"):
            self._system, self._root = open_system(address)
        self._has_objects = scheme(address) in _OBJECT_STORES

    def at(self, name: str) -> str:
        """The address of a file.

        Args:
            name: Its name.

        Returns:
            The address.
        """
        return f"{self.address}/{name}" if name else self.address

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _wrapped(self, name: str, verb: str) -> AbstractContextManager[None]:
        return wrap_remote_errors(self.at(name), OutputError, verb)

    def list(self, folder: str = "") -> dict[str, RemoteFile]:
        """List all files.

        Args:
            folder: Only those below this one.

        Returns:
            The files by name; none where the folder does not exist.

        Raises:
            OutputError: It cannot be listed.
        """
        with self._wrapped(folder, "read"):
            try:
                return list_folder(self.at(folder))
            except FileNotFoundError:
                return {}

    def look(self, name: str) -> RemoteFile | None:
        """Ask about a file.

        Args:
            name: Its name.

        Returns:
            What the store says; None where there is no such file.

        Raises:
            OutputError: The store does not answer.
        """
        with self._wrapped(name, "read"):
            self._system.invalidate_cache()
            try:
                return RemoteFile.of(self._system.info(self._path(name)))
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """Read a small file.

        Args:
            name: Its name.

        Returns:
            Its content; None where there is no such file.

        Raises:
            OutputError: It cannot be read.
        """
        with self._wrapped(name, "read"):
            try:
                return bytes(self._system.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def get(self, name: str, path: Path) -> None:
        """Bring a file onto the disk.

        Args:
            name: Its name.
            path: Where it goes.

        Raises:
            OutputError: It cannot be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._wrapped(name, "read"):
            self._system.get_file(self._path(name), str(path))

    def create(self, name: str, data: bytes) -> bool:
        """Make a small file unless it exists; of several that try at once, one succeeds.

        Args:
            name: Its name.
            data: Its content.

        Returns:
            Whether it was made.

        Raises:
            OutputError: It cannot be written.
        """
        with self._wrapped(name, "written"):
            self._make_parent(name)
            try:
                self._system.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                # Made after all, where the answer was lost and the request sent again.
                return bool(self._system.cat_file(self._path(name)) == data)
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole, in place of an older one.

        Args:
            name: Its name.
            data: Its content.

        Raises:
            OutputError: It cannot be written.
        """
        with self._wrapped(name, "written"):
            self._whole(name, lambda path: self._system.pipe_file(path, data))

    def put(self, path: Path, name: str) -> None:
        """Put a file of this disk up, whole, in place of an older one.

        Args:
            path: The file.
            name: Its name there.

        Raises:
            OutputError: It cannot be written.
        """
        with self._wrapped(name, "written"):
            self._whole(name, lambda target: self._system.put_file(str(path), target))

    def _whole(self, name: str, write: Any) -> None:
        """Write a file so that nobody ever sees a part of it."""
        self._make_parent(name)
        if self._has_objects:
            write(self._path(name))
            return
        part = part_of(Path(name)).as_posix()
        try:
            write(self._path(part))
            self._system.mv(self._path(part), self._path(name))
        except BaseException:
            with suppress(Exception):
                self._system.rm_file(self._path(part))
            raise

    def _make_parent(self, name: str) -> None:
        # Object stores have no folders, and would make a bucket that is missing.
        if not self._has_objects:
            self._system.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists.

        Args:
            name: Its name.

        Raises:
            OutputError: It cannot be removed.
        """
        with self._wrapped(name, "removed"), suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def age_s(self, name: str) -> float | None:
        """How long ago a file was written, by the store's own clock.

        Args:
            name: Its name.

        Returns:
            Seconds; None where there is no such file, or the store keeps no times.

        Raises:
            OutputError: The store does not answer.
        """
        file = self.look(name)
        # A new file gives the store's time, which this machine's clock may not agree with.
        probe = f"{name}.{uuid4().hex[:8]}.time"
        self.write(probe, b"")
        try:
            now = self.look(probe)
        finally:
            self.remove(probe)
        if file is None or now is None or not file.modified or not now.modified:
            return None
        return now.modified - file.modified

    def check_claims(self) -> None:
        """Check that of two that make one file, one learns of it: claims need that.

        Raises:
            OutputError: The folder cannot be written, or its store makes a file twice.
        """
        probe = f".{uuid4().hex[:8]}.probe"
        made = self.create(probe, b"1")
        try:
            twice = self.create(probe, b"2")
        finally:
            self.remove(probe)
        if twice or not made:
            raise OutputError(
                f"{self.address}: this store does not refuse to make a file that exists, so two "
                "runs could write one table; write into a folder on disk and copy it there"
            )

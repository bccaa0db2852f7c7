"""The folder that results go into: on disk, and the same at an address (`remote_store`)."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mien.errors import MienError
from mien.files import atomic_write, wrap_os_errors
from mien.outputs.claims import Claim, ClaimState, claims_in, sweep
from mien.outputs.recorded import Recorded

__all__ = ["Store"]


class Store:
    """An output folder on disk, in which results are made and put in place; a context manager.

    Attributes:
        folder: The folder in which results are made.
        address: What users call the output folder.
        is_elsewhere: Whether results are made in one place and put up to another.
    """

    is_elsewhere = False

    def __init__(self, folder: Path) -> None:
        """Take a folder, which need not exist yet.

        Args:
            folder: The output folder.
        """
        self.folder = folder
        self.address = str(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing of a folder on disk is given back."""

    def begin(self) -> None:
        """Make the folder, and bring what names depend on.

        Raises:
            OutputError: It cannot be written, or the store cannot keep two runs apart.
        """
        with wrap_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def named(self, text: str) -> str:
        """Say a message as users know the folder.

        Args:
            text: A message with paths in it.

        Returns:
            The same with the address in place of the folder in which results are made.
        """
        return text

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Raise errors with the names that users know.

        Yields:
            Nothing.

        Raises:
            MienError: Whatever was raised inside.
        """
        try:
            yield
        except MienError as error:
            text = str(error)
            if self.named(text) != text:
                error.args = (self.named(text),)
            raise

    def result(self, path: Path) -> Path | str:
        """Where a result is found.

        Args:
            path: Where it was made.

        Returns:
            Its path or address.
        """
        return path

    def key(self, path: Path) -> str:
        """What tells whether a result would replace an input.

        Args:
            path: Where the result is made.

        Returns:
            The path without links, or the address.
        """
        return str(path.resolve())

    def claim(self, name: str, source: str, shown: str = "") -> Claim:
        """The right to write the tables of one name.

        Args:
            name: The name.
            source: Absolute path or address of what is read.
            shown: What messages call it; the path of the tables where nothing is given.

        Returns:
            The claim, to be entered.
        """
        return Claim(self.folder / name, source, shown)

    def look(self, name: str) -> None:
        """Bring the dictionary of a name into `folder` as it is now.

        Args:
            name: The name of a table.
        """

    def exists(self, path: Path) -> bool:
        """Whether a result is there.

        Args:
            path: Where it would be made.

        Returns:
            Whether it is.
        """
        return os.path.lexists(path)

    def is_whole(self, record: Recorded, stem: Path, formats: Iterable[str]) -> bool:
        """Whether all files of a table are as they were written.

        Args:
            record: The table's data dictionary.
            stem: The path of the table without suffix.
            formats: The formats that it must have.

        Returns:
            Whether they are.
        """
        return record.is_whole(stem.parent, formats, stem.name)

    def bring(self, paths: Iterable[Path]) -> None:
        """Bring earlier results into `folder`, to be read.

        Args:
            paths: Where they were made.
        """

    def publish(self, files: Sequence[Path], obsolete: Iterable[Path]) -> None:
        """Put new results in place that are whole in `folder`, the one that vouches last.

        Args:
            files: Where they were made, the data dictionary last.
            obsolete: Older results that are removed.
        """

    def read(self, name: str) -> bytes | None:
        """Read a small file.

        Args:
            name: Its path below the folder.

        Returns:
            Its content; None where there is none.

        Raises:
            OutputError: It cannot be read.
        """
        path = self.folder / name
        with wrap_os_errors(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all.

        Args:
            name: Its path below the folder.
            data: Its content.

        Raises:
            OutputError: It cannot be written.
        """
        path = self.folder / name
        with wrap_os_errors(path):
            path.parent.mkdir(exist_ok=True)
        atomic_write(path, data)

    def claims(self) -> Mapping[str, ClaimState]:
        """Look at the claims in the folder itself; nothing is changed.

        Returns:
            The claims by the key of the name that is claimed.
        """
        return claims_in(self.folder)

    def sweep(self, folders: Iterable[Path]) -> None:
        """Remove what runs that were killed left behind.

        Args:
            folders: Where to look.
        """
        for folder in folders:
            sweep(folder)

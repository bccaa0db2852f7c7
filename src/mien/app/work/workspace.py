"""The folders of a workspace: films that were dropped, results, studies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mien.app.errors import ConflictError
from mien.files import wrap_os_errors

__all__ = ["Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder that holds all that an app keeps.

    Attributes:
        root: The folder, an absolute path without links.
    """

    root: Path

    @classmethod
    def open(cls, folder: Path) -> "Workspace":
        """Open a folder as a workspace, and make what it lacks.

        Args:
            folder: The folder; made if missing.

        Returns:
            The workspace.

        Raises:
            OutputError: The folder cannot be written to.
        """
        workspace = cls(folder.expanduser().resolve())
        for path in (workspace.films, workspace.results, workspace.studies):
            with wrap_os_errors(path):
                path.mkdir(parents=True, exist_ok=True)
        return workspace

    @property
    def films(self) -> Path:
        """Where films and photos go that are uploaded."""
        return self.root / "films"

    @property
    def results(self) -> Path:
        """Where tables go, as `mien analyze --out` writes them."""
        return self.root / "results"

    @property
    def studies(self) -> Path:
        """Where studies are kept."""
        return self.root / "studies"

    @property
    def queue(self) -> Path:
        """The file that keeps the queue."""
        return self.root / "queue.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only server of this workspace, whose queue two would do twice.

        Yields:
            Nothing.

        Raises:
            ConflictError: Another one has it.
            OutputError: The folder cannot be written to.
        """
        lock = FileLock(self.root / ".mien-app.lock")
        with wrap_os_errors(self.root):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise ConflictError(
                    f"{self.root}: another mien app is open in this folder; use its page, or "
                    "choose another folder"
                ) from error
        try:
            yield
        finally:
            lock.release()

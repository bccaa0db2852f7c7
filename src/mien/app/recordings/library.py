"""The recordings of a workspace, as the routes ask for them."""

import shutil
from pathlib import Path

from mien.app.recordings.catalog import delete_recording, find_table, list_recordings
from mien.app.recordings.films import Proxies
from mien.app.recordings.identity import recording_id
from mien.app.recordings.models import Item
from mien.app.recordings.opened import Opened, Shelf
from mien.files import wrap_os_errors

__all__ = ["Library"]


class Library:
    """The recordings of a workspace.

    Args:
        root: The workspace.
        results: Its folder of tables.

    Attributes:
        shelf: The recordings that were opened last.
        proxies: Copies of films that browsers do not play.
    """

    def __init__(self, root: Path, results: Path) -> None:
        self._root = root
        self._results = results
        self.shelf = Shelf()
        self.proxies = Proxies()

    def items(self) -> list[Item]:
        """List the recordings.

        Returns:
            The recordings, the newest first.
        """
        return list_recordings(self._root, self._results)

    def item(self, identity: str) -> Item:
        """What the list says of a recording.

        Args:
            identity: The recording.

        Returns:
            Its entry.

        Raises:
            NotFoundError: There is none, or its table is damaged.
        """
        table = self.table(identity)
        for item in self.items():
            if item.id == identity:
                return item
        # It says what is wrong with the table.
        self.shelf.open(table)
        return self.item(identity)

    def table(self, identity: str) -> Path:
        """The table of a recording.

        Args:
            identity: The recording.

        Returns:
            Its path.

        Raises:
            NotFoundError: There is none.
        """
        return find_table(self._root, self._results, identity)

    def open(self, identity: str) -> Opened:
        """Open a recording.

        Args:
            identity: The recording.

        Returns:
            The recording.

        Raises:
            NotFoundError: There is none.
            TableError: The table or its dictionary is damaged.
        """
        return self.shelf.open(self.table(identity))

    def id_of(self, table: Path) -> str:
        """What the recording of a table is called in addresses.

        Args:
            table: The table.

        Returns:
            The name.
        """
        return recording_id(self._root, table)

    def exports(self, identity: str) -> Path:
        """The folder of the exports of a recording.

        Args:
            identity: The recording.

        Returns:
            The folder, whether or not it is there.
        """
        return self._root / "exports" / identity

    def delete(self, identity: str) -> None:
        """Remove a recording with its exports; of films, only one that mien recorded.

        Args:
            identity: The recording.

        Raises:
            NotFoundError: There is none.
            OutputError: Something of it cannot be removed.
        """
        table = self.table(identity)
        exports = self.exports(identity)
        # A table of the same name would have them.
        if exports.is_dir():
            with wrap_os_errors(exports):
                shutil.rmtree(exports)
        delete_recording(self._results, table)

    def close(self) -> None:
        """Remove the copies of films."""
        self.proxies.close()

"""What has been made in a folder, of what, and with which settings.

It is a small SQLite file, so that every entry is whole or absent.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from mien.errors import OutputError

__all__ = ["Fingerprint", "Manifest", "file_fingerprint", "manifest"]

Fingerprint = tuple[int, int]
"""Size in bytes and time of the last change in ns, of a file."""

# Column names are those of manifests that users have: do not change them.
_PICTURES: Final = (
    "CREATE TABLE IF NOT EXISTS pictures "
    "(name TEXT PRIMARY KEY, bytes INT, changed_ns INT, made INT) WITHOUT ROWID"
)
_SETTINGS: Final = "CREATE TABLE IF NOT EXISTS settings (said TEXT)"


def file_fingerprint(path: str | Path) -> Fingerprint | None:
    """Size and time of a file, by which a change is noticed.

    Args:
        path: The file.

    Returns:
        Its fingerprint; None where there is no such file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class Manifest:
    """An open manifest, which no other process can open meanwhile."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database

    def is_done(self, name: str, source: Fingerprint, target: Path) -> bool:
        """Whether a picture was made of this source and is still as it was made.

        Args:
            name: Of the picture.
            source: The source as it is now.
            target: The file that was made.

        Returns:
            True where the source is unchanged and the file has the size it was given.

        Raises:
            OutputError: Where the manifest cannot be read.
        """
        current = file_fingerprint(target)
        query = "SELECT bytes, changed_ns, made FROM pictures WHERE name = ?"
        with _database_errors(self._path):
            entry = self._database.execute(query, (name,)).fetchone()
        return current is not None and entry == (*source, current[0])

    def add(self, name: str, source: Fingerprint, made: int) -> None:
        """Note a picture that was made.

        Args:
            name: Of the picture.
            source: Of what it was made.
            made: Its size in bytes.

        Raises:
            OutputError: Where the manifest cannot be written.
        """
        with _database_errors(self._path):
            self._database.execute(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", (name, *source, made)
            )

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Take settings for the folder.

        Args:
            settings: What the pixels depend on.

        Raises:
            OutputError: Where the folder holds pictures that were made with others.
        """
        # Sorted, so that equal settings are equal texts.
        text = json.dumps(settings, sort_keys=True)
        with _database_errors(self._path):
            before = self._database.execute("SELECT said FROM settings").fetchone()
            made = self._database.execute("SELECT count(*) FROM pictures").fetchone()[0]
            if made and before and before[0] != text:
                raise OutputError(
                    f"{self._path.parent}: holds {made} pictures made with {before[0]}, "
                    f"not {text}; choose another folder, or remove it"
                )
            self._database.execute("DELETE FROM settings")
            self._database.execute("INSERT INTO settings VALUES (?)", (text,))


@contextmanager
def manifest(path: Path) -> Iterator[Manifest]:
    """Open the manifest of a folder.

    Args:
        path: The file, made if missing.

    Yields:
        The manifest.

    Raises:
        OutputError: Where it cannot be written, also while another process has it open.
    """
    with _database_errors(path):
        # Without a timeout, so that a folder in use is reported at once.
        database = sqlite3.connect(path, timeout=0, isolation_level=None)
    with closing(database):
        with _database_errors(path):
            # The lock is taken with the first write and kept until the connection closes.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute(_SETTINGS)
            database.execute(_PICTURES)
            database.execute("COMMIT")
        yield Manifest(path, database)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    """Report SQLite's errors as OutputError with the next step."""
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise OutputError(
                f"{path.parent}: another process is writing there; "
                "wait for it, or choose another folder"
            ) from error
        step = "choose a folder you may write to, or remove this one"
        if "full" in str(error):
            step = "free some space there"
        raise OutputError(f"{path}: cannot be written ({error}); {step}") from error

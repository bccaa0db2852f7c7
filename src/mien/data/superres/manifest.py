"""What has been made in a folder, of what, and how: a small SQLite file, so that every entry is whole or not there."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mien.errors import OutputError

__all__ = ["Manifest", "Stamp", "file_fingerprint", "manifest"]

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in ns, of a file."""


def file_fingerprint(path: str | Path) -> Stamp | None:
    """None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


class Manifest:
    """An open manifest, this process's alone."""

    def __init__(self, path: Path, base: sqlite3.Connection) -> None:
        self._path, self._base = path, base

    def is_done(self, name: str, source: Stamp, target: Path) -> bool:
        """Whether `target` was made of a source with this stamp, and still has the size it was given."""
        made = file_fingerprint(target)
        with _explained(self._path):
            found = self._base.execute(
                "SELECT bytes, changed_ns, made FROM pictures WHERE name = ?", (name,)
            ).fetchone()
        return made is not None and found == (*source, made[0])

    def add(self, name: str, source: Stamp, made: int) -> None:
        """Picture `name` is there, of a source with this stamp; made: its size in bytes. Raises OutputError."""
        with _explained(self._path):
            self._base.execute(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", (name, *source, made)
            )

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Take these settings; raises OutputError where pictures are here that were made with others."""
        said = json.dumps(settings, sort_keys=True)
        with _explained(self._path):
            before = self._base.execute("SELECT said FROM settings").fetchone()
            made = self._base.execute("SELECT count(*) FROM pictures").fetchone()[0]
            if made and before and before[0] != said:
                raise OutputError(
                    f"{self._path.parent}: holds {made} pictures made with {before[0]}, not {said}; choose another folder, or remove it"
                )
            self._base.execute("DELETE FROM settings")
            self._base.execute("INSERT INTO settings VALUES (?)", (said,))


@contextmanager
def manifest(path: Path) -> Iterator[Manifest]:
    """The manifest at `path`, made if missing; raises OutputError, also while another process has it open."""
    with _explained(path):
        base = sqlite3.connect(path, timeout=0, isolation_level=None)
    with closing(base):
        with _explained(path):
            base.execute("PRAGMA locking_mode = EXCLUSIVE")
            base.execute("BEGIN EXCLUSIVE")
            base.execute("CREATE TABLE IF NOT EXISTS settings (said TEXT)")
            base.execute(
                "CREATE TABLE IF NOT EXISTS pictures (name TEXT PRIMARY KEY, bytes INT, changed_ns INT, made INT) WITHOUT ROWID"
            )
            base.execute("COMMIT")
        yield Manifest(path, base)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise OutputError(
                f"{path.parent}: another process is writing there; wait for it, or choose another folder"
            ) from error
        step = (
            "free some space there"
            if "full" in str(error)
            else "choose a folder you may write to, or remove this one"
        )
        raise OutputError(f"{path}: cannot be written ({error}); {step}") from error

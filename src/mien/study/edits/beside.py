"""The file of edits beside a table: all operations ever made, and a cursor for undo and redo."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from mien.documents import check_json, read_bounded
from mien.errors import StudyError
from mien.files import atomic_write
from mien.outputs.read import read_table
from mien.study.edits.apply import apply_edits
from mien.study.edits.checks import checked_operation
from mien.study.edits.operations import Edits, Operation

__all__ = ["EditHistory", "ReadTable", "edited", "edits_note", "edits_path", "read_edited_table"]

ReadTable = Callable[[Path], pd.DataFrame]
"""Reads a table: as it was written (`mien.read_table`), or with edits (`read_edited_table`)."""
_EDITION: Final = 1
_MOST_BYTES: Final = 16 << 20
_THEN: Final = "move it away to use the table as it was written"
_OPERATIONS: Final = TypeAdapter(tuple[Operation, ...])
_ENDING: Final = ".edits.json"


def edits_path(table: Path) -> Path:
    """Where the edits of a table are.

    Args:
        table: The table; those of one film in several formats share them.

    Returns:
        The path, whether or not there is a file.
    """
    return table.with_name(f"{table.stem}{_ENDING}")


@dataclass(frozen=True, slots=True)
class EditHistory:
    """All edits of a table.

    Attributes:
        path: Their file.
        table: What identifies the table.
        operations: All operations; those from `cursor` on were undone.
        cursor: How many count.
        version: Grows with each change, also with undo.
    """

    path: Path
    table: str
    operations: tuple[Operation, ...] = ()
    cursor: int = 0
    version: int = 0

    @classmethod
    def open(cls, path: Path, table: pd.DataFrame) -> Self:
        """Read the edits of a table.

        Args:
            path: The table.
            table: Its rows, as `mien.read_table` gives them.

        Returns:
            The edits; none where there is no file.

        Raises:
            StudyError: The file is damaged, or about another table.
        """
        path = edits_path(path)
        identity = _identity(table)
        if not path.exists():
            return cls(path, identity)
        try:
            text = read_bounded(path, _MOST_BYTES, StudyError, _THEN)
            check_json(text)
            content = json.loads(text)
            if content["edits"] != _EDITION:
                raise ValueError(f"edition {content['edits']}")
            operations = _OPERATIONS.validate_python(content["operations"])
            cursor, version = int(content["cursor"]), int(content["version"])
            if not 0 <= cursor <= len(operations):
                raise ValueError(f"cursor {cursor}")
            Edits.of(operations[:cursor])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            kind = "damaged" if isinstance(error, ValidationError) else str(error)[:60]
            raise StudyError(f"{path}: no edits that this mien knows ({kind}); {_THEN}") from error
        if content.get("table") != identity:
            raise StudyError(
                f"{path}: is about another reading of this film, with other faces or times; "
                f"bring the table it was made with, or {_THEN}"
            )
        return cls(path, identity, operations, cursor, version)

    @property
    def edits(self) -> Edits:
        """What the operations up to the cursor come to."""
        return Edits.of(self.operations[: self.cursor])

    @property
    def can_undo(self) -> bool:
        """Whether there is an operation to undo."""
        return self.cursor > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone operation."""
        return self.cursor < len(self.operations)

    def add(self, table: pd.DataFrame, operation: Operation) -> Self:
        """Make an edit, and write the file.

        Args:
            table: The table, as it was written.
            operation: The edit; what was undone is forgotten.

        Returns:
            The edits with it.

        Raises:
            StudyError: The edit makes no sense.
            OutputError: The file cannot be written.
        """
        edits = self.edits
        operation = checked_operation(table, edits, operation)
        edits.then(operation)
        kept = (*self.operations[: self.cursor], operation)
        return self._written(kept, len(kept))

    def undo(self) -> Self:
        """Undo the last operation, and write the file.

        Returns:
            The edits without it.

        Raises:
            StudyError: There is none.
            OutputError: The file cannot be written.
        """
        if not self.can_undo:
            raise StudyError("edits: there is nothing to undo")
        return self._written(self.operations, self.cursor - 1)

    def redo(self) -> Self:
        """Make an undone operation again, and write the file.

        Returns:
            The edits with it.

        Raises:
            StudyError: There is none.
            OutputError: The file cannot be written.
        """
        if not self.can_redo:
            raise StudyError("edits: there is nothing to redo")
        return self._written(self.operations, self.cursor + 1)

    def _written(self, operations: tuple[Operation, ...], cursor: int) -> Self:
        changed = replace(self, operations=operations, cursor=cursor, version=self.version + 1)
        content: dict[str, Any] = {
            "edits": _EDITION,
            "table": self.table,
            "version": changed.version,
            "cursor": cursor,
            "operations": _OPERATIONS.dump_python(operations, mode="json"),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        atomic_write(self.path, text.encode())
        return changed


def read_edited_table(path: str | Path) -> pd.DataFrame:
    """Read a table with the edits beside it.

    Args:
        path: The table.

    Returns:
        What `mien.read_table` gives, with the edits applied (`apply_edits`) where there are some.

    Raises:
        UnknownNameError: The suffix is none of a table's.
        TableError: The table or its dictionary is missing or damaged.
        StudyError: The file of edits is damaged, or about another table.
    """
    return edited(Path(path), read_table(path))


def edited(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Apply the edits beside a table to its rows.

    Args:
        path: The table.
        table: Its rows, as `mien.read_table` gives them.

    Returns:
        The rows; the same where there are no edits.

    Raises:
        StudyError: The file of edits is damaged, or about another table.
    """
    # Most tables have none, and are not to be hashed for nothing.
    if not edits_path(path).exists():
        return table
    return apply_edits(table, EditHistory.open(path, table).edits)


def edits_note(path: Path, table: pd.DataFrame) -> str:
    """Say in a line which edits were applied to a table.

    Args:
        path: The table.
        table: Its rows, as `read_edited_table` gives them.

    Returns:
        The line; empty where there were none.
    """
    content = table.attrs.get("dictionary", {}).get("edits")
    if not content:
        return ""
    return f"{path.name}: edited by hand ({edits_path(path).name}): {Edits.model_validate(content)}"


def _identity(table: pd.DataFrame) -> str:
    """Hash which face is in which frame and when, which edits rely on, in whatever format."""
    digest = hashlib.sha256()
    faces = table["face"].fillna(-1).to_numpy(np.int64)
    # Text formats round to a millionth of a second.
    microseconds = np.rint(table["time_s"].to_numpy(np.float64) * 1e6).astype(np.int64)
    for values in (table["frame"].to_numpy(np.int64), faces, microseconds):
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()

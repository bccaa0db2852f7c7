"""Edits made through the app."""

from collections.abc import Callable
from pathlib import Path

from mien.app.errors import ConflictError, InvalidError
from mien.app.recordings.models import EditRequest, EditState, operation_of
from mien.app.recordings.opened import Shelf
from mien.errors import StudyError
from mien.study.edits.beside import EditHistory

__all__ = ["change", "redo", "undo"]

Step = Callable[[EditHistory], EditHistory]


def change(shelf: Shelf, table: Path, request: EditRequest) -> EditState:
    """Make an edit.

    Args:
        shelf: The open recordings.
        table: The table.
        request: The edit.

    Returns:
        The edits with it.

    Raises:
        ConflictError: Another page made an edit meanwhile, or the edits are of another table.
        InvalidError: The edit makes no sense.
        OutputError: It cannot be written.
    """
    with shelf.editing:
        opened = shelf.open(table)
        history = _current(opened.history, opened.problem, request.version)
        try:
            return EditState.of(history.add(opened.raw, operation_of(request)))
        except StudyError as error:
            raise InvalidError(str(error)) from error


def undo(shelf: Shelf, table: Path, version: int | None = None) -> EditState:
    """Undo the last edit.

    Args:
        shelf: The open recordings.
        table: The table.
        version: The version that the asker knows; None for any.

    Returns:
        The edits without it.

    Raises:
        ConflictError: There is none, or another page made an edit meanwhile.
        OutputError: It cannot be written.
    """
    return _move(shelf, table, version, EditHistory.undo)


def redo(shelf: Shelf, table: Path, version: int | None = None) -> EditState:
    """Make an undone edit again.

    Args:
        shelf: The open recordings.
        table: The table.
        version: The version that the asker knows; None for any.

    Returns:
        The edits with it.

    Raises:
        ConflictError: There is none, or another page made an edit meanwhile.
        OutputError: It cannot be written.
    """
    return _move(shelf, table, version, EditHistory.redo)


def _move(shelf: Shelf, table: Path, version: int | None, step: Step) -> EditState:
    with shelf.editing:
        opened = shelf.open(table)
        history = _current(opened.history, opened.problem, version)
        try:
            return EditState.of(step(history))
        except StudyError as error:
            raise ConflictError(str(error)) from error


def _current(history: EditHistory | None, problem: str | None, version: int | None) -> EditHistory:
    if history is None:
        raise ConflictError(str(problem))
    if version is not None and version != history.version:
        raise ConflictError(
            f"edits: they are at version {history.version} meanwhile, not {version}; "
            "another page changed them; load the recording again"
        )
    return history

"""Which files may be seen and read: those under the user's home and the workspace, not hidden."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mien.app.errors import NotAllowedError, NotFoundError
from mien.app.work.workspace import Workspace
from mien.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mien.sources.inputs import natural_key
from mien.text import printable

__all__ = ["Entry", "Listing", "bases_of", "check_inputs", "kind_of", "list_folder"]

Kind = Literal["folder", "film", "photo", "other"]


class Entry(BaseModel):
    """A file or folder.

    Attributes:
        name: Its name.
        path: Its absolute path.
        kind: What its name says that it is.
        size: Bytes; null for folders, and where it cannot be looked at.
        modified: When it was last changed, in seconds since 1970; null where that is unknown.
    """

    name: str
    path: str
    kind: Kind
    size: int | None
    modified: float | None


class Listing(BaseModel):
    """What is in a folder.

    Attributes:
        path: Its absolute path.
        parent: The folder above it; null where that may not be seen.
        entries: Folders, then files, in natural order (2 before 10); none that are hidden.
    """

    path: str
    parent: str | None
    entries: list[Entry]


def list_folder(path: str, bases: Sequence[Path]) -> Listing:
    """List a folder.

    Args:
        path: Its absolute path; empty for the first of the bases.
        bases: The folders below which files may be seen.

    Returns:
        What is in it.

    Raises:
        NotAllowedError: It is outside of the bases, hidden, or may not be read.
        NotFoundError: There is no such folder.
    """
    folder = _permitted(path, bases) if path else bases[0].resolve()
    try:
        with os.scandir(folder) as items:
            entries = [_entry(item) for item in items if _is_shown(item.name)]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path}: is no folder; go back to one that is") from error
    except OSError as error:
        raise NotAllowedError(
            f"{path}: cannot be looked into ({error.strerror}); choose another folder"
        ) from error
    entries.sort(key=lambda entry: (entry.kind != "folder", natural_key(entry.name)))
    parent: str | None = str(folder.parent)
    try:
        _permitted(str(folder.parent), bases)
    except NotAllowedError:
        parent = None
    return Listing(path=str(folder), parent=parent, entries=entries)


def check_inputs(inputs: Sequence[str], bases: Sequence[Path]) -> list[str]:
    """Check what is to be read.

    Args:
        inputs: Absolute paths of files and folders.
        bases: The folders below which files may be read.

    Returns:
        The same without links, each once.

    Raises:
        NotAllowedError: One is outside of the bases, or hidden.
        NotFoundError: One does not exist.
    """
    checked = []
    for given in inputs:
        path = _permitted(given, bases)
        if not (path.is_file() or path.is_dir()):
            raise NotFoundError(f"{given}: there is no such file or folder; choose it again")
        checked.append(str(path))
    return list(dict.fromkeys(checked))


def bases_of(workspace: Workspace) -> list[Path]:
    """The folders below which the user may see and read files.

    Args:
        workspace: The workspace.

    Returns:
        The user's home and the workspace.
    """
    return [Path.home(), workspace.root]


def _permitted(path: str, bases: Sequence[Path]) -> Path:
    """A path without links and dots, if it may be seen.

    Raises:
        NotAllowedError: It is outside of the bases, or hidden.
    """
    try:
        resolved = Path(path).resolve()
        is_absolute = Path(path).is_absolute()
    except (OSError, ValueError, RuntimeError):
        # Characters that no path has, or links in a circle.
        is_absolute = False
    if is_absolute:
        for base in bases:
            root = base.resolve()
            if resolved.is_relative_to(root) and all(
                map(_is_shown, resolved.relative_to(root).parts)
            ):
                return resolved
    raise NotAllowedError(
        f"{path}: only what is in your home folder or the workspace can be opened here; move it "
        "there, or start mien app with its folder"
    )


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def _entry(item: os.DirEntry[str]) -> Entry:
    kind: Kind = "other"
    size: int | None = None
    modified: float | None = None
    try:
        facts = item.stat()
        modified = facts.st_mtime
        if item.is_dir():
            kind = "folder"
        else:
            size = facts.st_size
            kind = kind_of(item.name)
    except OSError:
        # A link that leads nowhere, or a file that has just gone.
        kind = "other"
    # Bytes that are no text cannot be sent; such a file can be seen, and not be opened.
    path = item.path.encode(errors="replace").decode()
    name = printable(item.name)
    return Entry(name=name, path=path, kind=kind, size=size, modified=modified)


def kind_of(name: str) -> Kind:
    """What the name of a file says that it is.

    Args:
        name: The name.

    Returns:
        ``film``, ``photo`` or ``other``.

    >>> kind_of("a.MP4"), kind_of("b.jpg"), kind_of("c.txt")
    ('film', 'photo', 'other')
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix in VIDEO_SUFFIXES:
        return "film"
    return "photo" if suffix in IMAGE_SUFFIXES else "other"

"""What a data dictionary records of the inputs of its table, to recognize them later."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from mien.errors import OutputError, SourceError
from mien.files import wrap_os_errors
from mien.outputs.tables import table_path
from mien.remote.access import RemoteFile
from mien.remote.address import absolute, is_address
from mien.sources.fetched import fetch, look_at_source

__all__ = [
    "Recorded",
    "Stamp",
    "compare",
    "file_fingerprint",
    "fingerprint",
    "read_dictionary",
    "stamp_of",
]

# Bytes up to which a file is hashed as a whole.
_WHOLE: Final = 16 << 20
_BLOCK: Final = 64 << 10
_BLOCKS: Final = 16
# Bytes of a dictionary; one of 100,000 photos has 40 MB.
_MOST_BYTES: Final = 256 << 20
# Of the keys of an entry, in the order in which they are written.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "name": (str,),
    "path": (str, type(None)),
    "bytes": (int, type(None)),
    "modified": (int, float),
    "fingerprint": (str, type(None)),
    "rows": (dict,),
    "overlay": (str, type(None)),
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows later whether an input is the same, and what was read from it.

    Attributes:
        name: The path as given, ``camera:N``, ``array`` or ``arrays``.
        path: Its absolute path or address; None where it is no file.
        bytes: Its size; None where it is no file or cannot be read.
        modified: When it was last changed, in seconds since 1970.
        fingerprint: Hash of its size and content (`fingerprint`); of a file elsewhere, of its size
            and what its store says that changes with the content (`RemoteFile.tag`).
        rows: Rows that were read from it, by status.
        overlay: Path of its overlay, relative to the dictionary's folder.
    """

    name: str
    path: str | None = None
    bytes: int | None = None
    modified: float = 0.0
    fingerprint: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    overlay: str | None = None

    @classmethod
    def from_json(cls, entry: object) -> Self:
        """Read an entry of a dictionary.

        Args:
            entry: One of its ``sources``.

        Returns:
            The stamp.

        Raises:
            ValueError: The entry is malformed.
        """
        if not isinstance(entry, dict) or "name" not in entry:
            raise ValueError("an entry of sources has no name")
        # Later versions may record more.
        known = {key: entry[key] for key in _TYPES if key in entry}
        for key, value in known.items():
            # To Python, True is a number.
            if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
                raise ValueError(f"an entry of sources has a wrong {key}")
        for count in known.get("rows", {}).values():
            if not isinstance(count, int) or count < 0:
                raise ValueError("an entry of sources has wrong rows")
        return cls(**known)

    def to_json(self) -> dict[str, object]:
        """The entry of a dictionary.

        Returns:
            A dict that JSON can hold.
        """
        entry: dict[str, object] = {
            "name": self.name,
            "path": self.path,
            "bytes": self.bytes,
            "modified": self.modified,
            "fingerprint": self.fingerprint,
            "rows": dict(self.rows),
        }
        if self.overlay:
            entry["overlay"] = self.overlay
        return entry

    def with_content(self) -> Self:
        """Add the fingerprint, which takes reading parts of the file.

        Returns:
            The same stamp with a fingerprint, or without one where the file cannot be read.
        """
        if self.path is None or self.bytes is None or self.fingerprint is not None:
            return self
        try:
            return replace(self, fingerprint=fingerprint(self.path))
        except (OSError, SourceError):
            return self


def file_fingerprint(name: str) -> Stamp:
    """Stamp an input as it is now.

    Args:
        name: Its path, or the name of what is no file.

    Returns:
        The stamp, still without the hash of the content; a file elsewhere has it already.
    """
    if is_address(name):
        try:
            return stamp_of(name, look_at_source(name))
        except SourceError:
            return Stamp(name, absolute(name))
    # A camera, or arrays.
    if not os.path.lexists(name):
        return Stamp(name, modified=time.time())
    path = os.path.abspath(name)
    try:
        now = os.stat(path)
    except OSError:
        return Stamp(name, path)
    size = now.st_size if stat.S_ISREG(now.st_mode) else None
    return Stamp(name, path, size, now.st_mtime)


def stamp_of(address: str, file: RemoteFile) -> Stamp:
    """Stamp a file elsewhere.

    Args:
        address: Its address.
        file: What its store says.

    Returns:
        The stamp.
    """
    tag = f"{file.size}\n{file.tag}".encode()
    # A server that says nothing of the content must be read.
    known = hashlib.sha256(tag).hexdigest() if file.tag else None
    return Stamp(address, absolute(address), file.size, file.modified, known)


def fingerprint(path: str | Path) -> str:
    """Hash a file's size and content, in about the same time for every size.

    Args:
        path: The file.

    Returns:
        The SHA-256, in hexadecimal: of the whole file up to 16 MiB, of 16 blocks of 64 KiB spread
        evenly over a larger one.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(path, str) and is_address(path):
        return hashlib.sha256(fetch(path)).hexdigest()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(b"%d\n" % size)
        if size <= _WHOLE:
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
        # The first block begins at the file's start, the last one ends at its end.
        for number in range(_BLOCKS):
            file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
        return digest.hexdigest()


def compare(new: Stamp, old: Stamp) -> Literal["same", "changed", "other"]:
    """Compare an input with one that was read before.

    Args:
        new: The input as it is now.
        old: The input as a dictionary records it.

    Returns:
        ``same``, ``changed`` (other content at the same path) or ``other``. The same content at
        another path is the same input if nothing is at the old path now: then it was moved.
    """
    if new.path is None or (old.path is None and old.fingerprint):
        return "other"
    # The first edition recorded no path.
    old_path = old.path or absolute(old.name)
    if not _is_same_path(old_path, new.path):
        # No dictionary makes mien look at an address that nobody named.
        is_elsewhere = is_address(old_path) or is_address(new.path)
        if is_elsewhere or os.path.lexists(old_path) or not _has_content_of(new, old):
            return "other"
        return "same"
    # What cannot be read is taken for the same, and reading it gives the message.
    if new.bytes is None and new.fingerprint is None:
        return "same"
    # Nor did it record fingerprints.
    if old.fingerprint is None and (old.bytes, old.modified) == (new.bytes, new.modified):
        return "same"
    same_content = new.bytes == old.bytes and new.with_content().fingerprint == old.fingerprint
    return "same" if same_content else "changed"


def _has_content_of(new: Stamp, old: Stamp) -> bool:
    return old.fingerprint is not None and new.with_content().fingerprint == old.fingerprint


def _is_same_path(old: str, new: str) -> bool:
    if old == new:
        return True
    try:
        return os.path.samefile(old, new)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class Recorded:
    """A data dictionary that was read back.

    Attributes:
        page: All of its content.
        sources: The inputs of its table, in the order of its rows.
        folder: The folder whose photos the table holds; None for any other table.
    """

    page: Mapping[str, Any]
    sources: tuple[Stamp, ...]
    folder: str | None

    @property
    def edition(self) -> int:
        """The version of the dictionary's form."""
        # The first had no number.
        number = self.page.get("dictionary", 1)
        return number if isinstance(number, int) else 1

    def texts(self, key: str) -> list[str]:
        """The lines under a key.

        Args:
            key: Such as ``problems`` or ``notes``.

        Returns:
            The lines; none where the key is missing or malformed.
        """
        lines = self.page.get(key)
        # Dictionaries are files that anyone may edit.
        if not isinstance(lines, list):
            return []
        return [line for line in lines if isinstance(line, str)]

    @property
    def media(self) -> list[Mapping[str, object]]:
        """The properties of each input (`Source.media`); empty where it records none."""
        media = self.page.get("media")
        if not isinstance(media, list) or len(media) != len(self.sources):
            media = [{}] * len(self.sources)
        return [entry if isinstance(entry, dict) else {} for entry in media]

    def files_within(self, folder: Path, stem: str) -> list[Path]:
        """The files it names, as far as they can be this table's.

        Args:
            folder: The folder of the table.
            stem: The name of the table without suffix.

        Returns:
            The files named ``stem.…`` or below ``stem/``: a dictionary that was edited must not
            make others be removed.
        """
        names = self.texts("files")
        for source in self.sources:
            if source.overlay:
                names.append(source.overlay)
        allowed = (f"{stem}.", f"{stem}{os.sep}")
        files = []
        for path in dict.fromkeys(map(os.path.normpath, names)):
            if path.startswith(allowed):
                files.append(folder / path)
        return files

    def is_whole(self, folder: Path, formats: Iterable[str], stem: str) -> bool:
        """Whether all of its files are as they were written.

        Args:
            folder: The folder of the table.
            formats: The formats that the table must have.
            stem: The name of the table without suffix.

        Returns:
            True where the tables have exactly these formats and their recorded hashes, and all
            other files exist.
        """
        tables = self.page.get("tables")
        names = {table_path(Path(stem), name).name for name in formats}
        if not isinstance(tables, dict) or set(tables) != names:
            return False
        for name, facts in tables.items():
            if not isinstance(facts, dict) or not _is_as_written(folder / name, facts):
                return False
        return all(path.is_file() for path in self.files_within(folder, stem))


def _is_as_written(path: Path, facts: Mapping[str, object]) -> bool:
    try:
        # The size first: it spares hashing a table that was cut off.
        if path.stat().st_size != facts.get("bytes"):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == facts.get("sha256")
    except OSError:
        return False


def read_dictionary(path: Path) -> Recorded | None:
    """Read a data dictionary.

    Args:
        path: The dictionary.

    Returns:
        Its content; None where there is no such file.

    Raises:
        OutputError: It does not say whose table it belongs to. Nothing is guessed then, as
            somebody's rows could be lost.
    """
    if not os.path.lexists(path):
        return None
    advice = "move it and its table away, or choose another folder"
    with wrap_os_errors(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OutputError(
                f"{path}: is in the way, and no regular file; move it away or choose another folder"
            )
        if path.stat().st_size > _MOST_BYTES:
            raise OutputError(f"{path}: is too large for a data dictionary; {advice}")
        data = path.read_bytes()
    try:
        return _parsed(data)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(
            f"{path}: is no data dictionary that says whose table it belongs to ({reason}); "
            f"{advice}"
        ) from error


def _parsed(data: bytes) -> Recorded:
    """The content of a dictionary; raises ValueError where it is malformed."""
    page = json.loads(data)
    # Without sources nothing shows whose table it is.
    sources = page.get("sources") if isinstance(page, dict) else None
    if not isinstance(sources, list) or not sources:
        raise ValueError("it names no sources")
    folder = page.get("folder")
    if not isinstance(folder, str | None):
        raise ValueError("its folder is no text")
    return Recorded(page, tuple(map(Stamp.from_json, sources)), folder)

"""What a data dictionary says of the inputs its table was read from, to tell later whether an input is the same."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from mien.errors import OutputError
from mien.files import wrap_os_errors

__all__ = ["Recorded", "Stamp", "compare", "file_fingerprint", "fingerprint", "read_dictionary"]

_WHOLE: Final = 16 << 20  # bytes up to which a file is hashed whole
_BLOCK: Final = 64 << 10
_BLOCKS: Final = 16
_MOST_BYTES: Final = 256 << 20  # of a dictionary; one of 100,000 photos has 40 MB
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
    """What tells whether an input is the same later, and what was read from it.

    Args:
        name: The path as given, ``camera:N``, ``array`` or ``arrays``.
        path: Its absolute path; None where it is no file.
        bytes: Its size; None where it is no file or cannot be read.
        modified: When it was last changed, in seconds since 1970.
        fingerprint: Hash of its size and content (`fingerprint`).
        rows: Rows that were read from it, by status.
        overlay: Its overlay, as a path from the dictionary's folder.
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
        """The stamp of an entry of a dictionary. Raises ValueError where it is none."""
        if not isinstance(entry, dict) or "name" not in entry:
            raise ValueError("an entry of sources has no name")
        known = {key: entry[key] for key in _TYPES if key in entry}
        for key, value in known.items():
            if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
                raise ValueError(f"an entry of sources has a wrong {key}")
        if not all(
            isinstance(count, int) and count >= 0 for count in known.get("rows", {}).values()
        ):
            raise ValueError("an entry of sources has wrong rows")
        return cls(**known)

    def to_json(self) -> dict[str, object]:
        """The entry of a dictionary."""
        entry: dict[str, object] = {key: getattr(self, key) for key in _TYPES if key != "overlay"}
        return (
            entry | ({"overlay": self.overlay} if self.overlay else {}) | {"rows": dict(self.rows)}
        )

    def with_content(self) -> Self:
        """The same with the fingerprint, which takes reading parts of the file."""
        if self.path is None or self.bytes is None or self.fingerprint is not None:
            return self
        try:
            return replace(self, fingerprint=fingerprint(self.path))
        except OSError:
            return self


def file_fingerprint(name: str) -> Stamp:
    """The stamp of an input by its path or name, as it is now and without its fingerprint."""
    if not os.path.lexists(name):  # a camera, or arrays
        return Stamp(name, modified=time.time())
    path = os.path.abspath(name)
    try:
        now = os.stat(path)
    except OSError:
        return Stamp(name, path)
    return Stamp(name, path, now.st_size if stat.S_ISREG(now.st_mode) else None, now.st_mtime)


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's size and content: of all of it up to 16 MiB, of 16 blocks of 64 KiB spread evenly over it above.

    Raises OSError.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(b"%d\n" % size)
        if size <= _WHOLE:
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
        for number in range(_BLOCKS):
            file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
        return digest.hexdigest()


def compare(new: Stamp, old: Stamp) -> Literal["same", "changed", "other"]:
    """How an input stands to one that was read before: the same, another content at the same place, or another input.

    The same content at another place is the same input where the first place is empty now: then it was moved.
    """
    if new.path is None or (old.path is None and old.fingerprint):
        return "other"
    before = old.path or os.path.abspath(old.name)  # the first edition had no path
    if not _same_place(before, new.path):
        moved = (
            new.with_content().fingerprint == old.fingerprint is not None
            and not os.path.lexists(before)
        )
        return "same" if moved else "other"
    if new.bytes is None or (
        old.fingerprint is None and (old.bytes, old.modified) == (new.bytes, new.modified)
    ):
        return "same"
    return (
        "same"
        if new.bytes == old.bytes and new.with_content().fingerprint == old.fingerprint
        else "changed"
    )


def _same_place(old: str, new: str) -> bool:
    if old == new:
        return True
    try:
        return os.path.samefile(old, new)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class Recorded:
    """A data dictionary that was read back.

    Args:
        page: All that it says.
        sources: The inputs of its table, in the order of its rows.
        folder: The folder whose photos the table holds; None for any other table.
    """

    page: Mapping[str, Any]
    sources: tuple[Stamp, ...]
    folder: str | None

    @property
    def edition(self) -> int:
        """Of the form of the dictionary."""
        number = self.page.get("dictionary", 1)
        return number if isinstance(number, int) else 1

    def texts(self, key: str) -> list[str]:
        """The lines under a key, such as ``problems``."""
        lines = self.page.get(key)
        return [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []

    @property
    def media(self) -> list[Mapping[str, object]]:
        """What it says the inputs are, one by one; empty where it does not."""
        media = self.page.get("media")
        entries = (
            media
            if isinstance(media, list) and len(media) == len(self.sources)
            else [{}] * len(self.sources)
        )
        return [entry if isinstance(entry, dict) else {} for entry in entries]

    def files_within(self, folder: Path, stem: str) -> list[Path]:
        """The files it names, as far as they can be this table's: ``stem.…`` or below ``stem/``."""
        names = [
            *self.texts("files"),
            *(source.overlay for source in self.sources if source.overlay),
        ]
        paths = [os.path.normpath(name) for name in names]
        return [
            folder / path
            for path in dict.fromkeys(paths)
            if path.startswith((f"{stem}.", f"{stem}{os.sep}"))
        ]

    def is_whole(self, folder: Path, formats: Iterable[str], stem: str) -> bool:
        """Whether the tables in these formats, and all other files it names, are still as they were written."""
        tables = self.page.get("tables")
        if not isinstance(tables, dict) or set(tables) != {f"{stem}.{name}" for name in formats}:
            return False
        for name, facts in tables.items():
            if not isinstance(facts, dict) or not _is_as_written(folder / name, facts):
                return False
        return all(path.is_file() for path in self.files_within(folder, stem))


def _is_as_written(path: Path, facts: Mapping[str, object]) -> bool:
    try:
        if path.stat().st_size != facts.get("bytes"):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == facts.get("sha256")
    except OSError:
        return False


def read_dictionary(path: Path) -> Recorded | None:
    """What the dictionary at `path` says; None where there is none.

    Raises OutputError where it does not say whose table it belongs to: nobody's rows are to be lost on a guess.
    """
    if not os.path.lexists(path):
        return None
    step = "move it and its table away, or choose another folder"
    with wrap_os_errors(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OutputError(
                f"{path}: is in the way, and no regular file; move it away or choose another folder"
            )
        if path.stat().st_size > _MOST_BYTES:
            raise OutputError(f"{path}: is too large for a data dictionary; {step}")
        data = path.read_bytes()
    try:
        page = json.loads(data)
        if (
            not isinstance(page, dict)
            or not isinstance(page.get("sources"), list)
            or not page["sources"]
        ):
            raise ValueError("it names no sources")
        folder = page.get("folder")
        if not isinstance(folder, str | None):
            raise ValueError("its folder is no text")
        return Recorded(page, tuple(Stamp.from_json(entry) for entry in page["sources"]), folder)
    except (ValueError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        raise OutputError(
            f"{path}: is no data dictionary that says whose table it belongs to ({why}); {step}"
        ) from error

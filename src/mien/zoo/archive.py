"""Bundles in one file, for machines without a network.

What comes in is checked as if an attacker had packed it.
"""

import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from mien.bundles.card import card_json, parse_card
from mien.bundles.contents import Contents, files_of, read_contents, verify_contents
from mien.bundles.gate import most_bytes
from mien.bundles.readme import readme
from mien.bundles.store import embedded, home
from mien.errors import BundleError, UnknownNameError
from mien.files import AtomicFile
from mien.zoo.fetch import writing
from mien.zoo.install import Note, locked, place, quiet
from mien.zoo.storages import BROKEN

__all__ = ["add", "pack"]

# The files of a bundle, and the members and heads of a system.
_MEMBER: Final = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]*)/"
    r"(?P<path>(members/[a-z0-9][a-z0-9_]*/)?(card\.json|model\.onnx)"
    r"|README\.md|heads/[a-z0-9][a-z0-9_]*-[0-9]+\.onnx)"
)
_CARD: Final = "card.json"
_README: Final = "README.md"
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # so that the same bundles make the same file


def pack(names: Iterable[str | Path], out: Path) -> Path:
    """Write bundles into one file that `add` reads on another machine.

    Args:
        names: Names or folders of the bundles.
        out: The file.

    Returns:
        `out`.

    Raises:
        UnknownNameError: There is no such bundle.
        BundleError: A bundle is damaged, or a name comes twice.
        OutputError: The file cannot be written.
    """
    bundles = list(map(read_contents, names))
    counts = Counter(contents.card.name for contents in bundles)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise BundleError(f"{out}: {', '.join(repeated)} comes twice; name each bundle once")
    errors = partial(writing, otherwise="name another place")
    with errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with (
        AtomicFile(out, errors) as part,
        errors(out),
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
    ):
        for contents in bundles:
            card = contents.card
            files = {_CARD: card_json(card), _README: readme(card).encode(), **contents.files}
            for path, content in files.items():
                archive.writestr(zipfile.ZipInfo(f"{card.name}/{path}", _DATE), content)
    return out


def add(path: Path, *, replace: bool = False, note: Note = quiet) -> list[str]:
    """Install the bundles of a file that `pack` wrote, or the bundle in a folder.

    All are checked before the first is installed: names, sizes, card, hash, outputs, one run.
    Nothing is unpacked but the files of a bundle. They are not compared with their authors'
    files, as any card could have been packed: only `pull` compares, and it replaces
    what came this way.

    Args:
        path: The file or folder.
        replace: Whether to replace another bundle of the same name.
        note: Called with a line for the user.

    Returns:
        Names of the bundles.

    Raises:
        BundleError: A bundle does not pass, or another one has its name.
        OutputError: It cannot be written.
    """
    bundles = [_read_folder(path)] if path.is_dir() else _unpacked(path)
    for contents in bundles:
        contents.inspect()
    names = [contents.card.name for contents in bundles]
    with ExitStack() as locks:
        # In one order everywhere, so that two processes never wait for each other.
        for name in sorted(names):
            locks.enter_context(locked(name, note))
        missing = []
        for contents in bundles:
            if not _is_installed(contents, path, replace):
                missing.append(contents)
        for contents in missing:
            place(contents)
    return names


def _is_installed(contents: Contents, path: Path, replace: bool) -> bool:
    """Whether this very bundle is installed.

    Raises BundleError where another one of its name may not be replaced.
    """
    card = contents.card
    if card.name in embedded():
        raise BundleError(
            f"{path}: {card.name} comes with mien and cannot be replaced; "
            "give the bundle another name"
        )
    folder = home() / "bundles" / card.name
    if not folder.is_dir():
        return False
    try:
        if read_contents(folder) == contents:
            return True
    except BundleError:
        # A damaged bundle may be replaced.
        return False
    if not replace:
        raise BundleError(
            f"{path}: another bundle named {card.name} is here: {folder}; "
            "say --replace, or remove it first"
        )
    return False


def _read_folder(path: Path) -> Contents:
    try:
        return read_contents(path)
    except UnknownNameError as error:
        raise BundleError(
            f"{path}: no bundle in it; name a file of `mien bundles pack`, or a bundle's folder"
        ) from error


def _unpacked(path: Path) -> list[Contents]:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BundleError(
                f"{path}: neither a file nor a folder; "
                "name a file of `mien bundles pack`, or a bundle's folder"
            )
        with zipfile.ZipFile(path) as source:
            members = _members(path, source.infolist(), size)
            return [_content(path, source, name, files) for name, files in members.items()]
    except BROKEN as error:
        raise BundleError(
            f"{path}: no file of `mien bundles pack`, or damaged: {error}; get it again"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; "
            "name a file of `mien bundles pack`, or a bundle's folder"
        ) from error


def _members(
    path: Path, infos: list[zipfile.ZipInfo], size: int
) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Members by bundle and path in the bundle.

    Raises BundleError for anything that `pack` does not write.
    """
    members: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in infos:
        name, inner = _checked_member(path, info)
        files = members.setdefault(name, {})
        if inner in files:
            raise BundleError(f"{path}: {info.filename} comes twice; do not use it")
        files[inner] = info
    # Members that share their bytes would unpack to more than the file holds.
    if sum(info.file_size for info in infos) > size:
        raise BundleError(f"{path}: its members are larger than the file itself; do not use it")
    if not members:
        raise BundleError(f"{path}: no bundle in it; make it with: mien bundles pack")
    return members


def _checked_member(path: Path, info: zipfile.ZipInfo) -> tuple[str, str]:
    """The bundle that a member is of, and its path in the bundle."""
    match = _MEMBER.fullmatch(info.filename)
    # The upper half holds the Unix mode; 0 where the file was packed elsewhere.
    kind = stat.S_IFMT(info.external_attr >> 16)
    if match is None or kind not in (0, stat.S_IFREG):
        raise BundleError(
            f"{path}: {info.filename!r} has no place in a file of `mien bundles pack`; "
            "do not use it"
        )
    stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    encrypted = info.flag_bits & 1
    if not stored or encrypted:
        raise BundleError(
            f"{path}: {info.filename} is compressed or encrypted, "
            "which `mien bundles pack` never does; do not use it"
        )
    if info.file_size > most_bytes(info.filename.rpartition("/")[2]):
        raise BundleError(
            f"{path}: {info.filename} has {info.file_size} bytes, "
            "more than a bundle's can have; do not use it"
        )
    return match["name"], match["path"]


def _content(
    path: Path, source: zipfile.ZipFile, name: str, members: dict[str, zipfile.ZipInfo]
) -> Contents:
    if _CARD not in members:
        raise BundleError(f"{path}: {name} has no {_CARD}; pack it again")
    card = parse_card(source.read(members[_CARD]), f"{path}: {name}/{_CARD}")
    needed = files_of(card)
    missing = [file for file in needed if file not in members]
    if missing:
        raise BundleError(f"{path}: {name} has no {' and no '.join(missing)}; pack it again")
    # What the card does not name has no hash that it could be checked by.
    surplus = sorted(set(members) - {_CARD, _README, *needed})
    if surplus:
        raise BundleError(
            f"{path}: {name}/{surplus[0]} has no place in this bundle, whose card does not name "
            "it; do not use it"
        )
    if card.name != name:
        raise BundleError(f"{path}: {name}/card.json is the card of {card.name}; pack it again")
    files = {file: source.read(members[file]) for file in needed}
    return verify_contents(f"{path}: {name}", card, files)

"""Bundles in one file, for machines without a network.

What comes in is checked as if an attacker had packed it.
"""

import hashlib
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from mien.bundles.card import AffectCard, FaceCard, SystemCard, parse_card
from mien.bundles.gate import MOST_BYTES, inspect, read_file
from mien.bundles.readme import readme
from mien.bundles.store import embedded, home, open_bundle, read_bundle
from mien.errors import BundleError
from mien.files import AtomicFile
from mien.zoo.fetch import writing
from mien.zoo.install import Note, locked, place, quiet
from mien.zoo.storages import BROKEN

__all__ = ["add", "pack"]

_MEMBER: Final = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]*)/(?P<file>card\.json|model\.onnx|README\.md)"
)
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # so that the same bundles make the same file

Content = tuple[AffectCard | FaceCard, bytes]


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
    contents = [read_bundle(name) for name in names]
    counts = Counter(bundle.card.name for bundle, _ in contents)
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
        for bundle, network in contents:
            members = {
                "card.json": read_file(bundle.folder / "card.json"),
                "README.md": readme(bundle.card).encode(),
                "model.onnx": network,
            }
            for file, content in members.items():
                member = zipfile.ZipInfo(f"{bundle.card.name}/{file}", _DATE)
                archive.writestr(member, content)
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
    contents = [_read_folder(path)] if path.is_dir() else _unpacked(path)
    for card, network in contents:
        inspect(card, network)
    names = [card.name for card, _ in contents]
    with ExitStack() as locks:
        # In one order everywhere, so that two processes never wait for each other.
        for name in sorted(names):
            locks.enter_context(locked(name, note))
        missing = []
        for card, network in contents:
            if not _is_installed(card, network, path, replace):
                missing.append((card, network))
        for card, network in missing:
            place(card, network)
    return names


def _is_installed(card: AffectCard | FaceCard, network: bytes, path: Path, replace: bool) -> bool:
    """Whether this very bundle is installed.

    Raises BundleError where another one of its name may not be replaced.
    """
    if card.name in embedded():
        raise BundleError(
            f"{path}: {card.name} comes with mien and cannot be replaced; "
            "give the bundle another name"
        )
    folder = home() / "bundles" / card.name
    if not folder.is_dir():
        return False
    try:
        bundle = open_bundle(folder)
        if bundle.card == card and bundle.network() == network:
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


def _read_folder(path: Path) -> Content:
    card = read_file(path / "card.json")
    network = read_file(path / "model.onnx")
    return _verified(str(path), card, network)


def _unpacked(path: Path) -> list[Content]:
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
    """Members by bundle and file name.

    Raises BundleError for anything that `pack` does not write.
    """
    members: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in infos:
        name, file = _checked_member(path, info)
        files = members.setdefault(name, {})
        if file in files:
            raise BundleError(f"{path}: {info.filename} comes twice; do not use it")
        files[file] = info
    # Members that share their bytes would unpack to more than the file holds.
    if sum(info.file_size for info in infos) > size:
        raise BundleError(f"{path}: its members are larger than the file itself; do not use it")
    if not members:
        raise BundleError(f"{path}: no bundle in it; make it with: mien bundles pack")
    return members


def _checked_member(path: Path, info: zipfile.ZipInfo) -> tuple[str, str]:
    """Name of the bundle and of the file that a member is."""
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
    if info.file_size > MOST_BYTES[match["file"]]:
        raise BundleError(
            f"{path}: {info.filename} has {info.file_size} bytes, "
            "more than a bundle's can have; do not use it"
        )
    return match["name"], match["file"]


def _content(
    path: Path, source: zipfile.ZipFile, name: str, files: dict[str, zipfile.ZipInfo]
) -> Content:
    missing = sorted({"card.json", "model.onnx"} - set(files))
    if missing:
        raise BundleError(f"{path}: {name} has no {' and no '.join(missing)}; pack it again")
    content = source.read(files["card.json"])
    card, network = _verified(f"{path}: {name}", content, source.read(files["model.onnx"]))
    if card.name != name:
        raise BundleError(f"{path}: {name}/card.json is the card of {card.name}; pack it again")
    return card, network


def _verified(where: str, content: bytes, network: bytes) -> Content:
    """A card and its network; raises BundleError, which names `where`, if they do not match."""
    card = parse_card(content, f"{where}/card.json")
    if isinstance(card, SystemCard):
        raise BundleError(
            f"{where}: a system of several networks, which is not packed; copy its folder, "
            "and name that as --bundle"
        )
    sha256 = hashlib.sha256(network).hexdigest()
    if sha256 != card.sha256:
        raise BundleError(
            f"{where}/model.onnx: sha256 is {sha256[:12]}…, the card says {card.sha256[:12]}…; "
            "get it again"
        )
    return card, network

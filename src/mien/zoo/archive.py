"""Bundles in one file, for machines without a network. What comes in is checked as if an enemy had packed it."""

import hashlib
import re
import stat
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from mien.bundles.card import AffectCard, FaceCard, parse_card
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
    """Write bundles, by name or folder, into one file that `add` reads elsewhere; returns the file.

    Raises UnknownNameError, BundleError for a bundle that is not whole or a name that comes twice, OutputError.
    """
    found = [read_bundle(name) for name in names]
    called = [bundle.card.name for bundle, _ in found]
    if twice := {name for name in called if called.count(name) > 1}:
        raise BundleError(f"{out}: {', '.join(sorted(twice))} comes twice; name each bundle once")
    errors = partial(writing, otherwise="name another place")
    with errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with (
        AtomicFile(out, errors) as part,
        errors(out),
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
    ):
        for bundle, network in found:
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
    """Install the bundles of a file that `pack` wrote, or the bundle in a folder; returns their names.

    All are found whole and harmless before the first is installed: names, sizes, card, hash, outputs, one run; nothing is unpacked but
    what a bundle has. They are not compared with their authors' files: whoever packed them could write any card. Only `pull` compares,
    and it takes nothing that came this way for its own.
    replace: another bundle of the same name goes. note: called with a line worth knowing. Raises BundleError, OutputError.
    """
    found = [_in_folder(path)] if path.is_dir() else _unpacked(path)
    for card, network in found:
        inspect(card, network)
    with ExitStack() as locks:
        for card, _ in sorted(found, key=lambda content: content[0].name):
            locks.enter_context(locked(card.name, note))
        missing = [content for content in found if not _is_here(*content, path, replace)]
        for card, network in missing:
            place(card, network)
    return [card.name for card, _ in found]


def _is_here(card: AffectCard | FaceCard, network: bytes, path: Path, replace: bool) -> bool:
    """Whether this very bundle is installed; raises BundleError where another one of its name may not be replaced."""
    if card.name in embedded():
        raise BundleError(
            f"{path}: {card.name} comes with mien and cannot be replaced; give the bundle another name"
        )
    folder = home() / "bundles" / card.name
    if not folder.is_dir():
        return False
    try:
        bundle = open_bundle(folder)
        if bundle.card == card and bundle.network() == network:
            return True
    except BundleError:
        return False  # damaged: it may go
    if not replace:
        raise BundleError(
            f"{path}: another bundle named {card.name} is here: {folder}; say --replace, or remove it first"
        )
    return False


def _in_folder(path: Path) -> Content:
    card, network = (read_file(path / file) for file in ("card.json", "model.onnx"))
    return _whole(str(path), card, network)


def _unpacked(path: Path) -> list[Content]:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BundleError(
                f"{path}: neither a file nor a folder; name a file of `mien bundles pack`, or a bundle's folder"
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
            f"{path}: {error.strerror or error}; name a file of `mien bundles pack`, or a bundle's folder"
        ) from error


def _members(
    path: Path, infos: list[zipfile.ZipInfo], size: int
) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Members by bundle and file name; raises BundleError for anything that `pack` does not write."""
    found: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in infos:
        match = _MEMBER.fullmatch(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if match is None or kind not in (0, stat.S_IFREG):
            raise BundleError(
                f"{path}: {info.filename!r} has no place in a file of `mien bundles pack`; do not use it"
            )
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.flag_bits & 1
            or info.compress_size != info.file_size
        ):
            raise BundleError(
                f"{path}: {info.filename} is compressed or encrypted, which `mien bundles pack` never does; do not use it"
            )
        if info.file_size > MOST_BYTES[match["file"]]:
            raise BundleError(
                f"{path}: {info.filename} has {info.file_size} bytes, more than a bundle's can have; do not use it"
            )
        files = found.setdefault(match["name"], {})
        if match["file"] in files:
            raise BundleError(f"{path}: {info.filename} comes twice; do not use it")
        files[match["file"]] = info
    # Members that share their bytes would make more of a file than there is in it.
    if sum(info.file_size for info in infos) > size:
        raise BundleError(f"{path}: its members are larger than the file itself; do not use it")
    if not found:
        raise BundleError(f"{path}: no bundle in it; make it with: mien bundles pack")
    return found


def _content(
    path: Path, source: zipfile.ZipFile, name: str, files: dict[str, zipfile.ZipInfo]
) -> Content:
    if missing := sorted({"card.json", "model.onnx"} - set(files)):
        raise BundleError(f"{path}: {name} has no {' and no '.join(missing)}; pack it again")
    card, network = _whole(
        f"{path}: {name}", source.read(files["card.json"]), source.read(files["model.onnx"])
    )
    if card.name != name:
        raise BundleError(f"{path}: {name}/card.json is the card of {card.name}; pack it again")
    return card, network


def _whole(where: str, content: bytes, network: bytes) -> Content:
    """The card and the network it speaks of; raises BundleError, which names `where`, if it is another or the card is wrong."""
    card = parse_card(content, f"{where}/card.json")
    if (found := hashlib.sha256(network).hexdigest()) != card.sha256:
        raise BundleError(
            f"{where}/model.onnx: sha256 is {found[:12]}…, the card says {card.sha256[:12]}…; get it again"
        )
    return card, network

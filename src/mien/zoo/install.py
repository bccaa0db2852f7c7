"""Install, verify and remove bundles. Nothing has its final name before it is whole and tested."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from mien.bundles.card import AffectCard, IdentityCard, write_card
from mien.bundles.card_parts import NAME
from mien.bundles.contents import Contents
from mien.bundles.gate import inspect
from mien.bundles.identity import load_identity
from mien.bundles.readme import readme
from mien.bundles.store import (
    SystemBundle,
    bundles,
    embedded,
    home,
    installed,
    load,
    load_detector,
    open_any,
    read_bundle,
)
from mien.errors import BundleError, OutputError, UnknownNameError
from mien.files import atomic_write, flush, move_into_place, rename_folder, replace_folder
from mien.progress import Progress, silent
from mien.systems.opening import load as load_system
from mien.zoo.convert import convert, made
from mien.zoo.fetch import RetryPolicy, check, fetch, writing
from mien.zoo.index import Entry, File, entry, kept_entry

__all__ = [
    "Note",
    "Pulled",
    "kept",
    "locked",
    "place",
    "prove",
    "pull",
    "quiet",
    "remove",
    "verify",
    "weights",
]

Note = Callable[[str], None]
Role = Literal["network", "weights"]
# How the recipe in the card of every pulled bundle begins.
_PULL: Final = "mien bundles pull "


def quiet(_line: str) -> None:
    """Ignore a line; the default of `note`.

    Args:
        _line: A line for the user.
    """


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull left on this machine.

    Attributes:
        name: Name of the entry.
        bundle: The bundle's folder; None for an entry of weights alone.
        weights: The authors' file of weights, verified; None unless it was asked for.
        fresh: Whether something was fetched; otherwise all was here and is verified.
    """

    name: str
    bundle: Path | None
    weights: Path | None
    fresh: bool


def pull(
    name: str | Path,
    *,
    weights: bool = False,
    source: str | Path | None = None,
    patience: RetryPolicy | None = None,
    progress: Progress = silent,
    note: Note = quiet,
) -> Pulled:
    """Fetch a bundle of the index, verify and convert it, compare and install it.

    An installed bundle stays only if this machine pulled it by the same entry and nobody has
    altered it since. Otherwise, also after `add`, it is fetched again and replaced, unless the
    user made it. Weights stay where their hash is right, whoever brought them; only the entry
    kept beside them is rewritten. Of two processes, one works; the other waits, and finds it
    done.

    Args:
        name: Name of an entry, or the file of one (see `mien.zoo.index.entry`).
        weights: Whether to fetch the file to start training from, too; it is kept as it is,
            verified and unopened. An entry without a network is weights alone.
        source: A folder or an address that holds the files, in place of the index's addresses;
            the hashes stay the same.
        patience: How to treat a bad connection.
        progress: Called with the file's name, the bytes that are here, and those of the whole
            file (an upper limit where unknown).
        note: Called with a line for the user.

    Returns:
        What is on this machine now.

    Raises:
        UnknownNameError: There is no such entry.
        BundleError: A file cannot be fetched, is not that of the index, or cannot be converted.
            Nothing has changed then, but what was fetched is kept and resumed.
        OutputError: Something cannot be written; as for BundleError.
    """
    _refuse_embedded(str(name))
    known = entry(name)
    _refuse_embedded(known.name)
    roles: list[Role] = ["network"] if known.network is not None else []
    if weights or not roles:
        roles.append("weights")
    paths = {role: _local(known, role) for role in roles}
    fresh = False
    if None in paths.values():
        with locked(known.name, note):
            # Looked up again: another process may have installed it meanwhile.
            paths = {role: _local(known, role) for role in roles}
            downloads = home() / "downloads" / known.name
            for role in roles:
                if paths[role] is not None:
                    continue
                # Weights may be whole while only the entry beside them is missing.
                path = _kept(known) if role == "weights" else None
                if path is None:
                    file = _file(known, role)
                    path = fetch(file, downloads, source, patience=patience, progress=progress)
                    fresh = True
                paths[role] = _put(known, role, path)
            shutil.rmtree(downloads, ignore_errors=True)
    return Pulled(known.name, paths.get("network"), paths.get("weights"), fresh)


def _put(known: Entry, role: Role, path: Path) -> Path:
    """Bring a verified file to where it belongs."""
    if role == "network":
        return _install(known, path)
    return _keep(known, path)


def _refuse_embedded(name: str) -> None:
    if name in embedded():
        raise BundleError(f"{name} comes with mien; nothing is to be pulled")


def _file(known: Entry, role: Role) -> File:
    """The file of that role; raises BundleError where the entry has none."""
    file = known.file(role)
    if file is None:
        raise BundleError(
            f"{known.name}: the index knows no weights to train from; pull it without --weights"
        )
    return file


def _local(known: Entry, role: Role) -> Path | None:
    """The bundle's folder or the file of weights; None where it must be pulled.

    This machine has pulled it by this very entry, and it is whole. Raises BundleError where
    another bundle of that name is here, or the entry has no weights.
    """
    if role == "network":
        return _installed(known)
    kept = _kept(known)
    return kept if _text(kept_entry(known.name)) == _entry_text(known) else None


def _installed(known: Entry) -> Path | None:
    folder = installed().get(known.name)
    if folder is None:
        return None
    try:
        bundle = open_any(folder)
        # No system is pulled: one of that name is the user's, whole or not.
        if not isinstance(bundle, SystemBundle):
            bundle.network()
        hashed = _hash(folder)
    except (BundleError, OSError):
        return None
    if not bundle.card.made.recipe.startswith(_PULL):
        raise BundleError(
            f"another bundle named {known.name} is here: {folder}; "
            f"remove it first: mien bundles remove {known.name}"
        )
    # The record says that this machine pulled it, the card by which entry.
    current = _text(_record(known.name)) == hashed and bundle.card.made == made(known)
    return folder if current else None


def _install(known: Entry, path: Path) -> Path:
    """The bundle's folder, made from the verified file, and a record of it."""
    with writing(path):
        content = path.read_bytes()
    network, card = convert(known, content)
    folder = place(Contents(card, {"model.onnx": network}))
    _write(_record(known.name), _hash(folder))
    return folder


def _record(name: str) -> Path:
    """Where this machine notes which bundle it pulled, out of reach of what others packed."""
    return home() / "pulled" / f"{name}.sha256"


def _hash(folder: Path) -> str:
    """What the record of a bundle says: the hash of its card, which holds the network's."""
    return f"{hashlib.sha256((folder / 'card.json').read_bytes()).hexdigest()}  card.json\n"


def _kept(known: Entry) -> Path | None:
    """The verified file of weights; None where it must be pulled.

    Raises BundleError where the entry has none.
    """
    file = _file(known, "weights")
    path = home() / "weights" / known.name / file.name
    if path.is_file():
        with suppress(BundleError):
            check(path, file)
            return path
    return None


def _keep(known: Entry, path: Path) -> Path:
    """Move a verified file of weights to its place, with its entry beside it.

    An entry that the user wrote is recorded nowhere else.
    """
    _write(kept_entry(known.name), _entry_text(known))
    kept = home() / "weights" / known.name / path.name
    with writing(kept):
        move_into_place(path, kept)
    return kept


def _entry_text(known: Entry) -> str:
    return known.model_dump_json(indent=2) + "\n"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _write(path: Path, text: str) -> None:
    """Write a small file, complete and on the disk before it has its name."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode(), writing)
    with writing(path):
        flush(path.parent)


def weights(name: str | Path) -> Path:
    """The file to start training from, verified again now.

    Args:
        name: Name of its entry, or the file of one.

    Returns:
        The authors' file. It may be a pickle: never unpickle it.

    Raises:
        UnknownNameError: There is no such entry.
        BundleError: The file is not on this machine, was altered, or has lost its entry.
    """
    try:
        known = entry(name)
    except UnknownNameError as error:
        if str(name) not in kept():
            raise
        raise BundleError(
            f"{kept()[str(name)]}: weights without their entry, which holds their hash; "
            "pull by it again: mien bundles pull ENTRY.json"
        ) from error
    path = _kept(known)
    if path is None:
        option = " --weights" if known.network is not None else ""
        raise BundleError(
            f"the weights of {known.name} are not whole on this machine; "
            f"get them with: mien bundles pull {name}{option}"
        )
    return path


@contextmanager
def locked(name: str, note: Note = quiet) -> Iterator[None]:
    """Hold the lock of a bundle among all processes of this machine.

    Args:
        name: Name of the bundle.
        note: Called with a line if another process holds it.

    Yields:
        Nothing, while the lock is held.

    Raises:
        OutputError: The lock cannot be written.
    """
    if not home().is_absolute():
        raise OutputError("this user has no home folder; set MIEN_HOME to a folder for bundles")
    path = home() / "locks" / f"{name}.lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        # Tried once without waiting, so that whoever must wait learns of it.
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"another process is at work on {name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def place(contents: Contents) -> Path:
    """Install a bundle: write it beside its place, load it once, then replace the old one.

    The caller holds the lock (`locked`).

    Args:
        contents: Its card and networks.

    Returns:
        Its folder.

    Raises:
        BundleError: A network is not that of the card; the old bundle is still in place.
        OutputError: It cannot be written; the old bundle is still in place.
    """
    card = contents.card
    folder = home() / "bundles" / card.name
    with replace_folder(folder, writing) as new:
        with writing(folder):
            for path, content in contents.files.items():
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                (new / path).write_bytes(content)
            (new / "README.md").write_text(readme(card), encoding="utf-8", newline="\n")
            write_card(card, new / "card.json")
        prove(new)
    return folder


def prove(name: str | Path) -> str:
    """Test a bundle without pictures: its hash, its outputs and their order, and one run.

    Args:
        name: Its name or folder.

    Returns:
        Its name.

    Raises:
        UnknownNameError: There is no such bundle.
        BundleError: It does not pass; the message names it.
    """
    bundle = open_any(name)
    if not isinstance(bundle, SystemBundle):
        bundle, network = read_bundle(name)
        inspect(bundle.card, network)
    try:
        if isinstance(bundle, SystemBundle):
            load_system(bundle.folder)
        elif isinstance(bundle.card, AffectCard):
            load(name)
        elif isinstance(bundle.card, IdentityCard):
            load_identity(name)
        else:
            load_detector(name)
    except BundleError as error:
        # Not by its folder, which is gone when it could not be installed.
        why = str(error).removeprefix(str(bundle.folder)).lstrip(f": {os.sep}")
        raise BundleError(f"{bundle.card.name}: {why}") from error
    return bundle.card.name


def kept() -> dict[str, Path]:
    """Weights that were pulled.

    Returns:
        Folders by name.
    """
    folders = sorted((home() / "weights").glob("[!.]*"))
    return {folder.name: folder for folder in folders if folder.is_dir()}


def verify(name: str | Path) -> str:
    """Verify what is on this machine: a bundle as `prove` does, weights by their hash.

    Args:
        name: Name of a bundle or weights, or a bundle's folder.

    Returns:
        Its name.

    Raises:
        UnknownNameError: There is nothing of that name.
        BundleError: Something was altered or is damaged.
    """
    if str(name) in kept():
        weights(name)
        if str(name) not in bundles():
            return str(name)
    return prove(name)


def remove(name: str, note: Note = quiet) -> None:
    """Delete an installed bundle, its weights, its record and what a broken pull left.

    Args:
        name: Its name.
        note: Called with a line for the user.

    Raises:
        BundleError: It comes with mien, or nothing was pulled or added at all.
        UnknownNameError: There is nothing of that name.
        OutputError: It cannot be deleted.
    """
    if name in embedded():
        raise BundleError(
            f"{name} comes with mien and stays; only what was pulled or added can be removed"
        )
    if not _parts(name):
        others = {*installed(), *kept()}
        if not others:
            raise BundleError(
                f"{name} is not here, and nothing else that could be removed: "
                "no bundle was pulled or added"
            )
        raise UnknownNameError("bundle that could be removed", name, others)
    with locked(name, note), writing(home() / "bundles" / name):
        # Looked up again: the process that held the lock may have added or removed some.
        for part in _parts(name):
            # Renamed first, so that nobody sees half of it.
            gone = part.with_name(f".{name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            rename_folder(part, gone)
            shutil.rmtree(gone)
        _record(name).unlink(missing_ok=True)


def _parts(name: str) -> list[Path]:
    """The folders that exist of that name."""
    if not re.fullmatch(NAME, name):
        return []
    paths = (f"bundles/.{name}.old", f"bundles/{name}", f"weights/{name}", f"downloads/{name}")
    folders = [home() / path for path in paths]
    return [folder for folder in folders if folder.is_dir()]

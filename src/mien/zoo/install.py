"""Bundles on their way to this machine and away from it. Nothing has its final name before it is whole and proven."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from mien.bundles.card import NAME, AffectCard, FaceCard, write_card
from mien.bundles.gate import inspect
from mien.bundles.readme import readme
from mien.bundles.store import (
    bundles,
    embedded,
    home,
    installed,
    load,
    load_detector,
    open_bundle,
    read_bundle,
)
from mien.errors import BundleError, OutputError, UnknownNameError
from mien.files import atomic_write, flush, move_into_place, rename_folder, replace_folder
from mien.progress import Progress, silent
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
_OWN: Final = "mien bundles pull "


def quiet(_line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull left on this machine.

    bundle: its folder, None for an entry of weights alone. weights: the verified file as its authors have it, where it was asked for.
    fresh: something was fetched; otherwise all was here and is verified.
    """

    name: str
    bundle: Path | None
    weights: Path | None
    fresh: bool


def pull(
    name: str | Path, *, weights: bool = False, source: str | Path | None = None, patience: RetryPolicy | None = None,
    progress: Progress = silent, note: Note = quiet,
) -> Pulled:  # fmt: skip
    """Fetch a bundle of the index, verify it, bring it into mien's form, compare it with the original, and install it.

    What is here stays only if this machine pulled it, by the same entry to the word, and nobody altered it since. Anything else of
    the kind, what `add` brought included, is fetched anew and replaced; a bundle of somebody's own is not. Weights stay where their
    hash is right, whoever brought them; only what is kept of the entry beside them is written anew.
    name: of an entry, or the file of one (see `mien.zoo.index.entry`). weights: also the file to start training from; it is kept as it
        is, verified and unopened. An entry without a network is weights alone.
    source: a folder or an address that holds the files, in place of the index's addresses; the hashes stay the same.
    progress: called with the file's name, the bytes that are here, and those of the whole file (at most so many where nobody knows); note: called with a line worth knowing.
    Two at once: one works, the other waits and finds it done. Raises UnknownNameError, BundleError and OutputError; then
    nothing has changed, except that what came is kept and gone on from.
    """
    _not_embedded(str(name))
    wanted = entry(name)
    _not_embedded(wanted.name)
    roles: list[Role] = ["network"] if wanted.network is not None else []
    if weights or not roles:
        roles.append("weights")
    here = {role: _here(wanted, role) for role in roles}
    fresh = False
    if None in here.values():
        with locked(wanted.name, note):
            here = {
                role: _here(wanted, role) for role in roles
            }  # another process may have been at it
            missing = [role for role in roles if here[role] is None]
            downloads = home() / "downloads" / wanted.name
            for role in missing:
                path = _kept(wanted) if role == "weights" else None
                if path is None:
                    path, fresh = (
                        fetch(
                            _file(wanted, role),
                            downloads,
                            source,
                            patience=patience,
                            progress=progress,
                        ),
                        True,
                    )
                here[role] = _install(wanted, path) if role == "network" else _keep(wanted, path)
            shutil.rmtree(downloads, ignore_errors=True)
    return Pulled(wanted.name, here.get("network"), here.get("weights"), fresh)


def _not_embedded(name: str) -> None:
    if name in embedded():
        raise BundleError(f"{name} comes with mien; nothing is to be pulled")


def _file(wanted: Entry, role: Role) -> File:
    """The file of that role; raises BundleError where the entry has none."""
    file = wanted.file(role)
    if file is None:
        raise BundleError(
            f"{wanted.name}: the index knows no weights to train from; pull it without --weights"
        )
    return file


def _here(wanted: Entry, role: Role) -> Path | None:
    """The bundle's folder, or the file of weights, if this machine pulled it by this entry and it is whole; None where it is to be pulled.

    Raises BundleError where another bundle of that name is here, or the entry has no weights.
    """
    if role == "network":
        return _installed(wanted)
    kept = _kept(wanted)
    return kept if _text(kept_entry(wanted.name)) == _told(wanted) else None


def _installed(wanted: Entry) -> Path | None:
    folder = installed().get(wanted.name)
    if folder is None:
        return None
    try:
        bundle = open_bundle(folder)
        bundle.network()
        hashed = _hash(folder)
    except (BundleError, OSError):
        return None
    if not bundle.card.made.recipe.startswith(_OWN):
        raise BundleError(
            f"another bundle named {wanted.name} is here: {folder}; remove it first: mien bundles remove {wanted.name}"
        )
    return (
        folder
        if _text(_record(wanted.name)) == hashed and bundle.card.made == made(wanted)
        else None
    )


def _install(wanted: Entry, path: Path) -> Path:
    """The bundle's folder, made from the verified file, and a record of it."""
    with writing(path):
        content = path.read_bytes()
    network, card = convert(wanted, content)
    folder = place(card, network)
    _write(_record(wanted.name), _hash(folder))
    return folder


def _record(name: str) -> Path:
    """Where this machine notes which bundle it pulled, out of reach of what others packed."""
    return home() / "pulled" / f"{name}.sha256"


def _hash(folder: Path) -> str:
    """What the record of a bundle says: the hash of its card, which holds the network's."""
    return f"{hashlib.sha256((folder / 'card.json').read_bytes()).hexdigest()}  card.json\n"


def _kept(wanted: Entry) -> Path | None:
    """The verified file of weights if it is here, None where it is to be pulled; raises BundleError where the entry has none."""
    file = _file(wanted, "weights")
    path = home() / "weights" / wanted.name / file.name
    if path.is_file():
        with suppress(BundleError):
            check(path, file)
            return path
    return None


def _keep(wanted: Entry, path: Path) -> Path:
    """Put a verified file of weights where it stays, with its entry beside it: an entry of somebody's own is known nowhere else."""
    _write(kept_entry(wanted.name), _told(wanted))
    kept = home() / "weights" / wanted.name / path.name
    with writing(kept):
        move_into_place(path, kept)
    return kept


def _told(wanted: Entry) -> str:
    return wanted.model_dump_json(indent=2) + "\n"


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
    """The file to start training from, as its authors have it, verified again now; it may be a pickle: never unpickle it.

    Raises UnknownNameError, and BundleError where it is not on this machine or altered, or nothing tells what it should be.
    """
    try:
        wanted = entry(name)
    except UnknownNameError as error:
        if str(name) not in kept():
            raise
        raise BundleError(
            f"{kept()[str(name)]}: weights without their entry, which tells their hash; pull by it again: mien bundles pull ENTRY.json"
        ) from error
    path = _kept(wanted)
    if path is None:
        option = " --weights" if wanted.network is not None else ""
        raise BundleError(
            f"the weights of {wanted.name} are not whole on this machine; get them with: mien bundles pull {name}{option}"
        )
    return path


@contextmanager
def locked(name: str, note: Note = quiet) -> Iterator[None]:
    """Alone at work on the bundle of that name, among all processes of this machine."""
    if not home().is_absolute():
        raise OutputError("this user has no home folder; set MIEN_HOME to a folder for bundles")
    path = home() / "locks" / f"{name}.lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            note(f"another process is at work on {name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def place(card: AffectCard | FaceCard, network: bytes) -> Path:
    """Install a bundle: written aside, loaded once, then named; the one of that name goes only then. For the holder of the lock.

    Raises BundleError for a network that is not what the card says, OutputError; then what was here before is still here.
    """
    folder = home() / "bundles" / card.name
    with replace_folder(folder, writing) as new:
        with writing(folder):
            (new / "model.onnx").write_bytes(network)
            (new / "README.md").write_text(readme(card), encoding="utf-8", newline="\n")
            write_card(card, new / "card.json")
        prove(new)
    return folder


def prove(name: str | Path) -> str:
    """Try a bundle, by name or folder, as far as that goes without pictures; returns its name.

    The hash, the outputs and their order against the card, and one run. Raises UnknownNameError or BundleError, which names the bundle.
    """
    bundle, network = read_bundle(name)
    inspect(bundle.card, network)
    try:
        if isinstance(bundle.card, AffectCard):
            load(name)
        else:
            load_detector(name)
    except BundleError as error:
        # Not by its folder, which is gone when it could not be installed.
        raise BundleError(
            f"{bundle.card.name}: {str(error).removeprefix(f'{bundle.folder}: ')}"
        ) from error
    return bundle.card.name


def kept() -> dict[str, Path]:
    """Names and folders of the weights that were pulled."""
    found = sorted((home() / "weights").glob("[!.]*"))
    return {folder.name: folder for folder in found if folder.is_dir()}


def verify(name: str | Path) -> str:
    """Look again at all that is here of that name, or in that folder: a bundle as `prove` does, weights by their hash; returns its name.

    Raises UnknownNameError or BundleError.
    """
    if str(name) in kept():
        weights(name)
        if str(name) not in bundles():
            return str(name)
    return prove(name)


def remove(name: str, note: Note = quiet) -> None:
    """Delete an installed bundle, its weights, its record and what a broken pull left. note: called with a line worth knowing.

    Raises BundleError for one that comes with mien, UnknownNameError where nothing of that name is here.
    """
    if name in embedded():
        raise BundleError(
            f"{name} comes with mien and stays; only what was pulled or added can be removed"
        )
    if not _parts(name):
        others = {*installed(), *kept()}
        if not others:
            raise BundleError(
                f"{name} is not here, and nothing else that could be removed: no bundle was pulled or added"
            )
        raise UnknownNameError("bundle that could be removed", name, others)
    with locked(name, note), writing(home() / "bundles" / name):
        for part in _parts(
            name
        ):  # looked for again: who was waited for may have brought some, or removed all
            # Renamed first, so that nobody sees half of it.
            gone = part.with_name(f".{name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            rename_folder(part, gone)
            shutil.rmtree(gone)
        _record(name).unlink(missing_ok=True)


def _parts(name: str) -> list[Path]:
    """The folders that are here of that name."""
    places = (f"bundles/.{name}.old", f"bundles/{name}", f"weights/{name}", f"downloads/{name}")
    parts = [home() / place for place in places] if re.fullmatch(NAME, name) else []
    return [part for part in parts if part.is_dir()]

"""Bundles on their way to this machine and away from it. Nothing has its final name before it is whole and proven."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from mien.bundles.card import NAME, AffectCard, FaceCard, write_card
from mien.bundles.readme import readme
from mien.bundles.store import bundles, embedded, home, installed, load, load_detector, open_bundle
from mien.errors import BundleError, OutputError, UnknownNameError
from mien.zoo.convert import convert, inspect, made
from mien.zoo.fetch import Patience, Progress, check, fetch, writing
from mien.zoo.index import Entry, entry

__all__ = ["Pulled", "kept", "locked", "place", "prove", "pull", "remove", "verify", "weights"]

Note = Callable[[str], None]
_OWN: Final = "mien bundles pull "


def _quiet(_what: str, _done: int = 0, _total: int = 0) -> None:
    pass


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
    name: str | Path, *, weights: bool = False, source: str | Path | None = None, patience: Patience | None = None,
    progress: Progress = _quiet, note: Note = _quiet,
) -> Pulled:  # fmt: skip
    """Fetch a bundle of the index, verify it, bring it into mien's form, compare, and install it; a whole one that is here stays.

    name: of an entry, or the file of one (see `mien.zoo.index.entry`). weights: also the file to start training from; it is kept as it
        is, verified and unopened. An entry without a network is weights alone.
    source: a folder or an address that holds the files, in place of the index's addresses; the hashes stay the same.
    progress: called as `Progress` says; note: called with a line worth knowing.
    Two at once: one works, the other waits and finds it done. Raises UnknownNameError, BundleError and OutputError; then
    nothing has changed, except that what came is kept and gone on from.
    """
    known = entry(name)
    if known.name in embedded():
        raise BundleError(f"{known.name} comes with mien; nothing is to be pulled")
    fresh, folder, kept = False, None, None
    with locked(known.name, note):
        downloads = home() / "downloads" / known.name

        def get(file_role: str, into: Path) -> Path:
            file = next(file for file in known.files if file.role == file_role)
            return fetch(file, into, source, patience=patience, progress=progress)

        if known.network is not None:
            folder = _here(known)
            if folder is None:
                network, card = convert(known, _read(get("network", downloads)))
                folder, fresh = place(card, network), True
        if weights or known.network is None:
            kept = _kept(known)
            if kept is None:
                path = get("weights", downloads)
                kept, fresh = home() / "weights" / known.name / path.name, True
                with writing(kept):
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(kept)
        shutil.rmtree(downloads, ignore_errors=True)
    return Pulled(known.name, folder, kept, fresh)


def _read(path: Path) -> bytes:
    with writing(path):
        return path.read_bytes()


def _here(known: Entry) -> Path | None:
    """The folder of the bundle if it is here, whole, and made from this entry; None where it is to be pulled.

    Raises BundleError where another bundle of that name is here.
    """
    folder = installed().get(known.name)
    if folder is None:
        return None
    try:
        bundle = open_bundle(folder)
        bundle.network()
    except BundleError:
        return None
    if not bundle.card.made.recipe.startswith(_OWN):
        raise BundleError(f"another bundle named {known.name} is here: {folder}; remove it first: mien bundles remove {known.name}")
    return folder if bundle.card.made == made(known) else None


def _kept(known: Entry) -> Path | None:
    """The verified file of weights if it is here, None where it is to be pulled; raises BundleError where the index has none."""
    file = known.file("weights")
    if file is None:
        raise BundleError(f"{known.name}: the index knows no weights to train from; pull it without --weights")
    path = home() / "weights" / known.name / file.name
    if path.is_file():
        with suppress(BundleError):
            check(path, file)
            return path
    return None


def weights(name: str | Path) -> Path:
    """The file to start training from, as its authors have it, verified again now; it may be a pickle: never unpickle it.

    Raises UnknownNameError, and BundleError where it is not on this machine or altered.
    """
    known = entry(name)
    path = _kept(known)
    if path is None:
        option = " --weights" if known.network is not None else ""
        raise BundleError(
            f"the weights of {known.name} are not whole on this machine; get them with: mien bundles pull {known.name}{option}"
        )
    return path


@contextmanager
def locked(name: str, note: Note = _quiet) -> Iterator[None]:
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
    aside, old = folder.with_name(f".{card.name}.part"), folder.with_name(f".{card.name}.old")
    try:
        with writing(folder):
            _mend(folder, old)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            with (aside / "model.onnx").open("wb") as out:
                out.write(network)
                out.flush()
                os.fsync(out.fileno())
            (aside / "README.md").write_text(readme(card), encoding="utf-8", newline="\n")
            write_card(card, aside / "card.json")
        prove(aside)
        with writing(folder):
            if folder.exists():
                folder.rename(old)
            try:
                aside.rename(folder)
            finally:
                _mend(folder, old)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _mend(folder: Path, old: Path) -> None:
    """The old bundle takes its name again where nothing took its place, as after a power cut; otherwise it goes."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def prove(name: str | Path) -> str:
    """Check a bundle, by name or folder, as far as that goes without pictures; returns its name.

    The hash, the outputs and their order against the card, and one run. Raises UnknownNameError or BundleError.
    """
    bundle = open_bundle(name)
    inspect(bundle.card, bundle.network())
    if isinstance(bundle.card, AffectCard):
        load(bundle.folder)
    else:
        load_detector(bundle.folder)
    return bundle.card.name


def kept() -> dict[str, Path]:
    """Names and folders of the weights that were pulled."""
    found = sorted((home() / "weights").glob("[!.]*"))
    return {folder.name: folder for folder in found if folder.is_dir()}


def verify(name: str | Path) -> str:
    """Check what is here of that name or in that folder: a bundle as `prove` does, otherwise weights; returns its name.

    Raises UnknownNameError or BundleError.
    """
    if str(name) in kept() and str(name) not in bundles():
        weights(name)
        return str(name)
    return prove(name)


def remove(name: str) -> None:
    """Delete an installed bundle, its weights and what a broken pull left.

    Raises BundleError for one that comes with mien, UnknownNameError where nothing of that name is here.
    """
    if name in embedded():
        raise BundleError(f"{name} comes with mien and stays; only what was pulled or added can be removed")
    parts = [home() / room / name for room in ("bundles", "weights", "downloads")] if re.fullmatch(NAME, name) else []
    here = [part for part in parts if part.is_dir()]
    if not here:
        known = {*installed(), *kept()}
        if not known:
            raise BundleError(f"{name} is not here, and nothing else that could be removed: no bundle was pulled or added")
        raise UnknownNameError("bundle that could be removed", name, known)
    with locked(name), writing(home() / "bundles" / name):
        for part in here:
            # Renamed first, so that nobody sees half of it.
            gone = part.with_name(f".{name}.gone")
            shutil.rmtree(gone, ignore_errors=True)
            part.rename(gone)
            shutil.rmtree(gone)

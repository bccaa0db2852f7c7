"""Find a bundle by name or folder, verify it, and turn it into something that reads pictures."""

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.card import AffectCard, FaceCard, NetworkCard, SystemCard, read_card
from mien.bundles.card_parts import NAME
from mien.bundles.engines import Engine, FileEngine, open_engine, reason
from mien.bundles.gate import inspect, interruptible, read_file
from mien.bundles.model import BATCH, Model, check_finite
from mien.bundles.versions import newest_version
from mien.documents import at_home
from mien.errors import BundleError, DataError, MienError, UnknownNameError
from mien.faces.detect import Detector, anchor_points
from mien.text import printable

__all__ = [
    "AFFECT",
    "FACES",
    "KNOWN",
    "QUALITY",
    "Bundle",
    "Model",
    "SystemBundle",
    "bundle_folder",
    "bundles",
    "embedded",
    "home",
    "installed",
    "load",
    "load_detector",
    "open_any",
    "open_bundle",
    "read_bundle",
    "start_engine",
]

_EMBEDDED: Final = Path(__file__).parent / "embedded"
KNOWN: Final = Path(__file__).parent / "known"
"""Index of the bundles that can be pulled, one file each; `mien.zoo` reads them, only their
names count in this module."""
# Attempts to read a bundle: another may take its place meanwhile, but hardly so often in a row.
_ATTEMPTS: Final = 5
# Multiply-accumulates from which a run may keep a signal waiting.
_LONG_WORK: Final = 1_000_000_000
# Numbers that a batch may compute, all layers together.
_BATCH_NUMBERS: Final = 1 << 31
AFFECT: Final = "mien-s"
"""The bundle that reads affect by default."""
FACES: Final = "mien-face"
"""The bundle that finds faces by default."""
QUALITY: Final = "mien-quality"
"""The bundle that says how far readings can be trusted by default."""

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with ``card.json`` and ``model.onnx``.

    Attributes:
        folder: The folder.
        card: Content of ``card.json``.
    """

    folder: Path
    card: NetworkCard

    def __repr__(self) -> str:
        sha256 = self.card.sha256[:12]
        return f"Bundle({self.card.name!r} in {str(self.folder)!r}, sha256 {sha256}…)"

    def network(self) -> bytes:
        """Read the network, check its hash and inspect it (`mien.bundles.gate`).

        Where the bundle may be replaced meanwhile, use `read_bundle`.

        Returns:
            Content of ``model.onnx``.

        Raises:
            BundleError: It is not the network of the card, or does not pass inspection.
        """
        return self._inspected(self._content())

    def _content(self) -> bytes:
        path = self.folder / "model.onnx"
        content = read_file(path)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != self.card.sha256:
            raise BundleError(
                f"{path}: altered or incomplete: sha256 is {sha256[:12]}…, the card says "
                f"{self.card.sha256[:12]}…; get the bundle again from where it came"
            )
        return content

    def _inspected(self, content: bytes) -> bytes:
        if not self.comes_with_mien:
            inspect(self.card, content)
        return content

    @property
    def comes_with_mien(self) -> bool:
        """Whether it is part of the package, and as safe as its code: mien's tests inspect it."""
        return self.folder.parent == _EMBEDDED


@dataclass(frozen=True, slots=True)
class SystemBundle:
    """A folder with ``card.json``, ``members/`` and ``heads/``.

    Attributes:
        folder: The folder.
        card: Content of ``card.json``.
    """

    folder: Path
    card: SystemCard

    def __repr__(self) -> str:
        members = ", ".join(self.card.members)
        return f"SystemBundle({self.card.name!r} in {str(self.folder)!r}, members {members})"


def home() -> Path:
    """Folder of what was pulled: MIEN_HOME, or the system's folder for a user's data.

    Returns:
        An absolute path; the folder need not exist.

    Raises:
        DataError: MIEN_HOME lies in the home folder of a user who has none.
    """
    if setting := os.environ.get("MIEN_HOME"):
        return at_home(setting, "MIEN_HOME").absolute()
    user = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or user / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = user / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or user / ".local" / "share"
    return Path(base) / "mien"


def embedded() -> dict[str, Path]:
    """Bundles that come with mien.

    Returns:
        Folders by name.
    """
    return _bundles_in(_EMBEDDED)


def installed() -> dict[str, Path]:
    """Bundles that were pulled or added, without those named like one that comes with mien.

    Returns:
        Folders by name.
    """
    try:
        folders = _bundles_in(home() / "bundles")
    # What comes with mien needs no home: a wrong MIEN_HOME is an error only for calls that use it.
    except (OSError, DataError):
        return {}
    reserved = embedded()
    return {name: folder for name, folder in folders.items() if name not in reserved}


def _bundles_in(folder: Path) -> dict[str, Path]:
    folders = {}
    for path in sorted(folder.glob("*/card.json")):
        # A leading dot marks a bundle that is being installed or removed.
        if not path.parent.name.startswith("."):
            folders[path.parent.name] = path.parent
    return folders


def bundles() -> dict[str, Path]:
    """Bundles on this machine: those that come with mien, then those that were pulled or added.

    Returns:
        Folders by name.
    """
    return {**embedded(), **installed()}


def open_bundle(name: str | Path) -> Bundle:
    """Open a bundle of one network by name or folder, without reading the network.

    Args:
        name: Its name, or a folder; a `Path` that exists is always a folder. A name that comes with
            mien may have a version, such as ``mien-s@1``; without one it is the newest.

    Returns:
        The bundle.

    Raises:
        UnknownNameError: There is none; the message suggests the nearest names.
        BundleError: Its card is wrong, it is a system of several networks, or it is known but not
            on this machine.
    """
    bundle = open_any(name)
    if isinstance(bundle, SystemBundle):
        raise BundleError(
            f"{bundle.card.name} is a system of several networks, and one alone is needed here; "
            "name one of the folders in its members/, or another bundle"
        )
    return bundle


def open_any(name: str | Path) -> Bundle | SystemBundle:
    """Open a bundle of one network, or a system of several, without reading networks.

    Args:
        name: As for `open_bundle`.

    Returns:
        The bundle or system.

    Raises:
        UnknownNameError: There is none; the message suggests the nearest names.
        BundleError: Its card is wrong, or it is known but not on this machine.
    """
    try:
        return _open_once(name)
    except MienError:
        # While a bundle is replaced there is a moment without one, so that a folder listed a
        # moment ago may be gone: a second attempt finds the new one.
        return _open_once(name)


def read_bundle(name: str | Path) -> tuple[Bundle, bytes]:
    """Open a bundle and read its network; they match even if it is replaced meanwhile.

    Args:
        name: Its name or folder, as for `open_bundle`.

    Returns:
        The bundle, and the content of its ``model.onnx``.

    Raises:
        UnknownNameError: There is no such bundle.
        BundleError: As `open_bundle` and `Bundle.network` raise it.
    """
    for _ in range(_ATTEMPTS - 1):
        bundle = open_bundle(name)
        try:
            content = bundle._content()
        except BundleError:
            continue
        return bundle, bundle._inspected(content)
    # The last attempt raises what is wrong.
    bundle = open_bundle(name)
    return bundle, bundle.network()


def bundle_folder(name: str | Path) -> Path:
    """Find the folder of a bundle without reading anything in it; it may hold no bundle.

    Args:
        name: Its name or folder, as for `open_bundle`.

    Returns:
        The folder, which exists.

    Raises:
        UnknownNameError: There is no such bundle or folder.
        BundleError: It is known but not on this machine.
    """
    try:
        return _find_folder(name)
    except MienError:
        # A second attempt, as in `open_bundle`.
        return _find_folder(name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null
        return False


def _open_once(name: str | Path) -> Bundle | SystemBundle:
    folder = _find_folder(name)
    if not any(os.path.lexists(folder / file) for file in ("card.json", "model.onnx")):
        raise UnknownNameError(
            "bundle", str(name), bundles(), "a bundle is a folder with card.json and model.onnx"
        )
    card = read_card(folder / "card.json")
    return SystemBundle(folder, card) if isinstance(card, SystemCard) else Bundle(folder, card)


def _find_folder(name: str | Path) -> Path:
    local = bundles()
    if name == "":  # as a folder, the empty name would be the working directory
        raise UnknownNameError("bundle", "", local)
    if isinstance(name, Path) and _is_folder(name):
        folder = name
    else:
        folder = local.get(str(name)) or newest_version(str(name), embedded()) or Path(name)
    if not _is_folder(folder) and re.fullmatch(NAME, str(name)):
        # Where the old bundle is kept while another takes its place, or after a power cut then.
        folder = home() / "bundles" / f".{name}.old"
    if not _is_folder(folder):
        raise _not_here(str(name), local)
    return folder


def _not_here(name: str, local: Mapping[str, Path]) -> MienError:
    """The error for a bundle that is not on this machine: how to get it, or the nearest names."""
    known = [path.stem for path in KNOWN.glob("*.json")]
    if name in known:
        return BundleError(f"{name} is not on this machine; get it with: mien bundles pull {name}")
    weights = [path.stem for path in (KNOWN / "weights").glob("*.json")]
    if name in weights:
        return BundleError(
            f"{name} is weights to train from, no bundle; "
            f"mien bundles pull {name} prints what to name as `start`"
        )
    # Of the many that can be pulled, only one is suggested beside those on this machine.
    return UnknownNameError("bundle", name, {*local, *get_close_matches(name, known, n=1)})


class _InterruptibleEngine:
    """An engine whose long runs can be interrupted by Ctrl-C and signals."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        return interruptible(lambda: self._engine.run(batch, first))


def start_engine(
    bundle: Bundle,
    network: bytes,
    name: str,
    threads: int,
    *,
    input_shape: tuple[int, ...],
    output_shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Engine, int]:
    """Start a bundle's network.

    It has run once, on zeros, so that a card of another network is found out here and not in the
    middle of a video.

    Args:
        bundle: The bundle.
        network: Its network, verified and inspected.
        name: Name of the engine.
        threads: Threads of the engine.
        input_shape: Shape of its input, for one picture.
        output_shapes: Shapes of its outputs by name, in their order, for one picture.

    Returns:
        The network, ready to run, and its batch size.

    Raises:
        BundleError: The network is not the card's.
    """
    engine = interruptible(lambda: open_engine(network, name, threads))
    _check_outputs(bundle, engine, input_shape, output_shapes)
    # Those are neither inspected nor slow.
    if bundle.comes_with_mien:
        return engine, BATCH
    # `Bundle.network` has inspected all others, so that this is only a look-up.
    need = inspect(bundle.card, network)
    batch_size = min(BATCH, max(1, _BATCH_NUMBERS // need.numbers))
    if need.work * batch_size > _LONG_WORK:
        return _InterruptibleEngine(engine), batch_size
    return engine, batch_size


def _check_outputs(
    bundle: Bundle,
    engine: FileEngine,
    input_shape: tuple[int, ...],
    output_shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Run the network on zeros; raise BundleError where its outputs are not those of the card."""
    expected_names = list(output_shapes)
    same_names = len(engine.outputs) == len(expected_names) and all(
        name in names for name, names in zip(expected_names, engine.outputs, strict=True)
    )
    if not same_names:
        names = [min(names, key=len, default="one without a name") for names in engine.outputs]
        raise BundleError(
            f"{bundle.folder}: the network gives {printable(', '.join(names))}, the card says "
            f"{', '.join(expected_names)}; get the bundle again"
        )
    try:
        outputs = interruptible(lambda: engine.run(np.zeros(input_shape, np.float32)))
    except MienError:  # another processor failed, which says nothing of the bundle
        raise
    except Exception as error:  # engines raise types of their own
        raise BundleError(
            f"{bundle.folder}: the network does not take {input_shape}, which the card asks for: "
            f"{reason(error)}; get the bundle again"
        ) from error
    shapes = [output.shape for output in outputs]
    expected_shapes = list(output_shapes.values())
    if shapes != expected_shapes:
        raise BundleError(
            f"{bundle.folder}: the network gives {shapes}, the card says {expected_shapes}; "
            "get the bundle again"
        )
    check_finite(bundle.folder, outputs)


def load(name: str | Path = AFFECT, engine: str = "auto", threads: int = 1) -> Model:
    """Load a bundle that reads affect: verified, inspected and ready to run.

    Args:
        name: Its name or folder.
        engine: Its name, as for `choose`; ``auto`` is ONNX Runtime on the CPU.
        threads: Threads of the engine; 0 leaves their number to it.

    Returns:
        The model.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: The bundle is damaged, or finds faces instead.
        MissingExtraError: The engine is not installed.
    """
    bundle, network = read_bundle(name)
    if not isinstance(bundle.card, AffectCard):
        raise BundleError(
            f"{bundle.card.name} {bundle.card.purpose} and cannot read affect; "
            f"use a bundle such as {AFFECT}"
        )
    pixels = bundle.card.pixels
    output_shapes = {}
    for output, width in zip(bundle.card.outputs, bundle.card.widths, strict=True):
        output_shapes[output] = (1, width)
    running, batch_size = start_engine(
        bundle,
        network,
        engine,
        threads,
        input_shape=(1, pixels.channels, pixels.size, pixels.size),
        output_shapes=output_shapes,
    )
    return Model(bundle.card, running, batch_size)


def load_detector(name: str | Path = FACES, engine: str = "auto", threads: int = 1) -> Detector:
    """Load a bundle that finds faces: verified, inspected and ready to run.

    Args:
        name: Its name or folder.
        engine: As for `load`.
        threads: As for `load`.

    Returns:
        The detector; it raises BundleError where its network gives NaN or infinity.

    Raises:
        UnknownNameError: As for `load`.
        BundleError: The bundle is damaged, or reads affect instead.
        MissingExtraError: As for `load`.
    """
    bundle, network = read_bundle(name)
    if not isinstance(bundle.card, FaceCard):
        raise BundleError(
            f"{bundle.card.name} reads affect and cannot find faces; use a bundle such as {FACES}"
        )
    card = bundle.card
    side = card.search.window
    running, _ = start_engine(
        bundle,
        network,
        engine,
        threads,
        input_shape=(1, 1, side, side),
        output_shapes={"grid": (1, len(anchor_points(side, side)), 15)},
    )

    def raw_predictions(luma: Floats32) -> Floats32:
        outputs = running.run(luma)
        check_finite(card.name, outputs)
        return outputs[0]

    return Detector(raw_predictions, **card.search.model_dump())

"""Find a bundle by name or folder, verify it, and turn it into something that reads pictures."""

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.card import NAME, AffectCard, FaceCard, read_card
from mien.bundles.engines import Engine, open_engine, reason
from mien.bundles.gate import inspect, interruptible, read_file
from mien.documents import at_home
from mien.errors import BundleError, DataError, MienError, UnknownNameError
from mien.faces.detect import Detector, anchor_points
from mien.faces.prepare import normalise, prepare, prepare_crop
from mien.records import Face
from mien.tasks import Floats, Task
from mien.text import printable

__all__ = [
    "AFFECT", "FACES", "KNOWN", "Bundle", "Model", "bundle_folder", "bundles", "embedded", "home", "installed", "load", "load_detector",
    "open_bundle", "read_bundle",
]  # fmt: skip

_EMBEDDED: Final = Path(__file__).parent / "embedded"
KNOWN: Final = Path(__file__).parent / "known"
"""What can be had from elsewhere, one file each; `mien.zoo` reads them, here only their names count."""
_TRIES: Final = 5  # of reading a bundle: it may be replaced meanwhile, but hardly so often in a row
_BATCH: Final = 64  # crops that go through a network together
_LONG: Final = 1_000_000_000  # multiply-accumulates of a run that could keep a signal waiting
_AT_ONCE: Final = 1 << 31  # numbers that they may come to, all layers together
AFFECT: Final = "mien-s"
"""The bundle that reads affect unless told otherwise."""
FACES: Final = "mien-face"
"""The bundle that finds faces."""

Image = NDArray[np.uint8]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with ``card.json`` and ``model.onnx``."""

    folder: Path
    card: AffectCard | FaceCard

    def __repr__(self) -> str:
        return (
            f"Bundle({self.card.name!r} in {str(self.folder)!r}, sha256 {self.card.sha256[:12]}…)"
        )

    def network(self) -> bytes:
        """The network's bytes, checked against the card and inspected (`mien.bundles.gate`); raises BundleError when they do not pass.

        Where the bundle may be replaced meanwhile, use `read_bundle`.
        """
        return self._inspected(self._content())

    def _content(self) -> bytes:
        path = self.folder / "model.onnx"
        content = read_file(path)
        found = hashlib.sha256(content).hexdigest()
        if found != self.card.sha256:
            raise BundleError(
                f"{path}: altered or incomplete: sha256 is {found[:12]}…, the card says {self.card.sha256[:12]}…;"
                " get the bundle again from where it came"
            )
        return content

    def _inspected(self, content: bytes) -> bytes:
        if not self.comes_with_mien:
            inspect(self.card, content)
        return content

    @property
    def comes_with_mien(self) -> bool:
        """Whether it is part of the package, as safe as its code; its networks are inspected by mien's own tests."""
        return self.folder.parent == _EMBEDDED


def home() -> Path:
    """Where what was pulled lies: the folder that MIEN_HOME names, or the system's folder for a user's data. It need not exist.

    Raises DataError for a MIEN_HOME in the home folder of somebody who has none.
    """
    if named := os.environ.get("MIEN_HOME"):
        return at_home(named, "MIEN_HOME").absolute()
    user = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or user / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = user / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or user / ".local" / "share"
    return Path(base) / "mien"


def embedded() -> dict[str, Path]:
    """Names and folders of the bundles that come with mien."""
    return _in(_EMBEDDED)


def installed() -> dict[str, Path]:
    """Names and folders of the bundles that were pulled or added. One that comes with mien keeps its name."""
    try:
        return {
            name: folder
            for name, folder in _in(home() / "bundles").items()
            if name not in embedded()
        }
    except (
        OSError,
        DataError,
    ):  # what comes with mien needs no home, so that of a wrong one only those tell who want it
        return {}


def _in(folder: Path) -> dict[str, Path]:
    # A name with a dot in front is a bundle on its way in or out.
    found = sorted(folder.glob("*/card.json"))
    return {path.parent.name: path.parent for path in found if not path.parent.name.startswith(".")}


def bundles() -> dict[str, Path]:
    """Names and folders of the bundles on this machine: those that come with mien, then those that were pulled or added."""
    return {**embedded(), **installed()}


def open_bundle(name: str | Path) -> Bundle:
    """The bundle of that name, or in that folder; a `Path` that exists is always a folder. Its network is not read yet.

    Raises UnknownNameError (nearest names shown), or BundleError, also for a bundle that is known but not on this machine.
    """
    try:
        return _opened(name)
    except MienError:
        # While a bundle is replaced there is a moment without one, and a folder that was just found may be gone.
        return _opened(name)


def read_bundle(name: str | Path) -> tuple[Bundle, bytes]:
    """The bundle, and the bytes of its network; raises as `open_bundle` and `Bundle.network` do.

    They go together also where another version takes its place meanwhile.
    """
    for _ in range(_TRIES - 1):
        bundle = open_bundle(name)
        try:
            content = bundle._content()
        except BundleError:
            continue
        return bundle, bundle._inspected(content)
    bundle = open_bundle(name)
    return bundle, bundle.network()


def bundle_folder(name: str | Path) -> Path:
    """The folder that `name` stands for, found as by `open_bundle`; nothing in it is read yet, and it may hold no bundle.

    Raises UnknownNameError or BundleError as `open_bundle` does.
    """
    try:
        return _folder(name)
    except MienError:
        return _folder(name)  # as in `open_bundle`


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or with a null in it
        return False


def _opened(name: str | Path) -> Bundle:
    folder = _folder(name)
    if not any(os.path.lexists(folder / part) for part in ("card.json", "model.onnx")):
        raise UnknownNameError(
            "bundle", str(name), bundles(), "a bundle is a folder with card.json and model.onnx"
        )
    return Bundle(folder, read_card(folder / "card.json"))


def _folder(name: str | Path) -> Path:
    here = bundles()
    if name == "":  # as a folder it would be the one that is worked in
        raise UnknownNameError("bundle", "", here)
    is_folder = isinstance(name, Path) and _is_folder(name)
    folder = Path(name) if is_folder else here.get(str(name), Path(name))
    if not _is_folder(folder) and re.fullmatch(NAME, str(name)):
        folder = (
            home() / "bundles" / f".{name}.old"
        )  # there while another takes its place, after a power cut for longer
    if not _is_folder(folder):
        known = [path.stem for path in KNOWN.glob("*.json")]
        if str(name) in known:
            raise BundleError(
                f"{name} is not on this machine; get it with: mien bundles pull {name}"
            )
        if str(name) in [path.stem for path in (KNOWN / "weights").glob("*.json")]:
            raise BundleError(
                f"{name} is weights to train from, no bundle; mien bundles pull {name} prints what to name as `start`"
            )
        raise UnknownNameError(
            "bundle", str(name), {*here, *get_close_matches(str(name), known, n=1)}
        )
    return folder


class Model:
    """A network that reads affect, with its card."""

    def __init__(self, card: AffectCard, engine: Engine, together: int = _BATCH) -> None:
        """together: crops that go through the network at once, so that memory does not grow with their number."""
        self.card = card
        self._engine = engine
        self._together = together

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task.key} ({len(task.names)})" for task in self.tasks) or "features"
        return f"Model({self.card.name!r}: {tasks}; {self.engine})"

    @property
    def engine(self) -> str:
        """Name of the engine it runs on."""
        return self._engine.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it predicts, in output order."""
        return tuple(spec.task for spec in self.card.tasks)

    def score(self, crops: Sequence[Image], points: Floats | None = None) -> dict[str, Floats]:
        """Read faces that are already cut out.

        crops: N pictures, RGB uint8 (H, W, 3), any sizes, each one face.
        points: (N, 5, 2) five points in crop pixels (order as in `Face`), so that the face is aligned the way the card
            asks; without them the whole crop is squashed to the network's input.
        Returns scores by task family: ``{"expr": (N, 8), "va": (N, 2), "au": (N, K)}``; see `Task.names` for columns.
        Raises ValueError when a crop is not RGB uint8, a point is not finite or the numbers of crops and points differ, and
        BundleError for a network that gives features alone.
        """
        return self.score_prepared(self.prepare(crops, points))

    def score_prepared(self, crops: Sequence[Image]) -> dict[str, Floats]:
        """The same for crops that `faces.prepare` made: N of (size, size, 3), RGB uint8."""
        if not self.tasks:
            raise BundleError(
                f"{self.card.name} predicts nothing, it gives features alone; name a bundle with tasks"
            )
        heat = self.card.temperature
        raw = self._run(crops, len(self.tasks))
        return {
            task.family: task.decode(out / heat.get(task.family, 1.0))
            for task, out in zip(self.tasks, raw, strict=True)
        }

    def features(self, crops: Sequence[Image], points: Floats | None = None) -> Floats32:
        """Pooled backbone output before the heads, (N, D) float32, with D the card's `features`; crops and points as for `score`.

        Raises BundleError where the network does not expose features, and ValueError as `score` does.
        """
        return self.features_and_raw(crops, points)[0]

    def features_and_raw(
        self, crops: Sequence[Image], points: Floats | None = None
    ) -> tuple[Floats32, dict[str, Floats32]]:
        """`features` (N, D), and by task family the raw output (N, K), before temperature and `Task.decode`; one run gives both.

        Raises as `features` does.
        """
        self.card.exposed()
        *raw, features = self._run(self.prepare(crops, points), None)
        return features, {task.family: out for task, out in zip(self.tasks, raw, strict=True)}

    def prepare(self, crops: Sequence[Image], points: Floats | None = None) -> list[Image]:
        """Crops as the network reads them, RGB uint8 (size, size, 3); crops, points and errors as for `score`.

        Without points, a crop that has that size already stays as it is.
        """
        _check_crops(crops, points)
        pixels = self.card.pixels
        if points is None:
            return [prepare_crop(crop, pixels) for crop in crops]
        whole = [(0.0, 0.0, float(crop.shape[1]), float(crop.shape[0])) for crop in crops]
        faces = [
            Face(box, np.asarray(five, np.float64), 1.0)
            for box, five in zip(whole, points, strict=True)
        ]
        return [prepare(crop, face, pixels) for crop, face in zip(crops, faces, strict=True)]

    def _run(self, crops: Sequence[Image], first: int | None) -> list[Floats32]:
        """The network's `first` outputs, or all, for prepared crops."""
        size, batch = self.card.pixels.size, np.asarray(crops)
        if not len(batch):
            return [np.zeros((0, width), np.float32) for width in self.card.widths[:first]]
        if batch.shape[1:] != (size, size, 3) or batch.dtype != np.uint8:
            raise ValueError(
                f"prepared crops must be uint8 (N, {size}, {size}, 3), got {batch.dtype} {batch.shape}"
            )
        steps = range(0, len(batch), self._together)
        parts = [
            self._engine.run(normalise(batch[i : i + self._together], self.card.pixels), first)
            for i in steps
        ]
        found = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        _check_finite(self.card.name, found)
        return found


def _check_crops(crops: Sequence[Image], points: Floats | None) -> None:
    for i, crop in enumerate(crops):
        if not isinstance(crop, np.ndarray):
            raise ValueError(f"crop {i} must be RGB uint8 (H, W, 3), got {type(crop).__name__}")
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"crop {i} must be RGB uint8 (H, W, 3), got {crop.dtype} {crop.shape}")
    if points is not None and np.shape(points) != (len(crops), 5, 2):
        raise ValueError(f"points must be ({len(crops)}, 5, 2), got {np.shape(points)}")
    if points is not None and not np.isfinite(points).all():
        raise ValueError(
            "points must be finite; leave out crops without points, or score them without"
        )


def _check_finite(name: object, outputs: Sequence[Floats32]) -> None:
    """Raises BundleError, which begins with `name`, where an output is NaN or infinite: what is decoded from it would look like scores."""
    if not all(np.isfinite(out).all() for out in outputs):
        raise BundleError(
            f"{name}: the network gives NaN or infinity, which are no scores; do not use it"
        )


class _Patient:
    """An engine whose runs are long: a main thread that waits for one hears Ctrl-C and signals."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine

    def run(self, batch: Floats32, first: int | None = None) -> list[Floats32]:
        return interruptible(lambda: self._engine.run(batch, first))


def _open(
    bundle: Bundle,
    network: bytes,
    engine: str,
    threads: int,
    *,
    eats: tuple[int, ...],
    gives: Mapping[str, tuple[int, ...]],
) -> tuple[Engine, int]:
    """The bundle's network, ready, and how many crops may go through it together.

    It has run once, on nothing: a card that speaks of another network is found out here, not in mid-video. What comes with mien is
    neither inspected nor slow; any other network was inspected by `Bundle.network` and is known here.
    gives: the shapes of its outputs by name, in their order.
    """
    running = interruptible(lambda: open_engine(network, engine, threads))
    if len(running.outputs) != len(gives) or not all(
        name in names for name, names in zip(gives, running.outputs, strict=True)
    ):
        told = printable(
            ", ".join(
                min(names, key=len, default="one without a name") for names in running.outputs
            )
        )
        raise BundleError(
            f"{bundle.folder}: the network gives {told}, the card says {', '.join(gives)}; get the bundle again"
        )
    try:
        outputs = interruptible(lambda: running.run(np.zeros(eats, np.float32)))
    except Exception as error:  # engines raise types of their own
        why = f"the network does not take {eats}, which the card asks for: {reason(error)}"
        raise BundleError(f"{bundle.folder}: {why}; get the bundle again") from error
    found = [out.shape for out in outputs]
    if found != [*gives.values()]:
        raise BundleError(
            f"{bundle.folder}: the network gives {found}, the card says {[*gives.values()]}; get the bundle again"
        )
    _check_finite(bundle.folder, outputs)
    if bundle.comes_with_mien:
        return running, _BATCH
    need = inspect(bundle.card, network)
    together = min(_BATCH, max(1, _AT_ONCE // need.numbers))
    return (_Patient(running) if need.work * together > _LONG else running), together


def load(name: str | Path = AFFECT, engine: str = "auto", threads: int = 1) -> Model:
    """A bundle that reads affect, by name or folder, verified, inspected and ready.

    engine: ``onnxruntime``, which is what ``auto`` stands for, or ``openvino``.
    Raises UnknownNameError, BundleError or MissingExtraError.
    """
    bundle, network = read_bundle(name)
    if not isinstance(bundle.card, AffectCard):
        raise BundleError(
            f"{bundle.card.name} finds faces and cannot read affect; use a bundle such as {AFFECT}"
        )
    pixels = bundle.card.pixels
    eats = (1, pixels.channels, pixels.size, pixels.size)
    gives = {
        name: (1, width)
        for name, width in zip(bundle.card.outputs, bundle.card.widths, strict=True)
    }
    return Model(bundle.card, *_open(bundle, network, engine, threads, eats=eats, gives=gives))


def load_detector(name: str | Path = FACES, engine: str = "auto", threads: int = 1) -> Detector:
    """A bundle that finds faces, by name or folder; raises as `load` does, and so does the detector for NaN and infinity."""
    bundle, network = read_bundle(name)
    if not isinstance(bundle.card, FaceCard):
        raise BundleError(
            f"{bundle.card.name} reads affect and cannot find faces; use a bundle such as {FACES}"
        )
    search = bundle.card.search
    side = search.window
    grid = (1, len(anchor_points(side, side)), 15)
    running, _ = _open(
        bundle, network, engine, threads, eats=(1, 1, side, side), gives={"grid": grid}
    )
    called = bundle.card.name

    def find(luma: Floats32) -> Floats32:
        outputs = running.run(luma)
        _check_finite(called, outputs)
        return outputs[0]

    return Detector(find, **search.model_dump())

"""The networks of an analysis, verified and loaded once and kept while their files stay as
they are.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Final

from mien.analysis.landmarks import LANDMARKS, Landmarker, load_landmarker
from mien.analysis.quality import Judge, load_judge, names_affect
from mien.bundles.store import bundle_folder, load_detector, open_bundle
from mien.errors import BundleError, DataError
from mien.systems.opening import load
from mien.systems.system import System
from mien.tasks import COMPOUNDS, LANDMARK_FAMILY, Task

__all__ = ["KEPT", "Networks", "load_networks"]

# Sets of networks that are kept in memory, the most recently used; one takes 30 to 60 MB.
KEPT: Final = 4


class Networks:
    """The face detector, the network that reads affect, and those that see more of each face.

    Nothing in it changes once it is made, so threads may share it.

    Args:
        bundle: Name or folder of the bundle that reads affect.
        detector: Name or folder of the bundle that finds faces.
        engine: What runs the network that reads affect.
        quality: Name or folder of the bundle that judges readings; None for none.
        landmarks: With the network that finds 68 points of each face.

    Attributes:
        model: The network that reads affect, or a system of several.
        detector: The face detector.
        finder: The card of the face detector's bundle.
        judge: What says how far readings can be trusted; None where nothing does.
        landmarker: What finds 68 points of each face; None where they are not asked for.
        expressions: The bundle's expression labels, in order; None where compound expressions
            cannot be composed of them.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
    """

    def __init__(
        self,
        bundle: str | Path,
        detector: str | Path,
        engine: str,
        quality: str | Path | None = None,
        *,
        landmarks: bool = False,
    ) -> None:
        self.model = load(bundle, engine)
        if not self.model.tasks:
            raise BundleError(
                f"{self.model.card.name} gives features alone and reads no affect; "
                "train heads on it, or name another bundle"
            )
        if not names_affect(self.model.tasks):
            families = [task.family for task in self.model.tasks]
            other = "judges readings", "give it as `quality`"
            if LANDMARK_FAMILY in families:
                other = "finds points of faces", "ask for them with `landmarks`"
            raise BundleError(
                f"{self.model.card.name} {other[0]} and reads no affect; {other[1]}, and name "
                "another bundle"
            )
        # Always with ONNX Runtime: frames and windows vary in size, which is slow with OpenVINO.
        self.detector = load_detector(detector, engine="onnxruntime")
        # Read now, because the folder may hold another bundle by the time someone asks.
        self.finder = open_bundle(detector).card
        self.judge: Judge | None = None if quality is None else load_judge(quality, engine)
        self.landmarker: Landmarker | None = load_landmarker(engine) if landmarks else None
        self.expressions = _basic_expressions(self.model.tasks)

    def with_features(self, paths: Sequence[str]) -> "Networks":
        """Give a system the external features of the films that it will read.

        Args:
            paths: Parquet files.

        Returns:
            The same networks, which have them; itself where there is nothing to give.

        Raises:
            DataError: A file cannot be read, is missing, or the bundle does not read it.
        """
        if not isinstance(self.model, System):
            if paths:
                raise DataError(
                    f"{paths[0]}: {self.model.card.name} reads no external features; leave the "
                    "file out, or name the system that learned from it"
                )
            return self
        networks = copy(self)
        networks.model = self.model.with_features(list(map(Path, paths)))
        return networks

    def __repr__(self) -> str:
        return f"Networks({self.model.card.name}, {self.finder.name}, {self.model.engine})"


def _basic_expressions(tasks: tuple[Task, ...]) -> tuple[str, ...] | None:
    """The labels of the first expression task that has all the members of compounds."""
    members = set(chain.from_iterable(COMPOUNDS.values()))
    for task in tasks:
        if task.family == "expr" and members <= set(task.names):
            return task.names
    return None


# The engine, and the state of all files of both bundles.
_Key = tuple[object, ...]
_kept: OrderedDict[_Key, Networks] = OrderedDict()
_of_the_parent: Final[list[dict[_Key, Networks]]] = []
_lock = Lock()


def load_networks(
    bundle: str | Path,
    detector: str | Path,
    engine: str,
    quality: str | Path | None = None,
    *,
    landmarks: bool = False,
) -> Networks:
    """Load the networks of these bundles, or take them from memory while their files are the same.

    Loading takes some tenths of a second, looking at the files some tenths of a millisecond. A
    bundle that was replaced or altered is verified and loaded again.

    Args:
        bundle: Name or folder of the bundle that reads affect.
        detector: Name or folder of the bundle that finds faces.
        engine: What runs the network that reads affect.
        quality: Name or folder of the bundle that judges readings; None for none.
        landmarks: With the network that finds 68 points of each face.

    Returns:
        The networks, which threads may share.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
    """
    # Taken before loading: what is replaced meanwhile is loaded again next time, never missed.
    others = [] if quality is None else [quality]
    others += [LANDMARKS] * landmarks
    key = (engine, landmarks, *map(_file_states, [bundle, detector, *others]))
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    # Outside the lock: two threads may load the same in vain, but none waits for a slow disk.
    networks = Networks(bundle, detector, engine, quality, landmarks=landmarks)
    with _lock:
        _kept[key] = networks
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return networks


def _file_states(name: str | Path) -> _Key:
    """The bundle's folder, and for each of its files all that writing it would change.

    That is its size, its times, and its inode.
    """
    folder = bundle_folder(name)
    files: list[tuple[str, int, int, int, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stat = entry.stat()
                times = (stat.st_mtime_ns, stat.st_ctime_ns)
                files.append((entry.name, stat.st_size, *times, stat.st_ino))
    except OSError:
        # A key that equals no other, so that it is loaded whatever was kept.
        # It is being replaced or cannot be read; loading it gives the better message.
        return (object(),)
    return (str(folder), *sorted(files))


def _forget() -> None:
    """Start with nothing loaded in a forked process.

    A lock that another thread held during the fork would never be released, and the engines have
    lost their threads. The parent's networks are kept out of sight rather than freed: freeing an
    engine waits for its threads, here for ever.
    """
    global _lock  # noqa: PLW0603
    _lock = Lock()
    _of_the_parent.append(dict(_kept))
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

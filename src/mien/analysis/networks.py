"""The two networks of an analysis: verified and loaded once, and kept while what lies on disk stays the same."""

import os
from collections import OrderedDict
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Final

from mien.bundles.store import bundle_folder, load, load_detector, open_bundle
from mien.errors import BundleError
from mien.tasks import COMPOUNDS

__all__ = ["KEPT", "Networks", "load_networks"]

KEPT: Final = 4
"""Pairs of networks that are kept in memory, the last used; a pair takes some 30 to 60 MB."""


class Networks:
    """The network that finds faces and the one that reads affect.

    Nothing in it changes once it is made, so threads may share it.

    Raises:
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is not whole, or not of the kind that is asked for.
        MissingExtraError: The engine is not installed.
    """

    def __init__(self, bundle: str | Path, detector: str | Path, engine: str) -> None:
        self.model = load(bundle, engine)
        if not self.model.tasks:
            raise BundleError(
                f"{self.model.card.name} gives features alone and reads no affect; train heads on it, or name another bundle"
            )
        # Always with ONNX Runtime: frames and windows change their size, which OpenVINO is slow at.
        self.detector = load_detector(detector, engine="onnxruntime")
        self.finder = open_bundle(detector).card  # now: what lies there later is not what is used
        basic = set(chain.from_iterable(COMPOUNDS.values()))
        self.expressions = next(
            (t.names for t in self.model.tasks if t.family == "expr" and basic <= set(t.names)),
            None,
        )


_Key = tuple[object, ...]
_kept: OrderedDict[_Key, Networks] = OrderedDict()
_of_the_parent: Final[list[dict[_Key, Networks]]] = []
_lock = Lock()


def load_networks(bundle: str | Path, detector: str | Path, engine: str) -> Networks:
    """The networks of these bundles; those that were loaded before and are unchanged on disk are taken from memory.

    Loading takes some tenths of a second, looking whether anything changed some tenths of a millisecond. A bundle that was
    replaced or altered meanwhile is verified and loaded anew. Raises as `Networks` does.
    """
    key = (engine, *_what_lies_there(bundle), *_what_lies_there(detector))
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    # Outside the lock: two threads may load the same in vain, but none waits for another's slow disk.
    networks = Networks(bundle, detector, engine)
    with _lock:
        _kept[key] = networks
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return networks


def _what_lies_there(name: str | Path) -> _Key:
    """The bundle's folder and, of each file in it, what changes when it is written: size, times, and the place on disk.

    Taken before loading: what is replaced meanwhile is loaded once more the next time, never missed.
    """
    folder = bundle_folder(name)
    files: list[tuple[str, int, int, int, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stat = entry.stat()
                files.append(
                    (entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                )
    except OSError:  # replaced at this moment, or not to be read, which loading says better
        return (object(),)
    return (str(folder), *sorted(files))


def _forget() -> None:
    """In a child process: a lock that another thread held while it was made would never open, and engines have lost their threads.

    They are kept out of sight rather than freed: an engine that is freed waits for its threads, here for ever.
    """
    global _lock  # noqa: PLW0603
    _lock = Lock()
    _of_the_parent.append(dict(_kept))
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

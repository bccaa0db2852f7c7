"""The one gate for what a bundle brings: files are taken by kind and size, and a network is looked at before an engine gets it."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from mien.bundles.card import MOST_CARD, AffectCard, FaceCard
from mien.documents import read_bounded
from mien.errors import BundleError
from mien.text import printable

if TYPE_CHECKING:
    from mien.bundles.graph import Need

__all__ = ["MOST_BYTES", "inspect", "interruptible", "read_file"]

MOST_BYTES: Final = {"card.json": MOST_CARD, "README.md": 4 << 20, "model.onnx": 1 << 30}
"""What a file of a bundle may weigh."""
_LISTEN_S: Final = 0.1  # how often who waits looks whether the process has been told to end

Result = TypeVar("Result")
_seen: dict[tuple[str, tuple[int, ...], tuple[str, ...]], "Need"] = {}
"""What was found of networks in this process, by the hash of all their bytes: the same bytes are found the same."""


def read_file(path: Path) -> bytes:
    """The content of a file of a bundle, if it is a file and no larger than one of its name can be (`MOST_BYTES`).

    Raises:
        BundleError: As `mien.documents.read_bounded` does.
    """
    return read_bounded(
        path,
        MOST_BYTES[path.name],
        BundleError,
        "a bundle is a folder with card.json and model.onnx",
    )


def inspect(card: AffectCard | FaceCard, network: bytes) -> "Need":
    """Look at a network before an engine does, and find what it asks of the machine for the largest picture its card speaks of.

    Raises:
        BundleError: It is no network, reads other files, holds branches, loops or operations beyond the standard ones, is too large
            or too much work (`mien.bundles.graph`), or its outputs are others than the card says, or come in another order.
    """
    from mien.bundles import graph  # here, for what comes with mien is loaded without onnx

    if isinstance(card, AffectCard):
        said, shape = card.outputs, (1, card.pixels.channels, card.pixels.size, card.pixels.size)
    else:
        side = max(card.search.side, card.search.window)
        said, shape = ("grid",), (1, 1, side, side)
    key = hashlib.sha256(network).hexdigest(), shape, said
    if key in _seen:
        return _seen[key]
    try:
        model = graph.checked(network)
        need = graph.bounded(model, shape)
    except BundleError as error:
        raise BundleError(f"{card.name}: {error}") from error
    found = tuple(output.name for output in model.graph.output)
    if found != said:
        told = printable(", ".join(found))
        raise BundleError(
            f"{card.name}: the network gives {told}, the card says {', '.join(said)}; do not use it"
        )
    _seen[key] = need
    return need


def interruptible(work: Callable[[], Result]) -> Result:
    """The same as ``work()``, except that a main thread hears Ctrl-C and signals meanwhile, though a library is at work.

    What was begun is then left to end by itself, so it must be of bounded length and leave nothing behind.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: list[Result] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:  # whatever it is, it belongs to who waits
            failed.append(error)

    worker = threading.Thread(target=do, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(_LISTEN_S)
    if failed:
        raise failed[0]
    return done[0]

"""The one gate for what a bundle brings: files by kind and size, networks before an engine."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from mien.bundles.card import MOST_CARD, AffectCard, IdentityCard, NetworkCard
from mien.bundles.plan import Head
from mien.documents import read_bounded
from mien.errors import BundleError
from mien.text import printable

if TYPE_CHECKING:
    from mien.bundles.graph import Need

__all__ = [
    "MOST_BYTES",
    "inspect",
    "inspect_head",
    "inspect_network",
    "interruptible",
    "most_bytes",
    "read_file",
]

MOST_BYTES: Final = {"card.json": MOST_CARD, "README.md": 4 << 20, "model.onnx": 1 << 30}
"""Largest size of each file of a bundle of one network."""
# The same of a network of heads, which has a name of its own.
_MOST_HEAD: Final = 1 << 28
# Seconds between two looks at whether the process was interrupted.
_POLL_S: Final = 0.1

Result = TypeVar("Result")
# Networks that passed in this process, by the hash of their bytes, input shape and outputs.
_inspected: dict[tuple[str, tuple[int, ...], tuple[str, ...]], "Need"] = {}


def most_bytes(name: str) -> int:
    """Largest size of a file of a bundle.

    Args:
        name: Its name.

    Returns:
        Bytes.
    """
    return MOST_BYTES.get(name, _MOST_HEAD)


def read_file(path: Path) -> bytes:
    """Read a file of a bundle.

    Args:
        path: The file; its name decides how large it may be (`most_bytes`).

    Returns:
        Its content.

    Raises:
        BundleError: It is no regular file, is too large, or cannot be read.
    """
    return read_bounded(
        path,
        most_bytes(path.name),
        BundleError,
        "a bundle is a folder with card.json and model.onnx",
    )


def inspect(card: NetworkCard, network: bytes) -> "Need":
    """Check a network before an engine loads it.

    Args:
        card: Its card, which says what goes in and comes out.
        network: Content of the ONNX file.

    Returns:
        What it costs for the largest picture of which the card speaks.

    Raises:
        BundleError: It is no network, reads other files, holds branches, loops or operators
            beyond the standard ones, is too large or too much work (`mien.bundles.graph`), or
            its outputs are not those of the card, in the card's order.
    """
    if isinstance(card, AffectCard | IdentityCard):
        expected = card.outputs if isinstance(card, AffectCard) else ("descriptor",)
        shape = (1, card.pixels.channels, card.pixels.size, card.pixels.size)
    else:
        # The largest picture that a detector gives its network.
        side = max(card.search.side, card.search.window)
        expected = ("grid",)
        shape = (1, 1, side, side)
    return inspect_network(card.name, network, shape, expected)


def inspect_head(where: str, head: Head, network: bytes) -> "Need":
    """Check the network of some heads of a system before an engine loads it.

    Args:
        where: What the message begins with.
        head: Its facts in the system's card.
        network: Content of the ONNX file.

    Returns:
        What it costs for one face, or for one window of frames.

    Raises:
        BundleError: As `inspect` raises it.
    """
    families = tuple(spec.task.family for spec in head.tasks)
    return inspect_network(where, network, head.input_shape, families)


def inspect_network(
    where: str, network: bytes, shape: tuple[int, ...], expected: tuple[str, ...]
) -> "Need":
    """Check a network of any input before an engine loads it.

    Args:
        where: What the message begins with.
        network: Content of the ONNX file.
        shape: Of its input.
        expected: Names of its outputs, in their order.

    Returns:
        What it costs for an input of that shape.

    Raises:
        BundleError: As `inspect` raises it.
    """
    # Not at the top of the module: bundles that come with mien are loaded without onnx.
    from mien.bundles import graph

    key = hashlib.sha256(network).hexdigest(), shape, expected
    if key in _inspected:
        return _inspected[key]
    try:
        model = graph.checked(network)
        need = graph.bounded(model, shape)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error
    outputs = tuple(output.name for output in model.graph.output)
    if outputs != expected:
        raise BundleError(
            f"{where}: the network gives {printable(', '.join(outputs))}, the card says "
            f"{', '.join(expected)}; do not use it"
        )
    _inspected[key] = need
    return need


def interruptible(work: Callable[[], Result]) -> Result:
    """Call ``work()`` so that the main thread can still be interrupted by Ctrl-C and signals.

    Python handles signals between two bytecodes of the main thread, so a long call into a
    library would delay them. An interrupted call runs on in its thread: it must be of bounded
    length and have no side effects.

    Args:
        work: What to call; in any thread but the main one it is called directly.

    Returns:
        What `work` returns; what it raises is raised.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        # Every exception belongs to the caller, KeyboardInterrupt and SystemExit included.
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(_POLL_S)
    if failures:
        raise failures[0]
    return results[0]

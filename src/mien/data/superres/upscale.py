"""One picture through a super-resolution network, in tiles, and down to the size asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["OVERLAP", "TILE", "Engine", "Image", "Network", "tiled", "upscaler"]

Image = NDArray[np.uint8]
TILE: Final = 200
"""Longest side, in px of the picture, that the network gets in one go, besides the overlap."""
OVERLAP: Final = 10
"""What a tile sees of its neighbours, in px of the picture."""


@dataclass(frozen=True, slots=True)
class Network:
    """A super-resolution network, ready.

    Attributes:
        factor: How many times larger it makes a picture.
        enlarge: RGB uint8 (H, W, 3) -> RGB uint8 (factor H, factor W, 3).
    """

    factor: int
    enlarge: Callable[[Image], Image]


class Engine(Protocol):
    """Where a `Network` comes from; small and picklable, so every worker opens its own."""

    def facts(self) -> dict[str, Any]:
        """What the pixels depend on, for the manifest.

        Returns:
            The engine, and the sha256 of its weights.

        Raises:
            MissingExtraError: As `open` does, and so the other errors of `open`.
        """
        ...

    def workers(self, cores: int) -> int:
        """How many processes serve best.

        Args:
            cores: Cores of the machine.

        Returns:
            The number of processes.
        """
        ...

    def open(self) -> Network:
        """Load the network.

        Returns:
            The network, ready.

        Raises:
            MissingExtraError: Where an optional package is missing.
            BundleError: For weights it cannot use.
            DataError: For a file of weights that cannot be read.
        """
        ...


def upscaler(
    engine: Engine, scale: int = 2, *, before_tile: Callable[[], None] | None = None
) -> Callable[[Image], Image]:
    """A function that super-resolves a picture.

    The network runs at its own factor, then Lanczos (OpenCV's, over 8x8 pixels) reduces to `scale`:
    what ``--outscale`` of Real-ESRGAN's own script does. Departure: that script mirrors 10 px at
    the right and lower edge, here the network pads.

    Args:
        engine: Where the network comes from.
        scale: Whole number from 1 to the network's factor.
        before_tile: Called before every run of the network; what it raises ends the picture.

    Returns:
        RGB uint8 (H, W, 3) -> RGB uint8 (scale H, scale W, 3).

    Raises:
        ValueError: For another scale. What ``engine.open`` raises is raised too.
    """
    network = engine.open()
    if scale not in range(1, network.factor + 1):
        raise ValueError(
            f"scale must be a whole number from 1 to {network.factor}, which the network gives, "
            f"got {scale}"
        )

    def enlarge(tile: Image) -> Image:
        if before_tile:
            before_tile()
        return network.enlarge(tile)

    def upscale(image: Image) -> Image:
        large = tiled(Network(network.factor, enlarge), image)
        if scale == network.factor:
            return large
        size = (image.shape[1] * scale, image.shape[0] * scale)
        return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_LANCZOS4), dtype=np.uint8)

    return upscale


def tiled(network: Network, image: Image, tile: int = TILE, overlap: int = OVERLAP) -> Image:
    """Run a network in tiles, so that memory does not grow with the picture.

    The network sees further than the overlap, so seams differ a little from the whole picture at
    once.

    Args:
        network: The network.
        image: RGB uint8 (H, W, 3).
        tile: Longest side of a tile, px.
        overlap: Px that a tile sees beyond its own on each side, and that are cut off again.

    Returns:
        RGB uint8 (factor H, factor W, 3).
    """
    height, width = image.shape[:2]
    # One tile needs no seams.
    if max(height, width) <= tile:
        return network.enlarge(image)
    factor = network.factor
    large = np.empty((height * factor, width * factor, 3), np.uint8)
    for top, bottom in pairwise(_cuts(height, tile)):
        for left, right in pairwise(_cuts(width, tile)):
            y, x = max(top - overlap, 0), max(left - overlap, 0)
            part = image[y : bottom + overlap, x : right + overlap]
            enlarged = network.enlarge(np.ascontiguousarray(part))
            # Where the tile itself lies within what the network saw.
            rows = slice((top - y) * factor, (bottom - y) * factor)
            columns = slice((left - x) * factor, (right - x) * factor)
            target = large[top * factor : bottom * factor, left * factor : right * factor]
            target[:] = enlarged[rows, columns]
    return large


def _cuts(length: int, tile: int) -> list[int]:
    """Where `length` pixels are cut into the fewest tiles, all of nearly one size.

    >>> _cuts(401, 200)
    [0, 133, 267, 401]
    """
    # Rounded up; equal tiles waste less on overlaps than full ones and a narrow last one.
    count = -(-length // tile)
    return [i * length // count for i in range(count + 1)]

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
    """A super-resolution network, ready: `enlarge` takes RGB uint8 (H, W, 3) to RGB uint8 (factor H, factor W, 3)."""

    factor: int
    enlarge: Callable[[Image], Image]


class Engine(Protocol):
    """Where a `Network` comes from; small and picklable, so that every worker process opens its own."""

    def facts(self) -> dict[str, Any]:
        """What the pixels depend on, for the manifest: the engine, and the sha256 of its weights. Raises as `open` does."""
        ...

    def workers(self, cores: int) -> int:
        """How many processes serve `cores` cores best."""
        ...

    def open(self) -> Network:
        """The network, ready; raises MissingExtraError, and BundleError or DataError for weights it cannot use."""
        ...


def upscaler(
    engine: Engine, scale: int = 2, *, before_tile: Callable[[], None] | None = None
) -> Callable[[Image], Image]:
    """A function from RGB uint8 (H, W, 3) to RGB uint8 (scale H, scale W, 3).

    The network runs at its own factor, then Lanczos (OpenCV's, over 8x8 pixels) reduces to `scale`: what ``--outscale`` of
    Real-ESRGAN's own script does. Departure: that script mirrors 10 px at the right and lower edge, here the network pads.
    before_tile: called before every run of the network; what it raises ends the picture.
    Raises ValueError for a scale that is not a whole number from 1 to the network's factor, and what ``engine.open`` raises.
    """
    network = engine.open()
    if scale not in range(1, network.factor + 1):
        raise ValueError(
            f"scale must be a whole number from 1 to {network.factor}, which the network gives, got {scale}"
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
    """RGB uint8 (H, W, 3) to (factor H, factor W, 3), computed in tiles, so that memory does not grow with the picture.

    tile: longest side of a tile, px; overlap: px that a tile sees beyond its own on each side, and that are cut off again.
    The network sees further than the overlap, so seams differ a little from the whole picture at once.
    """
    height, width = image.shape[:2]
    if max(height, width) <= tile:
        return network.enlarge(image)
    by = network.factor
    large = np.empty((height * by, width * by, 3), np.uint8)
    for top, bottom in pairwise(_cuts(height, tile)):
        for left, right in pairwise(_cuts(width, tile)):
            y, x = max(top - overlap, 0), max(left - overlap, 0)
            part = network.enlarge(
                np.ascontiguousarray(image[y : bottom + overlap, x : right + overlap])
            )
            large[top * by : bottom * by, left * by : right * by] = part[
                (top - y) * by : (bottom - y) * by, (left - x) * by : (right - x) * by
            ]
    return large


def _cuts(length: int, tile: int) -> list[int]:
    """Where `length` pixels are cut into the fewest tiles, all of nearly one size.

    >>> _cuts(401, 200)
    [0, 133, 267, 401]
    """
    count = -(-length // tile)
    return [i * length // count for i in range(count + 1)]

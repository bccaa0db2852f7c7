"""A few shapes and text, smooth at any scale, drawn in place over an RGB picture."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Canvas", "Colour", "Pixels", "overlap"]

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Points = NDArray[np.float64]

_EDGE: Final = (14, 17, 22)
_SHIFT: Final = 4  # OpenCV takes sixteenths of a pixel
_COMPASS: Final = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], float)
_ANGLES: Final = np.pi / 2 * (np.arange(4)[:, None] + np.linspace(0, 1, 7))
_ARCS: Final = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=2)  # (4 corners, 7, 2)


class Box(NamedTuple):
    """Left, top, width and height in pixels."""

    x: float
    y: float
    w: float
    h: float


def overlap(one: Box, other: Box) -> float:
    """The area two boxes share, in square pixels.

    >>> overlap(Box(0, 0, 4, 4), Box(2, 3, 4, 4))
    2.0
    """
    width = min(one.x + one.w, other.x + other.w) - max(one.x, other.x)
    height = min(one.y + one.h, other.y + other.h) - max(one.y, other.y)
    return float(max(width, 0) * max(height, 0))


class Canvas:
    """Draws into a picture, RGB uint8 (H, W, 3). Positions and sizes are pixels with fractions; x right, y down.

    scale: 1 for a picture whose shorter side is 360 pixels, times `zoom`.
    """

    def __init__(self, picture: Pixels, zoom: float = 1.0) -> None:
        self._picture = picture
        self.height, self.width = picture.shape[:2]
        self.scale = max(min(self.height, self.width) / 360, 0.6) * zoom

    def veil(self, box: Box, colour: Colour, strength: float, radius: float) -> None:
        """A filled box with rounded corners that lets the picture through; strength 0..1."""
        path = _rounded(box, radius)

        def draw(part: Pixels, origin: Points) -> None:
            cv2.fillConvexPoly(part, _fixed(path - origin), colour, cv2.LINE_AA, _SHIFT)

        self._blend(box, strength, draw)

    def fill(self, box: Box, colour: Colour, radius: float) -> None:
        """A filled box with rounded corners."""
        cv2.fillConvexPoly(
            self._picture, _fixed(_rounded(box, radius)), colour, cv2.LINE_AA, _SHIFT
        )

    def outline(self, box: Box, colour: Colour, strength: float, radius: float) -> None:
        """A thin rounded outline that lets the picture through; strength 0..1."""
        path, width = _rounded(box, radius), _width(self.scale)

        def draw(part: Pixels, origin: Points) -> None:
            cv2.polylines(part, [_fixed(path - origin)], True, colour, width, cv2.LINE_AA, _SHIFT)

        self._blend(
            Box(box.x - width, box.y - width, box.w + 2 * width, box.h + 2 * width), strength, draw
        )

    def corners(self, box: Box, colour: Colour, radius: float, length: float, width: float) -> None:
        """Only the corners of a rounded box, with arms of `length`, as strokes with a darker edge."""
        tail = max(length - radius, 0)
        quarters = np.split(_rounded(box, radius), 4)
        paths = [
            _fixed(
                np.vstack(
                    [arc[0] - tail * _COMPASS[(k + 1) % 4], arc, arc[-1] - tail * _COMPASS[k]]
                )
            )
            for k, arc in enumerate(quarters)
        ]
        for shade, thickness in ((_EDGE, width + 1.6 * self.scale), (colour, width)):
            cv2.polylines(
                self._picture, paths, False, shade, _width(thickness), cv2.LINE_AA, _SHIFT
            )

    def dashes(self, box: Box, colour: Colour, radius: float, dash: float, width: float) -> None:
        """A rounded outline of dashes, each `dash` long."""
        path = _rounded(box, radius)
        path = np.vstack([path, path[:1]])
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        count = max(2 * round(along[-1] / (2 * dash)), 2)
        stops = np.linspace(0, along[-1], 3 * count + 1)
        points = np.stack([np.interp(stops, along, path[:, axis]) for axis in (0, 1)], axis=1)
        pieces = [_fixed(points[start : start + 4]) for start in range(0, 3 * count, 6)]
        cv2.polylines(self._picture, pieces, False, colour, _width(width), cv2.LINE_AA, _SHIFT)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float
    ) -> None:
        """A straight stroke."""
        cv2.polylines(
            self._picture,
            [_fixed(np.array([start, end]))],
            False,
            colour,
            _width(width),
            cv2.LINE_AA,
            _SHIFT,
        )

    def disc(
        self, x: float, y: float, radius: float, colour: Colour, width: float | None = None
    ) -> None:
        """A circle: its outline of that width, or filled without one."""
        centre = (round(x * 2**_SHIFT), round(y * 2**_SHIFT))
        cv2.circle(
            self._picture,
            centre,
            round(radius * 2**_SHIFT),
            colour,
            -1 if width is None else _width(width),
            cv2.LINE_AA,
            _SHIFT,
        )

    def bar(self, start: tuple[float, float], length: float, width: float, colour: Colour) -> None:
        """A level bar with round ends, from the middle of its left end."""
        x, y = start
        self.fill(Box(x, y - width / 2, length, width), colour, width / 2)

    def text(
        self, words: str, at: tuple[float, float], size: float, colour: Colour, weight: int
    ) -> None:
        """Words whose first letter stands at `at`; size in pixels, weight 400 (regular) to 700 (bold)."""
        cv2.putText(
            self._picture, words, (round(at[0]), round(at[1])), colour, _font(), round(size), weight
        )

    def length(self, words: str, size: float, weight: int) -> float:
        """How long `text` would be, in pixels."""
        return _length(words, round(size), weight)

    def _blend(self, box: Box, strength: float, draw: Callable[[Pixels, Points], object]) -> None:
        """Let `draw` work on a copy of the part of the picture under the box, then mix it in."""
        left, top = max(int(box.x), 0), max(int(box.y), 0)
        under = self._picture[
            top : max(int(box.y + box.h) + 2, 0), left : max(int(box.x + box.w) + 2, 0)
        ]
        if under.size:
            over = under.copy()
            draw(over, np.array([left, top], float))
            cv2.addWeighted(over, strength, under, 1 - strength, 0, dst=under)


@lru_cache(maxsize=1)
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@lru_cache(maxsize=4096)
def _length(words: str, size: int, weight: int) -> float:
    left, _, width, _ = cv2.getTextSize((0, 0), words, (0, 0), _font(), size, weight)
    return float(left + width)


def _width(width: float) -> int:
    return max(round(width), 1)


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.rint(points * 2**_SHIFT).astype(np.int32)


def _rounded(box: Box, radius: float) -> Points:
    """Outline (4 x 7, 2) of a box with rounded corners, clockwise from the right edge's lower end."""
    r = max(min(radius, box.w / 2, box.h / 2), 0.0)
    right, low = box.x + box.w - r, box.y + box.h - r
    centres = np.array([(right, low), (box.x + r, low), (box.x + r, box.y + r), (right, box.y + r)])
    return np.asarray((centres[:, None] + r * _ARCS).reshape(-1, 2))

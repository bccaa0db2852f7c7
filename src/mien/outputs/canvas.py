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
# OpenCV takes coordinates as whole sixteenths of a pixel.
_SHIFT: Final = 4
# Directions along the edges of a box, clockwise, in picture coordinates.
_COMPASS: Final = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], float)
_ANGLES: Final = np.pi / 2 * (np.arange(4)[:, None] + np.linspace(0, 1, 7))
# Quarter circles of radius 1 for the four corners, (4, 7, 2).
_ARCS: Final = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=2)


class Box(NamedTuple):
    """Left, top, width and height in pixels."""

    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        """Position of its right edge."""
        return self.x + self.w

    @property
    def bottom(self) -> float:
        """Position of its lower edge."""
        return self.y + self.h

    def grown(self, margin: float) -> "Box":
        """A larger box around the same centre.

        Args:
            margin: What is added on each side.

        Returns:
            The box.
        """
        return Box(self.x - margin, self.y - margin, self.w + 2 * margin, self.h + 2 * margin)


def overlap(first: Box, second: Box) -> float:
    """The area that two boxes share.

    Args:
        first: A box.
        second: Another box.

    Returns:
        The area in square pixels.

    Examples:
        >>> overlap(Box(0, 0, 4, 4), Box(2, 3, 4, 4))
        2.0
    """
    width = min(first.right, second.right) - max(first.x, second.x)
    height = min(first.bottom, second.bottom) - max(first.y, second.y)
    return float(max(width, 0) * max(height, 0))


class Canvas:
    """Draws into a picture.

    Positions and sizes are pixels with fractions, x to the right and y down; colours are RGB.

    Args:
        picture: RGB uint8 (H, W, 3), drawn on in place.
        zoom: Multiplies the scale.

    Attributes:
        height: Height of the picture.
        width: Width of the picture.
        scale: 1 for a picture whose shorter side is 360 pixels, times the zoom; drawings are laid
            out for that size and multiplied by it.
    """

    def __init__(self, picture: Pixels, zoom: float = 1.0) -> None:
        self._picture = picture
        self.height, self.width = picture.shape[:2]
        # Not below 0.6, where letters cannot be read.
        self.scale = max(min(self.height, self.width) / 360, 0.6) * zoom

    def veil(self, box: Box, colour: Colour, strength: float, radius: float) -> None:
        """Draw a filled box with rounded corners that lets the picture through.

        Args:
            box: The box.
            colour: Its colour.
            strength: How opaque it is, 0..1.
            radius: Radius of its corners.
        """
        path = _rounded(box, radius)

        def draw(part: Pixels, origin: Points) -> None:
            cv2.fillConvexPoly(part, _fixed(path - origin), colour, cv2.LINE_AA, _SHIFT)

        self._blend(box, strength, draw)

    def fill(self, box: Box, colour: Colour, radius: float) -> None:
        """Draw a filled box with rounded corners.

        Args:
            box: The box.
            colour: Its colour.
            radius: Radius of its corners.
        """
        path = _fixed(_rounded(box, radius))
        cv2.fillConvexPoly(self._picture, path, colour, cv2.LINE_AA, _SHIFT)

    def outline(self, box: Box, colour: Colour, strength: float, radius: float) -> None:
        """Draw a thin rounded outline that lets the picture through.

        Args:
            box: The box.
            colour: Its colour.
            strength: How opaque it is, 0..1.
            radius: Radius of its corners.
        """
        path = _rounded(box, radius)
        width = _whole_width(self.scale)

        def draw(part: Pixels, origin: Points) -> None:
            points = [_fixed(path - origin)]
            cv2.polylines(part, points, True, colour, width, cv2.LINE_AA, _SHIFT)

        # Half of a line lies outside its path.
        self._blend(box.grown(width), strength, draw)

    def corners(self, box: Box, colour: Colour, radius: float, length: float, width: float) -> None:
        """Draw only the corners of a rounded box, as strokes with a darker edge.

        Args:
            box: The box.
            colour: The colour of the strokes.
            radius: Radius of the corners.
            length: Length of the arms of each corner.
            width: Width of the strokes.
        """
        straight = max(length - radius, 0)
        paths = []
        for corner, arc in enumerate(np.split(_rounded(box, radius), 4)):
            start = arc[0] - straight * _COMPASS[(corner + 1) % 4]
            end = arc[-1] - straight * _COMPASS[corner]
            paths.append(_fixed(np.vstack([start, arc, end])))
        # The edge first, a little wider, and the stroke over it.
        self._strokes(paths, _EDGE, width + 1.6 * self.scale)
        self._strokes(paths, colour, width)

    def dashes(self, box: Box, colour: Colour, radius: float, dash: float, width: float) -> None:
        """Draw a rounded outline of dashes.

        Args:
            box: The box.
            colour: The colour of the dashes.
            radius: Radius of the corners.
            dash: Length of each dash, about.
            width: Width of the dashes.
        """
        path = _rounded(box, radius)
        path = np.vstack([path, path[:1]])
        lengths = np.hypot(*np.diff(path, axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(lengths)])
        # An even number of dashes and gaps, so that the last gap meets the first dash.
        count = max(2 * round(along[-1] / (2 * dash)), 2)
        # Each of three straight pieces, so that dashes follow the corners.
        stops = np.linspace(0, along[-1], 3 * count + 1)
        x = np.interp(stops, along, path[:, 0])
        y = np.interp(stops, along, path[:, 1])
        points = _fixed(np.stack([x, y], axis=1))
        # Three pieces are drawn and three are left out, in turn.
        dashes = [points[start : start + 4] for start in range(0, 3 * count, 6)]
        self._strokes(dashes, colour, width)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float
    ) -> None:
        """Draw a straight stroke.

        Args:
            start: Where it begins, (x, y).
            end: Where it ends, (x, y).
            colour: Its colour.
            width: Its width.
        """
        self._strokes([_fixed(np.array([start, end]))], colour, width)

    def curve(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a stroke along points.

        Args:
            points: Where it passes, (N, 2).
            colour: Its colour.
            width: Its width.
        """
        self._strokes([_fixed(points)], colour, width)

    def area(self, points: Points, colour: Colour) -> None:
        """Draw a filled shape.

        Args:
            points: Its corners in order, (N, 2).
            colour: Its colour.
        """
        cv2.fillPoly(self._picture, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def _strokes(self, paths: list[NDArray[np.int32]], colour: Colour, width: float) -> None:
        """Draw open paths in sixteenths of a pixel."""
        thickness = _whole_width(width)
        cv2.polylines(self._picture, paths, False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def disc(
        self, x: float, y: float, radius: float, colour: Colour, width: float | None = None
    ) -> None:
        """Draw a circle.

        Args:
            x: Its centre, from the left.
            y: Its centre, from the top.
            radius: Its radius.
            colour: Its colour.
            width: Width of its outline; None fills it.
        """
        # OpenCV takes the radius in the same fixed-point numbers as the centre.
        unit = 2**_SHIFT
        centre = (round(x * unit), round(y * unit))
        # OpenCV fills what has a negative width.
        thickness = -1 if width is None else _whole_width(width)
        cv2.circle(
            self._picture, centre, round(radius * unit), colour, thickness, cv2.LINE_AA, _SHIFT
        )

    def bar(self, start: tuple[float, float], length: float, width: float, colour: Colour) -> None:
        """Draw a horizontal bar with round ends.

        Args:
            start: The middle of its left end, (x, y).
            length: Its length.
            width: Its thickness.
            colour: Its colour.
        """
        x, y = start
        self.fill(Box(x, y - width / 2, length, width), colour, width / 2)

    def text(
        self, words: str, at: tuple[float, float], size: float, colour: Colour, weight: int
    ) -> None:
        """Write text.

        Args:
            words: The text.
            at: Left end of its baseline, (x, y).
            size: Size of the letters.
            colour: Their colour.
            weight: 400 (regular) to 700 (bold).
        """
        corner = (round(at[0]), round(at[1]))
        cv2.putText(self._picture, words, corner, colour, _font(), round(size), weight)

    def length(self, words: str, size: float, weight: int) -> float:
        """How long `text` would be.

        Args:
            words: The text.
            size: Size of the letters.
            weight: 400 (regular) to 700 (bold).

        Returns:
            The length in pixels.
        """
        return _length(words, round(size), weight)

    def _blend(self, box: Box, strength: float, draw: Callable[[Pixels, Points], object]) -> None:
        """Let `draw` work on a copy of the part of the picture under the box, then mix it in."""
        left = max(int(box.x), 0)
        top = max(int(box.y), 0)
        # Two pixels more: one for the fraction, one for smooth edges.
        right = max(int(box.right) + 2, 0)
        bottom = max(int(box.bottom) + 2, 0)
        under = self._picture[top:bottom, left:right]
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


def _whole_width(width: float) -> int:
    """Widths of strokes are whole pixels, and at least one."""
    return max(round(width), 1)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Pixels as OpenCV's fixed-point numbers."""
    return np.rint(points * 2**_SHIFT).astype(np.int32)


def _rounded(box: Box, radius: float) -> Points:
    """Outline (4 x 7, 2) of a box with rounded corners, clockwise from its lower right corner."""
    radius = max(min(radius, box.w / 2, box.h / 2), 0.0)
    left = box.x + radius
    top = box.y + radius
    right = box.right - radius
    bottom = box.bottom - radius
    centres = np.array([(right, bottom), (left, bottom), (left, top), (right, top)])
    arcs = centres[:, None] + radius * _ARCS
    return np.asarray(arcs.reshape(-1, 2))

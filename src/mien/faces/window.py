"""Windows: square parts of a frame in which one known face is looked for."""

from dataclasses import dataclass
from math import ceil
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.turns import TURNS, turn_picture
from mien.tasks import Floats

__all__ = ["Box", "Window"]

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]

CORNERS: Final = 0.21
"""A square that is turned reaches beyond its sides by up to this share of them."""
WINDOW_MIN_PX: Final = 16
"""Smallest window in which a known face is looked for, px of the frame."""


@dataclass(frozen=True, slots=True)
class Window:
    """A square part of a frame around one face.

    The window of a large face is a whole multiple of `size`: shrinking is then exact block
    averaging, which is several times faster.

    Attributes:
        corner: x and y of its upper left corner, px of the frame; may lie beyond it.
        side: Its width and height, px of the frame.
        size: Width and height at which the network sees it, px.
    """

    corner: tuple[int, int]
    side: int
    size: int

    @classmethod
    def around(cls, box: Box, size: int) -> "Window":
        """The window in which a face is looked for.

        Args:
            box: Where the face was, x, y, w, h in frame pixels.
            size: Width and height at which the network sees it, px.

        Returns:
            A window in whose middle the face was.
        """
        x, y, w, h = box
        face = max(w, h)
        # Twice the face where it is small; otherwise the face fills between a third and two thirds.
        if 2 * face < size:
            side = max(round(2 * face), WINDOW_MIN_PX)
        else:
            side = size * max(ceil(1.6 * face / size), 1)
        corner = (round(x + w / 2 - side / 2), round(y + h / 2 - side / 2))
        return cls(corner, side, size)

    @property
    def scale(self) -> float:
        """Frame pixels per input pixel."""
        return self.side / self.size

    def distance_from_middle(self, row: Floats) -> float:
        """Distance of a candidate's centre from the window's.

        Args:
            row: The candidate, which begins with x, y, w, h; px of the network's input.

        Returns:
            The distance in the same pixels.
        """
        right = row[0] + row[2] / 2 - self.size / 2
        down = row[1] + row[3] / 2 - self.size / 2
        return float(np.hypot(right, down))

    def cut_turned(self, image: Image, turn: float) -> NDArray[np.float32]:
        """Cut the window out of a frame and turn it about its middle.

        Args:
            image: RGB uint8 (H, W, 3).
            turn: Degrees clockwise, 0..360.

        Returns:
            Luma (size, size), 0..255; black where it reaches beyond the frame.
        """
        if turn in (0, *TURNS):
            return turn_picture(self.cut(image), int(turn))
        # Cut wider, so that there is something in the corners, and at the same scale.
        margin = ceil(self.side * CORNERS)
        side = self.side + 2 * margin
        size = round(side / self.scale)
        corner = (self.corner[0] - margin, self.corner[1] - margin)
        wide = Window(corner, side, size)
        middle = size / 2 - 0.5
        matrix: Floats = np.asarray(
            cv2.getRotationMatrix2D((middle, middle), -turn, wide.scale / self.scale), np.float64
        )
        matrix[:, 2] += (self.size - size) / 2
        turned = cv2.warpAffine(wide.cut(image), matrix, (self.size, self.size))
        return np.asarray(turned, np.float32)

    def cut(self, image: Image) -> NDArray[np.float32]:
        """Cut the window out of a frame.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            Luma (size, size), 0..255; black where it reaches beyond the frame.
        """
        window = np.zeros((self.size, self.size), np.float32)
        left, right = self._visible_span(self.corner[0], image.shape[1])
        top, bottom = self._visible_span(self.corner[1], image.shape[0])
        cols = self._scaled(right - left)
        rows = self._scaled(bottom - top)
        if cols <= 0 or rows <= 0:
            return window
        luma = self._resized_luma(image[top:bottom, left:right], cols, rows)
        x = self._scaled(left - self.corner[0])
        y = self._scaled(top - self.corner[1])
        # Rounding may put the last row or column outside.
        visible = window[y : y + rows, x : x + cols]
        visible[:] = luma[: visible.shape[0], : visible.shape[1]]
        return window

    def _resized_luma(self, part: Image, cols: int, rows: int) -> Image:
        """Luma (rows, cols) of a part of the frame; a part of that size stays as it is."""
        luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        # Averaged where it shrinks, sampled where it grows.
        if self.side >= 2 * self.size:
            luma = cv2.resize(luma, (cols, rows), interpolation=cv2.INTER_AREA)
        elif self.side < self.size:
            luma = cv2.resize(luma, (cols, rows), interpolation=cv2.INTER_LINEAR)
        return np.asarray(luma, np.uint8)

    def _scaled(self, length: int) -> int:
        """A length of the frame in input pixels."""
        return round(length / self.scale)

    def _visible_span(self, start: int, length: int) -> tuple[int, int]:
        """The part of one side inside a frame of `length` px, in whole blocks from `start` on."""
        block = max(self.side // self.size, 1)
        # A window that begins outside is cut at its first block that lies wholly inside.
        first = start % block if start < 0 else start
        visible = max(min(length, start + self.side) - first, 0)
        return first, first + visible // block * block

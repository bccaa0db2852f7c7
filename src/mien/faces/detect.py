"""Find faces: a network's grid of candidates becomes boxes and five points.

The network sees luma (one channel, 0..255) and answers, for every cell of the grids at strides 8, 16 and 32, with
15 numbers: score, box centre x and y (in strides from the cell's corner), log width and log height (in strides), and five points
(in strides from the cell's corner). It is the layout of YuNet (Wu, Peng & Yu 2023), with one score instead of two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.records import Face
from mien.tasks import Floats

__all__ = ["STRIDES", "Detector", "cells", "decode"]

STRIDES: Final = (8, 16, 32)
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def cells(height: int, width: int) -> Floats:
    """Corner x, y and stride of every grid cell (M, 3), px, for an input whose sides are multiples of 32.

    >>> cells(32, 64).shape, cells(32, 64)[1].tolist()
    ((42, 3), [8.0, 0.0, 8.0])
    """
    grids = []
    for stride in STRIDES:
        y, x = np.mgrid[0:height:stride, 0:width:stride]
        grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def decode(grid: Floats, corners: Floats, least: float) -> Floats:
    """Candidates (K, 15) with a score of at least `least`: x, y, w, h, five points x, y in input pixels, score.

    grid: (M, 15) the network's answer for one picture; corners: (M, 3) from `cells`.
    """
    keep = grid[:, 0] >= least
    grid, at, stride = grid[keep], corners[keep, :2], corners[keep, 2:]
    centre = at + grid[:, 1:3] * stride
    size = np.exp(grid[:, 3:5]) * stride
    points = np.tile(at, 5) + grid[:, 5:] * stride
    return np.concatenate([centre - size / 2, size, points, grid[:, :1]], axis=1)


class Detector:
    """Finds faces in frames.

    network: luma (N, 1, H, W) float32 in 0..255, H and W multiples of 32, to grids (N, M, 15).
    least: smallest score that counts as a face. overlap: of two boxes that share more (IoU), the weaker goes.
    side: the longer side of a frame is scaled down to this before the search, px.
    window: side of the square that one known face is looked for in, px.
    """

    def __init__(self, network: Network, least: float, overlap: float, side: int, window: int) -> None:
        self._network = network
        self._least = least
        self._overlap = overlap
        self._side = side
        self._window = window
        self._window_cells = cells(window, window)

    def find(self, image: Image) -> list[Face]:
        """All faces of an RGB frame (H, W, 3), most confident first."""
        height, width = image.shape[:2]
        scale = min(1.0, self._side / max(height, width))
        luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        if scale < 1:
            small = max(round(width * scale), 1), max(round(height * scale), 1)
            luma = np.asarray(cv2.resize(luma, small, interpolation=cv2.INTER_AREA), np.uint8)
        rows, cols = (-(-n // 32) * 32 for n in luma.shape)
        padded = np.zeros((1, 1, rows, cols), np.float32)
        padded[0, 0, : luma.shape[0], : luma.shape[1]] = luma
        found = decode(self._network(padded)[0], cells(rows, cols), self._least)
        back = np.array([width / luma.shape[1], height / luma.shape[0]])
        return [_face(row, back, np.zeros(2)) for row in self._best(found)]

    def follow(self, image: Image, boxes: Sequence[Box]) -> list[Face | None]:
        """Look for each known face near its last box only; None where it is gone. One network call for all."""
        if not boxes:
            return []
        windows = [_Window.around(box, self._window) for box in boxes]
        crops = np.stack([window.cut(image) for window in windows])[:, None]
        faces: list[Face | None] = []
        for grid, window in zip(self._network(crops), windows, strict=True):
            best = self._best(decode(grid, self._window_cells, self._least))
            near = min(best, key=window.off_middle, default=None)
            faces.append(None if near is None else _face(near, window.step, window.corner))
        return faces

    def _best(self, found: Floats) -> list[Floats]:
        """What is left of the candidates (K, 15) when overlapping ones are merged, most confident first."""
        if not len(found):
            return []
        keep = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 14].tolist(), 0.0, self._overlap)
        return [found[i] for i in np.asarray(keep).ravel()]


@dataclass(frozen=True, slots=True)
class _Window:
    """A square part of a frame, twice the face's size, shown to the network at (size, size)."""

    corner: tuple[int, int]
    side: int
    size: int

    @classmethod
    def around(cls, box: Box, size: int) -> "_Window":
        x, y, w, h = box
        side = max(round(2 * max(w, h)), 16)
        return cls((round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)), side, size)

    @property
    def step(self) -> float:
        return self.side / self.size

    def off_middle(self, row: Floats) -> float:
        return float(np.hypot(row[0] + row[2] / 2 - self.size / 2, row[1] + row[3] / 2 - self.size / 2))

    def cut(self, image: Image) -> NDArray[np.float32]:
        """The window in luma, black where it reaches beyond the frame."""
        (x, y), (height, width) = self.corner, image.shape[:2]
        left, top = min(max(x, 0), width), min(max(y, 0), height)
        part = image[top : max(min(y + self.side, height), top), left : max(min(x + self.side, width), left)]
        out = np.zeros((self.size, self.size), np.float32)
        cols, rows = round(part.shape[1] / self.step), round(part.shape[0] / self.step)
        if cols and rows:
            how = cv2.INTER_AREA if self.step > 1 else cv2.INTER_LINEAR
            luma = cv2.resize(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), (cols, rows), interpolation=how)
            at_x, at_y = (round((c - o) / self.step) for c, o in ((left, x), (top, y)))
            shown = out[at_y : at_y + rows, at_x : at_x + cols]
            shown[:] = luma[: shown.shape[0], : shown.shape[1]]
        return out


def _face(row: Floats, scale: Floats | float, corner: Floats | tuple[int, int]) -> Face:
    """A face in frame pixels from a candidate (15,) in input pixels."""
    scale, corner = np.broadcast_to(scale, 2), np.asarray(corner)
    x, y = row[:2] * scale + corner
    w, h = row[2:4] * scale
    points = row[4:14].reshape(5, 2) * scale + corner
    return Face((float(x), float(y), float(w), float(h)), points.astype(np.float64), float(row[14]))

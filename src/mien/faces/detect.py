"""Find faces: a network's grid of candidates becomes boxes and five points.

The network sees luma (one channel, 0..255) and answers, for every cell of the grids at strides 8, 16 and 32, with
15 numbers: score, box centre x and y (in strides from the cell's corner), log width and log height (in strides), and five points
(in strides from the cell's corner). It is the layout of YuNet (Wu, Peng & Yu 2023), with one score instead of two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.records import Face
from mien.tasks import Floats

__all__ = ["STRIDES", "Detector", "anchor_points", "decode", "merge"]

STRIDES: Final = (8, 16, 32)
LARGE: Final = 150.0
"""From this width on, px as the network saw it, a face found at half the size counts: smaller ones are better seen at the full size."""
AGREE: Final = 0.6
"""Candidates that share this much (IoU) are views of one face."""
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def anchor_points(height: int, width: int) -> Floats:
    """Corner x, y and stride of every grid cell (M, 3), px, for an input whose sides are multiples of 32.

    >>> anchor_points(32, 64).shape, anchor_points(32, 64)[1].tolist()
    ((42, 3), [8.0, 0.0, 8.0])
    """
    grids = []
    for stride in STRIDES:
        y, x = np.mgrid[0:height:stride, 0:width:stride]
        grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def decode(grid: Floats, corners: Floats, least: float) -> Floats:
    """Candidates (K, 15) with a score of at least `least`: x, y, w, h, five points x, y in input pixels, score.

    grid: (M, 15) the network's answer for one picture; corners: (M, 3) from `anchor_points`.
    """
    keep = grid[:, 0] >= least
    grid, at, stride = grid[keep], corners[keep, :2], corners[keep, 2:]
    centre = at + grid[:, 1:3] * stride
    size = np.exp(grid[:, 3:5]) * stride
    points = np.tile(at, 5) + grid[:, 5:] * stride
    return np.concatenate([centre - size / 2, size, points, grid[:, :1]], axis=1)


def merge(found: Floats, most: float) -> list[Floats]:
    """One row (15,) per face out of candidates (K, 15), most confident first.

    Of candidates that share more than `most` (IoU) the strongest stands for the face, and the average of those that agree with it
    closely (IoU >= `AGREE`), weighted by squared score, says where its box and points are: neighbouring cells err independently.
    """
    faces: list[Floats] = []
    found = found[np.argsort(-found[:, 14], kind="stable")]
    while len(found):
        shared = _shares(found[0], found)
        votes = found[shared >= AGREE]
        weights = votes[:, 14] ** 2
        faces.append(np.append(weights @ votes[:, :14] / weights.sum(), found[0, 14]))
        found = found[shared <= most]
    return faces


def _shares(row: Floats, rows: Floats) -> Floats:
    """Intersection over union of one box with each of (K, 4+), x, y, w, h first; the box itself counts as 1."""
    low = np.maximum(row[:2], rows[:, :2])
    high = np.minimum(row[:2] + row[2:4], rows[:, :2] + rows[:, 2:4])
    both: Floats = np.prod(np.maximum(high - low, 0), axis=1)
    either = row[2] * row[3] + rows[:, 2] * rows[:, 3] - both
    shared: Floats = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    shared[0] = 1.0
    return shared


class Detector:
    """Finds faces in frames.

    network: luma (N, 1, H, W) float32 in 0..255, H and W multiples of 32, to grids (N, M, 15).
    least: smallest score of a face that is found; keep: of a face that is already known.
    overlap: of two boxes that share more (IoU), the weaker goes.
    side: the longer side of a frame is scaled down to this before the search, px.
    window: side of the square that one known face is looked for in, px.
    """

    def __init__(
        self, network: Network, *, least: float, keep: float, overlap: float, side: int, window: int
    ) -> None:
        self.least = least
        self._network = network
        self._keep = keep
        self._overlap = overlap
        self._side = side
        self._window = window
        self._window_anchors = anchor_points(window, window)

    def find(self, image: Image) -> list[Face]:
        """All faces of an RGB frame (H, W, 3), most confident first."""
        scale = min(1.0, self._side / max(image.shape[:2]))
        luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        # A face that fills the frame is larger than what the network has learned; at half the size it is not.
        found = np.concatenate(
            [self._candidates(luma, scale), self._candidates(luma, scale / 2, LARGE)]
        )
        return [_face(row, 1.0, (0, 0)) for row in merge(found, self._overlap)]

    def _candidates(self, luma: Image, scale: float, least_px: float = 0.0) -> Floats:
        """Candidates (K, 15) in frame pixels, found at `scale`, no narrower than `least_px` in what the network saw."""
        height, width = luma.shape
        if scale < 1:
            small = max(round(width * scale), 1), max(round(height * scale), 1)
            luma = np.asarray(cv2.resize(luma, small, interpolation=cv2.INTER_AREA), np.uint8)
        rows, cols = (-(-n // 32) * 32 for n in luma.shape)
        padded = np.zeros((1, 1, rows, cols), np.float32)
        padded[0, 0, : luma.shape[0], : luma.shape[1]] = luma
        found = decode(self._network(padded)[0], anchor_points(rows, cols), self.least)
        found = found[found[:, 2] >= least_px]
        found[:, :14] *= np.tile([width / luma.shape[1], height / luma.shape[0]], 7)
        return found

    def follow(self, image: Image, boxes: Sequence[Box]) -> list[Face | None]:
        """Look for each known face near its last box only; None where it is gone. One network call for all."""
        if not boxes:
            return []
        windows = [_Window.around(box, self._window) for box in boxes]
        crops = np.stack([window.cut(image) for window in windows])[:, None]
        faces: list[Face | None] = []
        for grid, window in zip(self._network(crops), windows, strict=True):
            best = merge(decode(grid, self._window_anchors, self._keep), self._overlap)
            near = min(best, key=window.off_middle, default=None)
            faces.append(None if near is None else _face(near, window.step, window.corner))
        return faces


@dataclass(frozen=True, slots=True)
class _Window:
    """A square part of a frame around one face, shown to the network at (size, size).

    A large face's window is a whole multiple of `size`, for then shrinking is exact block averaging, which is several times faster.
    """

    corner: tuple[int, int]
    side: int
    size: int

    @classmethod
    def around(cls, box: Box, size: int) -> "_Window":
        x, y, w, h = box
        face = max(w, h)
        # Twice the face where it is small; otherwise the face fills between a third and two thirds.
        side = (
            max(round(2 * face), 16) if 2 * face < size else size * max(ceil(1.6 * face / size), 1)
        )
        return cls((round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)), side, size)

    @property
    def step(self) -> float:
        return self.side / self.size

    def off_middle(self, row: Floats) -> float:
        return float(
            np.hypot(row[0] + row[2] / 2 - self.size / 2, row[1] + row[3] / 2 - self.size / 2)
        )

    def cut(self, image: Image) -> NDArray[np.float32]:
        """The window in luma, black where it reaches beyond the frame."""
        block = self.side // self.size
        spans = [
            self._inside(at, length, max(block, 1))
            for at, length in zip(self.corner, image.shape[1::-1], strict=True)
        ]
        (left, right), (top, bottom) = spans
        out = np.zeros((self.size, self.size), np.float32)
        cols, rows = round((right - left) / self.step), round((bottom - top) / self.step)
        if cols > 0 and rows > 0:
            luma = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
            how = cv2.INTER_AREA if block else cv2.INTER_LINEAR
            small = luma if block == 1 else cv2.resize(luma, (cols, rows), interpolation=how)
            at_x, at_y = (
                round((near - at) / self.step)
                for near, at in zip((left, top), self.corner, strict=True)
            )
            shown = out[at_y : at_y + rows, at_x : at_x + cols]
            shown[:] = small[: shown.shape[0], : shown.shape[1]]
        return out

    def _inside(self, at: int, length: int, block: int) -> tuple[int, int]:
        """The part of one side that lies in the frame, in whole blocks counted from the window's corner."""
        near = at if at >= 0 else at + -(at // block) * block
        return near, near + max(min(length, at + self.side) - near, 0) // block * block


def _face(row: Floats, scale: Floats | float, corner: Floats | tuple[int, int]) -> Face:
    """A face in frame pixels from a candidate (15,) in input pixels."""
    scale, corner = np.broadcast_to(scale, 2), np.asarray(corner)
    x, y = row[:2] * scale + corner
    w, h = row[2:4] * scale
    points = row[4:14].reshape(5, 2) * scale + corner
    return Face((float(x), float(y), float(w), float(h)), points.astype(np.float64), float(row[14]))

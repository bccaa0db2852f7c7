"""Face detection: a network's output at every anchor point becomes boxes and five landmarks.

The network sees luma (one channel, 0..255). For every cell of the grids at strides 8, 16 and 32 it
predicts 15 numbers: score, box centre x and y (in strides from the cell's corner), log width
and log height (in strides), and five points (in strides from the cell's corner). This is the layout
of YuNet (Wu, Peng & Yu 2023), with one score instead of two.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import ceil
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.turns import turn_back, turn_picture
from mien.faces.window import Box, Window
from mien.records import Face
from mien.tasks import Floats

__all__ = ["STRIDES", "Detector", "anchor_points", "decode", "is_apart", "merge", "overlap"]

STRIDES: Final = (8, 16, 32)
GRID_MULTIPLE: Final = 32
"""Sides of the network's input are multiples of this, px, so that the coarsest grid fits."""
LARGE_PX: Final = 150.0
"""Faces narrower than this, px in the network's input, are dropped from the half-size pass: the
full-size pass sees them better."""
VOTE_IOU: Final = 0.6
"""Candidates that overlap this much (IoU) are views of one face and are averaged."""
DARK: Final = 100.0
"""Pictures without anything brighter are dark: shown to the network brighter, so that they reach
`LIGHT`. At a quarter of the light it then finds 92 % of portraits, else 62 %."""
LIGHT: Final = 200.0
"""Luma of the brightest parts of a dark picture, as the network sees it."""
MOST_GAIN: Final = 8.0
"""How much brighter a dark picture is made at most: beyond that it shows noise."""
FRAME_SHARE: Final = 1 / 3
"""Large frames are searched at this share of their size: a face of 130 px on a screen of 3840 px is
then 43 px wide, where the card's `side` alone would leave it 22."""
FRAME_SIDE: Final = 1280
"""Longer side at which frames are searched at most, unless smaller faces are asked for, px."""
CLOSEST_SIDE: Final = 3840
"""Longer side at which frames are searched at most, px; takes about 400 MB."""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Image = NDArray[np.uint8]

# Columns of a decoded candidate (15,): x, y, w, h, five points x, y, and the score.
_POINTS: Final = slice(4, 14)
_GEOMETRY: Final = slice(0, 14)
_SCORE: Final = 14


@lru_cache(maxsize=16)
def anchor_points(height: int, width: int) -> Floats:
    """Corner and stride of every grid cell of an input.

    Args:
        height: Height of the network's input, px, a multiple of 32.
        width: Width of the network's input, px, a multiple of 32.

    Returns:
        float32 (M, 3): x and y of the cell's corner and its stride, px, finest grid first. It is
        cached, and so read-only.

    >>> anchor_points(32, 64).shape, anchor_points(32, 64)[1].tolist()
    ((42, 3), [8.0, 0.0, 8.0])
    """
    # Row by row, finest grid first: the order of the network's output.
    grids = []
    for stride in STRIDES:
        y, x = np.mgrid[0:height:stride, 0:width:stride]
        strides = np.full(x.size, stride)
        grids.append(np.stack([x.ravel(), y.ravel(), strides], axis=1))
    anchors = np.concatenate(grids).astype(np.float32)
    anchors.flags.writeable = False
    return anchors


def decode(grid: Floats, anchors: Floats, min_score: float) -> Floats:
    """Turn the network's output for one picture into candidate faces.

    Args:
        grid: (M, 15) output of the network, one row per grid cell.
        anchors: (M, 3) from `anchor_points` for the same input.
        min_score: Cells with a lower score are dropped.

    Returns:
        Candidates (K, 15): x, y, w, h, five points x, y, all in input pixels, and the score.
    """
    kept = grid[:, 0] >= min_score
    grid = grid[kept]
    corners = anchors[kept, :2]
    strides = anchors[kept, 2:]
    centres = corners + grid[:, 1:3] * strides
    sizes = np.exp(grid[:, 3:5]) * strides
    offsets = (grid[:, 5:] * strides).reshape(-1, 5, 2)
    points = (corners[:, None] + offsets).reshape(-1, 10)
    return np.concatenate([centres - sizes / 2, sizes, points, grid[:, :1]], axis=1)


def merge(candidates: Floats, max_iou: float) -> list[Floats]:
    """Non-maximum suppression that averages instead of only dropping.

    The strongest candidate stands for its face. Its box and points are the mean of the candidates
    that agree closely with it (IoU >= `VOTE_IOU`), weighted by squared score: neighbouring cells
    err independently of each other.

    Args:
        candidates: (K, 15) from `decode`.
        max_iou: Of candidates that overlap more than this, the weaker ones are dropped.

    Returns:
        One row (15,) per face, most confident first.
    """
    faces: list[Floats] = []
    rest = candidates[np.argsort(-candidates[:, _SCORE], kind="stable")]
    while len(rest):
        best = rest[0]
        iou = _iou_with(best, rest)
        votes = rest[iou >= VOTE_IOU]
        weights = votes[:, _SCORE] ** 2
        mean = weights @ votes[:, _GEOMETRY] / weights.sum()
        faces.append(np.append(mean, best[_SCORE]))
        rest = rest[iou <= max_iou]
    return faces


def _iou_with(row: Floats, rows: Floats) -> Floats:
    """IoU of a box with each of (K, 4+) boxes x, y, w, h, of which it is itself the first."""
    low = np.maximum(row[:2], rows[:, :2])
    high = np.minimum(row[:2] + row[2:4], rows[:, :2] + rows[:, 2:4])
    intersection: Floats = np.prod(np.maximum(high - low, 0), axis=1)
    union = row[2] * row[3] + rows[:, 2] * rows[:, 3] - intersection
    iou: Floats = np.zeros_like(intersection)
    np.divide(intersection, union, out=iou, where=union > 0)
    # Also for a box without an area: `merge` must be rid of it, or it would never end.
    iou[0] = 1.0
    return iou


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    Args:
        a: x, y, w, h.
        b: x, y, w, h.

    Returns:
        0..1; 0 where they do not overlap.

    >>> round(overlap((0, 0, 2, 2), (1, 0, 2, 2)), 3)
    0.333
    """
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def is_apart(face: Face, others: Iterable[Face], iou: float) -> bool:
    """Whether a face lies apart from others.

    Args:
        face: The face.
        others: The others.
        iou: Overlap from which two boxes are of one face.

    Returns:
        Whether its box overlaps less than that with each of the others.
    """
    return all(overlap(face.box, other.box) < iou for other in others)


class Detector:
    """Finds faces in frames, and finds known faces again near where they were."""

    def __init__(
        self,
        network: Network,
        *,
        least: float,
        keep: float,
        overlap: float,
        side: int,
        window: int,
        smallest: int = 32,
    ) -> None:
        """Set up a detector; the numbers are those of a detector's card (`search`).

        Args:
            network: Luma (N, 1, H, W), float32 in 0..255, H and W multiples of 32, to grids
                (N, M, 15).
            least: Smallest score of a new face.
            keep: Smallest score of a face that is already known.
            overlap: Of two boxes with a larger IoU, the weaker one is dropped.
            side: Frames of up to 1920 px are scaled down to this longer side before the search, px;
                larger ones as `scale_for` says.
            window: Side of the network's input when one known face is looked for, px.
            smallest: Width from which the network finds faces surely, px of its input.
        """
        self.least = least
        self._network = network
        self._keep = keep
        self._overlap = overlap
        self._side = side
        self._window = window
        self._smallest = smallest
        self._window_anchors = anchor_points(window, window)

    def quick_scale(self, image: Image) -> float:
        """The size at which a frame is searched where time counts.

        Args:
            image: A frame (H, W, 3).

        Returns:
            Share of the frame's size at which its longer side is the card's, at most 1.
        """
        return min(1.0, self._side / _longer_side(image))

    def scale_for(self, image: Image, min_face: float | None = None) -> float:
        """The size at which a frame is searched where faces count.

        Args:
            image: A frame (H, W, 3).
            min_face: Width of the smallest faces that should be found, px of the frame; None where
                nobody asked for smaller ones.

        Returns:
            Share of the frame's size, at most 1: `quick_scale`, in large frames more.
        """
        longer = _longer_side(image)
        scale = max(self.quick_scale(image), min(FRAME_SHARE, FRAME_SIDE / longer))
        if min_face is None:
            return scale
        return max(scale, min(1.0, self._smallest / min_face, CLOSEST_SIDE / longer))

    def find(
        self, image: Image, *, scale: float | None = None, turns: Sequence[int] = (0,)
    ) -> list[Face]:
        """Search a whole frame.

        Args:
            image: RGB uint8 (H, W, 3).
            scale: Share of its size at which the frame is searched, at most 1; None follows the
                frame (`scale_for`).
            turns: The frame is searched after each of these turns: degrees clockwise, 0, 90, 180 or
                270.

        Returns:
            All faces, most confident first, in pixels of the frame as it is given.
        """
        luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        scales = self._pyramid(
            _longer_side(luma), self.scale_for(image) if scale is None else scale
        )
        pictures = [_shrunk(luma, share) for share in scales]
        gain = _gain(pictures[-1])
        faces: list[Face] = []
        for turn in turns:
            candidates = [self._candidates(pictures[0], luma.shape, turn, gain)]
            for picture in pictures[1:]:
                candidates.append(self._candidates(picture, luma.shape, turn, gain, LARGE_PX))
            # Views of several turns have other points, so they are never averaged.
            for row in merge(np.concatenate(candidates), self._overlap):
                faces.append(_face(row, 1.0, (0, 0)))
        return self._distinct(faces) if len(turns) > 1 else faces

    def _pyramid(self, longer: int, scale: float) -> list[float]:
        """Scales at which a frame is searched, largest first.

        A face that fills the frame is larger than any the network was trained on; at half the size,
        or half of that, it is not.
        """
        scales = [scale, scale / 2]
        # A pixel more, so that rounding adds no level.
        while longer * scales[-1] > self._side / 2 + 1:
            scales.append(scales[-1] / 2)
        return scales

    def _candidates(
        self,
        picture: Image,
        shape: tuple[int, ...],
        turn: int,
        gain: float,
        min_width: float = 0.0,
    ) -> Floats:
        """Candidates (K, 15) in pixels of a frame of that shape.

        `picture` is its luma, scaled down; it is turned, and made brighter by `gain`, before the
        search. `min_width` is in pixels of the picture.
        """
        padded = _padded(turn_picture(picture, turn))
        padded *= gain
        anchors = anchor_points(*padded.shape[2:])
        candidates = decode(self._network(padded)[0], anchors, self.least)
        candidates = _turned_back(candidates, turn, picture.shape)
        candidates = candidates[candidates[:, 2] >= min_width]
        # Per side: rounding gives width and height slightly different factors.
        back = [shape[1] / picture.shape[1], shape[0] / picture.shape[0]]
        candidates[:, _GEOMETRY] *= np.tile(back, 7)
        return candidates

    def _distinct(self, faces: list[Face]) -> list[Face]:
        """The faces, most confident first, each as the surest of the turns shows it."""
        distinct: list[Face] = []
        for face in sorted(faces, key=lambda face: -face.confidence):
            if is_apart(face, distinct, self._overlap):
                distinct.append(face)
        return distinct

    def follow(
        self, image: Image, boxes: Sequence[Box], turns: Sequence[float] | None = None
    ) -> list[Face | None]:
        """Look for known faces near their last boxes only, all in one call of the network.

        Args:
            image: RGB uint8 (H, W, 3).
            boxes: Where the faces were, x, y, w, h in frame pixels.
            turns: For each box, by which turn of the frame its face comes upright, degrees
                clockwise, 0..360; None where all are upright.

        Returns:
            For each box the face nearest to its middle, in frame pixels; None where there is none,
            and for boxes without area.
        """
        if not boxes:
            return []
        turns = [0.0] * len(boxes) if turns is None else turns
        windows = [Window.around(box, self._window) for box in boxes]
        crops = []
        for window, turn in zip(windows, turns, strict=True):
            crop = window.cut_turned(image, turn)
            crop *= _gain(crop)
            crops.append(crop)
        faces: list[Face | None] = []
        grids = self._network(np.stack(crops)[:, None])
        for box, grid, window, turn in zip(boxes, grids, windows, turns, strict=True):
            rows = merge(decode(grid, self._window_anchors, self._keep), self._overlap)
            # Near a box without area, chance alone would decide what is found.
            if rows and min(box[2:]) > 0:
                nearest = min(rows, key=window.distance_from_middle)
                (upright,) = _turned_back(nearest[None], turn, (self._window, self._window))
                faces.append(_face(upright, window.scale, window.corner))
            else:
                faces.append(None)
        return faces


def _longer_side(image: Image) -> int:
    """Of a picture's width and height the larger one, px."""
    height, width = image.shape[:2]
    return int(max(height, width))


def _shrunk(luma: Image, scale: float) -> Image:
    """Luma (H, W) averaged down to a share of its size."""
    if scale >= 1:
        return luma
    height, width = luma.shape
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def _gain(luma: NDArray[Any]) -> float:
    """By how much a picture (H, W), 0..255, is made brighter; by 1 if it is not dark."""
    # A sample is enough, and its few brightest pixels may be a lamp.
    sample = luma[::4, ::4].ravel()
    nearly_all = sample.size * 99 // 100
    brightest = float(np.partition(sample, nearly_all)[nearly_all])
    if brightest >= DARK:
        return 1.0
    return min(LIGHT / max(brightest, 1.0), MOST_GAIN)


def _turned_back(rows: Floats, turn: float, size: tuple[int, ...]) -> Floats:
    """Candidates (K, 15) of a turned picture in pixels of the picture before, of size H, W.

    The box is the one around an ellipse with its axes, so a face has about the same at any angle.
    """
    if not turn:
        return rows
    height, width = size
    middles = turn_back(rows[:, :2] + rows[:, 2:4] / 2, turn, (height, width))
    points = turn_back(rows[:, _POINTS].reshape(-1, 5, 2), turn, (height, width))
    angle = np.deg2rad(turn)
    across = rows[:, 2:4] * np.cos(angle)
    down = rows[:, 3:1:-1] * np.sin(angle)
    sizes = np.hypot(across, down)
    corners = middles - sizes / 2
    return np.concatenate([corners, sizes, points.reshape(-1, 10), rows[:, _SCORE:]], axis=1)


def _padded(luma: Image) -> NDArray[np.float32]:
    """Luma (H, W) as network input (1, 1, H', W'), black to the right and below."""
    height, width = luma.shape
    rows = ceil(height / GRID_MULTIPLE) * GRID_MULTIPLE
    cols = ceil(width / GRID_MULTIPLE) * GRID_MULTIPLE
    padded = np.zeros((1, 1, rows, cols), np.float32)
    padded[0, 0, :height, :width] = luma
    return padded


def _face(row: Floats, scale: float, corner: tuple[int, int]) -> Face:
    """A face in frame pixels from a candidate (15,) in input pixels."""
    offset = np.asarray(corner)
    # In double precision: a bare number would leave the sums in the network's float32.
    scales = np.full(2, scale, np.float64)
    x, y = row[:2] * scales + offset
    w, h = row[2:4] * scales
    points = row[_POINTS].reshape(5, 2) * scales + offset
    box = (float(x), float(y), float(w), float(h))
    return Face(box, points.astype(np.float64), float(row[_SCORE]))

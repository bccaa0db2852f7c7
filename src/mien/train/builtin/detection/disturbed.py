"""Pictures made harder than their labels: occluders, turns, and light and camera.

A teacher that sees the picture before gives answers that a student should still give after.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.occluders import OCCLUDERS, occlude
from mien.faces.detect import STRIDES
from mien.tasks import Floats

__all__ = ["hide_parts", "rotation", "turn_answers", "turn_picture"]

Grey = NDArray[np.uint8]
Floats32 = NDArray[np.float32]

# Columns of a face: x, y, w, h, five points x, y, and the score.
_POINTS: Final = slice(4, 14)
# First columns of the places in an answer: the centre and five points, x and y each.
_PLACES: Final = (1, 5, 7, 9, 11, 13)
# How far around a face, in widths of its box, an occluder is drawn.
_MARGIN: Final = 0.8


def hide_parts(
    picture: Grey, faces: Sequence[Floats], chance: float, rng: np.random.Generator
) -> Grey:
    """Draw occluders over some of the faces.

    Args:
        picture: Grey (H, W); it is not changed.
        faces: Each x, y, w, h, five points (x, y), score; px.
        chance: Of a face to be covered in part, 0..1.
        rng: Source of all randomness.

    Returns:
        The picture.
    """
    picture = picture.copy()
    height, width = picture.shape
    for face in faces:
        if rng.random() >= chance:
            continue
        x, y, w, h = face[:4]
        margin = _MARGIN * max(w, h)
        left, top = (int(max(value - margin, 0)) for value in (x, y))
        right = int(min(x + w + margin, width))
        bottom = int(min(y + h + margin, height))
        if right - left < 2 or bottom - top < 2:
            continue
        part = np.repeat(picture[top:bottom, left:right, None], 3, axis=2)
        points = face[_POINTS].reshape(5, 2) - (left, top)
        kind = str(rng.choice(list(OCCLUDERS)))
        covered, _ = occlude(part, points, kind, rng)
        grey = cv2.cvtColor(covered, cv2.COLOR_RGB2GRAY)
        picture[top:bottom, left:right] = grey
    return picture


def rotation(side: int, degrees: float) -> Floats:
    """Make the map of a turn about the middle of a square picture.

    Args:
        side: Of the picture, px.
        degrees: Counter-clockwise on the screen.

    Returns:
        Affine map (2, 3) of pixel centres.
    """
    middle = (side - 1) / 2
    return np.asarray(cv2.getRotationMatrix2D((middle, middle), degrees, 1.0))


def turn_picture(picture: Grey, matrix: Floats, rng: np.random.Generator) -> Grey:
    """Turn a picture, with its mirror image or a plain grey beyond its edges.

    Args:
        picture: Grey (S, S).
        matrix: From `rotation`.
        rng: Source of randomness.

    Returns:
        Grey (S, S).
    """
    # Mirrored faces would be faces without a label, so only a narrow rim is ever mirrored.
    edge = cv2.BORDER_CONSTANT if rng.random() < 0.7 else cv2.BORDER_REPLICATE
    size = picture.shape[::-1]
    grey = int(rng.integers(256))
    turned = cv2.warpAffine(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=edge, borderValue=grey
    )
    return np.asarray(turned, np.uint8)


def turn_answers(grid: Floats32, side: int, matrix: Floats) -> Floats32:
    """Turn a detector's answers with the picture.

    The answer at a cell is that of the cell of the same stride that lay where it lies now, with its
    box and points turned. A box keeps the lengths of its axes and stays upright.

    Args:
        grid: Answers (M, 15) in a picture of `side` px, see `mien.faces.detect`.
        side: Of the picture, px.
        matrix: From `rotation`.

    Returns:
        Answers (M, 15); cells from beyond the picture see no face.
    """
    rows = []
    start = 0
    for stride in STRIDES:
        cells = side // stride
        part = grid[start : start + cells**2]
        rows.append(_turn_level(part, stride, matrix))
        start += cells**2
    return np.concatenate(rows).astype(np.float32)


def _turn_level(part: Floats32, stride: int, matrix: Floats) -> Floats:
    """The answers (cells * cells, 15) of one stride, turned."""
    cells = isqrt(len(part))
    y, x = np.mgrid[0:cells, 0:cells]
    corners = np.stack([x.ravel(), y.ravel()], axis=1)
    # Where the middle of each cell lay before the turn, and in which cell that is.
    back = cv2.invertAffineTransform(matrix)
    middles = (corners + 0.5) * stride - 0.5
    before = np.floor((middles @ back[:, :2].T + back[:, 2] + 0.5) / stride).astype(int)
    inside = ((before >= 0) & (before < cells)).all(axis=1)
    before = np.clip(before, 0, cells - 1)
    source = part[before[:, 1] * cells + before[:, 0]]
    turned: Floats = source.astype(np.float64)
    turned[:, 0] *= inside
    # The centre and the five points move with the picture.
    linear = matrix[:, :2]
    for first in _PLACES:
        absolute = (before + source[:, first : first + 2]) * stride
        moved = absolute @ linear.T + matrix[:, 2]
        turned[:, first : first + 2] = moved / stride - corners
    # The axes of the box keep their lengths, and the box around them stays upright.
    widths, heights = np.exp(source[:, 3:5]).T
    cosine, sine = linear[0]
    width = np.hypot(widths * cosine, heights * sine)
    height = np.hypot(widths * sine, heights * cosine)
    turned[:, 3:5] = np.log(np.stack([width, height], axis=1))
    return turned

"""Turns: of pictures, of what is found in them, and of a face that lies on its side.

A turn is given in degrees clockwise on the screen.
"""

from math import atan2, degrees, isfinite
from typing import Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats

__all__ = ["TURNS", "lean_deg", "quarter_turn", "righting_turn", "turn_back", "turn_picture"]

Pixel = TypeVar("Pixel", np.uint8, np.float32)

TURNS: Final = (90, 180, 270)
"""The quarter turns."""
UPRIGHT_DEG: Final = 10.0
"""A face that leans less is looked at as it is. A network that sees a face lean tends to say less
than the truth, so at 15 it loses some of the faces that roll slowly; at 10 none of 17."""
_ROTATIONS: Final = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def lean_deg(points: Floats) -> float:
    """Direction from mouth to eyes.

    Args:
        points: Five points of a face (5, 2), px; order as in `mien.records.Face`.

    Returns:
        Degrees clockwise from straight up, -180..180.

    >>> lean_deg(np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]]))
    0.0
    >>> lean_deg(np.array([[2, 0], [2, 2], [1, 1], [0, 0], [0, 2]]))
    90.0
    """
    # Plain numbers: every face of every frame comes through here, and NumPy takes longer.
    left_eye, right_eye, _, left_corner, right_corner = points.tolist()
    right = left_eye[0] + right_eye[0] - left_corner[0] - right_corner[0]
    down = left_eye[1] + right_eye[1] - left_corner[1] - right_corner[1]
    # Adding zero turns -0.0 into 0.0.
    return degrees(atan2(right, -down)) + 0.0


def quarter_turn(points: Floats) -> int:
    """The quarter turn of the picture after which a face stands most nearly upright.

    Args:
        points: Five points of a face (5, 2), px; NaN where they are unknown.

    Returns:
        0, 90, 180 or 270; 0 where the points are unknown.

    >>> quarter_turn(np.array([[2, 0], [2, 2], [1, 1], [0, 0], [0, 2]]))
    270
    """
    return _quarter_turn_of(lean_deg(points))


def _quarter_turn_of(lean: float) -> int:
    return round(-lean / 90) % 4 * 90 if isfinite(lean) else 0


def righting_turn(points: Floats) -> float:
    """The turn of the picture after which a face stands upright.

    Args:
        points: Five points of a face (5, 2), px.

    Returns:
        0..360; a quarter turn where that leaves the face leaning by less than `UPRIGHT_DEG`.
    """
    lean = lean_deg(points)
    quarter = _quarter_turn_of(lean)
    rest = (lean + quarter + 180) % 360 - 180
    return quarter if abs(rest) < UPRIGHT_DEG else (quarter - rest) % 360


def turn_picture(image: NDArray[Pixel], turn: int) -> NDArray[Pixel]:
    """Turn a picture by quarter turns.

    Args:
        image: Any picture (H, W) or (H, W, C).
        turn: 0, 90, 180 or 270.

    Returns:
        The turned picture; `image` itself where the turn is 0.
    """
    if not turn:
        return image
    return cast(NDArray[Pixel], cv2.rotate(image, _ROTATIONS[turn]))


def turn_back(points: Floats, turn: float, size: tuple[int, int]) -> Floats:
    """Where points of a turned picture lie in the picture before its turn.

    Args:
        points: x and y (..., 2), px of the turned picture.
        turn: By which the picture was turned about its middle.
        size: Height and width of the picture before, px; after quarter turns the turned one is as
            high as that is wide, after other turns it has the same size.

    Returns:
        The same points in the same order, px of the picture before.

    >>> turn_back(np.array([30.0, 10.0]), 90, (50, 100)).round(6).tolist()
    [10.0, 20.0]
    """
    middle = np.array([size[1] / 2, size[0] / 2])
    turned_middle = middle[::-1] if turn in (90, 270) else middle
    angle = np.deg2rad(turn)
    cosine, sine = np.cos(angle), np.sin(angle)
    back = np.array([[cosine, sine], [-sine, cosine]])
    moved: Floats = (points - turned_middle) @ back.T + middle
    return moved

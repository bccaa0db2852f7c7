"""The 68 points of a face: what lies where, and what is measured between them.

They are those of iBUG (300-W; Sagonas et al. 2016), counted from 0 as in OpenFace. Left and right
are those of the picture.
"""

from typing import Final

import numpy as np

from mien.tasks import Floats

__all__ = ["COUNT", "COVERED_WITH", "MEASURES", "MIRRORED", "REGIONS", "eye_span", "measure"]

COUNT: Final = 68
"""How many points a face has."""
REGIONS: Final = {
    "jaw": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "left_eye": range(36, 42),
    "right_eye": range(42, 48),
    "mouth": range(48, 68),
}
"""Points by region."""
COVERED_WITH: Final = {
    "left_eye": (*REGIONS["left_eye"],),
    "right_eye": (*REGIONS["right_eye"],),
    "brows": (*REGIONS["brows"],),
    "nose": (*REGIONS["nose"],),
    # What hides the mouth, such as a mask, hides the chin.
    "mouth": (*range(4, 13), *REGIONS["mouth"]),
}
"""By region of ``occlusion.regions5``, the points that cannot be seen where it is covered."""
MIRRORED: Final = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46),
    *(39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)
"""Which point of a face becomes point i of its mirror image."""

MEASURES: Final = ("eye_opening_left", "eye_opening_right", "mouth_opening", "mouth_width")
"""What `measure` gives."""


def eye_span(points: Floats) -> Floats:
    """Distance between the outer corners of the eyes.

    Args:
        points: Points (…, 68, 2).

    Returns:
        Distances (…), in the unit of the points.
    """
    return _distance(points, 36, 45)


def measure(points: Floats) -> Floats:
    """Measure how far eyes and mouth are open, and how wide the mouth is.

    An eye's opening is its aspect ratio (Soukupová & Čech 2016): the mean height of its lids over
    its width. The mouth's opening is the mean distance between the inner lips at their middle three
    pairs of points, its width that between its corners, both over `eye_span`.

    Args:
        points: Points (…, 68, 2), px; NaN where they are not known.

    Returns:
        In the order of `MEASURES` (…, 4), from 0; NaN where a point is not known.

    >>> closed = np.zeros((68, 2))
    >>> closed[36:48, 0] = 0, 1, 2, 3, 2, 1, 6, 7, 8, 9, 8, 7
    >>> measure(closed).tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    span = eye_span(points)
    lips = (_distance(points, 61, 67) + _distance(points, 62, 66) + _distance(points, 63, 65)) / 3
    parts = [
        (_distance(points, 37, 41) + _distance(points, 38, 40)) / 2,
        (_distance(points, 43, 47) + _distance(points, 44, 46)) / 2,
        lips,
        _distance(points, 48, 54),
    ]
    units = [_distance(points, 36, 39), _distance(points, 42, 45), span, span]
    # Points that coincide, as of no face, measure nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(parts, axis=-1) / np.stack(units, axis=-1)


def _distance(points: Floats, first: int, second: int) -> Floats:
    return np.asarray(np.linalg.norm(points[..., first, :] - points[..., second, :], axis=-1))

"""The lines of a drawn face's features, in face units: brows, lids, eyes, mouth, head and hair.

A line is five points, through which `mien.data.drawn.geometry` lays a smooth curve. All lines but
those of the mouth are of the side with x above 0; the other side mirrors them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from mien.data.drawn.portrayal import UNITS, Activations, Person, Points, Portrayal

__all__ = ["RING", "Line", "Weights", "eye", "half_face", "mouth", "weighted"]

Line = list[tuple[float, float]]
"""Points (x, y) in face units."""
Weights = Mapping[str, float]
"""Action unit -> face units by which it moves something at full activation."""

_ANGLES: Final = np.linspace(0, 2 * np.pi, 20, endpoint=False)
RING: Final = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
"""Points (20, 2) of a unit circle."""
_LONG_HAIR: Final = 3


def weighted(activations: Activations, weights: Weights, start: float = 0.0) -> float:
    """A length that action units change.

    Args:
        activations: Activations 0..1.
        weights: What each unit adds at full activation.
        start: The length in a face at rest.

    Returns:
        `start` and, in the order of `weights`, weight times activation of each unit.
    """
    # Not `sum` or a dot product: pictures are held to the last bit, so the order matters.
    total = start
    for name, weight in weights.items():
        total += weight * activations[name]
    return total


class _BrowPoint(NamedTuple):
    """One of five points along a brow.

    Attributes:
        x, y: Its place in a face at rest, y from the brow's height.
        inner: How far AU01 raises it.
        outer: How far AU02 raises it.
        lower: How far AU04 lowers it.
        knit: How far AU04 draws it to the middle.
        thickness: Share of the brow's thickness.
    """

    x: float
    y: float
    inner: float
    outer: float
    lower: float
    knit: float
    thickness: float


_BROW: Final = (
    _BrowPoint(0.11, 0.0, 0.15, 0.0, 0.1, 0.06, 0.7),
    _BrowPoint(0.23, -0.03, 0.12, 0.02, 0.09, 0.045, 1.0),
    _BrowPoint(0.36, -0.05, 0.05, 0.1, 0.07, 0.025, 0.9),
    _BrowPoint(0.49, -0.04, 0.01, 0.15, 0.045, 0.01, 0.65),
    _BrowPoint(0.61, 0.02, 0.0, 0.13, 0.02, 0.0, 0.15),
)


class _LidPoint(NamedTuple):
    """One of five points along both lids.

    Attributes:
        x: From the eye's middle, share of half its width.
        upper: Share of the opening above.
        lower: Share of the opening below.
        tilt: y of the eye's axis: the outer corner lies a little higher.
    """

    x: float
    upper: float
    lower: float
    tilt: float


_LIDS: Final = (
    _LidPoint(-1, 0, 0, 0.012),
    _LidPoint(-0.5, 0.82, 0.7, 0.006),
    _LidPoint(0, 1, 1, 0),
    _LidPoint(0.5, 0.84, 0.88, -0.006),
    _LidPoint(1, 0, 0, -0.012),
)
_UPPER_LID: Final = {"AU05": 0.75, "AU07": -0.35, "AU04": -0.1, "AU06": -0.12}
_LOWER_LID: Final = {"AU07": -0.5, "AU06": -0.35}

# Head and hair: x in shares of half the face's width, y in face units.
_SKULL: Final = ((0.0, -1.1), (0.55, -1.04), (0.87, -0.82), (0.98, -0.58), (0.96, -0.35))
_HAIR: Final = ((0.0, -1.22), (0.6, -1.16), (1.02, -0.85), (1.14, -0.4), (1.04, -0.08))
_FRINGE: Final = ((0.0, -0.8), (0.45, -0.78), (0.8, -0.62), (0.95, -0.35), (0.98, -0.08))
_TEMPLE: Final = ((0.96, -0.35), (1.0, 0.12))
_WHISKERS: Final = ((0.99, 0.1), (0.9, 0.35), (0.62, 0.62))
_BACK_OF_HAIR: Final = ((0.9, -0.95), (1.18, -0.5), (1.26, 0.0))
_CHIN: Final = {"AU26": 0.2, "AU17": -0.015}

_CORNER_X: Final = {"AU12": 0.11, "AU20": 0.13, "AU14": 0.04}
_CORNER_NARROWS: Final = {"AU18": -0.42, "AU23": -0.2, "AU24": -0.05}
_CORNER_Y: Final = {
    "AU12": -0.11,
    "AU15": 0.1,
    "AU10": -0.015,
    "AU20": 0.025,
    "AU26": 0.04,
    "AU17": 0.015,
}
_LIPS_FULL: Final = {"AU23": -0.5, "AU24": -0.55, "AU20": -0.3, "AU12": -0.2, "AU18": 0.55}
_LIPS_MEET: Final = {
    "AU17": -0.055,
    "AU12": 0.012,
    "AU28": 0.02,
    "AU26": 0.025,
    "AU15": -0.012,
}
_UPPER_LIP_RISES: Final = {"AU25": -0.035, "AU10": -0.055}


def half_face(units: Activations, person: Person, alert: float) -> dict[str, Line]:
    """The lines of one side of the face.

    Args:
        units: Activations on that side.
        person: Whose face it is.
        alert: As of `Portrayal.alert`.

    Returns:
        Name -> line; the outline and the skull make the face, `back` is hair behind it.
    """
    brow_top, brow_low = _brow(units, person)
    lid_top, lid_low = _lids(units, person, alert)
    lines = {"brow_top": brow_top, "brow_low": brow_low, "lid_top": lid_top, "lid_low": lid_low}
    lines["outline"] = _outline(units, person)
    return lines | _hair_lines(person)


def _hair_lines(person: Person) -> dict[str, Line]:
    """The skull, and the hair on it, behind it and around the mouth."""
    width = person.width
    foot_of_hair = 1.5 if person.style == _LONG_HAIR else 0.62
    beard = [(0.4 * width, person.mouth_y - 0.16), (0.0, person.nose_y + 0.08)]
    back = [(width * 1.3, foot_of_hair / 2), (width * 1.12, foot_of_hair)]
    return {
        "skull": _widened(_SKULL, width),
        "hair": _widened(_HAIR, width),
        "back": _widened(_BACK_OF_HAIR, width) + back,
        "fringe": _widened(_FRINGE, width),
        "beard": _widened(_WHISKERS, width) + beard,
    }


def mouth(left: Activations, right: Activations, person: Person) -> list[Line]:
    """The lines of the mouth, image-left to image-right.

    Args:
        left: Activations on the image's left.
        right: Activations on the image's right.
        person: Whose face it is.

    Returns:
        The upper lip's edge, the opening's upper and lower edge, and the lower lip's edge.
    """
    units = {name: (left[name] + right[name]) / 2 for name in UNITS}
    corners = (_mouth_corner(left, person, -1), _mouth_corner(right, person, 1))
    fullness = max(weighted(units, _LIPS_FULL, start=1), 0.3) * (1 - 0.92 * units["AU28"])
    above = person.lip * fullness * (1 + 0.25 * units["AU10"])
    below = 1.3 * person.lip * fullness * weighted(units, {"AU16": 0.3, "AU17": -0.2}, start=1)
    middle = weighted(units, _LIPS_MEET, start=person.mouth_y)
    upper = weighted(units, _UPPER_LIP_RISES, start=middle)
    # The jaw opens the mouth only where the lips part.
    lower = middle + units["AU25"] * (0.05 + 0.2 * units["AU26"])
    lower = lower + 0.055 * units["AU16"] - 0.025 * units["AU10"] * (1 - units["AU25"])
    cupid_bow = 0.012 * (1 - units["AU28"])
    chin_lip = lower + below + 0.02 * units["AU26"]
    return [
        _lip_edge(corners, upper - above, 0.35 * above + cupid_bow, 0.82),
        _lip_edge(corners, upper, 0.0, 0.8),
        _lip_edge(corners, lower, 0.0, 0.82),
        _lip_edge(corners, chin_lip, 0.0, 0.84),
    ]


def eye(upper_lid: Points, lower_lid: Points, portrayal: Portrayal, side: int) -> dict[str, Points]:
    """Iris, pupil and glint, cut off by the lids.

    Args:
        upper_lid: Curve (17, 2), x rising.
        lower_lid: Curve (17, 2), x rising.
        portrayal: What is drawn.
        side: -1 for the image's left eye, 1 for the right; both are given with x above 0.

    Returns:
        Name -> closed shape (20, 2).
    """
    gaze_x, gaze_y = portrayal.shot.gaze
    centre = np.array([portrayal.person.eye_x + side * 0.05 * gaze_x, -0.012 + 0.02 * gaze_y])
    pupil = 0.036 + 0.016 * portrayal.alert
    # The lamp is in one place, so the glint lies on the same side of both eyes.
    glint = centre + np.array([-0.025 * side, -0.028])
    shapes = {
        "iris": centre + 0.078 * RING,
        "pupil": centre + pupil * RING,
        "glint": glint + 0.018 * RING,
    }
    for shape in shapes.values():
        x = shape[:, 0]
        top = np.interp(x, upper_lid[:, 0], upper_lid[:, 1])
        bottom = np.interp(x, lower_lid[:, 0], lower_lid[:, 1])
        shape[:, 1] = np.clip(shape[:, 1], top, bottom)
    return shapes


def _widened(points: Sequence[tuple[float, float]], width: float) -> Line:
    return [(x * width, y) for x, y in points]


def _brow(units: Activations, person: Person) -> tuple[Line, Line]:
    """The upper and the lower edge of a brow."""
    # Brows lie over the eyes, 0.36 from the middle in the face that the table describes.
    stretch = person.eye_x / 0.36
    top, low = [], []
    for point in _BROW:
        moves = {
            "AU01": -point.inner,
            "AU02": -point.outer,
            "AU04": point.lower,
            "AU09": 0.3 * point.lower,
        }
        y = person.brow_y + weighted(units, moves, start=point.y)
        x = point.x * stretch - point.knit * units["AU04"]
        half = person.brow_t * point.thickness / 2
        top.append((x, y - half))
        low.append((x, y + half))
    return top, low


def _lids(units: Activations, person: Person, alert: float) -> tuple[Line, Line]:
    """The upper and the lower lid."""
    closed = units["AU45"]
    upper = weighted(units, _UPPER_LID, start=1 + 0.35 * alert)
    lower = weighted(units, _LOWER_LID, start=0.68) + 0.1 * alert
    height = person.eye_h * max(upper, 0.15)
    depth = person.eye_h * max(lower, 0.05) * (1 - 0.25 * closed)
    top, low = [], []
    for point in _LIDS:
        x = person.eye_x + point.x * person.eye_w
        below = depth * point.lower + point.tilt
        above = point.tilt - height * point.upper
        low.append((x, below))
        # A blink brings the upper lid down to the lower one.
        top.append((x, above * (1 - closed) + below * closed))
    return top, low


def _outline(units: Activations, person: Person) -> Line:
    """The edge of the face from temple to chin."""
    jaw = person.width * person.jaw
    chin = weighted(units, _CHIN, start=person.chin)
    cheek = (0.35 * person.width + 0.63 * jaw, person.mouth_y - 0.1)
    return [*_widened(_TEMPLE, person.width), cheek, (0.62 * jaw, chin - 0.17), (0.0, chin)]


def _mouth_corner(units: Activations, person: Person, side: int) -> tuple[float, float]:
    x = weighted(units, _CORNER_X, start=person.mouth_w) - 0.04 * units["AU26"] * units["AU25"]
    x *= weighted(units, _CORNER_NARROWS, start=1)
    return side * x, person.mouth_y + weighted(units, _CORNER_Y)


def _lip_edge(
    corners: tuple[tuple[float, float], tuple[float, float]],
    centre: float,
    lift: float,
    fullness: float,
) -> Line:
    """A line from corner to corner whose middle lies at the height `centre`.

    lift: how far its quarter points are raised. fullness: how much of the way to `centre` they go.
    """
    left, right = corners
    quarters = []
    for x, y in corners:
        quarters.append((0.5 * x, y + (centre - y) * fullness - lift))
    middle = ((left[0] + right[0]) / 2, centre)
    return [left, quarters[0], middle, quarters[1], right]

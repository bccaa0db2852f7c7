"""A schematic face that shows what was read: brows, eyes and mouth moved by action units.

It is the same face for everybody: of the person only place, size and turn of the head are kept.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.outputs.canvas import Box, Canvas, Colour
from mien.records import Reading
from mien.tasks import Task

__all__ = ["EXPRESSED_BY", "activity_of", "draw_face"]

Activity = Mapping[str, float]
Points = NDArray[np.float64]

# Action units that an expression is made of (EMFACS, as in Matsumoto & Ekman 2008), for bundles
# that read no action units.
EXPRESSED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "happiness": ("AU07", "AU12", "AU25"),
    "surprise": ("AU01", "AU02", "AU05", "AU26"),
    "sadness": ("AU01", "AU04", "AU15"),
    "anger": ("AU04", "AU05", "AU07", "AU24"),
    "disgust": ("AU07", "AU15", "AU25"),
    "fear": ("AU01", "AU02", "AU04", "AU05", "AU20", "AU25"),
    "contempt": ("AU24",),
}
"""Expression -> the units that draw it."""

# Positions are in halves of the face box's height, from its middle, x to the right and y down,
# before the head is turned.
_HEAD: Final = (0.82, 1.08)
_EYES: Final = (0.34, -0.22)
_EYE: Final = (0.15, 0.10)
_PUPIL: Final = 0.065
_BROW: Final = (0.19, -0.50)
_MOUTH: Final = (0.36, 0.52)
# How far features move when the head is turned by 90 degrees.
_TURN: Final = 0.5
_STROKE: Final = 0.075
_CIRCLE: Final = np.linspace(0, 2 * np.pi, 49)
_DARK: Final[Colour] = (14, 17, 22)
_WHITE: Final[Colour] = (246, 248, 250)


def activity_of(reading: Reading, tasks: Sequence[Task]) -> dict[str, float]:
    """How active each action unit is: as read, or as its expressions are made of.

    Args:
        reading: A reading with scores.
        tasks: The tasks of its scores.

    Returns:
        Activity by unit, such as ``AU12``, 0..1; NaN where the unit is covered. Units that nobody
        reads are left out.
    """
    by_family = {task.family: task for task in tasks}
    if "au" in by_family and "au" in reading.scores:
        values = map(float, reading.scores["au"])
        return dict(zip(by_family["au"].names, values, strict=True))
    activity: dict[str, float] = {}
    if "expr" in by_family and "expr" in reading.scores:
        names = by_family["expr"].names
        for name, share in zip(names, reading.scores["expr"], strict=True):
            for unit in EXPRESSED_BY.get(name, ()):
                activity[unit] = activity.get(unit, 0.0) + float(share)
    return activity


def draw_face(canvas: Canvas, reading: Reading, tasks: Sequence[Task], colour: Colour) -> None:
    """Draw the head of a face that was read, with what was read of it.

    Mouth, eyes and brows are left out where their units are covered.

    Args:
        canvas: Where to draw.
        reading: The reading; it has a face.
        tasks: The tasks of its scores.
        colour: Colour of the head.
    """
    assert reading.face is not None
    box = Box(*map(float, reading.face.box))
    left_eye, right_eye = reading.face.points[:2]
    across = right_eye - left_eye
    roll = float(np.arctan2(across[1], across[0]))
    head = _ellipse((0.0, 0.0), *_HEAD)
    canvas.area(_Place(box, roll).pixels(head), colour)
    pose = None if reading.quality is None else reading.quality.scores.get("pose")
    yaw, pitch = (0.0, 0.0) if pose is None else np.deg2rad(pose[:2])
    # Roll is that of the picture, so the shift for yaw and pitch is along the head's own axes.
    place = _Place(box, roll, (_TURN * float(np.sin(yaw)), -_TURN * float(np.sin(pitch))))
    activity = activity_of(reading, tasks)
    _draw_mouth(canvas, place, activity)
    for side in (-1, 1):
        _draw_eye(canvas, place, activity, side)
        _draw_brow(canvas, place, activity, side)


class _Place:
    """Where a face is drawn: takes positions on the face to pixels of the picture."""

    def __init__(self, box: Box, roll: float, shift: tuple[float, float] = (0.0, 0.0)) -> None:
        self.scale = box.h / 2
        self._middle = np.array([box.x + box.w / 2, box.y + box.h / 2])
        self._shift = np.array(shift)
        cos, sin = np.cos(roll), np.sin(roll)
        self._turn = np.array([[cos, -sin], [sin, cos]])

    def pixels(self, points: Points) -> Points:
        """Points (N, 2) on the face as pixels."""
        turned = (points + self._shift) @ self._turn.T
        return np.asarray(self._middle + self.scale * turned, np.float64)


def _of(activity: Activity, *units: str) -> float:
    """The activity of the most active of some units, 0..1; NaN where one of them is covered."""
    values = [activity.get(unit, 0.0) for unit in units]
    if any(map(isnan, values)):
        return float("nan")
    return float(np.clip(max(values), 0, 1))


def _draw_mouth(canvas: Canvas, place: _Place, activity: Activity) -> None:
    smile = _of(activity, "AU12") - _of(activity, "AU15")
    opening = max(_of(activity, "AU26", "AU27"), 0.3 * _of(activity, "AU25"))
    stretch = 0.25 * _of(activity, "AU12", "AU20") - 0.35 * _of(activity, "AU18")
    thinner = _of(activity, "AU24", "AU28")
    if isnan(smile + opening + stretch + thinner):
        return
    half_width, middle = _MOUTH
    x = np.linspace(-1, 1, 25)
    # Parabolas: the corners rise with a smile and fall with a frown, the lips part with the jaw.
    bend = middle + 0.2 * smile * (0.5 - x * x)
    parted = 0.5 * opening * (1 - x * x)
    upper = np.stack([half_width * (1 + stretch) * x, bend - 0.25 * parted], axis=1)
    lower = np.stack([half_width * (1 + stretch) * x, bend + 0.75 * parted], axis=1)
    canvas.area(place.pixels(np.concatenate([upper, lower[::-1]])), _DARK)
    width = place.scale * _STROKE * (1 - 0.5 * thinner)
    canvas.curve(place.pixels(upper), _DARK, width)
    canvas.curve(place.pixels(lower), _DARK, width)


def _draw_eye(canvas: Canvas, place: _Place, activity: Activity, side: int) -> None:
    """Draw the eye at the left (-1) or right (1) of the picture."""
    closed = _of(activity, "AU45", "AU43")
    wider = 0.5 * _of(activity, "AU05") - 0.4 * _of(activity, "AU07", "AU06")
    if isnan(closed + wider):
        return
    x, y = side * _EYES[0], _EYES[1]
    width, height = _EYE
    open_height = height * (1 + wider) * (1 - closed)
    if open_height > 0.25 * height:
        canvas.area(place.pixels(_ellipse((x, y), width, open_height)), _WHITE)
        pupil = min(_PUPIL, open_height)
        canvas.area(place.pixels(_ellipse((x, y), pupil, pupil)), _DARK)
        return
    lid = np.linspace(-1, 1, 9)
    curve = np.stack([x + width * lid, y + 0.4 * height * (1 - lid * lid)], axis=1)
    canvas.curve(place.pixels(curve), _DARK, 0.8 * place.scale * _STROKE)


def _draw_brow(canvas: Canvas, place: _Place, activity: Activity, side: int) -> None:
    """Draw the brow at the left (-1) or right (1) of the picture."""
    inner_up, outer_up = _of(activity, "AU01"), _of(activity, "AU02")
    lowered = _of(activity, "AU04")
    if isnan(inner_up + outer_up + lowered):
        return
    half_width, y = _BROW
    # Frowning also draws the inner ends together.
    inner = (_EYES[0] - half_width - 0.06 * lowered, y - 0.18 * inner_up + 0.18 * lowered)
    peak = (_EYES[0], y - 0.05 - 0.1 * (inner_up + outer_up) + 0.08 * lowered)
    outer = (_EYES[0] + half_width, y - 0.18 * outer_up + 0.02)
    # A quadratic Bézier curve through the three.
    along = np.linspace(0, 1, 13)[:, None]
    control = 2 * np.array(peak) - (np.array(inner) + outer) / 2
    ends = (1 - along) ** 2 * inner + along**2 * outer
    brow = (ends + 2 * along * (1 - along) * control) * (side, 1)
    canvas.curve(place.pixels(brow), _DARK, place.scale * _STROKE)


def _ellipse(middle: tuple[float, float], half_width: float, half_height: float) -> Points:
    x = middle[0] + half_width * np.cos(_CIRCLE)
    y = middle[1] + half_height * np.sin(_CIRCLE)
    return np.stack([x, y], axis=1)

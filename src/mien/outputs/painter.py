"""Faces and their scores drawn over a picture: box, label, and a panel of scores.

The panel shows valence, arousal and action units. Nothing but the outline of its box, and its
landmarks where they were asked for, is ever drawn over a face: what finds no free spot is drawn
smaller, or left out.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple

import numpy as np

from mien.outputs.canvas import Box, Canvas, Colour, Pixels, overlap
from mien.outputs.columns import UNCERTAIN
from mien.records import Face, Reading, Status
from mien.tasks import Floats, Task

__all__ = ["PALETTE", "Painter", "colour_of", "note"]

# After Okabe & Ito (2008): distinguishable with every kind of colour vision; RGB.
PALETTE: Final[tuple[Colour, ...]] = (
    (86, 180, 233),
    (240, 178, 50),
    (60, 190, 150),
    (236, 150, 196),
    (240, 228, 66),
    (235, 120, 60),
    (200, 200, 255),
)
_DARK: Final[Colour] = (14, 17, 22)
_GROOVE: Final[Colour] = (66, 71, 80)
_FAINT: Final[Colour] = (118, 124, 134)
_MUTED: Final[Colour] = (170, 176, 186)
_WHITE: Final[Colour] = (246, 248, 250)

# Lengths are pixels of a picture of 360 rows and grow with it.
_MARGIN: Final = 6.0
_SMALL_FACE: Final = 50.0
# Between a face's box, whose outline is drawn over it, and everything else.
_CLEARANCE: Final = 3.0
_MOST_PANELS: Final = 3
# Action units that stand out, if they are at least this active.
_STRONGEST: Final = 3
_VISIBLE: Final = 0.25


def colour_of(track: int | None) -> Colour:
    """The colour of a face, the same for as long as it is tracked.

    Args:
        track: The number of its track.

    Returns:
        An RGB colour of the palette.

    Examples:
        >>> colour_of(7) == colour_of(0) == colour_of(None)
        True
    """
    return PALETTE[(track or 0) % len(PALETTE)]


class _DrawnFace(NamedTuple):
    """One face of the picture, ready to be drawn.

    Attributes:
        face: The face.
        box: Its box.
        colour: Its colour.
        is_seen: False where the face was interpolated.
        is_sure: False where it was, or where its scores are doubtful.
        reading: Its scores.
    """

    face: Face
    box: Box
    colour: Colour
    is_seen: bool
    is_sure: bool
    reading: Reading


class _Label(NamedTuple):
    """The texts of a label and their lengths in pixels.

    Attributes:
        number: Number of the track.
        name: The most probable expression.
        share: Its probability.
        scale: What all lengths are multiplied by.
        number_length: Length of the field with the number.
        name_length: Length of the name with a gap after it.
        length: Length of the whole label.
    """

    number: str
    name: str
    share: str
    scale: float
    number_length: float
    name_length: float
    length: float

    @property
    def height(self) -> float:
        return 17.5 * self.scale

    @property
    def size(self) -> float:
        return 12 * self.scale

    @property
    def padding(self) -> float:
        return 5.5 * self.scale


class Painter:
    """Draws the readings of one frame after another.

    It remembers on which side of a face its panel was, so that panels do not jump.

    Args:
        tasks: The tasks of the readings.
        uncertain_below: Probability below which an expression is not named, nor on doubtful rows;
            None names all.
    """

    def __init__(self, tasks: Sequence[Task], uncertain_below: float | None = None) -> None:
        self._uncertain_below = uncertain_below
        self._tasks = {task.family: task for task in tasks}
        self._sides: dict[int, int] = {}

    def paint(self, picture: Pixels, readings: Sequence[Reading]) -> None:
        """Draw all readings of one frame.

        No label and no panel lies over a face. Panels are left out for small faces and where more
        than three faces are in view.

        Args:
            picture: RGB uint8 (H, W, 3), drawn on in place.
            readings: The readings of the frame.
        """
        canvas = Canvas(picture)
        faces = [_drawn(reading, reading.face) for reading in readings if reading.face is not None]
        for face in faces:
            _draw_box(canvas, face)
            _draw_landmarks(canvas, face)
        clearance = _CLEARANCE * max(canvas.scale, 1.0)
        taken = [face.box.grown(clearance) for face in faces]
        # Labels of all faces before any panel: they are what is missed most.
        for face in faces:
            taken += self._label(canvas, face, taken)
        if len(faces) <= _MOST_PANELS:
            for face in faces:
                taken += self._panel(picture, face, taken)
        if not faces and readings:
            note(picture, readings[0].status.value.replace("_", " "))

    def _panel(self, picture: Pixels, face: _DrawnFace, taken: Sequence[Box]) -> list[Box]:
        """Draw the scores of a face, as large as there is room; gives the space taken, if any."""
        canvas = Canvas(picture)
        has_scores = self._tasks.keys() & face.reading.scores.keys() & {"va", "au"}
        if not has_scores or face.box.h < _SMALL_FACE * canvas.scale:
            return []
        for zoom in np.linspace(_zoom(canvas, face.box), _least_zoom(canvas), 3):
            smaller = Canvas(picture, float(zoom))
            spot = self._panel_spot(smaller, face, taken)
            if spot is not None:
                self._draw_panel(smaller, face, spot)
                return [spot]
        return self._strip(Canvas(picture, _least_zoom(canvas)), face, taken)

    def _panel_spot(self, canvas: Canvas, face: _DrawnFace, taken: Sequence[Box]) -> Box | None:
        """A free spot beside the face or else at the edge of the picture, if there is one."""
        width, height = self._panel_size(canvas)
        gap = _MARGIN * canvas.scale
        lowest = canvas.height - height - gap
        top = float(np.clip(face.box.y, gap, max(lowest, gap)))
        # Right of the face, left of it, and at the edges of the picture.
        lefts = [
            face.box.right + 1.5 * gap,
            face.box.x - width - 1.5 * gap,
            canvas.width - width - gap,
            gap,
        ]
        track = -1 if face.face.track is None else face.face.track
        last_side = self._sides.get(track, 0)
        # Beside the face before the edges, and on the side of the last frame before the other.
        for side in sorted(range(4), key=lambda side: (side > 1, side != last_side, side)):
            spot = Box(lefts[side], top, width, height)
            if _is_free(canvas, spot, taken):
                self._sides[track] = side
                return spot
        return None

    def _panel_size(self, canvas: Canvas) -> tuple[float, float]:
        rows = len(self._tasks["au"].names) if "au" in self._tasks else 0
        dial = 64.0 if "va" in self._tasks else 6.0
        height = dial + 11.5 * rows + 4
        return 124 * canvas.scale, height * canvas.scale

    def _draw_panel(self, canvas: Canvas, face: _DrawnFace, spot: Box) -> None:
        scores = face.reading.scores
        s = canvas.scale
        canvas.veil(spot, _DARK, 0.76, 7 * s)
        top = spot.y + 6 * s
        if "va" in self._tasks:
            if "va" in scores:
                _dial(canvas, (spot.x + 8 * s, top + 2 * s), scores["va"], face.colour)
            top += 58 * s
        if "au" in self._tasks and "au" in scores:
            names = self._tasks["au"].names
            _bars(canvas, spot, top, names, scores["au"], colour=face.colour)

    def _strip(self, canvas: Canvas, face: _DrawnFace, taken: Sequence[Box]) -> list[Box]:
        """Where no panel has room, write the main numbers above or below the face.

        Gives the space taken, if any.
        """
        size = 11 * canvas.scale
        padding = 6 * canvas.scale
        line = 15 * canvas.scale
        words = self._main_scores(face.reading)
        if not words:
            return []
        longest = max(canvas.length(word, size, 400) for word in words)
        column = longest + 2 * padding
        # As many columns as the picture is wide, and rows for the rest.
        columns = max(min(int((canvas.width - 4) // column), len(words)), 1)
        rows = ceil(len(words) / columns)
        spot = _strip_spot(canvas, face.box, columns * column, rows * line + padding, taken)
        if spot is None:
            return []
        canvas.veil(spot, _DARK, 0.76, 5 * canvas.scale)
        for number, word in enumerate(words):
            row, position = divmod(number, columns)
            x = spot.x + padding + position * column
            y = spot.y + padding + row * line + 0.7 * size
            canvas.text(word, (x, y), size, _WHITE, 400)
        return [spot]

    def _main_scores(self, reading: Reading) -> list[str]:
        """Valence, arousal and the strongest action units, as short texts."""
        words = []
        if "va" in self._tasks and "va" in reading.scores:
            for name, value in zip(self._tasks["va"].names, reading.scores["va"], strict=True):
                words.append(f"{name} {_signed(value)}")
        if "au" in self._tasks and "au" in reading.scores:
            names = self._tasks["au"].names
            scores = reading.scores["au"]
            # Units of covered regions are missing; they sort last.
            present = np.argsort(-scores)[: np.isfinite(scores).sum()]
            for unit in present[:_STRONGEST]:
                words.append(f"{names[unit]} {scores[unit]:.2f}")
        return words

    def _label(self, canvas: Canvas, face: _DrawnFace, taken: Sequence[Box]) -> list[Box]:
        """Draw number and expression of a face near its box, or the number alone; as `_panel`."""
        name, share = self._expression(face.reading)
        # Without the expression where there is less room.
        for texts in dict.fromkeys([(name, share), ("", "")]):
            label = _label_of(canvas, face, *texts)
            if not (label.name or label.number):
                continue
            for spot in _label_spots(canvas, face.box, label.length, label.height):
                if _is_free(canvas, spot, taken):
                    _draw_label(canvas, face, label, spot)
                    return [spot]
        return []

    def _expression(self, reading: Reading) -> tuple[str, str]:
        """The most probable expression and its probability, as texts; empty where there is none."""
        abstains = self._uncertain_below is not None
        has_expression = "expr" in self._tasks and "expr" in reading.scores
        if reading.status is Status.doubtful and (abstains or not has_expression):
            return "doubtful", ""
        if not has_expression:
            return "", ""
        scores = reading.scores["expr"]
        best = int(scores.argmax())
        name = self._tasks["expr"].names[best]
        if self._uncertain_below is not None and scores[best] < self._uncertain_below:
            name = UNCERTAIN
        remark = "" if reading.status is Status.ok else f" {reading.status.value}"
        return name, f"{scores[best]:.0%}{remark}"


def note(picture: Pixels, words: str) -> None:
    """Write a few words into the lower left corner of a picture.

    Args:
        picture: RGB uint8 (H, W, 3), drawn on in place.
        words: The text.
    """
    canvas = Canvas(picture)
    s = canvas.scale
    size = 12 * s
    width = canvas.length(words, size, 500) + 14 * s
    spot = Box(8 * s, canvas.height - 27 * s, width, 19 * s)
    canvas.veil(spot, _DARK, 0.66, 5 * s)
    canvas.text(words, (spot.x + 7 * s, spot.y + 13.5 * s), size, _MUTED, 500)


def _signed(value: float) -> str:
    """A number with its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "−")


def _drawn(reading: Reading, face: Face) -> _DrawnFace:
    is_seen = reading.status is not Status.gap
    is_sure = reading.status is Status.ok
    colour = colour_of(face.track) if is_sure else _MUTED
    # Boxes may be NumPy numbers, which OpenCV does not take everywhere.
    box = Box(*map(float, face.box))
    return _DrawnFace(face, box, colour, is_seen, is_sure, reading)


def _least_zoom(canvas: Canvas) -> float:
    """How much smaller a panel may be drawn so that its letters can just be read."""
    return float(np.clip(0.94 / canvas.scale, 0.65, 1.0))


def _zoom(canvas: Canvas, box: Box) -> float:
    """How much smaller a panel is drawn for a smaller face."""
    full_size = 150 * canvas.scale
    return float(np.clip(box.h / full_size, _least_zoom(canvas), 1.0))


def _is_free(canvas: Canvas, spot: Box, taken: Sequence[Box]) -> bool:
    """Whether a spot lies within the picture and touches nothing that is taken."""
    rightmost = canvas.width - spot.w - 1
    lowest = canvas.height - spot.h - 1
    if not (1 <= spot.x <= rightmost and 1 <= spot.y <= lowest):
        return False
    return not any(overlap(spot, other) for other in taken)


def _within(position: float, length: float, available: float) -> float:
    """The nearest position at which a length fits into the picture, 2 pixels from its edge."""
    return float(np.clip(position, 2, max(available - length - 2, 2)))


def _strip_spot(
    canvas: Canvas, box: Box, width: float, height: float, taken: Sequence[Box]
) -> Box | None:
    """A free spot for a strip: below the face, above it, or at the bottom or top of the picture."""
    left = _within(box.x, width, canvas.width)
    gap = _MARGIN * canvas.scale
    tops = [box.bottom + gap, box.y - gap - height, canvas.height - height - 2, 2.0]
    for top in tops:
        spot = Box(left, top, width, height)
        if _is_free(canvas, spot, taken):
            return spot
    return None


def _label_of(canvas: Canvas, face: _DrawnFace, name: str, share: str) -> _Label:
    """Lay out the label of a face, smaller for a smaller face."""
    shrink = float(np.clip(face.box.w / (84 * canvas.scale), 0.78, 1))
    scale = canvas.scale * shrink
    size = 12 * scale
    padding = 5.5 * scale
    number = ""
    number_length = 0.0
    if face.face.track is not None:
        number = str(face.face.track)
        number_length = canvas.length(number, size, 700) + 2 * padding
    name_length = canvas.length(name, size, 600) + 0.35 * size
    length = number_length
    if name:
        length += name_length + canvas.length(share, size, 400) + 2 * padding
    return _Label(number, name, share, scale, number_length, name_length, length)


def _draw_label(canvas: Canvas, face: _DrawnFace, label: _Label, spot: Box) -> None:
    s = label.scale
    size = label.size
    baseline = spot.y + 13 * s
    canvas.veil(spot, _DARK, 0.72, 4 * s)
    if label.number:
        field = Box(spot.x, spot.y, label.number_length, label.height)
        canvas.fill(field, face.colour, 4 * s)
        canvas.text(label.number, (spot.x + label.padding, baseline), size, _DARK, 700)
    left = spot.x + label.number_length + label.padding
    colour = _WHITE if face.is_sure else _MUTED
    canvas.text(label.name, (left, baseline), size, colour, 600)
    canvas.text(label.share, (left + label.name_length, baseline), size, _MUTED, 400)


def _label_spots(canvas: Canvas, box: Box, width: float, height: float) -> list[Box]:
    """Above the face, below it, at its sides, and at the edges of the picture; the best first."""
    gap = 5 * canvas.scale
    left = _within(box.x, width, canvas.width)
    right = _within(box.right - width, width, canvas.width)
    above = box.y - gap - height
    below = box.bottom + gap
    beside = _within(box.y, height, canvas.height)
    corners = [(left, above), (left, below), (right, above), (right, below)]
    corners.append((box.right + gap, beside))
    corners.append((box.x - gap - width, beside))
    corners.append((left, 2.0))
    corners.append((left, canvas.height - height - 2))
    return [Box(x, y, width, height) for x, y in corners]


def _draw_box(canvas: Canvas, face: _DrawnFace) -> None:
    """The face's box: a thin outline with strong corners, or dashes where it was interpolated.

    It is grey where the scores are doubtful.
    """
    s = canvas.scale
    box = face.box
    radius = min(9 * s, box.w / 4, box.h / 4)
    if face.is_seen:
        canvas.outline(box, face.colour, 0.4, radius)
        canvas.corners(box, face.colour, radius, 0.2 * min(box.w, box.h), 2.2 * s)
    else:
        canvas.dashes(box, face.colour, radius, 6 * s, 1.4 * s)


def _draw_landmarks(canvas: Canvas, face: _DrawnFace) -> None:
    """The face's landmarks as dots with a dark edge; covered ones are left out."""
    points = face.reading.landmarks
    if points is None:
        return
    radius = max(0.009 * face.box.w, 0.8)
    for x, y in points[np.isfinite(points).all(axis=1)].tolist():
        canvas.disc(x, y, 1.5 * radius, _DARK)
        canvas.disc(x, y, radius, face.colour)


def _dial(canvas: Canvas, corner: tuple[float, float], scores: Floats, colour: Colour) -> None:
    """Valence to the right and arousal upwards, within the unit circle; their numbers beside it."""
    s = canvas.scale
    left, top = corner
    radius = 25 * s
    x = left + radius
    y = top + radius
    _dial_background(canvas, x, y, radius)
    valence, arousal = map(float, scores[:2])
    # Both may be 1, which lies outside the circle.
    distance = float(np.hypot(valence, arousal))
    shrink = radius / max(1.0, distance)
    dot_x = x + valence * shrink
    dot_y = y - arousal * shrink
    canvas.line((x, y), (dot_x, dot_y), colour, 1.1 * s)
    canvas.disc(dot_x, dot_y, 3.4 * s, colour)
    right = left + 2 * radius + 9 * s
    _dial_number(canvas, "valence", valence, (right, top + 7 * s))
    _dial_number(canvas, "arousal", arousal, (right, top + (7 + 26) * s))


def _dial_background(canvas: Canvas, x: float, y: float, radius: float) -> None:
    s = canvas.scale
    canvas.disc(x, y, radius, _GROOVE, 0.75 * s)
    canvas.disc(x, y, radius / 2, _GROOVE, 0.6 * s)
    canvas.line((x - radius, y), (x + radius, y), _FAINT, 0.6 * s)
    canvas.line((x, y - radius), (x, y + radius), _FAINT, 0.6 * s)


def _dial_number(canvas: Canvas, name: str, value: float, at: tuple[float, float]) -> None:
    s = canvas.scale
    left, baseline = at
    canvas.text(name, (left, baseline), 9 * s, _MUTED, 400)
    canvas.text(_signed(value), (left, baseline + 13.5 * s), 12.5 * s, _WHITE, 600)


def _bars(
    canvas: Canvas, spot: Box, top: float, names: Sequence[str], scores: Floats, *, colour: Colour
) -> None:
    """One bar a row for activations 0..1; the strongest stand out."""
    s = canvas.scale
    strongest = np.argsort(-scores)[:_STRONGEST]
    left = spot.x + 40 * s
    length = spot.w - 49 * s
    for row, name in enumerate(names):
        middle = top + (5.75 + 11.5 * row) * s
        is_strong = row in strongest and scores[row] >= _VISIBLE
        at = (spot.x + 9 * s, middle + 3.3 * s)
        if is_strong:
            canvas.text(name, at, 9 * s, _WHITE, 600)
        else:
            canvas.text(name, at, 9 * s, _MUTED, 400)
        canvas.bar((left, middle), length, 4 * s, _GROOVE)
        value = float(np.clip(scores[row], 0, 1))
        if value > 0:
            canvas.bar((left, middle), length * value, 4 * s, colour if is_strong else _FAINT)

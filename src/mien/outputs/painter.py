"""Faces and their scores drawn over a picture: box, label, and a panel with valence, arousal and action units.

Nothing but the outline of its box is ever drawn over a face: what finds no free place is drawn smaller, or left out.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from mien.outputs.canvas import Box, Canvas, Colour, Pixels, overlap
from mien.records import Face, Reading, Status
from mien.tasks import Floats, Task

__all__ = ["PALETTE", "Painter", "colour_of"]

# Okabe & Ito (2008), told apart with every kind of colour vision; RGB.
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
_TRACK: Final[Colour] = (66, 71, 80)
_FAINT: Final[Colour] = (118, 124, 134)
_MUTED: Final[Colour] = (170, 176, 186)
_WHITE: Final[Colour] = (246, 248, 250)

# Lengths are for a picture of 360 rows and grow with it.
_MARGIN: Final = 6.0
_SMALL_FACE: Final = 50.0
_CLEAR: Final = 3.0  # between a face's box, whose outline is drawn over it, and everything else
_MOST_PANELS: Final = 3
_STRONGEST: Final = 3


def colour_of(track: int | None) -> Colour:
    """The RGB colour of a face, the same for as long as it is followed.

    >>> colour_of(7) == colour_of(0) == colour_of(None)
    True
    """
    return PALETTE[(track or 0) % len(PALETTE)]


class _Look(NamedTuple):
    """One face of the picture, ready to be drawn."""

    face: Face
    box: Box
    colour: Colour
    sure: bool
    reading: Reading


class Painter:
    """Draws the readings of one frame after another; it remembers on which side of a face its panel was.

    tasks: what the scores of the readings mean.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.family: task for task in tasks}
        self._sides: dict[int, int] = {}

    def paint(self, picture: Pixels, readings: Sequence[Reading]) -> None:
        """Draw all readings of one frame into `picture`, RGB uint8 (H, W, 3), in place.

        No label and no panel lies over a face. Panels are left out for small faces and where more than three are in view.
        """
        ink = Canvas(picture)
        looks = [_look(reading, reading.face) for reading in readings if reading.face is not None]
        for look in looks:
            _frame(ink, look)
        taken = [_grown(look.box, _CLEAR * max(ink.scale, 1.0)) for look in looks]
        for look in looks:
            taken += self._label(ink, look, taken)
        for look in looks if len(looks) <= _MOST_PANELS else ():
            taken += self._panel(picture, look, taken)
        if not looks and readings:
            note(picture, readings[0].status.value.replace("_", " "))

    def _panel(self, picture: Pixels, look: _Look, taken: Sequence[Box]) -> list[Box]:
        """Draw valence, arousal and action units of a face, as large as there is room; the place taken, if any."""
        ink = Canvas(picture)
        if (
            not self._tasks.keys() & look.reading.scores.keys() & {"va", "au"}
            or look.box.h < _SMALL_FACE * ink.scale
        ):
            return []
        for zoom in np.linspace(_zoom(ink, look.box), _least_zoom(ink), 3):
            smaller = Canvas(picture, float(zoom))
            if spot := self._panel_spot(smaller, look, taken):
                self._draw_panel(smaller, look, spot)
                return [spot]
        return self._strip(Canvas(picture, _least_zoom(ink)), look, taken)

    def _panel_spot(self, ink: Canvas, look: _Look, taken: Sequence[Box]) -> Box | None:
        """Beside the face where there is room, for a face alone else at the edge of the picture; None without a free place."""
        width, height = self._panel_size(ink)
        gap = _MARGIN * ink.scale
        far, low = ink.width - width - gap, ink.height - height - gap
        top = float(np.clip(look.box.y, gap, max(low, gap)))
        lefts = [look.box.x + look.box.w + 1.5 * gap, look.box.x - width - 1.5 * gap, far, gap]
        spots = [Box(left, top, width, height) for left in lefts]
        track = -1 if look.face.track is None else look.face.track
        order = sorted(
            range(4), key=lambda side: (side > 1, side != self._sides.get(track, 0), side)
        )
        chosen = next((side for side in order if _is_free(ink, spots[side], taken)), None)
        if chosen is None:
            return None
        self._sides[track] = chosen
        return spots[chosen]

    def _panel_size(self, ink: Canvas) -> tuple[float, float]:
        rows = len(self._tasks["au"].names) if "au" in self._tasks else 0
        dial = 64.0 if "va" in self._tasks else 6.0
        return 124 * ink.scale, (dial + 11.5 * rows + 4) * ink.scale

    def _draw_panel(self, ink: Canvas, look: _Look, spot: Box) -> None:
        scores = look.reading.scores
        ink.veil(spot, _DARK, 0.76, 7 * ink.scale)
        top = spot.y + 6 * ink.scale
        if "va" in self._tasks:
            if "va" in scores:
                _dial(ink, (spot.x + 8 * ink.scale, top + 2 * ink.scale), scores["va"], look.colour)
            top += 58 * ink.scale
        if "au" in self._tasks and "au" in scores:
            _bars(ink, spot, top, self._tasks["au"].names, scores["au"], colour=look.colour)

    def _strip(self, ink: Canvas, look: _Look, taken: Sequence[Box]) -> list[Box]:
        """Where no panel has room: the most telling numbers in rows of text above or below the face; the place taken, if any."""
        size, pad, line = 11 * ink.scale, 6 * ink.scale, 15 * ink.scale
        words = self._telling(look.reading)
        widest = max(ink.length(word, size, 400) for word in words) + 2 * pad
        per_row = max(min(int((ink.width - 4) // widest), len(words)), 1)
        rows = [words[start : start + per_row] for start in range(0, len(words), per_row)]
        width, height = per_row * widest, len(rows) * line + pad
        left = float(np.clip(look.box.x, 2, max(ink.width - width - 2, 2)))
        gap = _MARGIN * ink.scale
        tops = [
            look.box.y + look.box.h + gap,
            look.box.y - gap - height,
            ink.height - height - 2,
            2.0,
        ]
        spots = [Box(left, top, width, height) for top in tops]
        spot = next((spot for spot in spots if _is_free(ink, spot, taken)), None)
        if spot is None:
            return []
        ink.veil(spot, _DARK, 0.76, 5 * ink.scale)
        for row, some in enumerate(rows):
            for place, word in enumerate(some):
                ink.text(
                    word,
                    (spot.x + pad + place * widest, spot.y + pad + row * line + 0.7 * size),
                    size,
                    _WHITE,
                    400,
                )
        return [spot]

    def _telling(self, reading: Reading) -> list[str]:
        """Valence, arousal and the strongest action units, as short texts."""
        words = []
        if "va" in self._tasks and "va" in reading.scores:
            named = zip(self._tasks["va"].names, reading.scores["va"], strict=True)
            words += [f"{name} {value:+.2f}".replace("-", "−") for name, value in named]
        if "au" in self._tasks and "au" in reading.scores:
            scores = reading.scores["au"]
            words += [
                f"{self._tasks['au'].names[i]} {scores[i]:.2f}"
                for i in np.argsort(-scores)[:_STRONGEST]
            ]
        return words

    def _label(self, ink: Canvas, look: _Look, taken: Sequence[Box]) -> list[Box]:
        """Draw the number and expression of a face near its box, the number alone where there is less room; the place taken, if any."""
        words = self._words(look.reading)
        number = "" if look.face.track is None else str(look.face.track)
        s = ink.scale * float(np.clip(look.box.w / (84 * ink.scale), 0.78, 1))
        for strong, light in dict.fromkeys((words or ("", ""), ("", ""))):
            if not (strong or number):
                continue
            size, pad, height = 12 * s, 5.5 * s, 17.5 * s
            chip = ink.length(number, size, 700) + 2 * pad if number else 0.0
            split = ink.length(strong, size, 600) + 0.35 * size
            width = chip + (split + ink.length(light, size, 400) + 2 * pad if strong else 0)
            spot = next(
                (
                    spot
                    for spot in _label_spots(ink, look.box, width, height)
                    if _is_free(ink, spot, taken)
                ),
                None,
            )
            if spot is None:
                continue
            ink.veil(spot, _DARK, 0.72, 4 * s)
            if number:
                ink.fill(Box(spot.x, spot.y, chip, height), look.colour, 4 * s)
                ink.text(number, (spot.x + pad, spot.y + 13 * s), size, _DARK, 700)
            left = spot.x + chip + pad
            ink.text(strong, (left, spot.y + 13 * s), size, _WHITE if look.sure else _MUTED, 600)
            ink.text(light, (left + split, spot.y + 13 * s), size, _MUTED, 400)
            return [spot]
        return []

    def _words(self, reading: Reading) -> tuple[str, str] | None:
        """The highest expression, and how probable it is."""
        if "expr" not in self._tasks or "expr" not in reading.scores:
            return None
        scores = reading.scores["expr"]
        best = int(scores.argmax())
        return self._tasks["expr"].names[
            best
        ], f"{scores[best]:.0%}{' gap' if reading.status is Status.gap else ''}"


def note(picture: Pixels, words: str) -> None:
    """Write a few words into the lower left of `picture`, RGB uint8 (H, W, 3), in place."""
    ink = Canvas(picture)
    s, size = ink.scale, 12 * ink.scale
    spot = Box(8 * s, ink.height - 27 * s, ink.length(words, size, 500) + 14 * s, 19 * s)
    ink.veil(spot, _DARK, 0.66, 5 * s)
    ink.text(words, (spot.x + 7 * s, spot.y + 13.5 * s), size, _MUTED, 500)


def _look(reading: Reading, face: Face) -> _Look:
    sure = reading.status is not Status.gap
    return _Look(
        face, Box(*map(float, face.box)), colour_of(face.track) if sure else _MUTED, sure, reading
    )


def _least_zoom(ink: Canvas) -> float:
    """How much smaller a panel may be drawn so that its letters can just be read."""
    return float(np.clip(0.94 / ink.scale, 0.65, 1.0))


def _zoom(ink: Canvas, box: Box) -> float:
    """How much smaller a panel is drawn for a smaller face."""
    return float(np.clip(box.h / (150 * ink.scale), _least_zoom(ink), 1.0))


def _grown(box: Box, by: float) -> Box:
    return Box(box.x - by, box.y - by, box.w + 2 * by, box.h + 2 * by)


def _is_free(ink: Canvas, spot: Box, taken: Sequence[Box]) -> bool:
    """Whether a place lies within the picture and touches nothing that is taken."""
    inside = 1 <= spot.x <= ink.width - spot.w - 1 and 1 <= spot.y <= ink.height - spot.h - 1
    return inside and not any(overlap(spot, other) for other in taken)


def _label_spots(ink: Canvas, box: Box, width: float, height: float) -> list[Box]:
    """Above the face, below it, at its sides, and at the edges of the picture, the best place first."""
    gap = 5 * ink.scale
    left = float(np.clip(box.x, 2, max(ink.width - width - 2, 2)))
    right = float(np.clip(box.x + box.w - width, 2, max(ink.width - width - 2, 2)))
    above, below = box.y - gap - height, box.y + box.h + gap
    beside = float(np.clip(box.y, 2, max(ink.height - height - 2, 2)))
    places = [(left, above), (left, below), (right, above), (right, below)]
    places += [(box.x + box.w + gap, beside), (box.x - gap - width, beside)]
    places += [(left, 2.0), (left, ink.height - height - 2)]
    return [Box(x, y, width, height) for x, y in places]


def _frame(ink: Canvas, look: _Look) -> None:
    """The face's box: a thin outline with strong corners, or dashes where the face itself was not seen."""
    s = ink.scale
    radius = min(9 * s, look.box.w / 4, look.box.h / 4)
    if look.sure:
        ink.outline(look.box, look.colour, 0.4, radius)
        ink.corners(look.box, look.colour, radius, 0.2 * min(look.box.w, look.box.h), 2.2 * s)
    else:
        ink.dashes(look.box, look.colour, radius, 6 * s, 1.4 * s)


def _dial(ink: Canvas, corner: tuple[float, float], scores: Floats, colour: Colour) -> None:
    """Valence to the right and arousal upwards, within the unit circle; their numbers beside it."""
    s = ink.scale
    radius, (left, top) = 25 * s, corner
    x, y = left + radius, top + radius
    ink.disc(x, y, radius, _TRACK, 0.75 * s)
    ink.disc(x, y, radius / 2, _TRACK, 0.6 * s)
    ink.line((x - radius, y), (x + radius, y), _FAINT, 0.6 * s)
    ink.line((x, y - radius), (x, y + radius), _FAINT, 0.6 * s)
    valence, arousal = float(scores[0]), float(scores[1])
    shrink = radius / max(1.0, float(np.hypot(valence, arousal)))
    dot = (x + valence * shrink, y - arousal * shrink)
    ink.line((x, y), dot, colour, 1.1 * s)
    ink.disc(*dot, 3.4 * s, colour)
    right = left + 2 * radius + 9 * s
    for row, (name, value) in enumerate((("valence", valence), ("arousal", arousal))):
        base = top + (7 + 26 * row) * s
        ink.text(name, (right, base), 9 * s, _MUTED, 400)
        ink.text(f"{value:+.2f}".replace("-", "−"), (right, base + 13.5 * s), 12.5 * s, _WHITE, 600)


def _bars(
    ink: Canvas, spot: Box, top: float, names: Sequence[str], scores: Floats, *, colour: Colour
) -> None:
    """One bar a row for activations 0..1; the strongest stand out."""
    s = ink.scale
    strongest = {int(i) for i in np.argsort(-scores)[:_STRONGEST] if scores[i] >= 0.25}
    left, length = spot.x + 40 * s, spot.w - 49 * s
    for row, name in enumerate(names):
        middle = top + (5.75 + 11.5 * row) * s
        strong, value = row in strongest, float(np.clip(scores[row], 0, 1))
        ink.text(
            name,
            (spot.x + 9 * s, middle + 3.3 * s),
            9 * s,
            _WHITE if strong else _MUTED,
            600 if strong else 400,
        )
        ink.bar((left, middle), length, 4 * s, _TRACK)
        if value > 0:
            ink.bar((left, middle), length * value, 4 * s, colour if strong else _FAINT)

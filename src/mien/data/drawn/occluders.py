"""What hides parts of faces, drawn over pictures: masks, glasses, hands, hair, microphones, text.

Everything is drawn in the frame of a face: its origin is the middle between the eyes, its unit the
distance between them, x runs from the image-left to the image-right eye, y towards the mouth. So an
occluder turns and grows with the face. Layers are drawn at twice the size and averaged down, which
smooths their edges, and take the light of what they cover.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.tasks import Floats

__all__ = ["OCCLUDERS", "REGIONS", "FaceFrame", "Occluder", "cover_regions", "occlude"]

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]

REGIONS: Final[Mapping[str, tuple[tuple[float, float, float, float], ...]]] = {
    "left_eye": ((-0.5, 0.0, 0.32, 0.2),),
    "right_eye": ((0.5, 0.0, 0.32, 0.2),),
    "brows": ((-0.5, -0.38, 0.38, 0.16), (0.5, -0.38, 0.38, 0.16)),
    "nose": ((0.0, 0.52, 0.28, 0.36),),
    "mouth": ((0.0, 1.1, 0.55, 0.3),),
}
"""Parts of a face by name, on the image's side: ellipses of the face's frame, centre and radii."""

_OVERSAMPLING: Final = 2
# Fractional bits of coordinates that OpenCV draws with.
_BITS: Final = 6


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """Where a face lies in a picture.

    Attributes:
        origin: The middle between the eyes (2,), px.
        axes: Columns are the frame's x and y unit vectors (2, 2), px.
    """

    origin: Floats
    axes: Floats

    @classmethod
    def of(cls, points: ArrayLike) -> "FaceFrame":
        """Fit the frame to five points.

        Args:
            points: Image-left eye, image-right eye, nose tip, image-left and image-right mouth
                corner (5, 2), px.

        Returns:
            The frame; its y axis points to the mouth even where the face is mirrored.
        """
        face = np.asarray(points, float).reshape(5, 2)
        origin = (face[0] + face[1]) / 2
        across = face[1] - face[0]
        mouth = (face[3] + face[4]) / 2 - origin
        # Eyes seen from the side lie close together, and the mouth then gives the size: it lies 1.1
        # units below them.
        unit = max(float(np.hypot(*across)), float(np.hypot(*mouth)) / 1.1, 1.0)
        across = across / max(float(np.hypot(*across)), 1e-6)
        down = np.array([-across[1], across[0]])
        if down @ mouth < 0:
            down = -down
        return cls(origin, np.column_stack([across, down]) * unit)

    def pixels(self, places: ArrayLike) -> Floats:
        """Move places of the frame to pixels.

        Args:
            places: Places (N, 2) in units of the frame.

        Returns:
            The same places (N, 2), px.
        """
        moved: Floats = np.asarray(places, float).reshape(-1, 2) @ self.axes.T + self.origin
        return moved

    @property
    def unit(self) -> float:
        """Distance between the eyes, px."""
        return float(np.hypot(*self.axes[:, 0]))


class _Layer:
    """A transparent picture over another one, drawn in the frame of a face."""

    def __init__(self, size: tuple[int, int], frame: FaceFrame) -> None:
        height, width = size
        self.colour = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING, 3), np.float32)
        self.alpha = np.zeros(self.colour.shape[:2], np.float32)
        self.frame = frame

    def _fixed_point(self, places: ArrayLike) -> NDArray[np.int32]:
        # Pixel centres lie at whole numbers, before and after.
        pixels = (self.frame.pixels(places) + 0.5) * _OVERSAMPLING - 0.5
        limit = 2.0**24
        rounded = np.rint(np.clip(pixels * 2**_BITS, -limit, limit))
        return np.asarray(rounded, np.int32)

    def _apply(self, mask: NDArray[np.uint8], colour: ArrayLike, opacity: float) -> None:
        # Only where something was drawn, since most things are small.
        left, top, width, height = cv2.boundingRect(mask)
        spot = np.s_[top : top + height, left : left + width]
        share = mask[spot].astype(np.float32) / 255 * opacity
        kept = self.colour[spot] * (1 - share[..., None])
        self.colour[spot] = kept + np.asarray(colour, np.float32) * share[..., None]
        self.alpha[spot] = np.maximum(self.alpha[spot], share)

    def polygon(self, places: ArrayLike, colour: ArrayLike, opacity: float = 1.0) -> None:
        """Fill a polygon (N, 2)."""
        mask = np.zeros(self.alpha.shape, np.uint8)
        cv2.fillPoly(mask, [self._fixed_point(places)], 255, cv2.LINE_AA, _BITS)
        self._apply(mask, colour, opacity)

    def line(
        self, places: ArrayLike, width: float, colour: ArrayLike, opacity: float = 1.0
    ) -> None:
        """Draw a line (N, 2) of a width in units of the frame."""
        self.lines([places], width, colour, opacity)

    def lines(
        self, paths: Sequence[ArrayLike], width: float, colour: ArrayLike, opacity: float = 1.0
    ) -> None:
        """Draw lines, each (N, 2), of a width in units of the frame."""
        mask = np.zeros(self.alpha.shape, np.uint8)
        thick = max(1, round(width * self.frame.unit * _OVERSAMPLING))
        pixels = [self._fixed_point(path) for path in paths]
        cv2.polylines(mask, pixels, False, 255, thick, cv2.LINE_AA, _BITS)
        self._apply(mask, colour, opacity)

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: ArrayLike,
        opacity: float = 1.0,
        power: float = 2.0,
    ) -> None:
        """Fill an ellipse; a `power` above 2 makes it squarer."""
        self.polygon(_outline(centre, radii, power), colour, opacity)

    def over(self, image: Image, light: float) -> tuple[Image, Alpha]:
        """Put the layer over a picture.

        Args:
            image: RGB (H, W, 3).
            light: How far the layer takes the light of what it covers, 0..1.

        Returns:
            The picture, and how far each pixel is covered (H, W), 0..1.
        """
        height, width = image.shape[:2]
        colour = cv2.resize(self.colour, (width, height), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (width, height), interpolation=cv2.INTER_AREA)
        base = image.astype(np.float32)
        if light:
            sigma = max(0.35 * self.frame.unit, 1.0)
            soft = cv2.GaussianBlur(base.mean(axis=2), (0, 0), sigma)
            level = np.median(soft[alpha > 0.5]) if (alpha > 0.5).any() else 128.0
            gain = np.clip(soft / max(float(level), 1.0), 0.4, 1.8)
            colour = colour * (1 + light * (gain - 1))[..., None]
        mixed = base * (1 - alpha[..., None]) + colour * alpha[..., None]
        return np.asarray(np.clip(mixed, 0, 255), np.uint8), np.asarray(alpha, np.float32)


def _outline(centre: tuple[float, float], radii: tuple[float, float], power: float = 2.0) -> Floats:
    """A superellipse as 48 places."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = np.sign(cosine) * np.abs(cosine) ** (2 / power) * radii[0]
    y = np.sign(sine) * np.abs(sine) ** (2 / power) * radii[1]
    return np.column_stack([x + centre[0], y + centre[1]])


def _cloth(rng: np.random.Generator) -> Floats:
    """A colour of masks and scarves, RGB."""
    known = ((150, 190, 215), (235, 235, 232), (30, 30, 34), (90, 120, 150), (200, 170, 180))
    if rng.random() < 0.7:
        return np.asarray(known[int(rng.integers(len(known)))], float) + rng.normal(0, 8, 3)
    return rng.uniform(20, 235, 3)


def _skin(image: Image, frame: FaceFrame, rng: np.random.Generator) -> Floats:
    """About the colour of the cheeks."""
    places = frame.pixels([(-0.5, 0.6), (0.5, 0.6), (0.0, 0.3)])
    height, width = image.shape[:2]
    columns = np.clip(np.rint(places[:, 0]), 0, width - 1).astype(int)
    rows = np.clip(np.rint(places[:, 1]), 0, height - 1).astype(int)
    colour = image[rows, columns].astype(float).mean(axis=0)
    shaded = colour * rng.uniform(0.8, 1.15) + rng.normal(0, 4, 3)
    return np.asarray(np.clip(shaded, 10, 245))


def _mask(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A face mask over nose and mouth, with folds and straps."""
    colour = _cloth(rng)
    top = rng.uniform(0.22, 0.55)
    side = rng.uniform(0.75, 1.0)
    chin = rng.uniform(1.6, 1.95)
    half = [(0, top), (0.3, top + 0.08), (side, top + 0.22), (side * 0.95, 1.05), (0.6, chin - 0.2)]
    mirrored = [(-x, y) for x, y in half[1:]]
    outline = [*half, (0, chin), *reversed(mirrored)]
    for sign in (-1, 1):
        strap = [(sign * side, top + 0.25), (sign * 1.25, 0.1)]
        layer.line(strap, 0.035, colour * 0.9)
    layer.polygon(outline, colour)
    for fold in np.arange(0.65, chin - 0.3, rng.uniform(0.18, 0.4)):
        width = side * rng.uniform(0.75, 0.95)
        layer.line([(-width, fold), (0, fold + 0.05), (width, fold)], 0.02, colour * 0.82)
    if rng.random() < 0.3:
        # A pattern of dots.
        for _ in range(25):
            place = (rng.uniform(-0.7, 0.7), rng.uniform(0.5, 1.6))
            layer.ellipse(place, (0.05, 0.05), rng.uniform(0, 255, 3), 0.8)


def _scarf(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A scarf or a collar over mouth and chin."""
    colour = _cloth(rng)
    top = rng.uniform(0.6, 0.85)
    outline = [(-1.3, top - 0.05), (0, top + 0.1), (1.3, top - 0.05), (1.4, 2.4), (-1.4, 2.4)]
    layer.polygon(outline, colour)
    for _ in range(int(rng.integers(3, 8))):
        start, end = rng.uniform(top + 0.1, 2.2, 2)
        layer.line(
            [(-1.3, start), (1.3, end)], rng.uniform(0.02, 0.1), colour * rng.uniform(0.6, 1.2)
        )


def _lenses(rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    return (rng.uniform(0.33, 0.43), rng.uniform(0.24, 0.36)), rng.choice([2.0, 2.6, 4.0])


def _frame_of_glasses(
    layer: _Layer, radii: tuple[float, float], power: float, colour: Floats, width: float
) -> None:
    for sign in (-1, 1):
        outline = _outline((sign * 0.5, 0.04), radii, power)
        layer.line([*outline, outline[0]], width, colour)
        layer.line([(sign * (0.5 + radii[0]), -0.05), (sign * 1.2, -0.1)], width, colour)
    layer.line([(radii[0] - 0.5, -0.02), (0.5 - radii[0], -0.02)], width, colour)


def _sunglasses(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """Dark lenses with a reflection."""
    radii, power = _lenses(rng)
    colour = rng.uniform(5, 60, 3)
    opacity = rng.uniform(0.88, 1.0)
    for sign in (-1, 1):
        layer.ellipse((sign * 0.5, 0.04), radii, colour, opacity, power)
        if rng.random() < 0.6:
            glint = (sign * 0.5 + rng.uniform(-0.2, 0.2), rng.uniform(-0.12, 0.1))
            layer.ellipse(glint, (0.09, 0.04), rng.uniform(120, 255, 3), 0.5)
    _frame_of_glasses(layer, radii, power, rng.uniform(5, 120, 3), rng.uniform(0.03, 0.08))


def _glasses(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """Clear glasses, rarely with a glare over a lens."""
    radii, power = _lenses(rng)
    for sign in (-1, 1):
        layer.ellipse((sign * 0.5, 0.04), radii, (235, 240, 245), rng.uniform(0, 0.1), power)
        if rng.random() < 0.2:
            layer.ellipse(
                (sign * 0.5 + rng.uniform(-0.15, 0.15), 0.02),
                (rng.uniform(0.05, 0.2), rng.uniform(0.03, 0.12)),
                (250, 250, 250),
                rng.uniform(0.4, 0.9),
            )
    _frame_of_glasses(layer, radii, power, rng.uniform(5, 140, 3), rng.uniform(0.025, 0.07))


def _hand(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A hand over a part of the face: a palm and four fingers."""
    colour = _skin(image, layer.frame, rng)
    target = ((0.0, 1.1), (0.6, 0.7), (-0.6, 0.7), (0.45, 0.05), (-0.45, 0.05), (0.0, 0.6))
    place = np.asarray(target[int(rng.integers(len(target)))]) + rng.normal(0, 0.12, 2)
    angle = rng.uniform(-0.9, 0.9) + (np.pi if rng.random() < 0.2 else 0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = rng.uniform(0.8, 1.25)
    fingers = (-0.33, -0.11, 0.11, 0.33)
    palm = _outline((0.0, 0.55), (0.48, 0.55), 3.0)
    layer.polygon(palm * size @ turn.T + place, colour * 0.97)
    for number, offset in enumerate(fingers):
        length = (0.75, 0.9, 0.85, 0.65)[number] * rng.uniform(0.85, 1.1)
        spread = offset * rng.uniform(1.0, 1.5)
        bone = np.array([(offset, 0.3), (spread, 0.3 - length)]) * size @ turn.T + place
        layer.line(bone, 0.23 * size, colour * 0.8)
        layer.line(bone, 0.19 * size, colour * rng.uniform(0.95, 1.05))


def _hair(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A fringe, or strands that hang over one side."""
    colour = rng.choice([20.0, 60.0, 110.0, 170.0]) * np.array([1.0, 0.85, 0.7])
    middle = rng.uniform(-0.9, 0.9)
    reach = rng.uniform(-0.15, 0.9)
    # Strands of a shade are drawn together.
    for _ in range(int(rng.integers(4, 8))):
        strands = []
        for _ in range(int(rng.integers(6, 14))):
            strands.append(_strand(middle, reach, rng))
        layer.lines(strands, rng.uniform(0.02, 0.08), colour * rng.uniform(0.6, 1.3))


def _strand(middle: float, reach: float, rng: np.random.Generator) -> Floats:
    """Three places of a strand that hangs from above, longest below `middle`."""
    start = np.array([rng.normal(middle * 0.5, 0.6), -1.3])
    x = start[0] + rng.normal(0.25 * np.sign(middle), 0.2)
    end = np.array([x, reach - abs(x - middle) * 0.6 + rng.normal(0, 0.12)])
    bend = (start + end) / 2 + (rng.normal(0, 0.06), 0)
    return np.array([start, bend, end])


def _microphone(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A microphone before mouth or chin, on a stick that leaves the picture below."""
    colour = rng.uniform(10, 90, 3)
    place = (rng.uniform(-0.5, 0.5), rng.uniform(0.95, 1.6))
    radius = rng.uniform(0.25, 0.45)
    layer.line([place, (place[0] + rng.uniform(-1, 1), 3.5)], radius * 0.7, colour * 0.8)
    layer.ellipse(place, (radius, radius * rng.uniform(1.0, 1.4)), colour)
    layer.ellipse(
        (place[0] - radius / 3, place[1] - radius / 3), (radius / 3, radius / 3), colour + 60, 0.5
    )


def _hat(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A cap or a helmet down to the brows, rarely over the eyes."""
    colour = _cloth(rng)
    rim = rng.uniform(-0.75, -0.25) if rng.random() < 0.8 else rng.uniform(-0.25, 0.15)
    layer.polygon(
        [(-1.3, rim + 0.1), (0, rim), (1.3, rim + 0.1), (1.2, -2.2), (-1.2, -2.2)], colour
    )
    layer.line(
        [(-1.35, rim + 0.1), (0, rim), (1.35, rim + 0.1)], rng.uniform(0.08, 0.2), colour * 0.7
    )


def _text(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A caption, with or without its bar."""
    height = rng.uniform(0.25, 0.6)
    middle = rng.uniform(-0.6, 1.5)
    slope = rng.normal(0, 0.05)
    bar = [(-2, middle - 2 * slope), (2, middle + 2 * slope)]
    if rng.random() < 0.7:
        layer.line(bar, height, rng.uniform(0, 255, 3), rng.uniform(0.6, 1.0))
    ink = rng.choice([0.0, 255.0]) * np.ones(3)
    x = -1.6
    # Strokes of letters, which nobody needs to read.
    while x < 1.6:
        corners = rng.uniform(-0.4, 0.4, (int(rng.integers(2, 5)), 2)) * (0.3, height)
        place = np.array([x, middle + slope * x])
        layer.line(corners + place, height * 0.14, ink)
        x += rng.uniform(0.15, 0.3)


def _half(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """Something that hides a half of the face: a wall, a phone, a sheet of paper."""
    colour = rng.uniform(0, 255, 3)
    # Where its edge lies: to a side through the nose, below above the mouth, above below the eyes.
    quarter = int(rng.integers(4))
    edge = (0.0, 0.6, 0.0, -0.2)[quarter] + rng.uniform(-0.2, 0.25)
    angle = quarter * np.pi / 2 + rng.normal(0, 0.1)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    near, far = along * edge, along * 4
    layer.polygon(
        [near - 4 * across, near + 4 * across, far + 4 * across, far - 4 * across], colour
    )
    for _ in range(int(rng.integers(0, 6))):
        start, end = rng.uniform(-2, 2, (2, 2))
        # Only what is covered is drawn on.
        inside = layer.alpha.copy()
        layer.line([start, end], rng.uniform(0.05, 0.4), rng.uniform(0, 255, 3))
        layer.alpha = inside


def _object(layer: _Layer, image: Image, rng: np.random.Generator) -> None:
    """A cup, a ball or another thing of one colour before the face."""
    place = (rng.uniform(-0.7, 0.7), rng.uniform(-0.2, 1.4))
    radii = (rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.7))
    colour = rng.uniform(0, 255, 3)
    layer.ellipse(place, radii, colour, 1.0, float(rng.choice([2.0, 4.0, 10.0])))
    gleam = (radii[0] / 3, radii[1] / 3)
    layer.ellipse(
        (place[0] - gleam[0], place[1] - gleam[1]), gleam, np.minimum(colour + 50, 255), 0.5
    )


@dataclass(frozen=True, slots=True)
class Occluder:
    """A kind of thing that hides parts of faces.

    Attributes:
        draw: Draws one onto a layer, given the picture and a source of random numbers.
        light: How far it takes the light of the face, 0..1.
    """

    draw: Callable[[_Layer, Image, np.random.Generator], None]
    light: float = 0.7


OCCLUDERS: Final[Mapping[str, Occluder]] = {
    "mask": Occluder(_mask, 0.9),
    "scarf": Occluder(_scarf, 0.8),
    "sunglasses": Occluder(_sunglasses, 0.2),
    "glasses": Occluder(_glasses, 0.2),
    "hand": Occluder(_hand, 0.6),
    "hair": Occluder(_hair, 0.5),
    "microphone": Occluder(_microphone, 0.3),
    "hat": Occluder(_hat, 0.6),
    "text": Occluder(_text, 0.0),
    "half": Occluder(_half, 0.0),
    "object": Occluder(_object, 0.4),
}
"""Kinds by name."""


def occlude(
    image: Image, points: ArrayLike, kind: str, rng: np.random.Generator
) -> tuple[Image, Alpha]:
    """Hide a part of a face.

    Args:
        image: RGB uint8 (H, W, 3).
        points: Five points of the face (5, 2), px.
        kind: A name of `OCCLUDERS`.
        rng: Source of all randomness.

    Returns:
        A changed copy, and how far each pixel is covered (H, W), 0..1.
    """
    frame = FaceFrame.of(points)
    height, width = image.shape[:2]
    layer = _Layer((height, width), frame)
    occluder = OCCLUDERS[kind]
    occluder.draw(layer, image, rng)
    return layer.over(image, occluder.light)


def cover_regions(alpha: Alpha, points: ArrayLike) -> dict[str, float]:
    """Measure how far the parts of a face are covered.

    Args:
        alpha: How far each pixel is covered (H, W), 0..1.
        points: Five points of the face (5, 2), px.

    Returns:
        The covered share of each part of `REGIONS` that lies within the picture, 0..1; 1 for a part
        that lies wholly outside.
    """
    frame = FaceFrame.of(points)
    covered = {}
    for name, ellipses in REGIONS.items():
        part = np.zeros(alpha.shape, np.uint8)
        for x, y, width, height in ellipses:
            outline = np.rint(frame.pixels(_outline((x, y), (width, height)))).astype(np.int32)
            cv2.fillPoly(part, [outline], 1)
        inside = part.astype(bool)
        covered[name] = float(alpha[inside].mean()) if inside.any() else 1.0
    return covered

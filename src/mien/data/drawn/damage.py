"""What makes faces hard to read: occluders, turns, cut-off pictures, light, blur, few pixels.

Each kind of damage comes in a random strength, from hardly visible to hopeless. What is known of
the face (its points, which parts are covered, how it is turned) changes with the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.data.drawn.occluders import OCCLUDERS, REGIONS, FaceFrame, cover_regions, occlude
from mien.tasks import Floats

__all__ = ["FAMILIES", "KINDS", "Shown", "damage", "intact"]

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of a face, and what is known of the face in it.

    Attributes:
        image: RGB uint8 (H, W, 3).
        points: Five points in the order of `mien.records.Face` (5, 2), px; may lie outside.
        covered: How far each part of `REGIONS` is covered, 0..1.
        roll: Degrees that the picture was turned clockwise.
    """

    image: Image
    points: Floats
    covered: Mapping[str, float]
    roll: float = 0.0


_Damage = Callable[[Shown, np.random.Generator], Shown]


def intact(image: Image, points: ArrayLike) -> Shown:
    """A picture as it is, of a face of which nothing is covered.

    Args:
        image: RGB uint8 (H, W, 3).
        points: Five points (5, 2), px.

    Returns:
        Both.
    """
    return Shown(image, np.asarray(points, float).reshape(5, 2), dict.fromkeys(REGIONS, 0.0))


def damage(shown: Shown, kinds: Sequence[str], rng: np.random.Generator) -> Shown:
    """Damage a picture in one or several ways.

    Args:
        shown: The picture; it is not changed.
        kinds: Names of `KINDS`; they are done in the order of `KINDS`, which is that of the world:
            what is before the face, where the camera looks, its light, its codec.
        rng: Source of all randomness.

    Returns:
        The damaged picture.
    """
    for kind in KINDS:
        if kind in kinds:
            shown = KINDS[kind](shown, rng)
    return shown


def _occluded(shown: Shown, rng: np.random.Generator, kind: str) -> Shown:
    image, alpha = occlude(shown.image, shown.points, kind, rng)
    covered = _both(shown.covered, cover_regions(alpha, shown.points))
    return replace(shown, image=image, covered=covered)


def _both(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The larger cover of each part."""
    return {name: max(first[name], second[name]) for name in REGIONS}


def _warped(shown: Shown, matrix: Floats, size: tuple[int, int], *, edge: int) -> Shown:
    """The picture under an affine map (2, 3), in a frame of `size` (width, height)."""
    image = cv2.warpAffine(
        shown.image, matrix, size, flags=cv2.INTER_AREA, borderMode=edge, borderValue=(0, 0, 0)
    )
    points = shown.points @ matrix[:, :2].T + matrix[:, 2]
    return replace(shown, image=np.asarray(image, np.uint8), points=points)


def _roll(shown: Shown, rng: np.random.Generator, low: float, high: float) -> Shown:
    """A turn of the head or the camera to either side, in degrees."""
    degrees = rng.uniform(low, high) * (1 if rng.random() < 0.5 else -1)
    x, y = shown.points.mean(axis=0)
    # OpenCV turns counter-clockwise.
    matrix = np.asarray(cv2.getRotationMatrix2D((float(x), float(y)), -degrees, 1.0), np.float64)
    height, width = shown.image.shape[:2]
    edge = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REPLICATE
    turned = _warped(shown, matrix, (width, height), edge=edge)
    return replace(turned, roll=shown.roll + degrees)


def _squeeze(shown: Shown, rng: np.random.Generator) -> Shown:
    """A wrong aspect ratio."""
    ratio = np.exp(rng.uniform(0.2, 0.6) * rng.choice([-1, 1]) / 2)
    height, width = shown.image.shape[:2]
    matrix: Floats = np.array([[ratio, 0.0, 0.0], [0.0, 1 / ratio, 0.0]])
    # Pixel centres lie at whole numbers.
    matrix[:, 2] = (np.diag(matrix) - 1) / 2
    size = (max(round(width * ratio), 1), max(round(height / ratio), 1))
    return _warped(shown, matrix, size, edge=cv2.BORDER_REPLICATE)


def _cut(shown: Shown, rng: np.random.Generator) -> Shown:
    """The edge of the picture runs through the face."""
    frame = FaceFrame.of(shown.points)
    places = frame.pixels([(-1, -0.9), (1, -0.9), (1, 1.8), (-1, 1.8)])
    height, width = shown.image.shape[:2]
    left, top = np.clip(np.rint(places.min(axis=0)).astype(int), 0, (width - 2, height - 2))
    right, bottom = np.clip(np.rint(places.max(axis=0)).astype(int), (left + 1, top + 1), None)
    share = rng.uniform(0.15, 0.5)
    across, down = int(share * (right - left)), int(share * (bottom - top))
    side = int(rng.integers(4))
    x0, y0, x1, y1 = 0, 0, width, height
    if side == 0:
        x0 = min(left + across, width - 1)
    elif side == 1:
        x1 = max(right - across, 1)
    elif side == 2:
        y0 = min(top + down, height - 1)
    else:
        y1 = max(bottom - down, 1)
    outside = np.ones((height, width), np.float32)
    outside[y0:y1, x0:x1] = 0
    covered = _both(shown.covered, cover_regions(outside, shown.points))
    image = np.ascontiguousarray(shown.image[y0:y1, x0:x1])
    return replace(shown, image=image, points=shown.points - (x0, y0), covered=covered)


def _light(shown: Shown, rng: np.random.Generator, gain: tuple[float, float], lift: float) -> Shown:
    """More or less light than the camera can take, with its noise."""
    value = shown.image * rng.uniform(*gain) + rng.uniform(0, 1) * lift
    noisy = value + rng.normal(0, rng.uniform(0, 3), value.shape)
    return replace(shown, image=_bytes(noisy))


def _side_light(shown: Shown, rng: np.random.Generator) -> Shown:
    """Light from one side, the other in shadow."""
    frame = FaceFrame.of(shown.points)
    height, width = shown.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    along = (x - frame.origin[0]) * np.cos(angle) + (y - frame.origin[1]) * np.sin(angle)
    depth = rng.uniform(0.5, 0.97)
    softness = rng.uniform(0.1, 0.8)
    shade = 1 - depth / (1 + np.exp(-along / frame.unit / softness))
    return replace(shown, image=_bytes(shown.image * shade[..., None]))


def _noise(shown: Shown, rng: np.random.Generator) -> Shown:
    noise = rng.normal(0, rng.uniform(15, 90), shown.image.shape)
    return replace(shown, image=_bytes(shown.image + noise))


def _blur(shown: Shown, rng: np.random.Generator) -> Shown:
    """Out of focus; the width is in eye distances."""
    sigma = rng.uniform(0.02, 0.2) * FaceFrame.of(shown.points).unit
    image = cv2.GaussianBlur(shown.image, (0, 0), max(sigma, 0.3))
    return replace(shown, image=np.asarray(image, np.uint8))


def _motion(shown: Shown, rng: np.random.Generator) -> Shown:
    """Moved while the picture was taken, along a line."""
    length = max(round(rng.uniform(0.1, 0.7) * FaceFrame.of(shown.points).unit), 2)
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = (length - 1) / 2
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    kernel /= kernel.sum()
    return replace(shown, image=np.asarray(cv2.filter2D(shown.image, -1, kernel), np.uint8))


def _small(shown: Shown, rng: np.random.Generator, *, enlarged: bool) -> Shown:
    """A face of few pixels; `enlarged` shows them at the picture's former size."""
    height, width = shown.image.shape[:2]
    eyes = rng.uniform(4, 16)
    scale = min(eyes / FaceFrame.of(shown.points).unit, 1.0)
    size = (max(round(width * scale), 2), max(round(height * scale), 2))
    image = cv2.resize(shown.image, size, interpolation=cv2.INTER_AREA)
    if enlarged:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return replace(shown, image=np.asarray(image, np.uint8))
    factors = np.array(size) / (width, height)
    points = (shown.points + 0.5) * factors - 0.5
    return replace(shown, image=np.asarray(image, np.uint8), points=points)


def _compressed(shown: Shown, rng: np.random.Generator) -> Shown:
    quality = int(rng.integers(2, 25))
    bgr = cv2.cvtColor(shown.image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    return replace(shown, image=np.asarray(image, np.uint8))


def _bytes(values: Floats) -> Image:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


KINDS: Final[Mapping[str, _Damage]] = {
    **{kind: partial(_occluded, kind=kind) for kind in OCCLUDERS},
    "roll": partial(_roll, low=25.0, high=100.0),
    "upside_down": partial(_roll, low=150.0, high=180.0),
    "squeeze": _squeeze,
    "cut": _cut,
    "dark": partial(_light, gain=(0.03, 0.3), lift=0.0),
    "bright": partial(_light, gain=(1.6, 5.0), lift=60.0),
    "side_light": _side_light,
    "blur": _blur,
    "motion": _motion,
    "small": partial(_small, enlarged=False),
    "enlarged": partial(_small, enlarged=True),
    "noise": _noise,
    "jpeg": _compressed,
}
"""Kinds by name, in the order of the world."""
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "occlusion": (*OCCLUDERS, "cut"),
    "geometry": ("roll", "upside_down", "squeeze"),
    "light": ("dark", "bright", "side_light"),
    "detail": ("blur", "motion", "small", "enlarged", "noise", "jpeg"),
}
"""Kinds that are alike: whoever knows one of a family knows something of the others."""

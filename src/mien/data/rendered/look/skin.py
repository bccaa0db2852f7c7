"""Skin painted on the chart: tone, lips, brows, beard, marks of age, and creases of the units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.look.chart import HEIGHT, WIDTH, Chart, noise
from mien.data.rendered.look.people import Person

__all__ = ["CREASES", "CreaseMaps", "crease_maps", "creased", "linear", "paint_skin"]

Image = NDArray[np.float32]
Curve = Sequence[tuple[float, float]]

CREASES: Final[dict[str, tuple[Curve, ...]]] = {
    "AU01": (
        ((0.0, 4.4), (1.6, 4.6), (2.8, 4.4)),
        ((0.0, 5.5), (1.7, 5.8), (3.0, 5.6)),
        ((0.0, 6.6), (1.4, 6.8), (2.6, 6.6)),
    ),
    "AU02": (
        ((2.6, 4.5), (4.2, 4.6), (5.6, 4.0)),
        ((2.8, 5.7), (4.2, 5.8), (5.4, 5.2)),
    ),
    "AU04": (((0.65, 0.9), (0.75, 1.8), (0.7, 2.8)),),
    "AU06": (
        ((4.9, -0.1), (5.7, 0.4), (6.4, 0.9)),
        ((5.0, -0.4), (5.9, -0.4), (6.7, -0.2)),
        ((4.8, -0.8), (5.7, -1.2), (6.4, -1.7)),
        ((1.7, -1.5), (3.1, -2.1), (4.7, -1.5)),
    ),
    "AU07": (((1.8, -1.1), (3.1, -1.45), (4.4, -1.0)),),
    "AU09": (
        ((0.0, 0.5), (0.6, 0.4), (1.0, 0.1)),
        ((0.0, -0.3), (0.7, -0.4), (1.2, -0.9)),
        ((0.8, -1.0), (1.3, -1.5), (1.7, -2.2)),
    ),
    "AU10": (((1.8, -3.2), (2.5, -4.2), (3.0, -5.2)),),
    "AU12": (((1.9, -3.4), (3.1, -4.9), (3.8, -6.6)),),
    "AU14": (((3.5, -6.0), (3.75, -6.7), (3.5, -7.3)),),
    "AU15": (((2.8, -7.0), (3.3, -7.8), (3.5, -8.7)),),
    "AU17": (((0.0, -8.6), (0.9, -8.7), (1.6, -9.2)), ((0.0, -9.5), (0.7, -9.6), (1.1, -10.0))),
}
"""Where skin folds on the image's right half of the base mesh: x and y of each curve, cm."""

# Half the width of a fold, cm.
_FOLD: Final = 0.13
# How strongly a unit at full activation shades its folds on young skin, and what age adds.
_DEPTH: Final = 0.26
_DEPTH_OF_AGE: Final = 0.3
# Of the standing folds of old skin.
_STANDING: Final = {"AU01": 0.2, "AU02": 0.2, "AU06": 0.3, "AU10": 0.2, "AU12": 0.35, "AU15": 0.2}
_BROW: Final = ((1.1, 1.7), (2.2, 1.95), (3.6, 2.15), (4.8, 1.9), (5.8, 1.3))


# What lies farther back is no face, cm from the eyes.
_FRONT: Final = -8.0


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each texel (H, W) lies on the base mesh, cm: to either side, up, and forward."""

    x: Image
    y: Image
    z: Image


@dataclass(frozen=True, slots=True)
class CreaseMaps:
    """How far each texel lies in the folds of each unit and side.

    Attributes:
        rows: The rows of the chart that the maps cover.
        columns: The columns that they cover.
        maps: By unit and side (0 is the image's left), (h, w): above 0 in the fold, below 0 on
            the bulge beside it.
    """

    rows: slice
    columns: slice
    maps: Mapping[tuple[str, int], Image]


def linear(colour: Sequence[float] | NDArray[np.floating]) -> Image:
    """Turn sRGB into amounts of light.

    Args:
        colour: 0..255, any shape.

    Returns:
        0..1, of the same shape.
    """
    share = np.asarray(colour, np.float32) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def crease_maps(chart: Chart) -> CreaseMaps:
    """Draw the folds of all units on the chart.

    Args:
        chart: Of the base mesh.

    Returns:
        Their maps.
    """
    rows = slice(HEIGHT // 8, HEIGHT * 13 // 16)
    columns = slice(WIDTH // 4, WIDTH * 3 // 4)
    place = chart.position[rows, columns]
    front = place[:, :, 2] > _FRONT
    maps = {}
    for unit, curves in CREASES.items():
        for side, sign in enumerate((-1, 1)):
            distance = np.full(front.shape, np.inf, np.float32)
            for curve in curves:
                line = np.array(curve, np.float32) * (sign, 1)
                distance = np.minimum(distance, _distance(place[:, :, :2], line))
            away = distance / _FOLD
            fold = np.exp(-(away**2)) - 0.35 * np.exp(-((away - 2.2) ** 2))
            maps[unit, side] = (fold * front).astype(np.float32)
    return CreaseMaps(rows, columns, maps)


def _distance(points: Image, line: NDArray[np.floating]) -> Image:
    """Distance (h, w) of points (h, w, 2) from a polyline (n, 2)."""
    nearest = np.full(points.shape[:2], np.inf, np.float32)
    for start, end in pairwise(line):
        along = end - start
        share = np.clip((points - start) @ along / (along @ along), 0, 1)
        gap = points - start - share[:, :, None] * along
        nearest = np.minimum(nearest, np.hypot(gap[:, :, 0], gap[:, :, 1]))
    return nearest


def creased(
    skin: Image, maps: CreaseMaps, activations: Mapping[str, tuple[float, float]], years: float
) -> Image:
    """Shade skin where the units fold it.

    Args:
        skin: Painted skin (H, W, 3).
        maps: Of the chart.
        activations: Of each unit on the image's left and right, 0..1.
        years: Of age: old skin folds more deeply, and has folds that stay.

    Returns:
        The shaded skin, a new image.
    """
    age = np.clip((years - 30) / 50, 0, 1)
    depth = np.zeros(next(iter(maps.maps.values())).shape, np.float32)
    for (unit, side), image in maps.maps.items():
        active = activations.get(unit, (0.0, 0.0))[side]
        strength = (_DEPTH + _DEPTH_OF_AGE * age) * active
        strength = max(strength, _STANDING.get(unit, 0.0) * age)
        if strength > 0.02:
            depth += np.float32(strength) * image
    shaded = skin.copy()
    # Light that has been through blood: folds are reddish, not grey.
    shade = np.array((0.75, 1.0, 1.0), np.float32)
    shaded[maps.rows, maps.columns] *= 1 - np.clip(depth, -0.3, 0.75)[:, :, None] * shade
    return shaded


def paint_skin(chart: Chart, person: Person) -> Image:
    """Paint somebody's skin.

    Args:
        chart: Of the base mesh.
        person: Whose skin.

    Returns:
        Share of the light that it gives back (H, W, 3), RGB, 0..1, linear.
    """
    rng = np.random.default_rng(person.seed)
    at = _Places(abs(chart.position[:, :, 0]), chart.position[:, :, 1], chart.position[:, :, 2])
    skin = np.ones((HEIGHT, WIDTH, 1), np.float32) * linear(person.skin)
    skin *= _mottled(rng)
    _redden(skin, rng, at, person)
    _spot(skin, rng, person)
    lips = chart.lips * np.clip(0.8 + 0.1 * noise(rng, HEIGHT, WIDTH, (3, 3)), 0, 1)
    skin = _blend(skin, _lip_colour(rng, person), lips[:, :, None])
    hair = linear(person.hair) * (1 + 0.2 * noise(rng, HEIGHT, WIDTH, (3, 3))[:, :, None])
    skin = _blend(skin, hair, _brows(rng, at, person)[:, :, None])
    if person.beard:
        skin = _blend(skin, hair, _beard(rng, at, person, chart.lips)[:, :, None])
    return np.clip(skin, 0.002, 1).astype(np.float32)


def _blend(below: Image, above: NDArray[np.floating], alpha: Image) -> Image:
    return below + alpha * (above.astype(np.float32) - below)


def _mottled(rng: np.random.Generator) -> Image:
    """Unevenness (H, W, 1) around 1, from patches down to pores."""
    patches = 0.035 * noise(rng, HEIGHT, WIDTH, (60, 60))
    spots = 0.03 * noise(rng, HEIGHT, WIDTH, (9, 9))
    pores = 0.045 * noise(rng, HEIGHT, WIDTH, (2, 2))
    mottled: Image = (1 + patches + spots + pores)[:, :, None]
    return mottled


def _bump(x: Image, y: Image, centre: tuple[float, float], radius: tuple[float, float]) -> Image:
    across = (x - centre[0]) / radius[0]
    up = (y - centre[1]) / radius[1]
    return np.exp(-(across**2) - up**2).astype(np.float32)


def _redden(skin: Image, rng: np.random.Generator, at: _Places, person: Person) -> None:
    """Blood in cheeks, nose and chin; shadows around the eyes. In place."""
    x, y = at.x, at.y
    front = (at.z > _FRONT).astype(np.float32)
    blood = 0.7 * _bump(x, y, (4.6, -3.6), (2.2, 2.0)) + 0.8 * _bump(x, y, (0, -3.8), (1.3, 1.2))
    blood += 0.35 * _bump(x, y, (0, -9.5), (2.0, 1.3)) + 0.5 * _bump(x, y, (3.1, 0.2), (2.0, 1.0))
    blood *= front * np.float32(rng.uniform(0.1, 0.9) * (1 - 0.8 * person.darkness))
    skin *= 1 - blood[:, :, None] * np.array((0.03, 0.22, 0.2), np.float32)
    tired = rng.uniform(0.05, 0.3) + 0.25 * np.clip((person.years - 30) / 40, 0, 1)
    hollow = _bump(x, y, (2.9, -1.25), (1.5, 0.6)) + 0.6 * _bump(x, y, (1.6, 0.1), (0.6, 0.8))
    shade = (hollow * front * np.float32(tired))[:, :, None]
    skin *= 1 - shade * np.array((0.4, 0.5, 0.4), np.float32)


def _spot(skin: Image, rng: np.random.Generator, person: Person) -> None:
    """Freckles, moles and the spots of age, in place."""
    freckled = person.darkness < 0.35 and rng.random() < 0.2
    count = int(rng.integers(0, 12)) + 150 * freckled + int(max(person.years - 50, 0))
    rows = rng.integers(HEIGHT // 6, HEIGHT * 4 // 5, count)
    columns = rng.integers(WIDTH // 4, WIDTH * 3 // 4, count)
    depths = rng.uniform(0.1, 0.45, count)
    for row, column, depth in zip(rows, columns, depths, strict=True):
        radius = int(rng.integers(1, 3))
        patch = skin[row - radius : row + radius, column - radius : column + radius]
        patch *= 1 - np.float32(depth) * np.array((0.7, 0.9, 1.0), np.float32)


def _lip_colour(rng: np.random.Generator, person: Person) -> NDArray[np.floating]:
    skin = linear(person.skin)
    natural = skin * np.array((0.82, 0.5, 0.5)) + np.array((0.03, 0.005, 0.008))
    paint = linear((rng.uniform(110, 200), rng.uniform(10, 70), rng.uniform(30, 90)))
    return np.asarray(natural + person.lipstick * 0.8 * (paint - natural))


def _brows(rng: np.random.Generator, at: _Places, person: Person) -> Image:
    """Cover (H, W) of the brows' hair, 0..1."""
    x, y = at.x, at.y
    line = np.array(_BROW) + rng.normal(0, 0.12, 2)
    arch = rng.normal(0.0, 0.12)
    middle = np.interp(x, line[:, 0], line[:, 1] + arch * np.array((0, 0.5, 1, 0.7, 0)))
    thick = rng.uniform(0.22, 0.42) + 0.16 * person.male
    width = thick * np.interp(x, line[:, 0], (0.75, 1.0, 0.9, 0.65, 0.15))
    inside = np.clip(1.35 * (1 - ((y - middle) / width) ** 2), 0, 1)
    inside *= (x > line[0, 0] - 0.25) & (x < line[-1, 0] + 0.2) & (at.z > _FRONT)
    strands = 0.75 + 0.35 * noise(rng, HEIGHT, WIDTH, (3, 2))
    dense = rng.uniform(0.55, 1.0) - 0.25 * np.clip((person.years - 55) / 30, 0, 1)
    return np.asarray(np.clip(inside * strands, 0, 1) * dense, np.float32)


def _beard(rng: np.random.Generator, at: _Places, person: Person, lips: Image) -> Image:
    """Cover (H, W) of the beard, 0..1: full, of the mouth only, or of the chin only."""
    x, y = at.x, at.y
    # The edge runs from the ear along the cheek to the nose.
    edge = np.interp(x, (0.0, 1.6, 2.4, 5.5, 7.5), (-4.9, -4.9, -5.9, -5.2, -1.5))
    inside = np.clip((edge - y) / 0.8, 0, 1) * np.clip((y + 13.5) / 1.5, 0, 1)
    kind = rng.random()
    if kind < 0.3:
        inside *= np.clip((4.0 - x) / 0.8, 0, 1)
    elif kind < 0.42:
        inside *= np.clip((y + 6.7) / 0.3, 0, 1) * np.clip((3.4 - x) / 0.5, 0, 1)
    inside *= (at.z > _FRONT - 3) * (1 - np.clip(2 * lips, 0, 1))
    # The bare spots beside the lower lip.
    inside *= 1 - 0.6 * _bump(x, y, (1.6, -8.3), (0.7, 0.5))
    strands = 0.8 + 0.3 * noise(rng, HEIGHT, WIDTH, (3, 1.5))
    dense = 0.35 + 0.6 * person.beard
    return np.asarray(np.clip(inside * strands, 0, 1) * dense, np.float32)

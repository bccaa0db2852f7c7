"""The outlines of a drawn face in its picture, from the records that describe it.

Features and folds are laid out in face units on a level face, turned with the head, and projected
to shares of the picture's side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.data.drawn.creases import Fold, blobs, centre_folds, side_folds
from mien.data.drawn.features import RING, eye, half_face, mouth
from mien.data.drawn.portrayal import VIEW, Person, Points, Portrayal, Shot

__all__ = ["Crease", "Outlines", "five_points", "outlines", "project"]

Crease = tuple[float, float, Points]
"""Depth (share of light lost; below 0 gained), width in face units, and curve (7, 2)."""

_LIPS: Final = ("lip_top", "lip_up", "lip_down", "lip_low")
# Height of the axis of pitch, in face units.
_HEAD_TURNS_AT: Final = 0.13
_NECK: Final = (
    (-0.42, 0.7),
    (-0.44, 1.35),
    (-1.1, 1.7),
    (-1.1, 2.2),
    (1.1, 2.2),
    (1.1, 1.7),
    (0.44, 1.35),
    (0.42, 0.7),
)


def _spline(samples: int) -> Points:
    """Catmull-Rom curve through five points as a matrix (samples, 5); the ends go straight on."""
    t = np.linspace(0, 4, samples)
    i = np.minimum(t.astype(int), 3)
    f = (t - i)[:, None]
    # Weights of the two points on either side of a sample, cubic in its place between them.
    before = -f + 2 * f**2 - f**3
    left = 2 - 5 * f**2 + 3 * f**3
    right = f + 4 * f**2 - 3 * f**3
    after = f**3 - f**2
    weights = 0.5 * np.hstack([before, left, right, after])
    # A point before the first and one after the last, each mirrored about the end.
    padded = np.zeros((7, 5))
    padded[1:6] = np.eye(5)
    padded[0, :2] = (2, -1)
    padded[6, 3:] = (-1, 2)
    return np.asarray(np.einsum("sk,skj->sj", weights, padded[i[:, None] + np.arange(4)]))


def _parabola(samples: int) -> Points:
    """The parabola through three points as a matrix (samples, 3)."""
    t = np.linspace(0, 1, samples)[:, None]
    return np.hstack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)])


_CURVE: Final = _spline(17)
_ARC: Final = _parabola(7)
# The rim of glasses.
_SQUARED_RING: Final = np.sign(RING) * np.abs(RING) ** 0.75


@dataclass(frozen=True, slots=True)
class Outlines:
    """Where everything lies in the picture, in shares of its side (0..1; x right, y down).

    Attributes:
        curves: Name -> (n, 2). Names that end in ``0`` are on the image's left, in ``1`` on its
            right.
        creases: The folds.
        blobs: Soft shades (K, 5): light gained, x, y, radius x, radius y; roughly level with the
            picture.
    """

    curves: dict[str, Points]
    creases: list[Crease]
    blobs: Points


def project(xy: Points, shot: Shot) -> Points:
    """Points of a level face in the picture: the head's round front, turned and seen from far away.

    Args:
        xy: (..., 2) in face units.
        shot: How the picture was taken.

    Returns:
        (..., 2) in shares of the picture's side.
    """
    x, y = xy[..., 0], xy[..., 1]
    nose = 0.28 * np.exp(-((x / 0.16) ** 2) - ((y - 0.42) / 0.2) ** 2)
    z = 0.5 - 0.75 * x * x - 0.15 * (y - 0.2) ** 2 + nose - 0.3
    yaw, pitch, roll = np.deg2rad((shot.yaw, shot.pitch, shot.roll))
    turned_x = x * np.cos(yaw) + z * np.sin(yaw)
    turned_z = z * np.cos(yaw) - x * np.sin(yaw)
    lifted_y = (y - _HEAD_TURNS_AT) * np.cos(pitch) - turned_z * np.sin(pitch)
    cosine, sine = np.cos(roll), np.sin(roll)
    scale = shot.scale / VIEW
    picture_x = 0.5 + shot.x + scale * (cosine * turned_x - sine * lifted_y)
    picture_y = 0.5 + shot.y + scale * (sine * turned_x + cosine * lifted_y)
    return np.stack([picture_x, picture_y], axis=-1)


def outlines(portrayal: Portrayal) -> Outlines:
    """All outlines of a portrayal.

    Args:
        portrayal: What is drawn.

    Returns:
        Curves, creases and shades, projected.
    """
    person = portrayal.person
    units = portrayal.activations()
    curves: dict[str, Points] = {}
    creases: list[Crease] = []
    for k, side in enumerate((-1, 1)):
        mirror = np.array([side, 1.0])
        for name, curve in _side_curves(portrayal, side).items():
            curves[f"{name}{k}"] = curve * mirror
        creases += _curved(side_folds(portrayal.activations(side), person), mirror)
    curves |= _lip_curves(portrayal)
    creases += _curved(centre_folds(units, person), np.ones(2))
    curves["neck"] = np.array(_NECK)
    return _projected(curves, creases, np.array(blobs(units, person)), portrayal.shot)


def five_points(portrayal: Portrayal) -> Points:
    """Eyes, nose tip and mouth corners of a portrayal.

    Args:
        portrayal: What is drawn.

    Returns:
        The five points (5, 2) of `mien.records.Face`, in shares of the picture's side.
    """
    person = portrayal.person
    upper_lip = _mouth_lines(portrayal)[0]
    points = [
        (-person.eye_x, 0.0),
        (person.eye_x, 0.0),
        (0.0, person.nose_y - 0.07),
        upper_lip[0],
        upper_lip[4],
    ]
    return project(np.array(points), portrayal.shot)


def _mouth_lines(portrayal: Portrayal) -> list[list[tuple[float, float]]]:
    return mouth(portrayal.activations(-1), portrayal.activations(1), portrayal.person)


def _side_curves(portrayal: Portrayal, side: int) -> dict[str, Points]:
    """Curves of one side, given with x above 0."""
    person = portrayal.person
    lines = half_face(portrayal.activations(side), person, portrayal.alert)
    curves = dict(zip(lines, _CURVE @ np.array(list(lines.values())), strict=True))
    curves |= eye(curves["lid_top"], curves["lid_low"], portrayal, side)
    curves["rim"] = _glasses(person)
    curves["ear"] = np.array([person.width, 0.18]) + np.array([0.09, 0.19]) * RING
    return curves


def _glasses(person: Person) -> Points:
    centre = np.array([person.eye_x + 0.02, 0.05])
    return np.asarray(centre + np.array([0.24, 0.19]) * _SQUARED_RING)


def _lip_curves(portrayal: Portrayal) -> dict[str, Points]:
    lips = _CURVE @ np.array(_mouth_lines(portrayal))
    # The curve of a closed mouth's lower edge may rise above the upper one.
    lips[2, :, 1] = np.maximum(lips[2, :, 1], lips[1, :, 1])
    return dict(zip(_LIPS, lips, strict=True))


def _curved(folds: Iterable[Fold], mirror: Points) -> list[Crease]:
    return [(depth, width, _ARC @ np.array(arc) * mirror) for depth, width, arc in folds]


def _projected(
    curves: dict[str, Points], creases: list[Crease], shades: Points, shot: Shot
) -> Outlines:
    """Everything in shares of the picture's side, by one projection."""
    lines = [*curves.values(), *(arc for _, _, arc in creases)]
    points = project(np.concatenate([*lines, shades[:, 1:3]]), shot)
    pieces = np.split(points, np.cumsum([len(line) for line in lines]))
    arcs = pieces[len(curves) : -1]
    projected = []
    for (depth, width, _), arc in zip(creases, arcs, strict=True):
        projected.append((depth, width, arc))
    radii = shades[:, 3:] * (shot.scale / VIEW)
    return Outlines(
        dict(zip(curves, pieces, strict=False)),
        projected,
        np.column_stack([shades[:, 0], pieces[-1], radii]),
    )

"""Hair and caps: one surface around the head, higher where there is more hair, cut by an outline.

Its rows run from the crown down over the scalp and on as a curtain that hangs beside the neck, its
columns around the head. Where it is hair is a question of angles alone, so all styles are one.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.rendered.look.chart import noise
from mien.data.rendered.look.people import Person
from mien.data.rendered.look.skin import linear
from mien.data.rendered.mesh.head import SKIN, HeadMesh

__all__ = ["Hair", "grow"]

Image = NDArray[np.float32]

_COLUMNS: Final = 72
_SCALP_ROWS: Final = 26
_HANGING_ROWS: Final = 12
_ROWS: Final = _SCALP_ROWS + _HANGING_ROWS
# Middle of the skull, cm from the eyes, and the lowest elevation of the scalp, degrees.
_SKULL: Final = np.array([0.0, 2.0, -8.5])
_LOWEST: Final = -38.0
# Size of the picture of strands.
_HEIGHT: Final = 128
_WIDTH: Final = 512


@dataclass(frozen=True, slots=True)
class Hair:
    """A person's hair or cap.

    Attributes:
        vertices: Positions (V, 3) on the head without expression, cm.
        triangles: Indices (T, 3), counter-clockwise from outside.
        places: Column and row (V, 2) of each vertex in the pictures.
        colour: Share of light that is given back (H, W, 3), linear.
        cover: Share (H, W) that is covered, 0..1.
        gloss: How strongly strands shine.
    """

    vertices: Image
    triangles: NDArray[np.intp]
    places: Image
    colour: Image
    cover: Image
    gloss: float


def grow(mesh: HeadMesh, head: NDArray[np.floating], person: Person) -> Hair | None:
    """Grow somebody's hair, or put the cap on.

    Args:
        mesh: The head.
        head: The person's head without expression (V, 3), cm.
        person: Whose hair.

    Returns:
        The hair; None for the bald.
    """
    if person.style == "bald":
        return None
    rng = np.random.default_rng((person.seed, 1))
    around = np.linspace(-np.pi, np.pi, _COLUMNS)
    up = np.deg2rad(np.linspace(89.5, _LOWEST, _SCALP_ROWS))
    line = _outline(rng, person)
    thick = _thickness(rng, person, around, up, line)
    reach = (_skull_radius(mesh, head) + thick)[:, :, None]
    level = np.cos(up)[:, None]
    direction = np.stack(
        [np.sin(around) * level, np.tile(np.sin(up)[:, None], _COLUMNS), np.cos(around) * level],
        axis=2,
    )
    scalp = _SKULL + direction * reach
    vertices = np.concatenate([scalp, _curtain(rng, scalp, person)]).reshape(-1, 3)
    rows, columns = np.mgrid[0:_ROWS, 0:_COLUMNS].reshape(2, -1)
    places = np.stack(
        [columns * (_WIDTH - 1) / (_COLUMNS - 1), rows * (_HEIGHT - 1) / (_ROWS - 1)], axis=1
    )
    colour, cover = _paint(rng, person, line)
    triangles = _grid_triangles()
    # What is bare stays out, so that it hides nothing.
    near = np.asarray(cv2.dilate(cover, np.ones((5, 9), np.uint8)))
    at_column, at_row = np.rint(places).astype(np.intp).T
    triangles = triangles[(near[at_row, at_column] > 0)[triangles].any(axis=1)]
    return Hair(
        vertices=vertices.astype(np.float32),
        triangles=triangles,
        places=places.astype(np.float32),
        colour=colour,
        cover=cover,
        gloss=0.0 if person.style == "cap" else float(rng.uniform(0.05, 0.35)),
    )


def _skull_radius(mesh: HeadMesh, head: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance (rows, columns) of the scalp from the middle of the skull, smooth over the ears."""
    away = head[mesh.vertices_of(SKIN)] - _SKULL
    length = np.linalg.norm(away, axis=1)
    around = np.arctan2(away[:, 0], away[:, 2])
    up = np.rad2deg(np.arcsin(away[:, 1] / length))
    column = np.rint((around / (2 * np.pi) + 0.5) * (_COLUMNS - 1)).astype(np.intp)
    row = np.rint((89.5 - up) / (89.5 - _LOWEST) * (_SCALP_ROWS - 1)).astype(np.intp)
    seen = row < _SCALP_ROWS
    size = _SCALP_ROWS * _COLUMNS
    index = row[seen] * _COLUMNS + column[seen]
    total = np.bincount(index, length[seen], minlength=size).reshape(_SCALP_ROWS, _COLUMNS)
    count = np.bincount(index, minlength=size).reshape(_SCALP_ROWS, _COLUMNS)
    # A blur of sums over a blur of counts fills the cells that no vertex lies in.
    both = np.stack([total, count], axis=2).astype(np.float64)
    wide = np.asarray(cv2.GaussianBlur(np.tile(both, (1, 3, 1)), (0, 0), 1.3))
    middle = wide[:, _COLUMNS : 2 * _COLUMNS]
    return np.asarray(middle[:, :, 0] / np.maximum(middle[:, :, 1], 1e-9))


def _thickness(
    rng: np.random.Generator,
    person: Person,
    around: NDArray[np.float64],
    up: NDArray[np.float64],
    line: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Height (rows, columns) of the hair above the skin, cm."""
    top = {"short": 0.9, "full": 2.2, "bob": 1.5, "long": 1.3, "cap": 0.9}[person.style]
    side = {"short": 0.35, "full": 1.3, "bob": 2.0, "long": 1.6, "cap": 0.6}[person.style]
    height = np.interp(np.rad2deg(up), (-30, 10, 60), (0.6 * side, side, top))[:, None]
    curls = noise(rng, _SCALP_ROWS, _COLUMNS, (4, 5)).astype(np.float64)
    curls[:, -1] = curls[:, 0]
    rough = 0.05 if person.style == "cap" else 0.22
    height = height * rng.uniform(0.7, 1.4) * (1 + rough * curls)
    if person.style == "cap":
        return np.asarray(height)
    # Hair lies flat where it begins; where it hangs down it does not.
    edge = np.interp(around, np.linspace(-np.pi, np.pi, _WIDTH), line)
    above = np.clip((np.rad2deg(up)[:, None] - edge) / 18, 0, 1)
    return np.asarray(height * above + 0.12)


def _curtain(
    rng: np.random.Generator, scalp: NDArray[np.float64], person: Person
) -> NDArray[np.float64]:
    """Rows (rows, columns, 3) that hang from the scalp's last row."""
    length = {"bob": 9.0, "long": 24.0}.get(person.style, 0.3) * rng.uniform(0.7, 1.2)
    edge = scalp[-1]
    flare = rng.uniform(1.0, 1.25)
    steps = np.linspace(0, 1, _HANGING_ROWS + 1)[1:, None]
    # It hangs from where the head is widest, not from the nape.
    widest = np.max(np.hypot(scalp[:, :, 0], scalp[:, :, 2] - _SKULL[2]), axis=0)
    out = np.hypot(edge[:, 0], edge[:, 2] - _SKULL[2])
    radius = out + (widest * flare - out) * np.minimum(2.5 * steps, 1)
    x = edge[:, 0] / out * radius
    z = (edge[:, 2] - _SKULL[2]) / out * radius + _SKULL[2]
    return np.stack([x, edge[:, 1] - length * steps, z], axis=2)


def _grid_triangles() -> NDArray[np.intp]:
    rows, columns = np.mgrid[0 : _ROWS - 1, 0 : _COLUMNS - 1].reshape(2, -1)
    corner = rows * _COLUMNS + columns
    below, right, across = corner + _COLUMNS, corner + 1, corner + _COLUMNS + 1
    first = np.stack([corner, below, right], axis=1)
    second = np.stack([right, below, across], axis=1)
    return np.concatenate([first, second])


def _paint(
    rng: np.random.Generator, person: Person, line: NDArray[np.float64]
) -> tuple[Image, Image]:
    """Colour (H, W, 3) and cover (H, W) of hair or cap, which end at a line."""
    row = np.linspace(0, _ROWS - 1, _HEIGHT)
    # On below the scalp, so that one number says how far down a texel lies.
    up = 89.5 + (_LOWEST - 89.5) * row / (_SCALP_ROWS - 1)
    if person.style == "cap":
        weave = 1 + 0.06 * noise(rng, _HEIGHT, _WIDTH, (1, 1))
        colour = linear(person.cloth) * weave[:, :, None]
        return colour.astype(np.float32), _above(up, line, 0.0, 0.5)
    strands = noise(rng, _HEIGHT, _WIDTH, (40, 1.5)) + 0.7 * noise(rng, _HEIGHT, _WIDTH, (60, 6))
    shade = np.clip(1 + 0.33 * strands, 0.25, 2)
    # Roots are darker than what the light has bleached.
    shade *= np.linspace(0.75, 1.15, _HEIGHT, dtype=np.float32)[:, None]
    colour = linear(person.hair) * shade[:, :, None]
    fine = noise(rng, _HEIGHT, _WIDTH, (90, 2))
    cover = _above(up, line, 1.6 * strands + 1.2 * fine, 5.0)
    return colour.astype(np.float32), cover


def _outline(rng: np.random.Generator, person: Person) -> NDArray[np.float64]:
    """Lowest elevation of hair or cap (W,) by angle around the head, from behind over the image's
    left, degrees."""
    around = np.linspace(-180, 180, _WIDTH)
    away = abs(around)
    if person.style == "cap":
        return np.interp(away, (0, 70, 110, 180), (21, 17, 6, -8))
    front = 36 + rng.normal(0, 4) - 14 * person.fringe * (person.style != "short")
    temples = front + 8 * person.male * np.clip((person.years - 30) / 40, 0, 1)
    if person.style in ("bob", "long"):
        # Below the lowest elevation is the curtain, which lets the face free.
        reach = rng.uniform(46, 62)
        line = np.interp(away, (0, 25, 40, reach, reach + 8), (front, front, temples, 20, -200))
    else:
        reach = rng.uniform(60, 74)
        angles = (0, 25, 48, reach, reach + 9, 104, 120, 180)
        line = np.interp(away, angles, (front, front, temples, 14, -4, 5, -34, -34))
    # Hair falls to one side.
    parting = rng.uniform(-1, 1) * 5 * (person.style != "short")
    return np.asarray(line + parting * np.sin(np.deg2rad(around)) * (line > 0))


def _above(
    up: NDArray[np.float64],
    edge: NDArray[np.float64],
    ragged: NDArray[np.floating] | float,
    soft: float,
) -> Image:
    """Cover (H, W): 1 above the edge, 0 below it."""
    gap = up[:, None] - edge[None, :] + ragged
    return np.clip(0.5 + gap / soft, 0, 1).astype(np.float32)

"""The stand-in for FER+: 48x48 grey faces with ten people's votes, in two Parquet files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.data.blendshapes import AU_SHAPES, SHAPES
from mien.data.drawn.acting import EXPRESSIONS
from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work
from mien.data.standins.pictures import cut_out, noise_of, placed, relight
from mien.data.standins.states import allocate, shares_of
from mien.data.standins.stills import drawn_lots
from mien.files import wrap_os_errors
from mien.tasks import TASKS, Floats

__all__ = ["ferplus"]

Ints = NDArray[np.intp]

_NAMES: Final = TASKS["expr.ferplus8"].names
_UNKNOWN: Final = len(_NAMES)
_NO_FACE: Final = _UNKNOWN + 1
_CHOICES: Final = _NO_FACE + 1
# What most people say of FER+'s faces: the eight expressions, unknown, not a face.
_COUNTS: Final = {
    "train": (10308, 7528, 3562, 3514, 2466, 191, 652, 165, 170, 2),
    "val": (1335, 899, 456, 412, 319, 34, 74, 24, 25, 1),
}
_VOTES: Final = 10
# Votes that the class shown has in any case.
_AGREED: Final = 6
# Share of the other votes that has nothing to do with the face.
_STRAY: Final = 0.25
# Share of faces that a landmarker does not find, as in the real set.
_UNFOUND: Final = 0.06
# Parameters of the Beta distribution of what moves by chance.
_RESTLESS: Final = (0.5, 6.0)
_SIZE: Final = 48
_FILES: Final = {"train": "ferplus-train.parquet", "val": "ferplus-valid.parquet"}
_SCHEMA: Final = pa.schema(
    {
        "name": pa.string(),
        "image": pa.binary(),
        "votes": pa.list_(pa.uint8(), _CHOICES),
        "blendshapes": pa.list_(pa.uint8(), len(SHAPES)),
        "points": pa.list_(pa.float32(), 10),
    }
)


def ferplus(order: Order) -> list[Work]:
    """FER+: ``ferplus-train.parquet`` and ``ferplus-valid.parquet``.

    Args:
        order: What to make.

    Returns:
        The files to be made; names of pictures count on from one to the other.
    """
    work: list[Work] = []
    first = 0
    for s, (split, faces) in enumerate(order.faces.items()):
        count = order.rows[split]
        rows = _rows(order.rng(1, s), faces, split, count)
        seed = (order.seed, 2, s)
        path = order.root / _FILES[split]
        work.append((count, partial(_write, path, faces, rows, seed, first)))
        first += count
    return work


def _rows(rng: np.random.Generator, faces: Faces, split: str, count: int) -> tuple[Ints, Ints]:
    """What most people say of each row, and the face it shows."""
    counts = allocate(count, shares_of(_COUNTS[split]), 3)
    classes, chosen = drawn_lots(rng, faces, _NAMES, counts[:_UNKNOWN])
    # Any face will do where people see no expression, or no face.
    strange = np.repeat([_UNKNOWN, _NO_FACE], counts[_UNKNOWN:])
    mixed = rng.permutation(count)
    any_faces = rng.integers(len(faces), size=len(strange))
    return (
        np.concatenate([classes, strange])[mixed],
        np.concatenate([chosen, any_faces])[mixed],
    )


def _write(
    path: Path, faces: Faces, rows: tuple[Ints, Ints], seed: tuple[int, ...], first: int
) -> None:
    """Write one file; rows: as from `_rows`, first: number of the first name."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    classes, chosen = rows
    votes = _votes(rng, classes, faces.expr[chosen])
    shapes = _shapes(rng, faces.units[chosen])
    # A landmarker gives neither points nor blend shapes of a face that it does not find.
    has_landmarks = (rng.random(len(classes)) >= _UNFOUND) & (classes != _NO_FACE)
    images: list[bytes] = []
    points: list[Floats] = []
    for face, vote in zip(chosen.tolist(), classes.tolist(), strict=True):
        zoom = float(rng.uniform(0.9, 1.1))
        crop = cut_out(faces.images[face], faces.points[face], _SIZE, zoom)
        if vote == _NO_FACE:
            # Upside down and cut through the middle: no face is seen.
            crop = np.roll(crop[::-1], _SIZE // 2, axis=(0, 1))
        images.append(_grey_png(relight(crop, rng, grain)))
        points.append(placed(faces.points[face], _SIZE, zoom).ravel())
    columns = {
        "name": [f"fer{first + i:07d}.png" for i in range(len(classes))],
        "image": images,
        "votes": votes.tolist(),
        "blendshapes": _where(shapes, has_landmarks),
        "points": _where(points, has_landmarks),
    }
    with wrap_os_errors(path), path.open("wb") as file:
        pq.write_table(pa.table(columns, schema=_SCHEMA), file)


def _grey_png(picture: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    assert done
    return bytes(data.tobytes())


def _where(rows: Sequence[Any] | NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
    """Rows as lists, None where they are not valid."""
    return [row.tolist() if good else None for row, good in zip(rows, valid, strict=True)]


def _votes(rng: np.random.Generator, classes: Ints, expr: Floats) -> NDArray[np.int64]:
    """Ten votes (N, 10).

    Six or more are for the row's class, the others after the face's shares, some by lot.
    """
    shares = expr[:, [EXPRESSIONS.index(name) for name in _NAMES]]
    # What FER+ has no word for is unknown.
    unknown = 1 - shares.sum(axis=1)
    no_face = np.zeros(len(shares))
    seen = np.column_stack([shares, unknown, no_face])
    stray = np.full(_CHOICES, 1 / _NO_FACE)
    stray[_NO_FACE] = 0  # nobody takes a face for none
    chances = (1 - _STRAY) * seen.clip(0) + _STRAY * stray
    # Shares of a table sum to 1 in float32 only, which `multinomial` refuses.
    chances = chances / chances.sum(axis=1, keepdims=True)
    votes = rng.multinomial(_VOTES - _AGREED, chances)
    votes[np.arange(len(classes)), classes] += _AGREED
    return np.asarray(votes)


def _shapes(rng: np.random.Generator, units: Floats) -> NDArray[np.uint8]:
    """Blend shapes (N, 52), as round(255 x activation).

    Those that the units (N, 12) tell move with them; others move a little, by lot.
    """
    activations = rng.beta(*_RESTLESS, (len(units), len(SHAPES)))
    names = TASKS["au.abaw12"].names
    groups = {}
    for name in names:
        alternatives = AU_SHAPES.get(name, ())
        if len(alternatives) == 1:
            groups[name] = alternatives[0]
    # Lips part with the jaw or with either lip: the lower one does what the others leave.
    groups["AU25"] = AU_SHAPES["AU16"][0]
    for name, group in groups.items():
        columns = [SHAPES.index(shape) for shape in group]
        activations[:, columns] = units[:, [names.index(name)]]
    return np.asarray(np.round(255 * activations), np.uint8)

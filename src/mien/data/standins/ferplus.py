"""The stand-in for FER+: 48x48 grey faces with ten people's votes, in two Parquet files."""

from functools import partial
from pathlib import Path
from typing import Final

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
from mien.data.standins.states import settled, shares_of
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
_AGREED: Final = 6  # votes of the ten that the class shown has in any case
_STRAY: Final = 0.25  # share of the other votes that has nothing to do with the face
_UNFOUND: Final = 0.06  # of the faces a landmarker does not find, as in the real set
_RESTLESS: Final = (0.5, 6.0)  # of the Beta distribution of what moves by lot
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
    """``ferplus-train.parquet`` and ``ferplus-valid.parquet``; names count on from one to the other."""
    work: list[Work] = []
    first = 0
    for s, (split, faces) in enumerate(order.faces.items()):
        rng, count = order.rng(1, s), order.rows[split]
        counts = settled(count, shares_of(_COUNTS[split]), 3)
        classes, chosen = drawn_lots(rng, faces, _NAMES, counts[:_UNKNOWN])
        strange = np.repeat([_UNKNOWN, _NO_FACE], counts[_UNKNOWN:])
        mixed = rng.permutation(count)
        classes = np.concatenate([classes, strange])[mixed]
        chosen = np.concatenate([chosen, rng.integers(len(faces), size=len(strange))])[mixed]
        work.append(
            (
                count,
                partial(
                    _write,
                    order.root / _FILES[split],
                    faces,
                    (classes, chosen),
                    (order.seed, 2, s),
                    first,
                ),
            )
        )
        first += count
    return work


def _write(
    path: Path, faces: Faces, rows: tuple[Ints, Ints], seed: tuple[int, ...], first: int
) -> None:
    """One file; rows: what most people say of each row, and the face it shows."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    classes, chosen = rows
    votes = _votes(rng, classes, faces.expr[chosen])
    shapes = _shapes(rng, faces.units[chosen])
    found = (rng.random(len(classes)) >= _UNFOUND) & (classes != _NO_FACE)
    images, points = list[bytes](), list[Floats]()
    for face, vote in zip(chosen.tolist(), classes.tolist(), strict=True):
        zoom = float(rng.uniform(0.9, 1.1))
        crop = cut_out(faces.images[face], faces.points[face], _SIZE, zoom)
        if vote == _NO_FACE:
            crop = np.roll(crop[::-1], _SIZE // 2, axis=(0, 1))
        done, data = cv2.imencode(
            ".png", cv2.cvtColor(relight(crop, rng, grain), cv2.COLOR_RGB2GRAY)
        )
        assert done
        images.append(data.tobytes())
        points.append(placed(faces.points[face], _SIZE, zoom).ravel())
    columns = {
        "name": [f"fer{first + i:07d}.png" for i in range(len(classes))],
        "image": images,
        "votes": votes.tolist(),
        "blendshapes": [
            row.tolist() if seen else None for row, seen in zip(shapes, found, strict=True)
        ],
        "points": [row.tolist() if seen else None for row, seen in zip(points, found, strict=True)],
    }
    with wrap_os_errors(path), path.open("wb") as file:
        pq.write_table(pa.table(columns, schema=_SCHEMA), file)


def _votes(rng: np.random.Generator, classes: Ints, expr: Floats) -> NDArray[np.int64]:
    """Ten votes (N, 10): six or more for the row's class, the others after the face's own shares, some by lot."""
    own = expr[:, [EXPRESSIONS.index(name) for name in _NAMES]]
    seen = np.column_stack(
        [own, 1 - own.sum(axis=1), np.zeros(len(own))]
    )  # what FER+ has no word for is unknown
    lot = np.full(_CHOICES, 1 / _NO_FACE)
    lot[_NO_FACE] = 0  # nobody takes a face for none
    chance = (1 - _STRAY) * seen.clip(0) + _STRAY * lot
    votes = rng.multinomial(
        10 - _AGREED, chance / chance.sum(axis=1, keepdims=True)
    )  # shares of a table sum to 1 in float32 only
    votes[np.arange(len(classes)), classes] += _AGREED
    return np.asarray(votes)


def _shapes(rng: np.random.Generator, units: Floats) -> NDArray[np.uint8]:
    """Blend shapes (N, 52), as round(255 x activation), that move as the units (N, 12) say; others move a little, by lot."""
    made = rng.beta(*_RESTLESS, (len(units), len(SHAPES)))
    names = TASKS["au.abaw12"].names
    told = {name: AU_SHAPES[name][0] for name in names if len(AU_SHAPES.get(name, ())) == 1}
    # Lips part with the jaw or with either lip: the lower one does what the others leave.
    for name, group in (told | {"AU25": AU_SHAPES["AU16"][0]}).items():
        made[:, [SHAPES.index(shape) for shape in group]] = units[:, [names.index(name)]]
    return np.asarray(np.round(255 * made), np.uint8)

"""Stand-ins for what the unified models of ABAW2 learn from beside Aff-Wild2: ExpW (pictures from the web), AFEW-VA (clips of films)."""

import json
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work, folder, write_lines
from mien.data.standins.pictures import cut_out, noise_of, placed, relight, write_jpeg, write_png
from mien.data.standins.states import Space, SyntheticClip, films, settled, shares_of
from mien.data.standins.stills import drawn_lots, landmarks_of

__all__ = ["afew_va", "expw"]

Image = NDArray[np.uint8]
Lot = tuple[int, int, int]
"""Face, side of its tile and height of the tile's upper edge, px."""

_EXPW: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # 0 to 6
_EXPW_COUNTS: Final = (3671, 3995, 1088, 30537, 10559, 7060, 34883)
_TOGETHER: Final = (0.6, 0.25, 0.15)  # shares of pictures with one, two and three faces
_TILE: Final = 0.75  # of a face in its part of a picture
_HEIGHT: Final = 200

_WIDE, _HIGH = 192, 128  # of a film's picture, px
_FILMED: Final = 0.6
_LENGTH: Final = 50.0  # mean frames of a clip, as in the real set
_FOLDERS: Final = 12
_RATING: Final = 10


def expw(order: Order) -> list[Work]:
    """``label.lst`` and ``image/origin``: pictures of one to three faces, each with a box, which no two share."""
    faces, rng = order.faces["train"], order.rng(1)
    counts = settled(order.rows["train"], shares_of(_EXPW_COUNTS), 3)
    classes, chosen = drawn_lots(rng, faces, _EXPW, counts)
    lines, work = list[str](), list[Work]()
    place, start, number = folder(order.root / "image" / "origin"), 0, 0
    while start < len(classes):
        many = min(int(rng.choice(3, p=_TOGETHER)) + 1, len(classes) - start)
        rows = slice(start, start + many)
        name = f"{_EXPW[classes[start]]}_people_{number}.jpg"
        sides = rng.integers(96, 161, many)
        lots = [
            (int(face), int(side), int(rng.integers(_HEIGHT - side)))
            for face, side in zip(chosen[rows], sides, strict=True)
        ]
        left = 0
        for face, ((_, side, top), code) in enumerate(
            zip(lots, classes[rows].tolist(), strict=True)
        ):
            edge = (1 - _TILE) / 2 * side
            box = (
                np.round([top + edge, left + edge, left + side - edge, top + side - edge])
                .astype(int)
                .tolist()
            )
            lines.append(f"{name} {face} {' '.join(map(str, box))} {rng.gamma(4, 12):.4f} {code}")
            left += side
        work.append((1, partial(_crowd, faces, place / name, lots, (order.seed, 2, number))))
        start, number = start + many, number + 1
    write_lines(order.root / "label.lst", lines)
    return work


def _crowd(faces: Faces, path: Path, lots: list[Lot], seed: tuple[int, ...]) -> None:
    """A picture of some faces side by side."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    picture = np.full(
        (_HEIGHT, sum(side for _, side, _ in lots), 3), rng.integers(60, 190, 3), np.uint8
    )
    left = 0
    for face, side, top in lots:
        picture[top : top + side, left : left + side] = relight(
            cut_out(faces.images[face], faces.points[face], side, _TILE), rng, grain
        )
        left += side
    write_jpeg(path, picture, int(rng.integers(70, 96)))


def afew_va(order: Order) -> list[Work]:
    """Clips in ``01`` to ``12``: a picture for each frame, and a file with its ratings (-10 to 10), 68 landmarks and the actor."""
    faces, rows = order.faces["train"], order.rows["train"]
    length = float(np.clip(rows / 24, 10, _LENGTH))
    parts = (faces.expr, faces.va, faces.units)
    made = films(
        order.rng(1),
        rows,
        np.full(4, 0.25),
        _quarters(faces),
        parts,
        hold=length / 2,
        length=length,
    )
    space, work = Space(*parts), list[Work]()
    for i, film in enumerate(made):
        rng = order.rng(2, i)
        clip = f"{i + 1:03d}"
        place = folder(order.root / f"{i * _FOLDERS // len(made) + 1:02d}" / clip)
        chosen = space.stand_ins(film, rng).tolist()
        at = _way(rng, len(film))
        frames = {f"{k:05d}": _frame(faces, film, k, face, at[k]) for k, face in enumerate(chosen)}
        actor = {"actor": f"Actor {int(rng.integers(max(len(made) * 2 // 5, 1)))}"}
        write_lines(
            place / f"{clip}.json", [json.dumps({"video_id": clip, **actor, "frames": frames})]
        )
        work.append((len(film), partial(_clip, faces, place, chosen, at, (order.seed, 3, i))))
    return work


def _quarters(faces: Faces) -> list[NDArray[np.intp]]:
    """The faces in four: low and high valence, and in each low and high arousal."""
    halves = np.array_split(np.argsort(faces.va[:, 0], kind="stable"), 2)
    return [
        part
        for half in halves
        for part in np.array_split(half[np.argsort(faces.va[half, 1], kind="stable")], 2)
    ]


def _way(rng: np.random.Generator, count: int) -> list[int]:
    """The left edge of the face's part of each frame: it sways from side to side."""
    turn = rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / rng.uniform(40, 160)
    return [int(edge) for edge in np.round((_WIDE - _HIGH) * (0.5 + 0.5 * np.sin(turn)))]


def _frame(faces: Faces, film: SyntheticClip, row: int, face: int, left: int) -> dict[str, object]:
    marks = landmarks_of(placed(faces.points[face], _HIGH, _FILMED)) + np.array([left, 0])
    valence, arousal = np.clip(np.round(film.va[row] * _RATING), -_RATING, _RATING).tolist()
    return {"landmarks": marks.round(2).tolist(), "valence": valence, "arousal": arousal}


def _clip(
    faces: Faces, place: Path, chosen: list[int], at: list[int], seed: tuple[int, ...]
) -> None:
    """The pictures of a clip."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    for k, (face, left) in enumerate(zip(chosen, at, strict=True)):
        tile = relight(cut_out(faces.images[face], faces.points[face], _HIGH, _FILMED), rng, grain)
        few = cv2.resize(tile, (3, 2), interpolation=cv2.INTER_AREA)
        picture = np.asarray(
            cv2.resize(few, (_WIDE, _HIGH), interpolation=cv2.INTER_LINEAR), np.uint8
        )
        picture[:, left : left + _HIGH] = tile
        write_png(place / f"{k:05d}.png", picture)

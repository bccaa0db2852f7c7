"""Stand-ins for ExpW (pictures from the web) and AFEW-VA (clips of films).

The unified models of ABAW2 learn from them beside Aff-Wild2.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work, folder, write_lines
from mien.data.standins.pictures import (
    cut_out,
    noise_of,
    placed,
    relight,
    write_jpeg,
    write_png,
)
from mien.data.standins.states import Space, SyntheticClip, allocate, films, shares_of
from mien.data.standins.stills import drawn_lots, landmarks_of

__all__ = ["afew_va", "expw"]

Image = NDArray[np.uint8]

# Codes 0 to 6.
_EXPW: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_EXPW_COUNTS: Final = (3671, 3995, 1088, 30537, 10559, 7060, 34883)
# Shares of pictures with one, two and three faces.
_TOGETHER: Final = (0.6, 0.25, 0.15)
# Share of its part of a picture that a face takes.
_TILE: Final = 0.75
_HEIGHT: Final = 200

# Size of a film's picture, px.
_WIDE, _HIGH = 192, 128
_FILMED: Final = 0.6
# Mean frames of a clip, as in the real set.
_LENGTH: Final = 50.0
_FOLDERS: Final = 12
_RATING: Final = 10


class _Lot(NamedTuple):
    """A face's part of a picture: its number, side, and height of the upper edge, px."""

    face: int
    side: int
    top: int


def expw(order: Order) -> list[Work]:
    """ExpW: ``label.lst`` and ``image/origin``, pictures of one to three faces in boxes.

    Args:
        order: What to make.

    Returns:
        The pictures to be made. The list is written at once; no two boxes share a pixel.
    """
    faces = order.faces["train"]
    rng = order.rng(1)
    counts = allocate(order.rows["train"], shares_of(_EXPW_COUNTS), 3)
    classes, chosen = drawn_lots(rng, faces, _EXPW, counts)
    place = folder(order.root / "image" / "origin")
    lines: list[str] = []
    work: list[Work] = []
    start = 0
    while start < len(classes):
        many = min(int(rng.choice(3, p=_TOGETHER)) + 1, len(classes) - start)
        rows = slice(start, start + many)
        number = len(work)
        name = f"{_EXPW[classes[start]]}_people_{number}.jpg"
        lots = []
        for face, side in zip(chosen[rows], rng.integers(96, 161, many), strict=True):
            lots.append(_Lot(int(face), int(side), int(rng.integers(_HEIGHT - side))))
        lines += _boxes(rng, name, lots, classes[rows].tolist())
        seed = (order.seed, 2, number)
        work.append((1, partial(_crowd, faces, place / name, lots, seed)))
        start += many
    write_lines(order.root / "label.lst", lines)
    return work


def afew_va(order: Order) -> list[Work]:
    """AFEW-VA: clips in ``01`` to ``12``, a picture for each frame and a file of annotations.

    The file holds ratings (-10 to 10), 68 landmarks and the actor.

    Args:
        order: What to make.

    Returns:
        The pictures to be made. Annotations are written at once.
    """
    faces, rows = order.faces["train"], order.rows["train"]
    length = float(np.clip(rows / 24, 10, _LENGTH))
    parts = (faces.expr, faces.va, faces.units)
    quarters = _quarters(faces)
    even = np.full(4, 0.25)
    clips = films(order.rng(1), rows, even, quarters, parts, hold=length / 2, length=length)
    # Two in five actors play in more than one clip.
    actors = max(len(clips) * 2 // 5, 1)
    space = Space(*parts)
    work: list[Work] = []
    for i, film in enumerate(clips):
        rng = order.rng(2, i)
        clip = f"{i + 1:03d}"
        place = folder(order.root / f"{i * _FOLDERS // len(clips) + 1:02d}" / clip)
        chosen = space.stand_ins(film, rng).tolist()
        lefts = _left_edges(rng, len(film))
        frames = _frames(faces, film, chosen, lefts)
        actor = f"Actor {int(rng.integers(actors))}"
        content = {"video_id": clip, "actor": actor, "frames": frames}
        write_lines(place / f"{clip}.json", [json.dumps(content)])
        seed = (order.seed, 3, i)
        work.append((len(film), partial(_clip, faces, place, chosen, lefts, seed)))
    return work


def _boxes(
    rng: np.random.Generator, name: str, lots: Sequence[_Lot], codes: Sequence[int]
) -> list[str]:
    """Lines of the list: name, face, box (top, left, right, bottom), confidence, code."""
    lines = []
    left = 0
    for number, (lot, code) in enumerate(zip(lots, codes, strict=True)):
        edge = (1 - _TILE) / 2 * lot.side
        top, right = lot.top + edge, left + lot.side - edge
        corners = np.round([top, left + edge, right, lot.top + lot.side - edge])
        box = " ".join(map(str, corners.astype(int).tolist()))
        lines.append(f"{name} {number} {box} {rng.gamma(4, 12):.4f} {code}")
        left += lot.side
    return lines


def _crowd(faces: Faces, path: Path, lots: Sequence[_Lot], seed: tuple[int, ...]) -> None:
    """Write a picture of some faces side by side."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    width = sum(lot.side for lot in lots)
    picture = np.full((_HEIGHT, width, 3), rng.integers(60, 190, 3), np.uint8)
    left = 0
    for face, side, top in lots:
        crop = cut_out(faces.images[face], faces.points[face], side, _TILE)
        picture[top : top + side, left : left + side] = relight(crop, rng, grain)
        left += side
    write_jpeg(path, picture, int(rng.integers(70, 96)))


def _quarters(faces: Faces) -> list[NDArray[np.intp]]:
    """The faces in four: low and high valence, and in each low and high arousal."""
    valence, arousal = faces.va.T
    quarters = []
    for half in np.array_split(np.argsort(valence, kind="stable"), 2):
        by_arousal = half[np.argsort(arousal[half], kind="stable")]
        quarters += np.array_split(by_arousal, 2)
    return quarters


def _left_edges(rng: np.random.Generator, count: int) -> list[int]:
    """The left edge of the face's part of each frame: it sways from side to side."""
    turn = rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / rng.uniform(40, 160)
    edges = np.round((_WIDE - _HIGH) * (0.5 + 0.5 * np.sin(turn)))
    return [int(edge) for edge in edges]


def _frames(
    faces: Faces, film: SyntheticClip, chosen: Sequence[int], lefts: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Landmarks and ratings of every frame."""
    ratings = np.clip(np.round(film.va * _RATING), -_RATING, _RATING).tolist()
    frames: dict[str, dict[str, Any]] = {}
    for k, (face, left) in enumerate(zip(chosen, lefts, strict=True)):
        points = placed(faces.points[face], _HIGH, _FILMED)
        landmarks = landmarks_of(points) + np.array([left, 0])
        frame: dict[str, Any] = {"landmarks": landmarks.round(2).tolist()}
        frame["valence"], frame["arousal"] = ratings[k]
        frames[f"{k:05d}"] = frame
    return frames


def _clip(
    faces: Faces,
    place: Path,
    chosen: Sequence[int],
    lefts: Sequence[int],
    seed: tuple[int, ...],
) -> None:
    """Write the pictures of a clip."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    for k, (face, left) in enumerate(zip(chosen, lefts, strict=True)):
        crop = cut_out(faces.images[face], faces.points[face], _HIGH, _FILMED)
        tile = relight(crop, rng, grain)
        # The face's own colours, blurred, make the background.
        tiny = cv2.resize(tile, (3, 2), interpolation=cv2.INTER_AREA)
        back = cv2.resize(tiny, (_WIDE, _HIGH), interpolation=cv2.INTER_LINEAR)
        picture = np.asarray(back, np.uint8)
        picture[:, left : left + _HIGH] = tile
        write_png(place / f"{k:05d}.png", picture)

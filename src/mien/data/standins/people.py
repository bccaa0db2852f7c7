"""The stand-in for VGGFace2: a folder of pictures for each person."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from mien.data.sets.vggface2 import LANDMARKS
from mien.data.standins.faces import Faces
from mien.data.standins.order import Order, Work, folder, write_lines
from mien.data.standins.pictures import cut_out, noise_of, placed, relight, write_jpeg

__all__ = ["vggface2"]

_PER_PERSON: Final = 20
_HEADER: Final = "NAME_ID,P1X,P1Y,P2X,P2Y,P3X,P3Y,P4X,P4Y,P5X,P5Y"
_LANDMARKS: Final = dict(zip(("train", "test"), LANDMARKS, strict=True))

_Picture = tuple[str, int, float]
"""Name, size in px, and zoom."""


def vggface2(order: Order) -> list[Work]:
    """VGGFace2: ``train/`` and ``test/`` with a folder per person, and landmarks.

    A person is one face, seen again in other light, size and framing. Nobody is in both parts.

    Args:
        order: What to make.

    Returns:
        The pictures to be made. The files of landmarks are written at once.
    """
    work: list[Work] = []
    first = 1
    for s, (part, faces) in enumerate(order.faces.items()):
        rng, count = order.rng(1, s), order.rows[part]
        people = max(count // _PER_PERSON, 2)
        chosen = np.resize(rng.permutation(len(faces)), people).tolist()
        shares = np.array_split(np.arange(count), people)
        lines = [_HEADER]
        for k, (face, rows) in enumerate(zip(chosen, shares, strict=True)):
            person = f"n{first + k:06d}"
            listed = _pictures_of(rng, len(rows))
            lines += [_line(faces, face, person, picture) for picture in listed]
            place = order.root / part / person
            call = partial(_paint, faces, face, place, listed, (order.seed, 2, s, k))
            work.append((len(listed), call))
        write_lines(order.root / "bb_landmark" / _LANDMARKS[part], lines)
        first += people
    return work


def _pictures_of(rng: np.random.Generator, count: int) -> list[_Picture]:
    pictures = []
    for i in range(count):
        pictures.append((f"{i + 1:04d}_01", int(rng.integers(90, 161)), rng.uniform(0.6, 0.8)))
    return pictures


def _line(faces: Faces, face: int, person: str, picture: _Picture) -> str:
    """A row of landmarks."""
    name, size, zoom = picture
    points = placed(faces.points[face], size, zoom)
    numbers = ",".join(f"{value:.4f}" for value in points.ravel())
    return f'"{person}/{name}",{numbers}'


def _paint(
    faces: Faces, face: int, place: Path, pictures: Sequence[_Picture], seed: tuple[int, ...]
) -> None:
    """Write the pictures of one person."""
    rng = np.random.default_rng(seed)
    grain = noise_of(rng)
    folder(place)
    for name, size, zoom in pictures:
        picture = cut_out(faces.images[face], faces.points[face], size, zoom)
        write_jpeg(place / f"{name}.jpg", relight(picture, rng, grain), int(rng.integers(70, 96)))

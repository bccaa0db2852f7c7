"""A stand-in for C-EXPR-DB: short films without labels, and the list of their frames."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawn.acting import EXPRESSIONS
from mien.data.standins.faces import Faces, enough
from mien.data.standins.order import LABELS, Order, Work, folder, write_lines
from mien.data.standins.pictures import alter, cut_out, noise_of
from mien.data.standins.states import Space, SyntheticClip, films, shares_of
from mien.files import wrap_os_errors
from mien.tasks import COMPOUNDS, TASKS, Floats

__all__ = ["c_expr_db"]

Ints = NDArray[np.intp]
Marks = NDArray[np.bool_]
Image = NDArray[np.uint8]

_COUNTS: Final = (14445, 24915, 10780, 10637, 10535, 10112, 8878)
_HEADER: Final = "image_location," + ",".join(
    "_".join(word.capitalize() for word in name.split("_")) for name in TASKS["ce.abaw7"].names
)
_WIDE, _HIGH, _RATE = 320, 240, 30
_EMPTY: Final = 0.13  # share of frames without a face
_STRETCH: Final = 12
_MIXED: Final = 0.3  # share of both parts in a face that shows a compound by itself
_TARGETS: Final = 60
_SIDE: Final = 170  # of the cut-out that a head is taken from, px
_AROUND: Final = 0.68


def c_expr_db(order: Order) -> list[Work]:
    """Films in ``videos/``, their list ``CER.txt``, and the codes of its rows in ``standin-labels/CER.txt``.

    The list of every fifth film has one row more than the film has frames; every fourteenth film has one frame more than rows.
    """
    faces, rows = order.faces["test"], order.rows["test"]
    parts, pools = _targets(order.rng(1), faces)
    length = float(np.clip(rows / 6, 50, 467))
    made = films(
        order.rng(2),
        rows,
        shares_of(_COUNTS),
        pools,
        parts,
        hold=min(100, length / 2),
        length=length,
    )
    space = Space(faces.expr, faces.va, faces.units)
    listed = [
        f"{i + 1:02d}/{n + 1:05d}.jpg" for i, film in enumerate(made) for n in range(len(film))
    ]
    codes = np.concatenate([film.plan for film in made]).tolist()
    write_lines(order.root / "CER.txt", [_HEADER, *(f"{name}," for name in listed)])
    answers = [f"{name},{code}" for name, code in zip(listed, codes, strict=True)]
    write_lines(order.root / LABELS / "CER.txt", [_HEADER, *answers])
    place = folder(order.root / "videos")
    work: list[Work] = []
    for i, film in enumerate(made):
        frames = len(film) - (i % 5 == 1) + (i % 14 == 3)
        call = partial(
            _film,
            faces,
            space,
            film,
            place / f"{i + 1:02d}.mp4",
            frames=frames,
            seed=(order.seed, 3, i),
            two=i % 4 == 2,
        )
        work.append((frames, call))
    return work


def _targets(rng: np.random.Generator, faces: Faces) -> tuple[list[Floats], list[Ints]]:
    """Labels that a film may rest at, `parts` (N, K), and which of them show each compound.

    They are those of faces that show both parts, or, where there are too few, the mean of one face for each part.
    """
    own = [faces.expr, faces.va, faces.units]
    chosen: list[list[Floats]] = []
    for pair in COMPOUNDS.values():
        shares = faces.expr[:, [EXPRESSIONS.index(name) for name in pair]]
        mixed = np.flatnonzero(shares.min(axis=1) >= _MIXED)
        if len(mixed) >= _TARGETS // 10:
            chosen.append([part[rng.choice(mixed, _TARGETS)] for part in own])
            continue
        strong = [np.flatnonzero(column >= 0.5) for column in shares.T]
        enough(dict(zip(pair, map(len, strong), strict=True)))
        one, other = (rng.choice(pool, _TARGETS) for pool in strong)
        chosen.append([(part[one] + part[other]) / 2 for part in own])
    parts = [np.concatenate(columns) for columns in zip(*chosen, strict=True)]
    return parts, [np.arange(k * _TARGETS, (k + 1) * _TARGETS) for k in range(len(COMPOUNDS))]


def _film(
    faces: Faces,
    space: Space,
    film: SyntheticClip,
    path: Path,
    *,
    frames: int,
    seed: tuple[int, ...],
    two: bool,
) -> None:
    """One film of `frames` frames, with two people in its second half if `two`."""
    rng = np.random.default_rng(seed)
    shown = [space.stand_ins(film, rng) for _ in range(1 + two)]
    empty = _empty(rng, frames)
    scene, grain = _scene(rng), noise_of(rng)
    heads: dict[int, Image] = {}
    ways = [_way(rng, frames, k, 1 + two) for k in range(1 + two)]
    with wrap_os_errors(path), av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=_RATE, options={"crf": "20", "preset": "veryfast", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = _WIDE, _HIGH, "yuv420p"
        stream.time_base = Fraction(1, _RATE)
        for i in range(frames):
            picture = scene.copy()
            people = 0 if empty[i] else 1 + (two and i >= frames // 2)
            for k in range(people):
                face = int(shown[k][min(i, len(film) - 1)])
                if face not in heads:
                    heads[face] = cut_out(faces.images[face], faces.points[face], _SIDE, _AROUND)
                _put(picture, alter(heads[face], _SIDE, rng, grain), ways[k][i])
            shot = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shot.pts = i
            container.mux(stream.encode(shot))
        container.mux(stream.encode())


def _empty(rng: np.random.Generator, frames: int) -> Marks:
    """Which frames show nobody: some stretches of twelve, none of them in the first quarter."""
    stretches = -(-frames // _STRETCH)
    first = -(-stretches // 4)
    chosen = rng.choice(
        np.arange(first, stretches),
        min(max(round(_EMPTY * stretches), 1), stretches - first),
        replace=False,
    )
    return np.asarray(np.isin(np.arange(frames) // _STRETCH, chosen))


def _scene(rng: np.random.Generator) -> Image:
    """A room out of focus, RGB (240, 320, 3)."""
    wall = rng.uniform(60, 180) + rng.uniform(-15, 15, 3)
    spots = (wall + rng.uniform(-35, 35, (6, 8, 1)) + rng.uniform(-8, 8, (6, 8, 3))).astype(
        np.float32
    )
    return np.asarray(
        np.clip(cv2.resize(spots, (_WIDE, _HIGH), interpolation=cv2.INTER_CUBIC), 0, 255).astype(
            np.uint8
        )
    )


def _way(rng: np.random.Generator, frames: int, k: int, people: int) -> Floats:
    """Where the head is (frames, 3): the x and y of its middle and its width, px; person k of `people`."""
    turn = 2 * np.pi * np.arange(frames)[:, None] / rng.uniform(150, 500, 3) + rng.uniform(
        0, 2 * np.pi, 3
    )
    middle = (_WIDE * (2 * k + 1) / (2 * people), _HIGH / 2, 165 if people == 1 else 135)
    return np.asarray(middle + np.sin(turn) * (_WIDE / 8 / people, 12, 12))


def _put(picture: Image, head: Image, way: Floats) -> None:
    """Lay a head over the picture, with soft edges."""
    x, y, wide = way
    scale = wide / _SIDE
    matrix = np.array([[scale, 0, x - wide / 2], [0, scale, y - wide / 2]])
    moved = cv2.warpAffine(
        head, matrix, (_WIDE, _HIGH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    share = cv2.warpAffine(_SOFT, matrix, (_WIDE, _HIGH), flags=cv2.INTER_LINEAR)[..., None]
    picture[:] = (picture + share * (moved.astype(np.float32) - picture)).astype(np.uint8)


def _soft() -> NDArray[np.float32]:
    """An ellipse with soft edges, 1 inside and 0 outside."""
    v, u = np.mgrid[:_SIDE, :_SIDE] / _SIDE - 0.5
    return np.asarray(np.clip((1 - np.hypot(u / 0.46, v / 0.5)) / 0.12, 0, 1), np.float32)


_SOFT: Final = _soft()

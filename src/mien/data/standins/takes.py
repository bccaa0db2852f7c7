"""The videos of the stand-ins for Aff-Wild2: invented films with names, frames and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.data.standins.faces import Faces, abaw_shares, check_enough
from mien.data.standins.order import Order, folder
from mien.data.standins.pictures import Job, paint
from mien.data.standins.states import Space, SyntheticClip, films, shares_of, with_hysteresis
from mien.tasks import TASKS, Floats

__all__ = ["DENSE_COUNTS", "EXPR_COUNTS", "Take", "label_parts", "paint_take", "takes"]

Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]

_EXPR: Final = TASKS["expr.abaw8"]
# Margin by which the largest share of a clear face leads.
_MARGIN: Final = 0.15

# Annotated rows of the real sets, in the order of the tasks.
EXPR_COUNTS: Final = {
    "train": (23976, 4555, 3168, 3122, 18135, 7609, 5228, 24852),
    "val": (1886, 487, 565, 1254, 3751, 1893, 1003, 4601),
}
"""Rows of each class of ``expr.abaw8`` in s-Aff-Wild2."""
DENSE_COUNTS: Final = (177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866)
"""Training frames of each class of ``expr.abaw8`` in Aff-Wild2."""
_AU_COUNTS: Final = np.array(
    (18713, 8745, 20342, 30605, 41337, 38286, 26783, 2460, 2980, 5003, 70584, 10756)
)
_AU_SHARES: Final = _AU_COUNTS / 103_316
# An activation below this is no unit, however often the real set has it.
_LOWEST: Final = 0.1


@dataclass(frozen=True, slots=True)
class Take:
    """A film with its name, frames and labels.

    Attributes:
        name: Of the video.
        film: Its R rows.
        frames: (R,) frame number of each row, from 1.
        expr: (R,) class of ``expr.abaw8``.
        va: Valence and arousal (R, 2).
        units: 0 or 1 (R, 12).
    """

    name: str
    film: SyntheticClip
    frames: Ints
    expr: Ints
    va: Floats
    units: Ints


def takes(
    order: Order, counts: Mapping[str, Sequence[int]], rows: Mapping[str, int], dense: bool
) -> dict[str, list[Take]]:
    """Invent the films of every split.

    Args:
        order: What to make.
        counts: By split, rows of each class in the real set.
        rows: By split, rows of all films together.
        dense: Whether every frame of a video is a row.

    Returns:
        The films by split.
    """
    length = _length(rows["train"], dense)
    clips = {}
    for s, (split, faces) in enumerate(order.faces.items()):
        parts = label_parts(faces)
        clips[split] = films(
            order.rng(1, s),
            rows[split],
            shares_of(counts[split]),
            _pools(parts[0]),
            parts,
            hold=min(200, length / 2.5),
            length=length,
        )
    bounds = _bounds(clips["train"])
    names = _names(order.rng(2), [len(part) for part in clips.values()])
    named: dict[str, list[Take]] = {}
    for s, (split, part) in enumerate(clips.items()):
        named[split] = []
        for i, (name, film) in enumerate(zip(names[s], part, strict=True)):
            named[split].append(_take(order.rng(3, s, i), name, film, bounds, dense))
    return named


def label_parts(faces: Faces) -> tuple[Floats, Floats, Floats]:
    """The labels between which films move.

    Args:
        faces: N faces.

    Returns:
        Shares (N, 8) of ``expr.abaw8``, valence and arousal (N, 2), and units (N, 12).
    """
    return abaw_shares(faces.expr), faces.va, faces.units


def paint_take(
    faces: Faces,
    space: Space,
    take: Take,
    root: Path,
    *,
    kept: Mask,
    seed: tuple[int, ...],
    spare: int = 0,
) -> None:
    """Write the crops of a film.

    Args:
        faces: The faces of its split.
        space: The same faces as points.
        take: The film.
        root: Folder of all crops.
        kept: (R,) which rows have a crop.
        seed: Of all chance.
        spare: Crops beyond the last row.

    Raises:
        OutputError: Where one cannot be written.
    """
    chosen = space.stand_ins(take.film, np.random.default_rng((*seed, 0)))
    beyond = take.frames[-1] + 1 + np.arange(spare)
    numbers = np.concatenate([take.frames[kept], beyond])
    shown = np.concatenate([chosen[kept], np.repeat(chosen[-1], spare)])
    place = folder(root / take.name)
    paths = [place / f"{number:05d}.jpg" for number in numbers.tolist()]
    paint(faces, Job(paths, shown, (*seed, 1)))


def _pools(shares: Floats) -> list[Ints]:
    """Faces that show each class clearly."""
    ranked = np.sort(shares, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= _MARGIN
    top = shares.argmax(axis=1)
    pools = [np.flatnonzero(clear & (top == k)) for k in range(len(_EXPR.names))]
    check_enough(_EXPR.names, pools)
    return pools


def _names(rng: np.random.Generator, counts: Sequence[int]) -> list[list[str]]:
    """Names of videos of each split, spelled like the real ones.

    Every tenth video shows two people, ``_left`` and ``_right``, and counts twice.
    """
    numbers = iter(rng.permutation(sum(counts)) + 1)
    by_split: list[list[str]] = []
    for count in counts:
        names: list[str] = []
        while len(names) < count:
            n = next(numbers)
            forms = (f"video{n}", f"{n}-30-1920x1080", f"{n}-24-640x360", f"{n}")
            name = forms[rng.integers(4)]
            # The first video of a split is always of two, so that every stand-in has the trap.
            if count - len(names) >= 2 and (rng.random() < 0.1 or not names):
                names += [f"{name}_left", f"{name}_right"]
            else:
                names.append(name)
        by_split.append(names)
    return by_split


def _length(rows: int, dense: bool) -> float:
    """Mean rows of a film: as in the real set, or so that training has about twenty films."""
    return float(np.clip(rows / 20, 30, 4600 if dense else 460))


def _bounds(training: Sequence[SyntheticClip]) -> Floats:
    """The activation (12,) from which a unit is present, about as often as in the real set."""
    units = np.concatenate([film.units for film in training])
    bounds = []
    for k, share in enumerate(_AU_SHARES):
        bounds.append(max(np.quantile(units[:, k], 1 - share), _LOWEST))
    return np.array(bounds)


def _take(
    rng: np.random.Generator, name: str, film: SyntheticClip, bounds: Floats, dense: bool
) -> Take:
    frames = np.arange(1, len(film) + 1) if dense else _sparse_frames(rng, len(film))
    units = (film.units >= bounds).astype(np.intp)
    return Take(name, film, frames, with_hysteresis(film.expr), film.va, units)


def _sparse_frames(rng: np.random.Generator, rows: int) -> Ints:
    """Frame numbers (R,): every few frames of a film of 30 a second, with gaps."""
    step = rng.integers(1, 6)
    has_gap = rng.random(rows) < 0.03
    steps = step + np.where(has_gap, rng.integers(5, 60, rows), 0)
    return np.asarray(np.cumsum(steps) - steps[0] + 1)

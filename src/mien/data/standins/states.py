"""Invented films: a smooth path through what faces can show, its labels, and the face that stands in for each row.

A film goes from the labels of one real (or drawn) face to those of another and rests there. Labels are those of this path, so
they are smooth. The picture of a row is one of the few faces nearest to the path, drawn by lot, so pictures are noisy. What a network says
about single rows then gets better by smoothing, as it does on real films.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["Space", "SyntheticClip", "films", "settled", "shares_of", "switched"]

Ints = NDArray[np.intp]

_NEAR: Final = 8  # faces that may stand in for a state
_CAST: Final = 6000  # faces that a film chooses from
_SWAY: Final = (0.06, 0.04)  # of valence and arousal, and of units
_BIAS: Final = (0.06, 0.04)


@dataclass(frozen=True, slots=True)
class SyntheticClip:
    """Rows of one film, R of them.

    segment: (R,) number of the rest, or the way to it. plan: (R,) class of that rest. expr, va, units: the path (R, K).
    """

    segment: Ints
    plan: Ints
    expr: Floats
    va: Floats
    units: Floats

    def __len__(self) -> int:
        return len(self.plan)


class Space:
    """Faces as points in one space, in which expression, valence and arousal, and units count alike.

    parts: label arrays (N, K) of N faces. Each column is divided by its standard deviation, each part by the root of its columns.
    """

    def __init__(self, *parts: Floats) -> None:
        self._scale = np.concatenate(
            [1 / (np.maximum(part.std(axis=0), 0.02) * np.sqrt(part.shape[1])) for part in parts]
        )
        self._faces = (np.concatenate(parts, axis=1) * self._scale).astype(np.float32)

    def stand_ins(self, film: SyntheticClip, rng: np.random.Generator) -> Ints:
        """For each row of the film, (R,), one of the `_NEAR` faces nearest to it among those of the film's cast."""
        cast = np.sort(
            rng.permutation(len(self._faces))[: min(_CAST, -(-len(self._faces) * 2 // 3))]
        )
        faces = self._faces[cast]
        states = (np.concatenate([film.expr, film.va, film.units], axis=1) * self._scale).astype(
            np.float32
        )
        far = (faces**2).sum(axis=1) - 2 * states @ faces.T
        near = min(_NEAR, len(cast))
        chosen = np.argpartition(far, near - 1, axis=1)[:, :near]
        return np.asarray(
            cast[chosen[np.arange(len(states)), rng.integers(near, size=len(states))]]
        )


def shares_of(counts: Sequence[float]) -> Floats:
    """Counts as shares that sum to 1.

    >>> shares_of([1, 3]).tolist()
    [0.25, 0.75]
    """
    return np.asarray(np.asarray(counts, float) / np.sum(counts))


def settled(rows: int, shares: Floats, least: int = 1) -> Ints:
    """`rows` whole numbers (K,) in the ratio of `shares`, each at least `least`.

    Raises DataError where there are too few rows.

    >>> settled(10, np.array([0.9, 0.08, 0.02])).tolist()
    [7, 2, 1]
    """
    if rows < least * len(shares):
        raise DataError(
            f"{rows} rows of one split cannot show {len(shares)} classes {least} times each; ask for a larger size"
        )
    spare = rows - least * len(shares)
    counts = np.floor(spare * shares).astype(np.intp)
    rest = spare * shares - counts
    counts[np.argsort(-rest, kind="stable")[: spare - counts.sum()]] += 1
    return np.asarray(counts + least)


def films(
    rng: np.random.Generator,
    rows: int,
    shares: Floats,
    pools: Sequence[Ints],
    parts: Sequence[Floats],
    *,
    hold: float,
    length: float,
) -> list[SyntheticClip]:
    """Films of `rows` rows in all, in which class k has about the share `shares[k]`.

    hold: mean rows of a rest. length: mean rows of a film. pools: the faces (their numbers) that a rest of class k may take.
    parts: expression shares, valence and arousal, and units of the faces, (N, K) each.
    """
    made = []
    for segments in _cut(rng, _segments(rng, rows, shares, hold), length):
        targets = np.array([pools[k][rng.integers(len(pools[k]))] for k, _ in segments])
        made.append(_film(rng, segments, [part[targets] for part in parts]))
    return made


def _segments(
    rng: np.random.Generator, rows: int, shares: Floats, hold: float
) -> list[tuple[int, int]]:
    """Class and rows of every rest, in random order; together `rows`."""
    made = []
    for k, count in enumerate(settled(rows, shares, 4)):
        parts = rng.uniform(0.5, 1.5, max(round(count / hold), 1))
        ends = np.round(np.cumsum(parts / parts.sum()) * count).astype(int)
        made += [(k, int(n)) for n in np.diff(ends, prepend=0) if n]
    return [made[i] for i in rng.permutation(len(made))]


def _cut(
    rng: np.random.Generator, segments: list[tuple[int, int]], length: float
) -> list[list[tuple[int, int]]]:
    """Runs of segments, of about `length` rows each."""
    made: list[list[tuple[int, int]]] = [[]]
    wanted = length * rng.uniform(0.6, 1.4)
    for segment in segments:
        if sum(n for _, n in made[-1]) >= wanted:
            made.append([])
            wanted = length * rng.uniform(0.6, 1.4)
        made[-1].append(segment)
    if len(made) > 1 and sum(n for _, n in made[-1]) < length / 3:
        last = made.pop()
        made[-1] += last
    return made


def _film(
    rng: np.random.Generator, segments: list[tuple[int, int]], targets: Sequence[Floats]
) -> SyntheticClip:
    counts = np.array([n for _, n in segments])
    rows, ends = int(counts.sum()), counts.cumsum()
    at = np.arange(rows)
    ways = np.minimum(rng.uniform(15, 45, len(counts) - 1), np.minimum(counts[1:], counts[:-1]) / 2)
    t = np.clip((at[:, None] + 0.5 - ends[:-1]) / ways + 0.5, 0, 1)
    gone = t * t * (3 - 2 * t)  # (R, rests - 1): how much of each way lies behind
    expr, va, units = (target[0] + gone @ np.diff(target, axis=0) for target in targets)
    va = np.clip(va + _wander(rng, at, va.shape[1], _BIAS[0], _SWAY[0]), -1, 1)
    units = np.clip(units + _wander(rng, at, units.shape[1], _BIAS[1], _SWAY[1]), 0, 1)
    segment = np.repeat(np.arange(len(counts)), counts)
    return SyntheticClip(segment, np.array([k for k, _ in segments])[segment], expr, va, units)


def _wander(rng: np.random.Generator, at: Ints, columns: int, bias: float, sway: float) -> Floats:
    """What is this film's own (R, K): an offset, and a slow sway of one turn in 100 to 600 rows."""
    turn = 2 * np.pi * at[:, None] / rng.uniform(100, 600, columns) + rng.uniform(
        0, 2 * np.pi, columns
    )
    return np.asarray(bias * rng.normal(size=columns) + sway * np.sin(turn))


def switched(values: Floats, margin: float = 0.1) -> Ints:
    """The largest column of each row (R, K), kept until another is larger by `margin`.

    >>> switched(np.array([[0.6, 0.4], [0.49, 0.51], [0.4, 0.6], [0.51, 0.49]])).tolist()
    [0, 0, 1, 1]
    """
    best = values.argmax(axis=1)
    clear = values.max(axis=1)[:, None] - values
    now, made = int(best[0]), np.empty(len(values), np.intp)
    for i, row in enumerate(best.tolist()):
        if row != now and clear[i, now] >= margin:
            now = row
        made[i] = now
    return made

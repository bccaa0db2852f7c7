"""Invented films: a smooth path through what faces can show, and the face shown in each row.

A film goes from the labels of one real (or drawn) face to those of another and rests there. Labels
are those of this path, so they are smooth. The picture of a row is one of the few faces nearest to
the path, drawn by lot, so pictures are noisy. A network's scores of single rows then get better by
smoothing, as they do on real films.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["Space", "SyntheticClip", "allocate", "films", "shares_of", "with_hysteresis"]

Ints = NDArray[np.intp]
Rest = tuple[int, int]
"""Class and number of rows of a rest."""

# Nearest faces, one of which is shown for a state.
_NEAR: Final = 8
# Faces that a film chooses from.
_CAST: Final = 6000
# Offset and slow sway that a film adds to its path, so that two films of one class differ.
_VA_BIAS, _VA_SWAY = 0.06, 0.06
_UNITS_BIAS, _UNITS_SWAY = 0.04, 0.04
# Fewest rows that show a class.
_FEWEST_ROWS: Final = 4


@dataclass(frozen=True, slots=True)
class SyntheticClip:
    """The R rows of one film.

    Attributes:
        segment: (R,) number of the rest, or of the rest that the row is on its way to.
        plan: (R,) class of that rest.
        expr: Expression shares along the path (R, K).
        va: Valence and arousal (R, 2).
        units: Activations (R, K).
    """

    segment: Ints
    plan: Ints
    expr: Floats
    va: Floats
    units: Floats

    def __len__(self) -> int:
        return len(self.plan)


class Space:
    """Faces as points in one space, in which expression, valence-arousal, and units count alike.

    Each column is divided by its standard deviation, each part by the root of its columns.

    Args:
        parts: Label arrays (N, K) of N faces.
    """

    def __init__(self, *parts: Floats) -> None:
        scales = []
        for part in parts:
            deviations = np.maximum(part.std(axis=0), 0.02)
            scales.append(1 / (deviations * np.sqrt(part.shape[1])))
        self._scale = np.concatenate(scales)
        self._faces = (np.concatenate(parts, axis=1) * self._scale).astype(np.float32)

    def stand_ins(self, film: SyntheticClip, rng: np.random.Generator) -> Ints:
        """The face shown in each row of a film.

        Args:
            film: R rows.
            rng: Where the chance comes from.

        Returns:
            (R,) numbers of faces: one of the `_NEAR` nearest among those of the film's cast.
        """
        # Two thirds of the faces, so that two films do not show the very same ones.
        size = min(_CAST, -(-len(self._faces) * 2 // 3))
        cast = np.sort(rng.permutation(len(self._faces))[:size])
        faces = self._faces[cast]
        path = np.concatenate([film.expr, film.va, film.units], axis=1)
        states = (path * self._scale).astype(np.float32)
        # Squared distances without the states' own length, which is the same for all faces.
        distances = (faces**2).sum(axis=1) - 2 * states @ faces.T
        near = min(_NEAR, len(cast))
        nearest = np.argpartition(distances, near - 1, axis=1)[:, :near]
        lots = rng.integers(near, size=len(states))
        return np.asarray(cast[nearest[np.arange(len(states)), lots]])


def shares_of(counts: Sequence[float]) -> Floats:
    """Counts as shares.

    Args:
        counts: K numbers >= 0.

    Returns:
        (K,) that sum to 1.

    >>> shares_of([1, 3]).tolist()
    [0.25, 0.75]
    """
    return np.asarray(np.asarray(counts, float) / np.sum(counts))


def allocate(rows: int, shares: Floats, least: int = 1) -> Ints:
    """Rows divided among classes, by the method of the largest remainder.

    Args:
        rows: How many in all.
        shares: (K,) that sum to 1.
        least: Rows that every class gets in any case.

    Returns:
        (K,) whole numbers that sum to `rows`.

    Raises:
        DataError: Where there are too few rows.

    >>> allocate(10, np.array([0.9, 0.08, 0.02])).tolist()
    [7, 2, 1]
    """
    if rows < least * len(shares):
        raise DataError(
            f"{rows} rows of one split cannot show {len(shares)} classes {least} times each; "
            "ask for a larger size"
        )
    spare = rows - least * len(shares)
    counts = np.floor(spare * shares).astype(np.intp)
    remainders = spare * shares - counts
    largest = np.argsort(-remainders, kind="stable")
    counts[largest[: spare - counts.sum()]] += 1
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
    """Invent films.

    Args:
        rng: Where the chance comes from.
        rows: Rows of all films together.
        shares: (K,) about the share of rows of each class.
        pools: For each class the faces (their numbers) that a rest of it may take.
        parts: Expression shares, valence and arousal, and units of the faces, (N, K) each.
        hold: Mean rows of a rest.
        length: Mean rows of a film.

    Returns:
        The films.
    """
    clips = []
    for rests in _cut(rng, _rests(rng, rows, shares, hold), length):
        targets = [pools[k][rng.integers(len(pools[k]))] for k, _ in rests]
        labels = [part[np.array(targets)] for part in parts]
        clips.append(_film(rng, rests, labels))
    return clips


def with_hysteresis(values: Floats, margin: float = 0.1) -> Ints:
    """The largest column of each row, kept until another is larger by a margin.

    Args:
        values: (R, K), rows in order of time.
        margin: By how much another column must be larger.

    Returns:
        (R,) numbers of columns.

    >>> with_hysteresis(np.array([[0.6, 0.4], [0.49, 0.51], [0.4, 0.6], [0.51, 0.49]])).tolist()
    [0, 0, 1, 1]
    """
    best = values.argmax(axis=1)
    behind = values.max(axis=1)[:, None] - values
    current = int(best[0])
    columns = np.empty(len(values), np.intp)
    for i, row in enumerate(best.tolist()):
        if row != current and behind[i, current] >= margin:
            current = row
        columns[i] = current
    return columns


def _rests(rng: np.random.Generator, rows: int, shares: Floats, hold: float) -> list[Rest]:
    """Class and rows of every rest, in random order; together `rows`."""
    rests = []
    for k, count in enumerate(allocate(rows, shares, _FEWEST_ROWS)):
        lengths = rng.uniform(0.5, 1.5, max(round(count / hold), 1))
        ends = np.round(np.cumsum(lengths / lengths.sum()) * count).astype(int)
        for n in np.diff(ends, prepend=0):
            # Rounding may leave a short rest without rows.
            if n:
                rests.append((k, int(n)))
    return [rests[i] for i in rng.permutation(len(rests))]


def _rows_of(rests: Sequence[Rest]) -> int:
    return sum(n for _, n in rests)


def _cut(rng: np.random.Generator, rests: Sequence[Rest], length: float) -> list[list[Rest]]:
    """Runs of rests, of about `length` rows each."""
    runs: list[list[Rest]] = [[]]
    goal = length * rng.uniform(0.6, 1.4)
    for rest in rests:
        if _rows_of(runs[-1]) >= goal:
            runs.append([])
            goal = length * rng.uniform(0.6, 1.4)
        runs[-1].append(rest)
    # What is left over at the end is no film of its own.
    if len(runs) > 1 and _rows_of(runs[-1]) < length / 3:
        last = runs.pop()
        runs[-1] += last
    return runs


def _film(
    rng: np.random.Generator, rests: Sequence[Rest], targets: Sequence[Floats]
) -> SyntheticClip:
    """A film through rests whose labels are `targets`, (rests, K) each."""
    classes = np.array([k for k, _ in rests])
    counts = np.array([n for _, n in rests])
    ends = counts.cumsum()
    row = np.arange(int(counts.sum()))
    # The way between two rests takes no more than half of either.
    shorter = np.minimum(counts[1:], counts[:-1]) / 2
    ways = np.minimum(rng.uniform(15, 45, len(counts) - 1), shorter)
    t = np.clip((row[:, None] + 0.5 - ends[:-1]) / ways + 0.5, 0, 1)
    gone = t * t * (3 - 2 * t)  # (R, rests - 1): how much of each way lies behind
    expr, va, units = (target[0] + gone @ np.diff(target, axis=0) for target in targets)
    va = np.clip(va + _wander(rng, row, va.shape[1], _VA_BIAS, _VA_SWAY), -1, 1)
    units = np.clip(units + _wander(rng, row, units.shape[1], _UNITS_BIAS, _UNITS_SWAY), 0, 1)
    segment = np.repeat(np.arange(len(counts)), counts)
    return SyntheticClip(segment, classes[segment], expr, va, units)


def _wander(rng: np.random.Generator, row: Ints, columns: int, bias: float, sway: float) -> Floats:
    """What a film adds to its path (R, K): an offset, and a slow sway of 100 to 600 rows a turn."""
    periods = rng.uniform(100, 600, columns)
    phases = rng.uniform(0, 2 * np.pi, columns)
    turn = 2 * np.pi * row[:, None] / periods + phases
    return np.asarray(bias * rng.normal(size=columns) + sway * np.sin(turn))

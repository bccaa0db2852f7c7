"""How well descriptors tell whether two faces are one person's: scores of pairs of faces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bundles.card_parts import Score
from mien.tasks import Floats

__all__ = ["Pairs", "acceptance_scores", "verification_scores"]

ROUNDS: Final = 400
"""Bootstrap draws of an interval."""
_FAR: Final = 1e-3

Numbers = NDArray[np.intp]
_Metric = Callable[[Floats, Floats], float]
"""Of false and true acceptance rates (P,), see `Pairs.rates`."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """All pairs of some faces, in order of distance; P of them.

    Attributes:
        distances: Euclidean distances (P,) of the descriptors, ascending.
        same: Whether both faces are one person's, (P,).
        subjects: The two people of each pair, as numbers from 0, (P, 2).
        people: How many people there are.
        faces: How many faces there are.
    """

    distances: Floats
    same: NDArray[np.bool_]
    subjects: Numbers
    people: int
    faces: int

    @classmethod
    def of(cls, descriptors: Floats, names: NDArray[np.str_]) -> "Pairs":
        """Pair faces.

        Args:
            descriptors: (N, D).
            names: Whose faces they are, (N,).

        Returns:
            Their N (N - 1) / 2 pairs.
        """
        people, numbers = np.unique(names, return_inverse=True)
        first, second = np.triu_indices(len(descriptors), 1)
        squares = np.square(descriptors).sum(axis=1)
        products = descriptors @ descriptors.T
        distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
        of_pairs = distances[first, second]
        order = np.argsort(of_pairs, kind="stable")
        subjects = np.stack([numbers[first], numbers[second]], axis=1)[order]
        same = subjects[:, 0] == subjects[:, 1]
        return cls(of_pairs[order], same, subjects, len(people), len(descriptors))

    def rates(self, counts: Floats | None = None) -> tuple[Floats, Floats]:
        """Acceptance rates at a threshold behind each pair.

        Args:
            counts: How often each person was drawn, (people,); None for once.

        Returns:
            False acceptance rate (pairs of two people) and true acceptance rate (pairs of one
            person), (P,) each, ascending.
        """
        weights = np.ones(len(self.same))
        if counts is not None:
            # A person who was drawn twice is two people: their pairs with each other do not count.
            first, second = counts[self.subjects].T
            weights = np.where(self.same, first, first * second)
        accepted = np.cumsum(weights * self.same)
        wrong = np.cumsum(weights * ~self.same)
        return wrong / wrong[-1], accepted / accepted[-1]


def _equal_error_rate(far: Floats, tar: Floats) -> float:
    """Where as many pairs of two people are accepted as of one person are refused."""
    position = int(np.argmin(np.abs(far - (1 - tar))))
    return float(far[position] + 1 - tar[position]) / 2


def _true_acceptance(far: Floats, tar: Floats) -> float:
    """The true acceptance rate at the largest threshold of a false acceptance rate of `_FAR`."""
    position = int(np.searchsorted(far, _FAR, side="right")) - 1
    return float(tar[position]) if position >= 0 else 0.0


def _area(far: Floats, tar: Floats) -> float:
    return float(np.trapezoid(tar, far))


_METRICS: Final[dict[str, _Metric]] = {
    "same person: equal error rate": _equal_error_rate,
    "same person: true acceptance at a false acceptance of 0.001": _true_acceptance,
    "same person: area under the ROC": _area,
}


def verification_scores(pairs: Pairs, data: str) -> list[Score]:
    """Score pairs at every threshold at once.

    Args:
        pairs: Pairs of faces.
        data: What the card says of the faces.

    Returns:
        Equal error rate, true acceptance rate and area under the ROC, with intervals.
    """
    return _scores(pairs, _METRICS, data)


def acceptance_scores(pairs: Pairs, distance: float, data: str) -> list[Score]:
    """Score pairs at one threshold.

    Args:
        pairs: Pairs of faces.
        distance: Pairs that are nearer count as one person's.
        data: What the card says of the faces.

    Returns:
        False and true acceptance rate, with intervals.
    """
    position = int(np.searchsorted(pairs.distances, distance)) - 1
    assert position >= 0
    metrics: dict[str, _Metric] = {
        f"same person: false acceptance at {distance:g}": lambda far, _: float(far[position]),
        f"same person: true acceptance at {distance:g}": lambda _, tar: float(tar[position]),
    }
    return _scores(pairs, metrics, data)


def _scores(pairs: Pairs, metrics: Mapping[str, _Metric], data: str) -> list[Score]:
    """Metrics with 95 % intervals by the bootstrap over people."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(ROUNDS):
        drawn = rng.integers(pairs.people, size=pairs.people)
        rates = pairs.rates(np.bincount(drawn, minlength=pairs.people).astype(float))
        draws.append([metric(*rates) for metric in metrics.values()])
    lows, highs = np.quantile(draws, [0.025, 0.975], axis=0)
    rates = pairs.rates()
    scores = []
    for (name, metric), low, high in zip(metrics.items(), lows, highs, strict=True):
        score = Score(
            metric=name,
            value=round(metric(*rates), 4),
            low=round(float(low), 4),
            high=round(float(high), 4),
            data=data,
            faces=pairs.faces,
        )
        scores.append(score)
    return scores

"""Which rows make up which batch: weights that bring out rare labels, and an order that can be repeated, resumed and shared out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["ResumableBatchSampler", "inverse_cell", "inverse_class", "inverse_class_and_cell"]


def inverse_class(shares: Floats) -> Floats:
    """Weight (N,), mean 1, to draw a row of class shares (N, K) by: 1 / frequency of its class, expected over soft shares.

    Rows with a NaN are not annotated and have the mean weight.

    >>> inverse_class(np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    seen = _annotated(shares)
    counts = shares[seen].sum(axis=0)
    # A class that nobody has divides nothing, so its 1 / 0 may be any number.
    return _of_all(shares[seen] @ (1 / np.where(counts > 0, counts, 1)), seen)


def inverse_cell(va: Floats, cells: int = 20) -> Floats:
    """Weight (N,), mean 1, to draw a row of valence and arousal (N, 2) by: 1 / rows in its cell of a grid over -1..1.

    The edges are fixed, so that another data set's outliers do not move them. Rows with a NaN are not annotated and have the
    mean weight. Raises DataError for a label outside -1..1.

    >>> inverse_cell(np.array([[0.01, 0.01], [0.02, 0.02], [0.9, -0.9]])).round(3).tolist()
    [0.75, 0.75, 1.5]
    """
    seen = _annotated(va)
    known = va[seen]
    if (np.abs(known) > 1).any():
        raise DataError(
            "valence and arousal must lie within -1..1; the adapter must turn codes such as -5 into NaN"
        )
    column = np.minimum(np.digitize(known, np.linspace(-1, 1, cells + 1)) - 1, cells - 1)
    cell = column @ (cells, 1)
    return _of_all(1 / np.bincount(cell, minlength=1)[cell], seen)


def inverse_class_and_cell(shares: Floats, va: Floats) -> Floats:
    """Mean of `inverse_class` and `inverse_cell` (N,); both have mean 1 before, so the far rarer cells do not decide alone."""
    return (inverse_class(shares) + inverse_cell(va)) / 2


def _annotated(labels: Floats) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(labels).any(axis=1))


def _of_all(labelled: Floats, seen: NDArray[np.bool_]) -> Floats:
    weights = np.ones(len(seen))
    if labelled.size:
        weights[seen] = labelled / labelled.mean()
    return weights


@dataclass(frozen=True, eq=False)
class ResumableBatchSampler:
    """The batches of one epoch. A pure function of its fields, so a restart sees the same batches.

    count: rows of the label table. weights: None for a shuffle of all rows; (count,) to draw `count` rows with replacement.
    batch: rows of a batch over all processes together. The last, incomplete batch is left out.
    Raises DataError for fewer rows than one batch and for weights that are not (count,), finite, 0 or more, and not all 0.
    """

    count: int
    weights: Floats | None
    seed: int
    batch: int
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.count < self.batch:
            raise DataError(
                f"{self.count} rows are fewer than one batch of {self.batch}; use a smaller batch"
            )
        if self.weights is not None:
            weights = np.asarray(self.weights)
            if (
                weights.shape != (self.count,)
                or not np.isfinite(weights).all()
                or (weights < 0).any()
                or not weights.any()
            ):
                raise DataError(
                    f"drawing {self.count} rows needs as many weights, finite, 0 or more and not all 0; got {weights.shape}"
                )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch

    def rows(self) -> NDArray[np.intp]:
        """Row numbers of the epoch in order, (len * batch,)."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.weights is None:
            return rng.permutation(self.count)[: len(self) * self.batch]
        return rng.choice(self.count, len(self) * self.batch, p=self.weights / self.weights.sum())

    def batches(self, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[NDArray[np.intp]]:
        """Row numbers (batch / world,) of the batches from number `start` on, for process `rank` of `world`.

        All processes' parts of a batch together are the batch of one process. Raises ValueError when they cannot be of one size.
        """
        if self.batch % world or not 0 <= rank < world:
            raise ValueError(
                f"a batch of {self.batch} cannot be shared by process {rank} of {world}; use a multiple of their number"
            )
        share = self.batch // world
        table = self.rows().reshape(len(self), world, share)
        yield from table[start:, rank]

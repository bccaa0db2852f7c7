"""Which rows make up which batch.

Weights that bring out rare labels, and an order that can be repeated, resumed and shared out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.errors import DataError
from mien.tasks import Floats

__all__ = [
    "ResumableBatchSampler",
    "augmentation_keys",
    "inverse_cell",
    "inverse_class",
    "inverse_class_and_cell",
]


def inverse_class(shares: Floats) -> Floats:
    """Weigh rows by the inverse frequency of their class.

    Args:
        shares: Class shares (N, K), rows sum to 1; rows with a NaN are not annotated.

    Returns:
        Weights (N,) with mean 1, expected over soft shares; 1 for rows that are not annotated.

    >>> inverse_class(np.array([[1, 0], [1, 0], [1, 0], [0, 1.0]])).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    annotated = _annotated(shares)
    known = shares[annotated]
    counts = known.sum(axis=0)
    # No row has a share of a class that nobody has, so its weight may be any number.
    by_class = 1 / np.where(counts > 0, counts, 1)
    weights = known @ by_class
    return _for_all_rows(weights, annotated)


def inverse_cell(va: Floats, cells: int = 20) -> Floats:
    """Weigh rows by the inverse number of rows in their cell of valence and arousal.

    The edges are fixed, so that another data set's outliers do not move them.

    Args:
        va: Valence and arousal (N, 2) within -1..1; rows with a NaN are not annotated.
        cells: Cells along each axis.

    Returns:
        Weights (N,) with mean 1; 1 for rows that are not annotated.

    Raises:
        DataError: A label lies outside -1..1.

    >>> inverse_cell(np.array([[0.01, 0.01], [0.02, 0.02], [0.9, -0.9]])).round(3).tolist()
    [0.75, 0.75, 1.5]
    """
    annotated = _annotated(va)
    known = va[annotated]
    if (np.abs(known) > 1).any():
        raise DataError(
            "valence and arousal must lie within -1..1; "
            "the adapter must turn codes such as -5 into NaN"
        )
    edges = np.linspace(-1, 1, cells + 1)
    # The right edge belongs to the last cell.
    column = np.minimum(np.digitize(known, edges) - 1, cells - 1)
    cell = column @ (cells, 1)
    # A count of at least one cell, so that no annotated row at all is no special case.
    counts = np.bincount(cell, minlength=1)
    return _for_all_rows(1 / counts[cell], annotated)


def inverse_class_and_cell(shares: Floats, va: Floats) -> Floats:
    """Average `inverse_class` and `inverse_cell`.

    Both have mean 1, so the far rarer cells do not decide alone.

    Args:
        shares: As for `inverse_class`.
        va: As for `inverse_cell`.

    Returns:
        Weights (N,) with mean 1.

    Raises:
        DataError: As `inverse_cell`.
    """
    return (inverse_class(shares) + inverse_cell(va)) / 2


def _annotated(labels: Floats) -> NDArray[np.bool_]:
    """Which rows have no NaN (N,)."""
    is_missing = np.isnan(labels).any(axis=1)
    return np.asarray(~is_missing)


def _for_all_rows(weights: Floats, annotated: NDArray[np.bool_]) -> Floats:
    """Weights of annotated rows, scaled to mean 1, with 1 for all others (N,)."""
    complete = np.ones(len(annotated))
    if weights.size:
        complete[annotated] = weights / weights.mean()
    return complete


@dataclass(frozen=True, eq=False)
class ResumableBatchSampler:
    """The batches of one epoch.

    A pure function of its fields, so a restart sees the same batches. The last, incomplete batch
    is left out.

    Attributes:
        count: Rows of the label table.
        weights: (count,) to draw `count` rows with replacement; None shuffles all rows.
        seed: Of the random order.
        batch: Rows of a batch over all processes together.
        epoch: Number of the epoch.

    Raises:
        DataError: There are fewer rows than one batch, or weights are not (count,), finite, 0 or
            more, and not all 0.
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
        if self.weights is None:
            return
        weights = np.asarray(self.weights)
        fits = weights.shape == (self.count,) and np.isfinite(weights).all()
        if not fits or (weights < 0).any() or not weights.any():
            raise DataError(
                f"drawing {self.count} rows needs as many weights, finite, 0 or more and not all 0;"
                f" got {weights.shape}"
            )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch

    def rows(self) -> NDArray[np.intp]:
        """Draw the rows of the epoch.

        Returns:
            Row numbers in order, (len * batch,).
        """
        # A generator of its own for each epoch, so that any epoch can be repeated alone.
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = len(self) * self.batch
        if self.weights is None:
            return rng.permutation(self.count)[:drawn]
        chances = self.weights / self.weights.sum()
        return rng.choice(self.count, drawn, p=chances)

    def batches(self, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[NDArray[np.intp]]:
        """Give the batches of one process.

        All processes' parts of a batch together are the batch of one process.

        Args:
            start: Number of the first batch.
            rank: Number of the process, from 0.
            world: How many processes there are.

        Yields:
            Row numbers (batch / world,).

        Raises:
            ValueError: The parts cannot be of one size.
        """
        if self.batch % world or not 0 <= rank < world:
            raise ValueError(
                f"a batch of {self.batch} cannot be shared by process {rank} of {world}; "
                "use a multiple of their number"
            )
        share = self.batch // world
        # (batches, processes, rows of one process).
        table = self.rows().reshape(len(self), world, share)
        yield from table[start:, rank]


def augmentation_keys(
    order: ResumableBatchSampler, epochs: int, start: int, rank: int, world: int
) -> list[list[tuple[int, int]]]:
    """Say which augmentation each row of the batches of one process gets.

    Args:
        order: The batches of an epoch.
        epochs: Epochs of the whole run.
        start: Number of the first batch.
        rank: Number of the process, from 0.
        world: How many processes there are.

    Returns:
        By batch, (augmentation epoch, row) of each of its rows, for `AugmentedCropDataset`.

    Raises:
        ValueError: The processes' parts of a batch cannot be of one size.
    """
    # Counted over all processes and from the first batch, also where the epoch is resumed.
    draws = _earlier_draws(order.rows()).reshape(len(order), world, -1)
    repeats = draws[start:, rank]
    # A face drawn again within one epoch is augmented as in an epoch after the last.
    augmentation_epochs = order.epoch + epochs * repeats
    keys = []
    batches = order.batches(start, rank, world)
    for batch_epochs, rows in zip(augmentation_epochs, batches, strict=True):
        keys.append(list(zip(batch_epochs.tolist(), rows.tolist(), strict=True)))
    return keys


def _earlier_draws(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """How often each number of (N,) came before.

    >>> _earlier_draws(np.array([4, 7, 4, 4, 7])).tolist()
    [0, 0, 1, 2, 1]
    """
    counts = pd.Series(rows).groupby(rows).cumcount()
    return np.asarray(counts, np.intp)

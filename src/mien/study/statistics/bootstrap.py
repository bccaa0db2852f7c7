"""Intervals by bootstrap: of means over time, by blocks of it, and of means over people."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats

__all__ = ["LEAST_BLOCKS", "LEVEL", "block_interval", "people_interval"]

LEVEL: Final = 0.95
"""Coverage of all intervals."""
LEAST_BLOCKS: Final = 4
"""Fewer blocks of time give no interval."""
# Counts that are held at once; an hour in seconds has 3,600 for each draw.
_MOST: Final = 4_000_000
Counts = NDArray[np.float64]


def block_interval(
    sums: Floats, weights: Floats, block: int, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Percentile intervals of means over time, by the circular block bootstrap.

    Neighbouring frames are alike, and so are neighbouring seconds; blocks of time are drawn
    instead (Politis & Romano 1992).

    Args:
        sums: Sums of weighted values in equal stretches of time (N, K), in order.
        weights: Sums of their weights (N, K).
        block: How many stretches make a block.
        draws: How many times to draw.
        seed: The same seed gives the same intervals.

    Returns:
        Low and high ends (K,) each; NaN where the stretches with weights do not fill `LEAST_BLOCKS`
        blocks.
    """
    rng = np.random.default_rng(seed)
    low, high = _intervals(sums, weights, _block_counts(len(sums), block, draws, rng))
    too_short = (weights > 0).sum(axis=0) < LEAST_BLOCKS * block
    return np.where(too_short, np.nan, low), np.where(too_short, np.nan, high)


def people_interval(values: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Percentile intervals of means over people, by drawing people.

    Args:
        values: One row per person (N, K); NaN where a person has no value.
        draws: How many times to draw.
        seed: The same seed gives the same intervals.

    Returns:
        Low and high ends (K,) each; NaN where fewer than two people have a value.
    """
    present = ~np.isnan(values)
    rng = np.random.default_rng(seed)
    sums = np.where(present, values, 0.0)
    weights = present.astype(np.float64)
    low, high = _intervals(sums, weights, _people_counts(len(values), draws, rng))
    too_few = present.sum(axis=0) < 2
    return np.where(too_few, np.nan, low), np.where(too_few, np.nan, high)


def _intervals(sums: Floats, weights: Floats, counts: Iterator[Counts]) -> tuple[Floats, Floats]:
    """Quantiles of the ratios of drawn sums; draws without any weight are left out."""
    ratios = []
    for part in counts:
        drawn = part @ weights
        ratio = np.full(drawn.shape, np.nan)
        np.divide(part @ sums, drawn, out=ratio, where=drawn > 0)
        ratios.append(ratio)
    values = np.concatenate(ratios)
    ends = np.full((2, values.shape[1]), np.nan)
    defined = ~np.isnan(values).all(axis=0)
    shares = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ends[:, defined] = np.nanquantile(values[:, defined], shares, axis=0)
    return ends[0], ends[1]


def _sizes(length: int, draws: int) -> Iterator[int]:
    """How many draws to hold at once."""
    most = max(1, _MOST // max(1, length))
    for first in range(0, draws, most):
        yield min(most, draws - first)


def _block_counts(
    length: int, block: int, draws: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """How often each stretch is drawn (draws, N), in parts."""
    block = min(block, length)
    number = -(-length // block) if block else 0
    for size in _sizes(length, draws):
        starts = rng.integers(length, size=(size, number)) if length else np.empty((size, 0), int)
        # One more from each start on, one less from each end on; what runs over begins anew.
        changes = np.zeros((size, length + block + 1))
        row = np.arange(size)[:, None]
        np.add.at(changes, (row, starts), 1.0)
        np.add.at(changes, (row, starts + block), -1.0)
        running = changes.cumsum(axis=1)
        counts = running[:, :length]
        counts[:, : block + 1][:, :length] += running[:, length:][:, :length]
        yield counts


def _people_counts(length: int, draws: int, rng: np.random.Generator) -> Iterator[Counts]:
    shares = np.full(length, 1 / length) if length else np.empty(0)
    for size in _sizes(length, draws):
        counts = rng.multinomial(length, shares, size=size)
        yield counts.astype(np.float64)

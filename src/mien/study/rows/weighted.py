"""Means, spreads and quantiles of values that stand for different times."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mien.tasks import Floats

__all__ = ["weighted_mean", "weighted_quantile", "weighted_sd"]


def _present(values: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64, without values that are missing or stand for no time."""
    x = np.asarray(values, np.float64)
    w = np.asarray(weights, np.float64)
    present = ~np.isnan(x) & (w > 0)
    return x[present], w[present]


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> float:
    """Mean of values by weight.

    Args:
        values: Values (N,); NaN where missing.
        weights: Weights (N,), such as durations in s.

    Returns:
        The mean; NaN where nothing is present.

    >>> weighted_mean([1.0, 4.0, float("nan")], [2.0, 1.0, 5.0])
    2.0
    """
    x, w = _present(values, weights)
    return float(x @ w / w.sum()) if x.size else float("nan")


def weighted_sd(values: ArrayLike, weights: ArrayLike) -> float:
    """Standard deviation by weight, with population moments: of the time seen, not of a sample.

    Args:
        values: Values (N,); NaN where missing.
        weights: Weights (N,).

    Returns:
        The deviation; NaN where nothing is present.

    >>> weighted_sd([1.0, 4.0], [1.0, 1.0])
    1.5
    """
    x, w = _present(values, weights)
    if not x.size:
        return float("nan")
    centred = x - x @ w / w.sum()
    return float(np.sqrt(centred**2 @ w / w.sum()))


def weighted_quantile(values: ArrayLike, weights: ArrayLike, shares: Sequence[float]) -> Floats:
    """Quantiles by weight: the least value below or at which that share of the weight lies.

    Args:
        values: Values (N,); NaN where missing.
        weights: Weights (N,).
        shares: Shares (Q,), 0..1.

    Returns:
        The quantiles (Q,); NaN where nothing is present.

    >>> weighted_quantile([3.0, 1.0, 2.0], [1.0, 2.0, 1.0], [0.5, 0.75]).tolist()
    [1.0, 2.0]
    """
    x, w = _present(values, weights)
    if not x.size:
        return np.full(len(shares), np.nan)
    quantiles: Floats = np.quantile(x, shares, weights=w, method="inverted_cdf")
    return quantiles

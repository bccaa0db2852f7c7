"""Two or more models' scores put together: a weighted mean, or one model where it is sure."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from mien.errors import DataError
from mien.tasks import Floats

__all__ = ["add_bias", "blend", "logit_blend", "override", "rows_with_nan"]

# Probabilities are not taken to be smaller, where their logarithms are infinite.
_LEAST: Final = 1e-8


def blend(parts: Sequence[ArrayLike], weights: Sequence[float]) -> Floats:
    """Weighted mean of two or more models' scores.

    Args:
        parts: (N, K) each, in one order of columns: probabilities, values, or raw output (a logit
            blend).
        weights: One for each part, >= 0; they are divided by their sum.

    Returns:
        The mean (N, K).

    Raises:
        ValueError: For other weights.
        DataError: For NaN, and for parts that do not fit together.

    >>> blend([[[0.0, 1.0]], [[1.0, 0.0]]], [0.75, 0.25]).tolist()
    [[0.25, 0.75]]
    """
    arrays = [np.asarray(part, np.float64) for part in parts]
    _check_weights(len(arrays), weights)
    _check_parts(arrays)
    # Both sums in one order, so that no mean of probabilities is above 1.
    total = np.zeros(arrays[0].shape)
    total_weight = 0.0
    for part, weight in zip(arrays, np.asarray(weights, np.float64).tolist(), strict=True):
        total = total + weight * part
        total_weight = total_weight + weight
    return np.asarray(total / total_weight)


def logit_blend(parts: Sequence[ArrayLike], weights: Sequence[float]) -> Floats:
    """Weighted mean of the logits of two or more models' shares of classes, as shares again.

    Args:
        parts: (N, K) each, probabilities whose rows sum to 1.
        weights: As for `blend`.

    Returns:
        Probabilities (N, K).

    Raises:
        ValueError: As for `blend`.
        DataError: As for `blend`.

    >>> logit_blend([[[0.5, 0.5]], [[0.9, 0.1]]], [1.0, 1.0]).round(3).tolist()
    [[0.75, 0.25]]
    """
    # Up to a constant, which the softmax removes, the logits of classes are their logarithms.
    logits = blend([np.log(np.maximum(part, _LEAST)) for part in parts], weights)
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def add_bias(scores: ArrayLike, bias: ArrayLike) -> Floats:
    """Add a bias for each class to the logarithms of the probabilities, and divide by the sum.

    Args:
        scores: Probabilities (N, K).
        bias: One number for each class (K,); what counts are their differences.

    Returns:
        Probabilities (N, K).

    Raises:
        DataError: For another number of classes, and for NaN.

    >>> add_bias([[0.5, 0.5], [0.9, 0.1]], [0.0, np.log(3)]).round(2).tolist()
    [[0.25, 0.75], [0.75, 0.25]]
    """
    values = np.asarray(scores, np.float64)
    offsets = np.asarray(bias, np.float64)
    if values.ndim != 2 or offsets.shape != values.shape[1:] or not np.isfinite(values).all():
        raise DataError(
            f"a bias takes (N, K) scores without NaN and K numbers, got {values.shape} and "
            f"{offsets.shape}"
        )
    logits = np.log(np.maximum(values, _LEAST)) + offsets
    # The largest logit becomes 0, so that nothing overflows.
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _check_weights(parts: int, weights: Sequence[float]) -> None:
    values = np.asarray(weights, np.float64)
    fits = parts >= 2 and values.shape == (parts,)
    if not fits or not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise ValueError(
            "a blend takes two or more parts and a weight >= 0 for each, "
            f"got {parts} parts and the weights {list(weights)}"
        )


def _check_parts(parts: Sequence[Floats]) -> None:
    shapes = {part.shape for part in parts}
    if parts[0].ndim != 2 or len(shapes) > 1:
        shown = ", ".join(str(part.shape) for part in parts)
        raise DataError(f"the parts of a blend must all be (N, K), got {shown}")
    for number, part in enumerate(parts):
        missing = rows_with_nan(part)
        if missing:
            raise DataError(
                f"part {number} of the blend is NaN in {missing} of {len(part)} rows; "
                "fill missing rows first"
            )


def override(
    scores: ArrayLike, by: ArrayLike, threshold: float, slots: Sequence[int] | None = None
) -> Floats:
    """Scores with the rows about which another model is sure taken from that model.

    HSEmotion did so at ABAW8 (EXPR).

    Args:
        scores: (N, K).
        by: (N, K) the other model's probabilities, in the same order of classes, smoothed where
            that is wanted.
        threshold: A row is taken where the highest probability among the slots is above it; at 1
            none is.
        slots: The columns of `by` that have a say, all by default; ABAW's ``other`` has none where
            the other model does not know it. A row that is taken holds 0 in the other columns, so
            its class is the other model's.

    Returns:
        Scores (N, K).

    Raises:
        DataError: For NaN, slots that do not exist, and shapes that do not fit.

    >>> override([[0.4, 0.6], [0.4, 0.6]], [[0.9, 0.1], [0.6, 0.4]], threshold=0.7).tolist()
    [[0.9, 0.1], [0.4, 0.6]]
    """
    values = np.asarray(scores, np.float64)
    other = np.asarray(by, np.float64)
    fits = values.ndim == 2 and values.shape == other.shape
    if not fits or np.isnan(values).any() or np.isnan(other).any():
        raise DataError(
            "an override takes two (N, K) arrays without NaN, "
            f"got {values.shape} and {other.shape}; fill missing rows first"
        )
    classes = values.shape[1]
    columns = list(range(classes) if slots is None else slots)
    if not columns or not set(columns) <= set(range(classes)):
        raise DataError(
            f"slots {columns} are not columns of {classes} classes; "
            f"give numbers from 0 to {classes - 1}"
        )
    sure = other[:, columns].max(axis=1) > threshold
    taken = np.zeros_like(other)
    taken[:, columns] = other[:, columns]
    return np.where(sure[:, None], taken, values)


def rows_with_nan(values: Floats) -> int:
    """How many rows lack a score.

    Args:
        values: Scores (N, K).

    Returns:
        The number of rows with a NaN in any column.
    """
    return int(np.isnan(values).any(axis=1).sum())

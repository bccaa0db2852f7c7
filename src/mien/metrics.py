"""How good predictions are: pure functions, numpy in, float out.

NaN in a target means "not annotated" and that entry is dropped; a prediction is never dropped, so
NaN there is an error. NaN as a result means "undefined", never 0. A metric knows no challenge; the
challenges' formulas are in `mien.protocols`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.tasks import Floats

__all__ = [
    "accuracy",
    "au_f1",
    "bootstrap",
    "ccc",
    "class_f1",
    "ece",
    "f1",
    "macro_f1",
    "mean_au_f1",
    "pearson",
]

NAN: Final = float("nan")


def _annotated(pred: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 vectors without the entries whose target is NaN.

    Raises ValueError where they do not fit together.
    """
    p = np.asarray(pred, np.float64)
    t = np.asarray(target, np.float64)
    if p.shape != t.shape:
        raise ValueError(f"pred and target must have one shape, got {p.shape} and {t.shape}")
    annotated = ~np.isnan(t)
    missing = int(np.isnan(p[annotated]).sum())
    # Dropping them would reward a model that stays silent on hard frames.
    if missing:
        raise ValueError(
            f"pred is NaN in {missing} annotated entries; "
            "a missing prediction must be filled, not dropped"
        )
    return p[annotated], t[annotated]


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else NAN


def ccc(pred: ArrayLike, target: ArrayLike) -> float:
    """Lin's concordance correlation coefficient (1989), -1..1, with population moments (ddof=0).

    Args:
        pred: Predictions (N,).
        target: Annotations (N,) in the same unit; NaN where not annotated.

    Returns:
        The coefficient. A constant target against a varying prediction gives 0 by the formula; NaN
        with fewer than two annotated entries, or where both sides are constant and equal.

    Raises:
        ValueError: See `accuracy`.

    >>> round(ccc([2.5, 0, 2, 8], [3, -0.5, 2, 7]), 5)
    0.97679
    """
    p, t = _annotated(pred, target)
    if p.size < 2:
        return NAN
    # A common shift changes nothing, but makes equal constants exactly 0.
    p = p - t[0]
    t = t - t[0]
    spread = p.var() + t.var() + (p.mean() - t.mean()) ** 2
    if not spread:
        return NAN
    covariance = np.mean((p - p.mean()) * (t - t.mean()))
    return float(2 * covariance / spread)


def pearson(pred: ArrayLike, target: ArrayLike) -> float:
    """Pearson's correlation, -1..1.

    Args:
        pred: Predictions (N,).
        target: Annotations (N,); NaN where not annotated.

    Returns:
        The correlation; NaN with fewer than two annotated entries or a constant side.

    Raises:
        ValueError: See `accuracy`.

    >>> round(pearson([1, 2, 3, 9], [2, 4, 6, float("nan")]), 12)
    1.0
    """
    p, t = _annotated(pred, target)
    if p.size < 2 or np.ptp(p) == 0 or np.ptp(t) == 0:
        return NAN
    p = p - p.mean()
    t = t - t.mean()
    return float(p @ t / np.sqrt((p @ p) * (t @ t)))


def accuracy(pred: ArrayLike, target: ArrayLike) -> float:
    """Share of annotated entries, 0..1, where the prediction equals the target.

    Args:
        pred: Class numbers or 0/1 decisions, of any shape.
        target: The same, of that shape; NaN where not annotated.

    Returns:
        The share; NaN with nothing annotated.

    Raises:
        ValueError: When the shapes differ or an annotated entry has no prediction.

    >>> accuracy([0, 1, 2, 5], [0, 1, 1, float("nan")])
    0.6666666666666666
    """
    p, t = _annotated(pred, target)
    return _mean(p == t)


def f1(pred: ArrayLike, target: ArrayLike) -> float:
    """Binary F1 = 2 TP / (2 TP + FP + FN), 0..1.

    Args:
        pred: Decisions (N,), 0 or 1.
        target: Annotations (N,), 0 or 1; NaN where not annotated.

    Returns:
        F1; NaN where neither side holds a positive.

    Raises:
        ValueError: As `accuracy` does, and for values other than 0 and 1.

    >>> f1([1, 1, 0, 0], [1, 0, 1, float("nan")])
    0.5
    """
    p, t = _annotated(pred, target)
    hint = "f1 compares decisions, 0 or 1; apply a threshold first"
    _check_values(np.concatenate([p, t]), (0, 1), hint)
    return _f1(p == 1, t == 1)


def _f1(p: NDArray[np.bool_], t: NDArray[np.bool_]) -> float:
    # 2 TP + FP + FN: each true positive is counted on both sides.
    positives = int(p.sum()) + int(t.sum())
    if not positives:
        return NAN
    true_positives = int((p & t).sum())
    return 2 * true_positives / positives


def _check_values(values: Floats, known: Sequence[int], hint: str) -> None:
    """Raise ValueError, which ends with `hint`, for a value that is not among the known."""
    unknown = values[~np.isin(values, list(known))]
    if unknown.size:
        raise ValueError(f"found {unknown.min():g}, but {hint}")


def class_f1(pred: ArrayLike, target: ArrayLike, classes: Sequence[int]) -> Floats:
    """F1 of each class, one against the rest.

    Args:
        pred: Class numbers (N,).
        target: Class numbers (N,); NaN where not annotated.
        classes: The K class numbers there are.

    Returns:
        F1 (K,), 0..1; NaN for a class on neither side.

    Raises:
        ValueError: As `accuracy` does, and for class numbers outside `classes`.

    >>> class_f1([0, 0, 1], [0, 1, 1], range(3)).round(3).tolist()
    [0.667, 0.667, nan]
    """
    p, t = _annotated(pred, target)
    hint = f"classes are {list(classes)}; remap by name with Task.column_index"
    _check_values(np.concatenate([p, t]), classes, hint)
    return np.array([_f1(p == number, t == number) for number in classes])


def macro_f1(pred: ArrayLike, target: ArrayLike, classes: Sequence[int]) -> float:
    """Mean of `class_f1`, 0..1, over a fixed list of classes.

    The divisor is always the length of the list, as in the ABAW rules (the mean over all
    categories), so a class on neither side adds 0. An average over the classes present would change
    its divisor with the model's guesses.

    Args:
        pred: Class numbers (N,).
        target: Class numbers (N,); NaN where not annotated.
        classes: The class numbers there are.

    Returns:
        The mean; NaN with nothing annotated.

    Raises:
        ValueError: See `class_f1`.

    >>> round(macro_f1([0, 0, 1], [0, 1, 1], range(3)), 3)
    0.444
    """
    _, t = _annotated(pred, target)
    if not t.size:
        return NAN
    return _mean(np.nan_to_num(class_f1(pred, target, classes)))


def au_f1(pred: ArrayLike, target: ArrayLike) -> Floats:
    """`f1` of each action unit on its own annotated rows, so that partial rows count.

    Args:
        pred: Decisions (N, K), 0 or 1.
        target: Annotations (N, K), 0 or 1; NaN where not annotated.

    Returns:
        F1 (K,), 0..1; NaN for a unit without a positive on either side.

    Raises:
        ValueError: See `f1`.

    >>> au_f1([[1, 0], [1, 1]], [[1, 0], [0, float("nan")]]).round(3).tolist()
    [0.667, nan]
    """
    return _by_column(f1, pred, target)


def mean_au_f1(pred: ArrayLike, target: ArrayLike) -> float:
    """Mean of `au_f1`, 0..1, over the units annotated at all.

    A unit without a positive on either side adds 0, as in `macro_f1`.

    Args:
        pred: Decisions (N, K), 0 or 1.
        target: Annotations (N, K), 0 or 1; NaN where not annotated.

    Returns:
        The mean; NaN with nothing annotated.

    Raises:
        ValueError: See `f1`.

    >>> mean_au_f1([[1, 0, 0], [1, 0, 1]], [[1, 0, float("nan")], [1, 0, float("nan")]])
    0.5
    """
    scores = np.nan_to_num(au_f1(pred, target))
    annotated = ~np.isnan(np.asarray(target, np.float64))
    return _mean(scores[annotated.any(axis=0)])


def _by_column(
    metric: Callable[[Floats, Floats], float], pred: ArrayLike, target: ArrayLike
) -> Floats:
    p = np.asarray(pred, np.float64)
    t = np.asarray(target, np.float64)
    if p.shape != t.shape or p.ndim != 2:
        raise ValueError(f"pred and target must both be (N, K), got {p.shape} and {t.shape}")
    scores = [metric(p[:, column], t[:, column]) for column in range(p.shape[1])]
    return np.array(scores)


def ece(probabilities: ArrayLike, target: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error, 0..1, after Guo et al. (2017).

    It compares the top probability with the accuracy, in equal-width bins.

    Args:
        probabilities: Probabilities (N, K), 0..1.
        target: Class numbers (N,); NaN where not annotated.
        bins: How many bins: (0, 1/bins], (1/bins, 2/bins], ….

    Returns:
        The error; NaN with nothing annotated.

    Raises:
        ValueError: When the shapes do not fit or a probability is outside 0..1.

    >>> round(ece([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]], [0, 1, 1]), 3)
    0.333
    """
    p = np.asarray(probabilities, np.float64)
    t = np.asarray(target, np.float64)
    if p.ndim != 2 or t.shape != p.shape[:1]:
        raise ValueError(
            f"probabilities must be (N, K) and target (N,), got {p.shape} and {t.shape}"
        )
    annotated = ~np.isnan(t)
    p = p[annotated]
    t = t[annotated]
    # Written so that NaN is refused, too.
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            "probabilities must lie within 0..1; decode the raw output with Task.decode first"
        )
    if not t.size:
        return NAN
    confidence = p.max(axis=1)
    correct = p.argmax(axis=1) == t
    # Bins are open below and closed above; 0 belongs to the first.
    bin_numbers = np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
    # |mean confidence - accuracy| of a bin, times its share of the rows, needs only this sum.
    surplus = np.bincount(bin_numbers, weights=confidence - correct)
    return float(np.abs(surplus).sum() / t.size)


def bootstrap(
    metric: Callable[..., float],
    *arrays: ArrayLike,
    groups: ArrayLike,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of ``metric(*arrays)`` by the cluster bootstrap (Field & Welsh 2007).

    Whole groups are drawn with replacement: rows of one video are alike, so drawing rows would give
    intervals far too narrow. Draws in which the metric is undefined are left out.

    Args:
        metric: What is measured.
        arrays: Its arguments, each (N, …).
        groups: Names (N,) of the videos or subjects.
        rounds: How many draws.
        level: Coverage of the interval, 0..1.
        seed: The same seed gives the same interval.

    Returns:
        Low and high end; NaN, NaN with fewer than two groups.

    Raises:
        ValueError: When the lengths differ.

    >>> bootstrap(accuracy, [1, 1, 0, 0], [1, 1, 1, 1], groups=["a", "a", "b", "b"])
    (0.0, 1.0)
    """
    tables: list[NDArray[Any]] = [np.asarray(array) for array in arrays]
    names, group_of_row = np.unique(np.asarray(groups), return_inverse=True)
    lengths = [len(table) for table in tables]
    if set(lengths) != {len(group_of_row)}:
        raise ValueError(
            f"arrays and groups must have one length, got {lengths} and {len(group_of_row)}"
        )
    if len(names) < 2:
        return NAN, NAN
    by_group = np.argsort(group_of_row, kind="stable")
    rows = np.split(by_group, np.bincount(group_of_row).cumsum()[:-1])
    draws = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    values = np.empty(rounds)
    for number, draw in enumerate(draws):
        picked = np.concatenate([rows[group] for group in draw])
        values[number] = metric(*[table[picked] for table in tables])
    values = values[~np.isnan(values)]
    if not values.size:
        return NAN, NAN
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

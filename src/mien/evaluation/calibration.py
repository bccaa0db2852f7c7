"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599).

One number divides raw expression output, so that a probability of 0.8 is right in 8 of 10 cases.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped,unused-ignore]

from mien.errors import DataError
from mien.tasks import Floats, Task

__all__ = ["COLDEST", "HOTTEST", "cross_fitted", "loss_at", "temperature"]

# Labels that raw output separates perfectly would ask for 0, useless output for infinity.
COLDEST: Final = 0.05
"""The lowest temperature that is searched."""
HOTTEST: Final = 20.0
"""The highest temperature that is searched."""


def loss_at(heat: float, raw: Floats, shares: Floats) -> float:
    """Mean cross-entropy of softmax(raw / temperature) against label shares.

    Args:
        heat: The temperature, above 0.
        raw: Raw output (N, K).
        shares: Label shares (N, K).

    Returns:
        The loss in nats.

    >>> round(loss_at(1.0, np.zeros((1, 4)), np.eye(4)[:1]) / float(np.log(4)), 6)
    1.0
    """
    logits = raw / heat
    # softmax does not change when all logits of a row move together, and exp cannot overflow now.
    logits = logits - logits.max(axis=1, keepdims=True)
    log_partition = np.log(np.exp(logits).sum(axis=1))
    losses = log_partition * shares.sum(axis=1) - (logits * shares).sum(axis=1)
    return float(losses.mean())


def temperature(raw: ArrayLike, target: ArrayLike) -> float:
    """The temperature at which softmax(raw / temperature) fits the labels best.

    The loss is convex in 1 / temperature, so a search over the temperature's logarithm ends at the
    one minimum.

    Args:
        raw: Raw output (N, K), before `Task.decode`.
        target: Class numbers (N,) or class shares (N, K); NaN = not annotated.

    Returns:
        The temperature, from `COLDEST` to `HOTTEST`.

    Raises:
        DataError: With fewer than two annotated faces, or shapes that do not fit.

    >>> rng = np.random.default_rng(0); raw = rng.normal(size=(4000, 3))
    >>> labels = [rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in raw]
    >>> round(temperature(2 * raw, labels) / 2, 1)
    1.0
    """
    logits, shares = _annotated(raw, target)

    # Over the logarithm, steps are as fine for sure networks as for unsure ones.

    def loss(log_temperature: float) -> float:
        return loss_at(float(np.exp(log_temperature)), logits, shares)

    result = minimize_scalar(
        loss,
        bounds=(float(np.log(COLDEST)), float(np.log(HOTTEST))),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(result.x))


def cross_fitted(raw: ArrayLike, target: ArrayLike, groups: ArrayLike | None = None) -> Floats:
    """Probabilities of each half of the faces, at the temperature fitted on the other half.

    No face is calibrated with its own label, so the ECE of the result is an honest one.

    Args:
        raw: Raw output (N, K), as for `temperature`.
        target: Labels, as for `temperature`. Faces without one are calibrated with their half.
        groups: Videos or subjects (N,), of which every second one, in order of appearance, makes a
            half, so that none is in both. Without them every second row does.

    Returns:
        Probabilities (N, K).

    Raises:
        DataError: With fewer than two groups, and as `temperature` does.
    """
    logits = np.asarray(raw, np.float64)
    labels = np.asarray(target, np.float64)
    number = _group_numbers(len(logits), groups)
    if len(number) != len(logits) or number.max(initial=0) < 1:
        raise DataError(
            "two halves need at least 2 groups and a group for every face; give more videos or "
            "subjects, or no groups"
        )
    even = number % 2 == 0
    heat_of_even = temperature(logits[~even], labels[~even])
    heat_of_odd = temperature(logits[even], labels[even])
    heats = np.where(even, heat_of_even, heat_of_odd)
    # The classes need no names here; decoding is the task's, so that there is one softmax.
    names = tuple(map(str, range(logits.shape[1])))
    return Task("expr.fitted", names, "one_of").decode(logits / heats[:, None])


def _group_numbers(rows: int, groups: ArrayLike | None) -> NDArray[np.intp]:
    """The number (N,) of each row's group, in order of appearance."""
    if groups is None:
        return np.arange(rows)
    _, first, code = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    # np.unique sorts names; ranking each name by its first row restores the order of appearance.
    rank = np.argsort(np.argsort(first))
    return np.asarray(rank[code])


def _annotated(raw: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Raw output (N, K) and label shares (N, K) of the annotated rows."""
    logits = np.asarray(raw, np.float64)
    labels = np.asarray(target, np.float64)
    if logits.ndim != 2 or labels.shape not in {logits.shape, logits.shape[:1]}:
        raise DataError(
            "raw output must be (N, K) and its target (N,) or (N, K), "
            f"got {logits.shape} and {labels.shape}"
        )
    by_row = labels.reshape(len(labels), -1)
    missing = np.isnan(by_row).any(axis=1)
    logits, labels = logits[~missing], labels[~missing]
    if len(logits) < 2 or not np.isfinite(logits).all():
        raise DataError(
            "a temperature needs at least 2 annotated faces with finite raw output, "
            f"got {len(logits)}; give more labelled faces"
        )
    # Class numbers become shares, so that votes and numbers have one loss.
    if labels.ndim == 1:
        classes = labels.astype(np.intp)
        return logits, np.eye(logits.shape[1])[classes]
    return logits, labels

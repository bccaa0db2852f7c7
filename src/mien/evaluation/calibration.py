"""Temperature scaling (Guo et al. 2017): one number that divides raw expression output so that probabilities mean what they say."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped,unused-ignore]

from mien.errors import DataError
from mien.tasks import Floats, Task

__all__ = ["COLDEST", "HOTTEST", "cross_fitted", "loss_at", "temperature"]

COLDEST: Final = 0.05
HOTTEST: Final = 20.0
"""The search stays within these; labels that raw output separates perfectly would ask for 0, useless output for infinity."""


def _annotated(raw: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Raw output (N, K) and label shares (N, K) of the annotated rows; class numbers become one-hot shares."""
    out, told = np.asarray(raw, np.float64), np.asarray(target, np.float64)
    if out.ndim != 2 or told.shape not in {out.shape, out.shape[:1]}:
        raise DataError(
            f"raw output must be (N, K) and its target (N,) or (N, K), got {out.shape} and {told.shape}"
        )
    seen = ~np.isnan(told) if told.ndim == 1 else ~np.isnan(told).any(axis=1)
    out, told = out[seen], told[seen]
    if len(out) < 2 or not np.isfinite(out).all():
        raise DataError(
            f"a temperature needs at least 2 annotated faces with finite raw output, got {len(out)}; give more labelled faces"
        )
    return out, told if told.ndim == 2 else np.eye(out.shape[1])[told.astype(np.intp)]


def loss_at(heat: float, raw: Floats, shares: Floats) -> float:
    """Mean cross-entropy, nats, of softmax(raw / heat) against label shares; raw and shares (N, K).

    >>> round(loss_at(1.0, np.zeros((1, 4)), np.eye(4)[:1]) / float(np.log(4)), 6)
    1.0
    """
    cold = raw / heat
    cold = cold - cold.max(axis=1, keepdims=True)
    return float(
        (np.log(np.exp(cold).sum(axis=1)) * shares.sum(axis=1) - (cold * shares).sum(axis=1)).mean()
    )


def temperature(raw: ArrayLike, target: ArrayLike) -> float:
    """The temperature that makes softmax(raw / temperature) fit the labels best (Guo et al. 2017), within 0.05..20.

    raw: (N, K), before `Task.decode`. target: class numbers (N,) or class shares (N, K); NaN = not annotated.
    The loss is convex in 1 / temperature, so a search over its logarithm finds the one minimum. Raises DataError with fewer than two
    annotated faces or shapes that do not fit.

    >>> rng = np.random.default_rng(0); raw = rng.normal(size=(4000, 3))
    >>> told = [rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in raw]
    >>> round(temperature(2 * raw, told) / 2, 1)
    1.0
    """
    out, shares = _annotated(raw, target)
    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    found = minimize_scalar(
        lambda log: loss_at(float(np.exp(log)), out, shares),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def cross_fitted(raw: ArrayLike, target: ArrayLike, groups: ArrayLike | None = None) -> Floats:
    """Probabilities (N, K), each half of the faces with the temperature fitted on the other half: an honest basis for ECE.

    raw, target: as for `temperature`. groups: (N,) videos or subjects, of which every second one, as they come, makes a half, so that none
    is on both sides; without them every second row. Faces without a label get the temperature of their half too.
    Raises DataError with fewer than two groups, and as `temperature` does.
    """
    out = np.asarray(raw, np.float64)
    told = np.asarray(target, np.float64)
    if groups is None:
        number = np.arange(len(out))
    else:
        _, first, code = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        number = np.argsort(np.argsort(first))[code]
    if len(number) != len(out) or number.max(initial=0) < 1:
        raise DataError(
            "two halves need at least 2 groups and a group for every face; give more videos or subjects, or no groups"
        )
    half = number % 2 == 0
    heats = np.where(half, temperature(out[~half], told[~half]), temperature(out[half], told[half]))
    classes = Task("expr.fitted", tuple(str(i) for i in range(out.shape[1])), "one_of")
    return classes.decode(out / heats[:, None])

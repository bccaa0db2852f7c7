"""Thresholds, weights and other settings chosen on labelled rows, and an honest figure for them.

A setting that is chosen and judged on the same rows flatters itself. So every choice is made 1 + F
times. A versioned array (V, N, K), V = 1 + F, holds the scores of all N rows once for each choice:
version 0 was chosen on all rows, version f (1..F) on the rows outside fold f-1. Folds are made of
whole videos (`video_folds`). Each step of a chain (blend, smooth, decide) takes a versioned array
and gives one, so the rows of a fold never have a say in their own version, however long the chain.
At its end

- version 0 judged on all rows is the in-sample figure, as papers print it;
- `nested` takes each row from the version that did not see it: the honest figure;
- the choice of version 0 is the one to use on new data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError
from mien.systems.ensemble import rows_with_nan
from mien.tasks import Floats
from mien.temporal.rows import Codes, group_codes

__all__ = [
    "COMPOUND_COUNTS",
    "GRID",
    "Tuned",
    "decide",
    "divergence",
    "fit",
    "kl_to",
    "nested",
    "thresholds_for",
    "tune",
    "versions",
    "video_folds",
]

P = TypeVar("P")
Mask = NDArray[np.bool_]

GRID: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds to choose from."""
COMPOUND_COUNTS: Final = (14445, 24915, 10780, 10637, 10535, 10112, 8878)
"""Published faces of each class of ``ce.abaw7``, in its order (C-EXPR-DB; HSEmotion at ABAW7)."""


@dataclass(frozen=True, slots=True)
class Tuned(Generic[P]):
    """A setting that was chosen for every version, and its effect.

    Attributes:
        chosen: The choice of each version (V); the first is the one to use on new data.
        values: (V, N, K) every version's choice applied to all rows.
    """

    chosen: tuple[P, ...]
    values: Floats


def video_folds(groups: ArrayLike, folds: int = 5, seed: int = 0) -> Codes:
    """Folds of whole videos with about the same number of rows.

    Groups go one by one to the fold that has the fewest rows so far: the large ones first, those of
    about one size (within a power of two) in the order that `seed` draws.

    Args:
        groups: (N,) names of the videos, or of the recordings where several videos show one.
        folds: How many folds, at least 2.
        seed: Seed of the order.

    Returns:
        Fold numbers (N,) 0..folds-1; all rows of a group are in one fold.

    Raises:
        ValueError: For fewer than 2 folds.
        DataError: For a row without a group, or fewer groups than folds.

    >>> video_folds(["a", "a", "b", "c", "c", "d"], folds=2).tolist().count(0)
    3
    """
    if folds < 2:
        raise ValueError(f"an honest choice needs at least 2 folds, got {folds}")
    # Whole videos: neighbouring frames are alike, and in two folds they would judge themselves.
    code, names = group_codes(groups, len(np.asarray(groups)))
    if len(names) < folds:
        raise DataError(
            f"{folds} folds need at least {folds} videos, got {len(names)}; use fewer folds"
        )
    sizes = np.bincount(code)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    # Large groups first, or the last one may upset folds that were even.
    size_class = -np.log2(sizes).astype(np.int64)
    fold_of = np.empty(len(sizes), np.int64)
    rows = np.zeros(folds, np.int64)
    for group in np.lexsort((shuffled, size_class)):
        smallest = rows.argmin()
        fold_of[group] = smallest
        rows[smallest] += sizes[group]
    return fold_of[code]


def versions(values: ArrayLike, folds: int) -> Floats:
    """Scores that were fitted on none of the rows, as a versioned array.

    Args:
        values: Scores (…, N, K).
        folds: Number of folds.

    Returns:
        (1 + folds, …, N, K), a view that must not be written to.

    >>> versions([[0.2, 0.8]], folds=5).shape
    (6, 1, 2)
    """
    scores = np.asarray(values, np.float64)
    return np.broadcast_to(scores, (1 + folds, *scores.shape))


def nested(values: ArrayLike, fold: ArrayLike) -> Floats:
    """Each row from the version that did not see it.

    Args:
        values: Versioned scores (V, N, K).
        fold: Fold numbers (N,) as from `video_folds`.

    Returns:
        Scores (N, K).

    Raises:
        DataError: Where they do not fit together.

    >>> nested([[[0.0], [0.0]], [[1.0], [2.0]], [[3.0], [4.0]]], [0, 1]).tolist()
    [[1.0], [4.0]]
    """
    scores = np.asarray(values)
    number = _checked_folds(scores, fold)
    # Fold f is what version f + 1 did not see: version 0 saw everything.
    rows = np.arange(len(number))
    return np.asarray(scores[number + 1, rows])


@dataclass(slots=True)
class _Best(Generic[P]):
    """The best candidate of one version so far."""

    figure: float
    candidate: P
    values: Floats


def tune(
    candidates: Sequence[P],
    apply: Callable[[P, Floats], Floats],
    judge: Callable[[Floats, Floats], float],
    inputs: Floats,
    *,
    target: ArrayLike,
    fold: ArrayLike,
) -> Tuned[P]:
    """The best of several candidates, chosen anew for each version on the rows it may see.

    Args:
        candidates: In the order of preference; of equals the first is taken.
        apply: (candidate, one version's input (…, N, K)) -> scores (N, K). It gets all rows, so
            that rows without a label are smoothed over too, and must not mix videos.
        judge: (scores (n, K), target (n, …)) of the rows that are labelled and may be seen ->
            figure, the higher the better; NaN: undefined.
        inputs: Versioned (V, …, N, K); the parts of a blend are stacked in the second place,
            (V, P, N, K).
        target: (N,) or (N, K), NaN = not annotated.
        fold: (N,) as from `video_folds`.

    Returns:
        The choices, applied.

    Raises:
        DataError: Where arrays do not fit together, or a version cannot judge any candidate.
    """
    number = _checked_folds(inputs, fold)
    labels = _checked_target(target, inputs.shape[-2])
    # A row with a single annotated unit is judged too: the measure drops what is NaN.
    labelled = ~np.isnan(labels.reshape(len(labels), -1)).all(axis=1)
    rows = [np.flatnonzero(seen & labelled) for seen in _rows_seen(number, len(inputs))]
    # One pass over the candidates: their results for all rows are large, and only the best stay.
    best: list[_Best[P] | None] = [None] * len(inputs)
    # An array from `versions` holds one input for all, so one result serves all.
    shared = inputs.strides[0] == 0
    for candidate in candidates:
        values: Floats | None = None
        for version, seen in enumerate(rows):
            if values is None or not shared:
                values = np.asarray(apply(candidate, inputs[version]))
            figure = judge(values[seen], labels[seen]) if len(seen) else np.nan
            # An undefined figure is neither better nor worse than another.
            if np.isnan(figure):
                continue
            previous = best[version]
            if previous is None or figure > previous.figure:
                best[version] = _Best(figure, candidate, values)
    chosen = [choice for choice in best if choice is not None]
    if len(chosen) < len(best):
        failed = best.index(None)
        raise DataError(
            f"version {failed} can judge none of {len(candidates)} candidates on its "
            f"{len(rows[failed])} labelled rows; use fewer folds or more labels"
        )
    return Tuned(
        tuple(choice.candidate for choice in chosen),
        np.stack([choice.values for choice in chosen]),
    )


def fit(
    choose: Callable[[Floats, Mask], P],
    apply: Callable[[P, Floats], Floats],
    inputs: Floats,
    fold: ArrayLike,
) -> Tuned[P]:
    """As `tune`, for a setting with a rule of its own in place of candidates.

    Args:
        choose: (one version's input (…, N, K), which rows (N,) may be seen) -> setting, such as
            `thresholds_for` or `fit_strides`; it must look at those rows alone.
        apply: (setting, one version's input) -> scores (N, K).
        inputs: Versioned (V, …, N, K).
        fold: (N,) as from `video_folds`.

    Returns:
        The settings, applied.

    Raises:
        DataError: Where arrays do not fit together.

    >>> inputs = versions([[0.2], [0.3], [0.6], [0.7]], 2)
    >>> target = np.array([[0.0], [1.0], [0.0], [1.0]])
    >>> def choose(scores, rows): return thresholds_for(scores[rows], target[rows])
    >>> tuned = fit(choose, lambda limits, scores: decide(scores, limits), inputs, [0, 0, 1, 1])
    >>> [limits.tolist() for limits in tuned.chosen]
    [[0.3], [0.7], [0.3]]
    """
    seen = _rows_seen(_checked_folds(inputs, fold), len(inputs))
    chosen = []
    values = []
    for version, rows in zip(inputs, seen, strict=True):
        setting = choose(version, rows)
        chosen.append(setting)
        values.append(apply(setting, version))
    return Tuned(tuple(chosen), np.stack(values))


def thresholds_for(scores: ArrayLike, target: ArrayLike, grid: Sequence[float] = GRID) -> Floats:
    """The threshold of each unit at which its F1 on its annotated rows is highest.

    A unit is on from its threshold up. Of equals the one nearest to 0.5 is taken, then the lower;
    so also for a unit of which nothing is annotated, or nothing positive.

    Args:
        scores: (N, K), finite where annotated.
        target: (N, K) 0 or 1, NaN = not annotated.
        grid: Thresholds to choose from.

    Returns:
        Thresholds (K,).

    Raises:
        ValueError: For an empty grid.
        DataError: For an annotated entry without a finite score, other targets, and shapes that do
            not fit.

    >>> scores, target = [[0.15, 0.4], [0.25, 0.6], [0.35, 0.5]], [[0, 0], [1, 1], [1, np.nan]]
    >>> thresholds_for(scores, target).tolist()
    [0.2, 0.5]
    """
    if not len(grid):
        raise ValueError("thresholds need a grid to choose from; give at least one")
    values = np.asarray(scores, np.float64)
    labels = _checked_target(target, len(values))
    if values.ndim != 2 or values.shape != labels.shape or not values.size:
        raise DataError(
            "scores and target must both be (N, K) with at least one row, "
            f"got {values.shape} and {labels.shape}"
        )
    annotated = ~np.isnan(labels)
    if not np.isfinite(values[annotated]).all() or not np.isin(labels[annotated], (0, 1)).all():
        raise DataError(
            "thresholds need a finite score and a target of 0 or 1 for every annotated entry; "
            "fill missing rows first"
        )
    preferred = np.array(sorted(grid, key=_distance_from_half))
    # A comparison with NaN is false, so what is not annotated is no positive.
    positive = labels == 1
    f1 = np.stack([_f1((values >= limit) & annotated, positive) for limit in preferred])
    # argmax takes the first of equals.
    return np.asarray(preferred[f1.argmax(axis=0)])


def _distance_from_half(threshold: float) -> tuple[float, float]:
    # Rounding makes 0.4 and 0.6 equally far from 0.5, so that the lower one is preferred.
    return round(abs(threshold - 0.5), 9), threshold


def _f1(on: Mask, positive: Mask) -> Floats:
    """F1 (K,) of decisions (N, K), as in `mien.metrics.f1`; 0 where neither side has a positive."""
    hits = (on & positive).sum(axis=0)
    positives = on.sum(axis=0) + positive.sum(axis=0)
    return np.asarray(2 * hits / np.maximum(positives, 1))


def decide(scores: ArrayLike, thresholds: ArrayLike = 0.5) -> Floats:
    """Decisions from scores: a unit is on from its threshold up.

    Args:
        scores: (N, K).
        thresholds: (K,), or one for all.

    Returns:
        (N, K), 0.0 or 1.0.

    Raises:
        DataError: For scores that are NaN: a blank is not a "no".

    >>> decide([[0.2, 0.5]], [0.1, 0.6]).tolist()
    [[1.0, 0.0]]
    """
    values = np.asarray(scores, np.float64)
    limits = np.asarray(thresholds, np.float64)
    if values.ndim != 2 or limits.shape not in {(), values.shape[1:]}:
        raise DataError(
            "scores must be (N, K) and thresholds (K,) or one number, "
            f"got {values.shape} and {limits.shape}"
        )
    missing = rows_with_nan(values)
    if missing:
        raise DataError(
            f"scores are NaN in {missing} of {len(values)} rows; fill missing rows first"
        )
    return np.asarray((values >= limits).astype(np.float64))


def kl_to(frequencies: ArrayLike, decisions: ArrayLike) -> float:
    """Kullback-Leibler divergence of the decided classes from published frequencies.

    With p the published shares and q the decided ones it is the sum of p log(p / q). It chooses a
    model without labels (HSEmotion at ABAW7): the one whose decisions are spread most like the
    published classes.

    Args:
        frequencies: (K,) counts or shares, such as `COMPOUND_COUNTS`.
        decisions: (N,) class numbers 0..K-1.

    Returns:
        Nats, >= 0; infinite where a class that exists is never decided.

    Raises:
        DataError: For no decisions, or any that is no class number.

    >>> round(kl_to([1, 1], [0, 0, 0, 1]), 4)
    0.1438
    """
    published = np.asarray(frequencies, np.float64)
    decided = np.asarray(decisions, np.float64)
    finite = np.isfinite(published) & (published >= 0)
    if published.ndim != 1 or not published.any() or not finite.all():
        raise DataError(f"frequencies must be (K,) counts or shares, got {published.tolist()}")
    classes = len(published)
    if decided.ndim != 1 or not decided.size or not np.isin(decided, range(classes)).all():
        raise DataError(
            f"decisions must be (N,) class numbers from 0 to {classes - 1}, at least one; "
            f"got the shape {decided.shape}"
        )
    counts = np.bincount(decided.astype(np.int64), minlength=classes)
    return float(divergence(published, counts))


def divergence(frequencies: ArrayLike, counts: ArrayLike) -> Floats:
    """Kullback-Leibler divergences, as of `kl_to`, of counted decisions.

    Args:
        frequencies: (K,) published counts or shares.
        counts: (…, K) decisions of each class.

    Returns:
        Nats (…).

    >>> divergence([1, 1], [[3, 1], [2, 2], [4, 0]]).round(4).tolist()
    [0.1438, 0.0, inf]
    """
    published = np.asarray(frequencies, np.float64)
    decided = np.asarray(counts, np.float64)
    # A class that does not exist adds 0, whatever was decided.
    exists = published > 0
    p = (published / published.sum())[exists]
    q = (decided / decided.sum(axis=-1, keepdims=True))[..., exists]
    # A class that exists and is never decided divides by 0, which is the infinity that is meant.
    with np.errstate(divide="ignore"):
        return np.asarray((p * np.log(p / q)).sum(axis=-1))


def _checked_folds(values: NDArray[Any], fold: ArrayLike) -> Codes:
    """Fold numbers (N,) that fit a versioned array (V, …, N, K)."""
    number = np.asarray(fold)
    fits = values.ndim >= 3 and number.shape == values.shape[-2:-1] and number.size > 0
    if not fits or not np.issubdtype(number.dtype, np.integer):
        raise DataError(
            "a versioned array is (V, N, K) with a whole fold number for each row, "
            f"got {values.shape} and {number.shape}"
        )
    # An empty fold would leave a version that saw every row, and nobody would notice.
    numbers = np.unique(number).tolist()
    if numbers != list(range(len(values) - 1)):
        raise DataError(
            f"{len(values)} versions need the folds 0 to {len(values) - 2}, got {numbers}"
        )
    return number.astype(np.int64)


def _rows_seen(number: Codes, count: int) -> list[Mask]:
    """Which rows (N,) each version may see: the first all, the others all but their fold."""
    seen = [np.ones(len(number), np.bool_)]
    for fold in range(count - 1):
        seen.append(number != fold)
    return seen


def _checked_target(target: ArrayLike, rows: int) -> Floats:
    labels = np.asarray(target, np.float64)
    if labels.ndim not in {1, 2} or len(labels) != rows:
        raise DataError(f"target must be (N,) or (N, K) with {rows} rows, got {labels.shape}")
    return labels

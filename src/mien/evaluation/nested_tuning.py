"""Decisions, blends and other settings that are chosen on labelled rows, and the honest way to say how good the choice is.

A setting that is chosen and judged on the same rows flatters itself. So every choice is made 1 + F times. A versioned array
(V, N, K), V = 1 + F, holds the scores of all N rows once for each choice: version 0 was chosen on all rows, version f (1..F) on
the rows outside fold f-1. Folds are made of whole videos (`video_folds`). Each step of a chain (blend, smooth, decide) takes a
versioned array and gives one, so the rows of a fold never have a say in their own version, however long the chain. At its end

- version 0 judged on all rows is the figure of the papers: tuned and judged on the same rows;
- `nested` takes each row from the version that did not see it: the honest figure;
- the choice of version 0 is the one to use on new data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import DataError
from mien.tasks import Floats
from mien.temporal.rows import Codes, group_codes

__all__ = [
    "COMPOUND_COUNTS", "GRID", "Tuned", "blend", "decide", "divergence", "fit", "kl_to", "nested", "override", "thresholds_for",
    "tune", "versions", "video_folds",
]  # fmt: skip

P = TypeVar("P")
Mask = NDArray[np.bool_]

GRID: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COMPOUND_COUNTS: Final = (14445, 24915, 10780, 10637, 10535, 10112, 8878)
"""Published numbers of faces of each class of ``ce.abaw7``, in its order (C-EXPR-DB; HSEmotion at ABAW7)."""


@dataclass(frozen=True, slots=True)
class Tuned(Generic[P]):
    """What was chosen, and what came of it.

    chosen: the choice of each version (V); the first is the one to use on new data.
    values: (V, N, K), every version's choice applied to all rows.
    """

    chosen: tuple[P, ...]
    values: Floats


def video_folds(groups: ArrayLike, folds: int = 5, seed: int = 0) -> Codes:
    """Fold numbers (N,) 0..folds-1; all rows of a group are in one fold, and folds have about the same number of rows.

    groups: (N,) names of the videos, or of the recordings where several videos show one. Groups go one by one to the fold that has
    the fewest rows so far: the large ones first, those of about one size (within a power of two) in the order that `seed` draws.
    Raises ValueError for fewer than 2 folds, DataError for a row without a group or fewer groups than folds.

    >>> video_folds(["a", "a", "b", "c", "c", "d"], folds=2).tolist().count(0)
    3
    """
    if folds < 2:
        raise ValueError(f"an honest choice needs at least 2 folds, got {folds}")
    code, names = group_codes(groups, len(np.asarray(groups)))
    if len(names) < folds:
        raise DataError(
            f"{folds} folds need at least {folds} videos, got {len(names)}; use fewer folds"
        )
    sizes = np.bincount(code)
    chance = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, rows = np.empty(len(sizes), np.int64), np.zeros(folds, np.int64)
    for group in np.lexsort((chance, -np.log2(sizes).astype(np.int64))):
        fold_of[group] = rows.argmin()
        rows[fold_of[group]] += sizes[group]
    return fold_of[code]


def versions(values: ArrayLike, folds: int) -> Floats:
    """Scores (…, N, K) that were fitted on none of the rows, as a versioned array (1 + folds, …, N, K): a view that must not be written to.

    >>> versions([[0.2, 0.8]], folds=5).shape
    (6, 1, 2)
    """
    found = np.asarray(values, np.float64)
    return np.broadcast_to(found, (1 + folds, *found.shape))


def nested(values: ArrayLike, fold: ArrayLike) -> Floats:
    """Scores (N, K), each row from the version that did not see it.

    values: versioned (V, N, K). fold: (N,) as from `video_folds`. Raises DataError where they do not fit together.

    >>> nested([[[0.0], [0.0]], [[1.0], [2.0]], [[3.0], [4.0]]], [0, 1]).tolist()
    [[1.0], [4.0]]
    """
    found = np.asarray(values)
    number = _folds(found, fold)
    return np.asarray(found[number + 1, np.arange(len(number))])


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

    candidates: in the order of preference; of equals the first is taken.
    apply: (candidate, one version's input (…, N, K)) -> scores (N, K). It gets all rows, so that rows without a label are smoothed over
        too, and must not mix videos.
    judge: (scores (n, K), target (n, …)) of the rows that are labelled and may be seen -> figure, the higher the better; NaN: undefined.
    inputs: versioned (V, …, N, K); the parts of a blend are stacked in the second place, (V, P, N, K).
    target: (N,) or (N, K), NaN = not annotated. fold: (N,) as from `video_folds`.
    Raises DataError where arrays do not fit together, or a version cannot judge any candidate.
    """
    number, told = _folds(inputs, fold), _target(target, inputs.shape[-2])
    labelled = ~np.isnan(told.reshape(len(told), -1)).all(axis=1)
    rows = [np.flatnonzero(seen & labelled) for seen in _seen(number, len(inputs))]
    best: list[tuple[float, P, Floats] | None] = [None] * len(inputs)
    shared = inputs.strides[0] == 0  # as from `versions`: one input, so one result
    for candidate in candidates:
        values: Floats | None = None
        for version, own in enumerate(rows):
            if values is None or not shared:
                values = np.asarray(apply(candidate, inputs[version]))
            figure, held = judge(values[own], told[own]) if len(own) else np.nan, best[version]
            if not np.isnan(figure) and (held is None or figure > held[0]):
                best[version] = figure, candidate, values
    found = [held for held in best if held is not None]
    if len(found) < len(best):
        lost = best.index(None)
        raise DataError(
            f"version {lost} can judge none of {len(candidates)} candidates on its {len(rows[lost])} labelled rows; "
            "use fewer folds or more labels"
        )
    return Tuned(
        tuple(candidate for _, candidate, _ in found), np.stack([values for *_, values in found])
    )


def fit(
    choose: Callable[[Floats, Mask], P],
    apply: Callable[[P, Floats], Floats],
    inputs: Floats,
    fold: ArrayLike,
) -> Tuned[P]:
    """As `tune`, for a setting with a rule of its own in place of candidates, such as `thresholds_for` or `fit_strides`.

    choose: (one version's input (…, N, K), which rows (N,) may be seen) -> setting; it must look at those rows alone.

    >>> inputs, target = versions([[0.2], [0.3], [0.6], [0.7]], 2), np.array([[0.0], [1.0], [0.0], [1.0]])
    >>> tuned = fit(lambda x, rows: thresholds_for(x[rows], target[rows]), lambda t, x: decide(x, t), inputs, [0, 0, 1, 1])
    >>> [t.tolist() for t in tuned.chosen]
    [[0.3], [0.7], [0.3]]
    """
    chosen = tuple(
        choose(own, seen)
        for own, seen in zip(inputs, _seen(_folds(inputs, fold), len(inputs)), strict=True)
    )
    return Tuned(
        chosen, np.stack([apply(setting, own) for setting, own in zip(chosen, inputs, strict=True)])
    )


def thresholds_for(scores: ArrayLike, target: ArrayLike, grid: Sequence[float] = GRID) -> Floats:
    """The threshold (K,) out of `grid` at which each unit's F1 on its own annotated rows is highest.

    scores: (N, K). target: (N, K) 0 or 1, NaN = not annotated. A unit is on from its threshold up. Of equals the one nearest to 0.5
    is taken, then the lower; so also for a unit of which nothing is annotated, or nothing positive.
    Raises DataError for an annotated entry without a finite score, other targets, and shapes that do not fit.

    >>> thresholds_for([[0.15, 0.4], [0.25, 0.6], [0.35, 0.5]], [[0, 0], [1, 1], [1, np.nan]]).tolist()
    [0.2, 0.5]
    """
    if not len(grid):
        raise ValueError("thresholds need a grid to choose from; give at least one")
    found = np.asarray(scores, np.float64)
    told = _target(target, len(found))
    if found.ndim != 2 or found.shape != told.shape or not found.size:
        raise DataError(
            f"scores and target must both be (N, K) with at least one row, got {found.shape} and {told.shape}"
        )
    known = ~np.isnan(told)
    if not np.isfinite(found[known]).all() or not np.isin(told[known], (0, 1)).all():
        raise DataError(
            "thresholds need a finite score and a target of 0 or 1 for every annotated entry; fill missing rows first"
        )
    positive = told == 1
    # The formula of metrics.f1 for all units at once; nothing on either side counts 0, as in metrics.mean_au_f1.
    f1 = np.zeros((len(grid), found.shape[1]))
    for figure, threshold in zip(f1, grid, strict=True):
        on = (found >= threshold) & known
        figure[:] = (
            2 * (on & positive).sum(axis=0) / np.maximum(on.sum(axis=0) + positive.sum(axis=0), 1)
        )
    by_choice = sorted(range(len(grid)), key=lambda i: (round(abs(grid[i] - 0.5), 9), grid[i]))
    return np.array([grid[by_choice[best]] for best in f1[by_choice].argmax(axis=0)])


def decide(scores: ArrayLike, thresholds: ArrayLike = 0.5) -> Floats:
    """Decisions (N, K), 0.0 or 1.0: a unit is on from its threshold up; thresholds: (K,), or one for all.

    Raises DataError for scores that are NaN: a blank is not a "no".

    >>> decide([[0.2, 0.5]], [0.1, 0.6]).tolist()
    [[1.0, 0.0]]
    """
    found, limits = np.asarray(scores, np.float64), np.asarray(thresholds, np.float64)
    if found.ndim != 2 or limits.shape not in {(), found.shape[1:]}:
        raise DataError(
            f"scores must be (N, K) and thresholds (K,) or one number, got {found.shape} and {limits.shape}"
        )
    if blank := int(np.isnan(found).any(axis=1).sum()):
        raise DataError(f"scores are NaN in {blank} of {len(found)} rows; fill missing rows first")
    return np.asarray((found >= limits).astype(np.float64))


def blend(parts: Sequence[ArrayLike], weights: Sequence[float]) -> Floats:
    """Weighted mean (N, K) of two or more parts (N, K) of one order of columns: probabilities, values, or raw output (a logit blend).

    weights: one for each part, >= 0; they are divided by their sum.
    Raises ValueError for other weights, DataError for NaN and for parts that do not fit together.

    >>> blend([[[0.0, 1.0]], [[1.0, 0.0]]], [0.75, 0.25]).tolist()
    [[0.25, 0.75]]
    """
    share = np.asarray(weights, np.float64)
    found = [np.asarray(part, np.float64) for part in parts]
    if (
        len(found) < 2
        or share.shape != (len(found),)
        or not (np.isfinite(share) & (share >= 0)).all()
        or not share.any()
    ):
        raise ValueError(
            f"a blend takes two or more parts and a weight >= 0 for each, got {len(found)} parts and the weights {list(weights)}"
        )
    if found[0].ndim != 2 or len({part.shape for part in found}) > 1:
        raise DataError(
            f"the parts of a blend must all be (N, K), got {', '.join(str(part.shape) for part in found)}"
        )
    for number, part in enumerate(found):
        if blank := int(np.isnan(part).any(axis=1).sum()):
            raise DataError(
                f"part {number} of the blend is NaN in {blank} of {len(part)} rows; fill missing rows first"
            )
    # Both sums in one order, so that no mean of probabilities is above 1.
    total, whole = np.zeros(found[0].shape), 0.0
    for part, weight in zip(found, share.tolist(), strict=True):
        total, whole = total + weight * part, whole + weight
    return np.asarray(total / whole)


def override(
    scores: ArrayLike, by: ArrayLike, threshold: float, slots: Sequence[int] | None = None
) -> Floats:
    """Scores (N, K), with the rows about which another model is sure taken from that one (HSEmotion at ABAW8, EXPR).

    by: (N, K) the other model's probabilities, in the same order of classes, smoothed where that is wanted.
    threshold: a row is taken where the highest probability among the slots is above it; at 1 none is.
    slots: the columns of `by` that have a say, all by default; ABAW's ``other`` has none where the other model does not know it. A row
        that is taken holds 0 in the other columns, so its class is the other model's.
    Raises DataError for NaN, slots that do not exist, and shapes that do not fit.

    >>> override([[0.4, 0.6], [0.4, 0.6]], [[0.9, 0.1], [0.6, 0.4]], threshold=0.7).tolist()
    [[0.9, 0.1], [0.4, 0.6]]
    """
    own, other = np.asarray(scores, np.float64), np.asarray(by, np.float64)
    if own.ndim != 2 or own.shape != other.shape or np.isnan(own).any() or np.isnan(other).any():
        raise DataError(
            f"an override takes two (N, K) arrays without NaN, got {own.shape} and {other.shape}; fill missing rows first"
        )
    columns = list(range(own.shape[1]) if slots is None else slots)
    if not columns or not set(columns) <= set(range(own.shape[1])):
        raise DataError(
            f"slots {columns} are not columns of {own.shape[1]} classes; give numbers from 0 to {own.shape[1] - 1}"
        )
    sure = other[:, columns].max(axis=1) > threshold
    taken = np.zeros_like(other)
    taken[:, columns] = other[:, columns]
    return np.where(sure[:, None], taken, own)


def kl_to(frequencies: ArrayLike, decisions: ArrayLike) -> float:
    """Kullback-Leibler divergence, nats, >= 0, of the shares of the decided classes from published frequencies: sum p log(p / q).

    A choice without labels (HSEmotion at ABAW7): the model whose decisions are spread most like the published classes.
    frequencies: (K,) counts or shares p, such as `COMPOUND_COUNTS`. decisions: (N,) class numbers 0..K-1, of which q is the shares.
    Infinite where a class that exists is never decided. Raises DataError for no decisions, or any that is no class number.

    >>> round(kl_to([1, 1], [0, 0, 0, 1]), 4)
    0.1438
    """
    p, found = np.asarray(frequencies, np.float64), np.asarray(decisions, np.float64)
    if p.ndim != 1 or not p.any() or not (np.isfinite(p) & (p >= 0)).all():
        raise DataError(f"frequencies must be (K,) counts or shares, got {p.tolist()}")
    if found.ndim != 1 or not found.size or not np.isin(found, range(len(p))).all():
        raise DataError(
            f"decisions must be (N,) class numbers from 0 to {len(p) - 1}, at least one; got the shape {found.shape}"
        )
    return float(divergence(p, np.bincount(found.astype(np.int64), minlength=len(p))))


def divergence(frequencies: ArrayLike, counts: ArrayLike) -> Floats:
    """Kullback-Leibler divergences (…), as of `kl_to`, of the shares that counts (…, K) of decisions make from frequencies (K,).

    >>> divergence([1, 1], [[3, 1], [2, 2], [4, 0]]).round(4).tolist()
    [0.1438, 0.0, inf]
    """
    p, found = np.asarray(frequencies, np.float64), np.asarray(counts, np.float64)
    real = p > 0
    p, q = (p / p.sum())[real], (found / found.sum(axis=-1, keepdims=True))[..., real]
    with np.errstate(divide="ignore"):
        return np.asarray((p * np.log(p / q)).sum(axis=-1))


def _folds(values: NDArray[Any], fold: ArrayLike) -> Codes:
    """Fold numbers (N,) that fit a versioned array (V, …, N, K)."""
    number = np.asarray(fold)
    if (
        values.ndim < 3
        or number.shape != values.shape[-2:-1]
        or not number.size
        or not np.issubdtype(number.dtype, np.integer)
    ):
        raise DataError(
            f"a versioned array is (V, N, K) with a whole fold number for each row, got {values.shape} and {number.shape}"
        )
    if set(np.unique(number).tolist()) != set(range(len(values) - 1)):
        raise DataError(
            f"{len(values)} versions need the folds 0 to {len(values) - 2}, got {np.unique(number).tolist()}"
        )
    return number.astype(np.int64)


def _seen(number: Codes, count: int) -> list[Mask]:
    """Which rows (N,) each version may see."""
    return [np.ones(len(number), np.bool_), *(number != fold for fold in range(count - 1))]


def _target(target: ArrayLike, rows: int) -> Floats:
    told = np.asarray(target, np.float64)
    if told.ndim not in {1, 2} or len(told) != rows:
        raise DataError(f"target must be (N,) or (N, K) with {rows} rows, got {told.shape}")
    return told

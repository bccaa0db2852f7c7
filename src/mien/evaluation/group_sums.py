"""Every measure of a task from sums over groups of faces, so that a thousand bootstrap draws cost one matrix product.

The formulas are those of `mien.metrics`, written for sums; tests hold values and intervals of the two equal. A measure is filed
under ``(name, measure)``: the class, unit or column it belongs to, or ``""`` for the whole task. NaN means undefined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.tasks import Floats, Task

__all__ = ["BINS", "GroupSums", "Key", "Sums", "group_sums", "interval", "measures", "resampled"]

Key = tuple[str, str]
Sums = dict[Key, Floats]
Numbers = NDArray[np.intp]
BINS: Final = 15
"""Equal-width bins of the reliability diagram and of ECE."""
_STILL: Final = 1e-12  # a variance below this is rounding: the column is constant


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums of one task over groups of faces.

    parts: (G, S) the sums of every group, zeros where it holds no label. held: (G,) whether it holds one.
    graded: an ``any_of`` task whose labels are not only 0 and 1. faces: annotated faces. counts: (K,) faces of each class, or
    annotated faces of each column.
    """

    task: Task
    graded: bool
    parts: Floats
    has_labels: NDArray[np.bool_]
    faces: int
    counts: Numbers

    @property
    def correlates(self) -> bool:
        """Whether it is judged by correlation and error, not by decisions."""
        return self.task.kind == "scalar" or self.graded


def group_sums(
    task: Task,
    pred: Floats,
    target: Floats,
    number: Numbers,
    *,
    threshold: float | Sequence[float] = 0.5,
    graded: bool | None = None,
) -> GroupSums:
    """Sums of a task by group.

    pred: scores (N, K). target: (N, K), NaN = not annotated; a ``one_of`` face counts for the class with the largest share (the first
    of equal ones). number: (N,) group of each face, 0..G-1. threshold: a unit is on from this score, one number or one per unit.
    graded: whether ``any_of`` labels are grades; by default those that are not only 0 and 1 are.
    """
    groups = int(number.max()) + 1
    seen = ~np.isnan(target)
    if graded is None:
        graded = task.kind == "any_of" and not np.isin(target[seen], (0, 1)).all()
    if task.kind == "one_of":
        parts, counts = _one_of(pred, target, number, groups)
    elif task.kind == "scalar" or graded:
        parts, counts = _pairs(pred, target, number, groups), seen.sum(axis=0)
    else:
        parts, counts = (
            _decisions(pred >= np.asarray(threshold), target, number, groups),
            seen.sum(axis=0),
        )
    rows = seen.any(axis=1)
    has_labels = np.bincount(number[rows], minlength=groups) > 0
    return GroupSums(task, graded, parts, has_labels, int(rows.sum()), counts)


def _one_of(pred: Floats, target: Floats, number: Numbers, groups: int) -> tuple[Floats, Numbers]:
    """Confusion matrix (K x K, true class first), then per bin: faces, confidence, right answers."""
    k, rows = target.shape[1], ~np.isnan(target).any(axis=1)
    pred, number, truth = pred[rows], number[rows], target[rows].argmax(axis=1)
    guess, top = pred.argmax(axis=1), pred.max(axis=1).astype(np.float64)
    bin_of = np.clip(np.ceil(top * BINS).astype(np.intp) - 1, 0, BINS - 1)

    def counted(cell: Numbers, cells: int, weights: Floats | None = None) -> Floats:
        flat = np.bincount(number * cells + cell, weights=weights, minlength=groups * cells)
        return np.asarray(flat.reshape(groups, cells), np.float64)

    right = (guess == truth).astype(np.float64)
    bins = (counted(bin_of, BINS), counted(bin_of, BINS, top), counted(bin_of, BINS, right))
    return np.hstack([counted(truth * k + guess, k * k), *bins]), np.bincount(truth, minlength=k)


def _by_column(
    values: Sequence[Floats], seen: NDArray[np.bool_], number: Numbers, groups: int
) -> Floats:
    """Sums (G, len(values) x K) of arrays (N, K) over the annotated entries."""
    sums = [
        np.bincount(number[s], weights=v[s], minlength=groups)
        for array in values
        for v, s in zip(array.T, seen.T, strict=True)
    ]
    return np.stack(sums, axis=1)


def _decisions(pred: NDArray[np.bool_], target: Floats, number: Numbers, groups: int) -> Floats:
    """Per unit: annotated, predicted on, truly on, both on, right."""
    on, p = target == 1, pred.astype(np.float64)
    return _by_column(
        [np.ones_like(p), p, on * 1.0, on * p, (on == pred) * 1.0],
        ~np.isnan(target),
        number,
        groups,
    )


def _pairs(pred: Floats, target: Floats, number: Numbers, groups: int) -> Floats:
    """Per column: annotated, and sums of p, t, pp, tt, pt, squared and absolute error; p and t from the target's mean, for precision."""
    seen = ~np.isnan(target)
    middle = np.where(seen, target, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    p, t = pred.astype(np.float64) - middle, target - middle
    return _by_column(
        [np.ones_like(p), p, t, p * p, t * t, p * t, (p - t) ** 2, np.abs(p - t)],
        seen,
        number,
        groups,
    )


def measures(found: GroupSums, sums: Floats) -> Sums:
    """All measures, each (R,), from R sets of sums (R, S)."""
    names = found.task.names
    if found.task.kind == "one_of":
        return _of_classes(sums, names)
    return (
        _of_pairs(sums, names, agreement=found.task.kind == "scalar")
        if found.correlates
        else _of_decisions(sums, names)
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(
        np.divide(
            above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0
        )
    )


def _spread(names: Sequence[str], table: Mapping[str, Floats]) -> Sums:
    return {
        (name, measure): values[:, i]
        for measure, values in table.items()
        for i, name in enumerate(names)
    }


def _of_classes(sums: Floats, names: Sequence[str]) -> Sums:
    k = len(names)
    confusion = sums[:, : k * k].reshape(-1, k, k)
    _, confidence, right = np.split(sums[:, k * k :], 3, axis=1)
    hits = confusion.diagonal(axis1=1, axis2=2)
    true, guessed, faces = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    f1 = _ratio(2 * hits, true + guessed)
    return {
        ("", "accuracy"): _ratio(hits.sum(axis=1), faces),
        ("", "macro_f1"): np.where(faces > 0, np.nan_to_num(f1).mean(axis=1), np.nan),
        ("", "ece"): _ratio(np.abs(confidence - right).sum(axis=1), faces),
        **_spread(
            names, {"f1": f1, "precision": _ratio(hits, guessed), "recall": _ratio(hits, true)}
        ),
    }


def _mean_of(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Mean over the columns that count; an undefined one adds 0."""
    return _ratio(np.where(counted, np.nan_to_num(values), 0).sum(axis=1), counted.sum(axis=1))


def _of_decisions(sums: Floats, names: Sequence[str]) -> Sums:
    faces, guessed, true, hits, right = np.split(sums, 5, axis=1)
    f1 = _ratio(2 * hits, guessed + true)
    shares = {
        "precision": _ratio(hits, guessed),
        "recall": _ratio(hits, true),
        "prevalence": _ratio(true, faces),
    }
    return {
        ("", "mean_f1"): _mean_of(f1, faces > 0),
        ("", "accuracy"): _ratio(right.sum(axis=1), faces.sum(axis=1)),
        **_spread(names, {"f1": f1, **shares}),
    }


def _of_pairs(sums: Floats, names: Sequence[str], agreement: bool) -> Sums:
    """Correlation and errors; with `agreement` CCC and absolute error too. A constant prediction of a varying target adds 0 to mean r."""
    faces, p, t, pp, tt, pt, squared, absolute = np.split(sums, 8, axis=1)
    mp, mt = _ratio(p, faces), _ratio(t, faces)
    vp, vt, shared = (
        _ratio(pp, faces) - mp**2,
        _ratio(tt, faces) - mt**2,
        _ratio(pt, faces) - mp * mt,
    )
    vp, vt = np.where(vp > _STILL, vp, 0), np.where(vt > _STILL, vt, 0)
    enough = faces >= 2
    r = np.where(enough, _ratio(shared, np.sqrt(vp * vt)), np.nan)
    rmse = np.sqrt(_ratio(squared, faces))
    off = (mp - mt) ** 2
    spread = vp + vt + np.where(off > _STILL, off, 0)
    ccc = np.where(enough, _ratio(2 * np.where((vp > 0) & (vt > 0), shared, 0), spread), np.nan)
    if agreement:
        whole = {("", "mean_ccc"): _mean_of(ccc, ~np.isnan(ccc))}
        return whole | _spread(
            names, {"ccc": ccc, "r": r, "rmse": rmse, "mae": _ratio(absolute, faces)}
        )
    whole = {
        ("", "mean_r"): _mean_of(r, enough & (vt > 0)),
        ("", "mean_rmse"): _mean_of(rmse, faces > 0),
    }
    return whole | _spread(names, {"r": r, "rmse": rmse})


def resampled(parts: Floats, rounds: int, seed: int) -> Floats:
    """Sums (rounds, S) of groups drawn again with replacement: the draws of `mien.metrics.bootstrap`; (0, S) with fewer than two groups."""
    groups, rng = len(parts), np.random.default_rng(seed)
    if groups < 2 or not rounds:
        return np.zeros((0, parts.shape[1]))
    step, sums = max(1, 4_000_000 // groups), []
    for start in range(0, rounds, step):
        draw = rng.integers(groups, size=(min(step, rounds - start), groups))
        times = np.stack([np.bincount(one, minlength=groups) for one in draw])
        sums.append(times.astype(np.float64) @ parts)
    return np.concatenate(sums)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of the defined draws; (NaN, NaN) where there are none."""
    defined = values[~np.isnan(values)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (np.nan, np.nan)
    return float(low), float(high)

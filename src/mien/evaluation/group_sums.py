"""Every measure of a task from sums over groups of faces.

A bootstrap draw of groups is then a weighted sum of their rows, so a thousand draws cost one matrix
product. The formulas are those of `mien.metrics`, written for sums; tests hold values and intervals
of the two equal. A measure is filed under ``(name, measure)``: the class, unit or column it belongs
to, or ``""`` for the whole task. NaN means undefined.
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
Mask = NDArray[np.bool_]
BINS: Final = 15
"""Equal-width bins of the reliability diagram and of ECE."""
_CONSTANT: Final = 1e-12  # a variance below this is rounding: the column is constant
_DRAWN_AT_ONCE: Final = 4_000_000  # groups; bounds the memory of the bootstrap


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums of one task over groups of faces.

    Attributes:
        task: The task (K classes, units or columns).
        graded: An ``any_of`` task whose labels are not only 0 and 1.
        parts: (G, S) sums of every group; zeros where it holds no label.
        has_labels: (G,) whether the group holds a label.
        faces: Annotated faces.
        counts: (K,) faces of each class, or annotated faces of each unit or column.
    """

    task: Task
    graded: bool
    parts: Floats
    has_labels: Mask
    faces: int
    counts: Numbers

    @property
    def correlates(self) -> bool:
        """Whether the task is judged by correlation and error, not by decisions."""
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

    Args:
        task: The task of scores and labels.
        pred: Scores (N, K).
        target: Labels (N, K), NaN = not annotated. A ``one_of`` face counts for the class with the
            largest share, the first of equal ones.
        number: Group (N,) of each face, 0..G-1.
        threshold: A unit is on from this score up; one number, or one per unit.
        graded: Whether ``any_of`` labels are grades; None takes those that are not only 0 and 1 for
            grades.

    Returns:
        The sums of every group.
    """
    groups = int(number.max()) + 1
    annotated = ~np.isnan(target)
    if graded is None:
        graded = task.kind == "any_of" and not np.isin(target[annotated], (0, 1)).all()
    counts = annotated.sum(axis=0)
    if task.kind == "one_of":
        parts, counts = _class_sums(pred, target, number, groups)
    elif task.kind == "scalar" or graded:
        parts = _moment_sums(pred, target, number, groups)
    else:
        parts = _decision_sums(pred >= np.asarray(threshold), target, number, groups)
    # A face counts once, however many of its units are annotated.
    rows = annotated.any(axis=1)
    has_labels = np.bincount(number[rows], minlength=groups) > 0
    return GroupSums(task, graded, parts, has_labels, int(rows.sum()), counts)


def measures(task_sums: GroupSums, sums: Floats) -> Sums:
    """All measures of a task from one or more sets of sums.

    Args:
        task_sums: The sums of the task, for what they mean.
        sums: R sets of sums (R, S), such as the total over groups or bootstrap draws.

    Returns:
        Every measure (R,) by name and measure; NaN where it is undefined.
    """
    names = task_sums.task.names
    if task_sums.task.kind == "one_of":
        return _class_measures(sums, names)
    if task_sums.correlates:
        return _moment_measures(sums, names, is_scalar=task_sums.task.kind == "scalar")
    return _decision_measures(sums, names)


def resampled(parts: Floats, rounds: int, seed: int) -> Floats:
    """Sums of groups drawn with replacement: the draws of `mien.metrics.bootstrap`.

    Args:
        parts: Sums (G, S) of every group.
        rounds: Number of draws.
        seed: Seed of the draws.

    Returns:
        Sums (rounds, S); (0, S) with fewer than two groups.
    """
    groups = len(parts)
    if groups < 2 or not rounds:
        return np.zeros((0, parts.shape[1]))
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN_AT_ONCE // groups)
    sums = []
    for start in range(0, rounds, step):
        draws = rng.integers(groups, size=(min(step, rounds - start), groups))
        # How often each group was drawn: a matrix product then adds up its sums that often.
        times = np.stack([np.bincount(draw, minlength=groups) for draw in draws])
        sums.append(times.astype(np.float64) @ parts)
    return np.concatenate(sums)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws.

    Args:
        values: A measure (R,) of every draw; NaN where it is undefined.

    Returns:
        Lower and upper end over the defined draws; (NaN, NaN) where there are none.
    """
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _class_sums(
    pred: Floats, target: Floats, number: Numbers, groups: int
) -> tuple[Floats, Numbers]:
    """Confusion matrix (K x K, true class first), then per bin: faces, confidence, hits.

    Also the faces (K,) of each class.
    """
    k = target.shape[1]
    rows = ~np.isnan(target).any(axis=1)
    pred, number = pred[rows], number[rows]
    truth = target[rows].argmax(axis=1)
    guess = pred.argmax(axis=1)
    top = pred.max(axis=1).astype(np.float64)
    # Bins are open below, as in Guo et al. (2017); a probability of 0 counts to the first.
    bin_of = np.clip(np.ceil(top * BINS).astype(np.intp) - 1, 0, BINS - 1)
    hits = (guess == truth).astype(np.float64)

    def count(cell: Numbers, cells: int, weights: Floats | None = None) -> Floats:
        """Faces, or sums of weights, (G, cells)."""
        index = number * cells + cell
        flat = np.bincount(index, weights=weights, minlength=groups * cells)
        return np.asarray(flat.reshape(groups, cells), np.float64)

    confusion = count(truth * k + guess, k * k)
    bins = (count(bin_of, BINS), count(bin_of, BINS, top), count(bin_of, BINS, hits))
    return np.hstack([confusion, *bins]), np.bincount(truth, minlength=k)


def _column_sums(values: Sequence[Floats], annotated: Mask, number: Numbers, groups: int) -> Floats:
    """Sums (G, len(values) x K) of arrays (N, K) over the annotated entries."""
    sums = []
    for array in values:
        for column, rows in zip(array.T, annotated.T, strict=True):
            sums.append(np.bincount(number[rows], weights=column[rows], minlength=groups))
    return np.stack(sums, axis=1)


def _decision_sums(pred: Mask, target: Floats, number: Numbers, groups: int) -> Floats:
    """Per unit: annotated, predicted on, truly on, both on, right."""
    positive = target == 1
    on = pred.astype(np.float64)
    right = (positive == pred) * 1.0
    values = [np.ones_like(on), on, positive * 1.0, positive * on, right]
    return _column_sums(values, ~np.isnan(target), number, groups)


def _moment_sums(pred: Floats, target: Floats, number: Numbers, groups: int) -> Floats:
    """Per column: annotated, and sums of p, t, pp, tt, pt, squared and absolute error."""
    annotated = ~np.isnan(target)
    counts = np.maximum(annotated.sum(axis=0), 1)
    # Moments about the target's mean: differences of large sums would lose digits.
    centre = np.where(annotated, target, 0).sum(axis=0) / counts
    p, t = pred.astype(np.float64) - centre, target - centre
    error = p - t
    values = [np.ones_like(p), p, t, p * p, t * t, p * t, error**2, np.abs(error)]
    return _column_sums(values, annotated, number, groups)


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where the divisor is not above 0."""
    undefined = np.full(np.broadcast(above, below).shape, np.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below > 0))


def _by_name(names: Sequence[str], table: Mapping[str, Floats]) -> Sums:
    """Measures (R, K) filed under each of the K names."""
    filed = {}
    for measure, values in table.items():
        for i, name in enumerate(names):
            filed[name, measure] = values[:, i]
    return filed


def _class_measures(sums: Floats, names: Sequence[str]) -> Sums:
    """Measures of a ``one_of`` task."""
    k = len(names)
    confusion = sums[:, : k * k].reshape(-1, k, k)
    _, confidence, right = np.split(sums[:, k * k :], 3, axis=1)
    hits = confusion.diagonal(axis1=1, axis2=2)
    true = confusion.sum(axis=2)
    guessed = confusion.sum(axis=1)
    faces = confusion.sum(axis=(1, 2))
    f1 = _ratio(2 * hits, true + guessed)
    # The divisor is always K, as in the ABAW rules: a class on neither side adds 0.
    macro_f1 = np.nan_to_num(f1).mean(axis=1)
    calibration_error = np.abs(confidence - right).sum(axis=1)
    whole: Sums = {
        ("", "accuracy"): _ratio(hits.sum(axis=1), faces),
        ("", "macro_f1"): np.where(faces > 0, macro_f1, np.nan),
        ("", "ece"): _ratio(calibration_error, faces),
    }
    by_class = {"f1": f1, "precision": _ratio(hits, guessed), "recall": _ratio(hits, true)}
    return whole | _by_name(names, by_class)


def _mean_of(values: Floats, counted: Mask) -> Floats:
    """Mean over the columns that count; an undefined one adds 0."""
    totals = np.where(counted, np.nan_to_num(values), 0).sum(axis=1)
    return _ratio(totals, counted.sum(axis=1))


def _decision_measures(sums: Floats, names: Sequence[str]) -> Sums:
    """Measures of an ``any_of`` task with labels 0 and 1."""
    faces, guessed, true, hits, right = np.split(sums, 5, axis=1)
    f1 = _ratio(2 * hits, guessed + true)
    whole: Sums = {
        ("", "mean_f1"): _mean_of(f1, faces > 0),
        ("", "accuracy"): _ratio(right.sum(axis=1), faces.sum(axis=1)),
    }
    if len(names) == 1:
        # A single unit is a question of yes or no, whose challenges count both answers.
        misses = faces - right
        absent_f1 = _ratio(2 * (right - hits), 2 * (right - hits) + misses)
        both = np.nan_to_num(np.concatenate([f1, absent_f1], axis=1)).mean(axis=1)
        whole["", "macro_f1"] = np.where(faces[:, 0] > 0, both, np.nan)
    by_unit = {
        "f1": f1,
        "precision": _ratio(hits, guessed),
        "recall": _ratio(hits, true),
        "prevalence": _ratio(true, faces),
    }
    return whole | _by_name(names, by_unit)


def _moment_measures(sums: Floats, names: Sequence[str], is_scalar: bool) -> Sums:
    """Correlation and error of a ``scalar`` task, or of an ``any_of`` task with graded labels."""
    faces, p, t, pp, tt, pt, squared, absolute = np.split(sums, 8, axis=1)
    mean_p, mean_t = _ratio(p, faces), _ratio(t, faces)
    var_p = _variance(pp, faces, mean_p)
    var_t = _variance(tt, faces, mean_t)
    covariance = _ratio(pt, faces) - mean_p * mean_t
    # One face has no variance, so correlation is undefined, not 0.
    enough = faces >= 2
    r = np.where(enough, _ratio(covariance, np.sqrt(var_p * var_t)), np.nan)
    rmse = np.sqrt(_ratio(squared, faces))
    if not is_scalar:
        # A constant prediction of a varying label has no r, and adds 0 to the mean.
        whole: Sums = {
            ("", "mean_r"): _mean_of(r, enough & (var_t > 0)),
            ("", "mean_rmse"): _mean_of(rmse, faces > 0),
        }
        return whole | _by_name(names, {"r": r, "rmse": rmse})
    # Lin (1989): the covariance against both variances and the shift between the means.
    shift = (mean_p - mean_t) ** 2
    spread = var_p + var_t + np.where(shift > _CONSTANT, shift, 0)
    shared = np.where((var_p > 0) & (var_t > 0), covariance, 0)
    ccc = np.where(enough, _ratio(2 * shared, spread), np.nan)
    by_column = {"ccc": ccc, "r": r, "rmse": rmse, "mae": _ratio(absolute, faces)}
    mean_ccc = _mean_of(ccc, ~np.isnan(ccc))
    return {("", "mean_ccc"): mean_ccc} | _by_name(names, by_column)


def _variance(squares: Floats, faces: Floats, mean: Floats) -> Floats:
    """Population variance; 0 where it is no more than rounding."""
    variance = _ratio(squares, faces) - mean**2
    return np.where(variance > _CONSTANT, variance, 0)

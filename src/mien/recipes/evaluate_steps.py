"""How good a step's predictions are under a protocol, with draws that can be compared between steps.

A tuned system has two scores. ``nested``: every recording is scored with what was tuned on the others.
``same`` (in-sample): tuned and scored on the same rows, as the papers did, which flatters. If nothing
was tuned, the two are one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.errors import UnknownNameError
from mien.evaluation.group_sums import Key, group_sums, interval, measures, resampled
from mien.evaluation.judge import OF_TERM
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, divergence, nested
from mien.metrics import PROTOCOLS
from mien.recipes.predictions import Part, Predicted
from mien.tasks import Floats, Task

__all__ = ["Estimate", "StepScores", "evaluate_step", "minus"]

Groups = NDArray[np.intp]

_ROUNDS: Final = 1000
"""Bootstrap draws."""
_SHOWN: Final[Mapping[str, Mapping[str, Key]]] = {
    "expr": {"expr": ("", "macro_f1"), "expr_accuracy": ("", "accuracy")},
    "ce": {"ce": ("", "macro_f1"), "ce_accuracy": ("", "accuracy")},
    "va": {"va": ("", "mean_ccc"), "valence": ("valence", "ccc"), "arousal": ("arousal", "ccc")},
    "au": {"au": ("", "mean_f1")},
    "ah": {"ah": ("", "mean_f1")},
}
"""What recipes call a measure, by task family."""


@dataclass(frozen=True)
class Estimate:
    """One measure, with its spread.

    Attributes:
        values: For each seed (S,).
        draws: Bootstrap draws (R,) of the mean over seeds, for which whole recordings are drawn.
    """

    values: Floats
    draws: Floats

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds, with S - 1; NaN for a single one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean over seeds."""
        if not np.isinf(self.draws).any():
            return interval(self.draws)
        # There is nothing between a number and infinity to interpolate.
        draws = self.draws[~np.isnan(self.draws)]
        low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
        return float(low), float(high)


@dataclass(frozen=True)
class StepScores:
    """All measures of a step on split val.

    Attributes:
        nested: By measure.
        same: In-sample, by measure; `nested` itself if nothing was tuned.
        tuned: Whether the two differ.
    """

    nested: Mapping[str, Estimate]
    same: Mapping[str, Estimate]
    tuned: bool


def evaluate_step(predicted: Predicted, protocol: str) -> StepScores:
    """Evaluate a step's predictions on split val.

    Args:
        predicted: The predictions.
        protocol: A key of `mien.metrics.PROTOCOLS`.

    Returns:
        Its scores.

    Raises:
        UnknownNameError: There is no such protocol.
        ValueError: No protocol can score such labels.
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    part = predicted.parts["val"]
    in_sample = {family: values[:, 0] for family, values in part.values.items()}
    same = _estimates(predicted, in_sample, protocol)
    if all(values.shape[1] == 1 for values in part.values.values()):
        return StepScores(same, same, False)
    honest = {}
    for family, values in part.values.items():
        honest[family] = np.stack([_nested(of_seed, part) for of_seed in values])
    return StepScores(_estimates(predicted, honest, protocol), same, True)


def _nested(values: Floats, part: Part) -> Floats:
    """(N, K) of versions (V, N, K); of a family in which nothing was tuned, its only version."""
    return nested(values, part.fold) if len(values) > 1 else values[0]


def minus(first: Estimate, second: Estimate) -> Estimate:
    """Subtract, draw by draw: both draw the same recordings in the same order.

    Args:
        first: A measure of one step.
        second: The same measure of another.

    Returns:
        The difference. Seeds are paired if both have as many.
    """
    # The difference of two infinite distances is undefined, and NaN says so.
    with np.errstate(invalid="ignore"):
        if first.values.shape == second.values.shape:
            seeds = first.values - second.values
        else:
            seeds = np.array([first.mean - second.mean])
        return Estimate(seeds, first.draws - second.draws)


def _estimates(
    predicted: Predicted, values: Mapping[str, Floats], protocol: str
) -> dict[str, Estimate]:
    """By measure, from values (S, N, K) by family."""
    part = predicted.parts["val"]
    group = pd.factorize(part.table["recording"])[0]
    estimates: dict[str, Estimate] = {}
    of_task: dict[str, dict[Key, Estimate]] = {}
    for task in predicted.tasks:
        scores = values[task.family]
        of_task[task.key] = _of_task(task, scores, part, group)
        for name, key in _names_of(task).items():
            if key in of_task[task.key]:
                estimates[name] = of_task[task.key][key]
        if task.family == "ce":
            estimates["kl"] = _distance(scores, group)
    terms = PROTOCOLS[protocol].terms
    if all(OF_TERM[term.name] in of_task.get(term.task, {}) for term in terms):
        weighted = [(term.weight, of_task[term.task][OF_TERM[term.name]]) for term in terms]
        estimates["score"] = _weighted_sum(weighted)
        if len(terms) == 1:  # the score is that measure, and needs no second column
            estimates.pop(terms[0].task.partition(".")[0], None)
    return estimates


def _weighted_sum(weighted: list[tuple[float, Estimate]]) -> Estimate:
    """A protocol's score; a term with one seed counts for all seeds."""
    seeds = max(len(estimate.values) for _, estimate in weighted)
    values: Floats = np.zeros(seeds)
    # None are drawn where there is a single recording, so their number is that of the terms.
    draws: Floats = np.zeros_like(weighted[0][1].draws)
    for weight, estimate in weighted:
        values = values + weight * np.broadcast_to(estimate.values, seeds)
        draws = draws + weight * estimate.draws
    return Estimate(values, draws)


def _names_of(task: Task) -> Mapping[str, Key]:
    """What recipes call a task's measures; a task of intensities has a correlation per name."""
    return _SHOWN.get(task.family) or {name: (name, "r") for name in task.names}


def _of_task(task: Task, values: Floats, part: Part, group: Groups) -> dict[Key, Estimate]:
    """All measures of one task, from scores (S, N, K); none if nothing is annotated."""
    target = part.truth(task).astype(np.float64)
    if np.isnan(target).all():
        return {}
    per_seed: dict[Key, list[float]] = {}
    draws: dict[Key, list[Floats]] = {}
    for scores in values:
        sums = group_sums(task, scores.astype(np.float64), target, group)
        whole = measures(sums, sums.parts.sum(axis=0)[None])
        # The same seed for every step, so that all draw the same recordings.
        drawn = measures(sums, resampled(sums.parts, _ROUNDS, 0))
        for key in whole:
            per_seed.setdefault(key, []).append(float(whole[key][0]))
            draws.setdefault(key, []).append(drawn[key])
    estimates = {}
    for key, seeds in per_seed.items():
        estimates[key] = Estimate(np.array(seeds), np.mean(draws[key], axis=0))
    return estimates


def _distance(values: Floats, group: Groups) -> Estimate:
    """Divergence of the answers' histogram from the published frequencies; lower is better."""
    per_seed: list[float] = []
    draws: list[Floats] = []
    for scores in values:
        counts = np.zeros((int(group.max()) + 1, len(COMPOUND_COUNTS)))
        np.add.at(counts, (group, scores.argmax(axis=1)), 1)
        per_seed.append(float(divergence(COMPOUND_COUNTS, counts.sum(axis=0))))
        draws.append(divergence(COMPOUND_COUNTS, resampled(counts, _ROUNDS, 0)))
    return Estimate(np.array(per_seed), np.mean(draws, axis=0))

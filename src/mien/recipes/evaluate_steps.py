"""How good what a step predicts is, under a protocol: values over seeds, and draws that can be compared between steps.

Two ways to tell a tuned system's number stand side by side. ``nested``: every recording is scored with what was tuned on the others.
``same rows``: tuned and told on the same rows, as the papers did; it flatters. Where nothing was tuned the two are one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from mien.errors import UnknownNameError
from mien.evaluation.group_sums import Key, group_sums, interval, measures, resampled
from mien.evaluation.judge import OF_TERM
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, divergence, nested
from mien.metrics import PROTOCOLS
from mien.recipes.predictions import Part, Predicted
from mien.tasks import Floats, Task

__all__ = ["Estimate", "StepScores", "evaluate_step", "minus"]

_ROUNDS: Final = 1000
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
    """One measure: its value for each seed (S,), and bootstrap draws of the seeds' mean (R,); recordings are drawn again."""

    values: Floats
    draws: Floats

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self.values.mean())

    @property
    def sd(self) -> float:
        """Over the seeds, with n - 1; NaN for a single one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of the seeds' mean."""
        if np.isinf(self.draws).any():  # nothing lies between a number and infinity
            low, high = np.quantile(
                self.draws[~np.isnan(self.draws)], [0.025, 0.975], method="nearest"
            )
            return float(low), float(high)
        return interval(self.draws)


@dataclass(frozen=True)
class StepScores:
    """All measures of a step on split val. tuned: whether nested and same rows differ; if not, `same` is `nested`."""

    nested: Mapping[str, Estimate]
    same: Mapping[str, Estimate]
    tuned: bool


def evaluate_step(predicted: Predicted, protocol: str) -> StepScores:
    """Judge a step on split val.

    Raises UnknownNameError for a protocol that there is not, ValueError for labels that no protocol can judge.
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError("protocol", protocol, PROTOCOLS)
    part = predicted.parts["val"]
    tuned = any(values.shape[1] > 1 for values in part.values.values())
    same = _told(
        predicted, {family: values[:, 0] for family, values in part.values.items()}, protocol
    )
    if not tuned:
        return StepScores(same, same, tuned)
    whole = {
        family: np.stack([_nested(one, part) for one in values])
        for family, values in part.values.items()
    }
    return StepScores(_told(predicted, whole, protocol), same, tuned)


def _nested(values: Floats, part: Part) -> Floats:
    """(N, K) of versioned (V, N, K); of a family in which nothing was tuned, its only version."""
    return nested(values, part.fold) if len(values) > 1 else values[0]


def minus(one: Estimate, other: Estimate) -> Estimate:
    """The difference, draw by draw, since both draw the same recordings in the same order; seeds are paired where both have as many."""
    with np.errstate(invalid="ignore"):  # two infinite distances differ by nothing that has a name
        seeds = (
            one.values - other.values
            if one.values.shape == other.values.shape
            else np.array([one.mean - other.mean])
        )
        return Estimate(seeds, one.draws - other.draws)


def _told(predicted: Predicted, values: Mapping[str, Floats], protocol: str) -> dict[str, Estimate]:
    """By measure, from values (S, N, K) by family."""
    part = predicted.parts["val"]
    number = pd.factorize(part.table["recording"])[0]
    found: dict[str, Estimate] = {}
    terms: dict[str, dict[Key, Estimate]] = {}
    for each in predicted.tasks:
        table = _of_task(each, values[each.family], part, number)
        terms[each.key] = table
        found |= {name: table[key] for name, key in _shown(each).items() if key in table}
        if each.family == "ce":
            found["kl"] = _distance(values[each.family], number)
    formula = PROTOCOLS[protocol].terms
    if all(OF_TERM[term.name] in terms.get(term.task, {}) for term in formula):
        parts = [(term.weight, terms[term.task][OF_TERM[term.name]]) for term in formula]
        seeds = max(len(told.values) for _, told in parts)
        score = sum(weight * np.broadcast_to(told.values, seeds) for weight, told in parts)
        found["score"] = Estimate(
            np.asarray(score), np.asarray(sum(weight * told.draws for weight, told in parts))
        )
        if len(formula) == 1:  # the score is that measure, and needs no second column
            found.pop(formula[0].task.partition(".")[0], None)
    return found


def _shown(task: Task) -> Mapping[str, Key]:
    """What recipes call the measures of a task; a task of intensities has a correlation for each of its names."""
    return _SHOWN.get(task.family) or {name: (name, "r") for name in task.names}


def _of_task(
    each: Task, values: Floats, part: Part, number: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> dict[Key, Estimate]:
    target = part.truth(each).astype(np.float64)
    if np.isnan(target).all():
        return {}
    one_by_one: list[dict[Key, tuple[float, Floats]]] = []
    for scores in values:
        sums = group_sums(each, scores.astype(np.float64), target, number)
        at, draws = (
            measures(sums, sums.parts.sum(axis=0)[None]),
            measures(sums, resampled(sums.parts, _ROUNDS, 0)),
        )
        one_by_one.append({key: (float(at[key][0]), draws[key]) for key in at})
    return {
        key: Estimate(
            np.array([one[key][0] for one in one_by_one]),
            np.mean([one[key][1] for one in one_by_one], axis=0),
        )
        for key in one_by_one[0]
    }


def _distance(values: Floats, number: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Estimate:
    """How far the answers' histogram lies from the published frequencies of the compounds (`kl_to`), over all rows; lower is better."""
    at: list[float] = []
    draws: list[Floats] = []
    for scores in values:
        counts = np.zeros((int(number.max()) + 1, len(COMPOUND_COUNTS)))
        np.add.at(counts, (number, scores.argmax(axis=1)), 1)
        at.append(float(divergence(COMPOUND_COUNTS, counts.sum(axis=0))))
        draws.append(divergence(COMPOUND_COUNTS, resampled(counts, _ROUNDS, 0)))
    return Estimate(np.array(at), np.mean(draws, axis=0))

"""How good a step's predictions are under a protocol, with draws that steps have in common.

A tuned system has two scores. ``nested``: every recording is scored with what was tuned on the
others. ``same`` (in-sample): tuned and scored on the same rows, as the papers did, which flatters.
If nothing was tuned, the two are one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.evaluation.group_sums import Key, group_sums, interval, measures, resampled
from mien.evaluation.judge import OF_TERM
from mien.evaluation.nested_tuning import COMPOUND_COUNTS, divergence, nested
from mien.protocols import Term, protocol_named
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
    "quality": {"quality": ("", "mean_f1")},
    # Shares of a region are graded, and whether it is covered at all is not.
    "occlusion": {"occlusion": ("", "mean_f1"), "covered": ("", "mean_r")},
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
        if len(self.values) < 2:
            return float("nan")
        return float(self.values.std(ddof=1))

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
        protocol: A name as of `mien.protocols.protocol_named`.

    Returns:
        Its scores.

    Raises:
        UnknownNameError: There is no such protocol.
        ValueError: No protocol can score such labels.
    """
    protocol_named(protocol)  # raises before anything is scored
    part = predicted.parts["val"]
    in_sample: dict[str, Floats] = {}
    out_of_sample: dict[str, Floats] = {}
    for family, values in part.values.items():
        # Version 0 was tuned on all rows.
        in_sample[family] = values[:, 0]
        out_of_sample[family] = _nested(values, part.fold)
    same = _estimates(predicted, in_sample, protocol)
    tuned = any(values.shape[1] > 1 for values in part.values.values())
    if not tuned:
        return StepScores(same, same, tuned)
    return StepScores(_estimates(predicted, out_of_sample, protocol), same, tuned)


def _nested(values: Floats, fold: NDArray[np.intp]) -> Floats:
    """Out-of-sample scores (S, N, K) of versions (S, V, N, K)."""
    # A family in which nothing was tuned has one version.
    if values.shape[1] == 1:
        return values[:, 0]
    return np.stack([nested(versions, fold) for versions in values])


def minus(first: Estimate, second: Estimate) -> Estimate:
    """Subtract, draw by draw: both draw the same recordings in the same order.

    Args:
        first: A measure of one step.
        second: The same measure of another.

    Returns:
        The difference. Seeds are paired if both have as many.
    """
    # The difference of two infinite divergences is undefined, and NaN says so.
    with np.errstate(invalid="ignore"):
        if first.values.shape == second.values.shape:
            seeds = first.values - second.values
        else:
            seeds = np.array([first.mean - second.mean])
        return Estimate(seeds, first.draws - second.draws)


def _estimates(
    predicted: Predicted, scores: Mapping[str, Floats], protocol: str
) -> dict[str, Estimate]:
    """By measure, from scores (S, N, K) by family."""
    part = predicted.parts["val"]
    # Faces of one recording are alike, so recordings are drawn, not faces.
    group, _ = pd.factorize(part.table["recording"])
    estimates: dict[str, Estimate] = {}
    by_task: dict[str, dict[Key, Estimate]] = {}
    for task in predicted.tasks:
        of_family = scores[task.family]
        of_task = _of_task(task, of_family, part, group)
        by_task[task.key] = of_task
        for name, key in _names_of(task).items():
            if key in of_task:
                estimates[name] = of_task[key]
        # What needs no labels.
        if task.family == "ce":
            estimates["kl"] = _divergence(of_family, group)
    terms = protocol_named(protocol).terms
    score = _protocol_score(terms, by_task)
    if score is not None:
        estimates["score"] = score
        # The score of a single term is its measure, which needs no second column.
        if len(terms) == 1:
            estimates.pop(terms[0].task.partition(".")[0], None)
    return estimates


def _protocol_score(
    terms: Sequence[Term], by_task: Mapping[str, Mapping[Key, Estimate]]
) -> Estimate | None:
    """The weighted sum of a protocol's terms; None unless all of them are measured."""
    weights = []
    estimates = []
    for term in terms:
        measured = by_task.get(term.task, {})
        estimate = measured.get(OF_TERM[term.name])
        if estimate is None:
            return None
        weights.append(term.weight)
        estimates.append(estimate)
    seeds = max(len(estimate.values) for estimate in estimates)
    values: Floats = np.zeros(seeds)
    # A single recording has no draws, so their number is that of the terms.
    draws: Floats = np.zeros_like(estimates[0].draws)
    for weight, estimate in zip(weights, estimates, strict=True):
        # A term with one seed counts for all seeds.
        values = values + weight * np.broadcast_to(estimate.values, seeds)
        draws = draws + weight * estimate.draws
    return Estimate(values, draws)


def _names_of(task: Task) -> Mapping[str, Key]:
    """What recipes call a task's measures; a task of intensities has a correlation per name."""
    names = _SHOWN.get(task.family)
    if names is not None:
        return names
    return {name: (name, "r") for name in task.names}


def _of_task(task: Task, scores: Floats, part: Part, group: Groups) -> dict[Key, Estimate]:
    """All measures of one task, from scores (S, N, K); none if nothing is annotated."""
    target = part.truth(task).astype(np.float64)
    if np.isnan(target).all():
        return {}
    # Draws are averaged over seeds: the interval is that of recordings, not of seeds.
    per_seed: dict[Key, list[float]] = {}
    draws: dict[Key, list[Floats]] = {}
    for of_seed in scores:
        sums = group_sums(task, of_seed.astype(np.float64), target, group)
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


def _divergence(scores: Floats, group: Groups) -> Estimate:
    """Divergence of the decisions' histogram from the published frequencies; lower is better."""
    per_seed: list[float] = []
    draws: list[Floats] = []
    for of_seed in scores:
        # Decisions of each recording, so that whole recordings can be drawn.
        counts = np.zeros((int(group.max()) + 1, len(COMPOUND_COUNTS)))
        np.add.at(counts, (group, of_seed.argmax(axis=1)), 1)
        per_seed.append(float(divergence(COMPOUND_COUNTS, counts.sum(axis=0))))
        draws.append(divergence(COMPOUND_COUNTS, resampled(counts, _ROUNDS, 0)))
    return Estimate(np.array(per_seed), np.mean(draws, axis=0))

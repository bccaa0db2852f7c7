"""Steps after the networks: smooth, blend, decide, override, look at fewer frames.

Settings can be given, or tuned on split val; see `mien.recipes.steps.tuning`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from mien.bundles.plan import Kernel
from mien.errors import DataError
from mien.evaluation.nested_tuning import GRID, Tuned, decide, fit, thresholds_for
from mien.metrics import macro_f1
from mien.recipes.predictions import Part
from mien.recipes.steps.base import STEP, Step, StepContext
from mien.recipes.steps.tuning import (
    TaskResult,
    TaskScores,
    change_families,
    check_families,
    check_recordings,
    is_shared,
    tune_and_apply,
)
from mien.systems import ensemble
from mien.systems.ensemble import add_bias, blend, logit_blend
from mien.systems.kernels import apply_kernel
from mien.tasks import Floats
from mien.temporal.adaptive_rate import Strides, apply_strides, fit_strides

__all__ = [
    "AdaptiveRate",
    "Blend",
    "ClassBias",
    "Kernel",
    "Override",
    "Smooth",
    "Threshold",
    "biases_for",
]

_BIASES: Final = tuple(0.25 * i for i in range(-10, 11))
"""Biases that a class is given, in logarithms of probabilities."""
_PASSES: Final = 2
_SMALLEST: Final = 1e-8
_ROUNDING: Final = 1e-9
_SHARES: Final = tuple(round(0.1 * i, 1) for i in range(11))
"""Shares of the first of two steps that ``tune`` chooses from."""


class Smooth(Step):
    """Average scores over neighbouring frames.

    Attributes:
        of: The step whose scores are smoothed.
        kernels: By task family; several for one family are candidates to choose from. Families that
            are not named stay as they are.
    """

    do: Literal["smooth"]
    of: Annotated[str, STEP]
    kernels: Annotated[dict[str, Kernel | tuple[Kernel, ...]], Field(min_length=1)]

    @override
    def run(self, context: StepContext) -> None:
        inputs = [context.predicted(self.of)]
        check_families(context.name, "kernels", self.kernels, inputs)
        change_families(context, inputs, self.kernels, self._smooth)

    def _smooth(self, scores: TaskScores) -> TaskResult:
        kernels = self.kernels[scores.task.family]
        candidates = kernels if isinstance(kernels, tuple) else (kernels,)
        kind = scores.task.kind

        def apply(kernel: Kernel, values: Floats, part: Part) -> Floats:
            video = part.table["video"]
            frame = part.table["frame"]
            return apply_kernel(kernel, values, video, frame, kind)

        return tune_and_apply(candidates, apply, scores)


class Blend(Step):
    """The weighted mean of what several steps predict.

    Attributes:
        of: Two steps or more.
        weights: By task family: the first step's share of two; a weight for each step; or ``tune``,
            to choose the first one's share from 0, 0.1, …, 1. A family that is not named is taken
            from the first step.
        logits: Blend logits, not probabilities (expressions and compounds only).
    """

    do: Literal["blend"]
    of: Annotated[tuple[str, ...], Field(min_length=2), STEP]
    weights: Annotated[dict[str, float | tuple[float, ...] | Literal["tune"]], Field(min_length=1)]
    logits: bool = False

    @override
    def run(self, context: StepContext) -> None:
        inputs = [context.predicted(name) for name in self.of]
        check_families(context.name, "weights", self.weights, inputs)
        change_families(context, inputs, self.weights, self._blend)

    def _blend(self, scores: TaskScores) -> TaskResult:
        family = scores.task.family
        if self.logits and scores.task.kind != "one_of":
            raise DataError(
                f"{scores.step}: {family} has no logits; blend it in a step without `logits`"
            )
        candidates = self._candidates(self.weights[family], scores.step)
        return tune_and_apply(candidates, self._weighted_mean, scores)

    def _weighted_mean(self, weights: tuple[float, ...], stack: Floats, part: Part) -> Floats:
        """Scores (N, K) of P steps' (P, N, K)."""
        if not self.logits:
            return blend(list(stack), weights)
        return logit_blend(list(stack), weights)

    def _candidates(
        self, weights: float | tuple[float, ...] | str, step: str
    ) -> list[tuple[float, ...]]:
        """Weights to choose from, the most even first, since the first of equals is taken."""
        # A number is short for two weights that sum to 1.
        if isinstance(weights, tuple) and len(weights) == len(self.of):
            return [weights]
        if isinstance(weights, tuple) or len(self.of) != 2:
            raise DataError(f"{step}: {len(self.of)} steps are blended; give as many weights")
        shares = _SHARES if isinstance(weights, str) else (weights,)
        candidates: list[tuple[float, ...]] = []
        for share in sorted(shares, key=_distance_from_half):
            candidates.append((share, round(1 - share, 6)))
        return candidates


def _distance_from_half(share: float) -> float:
    return abs(share - 0.5)


class Threshold(Step):
    """Decide from which score on an action unit is present.

    Attributes:
        of: The step whose scores are decided.
        values: A threshold for each unit; without it, each is chosen from 0.1, 0.2, …, 0.9.
    """

    do: Literal["threshold"]
    of: Annotated[str, STEP]
    values: tuple[float, ...] | None = None

    @override
    def run(self, context: StepContext) -> None:
        predicted = context.predicted(self.of)
        change_families(context, [predicted], ["au"], self._decide)

    def _decide(self, scores: TaskScores) -> TaskResult:
        units = len(scores.task.names)
        if self.values is not None and len(self.values) != units:
            raise DataError(
                f"{scores.step}: {units} units need as many values, got {len(self.values)}"
            )
        if self.values is None:
            check_recordings(scores)
        tuned = [self._fit(versioned, scores) for versioned in scores.seeds]
        chosen = [result.chosen[0].tolist() for result in tuned]
        # Given thresholds on scores in which nothing was tuned: all versions are the same.
        is_fixed = self.values is not None and all(map(is_shared, scores.seeds))
        val = np.stack([result.values[:1] if is_fixed else result.values for result in tuned])
        test = scores.apply_to_test(chosen, lambda limits, values, part: decide(values, limits))
        return TaskResult(chosen, val, test)

    def _fit(self, versioned: Floats, scores: TaskScores) -> Tuned[Floats]:
        """Each version's thresholds (K,), and its decisions (V, N, K)."""
        target = scores.val.truth(scores.task)

        def choose(values: Floats, seen: Any) -> Floats:
            # Given thresholds take the same path, which also applies and checks them.
            if self.values is not None:
                return np.array(self.values)
            return thresholds_for(values[seen], target[seen], GRID)

        return fit(
            choose, lambda limits, values: decide(values, limits), versioned, scores.val.fold
        )


class Override(Step):
    """Where another step is sure of an expression, take its scores (HSEmotion at ABAW8).

    Attributes:
        of: The step whose scores are overridden.
        by: The other step.
        threshold: The probability above which the other step is sure; several are candidates.
        without: Classes in which it has no say.
    """

    do: Literal["override"]
    of: Annotated[str, STEP]
    by: Annotated[str, STEP]
    threshold: float | tuple[float, ...]
    without: tuple[str, ...] = ()

    @override
    def run(self, context: StepContext) -> None:
        own_scores = context.predicted(self.of)
        other_scores = context.predicted(self.by)
        change_families(context, [own_scores, other_scores], ["expr"], self._override)

    def _override(self, scores: TaskScores) -> TaskResult:
        slots = [i for i, name in enumerate(scores.task.names) if name not in self.without]

        def apply(threshold: float, stack: Floats, part: Part) -> Floats:
            return ensemble.override(stack[0], stack[1], threshold, slots)

        candidates = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        return tune_and_apply(candidates, apply, scores)


class ClassBias(Step):
    """Give each expression a bias, so that rare ones are called as often as macro-F1 asks.

    The biases are added to the logarithms of the probabilities. They are chosen to maximise
    macro-F1, class by class, from steps of 0.25 within 2.5 to either side.

    Attributes:
        of: The step whose expressions are changed.
        values: A bias for each class; without it, they are chosen.
    """

    do: Literal["class_bias"]
    of: Annotated[str, STEP]
    values: tuple[float, ...] | None = None

    @override
    def run(self, context: StepContext) -> None:
        change_families(context, [context.predicted(self.of)], ["expr"], self._add)

    def _add(self, scores: TaskScores) -> TaskResult:
        classes = len(scores.task.names)
        if self.values is not None and len(self.values) != classes:
            raise DataError(
                f"{scores.step}: {classes} classes need as many values, got {len(self.values)}"
            )
        if self.values is None:
            check_recordings(scores)
        tuned = [self._fit(versioned, scores) for versioned in scores.seeds]
        chosen = [result.chosen[0].tolist() for result in tuned]
        val = np.stack([result.values for result in tuned])
        test = scores.apply_to_test(chosen, lambda bias, values, part: add_bias(values, bias))
        return TaskResult(chosen, val, test)

    def _fit(self, versioned: Floats, scores: TaskScores) -> Tuned[Floats]:
        """Each version's biases (K,), and its scores (V, N, K)."""
        target = scores.val.truth(scores.task)
        labelled = ~np.isnan(target).any(axis=1)

        def choose(values: Floats, seen: Any) -> Floats:
            if self.values is not None:
                return np.array(self.values)
            rows = seen & labelled
            return biases_for(values[rows], target[rows].argmax(axis=1))

        return fit(choose, lambda bias, values: add_bias(values, bias), versioned, scores.val.fold)


def biases_for(scores: Floats, classes: NDArray[np.intp]) -> Floats:
    """Choose a bias for each class that maximises macro-F1 over all classes.

    One class after the other gets the best of `_BIASES` while the others keep theirs, twice; of
    equals the one nearest to 0.

    Args:
        scores: Probabilities (N, K).
        classes: The true class of each row (N,).

    Returns:
        Biases (K,).
    """
    names = range(scores.shape[1])
    logits = np.log(np.maximum(scores, _SMALLEST))
    bias = np.zeros(scores.shape[1])
    for _ in range(_PASSES):
        for column in names:
            best = -1.0
            for candidate in sorted(_BIASES, key=abs):
                tried = bias.copy()
                tried[column] = candidate
                score = macro_f1((logits + tried).argmax(axis=1), classes, names)
                # Better by more than rounding, so that the first of equals stays.
                if score > best + _ROUNDING:
                    best = score
                    bias = tried
    return bias


class AdaptiveRate(Step):
    """Decide expressions from few frames, and from more only where these leave doubt.

    HSEmotion did so at ABAW3, see `mien.temporal.adaptive_rate`. The thresholds of doubt are always
    tuned.

    Attributes:
        of: The step whose scores are used.
        strides: See `mien.temporal.adaptive_rate.fit_strides`.
        alpha: The same.
    """

    do: Literal["look_less"]
    of: Annotated[str, STEP]
    strides: Annotated[tuple[int, ...], Field(min_length=1)] = (200, 100, 50, 10, 1)
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1

    @override
    def run(self, context: StepContext) -> None:
        # Filled by the way, for the note: predictions hold no costs.
        shares: list[float] = []

        def change(scores: TaskScores) -> TaskResult:
            return self._look_less(scores, shares)

        predicted = context.predicted(self.of)
        change_families(context, [predicted], ["expr"], change)
        percent = 100 * np.mean(shares)
        context.note(f"{context.name}: {percent:.1f} % of the frames of split val were looked at")

    def _look_less(self, scores: TaskScores, shares: list[float]) -> TaskResult:
        """The task's scores from few frames; appends each version's share of frames to `shares`."""
        check_recordings(scores)
        tuned = [self._fit(versioned, scores, shares) for versioned in scores.seeds]
        plans = [result.chosen[0] for result in tuned]
        test = scores.apply_to_test(plans, _from_few_frames)
        val = np.stack([result.values for result in tuned])
        return TaskResult(_settings(plans), val, test)

    def _fit(self, versioned: Floats, scores: TaskScores, shares: list[float]) -> Tuned[Strides]:
        """Each version's thresholds, and its scores (V, N, K)."""
        video = scores.val.table["video"].to_numpy()
        frame = scores.val.table["frame"].to_numpy()
        target = scores.val.truth(scores.task)
        # A row that is not annotated is still looked at, and not counted.
        is_missing = np.isnan(target).any(axis=1)
        classes = np.where(is_missing, np.nan, np.nan_to_num(target).argmax(axis=1))

        def choose(values: Floats, seen: Any) -> Strides:
            return fit_strides(
                values[seen],
                classes[seen],
                video[seen],
                frame[seen],
                strides=self.strides,
                alpha=self.alpha,
            )

        def apply(plan: Strides, values: Floats) -> Floats:
            changed, looked = apply_strides(plan, values, video, frame)
            shares.append(float(looked.mean()))
            return changed

        return fit(choose, apply, versioned, scores.val.fold)


def _from_few_frames(plan: Strides, values: Floats, part: Part) -> Floats:
    """Scores (N, K) as they are when only some frames of a part are looked at."""
    changed, _ = apply_strides(
        plan, values, part.table["video"].to_numpy(), part.table["frame"].to_numpy()
    )
    return changed


def _settings(plans: Sequence[Strides]) -> list[dict[str, object]]:
    """Adaptive rates for JSON."""
    settings: list[dict[str, object]] = []
    for plan in plans:
        thresholds = [round(threshold, 4) for threshold in plan.thresholds]
        settings.append({"strides": list(plan.strides), "thresholds": thresholds})
    return settings

"""Steps after the networks: blend, smooth, decide, override, look at fewer frames.

What a step is told to choose, it chooses once on all labelled rows of split val (version 0, the papers' way) and once without each fold of
recordings, so that the number of the whole chain can be told nested; split test gets the choice of version 0.
See `mien.evaluation.nested_tuning`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from mien.errors import DataError
from mien.evaluation import ensemble
from mien.evaluation.ensemble import blend
from mien.evaluation.nested_tuning import GRID, decide, fit, thresholds_for, tune, versions
from mien.files import atomic_write
from mien.metrics import ccc, macro_f1, mean_au_f1
from mien.recipes.predictions import Part, Predicted
from mien.recipes.steps.base import STEP, Step, StepContext
from mien.tasks import Floats, Task
from mien.temporal.adaptive_rate import Strides, apply_strides, fit_strides
from mien.temporal.rows import ema_rows, smooth_rows

__all__ = ["AdaptiveRate", "Blend", "Kernel", "Override", "Smooth", "Threshold"]

_TINY: Final = 1e-7
_WEIGHTS = tuple(round(0.1 * i, 1) for i in range(11))
Chosen = dict[str, list[Any]]
Apply = Callable[[Any, Floats, Part], Floats]
Changed = tuple[list[Any], Floats, list[Floats]]
"""Choices of version 0 for each seed, values (S, V, N, K) of split val, and values (N, K) of split test for each seed."""


class Kernel(BaseModel):
    """How scores are smoothed: over a window, see `mien.temporal.rows.smooth_rows`, or by a running mean, see `ema_rows`.

    alpha: the running mean, in the place of window, sigma and unit. Classes and units are averaged as logits: where the layer that gives
    them is affine, that is the running mean of the embeddings which it reads (SMM-EmotionNet's authors).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    window: Annotated[int, Field(ge=0, le=100_000)] | None = None
    sigma: Annotated[float, Field(gt=0, le=1e6)] | None = None
    unit: Literal["rows", "frames"] | None = None
    alpha: Annotated[float, Field(ge=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.window is None) == (self.alpha is None):
            raise ValueError("give a window, or alpha for a running mean")
        if self.alpha is not None and (self.sigma is not None or self.unit is not None):
            raise ValueError("alpha: a running mean has no sigma and no unit; leave them out")
        return self

    def __call__(self, values: Floats, part: Part, kind: str) -> Floats:
        """Scores (N, K) of a task of that kind smoothed within their videos."""
        video, frame = part.table["video"], part.table["frame"]
        if self.window is not None:
            return smooth_rows(
                values, video, frame, window=self.window, sigma=self.sigma, unit=self.unit or "rows"
            )
        assert self.alpha is not None
        if kind == "scalar":
            return ema_rows(values, video, frame, self.alpha)
        inside = np.clip(values, _TINY, 1 - _TINY)
        if kind == "any_of":
            return np.asarray(
                1 / (1 + np.exp(-ema_rows(np.log(inside / (1 - inside)), video, frame, self.alpha)))
            )
        shares = np.exp(ema_rows(np.log(inside), video, frame, self.alpha))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class Smooth(Step):
    """Average scores over neighbouring frames.

    kernels: by task family; several for one family are candidates to choose from. A family left out stays as it is.
    """

    do: Literal["smooth"]
    of: Annotated[str, STEP]
    kernels: Annotated[dict[str, Kernel | tuple[Kernel, ...]], Field(min_length=1)]

    @override
    def run(self, place: StepContext) -> None:
        given = place.predicted(self.of)
        _check_families(place.name, "kernels", self.kernels, given)

        def change(each: Task, part: Part, inputs: list[Floats], test: Part | None) -> Changed:
            kernels = self.kernels[each.family]
            several = kernels if isinstance(kernels, tuple) else (kernels,)
            return _tuned(
                several,
                lambda kernel, values, where: kernel(values, where, each.kind),
                each,
                (part, test),
                inputs,
            )

        _changed(place, [given], list(self.kernels), change)


class Blend(Step):
    """The weighted mean of what several steps predict.

    of: two steps or more. weights: by task family: the first one's share of two; a share for each; or ``tune``, to choose the first one's
    out of 0, .1, …, 1. A family left out is the first one's. logits: blend logits, not probabilities (expressions and compounds only).
    """

    do: Literal["blend"]
    of: Annotated[tuple[str, ...], Field(min_length=2), STEP]
    weights: Annotated[dict[str, float | tuple[float, ...] | Literal["tune"]], Field(min_length=1)]
    logits: bool = False

    @override
    def run(self, place: StepContext) -> None:
        given = [place.predicted(name) for name in self.of]
        for one in given:
            _check_families(place.name, "weights", self.weights, one)

        def mixed(weights: tuple[float, ...], stack: Floats, where: Part) -> Floats:
            if not self.logits:
                return blend(list(stack), weights)
            raw = blend(list(np.log(np.maximum(stack, 1e-8))), weights)
            return np.asarray(np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True))

        def change(each: Task, part: Part, inputs: list[Floats], test: Part | None) -> Changed:
            if self.logits and each.kind != "one_of":
                raise DataError(
                    f"{place.name}: {each.family} has no logits; blend it in a step without `logits`"
                )
            return _tuned(
                self._candidates(self.weights[each.family], place.name),
                mixed,
                each,
                (part, test),
                inputs,
            )

        _changed(place, given, list(self.weights), change)

    def _candidates(
        self, weights: float | tuple[float, ...] | str, name: str
    ) -> tuple[tuple[float, ...], ...]:
        if isinstance(weights, tuple) and len(weights) == len(self.of):
            return (weights,)
        if isinstance(weights, tuple) or len(self.of) != 2:
            raise DataError(f"{name}: {len(self.of)} steps are blended; give so many weights")
        several = _WEIGHTS if isinstance(weights, str) else (weights,)
        return tuple(
            (one, round(1 - one, 6)) for one in sorted(several, key=lambda one: abs(one - 0.5))
        )


class Threshold(Step):
    """Decide from which score on an action unit is present. values: one for each unit; None: choose each out of .1, .2, …, .9."""

    do: Literal["threshold"]
    of: Annotated[str, STEP]
    values: tuple[float, ...] | None = None

    @override
    def run(self, place: StepContext) -> None:
        def change(each: Task, part: Part, inputs: list[Floats], test: Part | None) -> Changed:
            if self.values is not None and len(self.values) != len(each.names):
                raise DataError(
                    f"{place.name}: {len(each.names)} units need so many values, got {len(self.values)}"
                )
            if self.values is None:
                _two_recordings(each, part)
            target = part.truth(each)

            def choose(own: Floats, seen: Any) -> Floats:
                return (
                    np.array(self.values)
                    if self.values
                    else thresholds_for(own[seen], target[seen], GRID)
                )

            tuned = [
                fit(choose, lambda limits, own: decide(own, limits), one, part.fold)
                for one in inputs
            ]
            chosen = [one.chosen[0].tolist() for one in tuned]
            shared = self.values is not None and all(one.strides[0] == 0 for one in inputs)
            values = np.stack([one.values[:1] if shared else one.values for one in tuned])
            units = (
                []
                if test is None
                else [
                    decide(own[0], limits)
                    for own, limits in _pairs(test.values[each.family], chosen)
                ]
            )
            return chosen, values, units

        _changed(place, [place.predicted(self.of)], ["au"], change)


class Override(Step):
    """Where another step is sure of an expression, take its word (HSEmotion at ABAW8).

    by: that step. threshold: how sure, above; several are candidates. without: classes in which it has no say.
    """

    do: Literal["override"]
    of: Annotated[str, STEP]
    by: Annotated[str, STEP]
    threshold: float | tuple[float, ...]
    without: tuple[str, ...] = ()

    @override
    def run(self, place: StepContext) -> None:
        limits = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)

        def change(each: Task, part: Part, inputs: list[Floats], test: Part | None) -> Changed:
            slots = [i for i, name in enumerate(each.names) if name not in self.without]

            def taken(limit: float, stack: Floats, where: Part) -> Floats:
                return ensemble.override(stack[0], stack[1], limit, slots)

            return _tuned(limits, taken, each, (part, test), inputs)

        _changed(place, [place.predicted(self.of), place.predicted(self.by)], ["expr"], change)


class AdaptiveRate(Step):
    """Decide expressions from few frames, and from more only where that is unsure (HSEmotion at ABAW3).

    See `mien.temporal.adaptive_rate`.
    """

    do: Literal["look_less"]
    of: Annotated[str, STEP]
    strides: Annotated[tuple[int, ...], Field(min_length=1)] = (200, 100, 50, 10, 1)
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1

    @override
    def run(self, place: StepContext) -> None:
        looks: list[float] = []

        def change(each: Task, part: Part, inputs: list[Floats], test: Part | None) -> Changed:
            _two_recordings(each, part)
            video, frame = part.table["video"].to_numpy(), part.table["frame"].to_numpy()
            target = part.truth(each)
            classes = np.where(
                np.isnan(target).any(axis=1), np.nan, np.nan_to_num(target).argmax(axis=1)
            )

            def choose(own: Floats, seen: Any) -> Strides:
                return fit_strides(
                    own[seen],
                    classes[seen],
                    video[seen],
                    frame[seen],
                    strides=self.strides,
                    alpha=self.alpha,
                )

            def apply(plan: Strides, own: Floats) -> Floats:
                values, looked = apply_strides(plan, own, video, frame)
                looks.append(float(looked.mean()))
                return values

            tuned = [fit(choose, apply, one, part.fold) for one in inputs]
            plans = [one.chosen[0] for one in tuned]
            units = []
            if test is not None:
                where = test.table["video"].to_numpy(), test.table["frame"].to_numpy()
                units = [
                    apply_strides(plan, own[0], *where)[0]
                    for own, plan in _pairs(test.values[each.family], plans)
                ]
            chosen = [
                {
                    "strides": list(plan.strides),
                    "thresholds": [round(x, 4) for x in plan.thresholds],
                }
                for plan in plans
            ]
            return chosen, np.stack([one.values for one in tuned]), units

        _changed(place, [place.predicted(self.of)], ["expr"], change)
        place.note(
            f"{place.name}: {100 * np.mean(looks):.1f} % of the frames of split val were looked at"
        )


def _tuned(
    candidates: Sequence[Any],
    apply: Apply,
    each: Task,
    parts: tuple[Part, Part | None],
    inputs: list[Floats],
) -> Changed:
    """Choices (of version 0), values (S, V, N, K) of split val, and values (N, K) of split test for each seed.

    parts: splits val and test. inputs: for each seed of val versioned (V, N, K), or (V, P, N, K) of the P parts of a blend.
    One candidate is applied, not chosen.
    """
    part, test = parts
    if len(candidates) > 1:
        _two_recordings(each, part)
    target, judge = part.truth(each), _judge(each)
    chosen: list[Any] = []
    values: list[Floats] = []
    for one in inputs:
        if len(candidates) == 1:
            own = one[:1] if one.strides[0] == 0 else one
            chosen.append(candidates[0])
            values.append(np.stack([apply(candidates[0], version, part) for version in own]))
        else:
            tuned = tune(
                candidates,
                lambda candidate, own: apply(candidate, own, part),
                judge,
                one,
                target=target,
                fold=part.fold,
            )
            chosen.append(tuned.chosen[0])
            values.append(tuned.values)
    units = (
        []
        if test is None
        else [apply(pick, own[0], test) for own, pick in _pairs(test.values[each.family], chosen)]
    )
    told = [pick.model_dump() if isinstance(pick, BaseModel) else pick for pick in chosen]
    return told, np.stack(values), units


def _judge(each: Task) -> Callable[[Floats, Floats], float]:
    """What a choice for a task is judged by."""
    if each.kind == "one_of":
        return lambda pred, target: macro_f1(
            pred.argmax(axis=1), target.argmax(axis=1), range(len(each.names))
        )
    if each.kind == "scalar":
        return lambda pred, target: float(
            np.mean([ccc(pred[:, i], target[:, i]) for i in range(len(each.names))])
        )
    return lambda pred, target: mean_au_f1(pred >= 0.5, target)


def _pairs(values: Floats, chosen: Sequence[Any]) -> list[tuple[Floats, Any]]:
    """The values of each seed with its choice; values of one seed serve all."""
    return [(values[min(i, len(values) - 1)], pick) for i, pick in enumerate(chosen)]


def _changed(
    place: StepContext, given: Sequence[Predicted], families: Sequence[str],
    change: Callable[[Task, Part, list[Floats], Part | None], Changed],
) -> None:  # fmt: skip
    """Save the first of `given` with the families changed, and what was chosen."""
    _same_rows(place.name, given)
    first = given[0]
    val, test = first.parts["val"], first.parts.get("test")
    if any("test" not in one.parts for one in given):
        test = None
    results: dict[str, dict[str, Floats]] = {
        "val": dict(val.values),
        "test": {} if test is None else dict(test.values),
    }
    choices: Chosen = {}
    for family in families:
        each = first.task(family)
        inputs = _inputs(
            [one.parts["val"].values[family] for one in given], int(val.fold.max()) + 1
        )
        joint = None if test is None else _joint([one.parts["test"] for one in given], family)
        choices[family], results["val"][family], units = change(each, val, inputs, joint)
        if test is not None:
            results["test"][family] = np.stack(units)[:, None]
    parts = {"val": val.with_values(results["val"])}
    if test is not None:
        parts["test"] = test.with_values(results["test"])
    atomic_write(place.folder / "chosen.json", json.dumps(choices, indent=2).encode())
    Predicted(first.tasks, parts).save(place.folder)


def _two_recordings(each: Task, part: Part) -> None:
    """Raises DataError where a choice could not be told on other recordings than it was made on."""
    if not part.fold.any():
        raise DataError(
            f"{each.key}: split val shows one recording alone, so nothing can be chosen on it and told on others; give its settings"
        )


def _inputs(values: Sequence[Floats], folds: int) -> list[Floats]:
    """For each seed a versioned array, parts of a blend stacked in the second place; what has fewer seeds or versions is repeated."""
    seeds, count = max(len(one) for one in values), max(one.shape[1] for one in values)
    found = []
    for seed in range(seeds):
        own = [one[min(seed, len(one) - 1)].astype(np.float64) for one in values]
        whole = [np.broadcast_to(one, (count, *one.shape[1:])) for one in own]
        stacked = whole[0] if len(whole) == 1 else np.stack(whole, axis=1)
        found.append(versions(stacked[0], folds) if count == 1 else stacked)
    return found


def _joint(tests: Sequence[Part], family: str) -> Part:
    """Split test with values of one family (S, 1, N, K), or (S, 1, P, N, K) of the parts of a blend."""
    if len(tests) == 1:
        return tests[0]
    seeds = max(len(one.values[family]) for one in tests)
    stacked = [
        np.stack([one.values[family][min(s, len(one.values[family]) - 1)] for one in tests], axis=1)
        for s in range(seeds)
    ]
    return tests[0].with_values({family: np.stack(stacked)})


def _check_families(step: str, where: str, families: Mapping[str, Any], given: Predicted) -> None:
    for family in families:
        if family not in {each.family for each in given.tasks}:
            raise DataError(
                f"{step}: {where}.{family}: nothing predicts {family}, only {', '.join(t.family for t in given.tasks)}"
            )


def _same_rows(step: str, given: Sequence[Predicted]) -> None:
    for split in given[0].parts:
        for other in given[1:]:
            if split in other.parts and not other.parts[split].table["name"].equals(
                given[0].parts[split].table["name"]
            ):
                raise DataError(
                    f"{step}: its inputs are about other faces of split {split}; blend steps on the same data"
                )

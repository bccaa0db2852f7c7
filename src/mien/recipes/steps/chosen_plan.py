"""Steps that change scores, with what they chose, as steps of a system's plan."""

import json
from collections.abc import Mapping
from typing import Any

from mien.bundles.plan import (
    BiasStep,
    BlendStep,
    Kernel,
    OverrideStep,
    Plan,
    PlanStep,
    SmoothStep,
    ThresholdStep,
    tasks_of,
)
from mien.recipes.steps.base import Step, StepContext
from mien.recipes.steps.postprocess import Blend, ClassBias, Override, Smooth, Threshold

__all__ = ["CHANGES", "Change", "choices_of", "inputs_of_change", "planned"]

Change = Smooth | Blend | Threshold | Override | ClassBias
"""Steps that change the scores of others, and do the same to new faces."""
CHANGES = (Smooth, Blend, Threshold, Override, ClassBias)


def inputs_of_change(step: Change) -> tuple[str, ...]:
    """Return the steps whose scores a step changes.

    Args:
        step: The step.

    Returns:
        Their names, in the order in which it takes them.
    """
    if isinstance(step, Blend):
        return step.of
    if isinstance(step, Override):
        return step.of, step.by
    return (step.of,)


def choices_of(context: StepContext, name: str, seed: int) -> dict[str, Any]:
    """Read what an earlier step chose on all of split val.

    Args:
        context: Of the step that asks.
        name: The earlier step's name.
        seed: Number of the recipe's seed, from 0; a step with fewer gives its last.

    Returns:
        By task family.
    """
    text = (context.earlier[name] / "chosen.json").read_text(encoding="utf-8")
    by_family = json.loads(text)
    return {family: seeds[min(seed, len(seeds) - 1)] for family, seeds in by_family.items()}


def planned(step: Step, chosen: Mapping[str, Any], plan: Plan) -> PlanStep:
    """Make the plan's step of one that changes scores.

    Args:
        step: The step, of one of `CHANGES`.
        chosen: What it chose, from `choices_of`.
        plan: The steps before it.

    Returns:
        The same with its choices made.
    """
    match step:
        case Smooth():
            kernels = {key: Kernel.model_validate(value) for key, value in chosen.items()}
            return SmoothStep(do="smooth", of=step.of, kernels=kernels)
        case Blend():
            weights = {key: tuple(map(float, value)) for key, value in chosen.items()}
            return BlendStep(do="blend", of=step.of, weights=weights, logits=step.logits)
        case Threshold():
            return ThresholdStep(do="threshold", of=step.of, values=tuple(chosen["au"]))
        case Override():
            columns = _columns_with_a_say(step, plan)
            return OverrideStep(
                do="override", of=step.of, by=step.by, threshold=chosen["expr"], columns=columns
            )
        case ClassBias():
            return BiasStep(do="class_bias", of=step.of, values=tuple(chosen["expr"]))
    raise AssertionError(f"{type(step).__name__} is no step that changes scores")


def _columns_with_a_say(step: Override, plan: Plan) -> tuple[int, ...]:
    """The classes in which the overriding step has a say."""
    columns: list[int] = []
    for task in tasks_of(plan, step.of):
        if task.family != "expr":
            continue
        for column, label in enumerate(task.names):
            if label not in step.without:
                columns.append(column)
    return tuple(columns)

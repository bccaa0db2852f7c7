"""The steps of a plan that change scores, on the rows of a table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mien.bundles.plan import (
    BiasStep,
    BlendStep,
    HeadsStep,
    OverrideStep,
    Plan,
    PlanStep,
    ScoreStep,
    SmoothStep,
    ThresholdStep,
    inputs_of,
    tasks_of,
)
from mien.systems.ensemble import add_bias, blend, logit_blend, override
from mien.systems.kernels import apply_kernel, kernel_reach
from mien.tasks import Floats, Kind

__all__ = ["Scores", "apply_plan", "centre_thresholds", "needed_steps", "plan_reach"]

Scores = Mapping[str, Floats]
"""Scores (N, K) by task family."""


def needed_steps(plan: Plan, answer: str) -> list[str]:
    """Return the steps that an answer depends on, and itself, in the plan's order.

    Args:
        plan: The plan.
        answer: Name of a step.

    Returns:
        Names of steps.
    """
    needed = {answer}
    for name in reversed(list(plan)):
        if name in needed:
            needed.update(inputs_of(plan[name]))
    return [name for name in plan if name in needed]


def apply_plan(
    plan: Plan, answer: str, given: Mapping[str, Scores], video: ArrayLike, frame: ArrayLike
) -> dict[str, Floats]:
    """Go from the scores of networks to the answer of a system.

    Args:
        plan: The plan.
        answer: The step whose scores are wanted.
        given: By step, the scores of those that run networks, for N faces.
        video: Names or numbers of the videos, (N,).
        frame: Frame numbers, whole, from 0, (N,).

    Returns:
        Scores (N, K) by task family.

    Raises:
        DataError: Scores are NaN, or do not fit together.
    """
    scores: dict[str, Scores] = {}
    for name in needed_steps(plan, answer):
        step = plan[name]
        if isinstance(step, ScoreStep | HeadsStep):
            scores[name] = given[name]
        else:
            before = [scores[other] for other in inputs_of(step)]
            kinds = {task.family: task.kind for task in tasks_of(plan, name)}
            changed = _change(step, before, video, frame, kinds)
            scores[name] = {**before[0], **changed}
    return dict(scores[answer])


def _change(
    step: PlanStep,
    before: list[Scores],
    video: ArrayLike,
    frame: ArrayLike,
    kinds: Mapping[str, Kind],
) -> dict[str, Floats]:
    """The scores of the families that a step changes."""
    changed: dict[str, Floats] = {}
    match step:
        case SmoothStep():
            for family, kernel in step.kernels.items():
                changed[family] = apply_kernel(
                    kernel, before[0][family], video, frame, kinds[family]
                )
        case BlendStep():
            mean = logit_blend if step.logits else blend
            for family, weights in step.weights.items():
                changed[family] = mean([scores[family] for scores in before], weights)
        case ThresholdStep():
            changed["au"] = centre_thresholds(before[0]["au"], step.values)
        case OverrideStep():
            changed["expr"] = override(
                before[0]["expr"], before[1]["expr"], step.threshold, step.columns
            )
        case BiasStep():
            changed["expr"] = add_bias(before[0]["expr"], step.values)
    return changed


def centre_thresholds(scores: Floats, thresholds: ArrayLike) -> Floats:
    """Move scores so that 0.5 is the threshold of each column.

    Args:
        scores: (N, K), 0..1.
        thresholds: (K,), above 0 and below 1.

    Returns:
        (N, K), 0..1: from 0.5 up exactly where the score was at its threshold or above.

    >>> centre_thresholds(np.array([[0.1, 0.1], [0.2, 0.9]]), [0.2, 0.8]).round(3).tolist()
    [[0.25, 0.062], [0.5, 0.75]]
    """
    limits = np.asarray(thresholds, np.float64)
    below = np.minimum(0.5 * scores / limits, np.nextafter(0.5, 0))
    above = 0.5 + 0.5 * (scores - limits) / (1 - limits)
    return np.where(scores >= limits, above, below)


def plan_reach(plan: Plan, answer: str) -> tuple[int, int]:
    """Say how many rows of a video the answer for one row depends on; windows of heads not counted.

    Args:
        plan: The plan.
        answer: The step whose scores are wanted.

    Returns:
        Rows before and rows after it.
    """
    step = plan[answer]
    reach = (0, 0)
    if isinstance(step, SmoothStep):
        reaches = [kernel_reach(kernel) for kernel in step.kernels.values()]
        reach = max(before for before, _ in reaches), max(after for _, after in reaches)
    inputs = [plan_reach(plan, name) for name in inputs_of(step)]
    before = max((rows for rows, _ in inputs), default=0)
    after = max((rows for _, rows in inputs), default=0)
    # Rows that a step reads have been changed by the steps before it, from rows farther away.
    return reach[0] + before, reach[1] + after

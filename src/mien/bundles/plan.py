"""The plan of a system: which networks it runs, and what becomes of their scores.

A plan is a sequence of named steps, each of which gives scores by task family. Those of kind
`score` and `heads` run networks on single faces or on windows of frames; all others change the
scores of steps before them. The steps mirror those of a recipe, with every choice made.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from mien.bundles.card_parts import Strict, TaskCard, check_families
from mien.tasks import TASKS, Mean, Task

__all__ = [
    "Aggregation",
    "Basis",
    "BiasStep",
    "BlendStep",
    "CompoundStep",
    "External",
    "Hash",
    "Head",
    "HeadsStep",
    "Kernel",
    "Key",
    "OverrideStep",
    "Plan",
    "PlanStep",
    "ScoreStep",
    "SmoothStep",
    "ThresholdStep",
    "Window",
    "families_of",
    "inputs_of",
    "tasks_of",
]

Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=100)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Column = Annotated[int, Field(ge=0, lt=1 << 16)]
Threshold = Annotated[float, Field(gt=0, lt=1)]
Basis = Literal["all", "basic"]
Aggregation = Literal["max", "largest", "mean"]


class Kernel(BaseModel):
    """How scores are smoothed within a video: over a window, or by a running mean.

    Attributes:
        window: See `mien.temporal.rows.smooth_rows`.
        sigma: The same.
        unit: The same; ``rows`` unless given.
        alpha: Of a running mean instead, see `mien.temporal.rows.ema_rows`. Classes and units are
            averaged as logits: if the layer that computes these is affine, that is the running mean
            of the embeddings it reads (as the authors of SMM-EmotionNet do).
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


class ScoreStep(Strict):
    """What a member's own outputs say.

    Attributes:
        member: The member.
        tasks: Whose scores these are.
        columns: By family, which of the member's labels each label of ours is. Chosen shares of
            classes are divided by their sum.
    """

    do: Literal["score"]
    member: Key
    tasks: Annotated[tuple[TaskCard, ...], Field(min_length=1)]
    columns: dict[str, tuple[Column, ...]]

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        check_families(self.tasks)
        for spec in self.tasks:
            if len(self.columns.get(spec.task.family, ())) != len(spec.names):
                raise ValueError(f"columns: {spec.key} needs {len(spec.names)} of them")
        return self


class Window(Strict):
    """Frames that a head reads at once.

    Attributes:
        length: Frames of a window.
        gap: Frame numbers farther apart than this begin a new recording.
    """

    length: Annotated[int, Field(ge=2, le=10_000)]
    gap: Annotated[int, Field(ge=1, le=10_000)]


class External(Strict):
    """Features of frames that another program computes, see `mien.temporal.external`.

    Attributes:
        columns: Names of the numbers, in their order.
        hold: A frame without a row reads the nearest earlier one's, at most so many frames before.
    """

    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=1 << 16)]
    hold: Annotated[int, Field(ge=0, le=10_000)] = 0


class Head(Strict):
    """One network of heads on a member's features.

    Attributes:
        sha256: Of its file, ``heads/<step>-<number>.onnx``.
        first: The first number of what it reads of the member: its features, then its raw outputs.
        end: The number behind the last one.
        tasks: Its outputs, in their order.
        window: The frames it reads at once; None for single faces.
        external: What it reads behind the numbers of the member, each with one number more that is
            1 where a frame has features and 0 where it has none.
    """

    sha256: Hash
    first: Column
    end: Column
    tasks: Annotated[tuple[TaskCard, ...], Field(min_length=1)]
    window: Window | None = None
    external: tuple[External, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what it reads at once: (1, D) of a face, (1, T, D) of a window."""
        width = self.end - self.first
        for part in self.external:
            width += len(part.columns) + 1
        return (1, width) if self.window is None else (1, self.window.length, width)

    @model_validator(mode="after")
    def _some_numbers(self) -> Self:
        if self.first >= self.end:
            raise ValueError(f"first: {self.first} is not below end, {self.end}")
        return self


class HeadsStep(Strict):
    """Heads that were trained on a member's features."""

    do: Literal["heads"]
    member: Key
    heads: Annotated[tuple[Head, ...], Field(min_length=1, max_length=100)]


class SmoothStep(Strict):
    """Scores averaged over neighbouring frames; families without a kernel stay as they are."""

    do: Literal["smooth"]
    of: Key
    kernels: Annotated[dict[str, Kernel], Field(min_length=1)]


class BlendStep(Strict):
    """The weighted mean of several steps; a family without weights is taken from the first step.

    Attributes:
        of: The steps.
        weights: By family, one for each step.
        logits: Blend logits, not probabilities (single classes only).
    """

    do: Literal["blend"]
    of: Annotated[tuple[Key, ...], Field(min_length=2, max_length=100)]
    weights: Annotated[
        dict[str, tuple[Annotated[float, Field(ge=0, le=1e6)], ...]], Field(min_length=1)
    ]
    logits: bool = False

    @model_validator(mode="after")
    def _a_weight_for_each(self) -> Self:
        for family, weights in self.weights.items():
            if len(weights) != len(self.of) or not any(weights):
                raise ValueError(f"weights.{family}: give {len(self.of)}, not all 0")
        return self


class ThresholdStep(Strict):
    """Action units by thresholds of their own.

    Scores are moved so that 0.5 is the threshold: from 0 to it, and from it to 1, in straight
    lines. So a unit is present from 0.5 up, as everywhere else.

    Attributes:
        of: The step whose ``au`` scores are moved.
        values: One threshold for each unit.
    """

    do: Literal["threshold"]
    of: Key
    values: Annotated[tuple[Threshold, ...], Field(min_length=1)]


class OverrideStep(Strict):
    """Expressions of another step where that one is sure.

    Attributes:
        of: The step whose scores are overridden.
        by: The other step.
        threshold: The probability above which it is sure.
        columns: The classes in which it has a say.
    """

    do: Literal["override"]
    of: Key
    by: Key
    threshold: Annotated[float, Field(ge=0, le=1)]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]


class BiasStep(Strict):
    """Expressions with a bias for each class, added to the logarithms of the probabilities.

    Attributes:
        of: The step whose ``expr`` scores are changed.
        values: One number for each class.
    """

    do: Literal["class_bias"]
    of: Key
    values: Annotated[tuple[Annotated[float, Field(ge=-100, le=100)], ...], Field(min_length=2)]


class CompoundStep(Strict):
    """Compound expressions of a frame from the basic expressions of all its faces.

    Attributes:
        of: The step whose ``expr`` scores are read.
        mean: See `mien.tasks.compound_scores`.
        basis: ``all`` takes the scores as they are; ``basic`` divides the six that compounds are
            made of by their sum first.
        aggregation: What several faces of a frame become: the highest score of each compound, the
            largest face's, or the mean.
        window: As in `mien.temporal.rows.smooth_rows`, in frames.
        sigma: The same.
    """

    do: Literal["compounds"]
    of: Key
    mean: Mean = "arithmetic"
    basis: Basis = "all"
    aggregation: Aggregation = "max"
    window: Annotated[int, Field(ge=0, le=100_000)] = 0
    sigma: Annotated[float, Field(gt=0, le=1e6)] | None = None


PlanStep = Annotated[
    ScoreStep
    | HeadsStep
    | SmoothStep
    | BlendStep
    | ThresholdStep
    | OverrideStep
    | BiasStep
    | CompoundStep,
    Field(discriminator="do"),
]
Plan = Mapping[str, PlanStep]


def inputs_of(step: PlanStep) -> tuple[str, ...]:
    """Return the steps whose scores a step reads.

    Args:
        step: A step.

    Returns:
        Their names; none for a step that runs networks.
    """
    if isinstance(step, ScoreStep | HeadsStep):
        return ()
    if isinstance(step, BlendStep):
        return step.of
    if isinstance(step, OverrideStep):
        return step.of, step.by
    return (step.of,)


def tasks_of(plan: Plan, name: str) -> tuple[Task, ...]:
    """Return what a step of a plan gives.

    Args:
        plan: The plan.
        name: Name of the step.

    Returns:
        Its tasks, in their order.
    """
    step = plan[name]
    if isinstance(step, ScoreStep):
        return tuple(spec.task for spec in step.tasks)
    if isinstance(step, HeadsStep):
        return tuple(spec.task for head in step.heads for spec in head.tasks)
    if isinstance(step, CompoundStep):
        return (TASKS["ce.abaw7"],)
    return tasks_of(plan, inputs_of(step)[0])


def families_of(step: PlanStep) -> tuple[str, ...]:
    """Return the task families that a step changes, and so must be given.

    Args:
        step: A step that changes scores.

    Returns:
        The families; none for a step that runs networks.
    """
    match step:
        case SmoothStep():
            return tuple(step.kernels)
        case BlendStep():
            return tuple(step.weights)
        case ThresholdStep():
            return ("au",)
        case OverrideStep() | BiasStep() | CompoundStep():
            return ("expr",)
    return ()

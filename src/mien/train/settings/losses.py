"""How each task is learned: its loss, its weight, and what a teacher adds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.tasks import Task

__all__ = ["LOSSES_OF_KIND", "Distill", "LossKind", "LossSettings"]


LossKind = Literal[
    "cross_entropy", "binary", "focal", "logit_adjusted", "ccc", "bins", "mse", "mae"
]


LOSSES_OF_KIND: Final[Mapping[str, tuple[LossKind, ...]]] = MappingProxyType(
    {
        "one_of": ("cross_entropy", "focal", "logit_adjusted"),
        "any_of": ("binary", "focal", "logit_adjusted", "mse", "mae"),
        "scalar": ("ccc", "bins", "mse", "mae"),
    }
)
"""The losses that a kind of task can be learned by; the first where settings name none."""

# The options of `LossSettings` that a loss has beside `kind`, `weight` and `distill`.
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cross_entropy": ("smoothing", "classes", "bootstrap"),
        "binary": ("positives",),
        "focal": ("gamma",),
        "ccc": ("floor", "fewest"),
        "bins": ("floor", "fewest", "legacy"),
    }
)


class Distill(BaseModel):
    """How much of a labelled row's cost the teacher has.

    The cost of a row without a label is the teacher's alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: Annotated[float, Field(gt=0, le=1)] = 0.4
    """share of a labelled row's cost that the teacher has, 0..1"""
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """softens both sides of one_of tasks and of bins, and of nothing else"""
    squared: bool = True
    """softened costs are multiplied by the temperature squared (Hinton et al. 2015); the published
    unified model of ABAW2 goes without"""

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if not self.squared and self.temperature == 1:
            raise ValueError(
                "squared: a temperature of 1 changes nothing when squared; "
                "leave it out, or give another temperature"
            )
        return self


class LossSettings(BaseModel):
    """How one task is learned.

    An option that the kind of loss does not have is refused, not ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: LossKind | None = None
    """null means cross_entropy for one_of, binary for any_of, ccc for scalar tasks; focal weighs
    labels that the network already answers well less (Lin et al. 2017); logit_adjusted learns as
    if all classes, or presence and absence, were equally frequent (Menon et al. 2021)"""
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """of this task in the sum over all tasks"""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of every label that is spread evenly over the classes"""
    classes: (
        Literal["none", "max", "mean"]
        | Annotated[dict[str, Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1)]
    ) = "none"
    """weight of a class: the most frequent's count (max), or the mean count (mean), over its own
    count; or by name, such as {disgust: 3, fear: 5}, and 1 for those not named"""
    bootstrap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of a label that gives way to what the network itself finds likeliest; for labels that
    are often wrong"""
    positives: bool = False
    """let positives and negatives of every column weigh alike"""
    gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    """of focal: a label that the network gives the share p costs (1 - p)^gamma of its
    cross-entropy"""
    floor: Annotated[float, Field(gt=0, le=1e6)] = 1e-3
    """added to the denominator of the concordance"""
    fewest: Annotated[int, Field(ge=2, le=10**6)] = 8
    """fewest annotated rows of a batch whose concordance counts"""
    legacy: bool = False
    """bins stand for points from end to end rather than for their centres (NISL at ABAW2)"""
    distill: Distill | None = None
    """what a teacher adds; null for none"""

    def kind_for(self, task: Task) -> LossKind:
        """Choose the kind of loss for a task.

        Args:
            task: The task.

        Returns:
            `kind`, or the task's usual one.

        Raises:
            ValueError: The kind, or an option, does not fit the task.
        """
        possible = LOSSES_OF_KIND[task.kind]
        kind = self.kind or possible[0]
        if kind not in possible:
            raise ValueError(
                f"losses: {task.family} is a {task.kind} task and learns by "
                f"{' or '.join(possible)}, not by {kind}"
            )
        self._check_options(task, kind)
        self._check_classes(task)
        return kind

    def _check_options(self, task: Task, kind: LossKind) -> None:
        """Raises ValueError for options that a kind of loss does not have."""
        allowed = {"kind", "weight", "distill", *_OPTIONS.get(kind, ())}
        idle = []
        for name, field in type(self).model_fields.items():
            # A default that is spelled out does no harm, and written settings spell out all.
            if name not in allowed and getattr(self, name) != field.default:
                idle.append(name)
        if idle:
            raise ValueError(
                f"losses: {task.family} learns by {kind}, which has no {', '.join(sorted(idle))}; "
                "leave it out"
            )
        # Only choices among classes or bins can be softened.
        if self.distill is None or task.kind == "one_of" or kind == "bins":
            return
        if self.distill.temperature != 1:
            raise ValueError(
                f"losses: {task.family} learns by {kind}, which has no temperature; leave it out"
            )

    def _check_classes(self, task: Task) -> None:
        """Raises ValueError for a weight of a class that the task does not have."""
        if not isinstance(self.classes, dict):
            return
        unknown = [name for name in self.classes if name not in task.names]
        if unknown:
            raise ValueError(
                f"losses: {task.family} has no class {', '.join(unknown)} to weigh; "
                f"it has {', '.join(task.names)}"
            )

    def counts_for(self, task: Task) -> tuple[str, ...]:
        """Say what has to be counted in the labels beforehand.

        Args:
            task: The task.

        Returns:
            Names as in `mien.train.objective.objective.Weights`.

        Raises:
            ValueError: As `kind_for`.
        """
        kind = self.kind_for(task)
        counts = []
        if self.classes != "none":
            counts.append("classes")
        if self.positives:
            counts.append("positives")
        if kind == "logit_adjusted":
            counts.append("log_priors")
        # A teacher's numbers are compared in units of the labels' variance too.
        if kind in ("mse", "mae") or (kind == "ccc" and self.distill is not None):
            counts.append("variance")
        return tuple(counts)

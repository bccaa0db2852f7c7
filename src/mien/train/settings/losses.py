"""How each task is learned: its loss, its weight, and what a teacher adds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.tasks import Task

__all__ = ["LOSSES_OF_KIND", "Distill", "LossKind", "LossSettings"]


LossKind = Literal["cross_entropy", "binary", "ccc", "bins", "mse", "mae"]


# By kind of task; the first is taken where the settings name none.
LOSSES_OF_KIND: Final[Mapping[str, tuple[LossKind, ...]]] = MappingProxyType(
    {
        "one_of": ("cross_entropy",),
        "any_of": ("binary", "mse", "mae"),
        "scalar": ("ccc", "bins", "mse", "mae"),
    }
)


_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cross_entropy": ("smoothing", "classes", "bootstrap"),
        "binary": ("positives",),
        "ccc": ("floor", "fewest"),
        "bins": ("floor", "fewest", "legacy"),
    }
)


class Distill(BaseModel):
    """How much of a labelled row's cost the teacher has; a row without a label is the teacher's alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: Annotated[float, Field(gt=0, le=1)] = 0.4
    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Softens both sides of `one_of` tasks and of bins, and of nothing else."""
    squared: bool = True
    """Softened costs are multiplied by the temperature squared (Hinton); the unified model of ABAW2's upstream goes without."""

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if not self.squared and self.temperature == 1:
            raise ValueError(
                "squared: a temperature of 1 changes nothing when squared; leave it out, or give another temperature"
            )
        return self


class LossSettings(BaseModel):
    """How one task is learned. An option that the kind of loss does not have is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: LossKind | None = None
    """None: cross_entropy for `one_of`, binary for `any_of`, ccc for `scalar`."""
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    classes: (
        Literal["none", "max", "mean"]
        | Annotated[dict[str, Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1)]
    ) = "none"
    """Weight of a class: the most frequent's count, or the mean count, over its own count; or by name, such as ``{disgust: 3, fear: 5}``,
    and 1 for those not named."""
    bootstrap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label that gives way to what the network itself thinks likeliest, see `cross_entropy`; for labels that are often wrong."""
    positives: bool = False
    """Let positives and negatives of every column weigh alike."""
    floor: Annotated[float, Field(gt=0, le=1e6)] = 1e-3
    fewest: Annotated[int, Field(ge=2, le=10**6)] = 8
    """Fewest annotated rows of a batch whose concordance counts."""
    legacy: bool = False
    """Support of the bins from end to end, see `Bins`."""
    distill: Distill | None = None

    def kind_for(self, task: Task) -> LossKind:
        """The kind of loss for that task. Raises ValueError for a kind or an option that does not fit it."""
        kind = self.kind or LOSSES_OF_KIND[task.kind][0]
        if kind not in LOSSES_OF_KIND[task.kind]:
            raise ValueError(
                f"losses: {task.family} is a {task.kind} task and learns by {' or '.join(LOSSES_OF_KIND[task.kind])}, not by {kind}"
            )
        changed = {
            name
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        }
        if strange := changed - {"kind", "weight", "distill", *_OPTIONS.get(kind, ())}:
            raise ValueError(
                f"losses: {task.family} learns by {kind}, which has no {', '.join(sorted(strange))}; leave it out"
            )
        if self.distill and self.distill.temperature != 1 and kind not in ("cross_entropy", "bins"):
            raise ValueError(
                f"losses: {task.family} learns by {kind}, which has no temperature; leave it out"
            )
        if isinstance(self.classes, dict) and (
            unknown := [name for name in self.classes if name not in task.names]
        ):
            raise ValueError(
                f"losses: {task.family} has no class {', '.join(unknown)} to weigh; it has {', '.join(task.names)}"
            )
        return kind

    def counts_for(self, task: Task) -> tuple[str, ...]:
        """What has to be counted in the labels beforehand, see `mien.train.objective.objective.Weights`."""
        kind = self.kind_for(task)
        scaled = kind in ("mse", "mae") or (kind == "ccc" and self.distill is not None)
        needs = {"classes": self.classes != "none", "positives": self.positives, "variance": scaled}
        return tuple(name for name, needed in needs.items() if needed)

"""What training minimises: one loss per task, their weights, and what a teacher adds.

`LossSettings` say it in words, one set per task family; `Objective` is the sum as a module.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mien.data.label_table import class_weights, positive_weights
from mien.errors import DataError, UnknownNameError
from mien.tasks import Floats, Task
from mien.train.objective.losses import (
    Bins,
    binary_cross_entropy,
    binned_divergence,
    binned_loss,
    ccc_loss,
    cross_entropy,
    divergence,
    mixed,
    scaled_mae,
    scaled_mse,
)
from mien.train.settings.losses import Distill, LossSettings

__all__ = ["Objective", "Weights", "bins_for", "mix_targets"]

Weights = Mapping[str, Mapping[str, list[float] | list[list[float]]]]
"""What was counted in the labels, by task family: `classes` (K), `positives` (2, K), `variance` (K). Plain lists, for JSON."""


def bins_for(settings: LossSettings, task: Task) -> Bins | None:
    """The bins of a task that is learned by them, whose head then has K * count outputs; otherwise None."""
    return (
        Bins(task.low, task.high, legacy=settings.legacy)
        if settings.kind_for(task) == "bins"
        else None
    )


class Objective(nn.Module):
    """The weighted sum of the tasks' losses.

    tasks: in the order of the network's outputs, each of another family.
    settings: by task family; a family left out is learned by the defaults.
    weights: by task family, as `from_labels` makes them; a run folder keeps them so that they are counted once.
    Raises UnknownNameError for settings of a family that is not there, ValueError for settings that do not fit the task.
    """

    def __init__(
        self, tasks: Sequence[Task], settings: Mapping[str, LossSettings], weights: Weights
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.settings = _complete(self.tasks, settings)
        self.weights = {family: dict(counted) for family, counted in weights.items()}
        self.distils = any(one.distill for one in self.settings.values())
        self.bins = {task.family: bins_for(self.settings[task.family], task) for task in self.tasks}
        for task in self.tasks:
            for name in self.settings[task.family].counts_for(task):
                if name not in self.weights.get(task.family, {}):
                    raise ValueError(
                        f"losses: {task.family} lacks its {name}; make the objective with Objective.from_labels"
                    )
                # Not part of the state: `weights` is their one home.
                self.register_buffer(
                    f"{task.family}_{name}",
                    torch.tensor(self.weights[task.family][name]),
                    persistent=False,
                )

    @classmethod
    def from_labels(
        cls,
        tasks: Sequence[Task],
        settings: Mapping[str, LossSettings],
        labels: Mapping[str, Floats],
    ) -> "Objective":
        """Count in the training labels, by task family (N, K) with NaN, what the settings need.

        Raises DataError where the labels do not allow it, and as the constructor does.
        """
        complete, weights = _complete(tasks, settings), {}
        for task in tasks:
            needs = complete[task.family].counts_for(task)
            weights[task.family] = {
                name: _count(name, task, labels[task.family], complete[task.family])
                for name in needs
            }
        return cls(tasks, settings, weights)

    def forward(
        self,
        raw: Sequence[Tensor],
        target: Sequence[Tensor],
        teacher: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and by family each task's own cost, unweighted and without gradient.

        raw: (N, K) per task as the network gives it, (N, K * count) for bins. target: (N, K) float32, NaN = not annotated.
        teacher: raw output of a teacher for every row, shaped as `raw`; wanted exactly when the settings distil.
        Sequences (N, T, K) are taken as N * T rows, so concordance is measured across them.
        Raises ValueError for missing or unwanted teachers and for shapes that do not fit.
        """
        if self.distils != (teacher is not None):
            raise ValueError(
                "losses: a teacher's output is needed where the settings distil, and only there"
            )
        total, parts = torch.zeros((), device=raw[0].device), {}
        for i, task in enumerate(self.tasks):
            settings = self.settings[task.family]
            ours, truth = _rows(raw[i]), _rows(target[i])
            self._check(task, ours, truth)
            cost = self._supervised(task, ours, truth)
            if teacher is not None and settings.distill:
                theirs = _rows(teacher[i])
                self._check(task, theirs, truth)
                seen = ~truth.isnan()
                seen = seen.all(dim=1) if task.kind == "one_of" else seen
                cost = mixed(
                    cost,
                    self._distilled(task, ours, theirs, settings.distill),
                    seen,
                    settings.distill.weight,
                )
            parts[task.family] = cost.detach()
            total = total + settings.weight * cost
        return total, parts

    def _check(self, task: Task, raw: Tensor, target: Tensor) -> None:
        bins = self.bins[task.family]
        width = len(task.names) * (bins.count if bins else 1)
        if raw.shape != (len(target), width) or target.shape[1] != len(task.names):
            raise ValueError(
                f"losses: {task.family} wants raw (N, {width}) and target (N, {len(task.names)}), "
                f"but got {tuple(raw.shape)} and {tuple(target.shape)}"
            )

    def _counted(self, task: Task, name: str) -> Tensor | None:
        found = getattr(self, f"{task.family}_{name}", None)
        return found if isinstance(found, Tensor) else None

    def _supervised(self, task: Task, raw: Tensor, target: Tensor) -> Tensor:
        settings, bins = self.settings[task.family], self.bins[task.family]
        if bins:
            return binned_loss(raw, target, bins, settings.floor, settings.fewest)
        kind = settings.kind_for(task)
        if kind == "cross_entropy":
            return cross_entropy(
                raw, target, self._counted(task, "classes"), settings.smoothing, settings.bootstrap
            )
        if kind == "binary":
            return binary_cross_entropy(raw, target, self._counted(task, "positives"))
        if kind == "ccc":
            return ccc_loss(raw, target, settings.floor, settings.fewest)
        error = scaled_mse if kind == "mse" else scaled_mae
        variance = self.get_buffer(f"{task.family}_variance")
        return error(raw.sigmoid() if task.kind == "any_of" else raw, target, variance)

    def _distilled(self, task: Task, raw: Tensor, teacher: Tensor, distill: Distill) -> Tensor:
        """The teacher's cost (N,) of a `one_of` task, (N, K) otherwise."""
        teacher = teacher.detach()
        scale = (
            1.0 if distill.squared else distill.temperature**-2
        )  # the divergences bring the square along
        if bins := self.bins[task.family]:
            return binned_divergence(raw, teacher, bins, distill.temperature) * scale
        if task.kind == "one_of":
            return divergence(raw, teacher, distill.temperature) * scale
        if task.kind == "any_of":
            return binary_cross_entropy_with_logits(raw, teacher.sigmoid(), reduction="none")
        return (raw - teacher) ** 2 / self.get_buffer(f"{task.family}_variance")


def _rows(values: Tensor) -> Tensor:
    """(N, K) or (N, T, K) as float32 rows."""
    return values.float().flatten(0, -2)


def _complete(
    tasks: Sequence[Task], settings: Mapping[str, LossSettings]
) -> dict[str, LossSettings]:
    families = [task.family for task in tasks]
    if len(set(families)) < len(families):
        raise ValueError(
            f"losses: settings go by family, and one comes twice: {', '.join(families)}"
        )
    for family in settings:
        if family not in families:
            raise UnknownNameError("task family", family, families)
    return {family: settings.get(family, LossSettings()) for family in families}


def _count(
    name: str, task: Task, labels: Floats, settings: LossSettings
) -> list[float] | list[list[float]]:
    rule = settings.classes
    if name == "classes" and rule != "none":
        if isinstance(rule, dict):
            return [rule.get(each, 1.0) for each in task.names]
        return [float(value) for value in class_weights(labels, rule)]
    if name == "positives":
        return [[float(value) for value in row] for row in positive_weights(labels)]
    found = []
    for column, values in zip(task.columns, np.asarray(labels, np.float64).T, strict=True):
        known = values[~np.isnan(values)]
        if not known.size and settings.distill:
            found.append(
                (task.high - task.low) ** 2 / 12
            )  # all is the teacher's: as of numbers spread evenly over the range
            continue
        if not known.size or known.var() == 0:
            raise DataError(
                f"{column} does not vary in these labels, so its error has no unit; learn {task.family} otherwise"
            )
        found.append(float(known.var()))
    return found


def mix_targets(target: Tensor, partner: Tensor, share: float) -> Tensor:
    """Targets of mixed pictures (mixup, Zhang et al. 2018): share * target + (1 - share) * partner; NaN in either stays NaN.

    target, partner: (…, K). share: 0..1.

    >>> mix_targets(torch.tensor([1.0, 0.0]), torch.tensor([0.0, float("nan")]), 0.75).tolist()
    [0.75, nan]
    """
    return share * target + (1 - share) * partner

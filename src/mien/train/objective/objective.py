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
    focal_binary,
    focal_cross_entropy,
    mixed,
    scaled_mae,
    scaled_mse,
)
from mien.train.settings.extended import LossExtension
from mien.train.settings.losses import Distill, LossKind, LossSettings

__all__ = ["Objective", "Weights", "bins_for", "mix_targets"]

Weights = Mapping[str, Mapping[str, list[float] | list[list[float]]]]
"""What was counted in the labels, by task family; plain lists, for JSON.

``classes`` (K), ``positives`` (2, K), ``log_priors`` (K), ``variance`` (K).
"""


def bins_for(settings: LossSettings, task: Task) -> Bins | None:
    """Make the bins of a task that is learned by them.

    Args:
        settings: How the task is learned.
        task: The task.

    Returns:
        The bins, whose head has K * count outputs; None for a task that is learned otherwise.

    Raises:
        ValueError: The settings do not fit the task.
    """
    if settings.kind_for(task) != "bins":
        return None
    return Bins(task.low, task.high, legacy=settings.legacy)


class Objective(nn.Module):
    """The weighted sum of the tasks' losses.

    Args:
        tasks: In the order of the network's outputs, each of another family.
        settings: By task family; a family left out is learned by the defaults.
        weights: By task family, as `from_labels` makes them; a run folder keeps them so that they
            are counted once.

    Raises:
        UnknownNameError: Settings name a family that is not there.
        ValueError: Settings do not fit the task, or weights are missing.
    """

    def __init__(
        self, tasks: Sequence[Task], settings: Mapping[str, LossSettings], weights: Weights
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.settings = _complete(self.tasks, settings)
        self.weights = {family: dict(counts) for family, counts in weights.items()}
        self.distils = any(loss.distill for loss in self.settings.values())
        self.bins: dict[str, Bins | None] = {}
        for task in self.tasks:
            self.bins[task.family] = bins_for(self.settings[task.family], task)
            self._register_counts(task)

    def _register_counts(self, task: Task) -> None:
        """Make buffers, which move to a device with the module, of what was counted for a task."""
        counts = self.weights.get(task.family, {})
        for name in self.settings[task.family].counts_for(task):
            if name not in counts:
                raise ValueError(
                    f"losses: {task.family} lacks its {name}; "
                    "make the objective with Objective.from_labels"
                )
            # Not in the state dict: the run folder keeps `weights`, and one copy is enough.
            buffer = torch.tensor(counts[name])
            self.register_buffer(f"{task.family}_{name}", buffer, persistent=False)

    @classmethod
    def from_labels(
        cls,
        tasks: Sequence[Task],
        settings: Mapping[str, LossSettings],
        labels: Mapping[str, Floats],
    ) -> "Objective":
        """Count in the training labels what the settings need.

        Args:
            tasks: As for the constructor.
            settings: As for the constructor.
            labels: (N, K) by task family; NaN = not annotated.

        Returns:
            The objective.

        Raises:
            DataError: The labels do not allow what the settings ask for.
            UnknownNameError: As the constructor.
            ValueError: As the constructor.
        """
        complete = _complete(tasks, settings)
        weights: dict[str, dict[str, list[float] | list[list[float]]]] = {}
        for task in tasks:
            loss = complete[task.family]
            counts = weights[task.family] = {}
            for name in loss.counts_for(task):
                counts[name] = _count(name, task, labels[task.family], loss)
        return cls(tasks, settings, weights)

    def forward(
        self,
        raw: Sequence[Tensor],
        target: Sequence[Tensor],
        teacher: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the total cost of a batch.

        Sequences (N, T, K) are taken as N * T rows, so concordance is measured across them.

        Args:
            raw: (N, K) per task as the network gives it, (N, K * count) for bins.
            target: (N, K) float32 per task, class numbers (N, 1) of numbered ones, NaN = not
                annotated.
            teacher: Raw output of a teacher for every row, shaped as `raw`; given exactly when the
                settings distil.

        Returns:
            The total, and each task's own cost by family, unweighted and without gradient.

        Raises:
            ValueError: A teacher is missing or unexpected, or shapes do not fit.
        """
        if self.distils != (teacher is not None):
            raise ValueError(
                "losses: a teacher's output is needed where the settings distil, and only there"
            )
        total = torch.zeros((), device=raw[0].device)
        parts = {}
        for i, task in enumerate(self.tasks):
            teacher_raw = None if teacher is None else teacher[i]
            cost = self._cost(task, raw[i], target[i], teacher_raw)
            # For reports only: kept with its graph it would hold the whole batch in memory.
            parts[task.family] = cost.detach()
            total = total + self.settings[task.family].weight * cost
        return total, parts

    def _cost(self, task: Task, raw: Tensor, target: Tensor, teacher: Tensor | None) -> Tensor:
        """The cost of one task, a scalar; arguments as for `forward`."""
        distill = self.settings[task.family].distill
        student, truth = _rows(raw), _rows(target)
        self._check(task, student, truth)
        settings = self.settings[task.family]
        if isinstance(settings, LossExtension):
            cost = _extension_cost(settings, task, student, truth)
        else:
            cost = self._supervised(task, student, truth)
        if teacher is None or distill is None:
            return cost
        taught = _rows(teacher)
        self._check(task, taught, truth)
        distilled = self._distilled(task, student, taught, distill)
        seen = ~truth.isnan()
        # The teacher's cost of a `one_of` task is one number per row.
        if task.kind == "one_of":
            seen = seen.all(dim=1)
        return mixed(cost, distilled, seen, distill.weight)

    def _check(self, task: Task, raw: Tensor, target: Tensor) -> None:
        """Raises ValueError for shapes that do not fit the task."""
        width, columns = len(task.names), len(task.columns)
        bins = self.bins[task.family]
        if bins is not None:
            width = columns * bins.count
        if raw.shape != (len(target), width) or target.shape[1] != columns:
            raise ValueError(
                f"losses: {task.family} needs raw (N, {width}) and target (N, {columns}), "
                f"but got {tuple(raw.shape)} and {tuple(target.shape)}"
            )

    def _counts(self, task: Task, name: str) -> Tensor | None:
        """What was counted for a task under a name; None where the settings need none."""
        buffer = getattr(self, f"{task.family}_{name}", None)
        # Registered only where the settings need it.
        return buffer if isinstance(buffer, Tensor) else None

    def _supervised(self, task: Task, raw: Tensor, target: Tensor) -> Tensor:
        """The cost of a task's labels, a scalar."""
        settings, bins = self.settings[task.family], self.bins[task.family]
        if bins is not None:
            return binned_loss(raw, target, bins, settings.floor, settings.fewest)
        kind = settings.kind_for(task)
        if task.numbered:
            target = _shares_of_numbers(target, len(task.names))
        if kind == "ccc":
            return ccc_loss(raw, target, settings.floor, settings.fewest)
        if kind not in ("mse", "mae"):
            return self._entropy(task, kind, raw, target)
        variance = self.get_buffer(f"{task.family}_variance")
        # Labels of `any_of` tasks are shares 0..1.
        pred = raw.sigmoid() if task.kind == "any_of" else raw
        if kind == "mse":
            return scaled_mse(pred, target, variance)
        return scaled_mae(pred, target, variance)

    def _entropy(self, task: Task, kind: LossKind, raw: Tensor, target: Tensor) -> Tensor:
        """The cost of a task's shares (N, K), of classes or of independent labels."""
        settings, is_choice = self.settings[task.family], task.kind == "one_of"
        if kind == "focal":
            focal = focal_cross_entropy if is_choice else focal_binary
            return focal(raw, target, settings.gamma)
        log_priors = self.log_priors(task)
        if log_priors is not None:
            raw = raw + log_priors
        if is_choice:
            weights = self._counts(task, "classes")
            return cross_entropy(raw, target, weights, settings.smoothing, settings.bootstrap)
        return binary_cross_entropy(raw, target, self._counts(task, "positives"))

    def log_priors(self, task: Task) -> Tensor | None:
        """Say what training adds to the raw output of a task (Menon et al. 2021, equation 10).

        It takes the frequencies of the training labels off what the network itself must learn.

        Args:
            task: One of the tasks.

        Returns:
            Per column (K,) the logarithm of a class's share, or the log-odds of an independent
            label; None where nothing is added.
        """
        return self._counts(task, "log_priors")

    def _distilled(self, task: Task, raw: Tensor, teacher: Tensor, distill: Distill) -> Tensor:
        """The teacher's cost, (N,) of a `one_of` task and (N, K) otherwise."""
        teacher = teacher.detach()
        # The divergences are scaled by the temperature squared already; undone where unwanted.
        scale = 1.0 if distill.squared else distill.temperature**-2
        bins = self.bins[task.family]
        if bins is not None:
            return binned_divergence(raw, teacher, bins, distill.temperature) * scale
        if task.kind == "one_of":
            return divergence(raw, teacher, distill.temperature) * scale
        if task.kind == "any_of":
            return binary_cross_entropy_with_logits(raw, teacher.sigmoid(), reduction="none")
        variance = self.get_buffer(f"{task.family}_variance")
        return (raw - teacher) ** 2 / variance


def _shares_of_numbers(numbers: Tensor, classes: int) -> Tensor:
    """Class shares (N, K) of class numbers (N, 1); NaN = not annotated stays NaN."""
    shares = nn.functional.one_hot(numbers[:, 0].nan_to_num().long(), classes).to(numbers)
    return torch.where(numbers.isnan(), numbers, shares)


def _rows(values: Tensor) -> Tensor:
    """(N, K) or (N, T, K) as float32 rows."""
    return values.float().flatten(0, -2)


def _extension_cost(settings: LossExtension, task: Task, raw: Tensor, target: Tensor) -> Tensor:
    """The cost that an extension computes; raises ValueError where it is no number."""
    if task.numbered:
        target = _shares_of_numbers(target, len(task.names))
    cost = settings.cost(raw, target, task)
    if not isinstance(cost, Tensor) or cost.shape != ():
        raise ValueError(
            f"losses: {task.family}: {settings.kind} gave no scalar tensor; average over the "
            "batch, such as by mien.extend.masked_mean"
        )
    return cost


def _complete(
    tasks: Sequence[Task], settings: Mapping[str, LossSettings]
) -> dict[str, LossSettings]:
    """The settings of every task; those left out are the defaults."""
    families = [task.family for task in tasks]
    if len(set(families)) < len(families):
        raise ValueError(
            f"losses: settings go by family, and one comes twice: {', '.join(families)}"
        )
    for family in settings:
        if family not in families:
            raise UnknownNameError("task family", family, families)
    defaults = LossSettings()
    return {family: settings.get(family, defaults) for family in families}


def _count(
    name: str, task: Task, labels: Floats, settings: LossSettings
) -> list[float] | list[list[float]]:
    """Count one of `Weights` in the labels (N, K) of a task."""
    if name == "positives":
        negatives, positives = positive_weights(labels)
        return [negatives.tolist(), positives.tolist()]
    if name == "log_priors":
        return _log_priors(task, labels)
    if name == "variance":
        return _variances(task, labels, distilled=settings.distill is not None)
    rule = settings.classes
    if isinstance(rule, dict):
        return [rule.get(label, 1.0) for label in task.names]
    # Nothing is counted for classes that all weigh the same.
    assert rule != "none"
    weights: list[float] = class_weights(labels, rule).tolist()
    return weights


def _log_priors(task: Task, labels: Floats) -> list[float]:
    """Logarithms of the classes' shares, or log-odds of independent labels, in labels (N, K)."""
    # Both count what there is, and refuse a class or a side that has no face.
    if task.kind == "one_of":
        frequencies = 1 / class_weights(labels, "max")
        priors: Floats = np.log(frequencies / frequencies.sum())
    else:
        # Weights are inverse counts.
        of_absent, of_present = positive_weights(labels)
        priors = np.log(of_absent / of_present)
    return [float(value) for value in priors]


def _variances(task: Task, labels: Floats, *, distilled: bool) -> list[float]:
    """Variance of each column's labels; raises DataError for a column that does not vary."""
    variances = []
    columns = np.asarray(labels, np.float64).T
    for name, values in zip(task.columns, columns, strict=True):
        known = values[~np.isnan(values)]
        if not known.size and distilled:
            # The teacher alone teaches it: the variance of numbers spread evenly over the range.
            variances.append((task.high - task.low) ** 2 / 12)
            continue
        variance = float(known.var()) if known.size else 0.0
        if variance == 0:
            raise DataError(
                f"{name} does not vary in these labels, so its error has no unit; "
                f"learn {task.family} otherwise"
            )
        variances.append(variance)
    return variances


def mix_targets(target: Tensor, partner: Tensor, share: float) -> Tensor:
    """Mix the targets of mixed pictures (mixup, Zhang et al. 2018).

    Args:
        target: (…, K).
        partner: (…, K), targets of the other picture.
        share: Share of `target`, 0..1.

    Returns:
        share * target + (1 - share) * partner; NaN in either stays NaN.

    >>> mix_targets(torch.tensor([1.0, 0.0]), torch.tensor([0.0, float("nan")]), 0.75).tolist()
    [0.75, nan]
    """
    return share * target + (1 - share) * partner

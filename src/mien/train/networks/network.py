"""Networks: a backbone by name with one head per task on its features."""

from collections.abc import Collection, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from mien.errors import DataError, UnknownNameError
from mien.tasks import Floats, Task
from mien.train.networks.backbones import backbone
from mien.train.networks.deviation import Deviation
from mien.train.networks.encoders.adapters import add_adapters, is_adapter
from mien.train.networks.heads import Head, make_head
from mien.train.networks.starting_weights import StartReport, load_start
from mien.train.networks.uncertainty import UncertainHead
from mien.train.objective.losses import Bins
from mien.train.settings.network import HeadSettings, NetworkSettings, Tune

__all__ = [
    "Exported",
    "MultiTaskNet",
    "build",
    "freeze",
    "set_tuning",
    "start_at_means",
    "unfreeze",
]

_SMALLEST_SHARE = 0.005
"""Class shares outside 0.005..0.995 count as these, so that logarithms stay finite."""


class MultiTaskNet(nn.Module):
    """A backbone with one head per task on its features.

    Input (N, channels, S, S) float32; output one raw tensor per task, in the order of `tasks`:
    (N, K), or (N, K * bins) where the head has bins. The caller seeds the random weights.

    Attributes:
        tasks: One per head.
        frozen: The backbone stays in evaluation mode.
        tune: What of the backbone learns; see `set_tuning`.
        started: What the starting weights filled.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        tasks: Sequence[Task],
        channels: int = 3,
        size: int = 112,
    ) -> None:
        """Make the network, its backbone starting where `settings` say.

        Args:
            settings: Backbone, heads and starting weights.
            tasks: One per head.
            channels: Of the crops, or the width of cached features.
            size: Side of the crops in px.

        Raises:
            UnknownNameError: No such backbone, or settings for a head of no task's family.
            ValueError: The settings' parts do not go together.
        """
        super().__init__()
        _check_families(settings, tasks)
        self.tasks = tuple(tasks)
        self.frozen = False
        self.tune: Tune = "full"
        name, slim, drop_path = settings.backbone, settings.slim, settings.drop_path
        self.backbone = cast(Any, backbone(name, channels, size, slim=slim, drop_path=drop_path))
        self.dropout = nn.Dropout(settings.dropout)
        # A backbone may suit one kind of head, as smm does.
        default = HeadSettings(kind=getattr(self.backbone, "usual_head", "linear"))
        # The heads are drawn before the backbone is filled, so that a seed gives the same heads
        # whatever the backbone starts from.
        self.heads = nn.ModuleList()
        for task in tasks:
            head_settings = settings.heads.get(task.family, default)
            self.heads.append(make_head(head_settings, self.backbone.num_features, task))
        if settings.start is None:
            self.started = StartReport((), tuple(self.backbone.state_dict()), ())
        else:
            self.started = load_start(self.backbone, settings.start)
        # The frozen copy must hold the starting weights.
        if settings.deviation:
            self.backbone = Deviation(self.backbone)

    def features(self, images: Tensor) -> Tensor:
        """Compute the backbone's output.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            Features (N, D), before dropout.
        """
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute each head's raw output.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            One tensor per task, (N, K) or (N, K * bins).
        """
        return self.raw(self.features(images))

    def raw(self, features: Tensor) -> tuple[Tensor, ...]:
        """Compute each head's raw output from features.

        Args:
            features: (N, D), as `features` gives them.

        Returns:
            One tensor per task, (N, K) or (N, K * bins).
        """
        dropped = self.dropout(features)
        return tuple(head(dropped) for head in self.heads)

    def side_loss(self) -> Tensor | None:
        """Take what the backbone adds to the loss of the last forward pass in training mode.

        Only DDAMFN adds anything. The loss is given once, so a training loop takes it after every
        forward pass and before the next.

        Returns:
            The weighted loss (a scalar), or None where the backbone adds nothing.
        """
        if not hasattr(self.backbone, "side_loss"):
            return None
        return cast("Tensor | None", self.backbone.side_loss())

    def mixed_targets(self, targets: Tensor) -> Tensor:
        """Mix targets as the last forward pass mixed faces.

        Only heads of kind ``uncertain`` mix faces, in training mode, and anew in every pass, so a
        training loop calls this after each.

        Args:
            targets: (…, sum of the tasks' columns) of the faces that went in, side by side.

        Returns:
            Targets of the same shape for the raw output that came out.
        """
        widths = [len(task.columns) for task in self.tasks]
        parts = targets.split(widths, dim=-1)
        mixed = []
        for head, part in zip(self.heads, parts, strict=True):
            if isinstance(head, UncertainHead):
                mixed.append(head.mixed_targets(part))
            else:
                mixed.append(part)
        return torch.cat(mixed, dim=-1)

    def exported(self, *, features: bool = False) -> nn.Module:
        """View this network as a bundle holds it, sharing its weights.

        Args:
            features: Give the features as well, after the tasks' outputs.

        Returns:
            A network whose outputs are all (N, K), binned ones decoded; see `Exported`.
        """
        return Exported(self, features)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen backbone stays in evaluation mode.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            This network.
        """
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


def _check_families(settings: NetworkSettings, tasks: Sequence[Task]) -> None:
    families = [task.family for task in tasks]
    for family in settings.heads:
        if family not in families:
            raise UnknownNameError("task family", family, families)


class Exported(nn.Module):
    """A network whose binned outputs are decoded to numbers in their unit.

    Attributes:
        net: The network whose weights this one shares.
        features: Whether the features (N, D) come after the tasks' outputs.
    """

    def __init__(self, net: MultiTaskNet, features: bool) -> None:
        super().__init__()
        self.net = net
        self.features = features
        for head in _heads(net):
            if head.bins is not None:
                # Computed and cached now, so that a traced graph holds it as a constant.
                _ = head.bins.support

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute decoded outputs.

        Args:
            images: Crops (N, channels, S, S).

        Returns:
            One tensor (N, K) per task, then the features where the network gives them.
        """
        features = self.net.features(images)
        raw_outputs = self.net.raw(features)
        outputs = []
        for head, raw in zip(_heads(self.net), raw_outputs, strict=True):
            outputs.append(raw if head.bins is None else head.bins.decode(raw))
        if self.features:
            outputs.append(features)
        return tuple(outputs)


def build(
    settings: NetworkSettings, tasks: Sequence[Task], channels: int, size: int = 112
) -> MultiTaskNet:
    """Make the network that settings describe; see `MultiTaskNet`.

    Args:
        settings: Backbone, heads and starting weights.
        tasks: One per head.
        channels: Of the crops, or the width of cached features.
        size: Side of the crops in px.

    Returns:
        The network, in training mode.

    Raises:
        UnknownNameError: No such backbone, or settings for a head of no task's family.
        ValueError: The settings' parts do not go together.
    """
    return MultiTaskNet(settings, tasks, channels, size)


def set_tuning(net: MultiTaskNet, settings: NetworkSettings) -> None:
    """Choose what of the backbone learns, before training begins.

    Args:
        net: A network without adapters; with ``lora`` its backbone gets some.
        settings: Say which part.

    Raises:
        MissingExtraError: Adapters need peft, and it is not installed.
        ValueError: A target of the adapters names no layer.
    """
    net.tune = settings.tune
    if net.tune == "lora":
        add_adapters(net.backbone, settings.lora)
    unfreeze(net)


def freeze(net: MultiTaskNet) -> None:
    """Keep the backbone as it is through training.

    It gets no gradients, and its batch norms and its own dropout stay in evaluation mode, also
    after `net.train()`. The dropout before the heads, and the heads, go on training.

    Args:
        net: Changed in place.
    """
    _set_frozen(net, True)


def unfreeze(net: MultiTaskNet) -> None:
    """Undo `freeze`, as far as the backbone is to learn at all.

    Args:
        net: Changed in place.
    """
    _set_frozen(net, False)


def _set_frozen(net: MultiTaskNet, frozen: bool) -> None:
    net.frozen = frozen or net.tune == "probe"
    net.backbone.requires_grad_(not net.frozen)
    if net.tune == "lora" and not frozen:
        for name, parameter in net.backbone.named_parameters():
            parameter.requires_grad_(is_adapter(name))
    # The mode of the backbone depends on `frozen`.
    net.train(net.training)


def start_at_means(
    net: MultiTaskNet, targets: Sequence[Floats], taught: Collection[str] = ()
) -> None:
    """Set the heads' last layers so that the untrained network predicts the targets' means.

    The weights become small, so that the predictions hardly depend on the face. Bins start at the
    share of the numbers that fall into each.

    Args:
        net: Changed in place.
        targets: One array (N, K) per task: class shares, shares in 0..1, or numbers in the task's
            range, and of numbered tasks class numbers (N, 1); NaN = not annotated.
        taught: Families that a teacher knows. Where one of their columns has no label, the head
            stays as it is.

    Raises:
        DataError: A column of another family has no label.
    """
    for task, head, target in zip(net.tasks, _heads(net), targets, strict=True):
        labels = torch.as_tensor(target, dtype=torch.float32)
        unlabelled = _unlabelled_names(task, labels)
        if unlabelled and task.family in taught:
            continue
        if unlabelled:
            raise DataError(
                f"{task.key}: no label for {', '.join(unlabelled)} in the training split; "
                "leave the task out, or add data"
            )
        bias = _bias_at_means(task, head, labels)
        with torch.no_grad():
            # Not 0, which would let no gradient through to the layers below.
            nn.init.normal_(head.last.weight, std=0.01)
            head.last.bias.copy_(bias)


def _unlabelled_names(task: Task, labels: Tensor) -> list[str]:
    names = []
    listed = task.columns if task.numbered else task.names
    for name, column in zip(listed, labels.T, strict=True):
        if column.isnan().all():
            names.append(name)
    return names


def _bias_at_means(task: Task, head: Head, labels: Tensor) -> Tensor:
    """The last layer's bias that decodes to the mean of each column of labels (N, K)."""
    if head.bins is not None:
        return _log_bin_shares(head.bins, labels)
    means = _class_shares(task, labels) if task.numbered else labels.nanmean(dim=0)
    if task.kind == "scalar":
        means = means.clamp(task.low, task.high)
        return means if head.squash is None else head.squash.inverse(means)
    shares = means.clamp(_SMALLEST_SHARE, 1 - _SMALLEST_SHARE)
    # The inverse of the softmax up to a constant, and of the sigmoid.
    return shares.log() if task.kind == "one_of" else shares.logit()


def _class_shares(task: Task, numbers: Tensor) -> Tensor:
    """The share (K,) of each class in class numbers (N, 1)."""
    known = numbers[~numbers.isnan()]
    counts = torch.bincount(known.long(), minlength=len(task.names))
    return counts / counts.sum()


def _log_bin_shares(bins: Bins, labels: Tensor) -> Tensor:
    """Logarithms (K * bins.count,) of the share of each column's numbers in each bin."""
    shares = []
    numbers = bins.encode(labels)
    for column in numbers.T:
        # Missing labels have the number -1.
        known = column >= 0
        counts = torch.bincount(column[known], minlength=bins.count)
        shares.append(counts / known.sum())
    clamped = torch.cat(shares).clamp(_SMALLEST_SHARE, 1 - _SMALLEST_SHARE)
    return clamped.log()


def _heads(net: MultiTaskNet) -> list[Head]:
    return cast("list[Head]", list(net.heads))

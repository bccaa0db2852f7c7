"""Heads: from features to the raw output of one task.

Every head has four attributes and methods beside `forward`: `features` computes what its last layer
reads; `last` is that layer; `bins` decodes raw output that is a choice among bins, else None; and
`squash` is what raw output passes through, or None.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from mien.tasks import Task
from mien.train.networks.smm import REGIONS, WIDTH, messages_and_signs
from mien.train.networks.temporal.base import Body, TemporalHead
from mien.train.networks.temporal.recurrent import MinimalGruHead, SequenceHead
from mien.train.networks.temporal.tcn import TcnHead
from mien.train.networks.temporal.transformer import TransformerHead
from mien.train.networks.uncertainty import UncertainHead
from mien.train.objective.losses import Bins
from mien.train.objective.squash import Squash
from mien.train.settings.extended import HeadExtension
from mien.train.settings.network import OVER_TIME, HeadSettings

__all__ = [
    "Head",
    "LinearHead",
    "MessageHead",
    "SignHead",
    "StackedHead",
    "make_head",
]

# Where settings name none; a missing kind has no hidden layer, or no dropout.
_DEFAULT_WIDTHS = {
    "hidden": 128,
    "bottleneck": 128,
    "uncertain": 64,
    **dict.fromkeys(OVER_TIME, 64),
}
_DEFAULT_DROPOUT = {
    "bottleneck": 0.5,
    "uncertain": 0.4,
    "transformer": 0.1,
    "tcn": 0.1,
    "minimal_gru": 0.1,
}
# Five layers of the convolutional network see 31 frames to either side.
_DEFAULT_LAYERS = {"sequence": 1, "transformer": 2, "tcn": 5, "minimal_gru": 2}
_TEMPORAL: dict[str, Callable[[Body, int, Bins | None, Squash | None], TemporalHead]] = {
    "sequence": SequenceHead,
    "transformer": TransformerHead,
    "tcn": TcnHead,
    "minimal_gru": MinimalGruHead,
}


# What every head has beside `forward`.
_ATTRIBUTES = ("features", "last", "bins", "squash")


def _squashed(raw: Tensor, squash: Squash | None) -> Tensor:
    return raw if squash is None else squash(raw)


class LinearHead(nn.Linear):
    """One layer: features (…, D) to raw output (…, K)."""

    def __init__(
        self, width_in: int, width_out: int, bins: Bins | None = None, squash: Squash | None = None
    ) -> None:
        super().__init__(width_in, width_out)
        self.bins = bins
        self.squash = squash

    @property
    def last(self) -> nn.Linear:
        """The head itself."""
        return self

    def features(self, features: Tensor) -> Tensor:
        """Give what the last layer reads.

        Args:
            features: (…, D).

        Returns:
            `features` itself.
        """
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (…, D).

        Returns:
            Raw output (…, K).
        """
        raw = super().forward(features)
        return _squashed(raw, self.squash)


class StackedHead(nn.Sequential):
    """A hidden layer and a last one: features (N, D) to raw output (N, K)."""

    def __init__(
        self, *layers: nn.Module, bins: Bins | None = None, squash: Squash | None = None
    ) -> None:
        super().__init__(*layers)
        self.bins = bins
        self.squash = squash

    @property
    def last(self) -> nn.Linear:
        """The layer that gives raw output."""
        layer = self[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def features(self, features: Tensor) -> Tensor:
        """Compute what the last layer reads.

        Args:
            features: (N, D).

        Returns:
            The hidden layer's output (N, width).
        """
        for layer in self[:-1]:
            features = layer(features)
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, D).

        Returns:
            Raw output (N, K).
        """
        raw: Tensor = super().forward(features)
        return _squashed(raw, self.squash)


class SignHead(nn.Module):
    """Features of an `Smm` (N, 544) to raw output (N, K), K up to 17.

    The k-th name is read from the k-th sign token, by weights of its own.
    """

    bins: None = None
    squash: None = None

    def __init__(self, width_out: int) -> None:
        super().__init__()
        self.last = nn.Linear(WIDTH, width_out)

    def features(self, features: Tensor) -> Tensor:
        """Select what the last layer reads.

        Args:
            features: (N, 544).

        Returns:
            The sign tokens that have a name, (N, K, 16).
        """
        _, signs = messages_and_signs(features)
        return signs[:, : self.last.out_features]

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, 544).

        Returns:
            Raw output (N, K).
        """
        # Each row of the weights meets its own token only. It is written as an einsum because
        # OpenVINO 2026.4 computes a product, its sum and a bias wrongly.
        tokens = self.features(features)
        return torch.einsum("nkd,kd->nk", tokens, self.last.weight) + self.last.bias


class MessageHead(nn.Module):
    """Features of an `Smm` (N, 544) to raw output (N, K), averaged over the regions.

    One linear layer reads each region's message. Without a `squash` the layer is affine, so
    averaging its outputs or its inputs gives the same numbers.
    """

    def __init__(
        self,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
        *,
        pooled: bool = False,
    ) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
            pooled: Average the messages first rather than the outputs.
        """
        super().__init__()
        self.last = nn.Linear(WIDTH, width_out)
        self.bins = bins
        self.squash = squash
        self.pooled = pooled

    def features(self, features: Tensor) -> Tensor:
        """Select what the last layer reads.

        Args:
            features: (N, 544).

        Returns:
            Messages (N, 17, 16), or their mean (N, 1, 16).
        """
        messages, _ = messages_and_signs(features)
        if self.pooled:
            return messages.mean(dim=1, keepdim=True)
        return messages

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, 544).

        Returns:
            Raw output (N, K).
        """
        messages = self.features(features)
        raw: Tensor = self.last(messages)
        # Squashed region by region, before the mean.
        return _squashed(raw, self.squash).mean(dim=1)


Head = LinearHead | StackedHead | TemporalHead | SignHead | MessageHead | UncertainHead


def make_head(settings: HeadSettings | HeadExtension, width_in: int, task: Task) -> Head:
    """Make a head with PyTorch's starting weights.

    Args:
        settings: What the head is made of.
        width_in: Number of features, D.
        task: What the head predicts.

    Returns:
        A head whose raw output has one number per name of the task, or with bins that many per
        name: all of the first name, then all of the second.

    Raises:
        ValueError: Bins or squash on a task that is not ``scalar``, uncertainty on one that is not
            ``one_of``, or a regions head on features that are not an `Smm`'s; or an extension
            made no head.
    """
    if isinstance(settings, HeadExtension):
        return _extension_head(settings, width_in, task)
    return _built_in_head(settings, width_in, task)


def _built_in_head(settings: HeadSettings, width_in: int, task: Task) -> Head:
    """One of mien's own heads; raises ValueError as `make_head` does."""
    _check_kind(settings, task)
    bins = _make_bins(settings, task)
    squash = Squash(task.low, task.high) if settings.squash else None
    width_out = len(task.names) * (settings.bins or 1)
    if settings.kind == "linear":
        return LinearHead(width_in, width_out, bins, squash)
    if settings.kind == "regions":
        _check_regions(settings, width_in, task)
        # The published network reads action units from the signs, all else from the messages.
        if task.kind == "any_of":
            return SignHead(width_out)
        pooled = settings.pool == "features"
        return MessageHead(width_out, bins, squash, pooled=pooled)
    width = settings.width or _DEFAULT_WIDTHS[settings.kind]
    if settings.kind == "uncertain":
        return UncertainHead(width_in, width, width_out, _dropout_of(settings))
    if settings.kind in OVER_TIME:
        layers = settings.layers or _DEFAULT_LAYERS[settings.kind]
        body = Body(width_in, width, layers, _dropout_of(settings))
        return _TEMPORAL[settings.kind](body, width_out, bins, squash)
    hidden = _hidden_layers(settings, width_in, width)
    return StackedHead(*hidden, nn.Linear(width, width_out), bins=bins, squash=squash)


def _extension_head(settings: HeadExtension, width_in: int, task: Task) -> Head:
    """The head of an extension; raises ValueError where it lacks what all heads have."""
    head = settings.make(width_in, task)
    missing = [name for name in _ATTRIBUTES if not hasattr(head, name)]
    if not isinstance(head, nn.Module) or missing:
        raise ValueError(
            f"network.heads: {task.family}: {settings.kind} made a {type(head).__name__} without "
            f"{', '.join(missing) or 'parameters'}; return a mien.extend.StackedHead"
        )
    return cast(Head, head)


def _make_bins(settings: HeadSettings, task: Task) -> Bins | None:
    if settings.bins is None:
        return None
    return Bins(task.low, task.high, settings.bins, settings.legacy)


def _dropout_of(settings: HeadSettings) -> float:
    if settings.dropout is None:
        return _DEFAULT_DROPOUT.get(settings.kind, 0.0)
    return settings.dropout


def _hidden_layers(settings: HeadSettings, width_in: int, width: int) -> list[nn.Module]:
    """The layers of a hidden or bottleneck head below its last one."""
    layers: list[nn.Module] = [nn.Linear(width_in, width), nn.ReLU()]
    if settings.kind == "bottleneck":
        layers = [nn.BatchNorm1d(width_in), *layers, nn.BatchNorm1d(width)]
    # Tensors are named after their layer's number, so a dropout without effect is left out.
    dropout = _dropout_of(settings)
    if dropout:
        layers.append(nn.Dropout(dropout))
    return layers


def _check_kind(settings: HeadSettings, task: Task) -> None:
    """Refuse settings that do not suit the task's kind."""
    if settings.bins is not None and task.kind != "scalar":
        raise ValueError(
            f"bins: {task.key} is {task.kind}, and only scalar tasks can be binned; leave bins out"
        )
    if settings.squash and task.kind != "scalar":
        raise ValueError(
            f"squash: {task.key} is {task.kind}, and only scalar tasks can be squashed; "
            "leave squash out"
        )
    if settings.kind == "uncertain" and task.kind != "one_of":
        raise ValueError(
            f"uncertain: {task.key} is {task.kind}, and only one_of tasks can learn from mixed "
            "faces; choose another kind"
        )


def _check_regions(settings: HeadSettings, width_in: int, task: Task) -> None:
    """Refuse a regions head on other features, or for more names than there are tokens."""
    width_of_smm = 2 * REGIONS * WIDTH
    if width_in != width_of_smm:
        raise ValueError(
            f"regions: {task.key} would read {width_in} numbers, not the {width_of_smm} of an smm "
            "backbone; choose another kind"
        )
    if task.kind == "any_of" and settings.pool is not None:
        raise ValueError(
            f"pool: {task.key} is any_of and reads each name from a token of its own; leave it out"
        )
    if task.kind == "any_of" and len(task.names) > REGIONS:
        raise ValueError(
            f"regions: {task.key} has {len(task.names)} names for {REGIONS} sign tokens; "
            f"set heads.{task.family} to kind linear"
        )

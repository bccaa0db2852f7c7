"""Heads: from features to the raw output of one task.

Every head has four attributes and methods beside `forward`: `features` computes what its last layer
reads; `last` is that layer; `bins` decodes raw output that is a choice among bins, else None; and
`squash` is what raw output passes through, or None.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mien.tasks import Task
from mien.train.networks.smm import REGIONS, WIDTH, messages_and_signs
from mien.train.networks.uncertainty import UncertainHead
from mien.train.objective.losses import Bins
from mien.train.settings.network import HeadSettings

__all__ = [
    "Head",
    "LinearHead",
    "MessageHead",
    "SequenceHead",
    "SignHead",
    "Squash",
    "StackedHead",
    "make_head",
    "valid_mask",
]

# Where settings name none; a missing kind has no hidden layer, or no dropout.
_DEFAULT_WIDTHS = {"hidden": 128, "bottleneck": 128, "sequence": 64, "uncertain": 64}
_DEFAULT_DROPOUT = {"bottleneck": 0.5, "uncertain": 0.4}


_SQUASH_EDGE = 0.995
"""The largest tanh that is inverted; that of 1 would be infinite."""


@dataclass(frozen=True)
class Squash:
    """A tanh, scaled so that all numbers lie between low and high.

    HSEmotion's valence and arousal heads on cached features end so (ABAW4 and ABAW7). Their whole
    networks were trained without it, since training was unstable with it (the author, on
    AffectNet).

    Attributes:
        low: Lower bound of the numbers.
        high: Upper bound of the numbers.
    """

    low: float
    high: float

    @property
    def _centre(self) -> float:
        return (self.low + self.high) / 2

    @property
    def _half_range(self) -> float:
        return (self.high - self.low) / 2

    def __call__(self, raw: Tensor) -> Tensor:
        """Squash raw output.

        Args:
            raw: Any shape.

        Returns:
            Numbers between low and high, of the same shape.
        """
        return self._centre + self._half_range * raw.tanh()

    def inverse(self, numbers: Tensor) -> Tensor:
        """Find the raw output that is squashed to given numbers.

        The outer 0.25 % of the range at either end counts as its edge, because tanh never reaches
        the ends.

        Args:
            numbers: Numbers in low..high, any shape.

        Returns:
            Raw output of the same shape.
        """
        centred = (numbers - self._centre) / self._half_range
        inside = centred.clamp(-_SQUASH_EDGE, _SQUASH_EDGE)
        return inside.atanh()


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


class SequenceHead(nn.Module):
    """A bidirectional GRU: windows of features (N, T, D) to raw output for every frame (N, T, K).

    Frames that are NaN throughout pad the end of a window and change nothing for the others. No
    window consists of padding alone.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            width_in: Number of features, D.
            width: Of the GRU, per direction.
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
        """
        super().__init__()
        self.gru = nn.GRU(width_in, width, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * width, width_out)
        self.bins = bins
        self.squash = squash

    def features(self, features: Tensor) -> Tensor:
        """Compute what the last layer reads.

        Args:
            features: (N, T, D), NaN throughout where a window is padded.

        Returns:
            States of both directions after ReLU, (N, T, 2 * width).
        """
        # Packed, so that the backward direction starts at the last frame and not in the padding.
        lengths = valid_mask(features).sum(dim=1).cpu()
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        packed_states, _ = self.gru(packed)
        length = features.shape[1]
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=length)
        return torch.relu(states)

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, T, D), NaN throughout where a window is padded.

        Returns:
            Raw output (N, T, K); meaningless for padding.
        """
        hidden = self.features(features)
        raw: Tensor = self.last(hidden)
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


Head = LinearHead | StackedHead | SequenceHead | SignHead | MessageHead | UncertainHead


def make_head(settings: HeadSettings, width_in: int, task: Task) -> Head:
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
            ``one_of``, or a regions head on features that are not an `Smm`'s.
    """
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
    if settings.kind == "sequence":
        return SequenceHead(width_in, width, width_out, bins, squash)
    hidden = _hidden_layers(settings, width_in, width)
    return StackedHead(*hidden, nn.Linear(width, width_out), bins=bins, squash=squash)


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


def valid_mask(windows: Tensor) -> Tensor:
    """Tell frames from padding, which is NaN throughout.

    Args:
        windows: Windows of features (N, T, D).

    Returns:
        True for frames (N, T), bool.
    """
    return ~windows.isnan().all(dim=2)

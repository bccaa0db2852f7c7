"""Heads: from features to the raw output of one task.

Every head has four things beside `forward`: `features`, what its last layer reads; `last`, that layer; `bins`, how a number
is told from its raw output where it is a choice among bins, else None; and `squash`, what its raw output goes through, or None.
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
]

_WIDTHS = {"hidden": 128, "bottleneck": 128, "sequence": 64, "uncertain": 64}


@dataclass(frozen=True)
class Squash:
    """A tanh, scaled so that all numbers lie between low and high.

    So end HSEmotion's valence and arousal heads on cached features (ABAW4 and ABAW7). Training whole networks they went without: there
    it was unstable (the author, on AffectNet).
    """

    low: float
    high: float

    def __call__(self, raw: Tensor) -> Tensor:
        """Numbers between low and high, of any shape."""
        return (self.low + self.high) / 2 + (self.high - self.low) / 2 * raw.tanh()

    def before(self, numbers: Tensor) -> Tensor:
        """What `__call__` makes these numbers of; the outer 0.5 % of the range, which it reaches slowly, count as its edge."""
        share = (numbers - (self.low + self.high) / 2) / ((self.high - self.low) / 2)
        return share.clamp(-0.995, 0.995).atanh()


class LinearHead(nn.Linear):
    """Features (…, D) to raw (…, K)."""

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
        """What comes in: (…, D)."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (…, K)."""
        raw = super().forward(features)
        return raw if self.squash is None else self.squash(raw)


class StackedHead(nn.Sequential):
    """Features (N, D) through a hidden layer to raw (N, K)."""

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
        """The hidden layer's output (N, width) as the last layer reads it."""
        for layer in self[:-1]:
            features = layer(features)
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (N, K)."""
        raw: Tensor = super().forward(features)
        return raw if self.squash is None else self.squash(raw)


class SequenceHead(nn.Module):
    """Windows of features (N, T, D) to raw output for every frame (N, T, K).

    Frames that are NaN throughout are padding at a window's end, and change nothing for the others. No window is padding alone.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        super().__init__()
        self.gru = nn.GRU(width_in, width, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * width, width_out)
        self.bins = bins
        self.squash = squash

    def features(self, features: Tensor) -> Tensor:
        """What both directions say of each frame, (N, T, 2 * width), at least 0."""
        lengths = valid_mask(features).sum(dim=1).cpu()
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        states: Tensor = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=features.shape[1]
        )[0]
        return states.relu()

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (N, T, K); that of padding means nothing."""
        raw: Tensor = self.last(self.features(features))
        return raw if self.squash is None else self.squash(raw)


class SignHead(nn.Module):
    """Features of an `Smm` (N, 544) to raw (N, K), K up to 17: the k-th name is told from the k-th sign token, by weights of its own."""

    bins: None = None
    squash: None = None

    def __init__(self, width_out: int) -> None:
        super().__init__()
        self.last = nn.Linear(WIDTH, width_out)

    def features(self, features: Tensor) -> Tensor:
        """The tokens that have a name (N, K, 16)."""
        return messages_and_signs(features)[1][:, : self.last.out_features]

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (N, K)."""
        # Each row of the weights meets its own token only. OpenVINO 2026.4 computes a product, its sum and a bias wrongly.
        return (
            torch.einsum("nkd,kd->nk", self.features(features), self.last.weight) + self.last.bias
        )


class MessageHead(nn.Module):
    """Features of an `Smm` (N, 544) to raw (N, K): the mean of what one linear layer makes of each region's message.

    pooled: the messages are averaged first. That gives the same numbers, because the layer is affine, unless there is a `squash`.
    """

    def __init__(
        self,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
        *,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.last = nn.Linear(WIDTH, width_out)
        self.bins = bins
        self.squash = squash
        self.pooled = pooled

    def features(self, features: Tensor) -> Tensor:
        """Messages (N, 17, 16), or their mean (N, 1, 16)."""
        messages = messages_and_signs(features)[0]
        return messages.mean(dim=1, keepdim=True) if self.pooled else messages

    def forward(self, features: Tensor) -> Tensor:
        """Raw output (N, K)."""
        raw: Tensor = self.last(self.features(features))
        return (raw if self.squash is None else self.squash(raw)).mean(dim=1)


Head = LinearHead | StackedHead | SequenceHead | SignHead | MessageHead | UncertainHead


def make_head(settings: HeadSettings, width_in: int, task: Task) -> Head:
    """A head for `task` on features of `width_in` numbers, with PyTorch's starting weights.

    Raw output has one number per name of the task, or with bins that many per name: all of the first, then all of the second.
    Raises ValueError for bins or squash on a task that is not ``scalar``, and for regions that are not there.
    """
    if settings.bins is not None and task.kind != "scalar":
        raise ValueError(
            f"bins: {task.key} is {task.kind}, and only scalar tasks can be binned; leave bins out"
        )
    bins = (
        None if settings.bins is None else Bins(task.low, task.high, settings.bins, settings.legacy)
    )
    if settings.squash and task.kind != "scalar":
        raise ValueError(
            f"squash: {task.key} is {task.kind}, and only scalar tasks can be squashed; leave squash out"
        )
    squash = Squash(task.low, task.high) if settings.squash else None
    width_out = len(task.names) * (settings.bins or 1)
    if settings.kind == "linear":
        return LinearHead(width_in, width_out, bins, squash)
    if settings.kind == "regions":
        _check_regions(settings, width_in, task)
        return (
            SignHead(width_out)
            if task.kind == "any_of"
            else MessageHead(width_out, bins, squash, pooled=settings.pool == "features")
        )
    width = settings.width or _WIDTHS[settings.kind]
    if settings.kind == "uncertain":
        if task.kind != "one_of":
            raise ValueError(
                f"uncertain: {task.key} is {task.kind}, and only one_of tasks are told of mixed faces; choose another kind"
            )
        return UncertainHead(
            width_in, width, width_out, 0.4 if settings.dropout is None else settings.dropout
        )
    if settings.kind == "sequence":
        return SequenceHead(width_in, width, width_out, bins, squash)
    hidden: list[nn.Module] = [nn.Linear(width_in, width), nn.ReLU()]
    drop = settings.dropout
    if settings.kind == "bottleneck":
        hidden = [nn.BatchNorm1d(width_in), *hidden, nn.BatchNorm1d(width)]
        drop = 0.5 if drop is None else drop
    return StackedHead(
        *hidden,
        *([nn.Dropout(drop)] if drop else []),
        nn.Linear(width, width_out),
        bins=bins,
        squash=squash,
    )


def _check_regions(settings: HeadSettings, width_in: int, task: Task) -> None:
    wanted = 2 * REGIONS * WIDTH
    if width_in != wanted:
        raise ValueError(
            f"regions: {task.key} would read {width_in} numbers, not the {wanted} of an smm backbone; choose another kind"
        )
    if task.kind == "any_of" and settings.pool is not None:
        raise ValueError(
            f"pool: {task.key} is any_of and reads each name from a token of its own; leave it out"
        )
    if task.kind == "any_of" and len(task.names) > REGIONS:
        raise ValueError(
            f"regions: {task.key} has {len(task.names)} names for {REGIONS} sign tokens; set heads.{task.family} to kind linear"
        )


def valid_mask(windows: Tensor) -> Tensor:
    """Which frames (N, T) of windows of features (N, T, D) are frames and not padding, which is NaN throughout."""
    return ~windows.isnan().all(dim=2)

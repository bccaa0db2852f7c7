"""Heads: from features to the raw output of one task.

Every head has four things beside `forward`: `features`, what its last layer reads; `last`, that layer; `bins`, how a number
is told from its raw output where it is a choice among bins, else None; and `squash`, what its raw output goes through, or None.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mien.tasks import Task
from mien.train.losses import Bins

__all__ = ["Head", "HeadSettings", "LinearHead", "SequenceHead", "Squash", "StackedHead", "make_head"]

_WIDTHS = {"hidden": 128, "bottleneck": 128, "sequence": 64}


class HeadSettings(BaseModel):
    """What a head is made of.

    kind: ``linear`` one layer; ``hidden`` two with ReLU between (HSEmotion's action units); ``bottleneck`` batch norm, linear,
        ReLU, batch norm, dropout, linear (the unified model of ABAW2); ``sequence`` one bidirectional GRU layer, ReLU, linear,
        over windows of features.
    width: of the hidden layer, or per direction of the GRU; None means 128, and 64 for ``sequence``.
    dropout: share of the hidden layer that is dropped in training, 0..1; None means 0.5 for ``bottleneck``, else 0.
    bins: a ``scalar`` task's columns become choices among that many bins each; legacy: as in `mien.train.losses.Bins`.
    squash: a ``scalar`` task's raw output ends in a tanh, see `Squash`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["linear", "hidden", "bottleneck", "sequence"] = "linear"
    width: Annotated[int, Field(ge=1)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    bins: Annotated[int, Field(ge=2)] | None = None
    legacy: bool = False
    squash: bool = False

    @model_validator(mode="after")
    def _nothing_is_without_effect(self) -> Self:
        if self.kind == "linear" and self.width is not None:
            raise ValueError("width: a linear head has no hidden layer; leave it out, or choose kind hidden")
        if self.kind not in ("hidden", "bottleneck") and self.dropout is not None:
            raise ValueError(f"dropout: a {self.kind} head has none of its own; leave it out, or choose kind hidden or bottleneck")
        if self.legacy and self.bins is None:
            raise ValueError("legacy: only says how bins are read; set bins as well, or leave it out")
        if self.squash and self.bins is not None:
            raise ValueError("squash: bins keep numbers in range already; leave one of the two out")
        return self


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

    def __init__(self, width_in: int, width_out: int, bins: Bins | None = None, squash: Squash | None = None) -> None:
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

    def __init__(self, *layers: nn.Module, bins: Bins | None = None, squash: Squash | None = None) -> None:
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
    """Windows of features (N, T, D) to raw output for every frame (N, T, K)."""

    def __init__(self, width_in: int, width: int, width_out: int, bins: Bins | None = None, squash: Squash | None = None) -> None:
        super().__init__()
        self.gru = nn.GRU(width_in, width, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * width, width_out)
        self.bins = bins
        self.squash = squash

    def features(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What both directions say of each frame, (N, T, 2 * width), at least 0."""
        if lengths is None:
            states: Tensor = self.gru(features)[0]
        else:
            packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
            states = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=features.shape[1])[0]
        return states.relu()

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Raw output (N, T, K).

        lengths: (N,) integers, how many frames of each window are real; the rest is padding at its end, which changes nothing
            for the real frames and whose own output means nothing. None: all are real.
        """
        raw: Tensor = self.last(self.features(features, lengths))
        return raw if self.squash is None else self.squash(raw)


Head = LinearHead | StackedHead | SequenceHead


def make_head(settings: HeadSettings, width_in: int, task: Task) -> Head:
    """A head for `task` on features of `width_in` numbers, with PyTorch's starting weights.

    Raw output has one number per name of the task, or with bins that many per name: all of the first, then all of the second.
    Raises ValueError for bins or squash on a task that is not ``scalar``.
    """
    if settings.bins is not None and task.kind != "scalar":
        raise ValueError(f"bins: {task.key} is {task.kind}, and only scalar tasks can be binned; leave bins out")
    bins = None if settings.bins is None else Bins(task.low, task.high, settings.bins, settings.legacy)
    if settings.squash and task.kind != "scalar":
        raise ValueError(f"squash: {task.key} is {task.kind}, and only scalar tasks can be squashed; leave squash out")
    squash = Squash(task.low, task.high) if settings.squash else None
    width_out = len(task.names) * (settings.bins or 1)
    if settings.kind == "linear":
        return LinearHead(width_in, width_out, bins, squash)
    width = settings.width or _WIDTHS[settings.kind]
    if settings.kind == "sequence":
        return SequenceHead(width_in, width, width_out, bins, squash)
    hidden: list[nn.Module] = [nn.Linear(width_in, width), nn.ReLU()]
    drop = settings.dropout
    if settings.kind == "bottleneck":
        hidden = [nn.BatchNorm1d(width_in), *hidden, nn.BatchNorm1d(width)]
        drop = 0.5 if drop is None else drop
    return StackedHead(*hidden, *([nn.Dropout(drop)] if drop else []), nn.Linear(width, width_out), bins=bins, squash=squash)

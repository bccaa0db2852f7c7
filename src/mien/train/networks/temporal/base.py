"""What all heads over windows of frames share: padding, the last layer, and export."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from mien.train.objective.losses import Bins
from mien.train.objective.squash import Squash

__all__ = ["Body", "TemporalHead", "valid_mask"]


@dataclass(frozen=True)
class Body:
    """The layers below the last one.

    Attributes:
        width_in: Number of features, D.
        width: Of a layer; of a recurrent one, per direction.
        layers: Their number.
        dropout: Share of each layer's output dropped in training, 0..1.
    """

    width_in: int
    width: int
    layers: int
    dropout: float = 0.0


class TemporalHead(nn.Module, ABC):
    """Windows of features (N, T, D) to raw output for every frame (N, T, K).

    Frames that are NaN throughout pad the end of a window and change nothing for the others. No
    window consists of padding alone. A kind of head makes `last` and implements `states`.

    Attributes:
        last: The layer that gives raw output.
        bins: How raw output is decoded, if it is a choice among bins.
        squash: What raw output passes through.
    """

    last: nn.Linear

    def __init__(self, bins: Bins | None = None, squash: Squash | None = None) -> None:
        super().__init__()
        self.bins = bins
        self.squash = squash

    @abstractmethod
    def states(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        """Compute what the last layer reads, of windows padded with any number.

        Args:
            windows: (N, T, D), finite.
            valid: True for frames and False for padding (N, T), bool; None without any padding,
                for a graph that is free in the length of windows.

        Returns:
            States (N, T, width); meaningless for padding.
        """

    def features(self, features: Tensor) -> Tensor:
        """Compute what the last layer reads.

        Args:
            features: (N, T, D), NaN throughout where a window is padded.

        Returns:
            States (N, T, width); meaningless for padding.
        """
        valid = valid_mask(features)
        # NaN would spread by the very products that a mask sets to 0.
        filled = features.masked_fill(~valid[..., None], 0.0)
        return self.states(filled, valid)

    def forward(self, features: Tensor) -> Tensor:
        """Compute raw output.

        Args:
            features: (N, T, D), NaN throughout where a window is padded.

        Returns:
            Raw output (N, T, K); meaningless for padding.
        """
        return self._read(self.features(features))

    def unpadded(self, windows: Tensor) -> Tensor:
        """Compute raw output of windows without padding, as a graph can be traced.

        Args:
            windows: (N, T, D).

        Returns:
            Raw output (N, T, K).
        """
        return self._read(self.states(windows, None))

    def exportable(self) -> "TemporalHead":
        """Give a head of the same function whose `unpadded` is traced for windows of any length.

        Returns:
            This head, unless its kind needs another form.
        """
        return self

    def _read(self, states: Tensor) -> Tensor:
        raw: Tensor = self.last(states)
        return raw if self.squash is None else self.squash(raw)


def valid_mask(windows: Tensor) -> Tensor:
    """Tell frames from padding, which is NaN throughout.

    Args:
        windows: Windows of features (N, T, D).

    Returns:
        True for frames (N, T), bool.
    """
    return ~windows.isnan().all(dim=2)

"""A head that reads windows by convolutions over time."""

from torch import Tensor, nn
from typing_extensions import override

from mien.train.networks.temporal.base import Body, TemporalHead
from mien.train.objective.losses import Bins
from mien.train.objective.squash import Squash

__all__ = ["TcnHead"]


class TcnHead(TemporalHead):
    """A temporal convolutional network: dilated residual convolutions that look both ways.

    Layer i, from 0, reads the frames 2^i before and after each, so L layers reach 2^L - 1 frames
    to either side (as in MS-TCN; Farha and Gall, 2019). Departure: states are normalised before
    each convolution.
    """

    def __init__(
        self,
        body: Body,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            body: Its layers.
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
        """
        super().__init__(bins, squash)
        self.first = nn.Linear(body.width_in, body.width)
        self.layers = nn.ModuleList()
        for number in range(body.layers):
            self.layers.append(_Layer(body.width, 2**number, body.dropout))
        self.norm = nn.LayerNorm(body.width)
        self.last = nn.Linear(body.width, width_out)

    @override
    def states(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        states = self.first(windows)
        for layer in self.layers:
            states = layer(states, valid)
        normed: Tensor = self.norm(states)
        return normed


class _Layer(nn.Module):
    """A dilated convolution over three frames, ReLU and a linear layer, added to the states."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, valid: Tensor | None) -> Tensor:
        normed = self.norm(states)
        if valid is not None:
            # Padding is 0, as is what a convolution sees beyond the end of a window.
            normed = normed.masked_fill(~valid[..., None], 0.0)
        seen = self.convolution(normed.transpose(1, 2)).transpose(1, 2)
        added: Tensor = self.dropout(self.linear(seen.relu()))
        return states + added

"""A head that reads windows by attention."""

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from mien.train.networks.temporal.base import Body, TemporalHead
from mien.train.objective.losses import Bins
from mien.train.objective.squash import Squash

__all__ = ["TransformerHead"]

# Of attention, in each layer.
_HEADS = 4
# Longest period of the sinusoids, over 2 pi, in frames (Vaswani et al., 2017).
_PERIOD = 10_000.0
# Windows at once in evaluation: a layer of attention holds T x T numbers per head for each.
_WINDOWS = 64


class TransformerHead(TemporalHead):
    """A transformer encoder with pre-norm layers on sinusoidal positions.

    Positions count from the first frame of a window, so that windows may have any length.
    """

    frequencies: Tensor

    def __init__(
        self,
        body: Body,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            body: Its layers; the width is a multiple of 4, the heads of attention.
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
        """
        super().__init__(bins, squash)
        self.first = nn.Linear(body.width_in, body.width)
        self.layers = nn.ModuleList()
        for _ in range(body.layers):
            self.layers.append(_Layer(body.width, body.dropout))
        self.norm = nn.LayerNorm(body.width)
        self.last = nn.Linear(body.width, width_out)
        exponents = torch.arange(0, body.width, 2) / body.width
        self.register_buffer("frequencies", _PERIOD**-exponents, persistent=False)

    @override
    def features(self, features: Tensor) -> Tensor:
        if self.training:
            return super().features(features)
        parts = []
        for windows in features.split(_WINDOWS):
            parts.append(super().features(windows))
        return torch.cat(parts)

    @override
    def states(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        states = self.first(windows) + self._positions(windows)
        for layer in self.layers:
            states = layer(states, valid)
        normed: Tensor = self.norm(states)
        return normed

    def _positions(self, windows: Tensor) -> Tensor:
        """Sines and cosines of the frames' numbers (1, T, width)."""
        # Counted rather than made from the length, which a trace would take for a constant.
        number = torch.ones_like(windows[:1, :, :1]).cumsum(dim=1) - 1
        angles = number * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=2)


class _Layer(nn.Module):
    """Attention and two linear layers, each on normalised states and added to them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = _Attention(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, valid: Tensor | None) -> Tensor:
        mixed = self.attention(self.norm(states), valid)
        states = states + self.dropout(mixed)
        added: Tensor = self.dropout(self.feed_forward(states))
        return states + added


class _Attention(nn.Module):
    """Attention of every frame to all frames of its window, several heads side by side.

    In plain products, which export to plain operators.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.scale = 1 / math.sqrt(width // _HEADS)

    def forward(self, states: Tensor, valid: Tensor | None) -> Tensor:
        queries, keys, values = self.project(states).chunk(3, dim=2)
        scores = self._split(queries) @ self._split(keys).transpose(2, 3) * self.scale
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None], -torch.inf)
        mixed = scores.softmax(dim=3) @ self._split(values)
        merged: Tensor = self.merge(mixed.transpose(1, 2).flatten(2))
        return merged

    def _split(self, states: Tensor) -> Tensor:
        """States (N, T, width) by head (N, heads, T, width / heads)."""
        parts: Tensor = states.unflatten(2, (_HEADS, -1))
        return parts.transpose(1, 2)

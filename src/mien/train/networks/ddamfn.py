"""MixedFeatureNet and DDAMFN (Zhang et al. 2023, Electronics 12(17) 3595).

A face network with kernels of several sizes, and on top of it attention heads that pool along rows
and columns. Like MobileFaceNet, from which they descend, they are built for one crop size: a
multiple of 16 px, 32 px or more.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import torch
from torch import Tensor, nn

from mien.train.networks.mobilefacenet import (
    EmbeddingNet,
    GlobalDepthwise,
    check_crops,
    conv_unit,
    last_map_side,
    start_weights,
)

__all__ = ["ATTENTION_WEIGHT", "DDAMFN", "MixedFeatureNet", "attention_loss"]

ATTENTION_WEIGHT: Final = 0.1
"""Weight of the attention loss beside the cross-entropy (the paper's)."""

_REDUCTION: Final = 32  # of channels in coordinate attention

Kernels = dict[int, int]
"""Number of channels by kernel size."""


def attention_loss(maps: Sequence[Tensor], floor: float = 1e-6) -> Tensor:
    """Compute a loss that is large where two heads attend to the same places.

    It is the number of pairs of heads / (sum over pairs of the mean squared difference + floor).

    Args:
        maps: One tensor (N, C, S, S) per head, in 0..1.
        floor: Keeps the loss finite where all maps are equal.

    Returns:
        The loss, a scalar.

    >>> attention_loss([torch.zeros(1, 2), torch.full((1, 2), 0.5)], floor=0).item()
    4.0
    """
    differences = []
    for first, second in combinations(maps, 2):
        differences.append(nn.functional.mse_loss(first, second))
    total = torch.stack(differences).sum()
    return len(differences) / (total + floor)


class _CoordinateAttention(nn.Module):
    """Weigh each place by its row and column, per channel (Hou et al. 2021, arXiv:2103.02907)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        few = max(8, width // _REDUCTION)
        self.mix = nn.Sequential(
            nn.Conv2d(width, few, 1),
            nn.BatchNorm2d(few),
            nn.Hardswish(),
        )
        self.rows = nn.Conv2d(few, width, 1)
        self.columns = nn.Conv2d(few, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        row_means = maps.mean(dim=3, keepdim=True)
        column_means = maps.mean(dim=2, keepdim=True)
        row_weights, column_weights = self.weights(row_means, column_means)
        return maps * row_weights * column_weights

    def weights(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Turn summaries into weights in 0..1 of the same shapes.

        Args:
            rows: Summary of each row (N, C, S, 1).
            columns: Summary of each column (N, C, 1, S).

        Returns:
            Weights of the rows and of the columns.
        """
        # Both pass together, so that batch norm sees one set of statistics. Maps are square, so the
        # first half of the result is the rows.
        summaries = torch.cat([rows, columns.transpose(2, 3)], dim=2)
        mixed = self.mix(summaries)
        mixed_rows, mixed_columns = mixed.chunk(2, dim=2)
        row_weights = self.rows(mixed_rows).sigmoid()
        column_weights = self.columns(mixed_columns.transpose(2, 3)).sigmoid()
        return row_weights, column_weights


class _MixedDepthwise(nn.Module):
    """Depthwise convolution with kernels of several sizes (Tan & Le 2019, arXiv:1907.09595).

    Each kernel size filters its share of the channels.
    """

    def __init__(self, kernels: Kernels, stride: int) -> None:
        super().__init__()
        self.shares = list(kernels.values())
        self.layers = nn.ModuleList()
        for kernel, share in kernels.items():
            layer = nn.Conv2d(share, share, kernel, stride, kernel // 2, groups=share, bias=False)
            self.layers.append(layer)

    def forward(self, maps: Tensor) -> Tensor:
        parts = maps.split(self.shares, dim=1)
        filtered = []
        for layer, part in zip(self.layers, parts, strict=True):
            filtered.append(layer(part))
        return torch.cat(filtered, dim=1)


class _MixedBlock(nn.Module):
    """Widen, filter with mixed kernels, attend, project linearly; residual at stride 1."""

    def __init__(self, width_in: int, width: int, kernels: Kernels, stride: int = 1) -> None:
        super().__init__()
        inner = sum(kernels.values())
        # Nothing stands between filter and attention, which is our reading of the paper: with norm
        # and PReLU there, DDAMFN would have 4.14 million parameters where 4.11 are published.
        self.layers = nn.Sequential(
            conv_unit(width_in, inner),
            _MixedDepthwise(kernels, stride),
            _CoordinateAttention(inner),
            conv_unit(inner, width, linear=True),
        )
        self.residual = stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.layers(maps)
        return maps + out if self.residual else out


def _trunk(channels: int) -> nn.Sequential:
    """Crops (N, channels, S, S) to maps (N, 512, S / 16, S / 16)."""
    return nn.Sequential(
        conv_unit(channels, 64, 3, 2),
        conv_unit(64, 64, 3, groups=64),
        _MixedBlock(64, 64, {3: 64, 5: 32, 7: 32}, 2),
        *_repeat(9, 64, {3: 96, 5: 32}),
        _MixedBlock(64, 128, {3: 128, 5: 64, 7: 64}, 2),
        *_repeat(16, 128, {3: 192, 5: 64}),
        _MixedBlock(128, 256, {3: 256, 5: 256, 7: 256, 9: 256}, 2),
        *_repeat(6, 256, {3: 172, 5: 170, 7: 170}),
        conv_unit(256, 512),
    )


def _repeat(count: int, width: int, kernels: Kernels) -> list[_MixedBlock]:
    return [_MixedBlock(width, width, kernels) for _ in range(count)]


class MixedFeatureNet(EmbeddingNet):
    """Crops (N, channels, size, size) to features (N, 512), as for training on identities.

    The trunk is the paper's; its embedding (global depthwise convolution, linear, batch norm) has
    MobileFaceNet's width.
    """

    def __init__(self, channels: int = 3, size: int = 112) -> None:
        super().__init__(_trunk(channels), size)


class _DirectionHead(nn.Module):
    """Attention map (N, C, S, S) in 0..1 from maps of that shape.

    It is coordinate attention whose summaries are learned, not averaged.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.down = _summary(width, (1, side))
        self.along = _summary(width, (side, 1))
        self.attend = _CoordinateAttention(width)

    def forward(self, maps: Tensor) -> Tensor:
        rows = self.down(maps)
        columns = self.along(maps)
        row_weights, column_weights = self.attend.weights(rows, columns)
        return row_weights * column_weights


def _summary(width: int, kernel: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, kernel, groups=width, bias=False), nn.BatchNorm2d(width)
    )


class DDAMFN(nn.Module):
    """MixedFeatureNet's trunk under two attention heads: crops (N, C, S, S) to features (N, 512).

    `side_loss` keeps the heads from attending to the same places; a training loop adds it to its
    own loss.
    """

    def __init__(self, channels: int = 3, size: int = 112) -> None:
        super().__init__()
        self.size = size
        self.num_features = 512
        side = last_map_side(size)
        self.trunk = _trunk(channels)
        self.heads = nn.ModuleList()
        for _ in range(2):
            self.heads.append(_DirectionHead(512, side))
        self.pool = GlobalDepthwise(512, side)
        # Kept from the last forward pass in training mode until `side_loss` takes them.
        self._attention_maps: list[Tensor] = []
        start_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: Crops (N, channels, size, size).

        Returns:
            Features (N, 512).

        Raises:
            ValueError: The crops have another size than the network was built for.
        """
        check_crops(images, self.size)
        maps = self.trunk(images)
        attention = [head(maps) for head in self.heads]
        # Only training needs the loss; in evaluation the maps would hold memory for nothing.
        self._attention_maps = attention if self.training else []
        # Each place is weighed by the head that attends to it more.
        strongest = torch.stack(attention).amax(dim=0)
        features: Tensor = self.pool(maps * strongest)
        return features

    def side_loss(self) -> Tensor | None:
        """Take the attention loss of the last forward pass in training mode.

        Returns:
            The weighted loss (a scalar), once; None when there was no such pass since.
        """
        maps = self._attention_maps
        self._attention_maps = []
        if not maps:
            return None
        return ATTENTION_WEIGHT * attention_loss(maps)

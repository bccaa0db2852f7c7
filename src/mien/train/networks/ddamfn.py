"""MixedFeatureNet and DDAMFN (Zhang et al. 2023, Electronics 12(17) 3595): a face network that looks with kernels of several sizes,
and, on top of it, attention heads that look along rows and columns.

Like MobileFaceNet, from which they descend, they are built for one crop size: a multiple of 16 px, 32 px or more.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import torch
from torch import Tensor, nn

from mien.train.networks.mobilefacenet import (
    GlobalDepthwise,
    check_crops,
    conv_unit,
    start_weights,
    whole_map,
)

__all__ = ["ATTENTION_WEIGHT", "DDAMFN", "MixedFeatureNet", "attention_loss"]

ATTENTION_WEIGHT: Final = 0.1
"""What the attention loss counts for beside the cross-entropy (the paper's)."""

Kernels = dict[int, int]  # kernel size: number of channels


def attention_loss(maps: Sequence[Tensor], floor: float = 1e-6) -> Tensor:
    """Large where two heads look at the same places: number of pairs / (sum over pairs of the mean squared difference + floor).

    maps: one tensor (N, C, S, S) per head, in 0..1.

    >>> attention_loss([torch.zeros(1, 2), torch.full((1, 2), 0.5)], floor=0).item()
    4.0
    """
    pairs = list(combinations(maps, 2))
    return len(pairs) / (
        torch.stack([nn.functional.mse_loss(a, b) for a, b in pairs]).sum() + floor
    )


class _CoordinateAttention(nn.Module):
    """Weigh each place by its row's and its column's share, per channel (Hou et al. 2021, arXiv:2103.02907; reduction 32)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        few = max(8, width // 32)
        self.mix = nn.Sequential(nn.Conv2d(width, few, 1), nn.BatchNorm2d(few), nn.Hardswish())
        self.rows = nn.Conv2d(few, width, 1)
        self.columns = nn.Conv2d(few, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        weights_down, weights_along = self.weights(
            maps.mean(dim=3, keepdim=True), maps.mean(dim=2, keepdim=True)
        )
        return maps * weights_down * weights_along

    def weights(self, down: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Summaries of the rows (N, C, S, 1) and of the columns (N, C, 1, S) to weights of the same shapes, in 0..1."""
        # Both pass together, so that batch norm sees one set of statistics. Maps are square, so half of it are rows.
        rows, columns = self.mix(torch.cat([down, along.transpose(2, 3)], dim=2)).chunk(2, dim=2)
        return self.rows(rows).sigmoid(), self.columns(columns.transpose(2, 3)).sigmoid()


class _MixedDepthwise(nn.Module):
    """Depthwise convolution with kernels of several sizes, each on its share of the channels (Tan & Le 2019, arXiv:1907.09595)."""

    def __init__(self, kernels: Kernels, stride: int) -> None:
        super().__init__()
        self.shares = list(kernels.values())
        self.layers = nn.ModuleList(
            nn.Conv2d(share, share, kernel, stride, kernel // 2, groups=share, bias=False)
            for kernel, share in kernels.items()
        )

    def forward(self, maps: Tensor) -> Tensor:
        parts = maps.split(self.shares, dim=1)
        return torch.cat(
            [layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=1
        )


class _MixedBlock(nn.Module):
    """Widen, filter with mixed kernels, attend, project linearly; added to its input where nothing shrinks."""

    def __init__(self, width_in: int, width: int, kernels: Kernels, stride: int = 1) -> None:
        super().__init__()
        inner = sum(kernels.values())
        # Nothing stands between filter and attention: our reading. With norm and PReLU there, DDAMFN would have 4.14 million parameters
        # where 4.11 are published.
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
        *(_MixedBlock(64, 64, {3: 96, 5: 32}) for _ in range(9)),
        _MixedBlock(64, 128, {3: 128, 5: 64, 7: 64}, 2),
        *(_MixedBlock(128, 128, {3: 192, 5: 64}) for _ in range(16)),
        _MixedBlock(128, 256, {3: 256, 5: 256, 7: 256, 9: 256}, 2),
        *(_MixedBlock(256, 256, {3: 172, 5: 170, 7: 170}) for _ in range(6)),
        conv_unit(256, 512),
    )


class MixedFeatureNet(nn.Module):
    """Crops (N, channels, size, size) to features (N, 512), as for training on identities.

    The trunk is the paper's; its embedding (global depthwise convolution, linear, batch norm) has MobileFaceNet's width.
    """

    def __init__(self, channels: int = 3, size: int = 112) -> None:
        super().__init__()
        self.size = size
        self.num_features = 512
        self.trunk = _trunk(channels)
        self.pool = GlobalDepthwise(512, whole_map(size))
        self.embed = nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512))
        start_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 512)."""
        check_crops(images, self.size)
        features: Tensor = self.embed(self.pool(self.trunk(images)))
        return features


class _DirectionHead(nn.Module):
    """Attention map (N, C, S, S) in 0..1 from maps of that shape: coordinate attention whose summaries are learned, not averaged."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(width, width, (1, side), groups=width, bias=False), nn.BatchNorm2d(width)
        )
        self.along = nn.Sequential(
            nn.Conv2d(width, width, (side, 1), groups=width, bias=False), nn.BatchNorm2d(width)
        )
        self.attend = _CoordinateAttention(width)

    def forward(self, maps: Tensor) -> Tensor:
        weights_down, weights_along = self.attend.weights(self.down(maps), self.along(maps))
        return weights_down * weights_along


class DDAMFN(nn.Module):
    """MixedFeatureNet's trunk under two attention heads: crops (N, channels, size, size) to features (N, 512).

    `side_loss` keeps the heads from looking at the same places; a training loop adds it to its own loss.
    """

    def __init__(self, channels: int = 3, size: int = 112) -> None:
        super().__init__()
        self.size = size
        self.num_features = 512
        self.trunk = _trunk(channels)
        self.heads = nn.ModuleList(_DirectionHead(512, whole_map(size)) for _ in range(2))
        self.pool = GlobalDepthwise(512, whole_map(size))
        self._maps: list[Tensor] = []
        start_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 512)."""
        check_crops(images, self.size)
        maps = self.trunk(images)
        seen = [head(maps) for head in self.heads]
        self._maps = seen if self.training else []
        features: Tensor = self.pool(maps * torch.stack(seen).amax(dim=0))
        return features

    def side_loss(self) -> Tensor | None:
        """The weighted attention loss of the last forward pass in training mode, once; None when there was none since."""
        maps, self._maps = self._maps, []
        return ATTENTION_WEIGHT * attention_loss(maps) if maps else None

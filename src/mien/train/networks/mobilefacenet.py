"""MobileFaceNet (Chen et al. 2018, arXiv:1804.07573), wider than the paper's, in the two sizes that face recognition trains today.

The last kernel covers the whole map, so each network is built for one crop size: a multiple of 16 px, 32 px or more.
"""

import torch
from torch import Tensor, nn

__all__ = [
    "GlobalDepthwise",
    "MobileFaceNet",
    "check_crops",
    "conv_unit",
    "start_weights",
    "whole_map",
]


def conv_unit(
    width_in: int,
    width: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    linear: bool = False,
) -> nn.Sequential:
    """Convolution without bias, padded to keep the size, then batch norm, then PReLU per channel unless `linear`."""
    layers: list[nn.Module] = [
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    ]
    return nn.Sequential(*layers, *([] if linear else [nn.PReLU(width)]))


def whole_map(size: int) -> int:
    """Side of the last map for crops of `size` px: four halvings. Raises ValueError for sizes that do not halve four times.

    >>> whole_map(112)
    7
    """
    if size < 32 or size % 16:
        raise ValueError(
            f"crops of {size} px: this backbone needs a multiple of 16 px, 32 or more, such as 64, 80, 96 or 112"
        )
    return size // 16


def check_crops(images: Tensor, size: int) -> None:
    """Raise ValueError unless the crops (N, C, S, S) have the size that the network was built for."""
    # While a graph is written, sizes are part of it, and must not steer it.
    if not torch.onnx.is_in_onnx_export() and images.shape[-2:] != (size, size):
        height, width = images.shape[-2:]
        raise ValueError(
            f"crops of {width}x{height} px, but the network was built for {size}x{size}: its last kernel covers the whole map"
        )


def start_weights(net: nn.Module) -> None:
    """Normal weights with variance 2 / fan-out (He et al. 2015) in every convolution and linear layer."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class GlobalDepthwise(nn.Sequential):
    """One kernel per channel that covers the whole map, and batch norm: (N, C, side, side) to (N, C)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, side, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Flatten(),
        )


class _Bottleneck(nn.Module):
    """Widen to `inner` channels, filter each on its own, project linearly; added to its input where nothing shrinks."""

    def __init__(self, width_in: int, width: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_unit(width_in, inner),
            conv_unit(inner, inner, 3, stride, groups=inner),
            conv_unit(inner, width, linear=True),
        )
        self.residual = stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.layers(maps)
        return maps + out if self.residual else out


class MobileFaceNet(nn.Module):
    """Crops (N, channels, size, size) to features (N, 512).

    small: widths 128, 128, 256 and 1, 4, 6 and 2 blocks, 2.06 million parameters at 112 px; large: twice as wide, 2, 8, 12
    and 4 blocks, 6.31 million. Both as InsightFace's ArcFace training builds them.
    """

    def __init__(self, channels: int = 3, size: int = 112, *, large: bool = False) -> None:
        super().__init__()
        self.size = size
        self.num_features = 512
        narrow, wide = (256, 512) if large else (128, 256)
        first, *blocks = (2, 8, 12, 4) if large else (1, 4, 6, 2)
        # A single first block is a convolution in 64 groups, two channels each: not quite depthwise.
        opening = (
            [conv_unit(narrow, narrow, 3, groups=64)]
            if first == 1
            else [_Bottleneck(narrow, narrow, 128) for _ in range(first)]
        )
        self.trunk = nn.Sequential(
            conv_unit(channels, narrow, 3, 2),
            *opening,
            _Bottleneck(narrow, narrow, 128, 2),
            *(_Bottleneck(narrow, narrow, 128) for _ in range(blocks[0])),
            _Bottleneck(narrow, wide, 256, 2),
            *(_Bottleneck(wide, wide, 256) for _ in range(blocks[1])),
            _Bottleneck(wide, wide, 512, 2),
            *(_Bottleneck(wide, wide, 256) for _ in range(blocks[2])),
            conv_unit(wide, 512),
        )
        self.pool = GlobalDepthwise(512, whole_map(size))
        self.embed = nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512))
        start_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 512)."""
        check_crops(images, self.size)
        features: Tensor = self.embed(self.pool(self.trunk(images)))
        return features

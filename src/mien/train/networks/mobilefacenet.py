"""MobileFaceNet (Chen et al. 2018, arXiv:1804.07573).

It is wider than the paper's, in the two sizes that face recognition trains today. The last kernel
covers the whole map, so each network is built for one crop size: a multiple of 16 px, 32 px or
more.
"""

import torch
from torch import Tensor, nn

__all__ = [
    "EmbeddingNet",
    "GlobalDepthwise",
    "MobileFaceNet",
    "blocks_per_stage",
    "check_crops",
    "conv_unit",
    "last_map_side",
    "rename_insightface",
    "start_weights",
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
    """Make a convolution without bias, then batch norm, then PReLU per channel.

    Args:
        width_in: Number of channels that go in.
        width: Number of channels that come out.
        kernel: Side of the kernel; the map is padded to keep its size.
        stride: Of the convolution.
        groups: Of the convolution.
        linear: Leave out the PReLU.

    Returns:
        The layers in a row.
    """
    # No bias, as the norm would take it out.
    convolution = nn.Conv2d(
        width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(width)]
    if not linear:
        layers.append(nn.PReLU(width))
    return nn.Sequential(*layers)


def last_map_side(size: int) -> int:
    """Compute the side of the last map, after four halvings.

    Args:
        size: Side of the crops in px.

    Returns:
        Side of the map in cells.

    Raises:
        ValueError: The size does not halve four times, or leaves less than 2 cells.

    >>> last_map_side(112)
    7
    """
    if size < 32 or size % 16:
        raise ValueError(
            f"crops of {size} px: this backbone needs a multiple of 16 px, 32 or more, "
            "such as 64, 80, 96 or 112"
        )
    return size // 16


def check_crops(images: Tensor, size: int) -> None:
    """Refuse crops of another size than the network was built for.

    Args:
        images: Crops (N, C, S, S).
        size: The S that the network was built for, in px.

    Raises:
        ValueError: The crops have another size.
    """
    # While a graph is traced, sizes are part of it and must not decide its path.
    if torch.onnx.is_in_onnx_export() or images.shape[-2:] == (size, size):
        return
    height, width = images.shape[-2:]
    raise ValueError(
        f"crops of {width}x{height} px, but the network was built for {size}x{size}: "
        "its last kernel covers the whole map"
    )


def start_weights(net: nn.Module) -> None:
    """Draw normal weights with variance 2 / fan-out (He et al. 2015).

    Args:
        net: All of its convolutions and linear layers are changed in place.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class GlobalDepthwise(nn.Sequential):
    """One kernel per channel that covers the whole map, and batch norm: (N, C, S, S) to (N, C)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, side, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Flatten(),
        )


class EmbeddingNet(nn.Module):
    """A trunk, global depthwise convolution and a linear embedding with batch norm.

    Crops (N, channels, size, size) to features (N, 512).

    Attributes:
        size: Side of the crops in px.
        num_features: Width of the features, 512.
        trunk: Crops to maps (N, 512, size / 16, size / 16).
    """

    def __init__(self, trunk: nn.Module, size: int) -> None:
        super().__init__()
        self.size = size
        self.num_features = 512
        self.trunk = trunk
        self.pool = GlobalDepthwise(512, last_map_side(size))
        # No bias, as the norm would take it out.
        self.embed = nn.Sequential(
            nn.Linear(512, 512, bias=False),
            nn.BatchNorm1d(512),
        )
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
        features: Tensor = self.embed(self.pool(maps))
        return features


class _Bottleneck(nn.Module):
    """Widen, filter each channel on its own, project linearly; residual at stride 1."""

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


def blocks_per_stage(large: bool) -> tuple[int, int, int, int]:
    """Look up how many blocks each of the four stages has.

    Args:
        large: Of the large network rather than the small one.

    Returns:
        Numbers of blocks, without those that halve the map.
    """
    return (2, 8, 12, 4) if large else (1, 4, 6, 2)


class MobileFaceNet(EmbeddingNet):
    """Crops (N, channels, size, size) to features (N, 512).

    The small network has widths 128, 128, 256 and 1, 4, 6 and 2 blocks, 2.06 million parameters at
    112 px; the large one is twice as wide with 2, 8, 12 and 4 blocks, 6.31 million. Both as
    InsightFace's ArcFace training builds them.

    Attributes:
        large: Whether it is the large one.
    """

    def __init__(self, channels: int = 3, size: int = 112, *, large: bool = False) -> None:
        super().__init__(_trunk(channels, large), size)
        self.large = large


def _trunk(channels: int, large: bool) -> nn.Sequential:
    """Crops (N, channels, S, S) to maps (N, 512, S / 16, S / 16)."""
    narrow, wide = (256, 512) if large else (128, 256)
    first, second, third, fourth = blocks_per_stage(large)
    units: list[nn.Module] = [conv_unit(channels, narrow, 3, 2)]
    if first == 1:
        # A single first block is a convolution in 64 groups, two channels each: not quite
        # depthwise.
        units.append(conv_unit(narrow, narrow, 3, groups=64))
    else:
        units += _bottlenecks(first, narrow, 128)
    units.append(_Bottleneck(narrow, narrow, 128, 2))
    units += _bottlenecks(second, narrow, 128)
    units.append(_Bottleneck(narrow, wide, 256, 2))
    units += _bottlenecks(third, wide, 256)
    units.append(_Bottleneck(wide, wide, 512, 2))
    units += _bottlenecks(fourth, wide, 256)
    units.append(conv_unit(wide, 512))
    return nn.Sequential(*units)


def _bottlenecks(count: int, width: int, inner: int) -> list[_Bottleneck]:
    return [_Bottleneck(width, width, inner) for _ in range(count)]


def rename_insightface(name: str, *, large: bool) -> str:
    """Turn InsightFace's name of a MobileFaceNet tensor into ours.

    The layers are the same, only grouped differently.

    Args:
        name: The tensor's name in InsightFace's arcface_torch.
        large: Of the large network rather than the small one.

    Returns:
        Our name; a name that is not InsightFace's stays as it is.
    """
    ends = {
        "features.layers.0.layers.": "pool.",
        "features.layers.2.": "embed.0.",
        "features.layers.3.": "embed.1.",
    }
    for prefix, replacement in ends.items():
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    for number, prefix in enumerate(_unit_prefixes(large)):
        if name.startswith(f"{prefix}."):
            # Their innermost unit is a module with its layers below it, ours is those layers.
            unit, _, layer = name.removeprefix(f"{prefix}.").rpartition("layers.")
            return f"trunk.{number}.{unit}{layer}"
    return name


def _unit_prefixes(large: bool) -> list[str]:
    """InsightFace's names of the trunk's units, in order."""
    blocks = blocks_per_stage(large)
    prefixes = []
    for layer in range(8):
        # Layers with odd numbers are rows of blocks, but a single block stands for itself.
        count = blocks[layer // 2] if layer % 2 else 1
        if count == 1:
            prefixes.append(f"layers.{layer}")
        else:
            prefixes += [f"layers.{layer}.layers.{block}" for block in range(count)]
    return [*prefixes, "conv_sep"]

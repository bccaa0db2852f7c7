"""MobileFace Identification V2 (becauseofAI, 2018): a small MobileNetV2 that tells people apart.

0.8 million parameters in inverted residual blocks (Sandler et al. 2018, arXiv:1801.04381), on crops
of 112 px. The published weights (MIT licence; 0.9965 on LFW by their author) were trained on faces
from the web that nobody names.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

__all__ = ["MobileFace", "rename_mxnet"]

# Stride, filters and hidden filters of each block. A block of stride 1 has a shortcut.
_BLOCKS: Final = (
    (2, 32, 96), (1, 32, 96), (1, 32, 96),
    (2, 32, 96), (1, 32, 96), (1, 32, 96),
    (2, 64, 96), (1, 64, 192), (1, 64, 192),
    (2, 128, 192), (1, 128, 384), (1, 128, 384),
)  # fmt: skip
_STEM: Final = 32
# Of the norms, as MXNet has it.
_EPS: Final = 1e-3


def _unit(
    width_in: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width, eps=_EPS),
    )


class _Block(nn.Module):
    """1x1 convolution, 3x3 depthwise convolution, 1x1 convolution without activation."""

    def __init__(self, width_in: int, stride: int, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = _unit(width_in, hidden)
        self.filter = _unit(hidden, hidden, 3, stride, groups=hidden)
        self.project = _unit(hidden, width)
        self.activation = nn.ReLU6()
        self.shortcut = stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.activation(self.expand(maps))
        inner = self.activation(self.filter(inner))
        out: Tensor = self.project(inner)
        return maps + out if self.shortcut else out


class MobileFace(nn.Module):
    """Crops (N, channels, S, S) to features (N, 128 * (S / 32)^2), the last map as a row.

    Args:
        channels: Of the crops: 3 for colour, 1 for grey.
        size: Side of the crops, px.
    """

    def __init__(self, channels: int = 3, size: int = 112) -> None:
        super().__init__()
        self.stem = _unit(channels, _STEM, 3, 2)
        self.activation = nn.ReLU6()
        self.blocks = nn.Sequential()
        width_in = _STEM
        for stride, width, hidden in _BLOCKS:
            self.blocks.append(_Block(width_in, stride, width, hidden))
            width_in = width
        side = -(-size // 32)
        # The place in the face says as much as the filter, so the map is not pooled.
        self.num_features = width_in * side**2

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: Crops (N, channels, S, S), RGB in -1..1.

        Returns:
            Features (N, D).
        """
        maps = self.blocks(self.activation(self.stem(images)))
        features: Tensor = maps.flatten(1)
        return features


def rename_mxnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of the published file the names of `MobileFace`.

    Args:
        tensors: As `read_params` of MXNet's files gives them.

    Returns:
        The same by the network's names; the first convolution's bias is in its norm's mean.
    """
    parts = {"weight": "0.weight", "gamma": "1.weight", "beta": "1.bias",
             "moving_mean": "1.running_mean", "moving_var": "1.running_var"}  # fmt: skip
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.split(":", 1)[-1].partition("_")
        unit = _unit_of(layer)
        if unit is None or part not in parts:
            renamed[f"head.{name}"] = tensor
        else:
            renamed[f"{unit}.{parts[part]}"] = tensor
    bias = renamed.pop("head.arg:conv1_bias", None)
    if bias is not None:
        # A norm takes its mean off, so a bias before it is a smaller mean.
        renamed["stem.1.running_mean"] = renamed["stem.1.running_mean"] - bias
    return renamed


def _unit_of(layer: str) -> str | None:
    """The place in `MobileFace` of a layer of the published network."""
    if layer in ("conv1", "bn1"):
        return "stem"
    number = layer.removeprefix("convolution").removeprefix("batchnorm")
    if not number.isdigit() or number == layer:
        return None
    block, part = divmod(int(number), 3)
    return f"blocks.{block}.{('expand', 'filter', 'project')[part]}"

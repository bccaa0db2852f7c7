"""GoogLeNet (Szegedy et al. 2015, with batch norms), torchvision's, since timm has none."""

from typing import Any, Final, cast

from torch import nn
from torchvision import models

__all__ = ["googlenet"]

_MIN_SIZE: Final = 15  # px; a smaller crop leaves nothing to pool


def googlenet(channels: int = 3, size: int = 224) -> nn.Module:
    """Make GoogLeNet without its classifiers and its dropout.

    Its tensors have torchvision's names. Torchvision's ImageNet weights need ``pixels.mean`` and
    ``pixels.std`` of 127.5: torchvision's network rescales its input itself, this one does not.

    Args:
        channels: Of the crops: 3 for colour, 1 for grey.
        size: Side of the crops in px; only checked.

    Returns:
        A network from crops (N, channels, S, S), any S from 15 px, to pooled features (N, 1024).

    Raises:
        ValueError: The crops are too small.
    """
    if size < _MIN_SIZE:
        raise ValueError(f"crops of {size} px: googlenet needs {_MIN_SIZE} px or more, such as 224")
    net: Any = models.googlenet(weights=None, aux_logits=False, init_weights=False)
    net.num_features = net.fc.in_features
    net.dropout = nn.Identity()
    net.fc = nn.Identity()
    # Torchvision builds for three colours only; this is its first layer for another number.
    if channels != 3:
        net.conv1.conv = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return cast(nn.Module, net)

"""GoogLeNet (Szegedy et al. 2015, with batch norms), torchvision's: timm has none. Without its classifiers and its dropout."""

from typing import Any, Final, cast

from torch import nn
from torchvision import models

__all__ = ["googlenet"]

_SMALLEST: Final = 15  # px; a smaller crop leaves nothing to pool


def googlenet(channels: int = 3, size: int = 224) -> nn.Module:
    """Crops (N, channels, S, S), any S from 15 px, to pooled features (N, 1024); `size` is only looked at to refuse it.

    Its tensors have torchvision's names. Torchvision's ImageNet weights want ``pixels.mean`` and ``pixels.std`` of 127.5: that network
    changes the scale of its input itself, and here nothing is done to it. Raises ValueError for crops that are too small.
    """
    if size < _SMALLEST:
        raise ValueError(f"crops of {size} px: googlenet needs {_SMALLEST} px or more, such as 224")
    net = cast(Any, models.googlenet(weights=None, aux_logits=False, init_weights=False))
    net.num_features = net.fc.in_features
    net.dropout, net.fc = nn.Identity(), nn.Identity()
    if channels != 3:
        net.conv1.conv = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return cast(nn.Module, net)

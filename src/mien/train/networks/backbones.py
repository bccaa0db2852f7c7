"""Backbones by name: from crops to pooled features, with random weights.

Nothing here reaches the internet: timm gives the structure only, and starting weights come from
files (see `mien.train.networks.starting_weights`).
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, cast

import timm
from timm.layers.drop import DropPath
from torch import nn

from mien.errors import UnknownNameError
from mien.train.networks.ddamfn import DDAMFN, MixedFeatureNet
from mien.train.networks.face_points import FacePoints
from mien.train.networks.face_resnet import FaceResNet
from mien.train.networks.googlenet import googlenet
from mien.train.networks.mobileface import MobileFace
from mien.train.networks.mobilefacenet import MobileFaceNet
from mien.train.networks.smm import Smm
from mien.train.settings.network import OWN

__all__ = ["CachedFeatures", "backbone", "check_name"]

_BUILDERS: Final[Mapping[str, Callable[[int, int], nn.Module]]] = {
    "mobileface": MobileFace,
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet-large": partial(MobileFaceNet, large=True),
    "mixedfeaturenet": MixedFeatureNet,
    "ddamfn": DDAMFN,
    "face-resnet": lambda channels, size: FaceResNet(channels),
    "face-resnet-small": lambda channels, size: FaceResNet(channels, small=True),
    "face-points": FacePoints,
    "googlenet": googlenet,
    "smm": Smm,
    "smm-small": partial(Smm, small=True),
}
"""What makes each of `OWN`, given channels and size."""


def backbone(
    name: str,
    channels: int = 3,
    size: int = 112,
    *,
    slim: bool = False,
    drop_path: float = 0.0,
) -> nn.Module:
    """Make a backbone with random weights.

    mobilefacenet, mixedfeaturenet, ddamfn, face-points and timm's networks with a fixed input size
    (most transformers) take crops of `size` px only; the others take any that are not too small.

    Args:
        name: One of `OWN`, a timm model's name, or ``features`` for cached features (N, channels),
            which pass unchanged. A tag behind timm's name says whose weights are to follow.
        channels: Of the crops: 3 for colour, 1 for grey.
        size: Side of the crops in px; ignored for ``features``.
        slim: Leave out an EfficientNet's last 1x1 convolution.
        drop_path: Chance 0..1 that the last of timm's blocks is passed by in training.

    Returns:
        A network from crops (N, channels, size, size) to features (N, D); its `num_features` is D.

    Raises:
        UnknownNameError: No backbone has that name.
        ValueError: The backbone cannot have that size, `slim` is given for anything but an
            EfficientNet, or it has no blocks to pass by.
    """
    check_name(name)
    if name == "features":
        return CachedFeatures(channels)
    if name in OWN and drop_path:
        raise ValueError(f"drop_path: {name} is not timm's and passes no blocks by; leave it out")
    build = _BUILDERS.get(name)
    net = build(channels, size) if build else _timm(name, channels, size, drop_path)
    if slim:
        _remove_last_convolution(net, name)
    return net


def check_name(name: str) -> None:
    """Check that there is a backbone of a name.

    Args:
        name: As for `backbone`.

    Raises:
        UnknownNameError: There is none.
    """
    # An hf-hub: name would be looked up on the internet, and is in no list.
    names = ["features", *OWN, *timm.list_models()]
    if "." in name:
        names += timm.list_pretrained()
    if name not in names:
        raise UnknownNameError("backbone", name, get_close_matches(name, names, n=1) or OWN)


class CachedFeatures(nn.Identity):
    """The backbone of heads that read cached features (N, D): it gives them back unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def _timm(name: str, channels: int, size: int, drop_path: float) -> nn.Module:
    options: dict[str, Any] = {"pretrained": False, "in_chans": channels, "num_classes": 0}
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    # Transformers size their position embeddings at construction; convolutional networks refuse
    # the option.
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    if drop_path:
        options["drop_path_rate"] = drop_path
    try:
        net = cast(Any, timm.create_model(name, **options))
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise _no_blocks(name) from error
    # Some take the option and make nothing of it.
    if drop_path and not any(isinstance(layer, DropPath) for layer in net.modules()):
        raise _no_blocks(name)
    # A few (MobileNetV3) widen once more after pooling, and state that width elsewhere.
    net.num_features = getattr(net, "head_hidden_size", None) or net.num_features
    return cast(nn.Module, net)


def _no_blocks(name: str) -> ValueError:
    return ValueError(f"drop_path: {name} has no blocks that can be passed by; leave it out")


def _remove_last_convolution(net: nn.Module, name: str) -> None:
    if not isinstance(net, timm.models.EfficientNet):
        raise ValueError(
            f"slim: {name} is not an EfficientNet and has no last 1x1 convolution to leave out; "
            "set slim to false"
        )
    net.num_features = net.conv_head.in_channels
    # timm calls both by name, so they are replaced rather than deleted.
    net.conv_head = nn.Identity()
    net.bn2 = nn.Identity()

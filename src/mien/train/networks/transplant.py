"""Published PyTorch weights in today's networks, every tensor accounted for, so that people can train on from them.

A .pt file of another version of timm cannot be loaded as the object that it was, but its tensors can be: `mien.zoo.pickles` reads
them, `transplant` puts them into a network of the same architecture by name, `parity` holds that against the ONNX file that was
published beside it, and `save` writes safetensors that `start` of a network's settings takes.
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

from mien.bundles.engines import open_engine
from mien.errors import BundleError
from mien.files import AtomicFile, wrap_os_errors
from mien.tasks import Task
from mien.train.networks.network import MultiTaskNet
from mien.train.settings.network import OWN, NetworkSettings
from mien.zoo.onnx_split import columns_of

__all__ = ["PARITY", "parity", "save", "transplant"]

PARITY: Final = 1e-3
"""Largest difference from the published ONNX file, in parts of the largest number of the same output, 1 at least."""

Array = NDArray[Any]


def transplant(
    tensors: Mapping[str, Array],
    architecture: str,
    tasks: Sequence[tuple[Task, slice | Sequence[int]]],
    size: int = 112,
) -> MultiTaskNet:
    """A network with the weights of a published one, in evaluation mode; it gives one raw output (N, K) a task.

    tensors: by name, as `mien.zoo.pickles.tensors` gives them.
    architecture: a timm name without its tag; timm has kept its names of tensors since 0.4 (EfficientNet) and 0.6 (MobileViT). Or
        mobilefacenet or mobilefacenet-large, whose tensors are named as in InsightFace's arcface_torch, with the last layer in ``fc``.
    tasks: each with the columns of the last layer that hold its names, in their order. None for weights without a last layer.
    size: side of the crops in px, which counts for mobilefacenet only.
    Raises BundleError, which names the first tensors that are missing, left over, of another shape or not finite numbers of their kind;
    ValueError for columns that do not fit; UnknownNameError for the architecture.
    """
    net = MultiTaskNet(
        NetworkSettings(backbone=architecture), [task for task, _ in tasks], channels=3, size=size
    )
    large = architecture == "mobilefacenet-large"
    found = (
        {_ours(name, large): tensor for name, tensor in tensors.items()}
        if architecture.startswith("mobilefacenet")
        else dict(tensors)
    )
    last = _last_layer(architecture)
    # A last layer alone in a Sequential, as some were published, is the same layer.
    found = {
        re.sub(rf"^{re.escape(last)}\.0\.(weight|bias)$", rf"{last}.\1", name): tensor
        for name, tensor in found.items()
    }
    if len(found) < len(tensors):
        raise BundleError(
            f"these weights do not fit {architecture}: two tensors go by one name; get the file again from where it came"
        )
    weight, bias = (
        (found.get(f"{last}.{part}") for part in ("weight", "bias")) if tasks else (None, None)
    )
    own: dict[str, Any] = dict(net.backbone.state_dict())
    width = net.backbone.num_features
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if tasks:
        count = len(weight) if weight is not None and weight.ndim else 1
        wanted |= {f"{last}.weight": (count, width), f"{last}.bias": (count,)}
    _account(
        found,
        wanted,
        {name for name, tensor in own.items() if not tensor.is_floating_point()},
        architecture,
    )
    net.backbone.load_state_dict(
        {
            name: torch.from_numpy(np.array(found.get(name, 0))).reshape(tensor.shape)
            for name, tensor in own.items()
        }
    )
    if weight is not None and bias is not None:
        for head, (task, columns) in zip(net.heads, tasks, strict=True):
            taken = columns_of(task, columns, len(weight))
            head.load_state_dict(
                {"weight": torch.from_numpy(weight[taken]), "bias": torch.from_numpy(bias[taken])}
            )
    return net.eval()


def _last_layer(architecture: str) -> str:
    if architecture in OWN:
        return "fc"
    facts = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    return str(facts.classifier) if facts is not None and facts.classifier else "classifier"


def _account(
    found: Mapping[str, Array],
    wanted: Mapping[str, tuple[int, ...]],
    whole: Set[str],
    architecture: str,
) -> None:
    """Raise BundleError unless there is exactly what is wanted: whole numbers where they are `whole`, finite float32 elsewhere.

    Only the counters of batch norm (`num_batches_tracked`), which no network computes with, may be missing.
    """
    missing = [
        name for name in wanted if name not in found and not name.endswith(".num_batches_tracked")
    ]
    over = [name for name in found if name not in wanted]
    other = [
        f"{name} {found[name].shape} for {shape}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    kinds = {"missing": missing, "left over": over, "of another shape": other}
    if any(kinds.values()):
        told = "; ".join(f"{kind}: {_first(names)}" for kind, names in kinds.items() if names)
        raise BundleError(
            f"these weights do not fit {architecture}: {told}; name the architecture that they were trained in"
        )
    odd = [
        f"{name} ({told})"
        for name, tensor in found.items()
        if (told := _oddity(tensor, name in whole))
    ]
    if odd:
        raise BundleError(
            f"these weights are no numbers to train on from: {_first(odd)}; get the file again, or save finite floats"
        )


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(name[:120] for name in names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _oddity(tensor: Array, whole: bool) -> str:
    """What keeps a tensor out of its place, if anything."""
    if tensor.dtype.kind not in ("iu" if whole else "f"):
        return f"{tensor.dtype} for {'whole numbers' if whole else 'floats'}"
    with np.errstate(over="ignore"):
        return "" if np.isfinite(tensor.astype(np.float32)).all() else "not finite in float32"


def _ours(name: str, large: bool) -> str:
    """InsightFace's name of a tensor of MobileFaceNet as `mien.train.networks.mobilefacenet` has it: the same layers, grouped otherwise."""
    pooled = {
        "features.layers.0.layers.": "pool.",
        "features.layers.2.": "embed.0.",
        "features.layers.3.": "embed.1.",
    }
    for prefix, ours in pooled.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    for place, prefix in enumerate(_units(large)):
        if name.startswith(f"{prefix}."):
            before, _, after = name.removeprefix(f"{prefix}.").rpartition("layers.")
            return f"trunk.{place}.{before}{after}"
    return name


def _units(large: bool) -> list[str]:
    """The units of the trunk in their order: every second of the eight layers is a row of blocks, except a first of one."""
    blocks = (2, 8, 12, 4) if large else (1, 4, 6, 2)
    rows = [
        [f"layers.{i}.layers.{k}" for k in range(blocks[i // 2])]
        if i % 2 and blocks[i // 2] > 1
        else [f"layers.{i}"]
        for i in range(8)
    ]
    return [*(unit for row in rows for unit in row), "conv_sep"]


@torch.no_grad()
def parity(net: MultiTaskNet, network: bytes, size: int) -> float:
    """How far a lifted network's raw outputs and features are from those of the split ONNX file, on noise of `size` px.

    network: as `mien.zoo.onnx_split.split` gives it, for the same tasks. Raises BundleError beyond `PARITY`.
    """
    noise = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
    features = net.eval().features(torch.from_numpy(noise))
    here = [part.numpy() for part in (*net.raw(features), features)]
    there = open_engine(network, "onnxruntime").run(noise)
    if [part.shape for part in here] != [part.shape for part in there]:
        shapes = [str([part.shape[1] for part in parts]) for parts in (here, there)]
        raise BundleError(
            f"the weights give outputs of widths {shapes[0]}, the ONNX file {shapes[1]}; they are not the same network"
        )
    off = max(
        float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max()))
        for a, b in zip(here, there, strict=True)
    )
    if not off <= PARITY:
        raise BundleError(
            f"the weights and the ONNX file differ by {off:.2g}, more than {PARITY:g}; they are not the same network"
        )
    return off


def save(net: MultiTaskNet, path: Path) -> None:
    """Write all tensors as safetensors, the backbone's under ``backbone.``, for `start` of a network's settings; whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    with AtomicFile(path) as part, wrap_os_errors(path):
        save_file(tensors, part)

"""What it costs to read a face: parameters, multiply-accumulates and milliseconds of a network, whatever it was made with.

Every network is looked at as ONNX: a run's is traced, a bundle's is there. Counted are the multiply-accumulates (MACs, half the FLOPs)
of convolutions, of matrix products, attention's among them, and of recurrent layers: what `torch.utils.flop_counter` counts, and
recurrent layers the same way. Not counted: biases, norms, activations, softmax, pooling, resizing, and every other sum or product of
single elements. A batch norm in a run's network is folded into its convolution, as it is in a bundle.
"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from mien.bundles.card import AffectCard
from mien.bundles.engines import import_onnxruntime, open_engine
from mien.bundles.store import read_bundle
from mien.errors import BundleError
from mien.train.networks.heads import SequenceHead
from mien.train.networks.network import MultiTaskNet
from mien.train.onnx.export import trace
from mien.train.open_model import ENGINE
from mien.train.runs.folder import RunFolder
from mien.train.runs.inference import input_shape, network_of

__all__ = [
    "BATCH",
    "Cost",
    "Network",
    "costs",
    "macs",
    "network_of_bundle",
    "network_of_run",
    "traced",
]

BATCH: Final = 16
"""Faces that are read together when time is taken."""

_ROUNDS: Final = 7
_OWN: Final = ("", "ai.onnx")
_COUNTED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "GRU", "LSTM", "RNN")
_UNCOUNTED: Final = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DeformConv",
    "Attention",
)
_WEIGHTS: Final = tuple(
    TensorProto.DataType.Value(name)
    for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT32")
)
"""Types of numbers that weights have; whole numbers of 64 bits are shapes and places."""

Shape = tuple[int, ...]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """A network as ONNX, of any batch size. shape: of what it reads of one face, or of one window of so many `faces`."""

    onnx: bytes
    shape: Shape
    parameters: int
    faces: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one face. milliseconds: on the CPU by ONNX Runtime, with torch's present threads, in batches of `BATCH`; the median of rounds."""

    parameters: int
    macs: int
    milliseconds: float


def network_of_run(run: RunFolder) -> Network:
    """The best network of a run; heads on cached features alone, in windows as the run has them. Raises DataError as `network_of`."""
    settings = run.settings
    net = network_of(run)
    channels, size = input_shape(settings)
    if settings.features is None:
        return traced(net.exported(), (channels, size, size))
    if settings.features.window is None:
        return traced(net.exported(), (channels,))
    return traced(_FullWindows(net), (settings.features.window.length, channels))


def network_of_bundle(name: str | Path) -> Network:
    """The network of a bundle that reads affect, with all its outputs; raises UnknownNameError or BundleError.

    Its parameters are those of its weights, as they lie in the file: neither the scales of 8-bit weights nor whole numbers of shapes.
    """
    bundle, content = read_bundle(name)
    if not isinstance(bundle.card, AffectCard):
        raise BundleError(
            f"{bundle.card.name} finds faces and cannot read affect; name a bundle that does"
        )
    pixels = bundle.card.pixels
    graph = onnx.load_from_string(content).graph
    scales = {
        one
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for one in node.input[1:]
    }
    kept = [
        one for one in graph.initializer if one.data_type in _WEIGHTS and one.name not in scales
    ]
    return Network(
        content, (pixels.channels, pixels.size, pixels.size), sum(prod(one.dims) for one in kept)
    )


def traced(net: nn.Module, shape: Shape) -> Network:
    """A network in torch that reads a tensor (N, *shape), frames of one window where that has two axes."""
    parameters = sum(one.numel() for one in net.parameters())
    with TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "net.onnx"
        outputs = net.eval()(torch.zeros(2, *shape))
        names = [f"out{i}" for i in range(len(outputs) if isinstance(outputs, tuple) else 1)]
        with warnings.catch_warnings():
            # That checks of shapes become fixed, and that windows must not change, is meant: the shape is that of the network.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            warnings.filterwarnings(
                "ignore", "Exporting a model to ONNX with a batch_size", UserWarning
            )
            trace(
                net,
                path,
                (torch.zeros(2, *shape),),
                inputs=["image"],
                outputs=names,
                free={0: "batch"},
            )
        content = path.read_bytes()
    return Network(content, shape, parameters, shape[0] if len(shape) == 2 else 1)


class _FullWindows(nn.Module):
    """Heads on windows without padding, which a trace cannot follow, and which costs nothing."""

    def __init__(self, net: MultiTaskNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        found = []
        for head in self.net.heads:
            assert isinstance(head, SequenceHead)
            raw = head.last(head.gru(windows)[0].relu())
            found.append(raw if head.squash is None else head.squash(raw))
        return tuple(found)


def macs(network: Network) -> int:
    """Multiply-accumulates for one face.

    Raises BundleError for a network with operators that compute in a way that is not known here.
    """
    graph = onnx.load_from_string(network.onnx).graph
    nodes = [node for node in graph.node if node.op_type in _COUNTED]
    for node in graph.node:
        inner = [one.op_type for attribute in node.attribute for one in attribute.g.node]
        if (
            node.domain not in _OWN
            or node.op_type in _UNCOUNTED
            or set(inner) & {*_COUNTED, *_UNCOUNTED}
        ):
            raise BundleError(
                f"the cost of the operator {node.op_type} is not known; make the network of plain operators (mien export)"
            )
    shapes = _shapes(
        network, {name for node in nodes for name in (*node.input[:3], node.output[0]) if name}
    )
    return round(sum(_of_node(node, shapes) for node in nodes) / network.faces)


def _of_node(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    first, second = (shapes[name] for name in node.input[:2])
    out = shapes[node.output[0]] if node.output[0] else ()
    said: dict[str, Any] = {
        one.name: onnx.helper.get_attribute_value(one) for one in node.attribute
    }
    if node.op_type == "Conv":  # weights (out, in / groups, height, width)
        return prod(out) * prod(second[1:])
    if node.op_type == "ConvTranspose":  # weights (in, out / groups, height, width)
        return prod(first) * prod(second[1:])
    if node.op_type == "Gemm":
        return prod(out) * first[0 if said.get("transA") else 1]
    if node.op_type == "MatMul":
        return prod(out) * first[-1]
    if node.op_type == "Einsum":
        return _of_einsum(said["equation"].decode(), [shapes[name] for name in node.input])
    return (
        first[0] * first[1] * (prod(second) + prod(shapes[node.input[2]]))
    )  # (T, N, in), (directions, gates * width, in or width)


def _of_einsum(equation: str, shapes: list[Shape]) -> int:
    """The product of all the letters' lengths: one step of multiplying and adding for each."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    lengths = {
        letter: length
        for term, shape in zip(terms, shapes, strict=True)
        for letter, length in zip(term, shape, strict=True)
    }
    return prod(lengths.values())


def _shapes(network: Network, names: set[str]) -> dict[str, Shape]:
    """Shapes of tensors as they come in a run on one face or window, whose own axis is 1."""
    model = onnx.load_from_string(network.onnx)
    [read] = model.graph.input
    known = {one.name: tuple(one.dims) for one in model.graph.initializer} | {
        read.name: (1, *network.shape)
    }
    asked = sorted(names - known.keys())
    there = {one.name for one in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in there)
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = (
        runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )  # tensors must be there under their names
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = (
        session.run(asked, {read.name: np.zeros((1, *network.shape), np.float32)}) if asked else []
    )
    return known | {name: one.shape for name, one in zip(asked, found, strict=True)}


def costs(networks: Mapping[str, Network]) -> dict[str, Cost]:
    """What each of them costs. Their times are taken in turn, so that ratios hold on a machine that is not always equally busy.

    Raises as `macs`.
    """
    rng = np.random.default_rng(0)
    engines = {
        name: open_engine(one.onnx, ENGINE, torch.get_num_threads())
        for name, one in networks.items()
    }
    # A window is a batch by itself where it holds as many faces.
    given: dict[str, Floats32] = {
        name: rng.standard_normal((-(-BATCH // one.faces), *one.shape)).astype(np.float32)
        for name, one in networks.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(1 + _ROUNDS):
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.run(given[name])
            seconds[name].append(time.perf_counter() - began)
    return {
        name: Cost(
            one.parameters,
            macs(one),
            1000 * float(np.median(seconds[name][1:])) / (len(given[name]) * one.faces),
        )
        for name, one in networks.items()
    }

"""What it costs to read a face: parameters, multiply-accumulates and milliseconds of a network.

Every network is examined as ONNX, whatever it was made with: a run's is traced, a bundle's exists.
Counted are the multiply-accumulates (MACs, half the FLOPs) of convolutions, of matrix products,
attention's among them, and of recurrent layers: what `torch.utils.flop_counter` counts, and
recurrent layers in the same way. Not counted: biases, norms, activations, softmax, pooling,
resizing, and every other sum or product of single elements. A batch norm in a run's network is
folded into its convolution, as it is in a bundle.
"""

import math
import time
import warnings
from collections import defaultdict
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
from mien.bundles.engines import Engine, import_onnxruntime, open_engine
from mien.bundles.store import read_bundle
from mien.errors import BundleError
from mien.train.networks.network import MultiTaskNet
from mien.train.networks.temporal.base import TemporalHead
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
"""Number of faces that are read together when time is measured."""

_ROUNDS: Final = 7
_STANDARD_DOMAINS: Final = ("", "ai.onnx")
_COUNTED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "GRU", "LSTM", "RNN")

# Operators that multiply and accumulate, but that mien's own exports never contain.
_UNCOUNTABLE: Final = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DeformConv",
    "Attention",
)
# Integers of 64 bits are no weights but shapes and indices.
_WEIGHT_TYPES: Final = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
)

Shape = tuple[int, ...]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Network:
    """A network as ONNX, of any batch size.

    Attributes:
        onnx: The model.
        shape: Of the input, without the batch: one face, or one window of faces.
        parameters: Number of weights.
        faces: Number of faces in one input.
    """

    onnx: bytes
    shape: Shape
    parameters: int
    faces: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one face.

    Attributes:
        parameters: Number of the network's weights.
        macs: Number of multiply-accumulates.
        milliseconds: On the CPU by ONNX Runtime, with as many threads as torch has, in batches of
            `BATCH`; the median of several rounds.
    """

    parameters: int
    macs: int
    milliseconds: float


def network_of_run(run: RunFolder) -> Network:
    """Trace the best network of a run.

    Args:
        run: The run. Of one on cached features, the network is the heads alone, on windows where
            the run has them.

    Returns:
        The network.

    Raises:
        DataError: The run has no network; see `network_of`.
    """
    settings = run.settings
    net = network_of(run)
    channels, size = input_shape(settings)
    if settings.features is None:
        return traced(net.exported(), (channels, size, size))
    if settings.features.window is None:
        return traced(net.exported(), (channels,))
    return traced(_FullWindows(net), (settings.features.window.length, channels))


def network_of_bundle(name: str | Path) -> Network:
    """Read the network of a bundle that reads affect, with all its outputs.

    Args:
        name: Name or folder of the bundle.

    Returns:
        The network. Its parameters are those of its weights as the file stores them: neither the
        scales of 8-bit weights nor the integers of shapes.

    Raises:
        UnknownNameError: No bundle has that name.
        BundleError: The bundle is damaged, or finds faces only.
    """
    bundle, content = read_bundle(name)
    if not isinstance(bundle.card, AffectCard):
        raise BundleError(
            f"{bundle.card.name} {bundle.card.purpose} and cannot read affect; "
            "name a bundle that does"
        )
    pixels = bundle.card.pixels
    graph = onnx.load_from_string(content).graph
    return Network(
        content,
        shape=(pixels.channels, pixels.size, pixels.size),
        parameters=_count_weights(graph),
    )


def _count_weights(graph: onnx.GraphProto) -> int:
    # Scales and zero points come after the quantised tensor.
    scales: set[str] = set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scales.update(node.input[1:])
    count = 0
    for tensor in graph.initializer:
        if tensor.data_type in _WEIGHT_TYPES and tensor.name not in scales:
            count += prod(tensor.dims)
    return count


def traced(net: nn.Module, shape: Shape) -> Network:
    """Trace a torch network.

    Args:
        net: Reads a tensor (N, *shape); put into evaluation mode.
        shape: Of one input. Two axes mean a window of frames.

    Returns:
        The network.
    """
    parameters = sum(parameter.numel() for parameter in net.parameters())
    example = torch.zeros(2, *shape)
    with torch.no_grad():
        outputs = net.eval()(example)
        count = len(outputs) if isinstance(outputs, tuple) else 1
        content = _trace(net, example, [f"out{i}" for i in range(count)])
    faces = shape[0] if len(shape) == 2 else 1
    return Network(content, shape, parameters, faces)


def _trace(net: nn.Module, example: Tensor, outputs: list[str]) -> bytes:
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "net.onnx"
        # Checks of shapes become constants and windows must not change their length; both are
        # intended, since the shape is the network's.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings(
            "ignore", "Exporting a model to ONNX with a batch_size", UserWarning
        )
        trace(net, path, (example,), inputs=["image"], outputs=outputs, free={0: "batch"})
        return path.read_bytes()


class _FullWindows(nn.Module):
    """Heads on windows without padding, which a trace cannot follow, and which costs nothing."""

    def __init__(self, net: MultiTaskNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for head in self.net.heads:
            assert isinstance(head, TemporalHead)
            outputs.append(head.unpadded(windows))
        return tuple(outputs)


def macs(network: Network) -> int:
    """Count multiply-accumulates.

    Args:
        network: Any.

    Returns:
        Their number for one face.

    Raises:
        BundleError: The network has operators whose cost is not known.
    """
    graph = onnx.load_from_string(network.onnx).graph
    nodes, names = [], set()
    for node in graph.node:
        if not _is_known(node):
            raise BundleError(
                f"the cost of the operator {node.op_type} is not known; "
                "make the network of plain operators (mien export)"
            )
        if node.op_type in _COUNTED:
            nodes.append(node)
            # The formulas need the shapes of up to two weights.
            names.update([*node.input[:3], node.output[0]])
    # An unused output has no name.
    shapes = _tensor_shapes(network, names - {""})
    total = sum(_node_macs(node, shapes) for node in nodes)
    return round(total / network.faces)


def _is_known(node: onnx.NodeProto) -> bool:
    """Whether a node is counted, or known to cost nothing that is counted."""
    if node.domain not in _STANDARD_DOMAINS or node.op_type in _UNCOUNTABLE:
        return False
    # How often the graph inside a loop or a branch is run is not known.
    for attribute in node.attribute:
        for inner in attribute.g.node:
            if inner.op_type in _COUNTED or inner.op_type in _UNCOUNTABLE:
                return False
    return True


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Multiply-accumulates of one node of `_COUNTED`."""
    first, second = shapes[node.input[0]], shapes[node.input[1]]
    out = shapes[node.output[0]] if node.output[0] else ()
    # Weights are (out, in / groups, height, width).
    if node.op_type == "Conv":
        return prod(out) * prod(second[1:])
    # Weights are (in, out / groups, height, width).
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    if node.op_type == "Gemm":
        inner_axis = 0 if _attributes(node).get("transA") else 1
        return prod(out) * first[inner_axis]
    if node.op_type == "MatMul":
        return prod(out) * first[-1]
    if node.op_type == "Einsum":
        equation = _attributes(node)["equation"].decode()
        return _einsum_macs(equation, [shapes[name] for name in node.input])
    # Recurrent: inputs (T, N, in), weights (directions, gates * width, in or width).
    steps = first[0] * first[1]
    return steps * (prod(second) + prod(shapes[node.input[2]]))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    attributes = {}
    for attribute in node.attribute:
        attributes[attribute.name] = onnx.helper.get_attribute_value(attribute)
    return attributes


def _einsum_macs(equation: str, shapes: list[Shape]) -> int:
    """The product of all letters' lengths: one multiply-accumulate for each combination."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    lengths: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        lengths.update(zip(term, shape, strict=True))
    return prod(lengths.values())


def _tensor_shapes(network: Network, names: set[str]) -> dict[str, Shape]:
    """Shapes of tensors in a run on one face or window, with a batch axis of 1."""
    model = onnx.load_from_string(network.onnx)
    [model_input] = model.graph.input
    example = np.zeros((1, *network.shape), np.float32)
    shapes: dict[str, Shape] = {model_input.name: example.shape}
    for tensor in model.graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
    unknown = sorted(names - shapes.keys())
    if unknown:
        _add_outputs(model.graph, unknown)
        values = _unoptimised_session(model).run(unknown, {model_input.name: example})
        for name, value in zip(unknown, values, strict=True):
            shapes[name] = value.shape
    return shapes


def _add_outputs(graph: onnx.GraphProto, names: list[str]) -> None:
    """Make tensors outputs, since a run gives nothing else."""
    present = {output.name for output in graph.output}
    for name in names:
        if name not in present:
            graph.output.append(onnx.ValueInfoProto(name=name))


def _unoptimised_session(model: onnx.ModelProto) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    # Fusing operators would remove tensors that are asked for by name.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def costs(networks: Mapping[str, Network]) -> dict[str, Cost]:
    """Measure what networks cost.

    They are timed in turn, so that the ratios of their times hold on a machine whose load changes.

    Args:
        networks: By any key.

    Returns:
        The cost of a face by each, under the same keys.

    Raises:
        BundleError: A network has operators whose cost is not known.
    """
    seconds = _time_in_turn(networks)
    measured = {}
    for name, network in networks.items():
        faces = _windows(network) * network.faces
        measured[name] = Cost(
            network.parameters,
            macs=macs(network),
            milliseconds=1000 * seconds[name] / faces,
        )
    return measured


def _windows(network: Network) -> int:
    """Number of inputs in a batch; a window of as many faces is a batch by itself."""
    return math.ceil(BATCH / network.faces)


def _time_in_turn(networks: Mapping[str, Network]) -> dict[str, float]:
    """Seconds that each network takes for a batch, the median of rounds."""
    rng = np.random.default_rng(0)
    engines, batches = {}, {}
    for name, network in networks.items():
        engines[name] = open_engine(network.onnx, ENGINE, torch.get_num_threads())
        size = (_windows(network), *network.shape)
        batches[name] = rng.standard_normal(size).astype(np.float32)
    rounds: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 + _ROUNDS):
        for name, engine in engines.items():
            rounds[name].append(_time(engine, batches[name]))
    medians = {}
    for name, seconds in rounds.items():
        # The first round warms up and does not count.
        medians[name] = float(np.median(seconds[1:]))
    return medians


def _time(engine: Engine, batch: Floats32) -> float:
    start = time.perf_counter()
    engine.run(batch)
    return time.perf_counter() - start

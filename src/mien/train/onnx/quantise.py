"""Networks in 8 bits whose answers are the same on every processor and engine.

Networks of exact layers (`mien.train.onnx.exact_layers`: convolutions, ReLU, sums, pooling by
powers of two, padding, concatenation) compute in 8 bits up to the last of them. What comes after,
such as the mean over the face and the heads, is computed in float32, so scores have no steps. A
network with a convolution behind any other layer (a swish, a gate, attention) computes in float32
throughout, and only stores its large weights in 8 bits.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien.bundles.engines import import_onnxruntime
from mien.train.onnx.activations import QuantParams, calibrate
from mien.train.onnx.exact_layers import MAX_WEIGHT, exact_tensors
from mien.train.onnx.graphs import (
    attributes_of,
    constants_of,
    consumers_of,
    input_name,
    rename_inputs,
    rename_tensors,
    replace_nodes,
)

__all__ = ["quantise", "quantise_model"]

Array = NDArray[Any]
Floats32 = NDArray[np.float32]

# Values from which on storing a weight in 8 bits saves more than its scales cost.
_LARGE: Final = 1024

# Smallest of the largest weights of a filter or column, so that a filter of zeros has a scale too.
_SMALLEST_FILTER: Final = 1e-9
_SMALLEST_COLUMN: Final = 1e-12

# Highest absolute value of a signed 8-bit number.
_HIGHEST: Final = 127

# Largest bias as a whole number: the largest float32 below 2**31.
_MAX_BIAS: Final = np.iinfo(np.int32).max - 127


def quantise(path: Path, calibration: Floats32) -> None:
    """Rewrite a float32 network in 8 bits.

    Args:
        path: An ONNX file, float32, with one input.
        calibration: Inputs (N, C, H, W) on which the ranges of activations are measured.
    """
    import_onnxruntime()
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        # Folds batch norms into convolutions and turns constants into initializers.
        quant_pre_process(str(path), str(ready))
        model = onnx.load(ready)
    onnx.save(quantise_model(model, calibration), path)


def quantise_model(
    model: onnx.ModelProto, calibration: Floats32, *, clip: bool = True
) -> onnx.ModelProto:
    """Quantise a network in memory to 8 bits.

    Args:
        model: A float32 network with one input, its batch norms folded into convolutions and its
            constants as initializers; it is not changed.
        calibration: Inputs (N, C, H, W) on which the ranges of activations are measured.
        clip: Extremes of activations may be clipped where finer steps make the mean error smaller.

    Returns:
        The network in 8 bits.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    exact = exact_tensors(graph)
    if exact:
        _exclude_padding_from_means(graph, exact)
        _quantise_layers(graph, exact, calibrate(quantised, exact, calibration, clip))
    else:
        _store_weights(graph)
    # Types and shapes of tensors in between are no longer those of the float32 network.
    del graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _exclude_padding_from_means(graph: onnx.GraphProto, exact: set[str]) -> None:
    """Let exact average pooling leave padding out of its means.

    Where the picture's edge cuts a window off, ONNX Runtime's 8-bit kernel divides by the size of
    the whole window otherwise.
    """
    for node in graph.node:
        if node.op_type != "AveragePool" or node.output[0] not in exact:
            continue
        kept = [item for item in node.attribute if item.name != "count_include_pad"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("count_include_pad", 0)])


class _Writer:
    """Collects the nodes of a quantised graph, and adds constants to the graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Begin with no nodes.

        Args:
            graph: The graph that constants are added to.
        """
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: Array) -> str:
        """Add a constant to the graph; returns its name."""
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def round_trip(self, name: str, params: QuantParams) -> str:
        """Round a tensor to 8 bits and back; returns the name of the result."""
        scale = self.constant(f"{name}.scale", np.array(params.scale, np.float32))
        zero_point = self.constant(f"{name}.zero", np.array(params.zero_point, np.uint8))
        whole = self.node("QuantizeLinear", [name, scale, zero_point], f"{name}.whole")
        return self.node("DequantizeLinear", [whole, scale, zero_point], f"{name}.held")

    def stored(self, name: str, numbers: Array, scales: Floats32) -> str:
        """Store a constant as whole numbers with a scale per row; returns its value's name."""
        inputs = [
            self.constant(f"{name}.whole", numbers),
            self.constant(f"{name}.scale", scales),
            self.constant(f"{name}.zero", np.zeros(len(scales), numbers.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}.held", axis=0)


def _quantise_layers(
    graph: onnx.GraphProto, exact: set[str], params: Mapping[str, QuantParams]
) -> None:
    """Round activations to 8 bits, and store weights of convolutions as whole numbers."""
    constants = constants_of(graph)
    writer = _Writer(graph)
    image = input_name(graph)
    rounded = {image: writer.round_trip(image, params[image])}
    for number, node in enumerate(graph.node):
        source = node.input[0]
        rename_inputs(node, rounded)
        if node.op_type == "Conv" and node.output[0] in exact:
            _store_convolution(writer, node, constants, params[source].scale, f"layer{number}")
        writer.nodes.append(node)
        for name in node.output:
            if name in params:
                rounded[name] = writer.round_trip(name, params[name])
    # An output that later layers read rounded must be given rounded too: users get what heads get.
    for output in graph.output:
        name = output.name
        if name in rounded:
            rename_tensors(writer.nodes, {name: f"{name}.exact", rounded[name]: name})
    replace_nodes(graph, writer.nodes)


def _store_convolution(
    writer: _Writer,
    node: onnx.NodeProto,
    constants: Mapping[str, Array],
    input_scale: float,
    name: str,
) -> None:
    """Store a convolution's weight and bias as whole numbers, whose sums are whole numbers."""
    numbers, scales = _quantised_filters(constants[node.input[1]])
    node.input[1] = writer.stored(f"{name}.weight", numbers, scales)
    if len(node.input) <= 2:
        return
    # A bias is added to products of input and weight, so its scale is the product of theirs.
    bias_scales = scales * np.float32(input_scale)
    bias = np.rint(constants[node.input[2]] / bias_scales.astype(np.float64))
    whole = np.clip(bias, -_MAX_BIAS, _MAX_BIAS).astype(np.int32)
    node.input[2] = writer.stored(f"{name}.bias", whole, bias_scales)


def _quantised_filters(weight: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """Whole numbers up to `MAX_WEIGHT` and a scale, a power of two, for each filter.

    Of the scale that spans the filter and half of it, which clips the largest weights, the one that
    changes the filter less.
    """
    rows = weight.reshape(len(weight), -1)
    largest = np.maximum(np.abs(rows).max(axis=1), _SMALLEST_FILTER)
    wide_scales = np.exp2(np.ceil(np.log2(largest / MAX_WEIGHT)))
    wide, wide_errors = _rounded_rows(rows, wide_scales)
    fine_scales = wide_scales / 2
    fine, fine_errors = _rounded_rows(rows, fine_scales)
    is_finer = fine_errors < wide_errors
    numbers = np.where(is_finer[:, None], fine, wide).reshape(weight.shape)
    scales = np.where(is_finer, fine_scales, wide_scales)
    return numbers.astype(np.int8), scales.astype(np.float32)


def _rounded_rows(rows: Floats32, scales: Floats32) -> tuple[Array, Array]:
    """Rows in whole numbers, and the squared error of each row."""
    numbers = np.clip(np.rint(rows / scales[:, None]), -MAX_WEIGHT, MAX_WEIGHT)
    errors = np.square(numbers * scales[:, None] - rows).sum(axis=1)
    return numbers, errors


def _store_weights(graph: onnx.GraphProto) -> None:
    """Store large weights of layers in 8 bits, with a scale for each filter or column.

    A cast and a product restore them when the file is loaded; DequantizeLinear, which would do the
    same, is computed anew for every batch by some engines.
    """
    consumers = consumers_of(graph)
    writer = _Writer(graph)
    for name, weight in constants_of(graph).items():
        readers = consumers.get(name, [])
        if weight.dtype != np.float32 or weight.size < _LARGE or weight.ndim < 2 or not readers:
            continue
        axis = _output_axis(readers[0], name)
        # A weight that layers read in different ways has no axis for its scales.
        if axis is None or any(_output_axis(reader, name) != axis for reader in readers):
            continue
        _store_weight(writer, name, weight, axis)
        for reader in readers:
            rename_inputs(reader, {name: f"{name}.held"})
    replace_nodes(graph, [*writer.nodes, *graph.node])


def _store_weight(writer: _Writer, name: str, weight: Floats32, axis: int) -> None:
    others = set(range(weight.ndim)) - {axis}
    largest = np.abs(weight).max(axis=tuple(others), keepdims=True)
    scale = np.maximum(largest, _SMALLEST_COLUMN) / _HIGHEST
    whole = writer.constant(f"{name}.whole", np.rint(weight / scale).astype(np.int8))
    writer.constant(f"{name}.scale", scale.astype(np.float32))
    restored = writer.node("Cast", [whole], f"{name}.float", to=TensorProto.FLOAT)
    writer.node("Mul", [restored, f"{name}.scale"], f"{name}.held")


def _output_axis(node: onnx.NodeProto, name: str) -> int | None:
    """The axis of a layer's weight that runs over its outputs; None where `name` is no weight."""
    if name not in list(node.input)[1:2]:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attributes_of(node).get("transB", 0) else 1
    return 1 if node.op_type == "MatMul" else None

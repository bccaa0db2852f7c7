"""Layers of an ONNX file whose answers differ between processors or engines."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from mien.train.onnx.exact_layers import MAX_WEIGHT, are_powers_of_two, is_exact
from mien.train.onnx.graphs import attributes_of, constants_of, producers_of

__all__ = ["portability_issues"]

Array = NDArray[Any]

# Operators that compute on 8-bit numbers themselves.
_INTEGER: Final = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
_WEIGHTED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def portability_issues(model: onnx.ModelProto) -> list[str]:
    """Find layers in 8 bits that processors or engines may compute differently.

    `mien.train.onnx.exact_layers` says what makes a layer exact. Networks without activations in
    8 bits have none of these issues.

    Args:
        model: An ONNX network.

    Returns:
        One line per issue; none for a network that `mien.train.onnx.quantise` made.
    """
    constants = constants_of(model.graph)
    producers = producers_of(model.graph)
    issues = []
    for node in model.graph.node:
        if node.op_type in _INTEGER:
            issues.append(f"{node.op_type} {node.name}: engines sum its 8-bit products differently")
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            issues += _rounding_issues(node, producers, constants)
        elif node.op_type in _WEIGHTED:
            issues += _weight_issues(node, producers, constants)
        elif node.op_type == "AveragePool":
            issues += _pooling_issues(node, producers)
    return issues


def _is_dequantised(name: str, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a tensor was stored in 8 bits."""
    return name in producers and producers[name].op_type == "DequantizeLinear"


def _rounding_issues(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], constants: Mapping[str, Array]
) -> Iterator[str]:
    source = node.input[0]
    # A scale that is computed while the network runs can be anything: NaN passes no check.
    unknown = np.full(1, np.nan)
    scale = constants.get(node.input[1], unknown)
    zero_point = constants.get(node.input[2], unknown)
    if not are_powers_of_two(scale):
        yield f"{source}: its scale {float(scale.max()):.4g} is not a power of two"
    if not (zero_point % 2 == 0).all():
        yield (
            f"{source}: its zero point {zero_point} is not even, and engines round halves to even "
            "before or after they add it"
        )
    layer = producers.get(source)
    if layer is None or is_exact(layer, constants) or _has_stored_weights(layer, producers):
        return
    yield f"{source}: rounded after {layer.op_type}, whose last digit differs between engines"


def _has_stored_weights(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether all weights of a convolution are stored in 8 bits, which makes it exact."""
    return node.op_type == "Conv" and all(
        _is_dequantised(name, producers) for name in node.input[1:]
    )


def _weight_issues(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], constants: Mapping[str, Array]
) -> Iterator[str]:
    # Engines multiply in 8 bits only where both factors are; anything else is float32.
    factors = node.input[:2]
    if not all(_is_dequantised(name, producers) for name in factors):
        return
    layer = node.output[0]
    stored = [constants.get(name) for name in producers[node.input[1]].input]
    weight = stored[0]
    scale = stored[1]
    zero_point = stored[2] if len(stored) > 2 else None
    if weight is None or scale is None:
        yield f"{layer}: multiplies two activations in 8 bits"
        return
    offset = 0 if zero_point is None else zero_point.astype(int).max()
    if np.abs(weight.astype(int) - offset).max() > MAX_WEIGHT:
        yield (
            f"{layer}: weights beyond {MAX_WEIGHT}, whose sums overflow on processors without VNNI"
        )
    if not are_powers_of_two(scale):
        yield f"{layer}: the scales of its weights are not powers of two"


def _pooling_issues(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> Iterator[str]:
    counts_padding = attributes_of(node).get("count_include_pad")
    if _is_dequantised(node.input[0], producers) and counts_padding:
        yield f"{node.output[0]}: its means count padding, which engines do differently"

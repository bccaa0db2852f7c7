"""Which layers compute the same in 8 bits on every processor and engine.

Sums of 8-bit products are whole numbers, and whole numbers have one right answer. Everything else
about 8 bits is rounding: a value near the middle between two steps is rounded up by one engine and
down by another, which moves the next layers and in the end a score. So an exact network keeps to
three rules, and `mien.train.onnx.portability` finds what breaks them:

- Every scale is a power of two. Then scaling, sums of branches, biases and means over 2x2 pixels
  are exact in float32, in any order, whatever an engine fuses.
- Zero points are even. Halves are rounded to the even neighbour, by some engines before the zero
  point is added and by others after it.
- Weights have 7 bits. Processors with AVX2 and no VNNI add two products of an unsigned and a signed
  8-bit number in 16 bits, which overflow at 2 x 255 x 127 and do not at 2 x 255 x 64.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from mien.train.onnx.graphs import attributes_of, constants_of, input_name

__all__ = ["MAX_WEIGHT", "are_powers_of_two", "exact_tensors", "is_exact"]

Array = NDArray[Any]

MAX_WEIGHT: Final = 64
"""Largest quantised weight, as an absolute value: 2 x 255 x 64 fits into 16 bits."""

_CONVOLUTIONS: Final = ("Conv", "ConvTranspose")


def are_powers_of_two(scales: Array) -> bool:
    """Check that all numbers are powers of two.

    Args:
        scales: Positive numbers of any shape.

    Returns:
        Whether they all are; False where one is NaN.
    """
    mantissas = np.frexp(scales)[0]
    return bool((mantissas == 0.5).all())


def is_exact(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Check that a layer has one right answer, given scales that are powers of two.

    Args:
        node: The layer.
        constants: The graph's constants by name.

    Returns:
        Whether every engine computes the same.
    """
    attributes = attributes_of(node)
    if node.op_type == "Conv":
        return constants.keys() >= set(node.input[1:])
    if node.op_type == "AveragePool":
        # A mean over a power of two only shifts bits. Padding would give windows other sizes.
        sides = attributes["kernel_shape"]
        whole_windows = not any(attributes.get("pads", ()))
        return whole_windows and all(side & (side - 1) == 0 for side in sides)
    if node.op_type == "Pad":
        # Zero is exact under any scale, other values are not.
        is_constant = attributes.get("mode", b"constant") == b"constant"
        return is_constant and not _pad_value(node, constants).any()
    if node.op_type == "Add":
        # A constant has no scale of its own that would make the sum exact.
        return constants.keys().isdisjoint(node.input)
    return node.op_type in ("Relu", "Clip", "MaxPool", "Concat")


def _pad_value(node: onnx.NodeProto, constants: Mapping[str, Array]) -> Array:
    """What a Pad fills in: its third input, or zero where it is left out."""
    zero = np.zeros(1)
    has_value = len(node.input) > 2 and bool(node.input[2])
    return constants.get(node.input[2], zero) if has_value else zero


def exact_tensors(graph: onnx.GraphProto) -> set[str]:
    """Find what exact layers compute from the input, through exact layers alone.

    Args:
        graph: A float32 network with one input.

    Returns:
        Names of tensors, without the input. None where a convolution lies behind another layer, or
        where there is no convolution: 8 bits would then save little time and cost accuracy.
    """
    constants = constants_of(graph)
    image = input_name(graph)
    exact = {image}
    for node in graph.node:
        activations = [name for name in node.input if name and name not in constants]
        if exact.issuperset(activations) and is_exact(node, constants):
            exact.update(node.output)
    convolved = {node.output[0] for node in graph.node if node.op_type in _CONVOLUTIONS}
    if not convolved or not convolved <= exact:
        return set()
    return exact - {image}

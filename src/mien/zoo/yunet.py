"""YuNet in the form of mien's face detectors: luma in, one grid out (`mien.faces.detect`)."""

from typing import Final

from onnx import GraphProto, NodeProto, TensorProto, helper

from mien.bundles.graph import checked
from mien.errors import BundleError
from mien.faces.detect import STRIDES
from mien.text import printable

__all__ = ["luma_grid"]

_PARTS: Final = ("cls", "obj", "bbox", "kps")


def luma_grid(network: bytes) -> bytes:
    """Give YuNet the inputs and outputs of mien's face detectors.

    The score is the geometric mean of class and objectness, as in Wu, Peng & Yu (2023).

    Args:
        network: An ONNX file that takes colour (N, 3, H, W) and gives, for each stride, class and
            objectness (N, M, 1), box (N, M, 4) and points (N, M, 10).

    Returns:
        An ONNX file that takes luma (N, 1, H, W), used for all three channels, and gives the raw
        predictions of `mien.faces.detect`, (N, M, 15).

    Raises:
        BundleError: The network has another form, or `checked` refuses it.
    """
    model = checked(network)
    graph = model.graph
    expected = {f"{part}_{stride}" for part in _PARTS for stride in STRIDES}
    _check_form(graph, expected)
    # The network keeps its three channels, each of which is given the luma.
    colour = helper.make_node("Concat", ["image"] * 3, [graph.input[0].name], axis=1)
    # The same bounds serve all strides.
    low = helper.make_tensor("grid_low", TensorProto.FLOAT, [], [0.0])
    high = helper.make_tensor("grid_high", TensorProto.FLOAT, [], [1.0])
    nodes = [colour, *graph.node]
    for stride in STRIDES:
        nodes += _grid_of_stride(stride, low.name, high.name)
    grids = [f"grid_{stride}" for stride in STRIDES]
    nodes.append(helper.make_node("Concat", grids, ["grid"], axis=1))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([low, high])
    _set_inputs_and_outputs(graph)
    return bytes(model.SerializeToString())


def _check_form(graph: GraphProto, expected: set[str]) -> None:
    """Raise BundleError unless the graph has one input and outputs of the expected names."""
    given = [output.name for output in graph.output]
    if len(graph.input) != 1 or set(given) != expected:
        raise BundleError(
            f"a network of YuNet's form has one input and gives {', '.join(sorted(expected))}; "
            f"this one gives {printable(', '.join(given))}"
        )


def _set_inputs_and_outputs(graph: GraphProto) -> None:
    """Replace the graph's inputs by ``image``, and its outputs by ``grid``."""
    del graph.input[:]
    del graph.output[:]
    luma: list[str | int | None] = ["batch", 1, "height", "width"]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, luma))
    cells: list[str | int | None] = ["batch", "cells", 15]
    graph.output.append(helper.make_tensor_value_info("grid", TensorProto.FLOAT, cells))


def _grid_of_stride(stride: int, low: str, high: str) -> list[NodeProto]:
    """Nodes that join score, box and points of one stride into (N, M, 15)."""
    product = f"grid_both_{stride}"
    clipped = f"grid_clipped_{stride}"
    score = f"grid_score_{stride}"
    parts = [score, f"bbox_{stride}", f"kps_{stride}"]
    multiply = helper.make_node("Mul", [f"cls_{stride}", f"obj_{stride}"], [product])
    clip = helper.make_node("Clip", [product, low, high], [clipped])
    root = helper.make_node("Sqrt", [clipped], [score])
    join = helper.make_node("Concat", parts, [f"grid_{stride}"], axis=2)
    return [multiply, clip, root, join]

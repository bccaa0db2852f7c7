"""Looking things up in ONNX graphs, and changing them in place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = [
    "attributes_of",
    "constants_of",
    "consumers_of",
    "drop_unused_constants",
    "input_name",
    "producers_of",
    "rename_inputs",
    "rename_tensors",
    "replace_nodes",
]

Array = NDArray[Any]


def input_name(graph: onnx.GraphProto) -> str:
    """Name the input of a graph that has one.

    Args:
        graph: The graph.

    Returns:
        The name of its only input.

    Raises:
        ValueError: The graph has another number of inputs.
    """
    [tensor] = graph.input
    return str(tensor.name)


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """Read the initializers of a graph.

    Args:
        graph: The graph.

    Returns:
        Their values by name.
    """
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Read the attributes of a node.

    Args:
        node: The node.

    Returns:
        Their values by name; those left at their default are missing.
    """
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def producers_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Find the node that computes each tensor.

    Args:
        graph: The graph.

    Returns:
        Nodes by the name of a tensor; inputs and constants are missing.
    """
    producers = {}
    for node in graph.node:
        for name in node.output:
            producers[name] = node
    return producers


def consumers_of(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Find the nodes that read each tensor.

    Args:
        graph: The graph.

    Returns:
        Nodes by the name of a tensor, in the graph's order; none for an output that no node reads.
    """
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for output in graph.output:
        consumers[output.name] = []
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return consumers


def rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node read other tensors.

    Args:
        node: The node; it is changed in place.
        names: New names by old ones; other inputs stay.
    """
    for position, name in enumerate(node.input):
        node.input[position] = names.get(name, name)


def rename_tensors(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Rename inputs and outputs of nodes.

    Args:
        nodes: The nodes; they are changed in place.
        names: New names by old ones; other tensors keep theirs.
    """
    for node in nodes:
        rename_inputs(node, names)
        for position, name in enumerate(node.output):
            node.output[position] = names.get(name, name)


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes, and drop the constants that none of them reads.

    Args:
        graph: The graph; it is changed in place.
        nodes: The new nodes, in the order of computation; a list apart from the graph's.
    """
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused_constants(graph)


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Drop the initializers that no node reads.

    Args:
        graph: The graph; it is changed in place.
    """
    read = set()
    for node in graph.node:
        read.update(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)

"""From a published ONNX file to a bundle's network: one output per task, and the features.

The columns of each output are in the order of mien's labels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from mien.bundles.engines import open_engine
from mien.bundles.graph import bounded, checked, line_of
from mien.errors import BundleError
from mien.tasks import Task
from mien.text import printable

__all__ = ["CONVERTED", "apart", "columns_of", "split"]

CONVERTED: Final = 1e-5
"""Largest difference between the outputs of a converted network and the original (`apart`)."""
Array = NDArray[Any]
Columns = slice | Sequence[int]


def split(network: bytes, tasks: Sequence[tuple[Task, Columns]], size: int | None = None) -> bytes:
    """Split the one output of a network, which a linear layer gives, into one output per task.

    The result is run beside the original before it is returned. No file that the network refers
    to is read.

    Args:
        network: Content of an ONNX file with one output (N, K).
        tasks: In the order of the card, each with the columns of the output that hold its
            `names`, in their order; see `Task.column_index`.
        size: Side of the crops in px; needed where the file leaves it open, otherwise checked.

    Returns:
        An ONNX file. It takes ``image`` (N, 3, size, size) for any N, and gives one raw output
        (N, K) per task, named by its family (`Task.decode` brings valence and arousal into
        range), and last ``features`` (N, D), the input of the linear layer.

    Raises:
        BundleError: The network has another form, or gives other numbers once it is split.
        ValueError: The columns do not fit the tasks.
    """
    model = checked(network)
    if len(model.graph.output) != 1:
        raise _refused(f"has {len(model.graph.output)} outputs")
    try:
        side = _free_input(model, size)
        bounded(model, (1, 3, side, side))
        weight, bias, features = _cut_last_layer(model.graph)
    except BundleError:
        raise
    # The checker lets some invalid graphs through, for which onnx raises types of its own.
    except Exception as error:
        raise _refused(f"is not valid ONNX ({line_of(error)})") from error
    columns = [columns_of(task, selection, len(weight)) for task, selection in tasks]
    families = [task.family for task, _ in tasks]
    if len(set(families)) < len(families):
        raise ValueError(f"outputs go by task family, and one comes twice: {', '.join(families)}")
    _rename(model.graph, features, families)
    for family, selected in zip(families, columns, strict=True):
        _add_head(model.graph, family, weight[selected], bias[selected])
    _add_output(model.graph, "features", weight.shape[1])
    converted: bytes = model.SerializeToString(deterministic=True)
    _compare(network, converted, columns, side)
    return converted


def _refused(why: str) -> BundleError:
    return BundleError(
        f"the network {printable(why)}; "
        "only ONNX files with one output that a linear layer gives can be split"
    )


def _add_head(graph: GraphProto, family: str, weight: Array, bias: Array) -> None:
    """Add a linear layer from ``features`` to an output named by the task family."""
    names = [f"{family}.weight", f"{family}.bias"]
    for name, array in zip(names, (weight, bias), strict=True):
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node.append(helper.make_node("Gemm", ["features", *names], [family], family, transB=1))
    _add_output(graph, family, len(weight))


def _add_output(graph: GraphProto, name: str, width: int) -> None:
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]))


def _free_input(model: ModelProto, size: int | None) -> int:
    """Leave the graph with one input, whose batch axis is free; the side of the crops in px."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    # Old files list their weights as inputs too, where a caller could replace them.
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise _refused(f"has {len(inputs)} inputs")
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise _refused("does not read float32")
    shape = inputs[0].type.tensor_type.shape.dim
    if len(shape) != 4 or shape[1].dim_value != 3:
        raise _refused("does not read colour pictures (N, 3, H, W)")
    side = _side(shape[2].dim_value or size, shape[3].dim_value or size, size)
    del graph.input[:]
    graph.input.append(inputs[0])
    # Before IR version 4, weights had to be listed among the inputs.
    model.ir_version = max(model.ir_version, 4)
    if shape[0].dim_value:
        _free_batch(model)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    # Recorded shapes may say that the batch is one.
    del graph.value_info[:]
    return side


def _side(height: int | None, width: int | None, size: int | None) -> int:
    if height is None or height != width or (size is not None and height != size):
        given = f"{width or 'any'}x{height or 'any'}"
        expected = f"{size}x{size}" if size else "of one known size"
        raise _refused(f"reads pictures of {given} px, not {expected}")
    return height


def _cut_last_layer(graph: GraphProto) -> tuple[Array, Array, str]:
    """Remove the last layer.

    Returns its weight (K, D) and bias (K,), and the name of its input.
    """
    producers = {name: node for node in graph.node for name in node.output}
    constant = _constants(graph)
    last = producers.get(graph.output[0].name)
    if last is None:
        raise _refused("has an output that nothing makes")
    # A linear layer is a Gemm, a MatMul, or a MatMul followed by an Add.
    linear = _matmul_before(last, producers) if last.op_type == "Add" else last
    weight, bias = _linear_layer(linear, last, constant)
    # Both are the same node, unless the layer is a MatMul and an Add.
    for node in (linear, last):
        if node in graph.node:
            graph.node.remove(node)
    del graph.output[:]
    # One number may stand for the bias of all outputs.
    bias = np.broadcast_to(bias.reshape(-1), len(weight)).copy()
    return np.ascontiguousarray(weight), bias, linear.input[0]


def _linear_layer(
    linear: NodeProto, last: NodeProto, constant: Callable[[str], Array | None]
) -> tuple[Array, Array]:
    """Weight (K, D) and bias (K,) or (1,) of a layer; BundleError where it is no linear one."""
    weight = None
    # A product with itself is no layer.
    if linear.op_type in ("Gemm", "MatMul") and linear.input[0] != linear.input[1]:
        weight = constant(linear.input[1])
    if weight is None or weight.ndim != 2:
        raise _refused(f"ends in {last.op_type}, not in a linear layer")
    if linear.op_type == "Gemm":
        layer = _gemm(linear, weight, constant)
    else:
        layer = _matmul(linear, weight, last, constant)
    problem = f"ends in a {linear.op_type} that is no linear layer in float32"
    if layer is None:
        raise _refused(problem)
    weight, bias = layer
    if bias.size not in (1, len(weight)) or not weight.dtype == bias.dtype == np.float32:
        raise _refused(problem)
    return weight, bias


def _matmul_before(add: NodeProto, producers: dict[str, NodeProto]) -> NodeProto:
    """The MatMul whose result an Add takes; the Add itself where it takes none."""
    for name in add.input:
        node = producers.get(name)
        if node is not None and node.op_type == "MatMul":
            return node
    return add


def _gemm(
    node: NodeProto, weight: Array, constant: Callable[[str], Array | None]
) -> tuple[Array, Array] | None:
    """Weight (K, D) and bias of a Gemm; None where its bias is not constant."""
    attributes = {
        attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    if attributes.get("transA"):
        return None
    # Gemm multiplies by a (D, K) matrix, or by the transpose of a (K, D) one with transB.
    weight = weight if attributes.get("transB") else weight.T
    weight = weight * np.float32(attributes.get("alpha", 1.0))
    if len(node.input) < 3 or not node.input[2]:
        return weight, np.zeros(len(weight), np.float32)
    bias = constant(node.input[2])
    return None if bias is None else (weight, bias * np.float32(attributes.get("beta", 1.0)))


def _matmul(
    node: NodeProto, weight: Array, last: NodeProto, constant: Callable[[str], Array | None]
) -> tuple[Array, Array] | None:
    """Weight (K, D) and bias of a MatMul, and of the Add after it unless the MatMul is last."""
    if last.op_type != "Add":
        return weight.T, np.zeros(weight.shape[1], np.float32)
    addends = [name for name in last.input if name != node.output[0]]
    bias = constant(addends[0])
    return None if bias is None else (weight.T, bias)


def _constants(graph: GraphProto) -> Callable[[str], Array | None]:
    """A function that gives the array of a constant by its name, and None for any other value."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    nodes: dict[str, NodeProto] = {}
    for node in graph.node:
        if node.op_type in ("Constant", "Identity"):
            nodes[node.output[0]] = node

    def constant(name: str) -> Array | None:
        node = nodes.get(name)
        if node is not None and node.op_type == "Identity":
            return constant(node.input[0])
        tensor = initializers.get(name)
        if tensor is None and node is not None:
            tensor = _constant_value(node)
        return None if tensor is None else numpy_helper.to_array(tensor)

    return constant


def _constant_value(node: NodeProto) -> TensorProto | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            value: TensorProto = attribute.t
            return value
    return None


def columns_of(task: Task, selection: Columns, count: int) -> list[int]:
    """Columns of an output that hold a task's names.

    Args:
        task: The task.
        selection: A slice of the columns, or their numbers.
        count: Number of columns of the output.

    Returns:
        Numbers of the columns, one per name of the task, in their order.

    Raises:
        ValueError: There is not one column for each name.
    """
    if isinstance(selection, slice):
        columns = list(range(count)[selection])
    else:
        columns = list(map(int, selection))
    unique = len(set(columns)) == len(columns)
    exist = all(0 <= number < count for number in columns)
    if len(columns) != len(task.names) or not unique or not exist:
        raise ValueError(
            f"{task.key} needs {len(task.names)} columns of the network's {count}, got {columns}"
        )
    return columns


def _rename(graph: GraphProto, features: str, families: Sequence[str]) -> None:
    """Name the input and the features; drop weights that only the last layer needed."""
    new_names = {graph.input[0].name: "image", features: "features"}
    reserved = {"image", "features", *families}
    for family in families:
        reserved |= {f"{family}.weight", f"{family}.bias"}

    def renamed(name: str) -> str:
        if name in new_names:
            return new_names[name]
        # A name of the file that is one of ours must give way.
        return f"original.{name}" if name in reserved else name

    used: set[str] = set()
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = map(renamed, names)
        used.update(node.input)
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    graph.input[0].name = "image"
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def _free_batch(model: ModelProto) -> None:
    """Make shapes that were written for a batch of one follow the batch of the input.

    `_compare` finds out where that is wrong.
    """
    graph = model.graph
    constant = _constants(graph)
    shapes: dict[str, list[int]] = {}
    for value in infer_shapes(model).graph.value_info:
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    # A copy, as nodes are inserted on the way.
    for node in list(graph.node):
        if node.op_type == "Reshape" and constant(node.input[1]) is not None:
            shape = shapes.get(node.output[0], [])
            if len(shape) < 2 or not all(shape):
                continue
            # Where the batch is folded into a side, it is the first: -1 infers it from the rest.
            target = [-1, *shape[1:]]
            node.input[1] = _add_integers(graph, f"{node.output[0]}.shape", target)
        elif node.op_type == "Resize" and len(node.input) > 3:
            sizes = constant(node.input[3])
            if sizes is not None and len(sizes) == 4:
                node.input[3] = _add_sizes(graph, node, sizes[2:].tolist())


def _add_integers(graph: GraphProto, name: str, numbers: Sequence[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


def _add_sizes(graph: GraphProto, resize: NodeProto, sides: Sequence[int]) -> str:
    """Add nodes before `resize` that keep its batch and channels, and fix height and width.

    Returns the name of the sizes.
    """
    name = resize.output[0]
    start = _add_integers(graph, f"{name}.start", [0])
    end = _add_integers(graph, f"{name}.end", [2])
    fixed = _add_integers(graph, f"{name}.sides", sides)
    shape = helper.make_node("Shape", [resize.input[0]], [f"{name}.shape"])
    kept = helper.make_node("Slice", [f"{name}.shape", start, end], [f"{name}.kept"])
    sizes = helper.make_node("Concat", [f"{name}.kept", fixed], [f"{name}.sizes"], axis=0)
    # Nodes of a graph stand in the order in which they run.
    position = list(graph.node).index(resize)
    for node in (sizes, kept, shape):
        graph.node.insert(position, node)
    return f"{name}.sizes"


def _compare(network: bytes, converted: bytes, columns: Sequence[Sequence[int]], side: int) -> None:
    """Run both on noise; raise BundleError where their outputs differ."""
    noise = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    try:
        original = open_engine(network, "onnxruntime")
        split_up = open_engine(converted, "onnxruntime")
        # The original's batch may be fixed to one, that of the new network must not be.
        before = np.concatenate([original.run(picture[None])[0] for picture in noise])
        *raw, _ = split_up.run(noise)
    except Exception as error:  # engines raise types of their own
        raise _refused("cannot be run, or only with the batch that it was written with") from error
    # The empty block makes this work for no task at all, too.
    after = np.hstack([np.empty((2, 0)), *raw])
    selected = np.concatenate([[], *columns]).astype(int)
    difference = apart(after, before[:, selected])
    # Written so that NaN is refused, too.
    if not difference <= CONVERTED:
        raise _refused(f"answers otherwise once it is split, by {difference:.2g}")


def apart(actual: Array, expected: Array) -> float:
    """Largest difference of two arrays, relative to the largest expected value, but at least to 1.

    Args:
        actual: An array.
        expected: An array of the same shape.

    Returns:
        The difference; 0 for empty arrays.

    >>> apart(np.array([0.0, 9.0]), np.array([0.0, 10.0]))
    0.1
    """
    difference = np.abs(actual - expected).max(initial=0)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return float(difference / scale)

"""From a published ONNX file to a bundle's network: one output a task, in this package's label orders, and the features before them."""

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
"""Largest difference of a converted network's outputs from the original's, as `apart` has it."""
Array = NDArray[Any]


def split(
    network: bytes, tasks: Sequence[tuple[Task, slice | Sequence[int]]], size: int | None = None
) -> bytes:
    """A network (an ONNX file) with one output (N, K) whose last layer is linear, as a bundle holds it.

    tasks: in the order of the card's, each with the columns of the output that hold its `names`, in their order; see `Task.column_index`.
    size: side of the crops in px; needed where the file leaves it open, and checked where it does not.
    The result takes ``image`` (N, 3, size, size) for any N, and gives one output (N, K) for each task, named by its family, raw
    (`Task.decode` brings valence and arousal into range), and last ``features`` (N, D), what that layer reads.
    It is run beside the original before it is handed out. Nothing that the file points to is ever read.
    Raises BundleError for a network of any other form, ValueError for columns that do not fit the tasks.
    """
    model = checked(network)
    if len(model.graph.output) != 1:
        raise _refused(f"has {len(model.graph.output)} outputs")
    try:
        side = _side(model, size)
        bounded(model, (1, 3, side, side))
        weight, bias, features = _cut_last_layer(model.graph)
    except BundleError:
        raise
    except (
        Exception
    ) as error:  # the checker lets some nonsense through, of which onnx raises types of its own
        raise _refused(f"is not valid ONNX ({line_of(error)})") from error
    columns = [columns_of(task, wanted, len(weight)) for task, wanted in tasks]
    families = [task.family for task, _ in tasks]
    if len(set(families)) < len(families):
        raise ValueError(f"outputs go by task family, and one comes twice: {', '.join(families)}")
    _name(model.graph, features, families)
    for family, taken in zip(families, columns, strict=True):
        parts = {"weight": weight[taken], "bias": bias[taken]}
        model.graph.initializer.extend(
            numpy_helper.from_array(part, f"{family}.{name}") for name, part in parts.items()
        )
        model.graph.node.append(
            helper.make_node(
                "Gemm",
                ["features", f"{family}.weight", f"{family}.bias"],
                [family],
                family,
                transB=1,
            )
        )
    widths = [*zip(families, map(len, columns), strict=True), ("features", weight.shape[1])]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in widths
    )
    made: bytes = model.SerializeToString(deterministic=True)
    _compare(network, made, columns, side)
    return made


def _refused(why: str) -> BundleError:
    return BundleError(
        f"the network {printable(why)}; only ONNX files with one output that a linear layer gives can be split"
    )


def _side(model: ModelProto, size: int | None) -> int:
    """Side of the crops; the graph is left with one input, whose batch axis is free."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    # Old files list their weights as inputs too, which anyone who runs them could then replace.
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise _refused(f"has {len(inputs)} inputs" if len(inputs) != 1 else "does not read float32")
    shape = inputs[0].type.tensor_type.shape.dim
    if len(shape) != 4 or shape[1].dim_value != 3:
        raise _refused("does not read colour pictures (N, 3, H, W)")
    height, width = (dim.dim_value or size for dim in shape[2:])
    if height is None or height != width or (size is not None and height != size):
        raise _refused(
            f"reads pictures of {width or 'any'}x{height or 'any'} px, not {f'{size}x{size}' if size else 'of one known size'}"
        )
    del graph.input[:]
    graph.input.append(inputs[0])
    model.ir_version = max(model.ir_version, 4)
    if shape[0].dim_value:
        _free_batch(model)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # notes of shapes, which may say that the batch is one
    return height


def _cut_last_layer(graph: GraphProto) -> tuple[Array, Array, str]:
    """Take the last layer off: its weight (K, D) and bias (K,), and the name of what it reads."""
    makers = {name: node for node in graph.node for name in node.output}
    known = _constants(graph)
    last = makers.get(graph.output[0].name)
    if last is None:
        raise _refused("has an output that nothing makes")
    add = last if last.op_type == "Add" else None
    linear = (
        last
        if add is None
        else next(
            (m for m in map(makers.get, add.input) if m is not None and m.op_type == "MatMul"), last
        )
    )
    weight = (
        known(linear.input[1])
        if linear.op_type in ("Gemm", "MatMul") and linear.input[0] != linear.input[1]
        else None
    )
    if weight is None or weight.ndim != 2:
        raise _refused(f"ends in {last.op_type}, not in a linear layer")
    bias, facts = (
        None,
        {attribute.name: helper.get_attribute_value(attribute) for attribute in linear.attribute},
    )
    if linear.op_type == "Gemm":
        weight = (weight if facts.get("transB") else weight.T) * np.float32(facts.get("alpha", 1.0))
        if len(linear.input) > 2 and linear.input[2]:
            bias = known(linear.input[2])
            bias = None if bias is None else bias * np.float32(facts.get("beta", 1.0))
        else:
            bias = np.zeros(len(weight), np.float32)
    else:
        weight = weight.T
        bias = (
            np.zeros(len(weight), np.float32)
            if add is None
            else known(next(n for n in add.input if n != linear.output[0]))
        )
    if (
        bias is None
        or facts.get("transA")
        or bias.size not in (1, len(weight))
        or {weight.dtype, bias.dtype} != {np.dtype(np.float32)}
    ):
        raise _refused(f"ends in a {linear.op_type} that is no linear layer in float32")
    for node in (linear, last):
        if node in graph.node:
            graph.node.remove(node)
    del graph.output[:]
    return (
        np.ascontiguousarray(weight),
        np.broadcast_to(bias.reshape(-1), len(weight)).copy(),
        linear.input[0],
    )


def _constants(graph: GraphProto) -> Callable[[str], Array | None]:
    """What is known of a value by name without running anything: the array, or None."""
    kept = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {
        node.output[0]: node for node in graph.node if node.op_type in ("Constant", "Identity")
    }

    def known(name: str) -> Array | None:
        if name in nodes and nodes[name].op_type == "Identity":
            return known(nodes[name].input[0])
        tensor = kept.get(name) or (_value(nodes[name]) if name in nodes else None)
        return None if tensor is None else numpy_helper.to_array(tensor)

    return known


def _value(constant: NodeProto) -> TensorProto | None:
    return next(
        (attribute.t for attribute in constant.attribute if attribute.name == "value"), None
    )


def columns_of(task: Task, wanted: slice | Sequence[int], count: int) -> list[int]:
    """Numbers of the `count` columns of an output that hold a task's names, in their order.

    Raises ValueError unless there is one for each name.
    """
    taken = (
        list(range(count)[wanted])
        if isinstance(wanted, slice)
        else [int(number) for number in wanted]
    )
    if (
        len(taken) != len(task.names)
        or len(set(taken)) < len(taken)
        or not all(0 <= number < count for number in taken)
    ):
        raise ValueError(
            f"{task.key} needs {len(task.names)} columns of the network's {count}, got {taken}"
        )
    return taken


def _name(graph: GraphProto, features: str, families: Sequence[str]) -> None:
    """Give the input and the features their names, and drop what only the last layer needed."""
    new = {graph.input[0].name: "image", features: "features"}
    ours = {
        "image",
        "features",
        *families,
        *(f"{family}.{part}" for family in families for part in ("weight", "bias")),
    }

    def called(name: str) -> str:
        return new.get(name, f"original.{name}" if name in ours else name)

    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [called(name) for name in names]
    for tensor in graph.initializer:
        tensor.name = called(tensor.name)
    graph.input[0].name = "image"
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _free_batch(model: ModelProto) -> None:
    """Sides that were written down for a batch of one are taken from what comes in; `_compare` finds out where that is wrong."""
    graph, known = model.graph, _constants(model.graph)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in infer_shapes(model).graph.value_info
    }
    for node in list(graph.node):
        if node.op_type == "Reshape" and known(node.input[1]) is not None:
            shape = shapes.get(node.output[0], [])
            if len(shape) < 2 or not all(shape):
                continue
            # The batch, where it is folded into a side, lies in the first: what is left once the others are taken.
            node.input[1] = _new(graph, f"{node.output[0]}.shape", [-1, *shape[1:]])
        elif (
            node.op_type == "Resize"
            and len(node.input) > 3
            and (sizes := known(node.input[3])) is not None
            and len(sizes) == 4
        ):
            node.input[3] = _sizes(graph, node, sizes[2:].tolist())


def _new(graph: GraphProto, name: str, numbers: Sequence[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


def _sizes(graph: GraphProto, resize: NodeProto, sides: Sequence[int]) -> str:
    """Batch and channels as they come, and these height and width: nodes that work it out, put before `resize`."""
    name = resize.output[0]
    ends = [
        _new(graph, f"{name}.{word}", numbers)
        for word, numbers in (("start", [0]), ("end", [2]), ("sides", sides))
    ]
    nodes = [
        helper.make_node("Shape", [resize.input[0]], [f"{name}.shape"]),
        helper.make_node("Slice", [f"{name}.shape", *ends[:2]], [f"{name}.kept"]),
        helper.make_node("Concat", [f"{name}.kept", ends[2]], [f"{name}.sizes"], axis=0),
    ]
    place = list(graph.node).index(resize)
    for node in reversed(nodes):
        graph.node.insert(place, node)
    return f"{name}.sizes"


def _compare(network: bytes, made: bytes, columns: Sequence[Sequence[int]], side: int) -> None:
    """Run both on noise; the new one with two pictures at once, the original with one after the other, as its batch may be fixed."""
    noise = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    try:
        before, after = open_engine(network, "onnxruntime"), open_engine(made, "onnxruntime")
        whole = np.concatenate([before.run(one[None])[0] for one in noise])
        *raw, _ = after.run(noise)
    except Exception as error:  # the engine raises types of its own
        raise _refused("cannot be run, or only with the batch that it was written with") from error
    off = apart(
        np.hstack([np.empty((2, 0)), *raw]),
        whole[:, [number for taken in columns for number in taken]],
    )
    if not off <= CONVERTED:
        raise _refused(f"answers otherwise once it is split, by {off:.2g}")


def apart(found: Array, expected: Array) -> float:
    """Largest difference of two arrays of one shape, in parts of the largest number expected, 1 at least.

    >>> apart(np.array([0.0, 9.0]), np.array([0.0, 10.0]))
    0.1
    """
    return float(
        np.abs(found - expected).max(initial=0) / max(1.0, float(np.abs(expected).max(initial=0)))
    )

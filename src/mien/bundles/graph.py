"""What an ONNX file would make the machine do, found out without running any of it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    helper,
    numpy_helper,
)
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from mien.errors import BundleError
from mien.text import printable

__all__ = ["MOST_NODES", "MOST_NUMBERS", "MOST_WORK", "Need", "bounded", "checked", "line_of"]

MOST_NODES: Final = 4_000
"""Operations that a network may have: what engines need to get ready grows with them, faster than they do."""
MOST_NUMBERS: Final = 1 << 29
"""Numbers that a network may work out for one picture, in all; the largest in use come to a quarter of it."""
MOST_WORK: Final = 50_000_000_000
"""Multiply-accumulates that a network may ask for one picture, as `bounded` counts them: some seconds of one core."""
_MOST_TENSORS: Final = 20_000
_FEW: Final = 1 << 10
"""Numbers up to which an array may be one of sizes, which is worked out to know the shapes of what comes after."""
_OF_SIZES: Final = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather",
    "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Round", "Sign", "Size", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""What sizes are worked out with: operations that use no more memory than what they take and give."""
_ONE_PASS: Final = _OF_SIZES | frozenset({
    "Acos", "Acosh", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization",
    "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CastLike", "Celu",
    "Col2Im", "Compress", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear",
    "Dropout", "DynamicQuantizeLinear", "Elu", "Erf", "Exp", "EyeLike", "Flatten",
    "GatherElements", "GatherND", "Gelu", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax",
    "InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "LessOrEqual",
    "Log", "LogSoftmax", "LpNormalization", "Mean", "MeanVarianceNormalization", "Mish",
    "NonZero", "OneHot", "PRelu", "Pad", "QuantizeLinear", "RMSNormalization", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceSumSquare", "Relu",
    "Resize", "ReverseSequence", "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink",
    "Sigmoid", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sum",
    "Swish", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Trilu", "Upsample", "Xor",
})  # fmt: skip
"""Operations whose work grows as what they take and give does."""

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What one picture asks of a network.

    Attributes:
        numbers: How many it works out in all, those between its layers included.
        work: Multiply-accumulates, one for each number that an operation without any takes or gives.
    """

    numbers: int
    work: int


def _distrusted(why: str) -> BundleError:
    return BundleError(f"the network {printable(why)}; do not use it")


def line_of(error: Exception) -> str:
    """What onnx says is wrong, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def checked(network: bytes) -> ModelProto:
    """What an ONNX file holds, when it keeps to standard operations, one after the other, and to itself. Nothing else is read.

    Raises BundleError for any other file. What it makes the machine do is for `bounded` to say.
    """
    try:
        model = onnx.load_model_from_string(network)
    except Exception as error:  # protobuf raises types of its own
        raise BundleError(
            "the network is no ONNX file, or was cut off; get it again from where it came"
        ) from error
    graph = model.graph
    if not graph.node:
        raise BundleError(
            "the network is no ONNX file, or is empty; get it again from where it came"
        )
    if len(graph.node) > MOST_NODES or len(graph.initializer) > _MOST_TENSORS:
        raise _distrusted(
            f"has {len(graph.node)} operations and {len(graph.initializer)} arrays; {MOST_NODES} and {_MOST_TENSORS} may be"
        )
    if strange := sorted({node.domain for node in graph.node} - {"", "ai.onnx"}):
        raise _distrusted(f"uses operations beyond the standard ones (of {strange[0][:60]})")
    if (
        model.functions
        or model.training_info
        or any(attribute.HasField("g") or attribute.graphs for attribute in _attributes(graph))
    ):
        raise _distrusted("holds functions, branches or loops")
    if any(
        tensor.data_location == TensorProto.EXTERNAL or tensor.external_data
        for tensor in _tensors(graph)
    ):
        raise _distrusted("wants to read other files, which hold its weights")
    # An array of many numbers and few bytes would fill the memory before the first run.
    if sum(math.prod(tensor.dims) for tensor in _tensors(graph)) > 8 * len(network):
        raise _distrusted("says that it holds more numbers than it has room for")
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker raises types of its own
        raise _distrusted(f"is not valid ONNX ({line_of(error)})") from error
    return model


def bounded(model: ModelProto, shape: Shape) -> Need:
    """Follow what a `checked` network would work out for an input of that shape, without running it.

    Raises:
        BundleError: That is more than a machine should be asked for (`MOST_NUMBERS`, `MOST_WORK`), no shape tells before how much it
            is, or an operation is none of those whose work is known.
    """
    try:
        return _follow(model, shape)
    except BundleError:
        raise
    except Exception as error:  # onnx raises types of its own for what its checker let through
        raise _distrusted(
            f"does not take {shape}, or is not valid ONNX ({line_of(error)})"
        ) from error


def _follow(model: ModelProto, shape: Shape) -> Need:
    graph, opset = (
        model.graph,
        max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
    )
    types = {
        tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        for tensor in graph.initializer
    }
    inputs = [one.name for one in graph.input if one.name not in types]
    if len(inputs) != 1:
        raise _distrusted(f"has {len(inputs)} inputs")
    types[inputs[0]] = helper.make_tensor_type_proto(TensorProto.FLOAT, shape)
    sizes = {tensor.name: tensor for tensor in graph.initializer if math.prod(tensor.dims) <= _FEW}
    numbers = work = 0
    for node in graph.node:
        taken = [name for name in node.input if name]
        found = infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""), node, {name: types[name] for name in taken},
            {name: sizes[name] for name in taken if name in sizes}, opset_imports=[helper.make_opsetid("", opset)],
            ir_version=model.ir_version,
        )  # fmt: skip
        given = {name: found.get(name, TypeProto()) for name in node.output if name}
        counts = [_count(node, kind) for kind in given.values()]
        numbers += sum(counts)
        if numbers > MOST_NUMBERS:
            raise _distrusted(f"works out more than {MOST_NUMBERS} numbers for one picture")
        types.update(given)
        work += _work(node, types)
        if work > MOST_WORK:
            raise _distrusted(
                f"asks for more than {MOST_WORK:.0e} multiply-accumulates for one picture"
            )
        if all(count <= _FEW for count in counts):
            sizes.update(_sizes_given(node, types, sizes, opset))
    return Need(numbers, work)


def _sides(kind: TypeProto) -> Shape:
    return tuple(dim.dim_value for dim in kind.tensor_type.shape.dim)


def _count(node: NodeProto, kind: TypeProto) -> int:
    """Numbers in an array of that type."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or not all(
        dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim
    ):
        raise _distrusted(f"does not tell before it runs how much {node.op_type} gives")
    return math.prod(_sides(kind))


def _work(node: NodeProto, types: Mapping[str, TypeProto]) -> int:
    """Multiply-accumulates of one operation, or the numbers it takes and gives where those are more."""
    taken = [_sides(types[name]) if name else () for name in node.input]
    given = [_sides(types[name]) for name in node.output if name]
    passed = sum(map(math.prod, (*taken, *given)))
    if node.op_type in _ONE_PASS:
        return passed
    if node.op_type not in _WORK:
        raise _distrusted(f"uses {node.op_type[:60]}, of which nobody knows how much work it is")
    facts = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return max(passed, _WORK[node.op_type](taken, given, facts))


Work = Callable[[list[Shape], list[Shape], dict[str, Any]], int]


def _convolution(weight: int) -> Work:
    """Every number given is a sum over the weights of one channel (M, C/groups, ...), which are the input of that place."""
    return lambda taken, given, _facts: math.prod(given[0]) * math.prod(taken[weight][1:])


def _pool(_: list[Shape], given: list[Shape], facts: dict[str, Any]) -> int:
    window: Shape = facts.get("kernel_shape", ())
    return math.prod(given[0]) * math.prod(window)


def _product(taken: list[Shape], given: list[Shape], facts: dict[str, Any]) -> int:
    return math.prod(given[0]) * taken[0][0 if facts.get("transA") else -1]


def _recurrent(taken: list[Shape], _: list[Shape], facts: dict[str, Any]) -> int:
    steps, batch = (taken[0][1], taken[0][0]) if facts.get("layout") else taken[0][:2]
    return steps * batch * (math.prod(taken[1]) + math.prod(taken[2]))


def _einsum(taken: list[Shape], _: list[Shape], facts: dict[str, Any]) -> int:
    """One multiplication for every way to choose a place on each axis named."""
    terms = facts["equation"].decode().replace(" ", "").split("->")[0].split(",")
    named = [
        axis
        for term, sides in zip(terms, taken, strict=True)
        for axis in zip(term, sides, strict=True)
    ]
    return math.prod(dict(named).values()) * len(
        taken
    )  # with an ellipsis the lengths differ, which is an error: refused


_WORK: Final[dict[str, Work]] = {
    "Conv": _convolution(1), "ConvInteger": _convolution(1), "QLinearConv": _convolution(3),
    "ConvTranspose": lambda taken, _given, _facts: math.prod(taken[0]) * math.prod(taken[1][1:]),
    "AveragePool": _pool, "MaxPool": _pool, "LpPool": _pool,
    "LRN": lambda _taken, given, facts: math.prod(given[0]) * int(facts["size"]),
    "Gemm": _product, "MatMul": _product, "MatMulInteger": _product, "QLinearMatMul": _product,
    "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent, "Einsum": _einsum,
}  # fmt: skip


def _sizes_given(
    node: NodeProto, types: Mapping[str, TypeProto], sizes: Mapping[str, TensorProto], opset: int
) -> dict[str, TensorProto]:
    """What a node gives, where it follows from shapes and constants alone."""
    if node.op_type == "Shape":
        facts = {attribute.name: attribute.i for attribute in node.attribute}
        sides = [*_sides(types[node.input[0]])]
        return {
            node.output[0]: numpy_helper.from_array(
                np.array(sides[facts.get("start", 0) : facts.get("end")], np.int64)
            )
        }
    taken = dict.fromkeys(name for name in node.input if name)
    if node.op_type not in _OF_SIZES or not all(name in sizes for name in taken):
        return {}
    before, after = (
        [helper.make_value_info(name, types[name]) for name in names]
        for names in (taken, node.output)
    )
    alone = helper.make_model(
        helper.make_graph([node], "alone", before, after),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(alone).run(
            None, {name: numpy_helper.to_array(sizes[name]) for name in taken}
        )
    return {
        name: numpy_helper.from_array(np.asarray(one))
        for name, one in zip(node.output, found, strict=True)
    }


def _attributes(graph: GraphProto) -> Iterator[AttributeProto]:
    return (attribute for node in graph.node for attribute in node.attribute)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in _attributes(graph):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)

"""What an ONNX file would make the machine do, worked out without running it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
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
"""Nodes a network may have: the time engines need to load one grows faster than their number."""
MOST_NUMBERS: Final = 1 << 29
"""Numbers a network may compute for one picture, all layers together; the largest in use
computes a quarter of it."""
MOST_WORK: Final = 50_000_000_000
"""Multiply-accumulates a network may need for one picture, as `bounded` counts them: some
seconds of one core."""
_MOST_TENSORS: Final = 20_000
# Largest array that may hold shapes; such arrays are computed, as later shapes depend on them.
_FEW: Final = 1 << 10
# Operators that shapes are computed with: their memory is that of their inputs and outputs.
_SHAPE_OPERATORS: Final = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div",
    "Equal", "Expand", "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Round", "Sign", "Size", "Slice", "Sqrt", "Squeeze", "Sub",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
# Operators whose work is proportional to the size of their inputs and outputs.
_LINEAR_OPERATORS: Final = _SHAPE_OPERATORS | frozenset({
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

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What one picture costs a network.

    Attributes:
        numbers: Numbers it computes in all, those between its layers included.
        work: Multiply-accumulates; an operator without any counts one for each number it takes
            or gives.
    """

    numbers: int
    work: int


def _distrusted(why: str) -> BundleError:
    return BundleError(f"the network {printable(why)}; do not use it")


def line_of(error: Exception) -> str:
    """The first line of an error of onnx.

    Args:
        error: What onnx raised.

    Returns:
        At most 100 characters; the name of the error's type where it has no message.
    """
    lines = str(error).splitlines()
    return lines[0][:100] if lines else type(error).__name__


def checked(network: bytes) -> ModelProto:
    """Parse an ONNX file that holds standard operators in a plain sequence and no outside data.

    How much work it is, `bounded` says.

    Args:
        network: Content of the file.

    Returns:
        The parsed model.

    Raises:
        BundleError: It is no ONNX file, is too large, or holds anything else.
    """
    try:
        model = onnx.load_model_from_string(network)
    except Exception as error:  # protobuf raises types of its own
        raise BundleError(
            "the network is no ONNX file, or was cut off; get it again from where it came"
        ) from error
    # An empty file is a valid, empty message.
    if not model.graph.node:
        raise BundleError(
            "the network is no ONNX file, or is empty; get it again from where it came"
        )
    _check_operators(model)
    _check_tensors(model.graph, len(network))
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker raises types of its own
        raise _distrusted(f"is not valid ONNX ({line_of(error)})") from error
    return model


def _check_operators(model: ModelProto) -> None:
    """Raise BundleError for too many nodes, custom operators, and subgraphs."""
    graph = model.graph
    if len(graph.node) > MOST_NODES or len(graph.initializer) > _MOST_TENSORS:
        raise _distrusted(
            f"has {len(graph.node)} operations and {len(graph.initializer)} arrays; "
            f"{MOST_NODES} and {_MOST_TENSORS} may be"
        )
    domains = {node.domain for node in graph.node}
    custom = sorted(domains - {"", "ai.onnx"})
    if custom:
        raise _distrusted(f"uses operations beyond the standard ones (of {custom[0][:60]})")
    # A subgraph could hold anything, and run any number of times.
    if model.functions or model.training_info or _has_subgraphs(graph):
        raise _distrusted("holds functions, branches or loops")


def _has_subgraphs(graph: GraphProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in _attributes(graph))


def _check_tensors(graph: GraphProto, size: int) -> None:
    """Raise BundleError for tensors in other files, or with more numbers than `size` bytes hold."""
    numbers = 0
    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise _distrusted("reads other files, which hold its weights")
        numbers += math.prod(tensor.dims)
    # A tensor of many numbers and few bytes would fill the memory before the first run; numbers
    # of one bit are the smallest there are.
    if numbers > 8 * size:
        raise _distrusted("says that it holds more numbers than it has room for")


def bounded(model: ModelProto, shape: Shape) -> Need:
    """Count what a network would compute for an input of a given shape, without running it.

    Args:
        model: A network that `checked` let through.
        shape: Shape of its input, (N, C, H, W).

    Returns:
        What one run costs.

    Raises:
        BundleError: It needs more than a machine should be asked for (`MOST_NUMBERS`,
            `MOST_WORK`), its shapes depend on the input's values, or the cost of an operator is
            not known.
    """
    try:
        return _count_graph(model, shape)
    except BundleError:
        raise
    except Exception as error:  # onnx raises types of its own for what its checker let through
        raise _distrusted(
            f"does not take {shape}, or is not valid ONNX ({line_of(error)})"
        ) from error


def _count_graph(model: ModelProto, shape: Shape) -> Need:
    graph = model.graph
    opset = _opset_of(model)
    types: dict[str, TypeProto] = {}
    constants: dict[str, TensorProto] = {}
    for tensor in graph.initializer:
        types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if math.prod(tensor.dims) <= _FEW:
            constants[tensor.name] = tensor
    # Before IR version 4, initializers are listed among the inputs too.
    inputs = [value.name for value in graph.input if value.name not in types]
    if len(inputs) != 1:
        raise _distrusted(f"has {len(inputs)} inputs")
    types[inputs[0]] = helper.make_tensor_type_proto(TensorProto.FLOAT, shape)
    numbers = 0
    work = 0
    # The limits are checked after every node, so that a hostile graph is not followed to its end.
    for node in graph.node:
        output_types = _infer_types(node, types, constants, opset, model.ir_version)
        counts = [_count(node, kind) for kind in output_types.values()]
        numbers += sum(counts)
        if numbers > MOST_NUMBERS:
            raise _distrusted(f"works out more than {MOST_NUMBERS} numbers for one picture")
        types.update(output_types)
        work += _node_work(node, types)
        if work > MOST_WORK:
            raise _distrusted(
                f"asks for more than {MOST_WORK:.0e} multiply-accumulates for one picture"
            )
        if max(counts, default=0) <= _FEW:
            constants.update(_fold_constants(node, types, constants, opset))
    return Need(numbers, work)


def _opset_of(model: ModelProto) -> int:
    """Version of the standard operators; a file may state it under both of their names."""
    versions: list[int] = []
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            versions.append(entry.version)
    return max(versions)


def _infer_types(
    node: NodeProto,
    types: Mapping[str, TypeProto],
    constants: Mapping[str, TensorProto],
    opset: int,
    ir_version: int,
) -> dict[str, TypeProto]:
    """Types of a node's outputs by name; an empty type where onnx cannot infer it."""
    input_types = {}
    input_constants = {}
    for name in node.input:
        if not name:  # an optional input that is left out
            continue
        input_types[name] = types[name]
        if name in constants:
            input_constants[name] = constants[name]
    inferred = infer_node_outputs(
        onnx.defs.get_schema(node.op_type, opset, ""),
        node,
        input_types,
        input_constants,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )
    return {name: inferred.get(name, TypeProto()) for name in node.output if name}


def _sides(kind: TypeProto) -> Shape:
    return tuple(dim.dim_value for dim in kind.tensor_type.shape.dim)


def _count(node: NodeProto, kind: TypeProto) -> int:
    """Numbers in an array of that type."""
    if not _is_shape_known(kind):
        raise _distrusted(f"does not say before it runs how much {node.op_type} gives")
    return math.prod(_sides(kind))


def _is_shape_known(kind: TypeProto) -> bool:
    if not kind.tensor_type.HasField("shape"):
        return False
    for dim in kind.tensor_type.shape.dim:
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            return False
    return True


def _node_work(node: NodeProto, types: Mapping[str, TypeProto]) -> int:
    """Multiply-accumulates of a node, or the numbers it takes and gives where those are more."""
    inputs = [_sides(types[name]) if name else () for name in node.input]
    outputs = [_sides(types[name]) for name in node.output if name]
    # An input that is left out counts one, which does no harm.
    passed = sum(map(math.prod, (*inputs, *outputs)))
    if node.op_type in _LINEAR_OPERATORS:
        return passed
    if node.op_type not in _WORK:
        raise _distrusted(f"uses {node.op_type[:60]}, whose amount of work is not known")
    return max(passed, _WORK[node.op_type](inputs, outputs, _attribute_values(node)))


def _attribute_values(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


Work = Callable[[list[Shape], list[Shape], dict[str, Any]], int]
"""Multiply-accumulates of an operator from the shapes of its inputs, of its outputs, and its
attributes."""


def _convolution(weight: int) -> Work:
    """Work of a convolution whose weight (M, C/groups, ...) is input number `weight`."""

    def work(inputs: list[Shape], outputs: list[Shape], _attributes: dict[str, Any]) -> int:
        # Every output is a sum over the weights of one of the M channels.
        return math.prod(outputs[0]) * math.prod(inputs[weight][1:])

    return work


def _transposed_convolution(
    inputs: list[Shape], _outputs: list[Shape], _attributes: dict[str, Any]
) -> int:
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _pool(_inputs: list[Shape], outputs: list[Shape], attributes: dict[str, Any]) -> int:
    window: Shape = attributes.get("kernel_shape", ())
    return math.prod(outputs[0]) * math.prod(window)


def _local_response(_inputs: list[Shape], outputs: list[Shape], attributes: dict[str, Any]) -> int:
    return math.prod(outputs[0]) * int(attributes["size"])


def _product(inputs: list[Shape], outputs: list[Shape], attributes: dict[str, Any]) -> int:
    inner = inputs[0][0] if attributes.get("transA") else inputs[0][-1]
    return math.prod(outputs[0]) * inner


def _recurrent(inputs: list[Shape], _outputs: list[Shape], _attributes: dict[str, Any]) -> int:
    # X is (steps, batch, ...), or (batch, steps, ...) with layout 1: the product is the same.
    steps, batch = inputs[0][:2]
    return steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


def _einsum(inputs: list[Shape], _outputs: list[Shape], attributes: dict[str, Any]) -> int:
    """One multiplication per operand for every combination of the named indices."""
    operands = attributes["equation"].decode().replace(" ", "").split("->")[0].split(",")
    lengths: dict[str, int] = {}
    # With an ellipsis the lengths differ, which `strict` turns into an error: it is refused.
    for axes, sides in zip(operands, inputs, strict=True):
        lengths.update(zip(axes, sides, strict=True))
    return math.prod(lengths.values()) * len(inputs)


_WORK: Final[dict[str, Work]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "LpPool": _pool,
    "LRN": _local_response,
    "Gemm": _product,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Einsum": _einsum,
}


def _fold_constants(
    node: NodeProto,
    types: Mapping[str, TypeProto],
    constants: Mapping[str, TensorProto],
    opset: int,
) -> dict[str, TensorProto]:
    """A node's outputs by name, where shapes and constants alone determine them."""
    if node.op_type == "Shape":
        return {node.output[0]: _shape_output(node, _sides(types[node.input[0]]))}
    # An operator may take the same value twice; an empty name is an input that is left out.
    inputs = list(dict.fromkeys(filter(None, node.input)))
    known = constants.keys() >= set(inputs)
    if node.op_type not in _SHAPE_OPERATORS or not known:
        return {}
    # A network of this node alone.
    input_infos = _value_infos(inputs, types)
    output_infos = _value_infos(node.output, types)
    graph = helper.make_graph([node], "alone", input_infos, output_infos)
    alone = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    arrays = {name: numpy_helper.to_array(constants[name]) for name in inputs}
    with np.errstate(all="ignore"):
        outputs = ReferenceEvaluator(alone).run(None, arrays)
    folded = {}
    for name, output in zip(node.output, outputs, strict=True):
        folded[name] = numpy_helper.from_array(np.asarray(output))
    return folded


def _shape_output(node: NodeProto, sides: Shape) -> TensorProto:
    """What the operator Shape gives for an input with these sides."""
    attributes = _attribute_values(node)
    part = sides[attributes.get("start", 0) : attributes.get("end")]
    return numpy_helper.from_array(np.array(part, np.int64))


def _value_infos(names: Iterable[str], types: Mapping[str, TypeProto]) -> list[Any]:
    return [helper.make_value_info(name, types[name]) for name in names]


def _attributes(graph: GraphProto) -> Iterator[AttributeProto]:
    for node in graph.node:
        yield from node.attribute


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor in a file: initializers, and those in attributes, dense and sparse."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in _attributes(graph):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)

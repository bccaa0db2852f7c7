"""Networks in 8 bits whose answers are the same on every processor and engine.

Sums of 8-bit products are whole numbers, and whole numbers have one right answer; all else about 8 bits is rounding, and a value that
lies near the middle of two steps goes up in one engine and down in another. One such step moves the next layers, and in the end a score.
So three things hold in a network that `quantise` makes, and `strays` names what breaks them:

- Every step (scale) is a power of two. Then scaling, sums of branches, biases and means over 2x2 pixels are exact in float32, in any
  order, and what an engine fuses or leaves apart makes no difference.
- Zero points are even. Halves are rounded to the even neighbour, before the zero point is added in one engine and after it in another.
- Weights keep to 7 bits. Processors with AVX2 and no VNNI add two products of unsigned and signed 8-bit numbers in 16 bits, which
  overflow at 2 x 255 x 127 and not at 2 x 255 x 64.

That needs layers whose arithmetic is whole: convolutions, ReLU, sums, pooling by powers of two, padding, concatenation. What comes after
the last of them, such as the mean over the face and the heads, is computed in float32, so the scores have no steps. A network with any
convolution beyond them (behind a swish, a gate, attention) is not computed in whole numbers at all: it keeps its large weights in 8
bits and computes in float32.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien.bundles.engines import import_onnxruntime

__all__ = ["TOP", "quantise", "quantise_model", "strays"]

Array = NDArray[Any]
Floats32 = NDArray[np.float32]

TOP: Final = 64
"""Largest weight in whole numbers: 2 x 255 x 64 is within 16 bits."""

_LEVELS: Final = 255
_PART: Final = 50  # faces whose activations are held at a time
_LARGE: Final = 1024  # numbers from which on a weight is worth 8 bits
_INTEGER: Final = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
_MULTIPLYING: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_GROUPED: Final = ("Relu", "Clip")  # what belongs to the layer before it
_SHARING: Final = ("MaxPool", "AveragePool", "Pad")  # what comes out has the steps of what goes in


def quantise(path: Path, calibration: Floats32) -> None:
    """Rewrite the float32 network at `path` in 8 bits; see the module for what that means.

    Args:
        path: an ONNX file, float32, with one input.
        calibration: inputs (N, C, H, W) on which the ranges of activations are measured.
    """
    import_onnxruntime()
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(path), str(ready))
        model = onnx.load(ready)
    onnx.save(quantise_model(model, calibration), path)


def quantise_model(
    model: onnx.ModelProto, calibration: Floats32, *, cut: bool = True
) -> onnx.ModelProto:
    """The same for a network in memory whose batch norms are folded and whose constants are initializers; returns a new one.

    cut: whether steps may be finer than the range of a tensor needs, its ends cut off, where that makes the mean error smaller.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    whole = _whole(new.graph)
    if whole:
        _put_steps(new.graph, whole, _steps(new, whole, calibration, cut))
    else:
        _store_bytes(new.graph)
    del new.graph.value_info[:]
    onnx.checker.check_model(new, full_check=True)
    return new


def strays(model: onnx.ModelProto) -> list[str]:
    """What in a network may be computed otherwise by another processor or engine, one line each; empty for one that `quantise` made.

    Looked at are 8-bit activations: networks without any have none of these ways to differ.
    """
    graph, constants = model.graph, _constants(model.graph)
    makers = {name: node for node in graph.node for name in node.output}
    found = [
        f"{node.op_type} {node.name}: adds up 8-bit numbers in its own way"
        for node in graph.node
        if node.op_type in _INTEGER
    ]
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            found += _stray_rounding(node, makers, constants)
        elif node.op_type in _MULTIPLYING:
            found += _stray_weights(node, makers, constants)
        elif (
            node.op_type == "AveragePool"
            and _rounded(node.input[0], makers)
            and _attributes(node).get("count_include_pad")
        ):
            found.append(
                f"{node.output[0]}: its means count pixels that are not there, which engines do not agree on"
            )
    return found


def _rounded(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a tensor was held in 8 bits."""
    return name in makers and makers[name].op_type == "DequantizeLinear"


def _stray_rounding(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, Array]
) -> Iterator[str]:
    source = node.input[0]
    scale, zero = (constants.get(name, np.full(1, np.nan)) for name in node.input[1:3])
    if not _are_powers_of_two(scale):
        yield f"{source}: its step {float(scale.max()):.4g} is no power of two"
    if not (zero % 2 == 0).all():
        yield f"{source}: its zero point {zero} is not even, and halves are rounded to even before or after it is added"
    if (
        source in makers
        and not _is_whole(makers[source], constants)
        and not _holds(makers[source], makers)
    ):
        yield f"{source}: rounded after {makers[source].op_type}, whose last digit no two engines share"


def _holds(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a convolution's weights are constants that were held in whole numbers."""
    return node.op_type == "Conv" and all(_rounded(name, makers) for name in node.input[1:])


def _stray_weights(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, Array]
) -> Iterator[str]:
    if not all(_rounded(name, makers) for name in node.input[:2]):
        return  # computed in float32
    weight, scale, zero = [*(constants.get(name) for name in makers[node.input[1]].input), None][:3]
    if weight is None or scale is None:
        yield f"{node.output[0]}: multiplies two activations in 8 bits"
        return
    if np.abs(weight.astype(int) - (0 if zero is None else zero.astype(int).max())).max() > TOP:
        yield f"{node.output[0]}: weights beyond {TOP}, whose sums overflow on processors without VNNI"
    if not _are_powers_of_two(scale):
        yield f"{node.output[0]}: steps of its weights are no powers of two"


def _are_powers_of_two(scale: Array) -> bool:
    return bool((np.frexp(scale)[0] == 0.5).all())


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    consumers: dict[str, list[onnx.NodeProto]] = {one.name: [] for one in graph.output}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return consumers


def _whole(graph: onnx.GraphProto) -> set[str]:
    """Tensors that whole-number layers give; empty where a convolution lies beyond them, or there is none.

    Average pooling is told on the way to leave padding out of its means: at windows cut off by the edge of the picture, ONNX Runtime's
    8-bit kernel divides by the whole window otherwise.
    """
    constants = _constants(graph)
    whole = {one.name for one in graph.input}
    for node in graph.node:
        if all(
            name in whole for name in node.input if name and name not in constants
        ) and _is_whole(node, constants):
            whole.update(node.output)
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    if not convolutions or any(node.output[0] not in whole for node in convolutions):
        return set()
    for node in graph.node:
        if node.op_type == "AveragePool" and node.output[0] in whole:
            kept = [one for one in node.attribute if one.name != "count_include_pad"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("count_include_pad", 0)])
    return whole - {one.name for one in graph.input}


def _is_whole(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Whether the layer's answers are the same however an engine computes them, given steps that are powers of two."""
    said = _attributes(node)
    if node.op_type == "Conv":
        return all(name in constants for name in node.input[1:])
    if node.op_type == "AveragePool":
        # Windows that padding cuts off have other sizes than the kernel, unless only their far end is cut.
        sides = {side // cut for side in said["kernel_shape"] for cut in (1, 2)}
        return not any(said.get("pads", ())) and all(
            side & (side - 1) == 0 for side in sides | set(said["kernel_shape"])
        )
    if node.op_type == "Pad":
        value = (
            constants.get(node.input[2], np.zeros(1))
            if len(node.input) > 2 and node.input[2]
            else np.zeros(1)
        )
        return said.get("mode", b"constant") == b"constant" and not value.any()
    if node.op_type == "Add":
        return not any(name in constants for name in node.input)
    return node.op_type in ("Relu", "Clip", "MaxPool", "Concat")


@dataclass(frozen=True, slots=True)
class _Step:
    """How a tensor is held in 8 bits: value = (whole number - zero) x scale."""

    scale: float
    zero: int


def _steps(
    model: onnx.ModelProto, whole: set[str], calibration: Floats32, cut: bool
) -> dict[str, _Step]:
    """For the input, and for each tensor that ends a layer in whole numbers: the steps that change it least."""
    graph = model.graph
    ends, [image] = _ends(graph, whole), [one.name for one in graph.input]
    sources = {
        end: node.input[0] if node.op_type in _SHARING else None for end, node in ends.items()
    }
    measured = [image, *(end for end, source in sources.items() if source is None)]
    ranges = _ranges(model, measured, calibration, cut)
    steps: dict[str, _Step] = {}
    for name in (image, *ends):
        source = sources.get(name)
        steps[name] = ranges[name] if source is None else steps[source]
    return steps


def _ends(graph: onnx.GraphProto, whole: set[str]) -> dict[str, onnx.NodeProto]:
    """Tensors that are rounded to 8 bits, with the layer that gives them: a convolution or a sum takes the ReLU after it along."""
    consumers, ends = _consumers(graph), {}
    for node in graph.node:
        if node.output[0] not in whole or (node.op_type in _GROUPED and node.input[0] not in ends):
            continue
        name = node.output[0]
        while len(after := consumers.get(name, [])) == 1 and after[0].op_type in _GROUPED:
            name = after[0].output[0]
        ends[name] = node
    return ends


def _ranges(
    model: onnx.ModelProto, names: list[str], calibration: Floats32, cut: bool
) -> dict[str, _Step]:
    """The steps for tensors of the float32 network by what they are on `calibration`, each alone."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    [image, *inner] = names
    del probe.graph.output[:]
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner
    )
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    parts = np.array_split(calibration, -(-len(calibration) // _PART))

    def values() -> Iterator[dict[str, Floats32]]:
        for part in parts:
            yield {image: part, **dict(zip(inner, session.run(inner, {image: part}), strict=True))}

    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for found in values():
        for name, value in found.items():
            low[name], high[name] = (
                min(low[name], float(value.min())),
                max(high[name], float(value.max())),
            )
    offers = {name: list(_offers(low[name], high[name], cut or name == image)) for name in names}
    errors = {name: np.zeros(len(offers[name])) for name in names}
    for found in values():
        for name, value in found.items():
            errors[name] += [_error(value, step) for step in offers[name]]
    return {name: offers[name][int(np.argmin(errors[name]))] for name in names}


def _offers(low: float, high: float, cut: bool) -> Iterator[_Step]:
    """Steps that a range may have: the smallest power of two that holds it all, and finer ones that cut off its ends."""
    widest = _power_of_two(max(high - low, 1e-9) / _LEVELS)
    for scale in (widest, widest / 2, widest / 4) if cut else (widest,):
        middle = round((_LEVELS - (low + high) / scale) / 2)
        yield _Step(scale, 0 if low == 0 else int(np.clip(middle, 0, _LEVELS)) // 2 * 2)


def _power_of_two(least: float) -> float:
    return float(np.exp2(np.ceil(np.log2(least))))


def _error(value: Floats32, step: _Step) -> float:
    held = (
        np.clip(np.rint(value / np.float32(step.scale)) + step.zero, 0, _LEVELS) - step.zero
    ) * np.float32(step.scale)
    return float(np.square(held - value, dtype=np.float64).sum())


def _whole_weights(weight: Floats32) -> tuple[NDArray[np.int8], Floats32]:
    """Whole numbers up to `TOP` and the step of each filter, a power of two: of two, the one that changes the filter less."""
    rows = weight.reshape(len(weight), -1)
    widest = np.exp2(np.ceil(np.log2(np.maximum(np.abs(rows).max(axis=1), 1e-9) / TOP)))
    tried = []
    for scale in (widest, widest / 2):
        numbers = np.clip(np.rint(rows / scale[:, None]), -TOP, TOP)
        tried.append((numbers, scale, np.square(numbers * scale[:, None] - rows).sum(axis=1)))
    (wide, wide_scale, wide_error), (fine, fine_scale, fine_error) = tried
    finer = fine_error < wide_error
    numbers = np.where(finer[:, None], fine, wide).reshape(weight.shape)
    return numbers.astype(np.int8), np.where(finer, fine_scale, wide_scale).astype(np.float32)


class _Writer:
    """Adds tensors and pairs of rounding and unrounding to a list of nodes."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: Array) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def pair(self, name: str, step: _Step) -> str:
        """Round `name` to 8 bits and back; returns the name of what comes out."""
        scale = self.constant(f"{name}.scale", np.array(step.scale, np.float32))
        zero = self.constant(f"{name}.zero", np.array(step.zero, np.uint8))
        self.nodes.append(
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.whole"])
        )
        self.nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.whole", scale, zero], [f"{name}.held"])
        )
        return f"{name}.held"

    def held(self, name: str, numbers: Array, scale: Floats32) -> str:
        """A constant as whole numbers, a step for each of its rows; returns the name of its value."""
        inputs = [self.constant(f"{name}.whole", numbers), self.constant(f"{name}.scale", scale)]
        inputs.append(self.constant(f"{name}.zero", np.zeros(len(scale), numbers.dtype)))
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.held"], axis=0))
        return f"{name}.held"


def _put_steps(graph: onnx.GraphProto, whole: set[str], steps: Mapping[str, _Step]) -> None:
    """Round every tensor that has steps, and hold the weights and biases of convolutions as whole numbers."""
    constants, nodes = _constants(graph), list(graph.node)
    outputs = {one.name for one in graph.output}
    writer, held = _Writer(graph), {}
    [image] = [one.name for one in graph.input]
    held[image] = writer.pair(image, steps[image])
    for number, node in enumerate(nodes):
        source = node.input[0]
        for place, name in enumerate(node.input):
            node.input[place] = held.get(name, name)
        if node.op_type == "Conv" and node.output[0] in whole:
            _hold_weights(writer, node, constants, steps[source].scale, f"layer{number}")
        writer.nodes.append(node)
        for name in node.output:
            if name in steps:
                held[name] = writer.pair(name, steps[name])
    # An output that is itself rounded must go out so: what is told and what is read on must be one thing.
    for name in outputs & set(held):
        _rename(writer.nodes, {name: f"{name}.exact", held[name]: name})
    del graph.node[:]
    graph.node.extend(writer.nodes)
    _drop_unread(graph)


def _hold_weights(
    writer: _Writer, node: onnx.NodeProto, constants: Mapping[str, Array], scale: float, name: str
) -> None:
    numbers, scales = _whole_weights(constants[node.input[1]])
    node.input[1] = writer.held(f"{name}.weight", numbers, scales)
    if len(node.input) > 2:
        steps = scales * np.float32(scale)
        limit = np.iinfo(np.int32).max - 127
        bias = np.clip(np.rint(constants[node.input[2]] / steps.astype(np.float64)), -limit, limit)
        node.input[2] = writer.held(f"{name}.bias", bias.astype(np.int32), steps)


def _rename(nodes: list[onnx.NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Leave out constants that no layer reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _store_bytes(graph: onnx.GraphProto) -> None:
    """Keep large weights of layers in 8 bits, a step for each filter or column, and turn them back when the file is loaded.

    As a cast and a product rather than DequantizeLinear, which engines compute anew for every batch.
    """
    constants, consumers, writer = _constants(graph), _consumers(graph), _Writer(graph)
    for name, weight in constants.items():
        readers = consumers.get(name, [])
        if weight.dtype != np.float32 or weight.size < _LARGE or weight.ndim < 2 or not readers:
            continue
        axis = _columns(readers[0], name)
        if axis is None or any(_columns(one, name) != axis for one in readers):
            continue
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), 1e-12) / 127
        writer.constant(f"{name}.whole", np.rint(weight / scale).astype(np.int8))
        writer.constant(f"{name}.scale", scale.astype(np.float32))
        writer.nodes.append(
            helper.make_node("Cast", [f"{name}.whole"], [f"{name}.float"], to=TensorProto.FLOAT)
        )
        writer.nodes.append(
            helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [f"{name}.held"])
        )
        for reader in readers:
            reader.input[:] = [f"{name}.held" if one == name else one for one in reader.input]
    nodes = [*writer.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)


def _columns(node: onnx.NodeProto, name: str) -> int | None:
    """The axis of a layer's weight along which its outputs lie; None for what is no weight of a layer."""
    if name not in list(node.input)[1:2]:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if _attributes(node).get("transB", 0) else 1
    return 1 if node.op_type == "MatMul" else None

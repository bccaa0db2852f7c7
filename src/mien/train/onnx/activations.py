"""Scales and zero points of 8-bit activations, chosen on calibration inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mien.bundles.engines import import_onnxruntime
from mien.train.onnx.graphs import consumers_of, input_name

__all__ = ["FUSED", "QuantParams", "calibrate", "layer_outputs"]

Floats32 = NDArray[np.float32]

FUSED: Final = ("Relu", "Clip")
"""Activation functions that are computed together with the layer before them."""

# Layers whose outputs keep the scale of their inputs.
_SCALE_KEEPING: Final = ("MaxPool", "AveragePool", "Pad")

# Highest value of an unsigned 8-bit number.
_HIGHEST: Final = 255

# Smallest range of a tensor, so that one that is always 0 has a scale too.
_SMALLEST_RANGE: Final = 1e-9

# Calibration inputs whose activations are in memory at a time.
_BATCH: Final = 50

# Severity from which ONNX Runtime reports, here only fatal errors.
_FATAL: Final = 4


@dataclass(frozen=True, slots=True)
class QuantParams:
    """How a tensor is stored in 8 bits: value = (number - zero_point) * scale.

    Attributes:
        scale: A power of two.
        zero_point: An even number, 0..254.
    """

    scale: float
    zero_point: int


def layer_outputs(graph: onnx.GraphProto, exact: set[str]) -> dict[str, onnx.NodeProto]:
    """Find the tensors that are rounded to 8 bits: outputs of exact layers.

    An activation function after a convolution or a sum belongs to it, so that only its result is
    rounded.

    Args:
        graph: A float32 network.
        exact: Tensors that are exact, see `mien.train.onnx.exact_layers.exact_tensors`.

    Returns:
        The layer of each tensor, by the tensor's name.
    """
    consumers = consumers_of(graph)
    outputs: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        name = node.output[0]
        is_fused = node.op_type in FUSED and node.input[0] not in outputs
        if name not in exact or is_fused:
            continue
        outputs[_after_activation(name, consumers)] = node
    return outputs


def _after_activation(name: str, consumers: dict[str, list[onnx.NodeProto]]) -> str:
    """The tensor after the activation functions that are the only readers of `name`."""
    readers = consumers.get(name, [])
    while len(readers) == 1 and readers[0].op_type in FUSED:
        name = readers[0].output[0]
        readers = consumers.get(name, [])
    return name


def calibrate(
    model: onnx.ModelProto, exact: set[str], calibration: Floats32, clip: bool
) -> dict[str, QuantParams]:
    """Choose the scales and zero points that change activations least.

    Args:
        model: A float32 network with one input.
        exact: Tensors that are exact, see `mien.train.onnx.exact_layers.exact_tensors`.
        calibration: Inputs (N, C, H, W) that activations are measured on.
        clip: Scales may be finer than a tensor's range needs, which clips its extremes.

    Returns:
        By tensor, for the input and for `layer_outputs`.
    """
    outputs = layer_outputs(model.graph, exact)
    # Tensors without a source of their scale are measured, the input among them.
    sources: dict[str, str | None] = {input_name(model.graph): None}
    for name, layer in outputs.items():
        sources[name] = layer.input[0] if layer.op_type in _SCALE_KEEPING else None
    measured = [name for name, source in sources.items() if source is None]
    fitted = _fit(model, measured, calibration, clip)
    params: dict[str, QuantParams] = {}
    for name, source in sources.items():
        params[name] = fitted[name] if source is None else params[source]
    return params


def _fit(
    model: onnx.ModelProto, names: list[str], calibration: Floats32, clip: bool
) -> dict[str, QuantParams]:
    """The candidates with the smallest squared error, for each tensor alone.

    The input is `names[0]`. The network runs twice, for the ranges and for the errors: its
    activations are too large to be kept.
    """
    probe = _Probe(model, names, calibration)
    candidates = {}
    errors = {}
    for name, (low, high) in _ranges(probe).items():
        # The choice concerns activations; pixels may always be clipped.
        may_clip = clip or name == names[0]
        candidates[name] = list(_candidates(low, high, may_clip))
        errors[name] = np.zeros(len(candidates[name]))
    for activations in probe:
        for name, values in activations.items():
            for number, params in enumerate(candidates[name]):
                errors[name][number] += _squared_error(values, params)
    return {name: candidates[name][int(np.argmin(errors[name]))] for name in names}


def _ranges(probe: "_Probe") -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each tensor, with 0 always between them."""
    ranges: dict[str, tuple[float, float]] = {}
    for activations in probe:
        for name, values in activations.items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    return ranges


class _Probe:
    """Computes chosen tensors of a network on calibration inputs, as often as it is iterated."""

    def __init__(self, model: onnx.ModelProto, names: list[str], calibration: Floats32) -> None:
        """Open the network.

        Args:
            model: A float32 network; it is not changed.
            names: Its input, then the tensors to compute.
            calibration: Inputs (N, C, H, W).
        """
        self._image, *self._inner = names
        self._batches = np.array_split(calibration, -(-len(calibration) // _BATCH))
        probe = onnx.ModelProto()
        probe.CopyFrom(model)
        del probe.graph.output[:]
        for name in self._inner:
            output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            probe.graph.output.append(output)
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        self._session: Any = onnxruntime.InferenceSession(
            probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __iter__(self) -> Iterator[dict[str, Floats32]]:
        for batch in self._batches:
            computed = self._session.run(self._inner, {self._image: batch})
            activations = {self._image: batch}
            activations.update(zip(self._inner, computed, strict=True))
            yield activations


def _candidates(low: float, high: float, clip: bool) -> Iterator[QuantParams]:
    """The smallest power of two that spans a range, and finer ones that clip its ends."""
    widest = _next_power_of_two(max(high - low, _SMALLEST_RANGE) / _HIGHEST)
    scales = (widest, widest / 2, widest / 4) if clip else (widest,)
    for scale in scales:
        # The middle of the range is put on the middle of the 8-bit numbers; 0 stays 0 after a ReLU.
        centred = round((_HIGHEST - (low + high) / scale) / 2)
        even = int(np.clip(centred, 0, _HIGHEST)) // 2 * 2
        yield QuantParams(scale, 0 if low == 0 else even)


def _next_power_of_two(least: float) -> float:
    return float(np.exp2(np.ceil(np.log2(least))))


def _squared_error(values: Floats32, params: QuantParams) -> float:
    scale = np.float32(params.scale)
    numbers = np.clip(np.rint(values / scale) + params.zero_point, 0, _HIGHEST)
    restored = (numbers - params.zero_point) * scale
    return float(np.square(restored - values, dtype=np.float64).sum())

"""Export of a trained network to ONNX: any batch size, small weights, outputs checked."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mien.bundles.engines import open_engine
from mien.train.onnx.quantise import quantise

__all__ = ["PARITY", "export", "halve", "largest_difference", "trace"]

Floats32 = NDArray[np.float32]

PARITY: Final = 1e-4
"""Largest difference from torch before weights are rounded.

In the units of raw output; for features, relative to the largest of them.
"""

# Values from which on a weight is stored in half precision: smaller ones save nothing.
_LARGE: Final = 256


def export(
    net: nn.Module,
    path: Path,
    example: torch.Tensor,
    outputs: list[str],
    free: dict[int, str],
    *,
    calibration: Floats32 | None = None,
) -> float:
    """Write a network as ONNX with small weights.

    Args:
        net: Takes one tensor and returns one, or a tuple of them. It is left in evaluation mode.
        path: Where the file is written.
        example: An input (N, C, H, W) to trace the network with and to compare outputs on.
        outputs: Names of what the network returns, in order: the task families, and last
            ``features`` where it returns them too.
        free: Axes of the input that may have any length, with their names: ``{0: "batch"}``.
        calibration: Inputs (N, C, H, W) to measure the ranges of activations on; with them the
            network is quantised to 8 bits (see `mien.train.onnx.quantise`). None keeps its weights
            in half precision and computes in float32.

    Returns:
        The largest change of raw output on `example` from making the weights small.

    Raises:
        ValueError: The exported network differs from torch by more than `PARITY` before its weights
            are made small, or ``features`` is not the last output.
    """
    if "features" in outputs[:-1]:
        names = ", ".join(outputs)
        raise ValueError(f"{path}: features must be the last output, got {names}")
    net = net.eval().to(memory_format=torch.contiguous_format)
    trace(net, path, (example,), inputs=["image"], outputs=outputs, free=free)
    expected = _torch_outputs(net, example)
    difference = largest_difference(path, example, expected, outputs)
    if difference > PARITY:
        raise ValueError(
            f"{path}: the exported network differs from torch by {difference:.2g}, "
            f"more than {PARITY:g}"
        )
    if calibration is None:
        _store_half(path)
    else:
        quantise(path, calibration)
    # Features have no fixed unit, so the cost is that of the scores alone.
    raw = len(outputs) - (outputs[-1] == "features")
    return largest_difference(path, example, expected[:raw], outputs[:raw])


def _torch_outputs(net: nn.Module, example: torch.Tensor) -> list[Floats32]:
    with torch.no_grad():
        outputs = net(example)
    if not isinstance(outputs, tuple):
        outputs = (outputs,)
    return [output.numpy() for output in outputs]


def trace(
    net: nn.Module,
    path: Path,
    examples: tuple[torch.Tensor, ...],
    *,
    inputs: list[str],
    outputs: list[str],
    free: dict[int, str],
    opset: int = 17,
) -> None:
    """Write a network to ONNX as torch computes it, in float32 and unchecked.

    Args:
        net: The network, in evaluation mode.
        path: Where the file is written.
        examples: One tensor per input.
        inputs: Names of the inputs, in order.
        outputs: Names of the outputs, in order; their first axis is the batch, or where the second
            of the inputs is free they have the same free axes.
        free: Axes of every input that may have any length, with their names.
        opset: Version of ONNX's operators.
    """
    axes = {}
    for name in inputs:
        axes[name] = free
    for name in outputs:
        # Frames in, frames out.
        axes[name] = free if 1 in free else {0: "batch"}
    with warnings.catch_warnings():
        # The TorchScript exporter keeps the graph plain, and warns that it is the older one.
        warnings.simplefilter("ignore", DeprecationWarning)
        # It cannot fold the constant that padding of channels leaves; the parity check decides.
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        # A recurrent layer compares its input with its own width, which is a constant; that the
        # number of sequences stays free is checked where heads are written.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size")
        torch.onnx.export(
            net,
            examples,
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


def largest_difference(
    path: Path, example: torch.Tensor, expected: Sequence[Floats32], outputs: Sequence[str]
) -> float:
    """Compare a file's first outputs with what they should be.

    Args:
        path: The ONNX file.
        example: Its input.
        expected: The outputs it should give, in order; later ones may be left out.
        outputs: Their names.

    Returns:
        The largest absolute difference: of raw output in its own units, of ``features`` relative to
        the largest of them (or to 1, where they are smaller).
    """
    computed = open_engine(path.read_bytes(), "onnxruntime").run(example.numpy())
    differences = []
    # An engine gives all outputs of a file; the last ones may not be asked for.
    for name, values, target in zip(outputs, computed[: len(outputs)], expected, strict=True):
        scale = max(1.0, float(np.abs(target).max())) if name == "features" else 1.0
        differences.append(float(np.abs(values - target).max()) / scale)
    return max(differences, default=0.0)


def _store_half(path: Path) -> None:
    model = onnx.load(path)
    halve(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def halve(model: onnx.ModelProto) -> None:
    """Store large weights as float16, in half the size; layers still compute in float32.

    A cast in front of the layers turns them back when the file is loaded.

    Args:
        model: A float32 network; it is changed in place.
    """
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _LARGE:
            continue
        name = weight.name
        half = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)

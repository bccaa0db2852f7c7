"""From a trained network to an ONNX file: batch size left open, weights made small, checked before it is called done."""

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

__all__ = ["PARITY", "export", "halve", "trace", "worst"]

Floats32 = NDArray[np.float32]


PARITY: Final = 1e-4
"""Largest difference from torch before weights are rounded: in raw output units; of features, in parts of the largest."""


def export(
    net: nn.Module,
    path: Path,
    example: torch.Tensor,
    outputs: list[str],
    free: dict[int, str],
    *,
    calibration: Floats32 | None = None,
) -> float:
    """Write `net` to `path` with small weights; returns what making them small changed at most on `example`, in raw output units.

    outputs: names of what `net` returns, in order: the task families, and last ``features`` where it returns (raw..., features).
    free: axes of the input that may have any length, by number, with their names (``{0: "batch"}``).
    calibration: inputs (N, C, H, W) to measure activations on; with them the network is made one of 8 bits (see
        `mien.train.onnx.quantise`), without them it keeps weights in half precision and computes in float32.
    Raises ValueError when the file's answers to `example`, before that, differ from torch's by more than `PARITY`, or when
        ``features`` are not last.
    """
    if "features" in outputs[:-1]:
        raise ValueError(f"{path}: features must be the last output, got {', '.join(outputs)}")
    net = net.eval().to(memory_format=torch.contiguous_format)
    trace(net, path, (example,), inputs=["image"], outputs=outputs, free=free)
    with torch.no_grad():
        answer = net(example)
    expected = [e.numpy() for e in (answer if isinstance(answer, tuple) else (answer,))]
    if (off := worst(path, example, expected, outputs)) > PARITY:
        raise ValueError(
            f"{path}: the exported network differs from torch by {off:.2g}, more than {PARITY:g}"
        )
    if calibration is None:
        _store_half(path)
    else:
        quantise(path, calibration)
    raw = len(outputs) - (outputs[-1] == "features")
    return worst(path, example, expected[:raw], outputs[:raw])


def trace(
    net: nn.Module, path: Path, examples: tuple[torch.Tensor, ...], *, inputs: list[str], outputs: list[str], free: dict[int, str],
    opset: int = 17,
) -> None:  # fmt: skip
    """Write `net` as torch computes `examples`, in float32 and unchecked; `inputs` and `outputs` name what goes in and out, in order."""
    dynamic = {**dict.fromkeys(inputs, free), **{name: {0: "batch"} for name in outputs}}
    with warnings.catch_warnings():
        # The older exporter keeps the graph plain; it says that it is old.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Padding of channels leaves a constant that it cannot fold; the parity check is the judge.
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            net,
            examples,
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=dynamic,
            opset_version=opset,
            dynamo=False,
        )


def worst(
    path: Path, example: torch.Tensor, expected: Sequence[Floats32], outputs: Sequence[str]
) -> float:
    """How far a file's first outputs are at most from what is expected: raw in its own units, ``features`` in parts of the largest."""
    found = open_engine(path.read_bytes(), "onnxruntime").run(example.numpy())[: len(outputs)]
    scales = [
        max(1.0, float(np.abs(e).max())) if name == "features" else 1.0
        for name, e in zip(outputs, expected, strict=True)
    ]
    return max(
        (
            float(np.abs(f - e).max()) / scale
            for f, e, scale in zip(found, expected, scales, strict=True)
        ),
        default=0.0,
    )


def _store_half(path: Path) -> None:
    model = onnx.load(path)
    halve(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def halve(model: onnx.ModelProto) -> None:
    """Keep large weights as float16 and cast them back when the file is loaded: half the size, computed in float32."""
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= 256:
            name = weight.name
            weight.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(weight).astype(np.float16), name + "_half"
                )
            )
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)

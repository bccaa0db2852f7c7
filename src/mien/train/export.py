"""From a trained network to an ONNX file: batch size left open, weights stored in half precision, checked before it is called done."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mien.bundles.engines import open_engine

__all__ = ["export"]


PARITY: Final = 1e-4
"""Largest difference from torch, in raw output units, before weights are rounded."""


def export(net: nn.Module, path: Path, example: torch.Tensor, outputs: list[str], free: dict[int, str]) -> float:
    """Write `net` to `path`; returns what rounding the weights to half precision changed at most, in raw output units.

    free: axes of the input that may have any length, by number, with their names (``{0: "batch"}``).
    Raises ValueError when the unrounded file's answers to `example` differ from torch's by more than `PARITY`.
    """
    net = net.eval().to(memory_format=torch.contiguous_format)
    dynamic = {"image": free, **{name: {0: "batch"} for name in outputs}}
    torch.onnx.export(
        net, (example,), str(path), input_names=["image"], output_names=outputs, dynamic_axes=dynamic, opset_version=17, dynamo=False
    )
    with torch.no_grad():
        expected = net(example)
    expected = [e.numpy() for e in (expected if isinstance(expected, tuple) else (expected,))]
    exact = open_engine(path.read_bytes(), "onnxruntime").run(example.numpy())
    if (off := _apart(exact, expected)) > PARITY:
        raise ValueError(f"{path}: the exported network differs from torch by {off:.2g}, more than {PARITY:g}")
    model = onnx.load(path)
    _store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return _apart(open_engine(path.read_bytes(), "onnxruntime").run(example.numpy()), expected)


def _apart(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    return max(float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True))


def _store_half(model: onnx.ModelProto) -> None:
    """Keep large weights as float16 and cast them back when the file is loaded: half the size, computed in float32."""
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= 256:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), name + "_half"))
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)

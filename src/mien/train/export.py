"""From a trained network to an ONNX file: batch size left open, weights stored in half precision, checked before it is called done."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mien.bundles.engines import open_engine

__all__ = ["export"]


def export(net: nn.Module, path: Path, example: torch.Tensor, outputs: list[str], free: dict[int, str], within: float) -> float:
    """Write `net` to `path`; returns the largest difference from torch on `example`.

    free: axes of the input that may have any length, by number, with their names (``{0: "batch"}``).
    Raises ValueError when the file's answers differ from torch's by more than `within`.
    """
    net = net.eval().to(memory_format=torch.contiguous_format)
    dynamic = {"image": free, **{name: {0: "batch"} for name in outputs}}
    torch.onnx.export(
        net, (example,), str(path), input_names=["image"], output_names=outputs, dynamic_axes=dynamic, opset_version=17, dynamo=False
    )
    model = onnx.load(path)
    _store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    with torch.no_grad():
        expected = net(example)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = open_engine(path.read_bytes(), "onnxruntime").run(example.numpy())
    worst = max(float(np.abs(f - e.numpy()).max()) for f, e in zip(found, expected, strict=True))
    if worst > within:
        raise ValueError(f"{path}: the exported network differs from torch by {worst:.2g}, more than {within:.2g}")
    return worst


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

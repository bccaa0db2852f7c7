"""Bundles that mean harm, for tests: a sound card and a network that is not what it should be."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mien.bundles.store import AFFECT, bundles

SIDE = 112  # of the crops that the card below speaks of


def network(
    nodes: Sequence[NodeProto],
    arrays: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ends: str = "y",
) -> onnx.ModelProto:
    """A network of those nodes on ``image`` (N, 1, 112, 112); what they leave in `ends` is averaged into ``va`` (N, 2)."""
    last = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("ReduceMean", [ends], ["one"], keepdims=0),
        helper.make_node("Mul", ["flat", "one"], ["product"]),
        helper.make_node("Concat", ["product", "product"], ["va"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    va = helper.make_tensor_value_info("va", TensorProto.FLOAT, ["batch", 2])
    kept = [numpy_helper.from_array(array, name) for name, array in (arrays or {}).items()]
    graph = helper.make_graph([*nodes, *last], "hostile", [image], [va], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def card(
    content: bytes, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> dict[str, Any]:
    """A sound card for a network of that content, which gives ``va`` alone."""
    made: dict[str, Any] = json.loads((bundles()[AFFECT] / "card.json").read_text(encoding="utf-8"))
    made.update(
        name="hostile", sha256=hashlib.sha256(content).hexdigest(), temperature={}, features=None
    )
    made.pop("presence")
    made.pop("uncertain_below")
    made["tasks"] = [task for task in made["tasks"] if task["key"] == "va"]
    change(made)
    return made


def bundle(
    folder: Path, content: bytes, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Path:
    """That folder, with the network and a sound card of it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "card.json").write_text(json.dumps(card(content, change)), encoding="utf-8")
    return folder


def multiply(times: int, side: int = 4000) -> onnx.ModelProto:
    """Matrices of `side` by `side` multiplied that many times: side ** 3 multiply-accumulates each."""
    arrays = {"sides": np.array([side, side]), "thin": np.full((side, 1), 1e-6, np.float32)}
    nodes = [helper.make_node("Expand", ["thin", "sides"], ["y0"])]
    nodes += [helper.make_node("MatMul", [f"y{i}", f"y{i}"], [f"y{i + 1}"]) for i in range(times)]
    return network(nodes, arrays, ends=f"y{times}")

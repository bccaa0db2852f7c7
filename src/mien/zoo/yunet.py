"""YuNet in the form of mien's own face finders: luma in, one grid out (`mien.faces.detect`)."""

from typing import Final

from onnx import TensorProto, helper

from mien.bundles.graph import checked
from mien.errors import BundleError
from mien.faces.detect import STRIDES
from mien.text import printable

__all__ = ["luma_grid"]

_PARTS: Final = ("cls", "obj", "bbox", "kps")


def luma_grid(network: bytes) -> bytes:
    """The same network with luma (N, 1, H, W) for all its three channels, and the grids of `mien.faces.detect` (N, M, 15) as its answer.

    network: colour (N, 3, H, W) to class and objectness (N, M, 1), box (N, M, 4) and points (N, M, 10) a stride (Wu, Peng & Yu 2023).
    The score is the geometric mean of class and objectness, as its makers have it.
    Raises BundleError for a network of another form, and as `checked` does.
    """
    model = checked(network)
    graph = model.graph
    names = {f"{part}_{stride}" for part in _PARTS for stride in STRIDES}
    if len(graph.input) != 1 or {output.name for output in graph.output} != names:
        given = printable(", ".join(output.name for output in graph.output))
        raise BundleError(
            f"a network of YuNet's form has one input and gives {', '.join(sorted(names))}; this one gives {given}"
        )
    seen = graph.input[0].name
    grown = [helper.make_node("Concat", ["image"] * 3, [seen], axis=1)]
    low, high = (
        helper.make_tensor(f"grid_{name}", TensorProto.FLOAT, [], [value])
        for name, value in (("low", 0.0), ("high", 1.0))
    )
    after = []
    for s in STRIDES:
        after += [
            helper.make_node("Mul", [f"cls_{s}", f"obj_{s}"], [f"grid_both_{s}"]),
            helper.make_node(
                "Clip", [f"grid_both_{s}", low.name, high.name], [f"grid_clipped_{s}"]
            ),
            helper.make_node("Sqrt", [f"grid_clipped_{s}"], [f"grid_score_{s}"]),
            helper.make_node(
                "Concat", [f"grid_score_{s}", f"bbox_{s}", f"kps_{s}"], [f"grid_{s}"], axis=2
            ),
        ]
    after.append(helper.make_node("Concat", [f"grid_{s}" for s in STRIDES], ["grid"], axis=1))
    nodes = [*grown, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([low, high])
    graph.input.append(
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "height", "width"])
    )
    graph.output.append(
        helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["batch", "cells", 15])
    )
    return bytes(model.SerializeToString())

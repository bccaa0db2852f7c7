"""A bundle that judges readings, of one layer: dark faces are doubtful, what is white is covered, angles are constant."""

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.bundles.card import AffectCard, write_card
from mien.bundles.card_parts import NOT_FOR, Made, Score, TaskCard, Terms
from mien.faces.prepare import Pixels
from mien.tasks import TASKS

SIZE = 16
PIXELS = Pixels(
    size=SIZE, colour="grey", alignment="similarity5", mean=(0.0,), std=(255.0,),
    template=((0.32, 0.38), (0.68, 0.38), (0.5, 0.61), (0.35, 0.77), (0.65, 0.77)),
)  # fmt: skip
KEYS = ("quality.reading", "occlusion.regions5", "pose.angles")
ANGLES = (12.0, -7.0, 4.0)
GAZE = (0.25, -0.5)


def layers():
    """Weights (256, K) and biases (K,): dark faces are doubtful, white eyes or a white mouth are covered ones."""
    everywhere = np.full((SIZE, SIZE), 10.0 / SIZE**2)
    regions = np.zeros((SIZE, SIZE, 5))
    regions[5:7, 4:6, 0] = regions[5:7, 10:12, 1] = regions[11:13, 7:9, 4] = 200.0 / 4
    white = -200.0 * 0.96
    return {
        "quality": (everywhere.reshape(-1, 1), np.array([-10.0 * 0.25])),
        "occlusion": (regions.reshape(-1, 5), np.array([white, white, -9.0, -9.0, white])),
        "pose": (np.zeros((SIZE**2, 3)), np.array(ANGLES)),
        "gaze": (np.zeros((SIZE**2, 2)), np.array(GAZE)),
    }


def make_bundle(folder, keys=KEYS, doubtful_below=0.5, name="judge"):
    folder.mkdir()
    nodes = [helper.make_node("Flatten", ["input"], ["pixels"])]
    weights, outputs, tasks = [], [], []
    for key in keys:
        task = TASKS[key]
        weight, bias = layers()[task.family]
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{task.family}.weight"))
        weights.append(numpy_helper.from_array(bias.astype(np.float32), f"{task.family}.bias"))
        nodes.append(
            helper.make_node(
                "Gemm", ["pixels", f"{task.family}.weight", f"{task.family}.bias"], [task.family]
            )
        )
        outputs.append(
            helper.make_tensor_value_info(task.family, TensorProto.FLOAT, ["n", len(task.names)])
        )
        tasks.append(TaskCard(
            key=task.key, names=task.names, kind=task.kind, low=task.low, high=task.high, supervised_by="a test",
        ))  # fmt: skip
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])
    graph = helper.make_graph(nodes, "judge", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    card = AffectCard(
        card=1, name=name, summary="A test.", licence="Apache-2.0", reads="crops", pixels=PIXELS, tasks=tuple(tasks),
        sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(), tolerance=0.001, temperature={},
        trained_on=(Terms(data="nothing", used_for="training", terms="none"),), limits=("a test",), not_for=NOT_FOR,
        scores=(Score(metric="area under ROC", value=0.9, low=0.8, high=1.0, data="a test", faces=9),),
        made=Made(recipe="none", seed=0, commit="none", cost="none"),
        doubtful_below=doubtful_below if "quality.reading" in keys else None,
    )  # fmt: skip
    write_card(card, folder / "card.json")
    return folder

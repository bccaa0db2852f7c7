"""How far readings can be trusted: the judge of a tiny network, measures, and what labels are left out."""

import dataclasses
import hashlib
import json
from itertools import pairwise

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

import mien
from mien.bundles.card import AffectCard, card_json, parse_card, write_card
from mien.bundles.card_parts import NOT_FOR, Made, Score, TaskCard, Terms
from mien.bundles.store import load_detector, open_bundle
from mien.errors import BundleError, UnknownNameError
from mien.faces.prepare import Pixels, crop_matrix
from mien.faces.sharpness import luma_of, sharpness
from mien.records import Face
from mien.tasks import TASKS

SIZE = 16
PIXELS = Pixels(
    size=SIZE, colour="grey", alignment="similarity5", mean=(0.0,), std=(255.0,),
    template=((0.32, 0.38), (0.68, 0.38), (0.5, 0.61), (0.35, 0.77), (0.65, 0.77)),
)  # fmt: skip
KEYS = ("quality.reading", "occlusion.regions5", "pose.angles")
QUALITY_COLUMNS = [
    "quality", "occlusion", "occlusion_left_eye", "occlusion_right_eye", "occlusion_brows", "occlusion_nose",
    "occlusion_mouth", "pose_yaw", "pose_pitch", "pose_roll", "face_size", "sharpness", "light",
]  # fmt: skip
ANGLES = (12.0, -7.0, 4.0)
MOUTH_UNITS = {
    "AU10",
    "AU12",
    "AU15",
    "AU16",
    "AU17",
    "AU18",
    "AU20",
    "AU24",
    "AU25",
    "AU26",
    "AU28",
}


def layers():
    """Weights (256, K) and biases (K,): dark faces are doubtful, a white mouth is a covered one, angles are constant."""
    everywhere = np.full((SIZE, SIZE), 40.0 / SIZE**2)
    mouth = np.zeros((SIZE, SIZE, 5))
    mouth[11:14, 6:10, 4] = 80.0 / 12
    return {
        "quality": (everywhere.reshape(-1, 1), np.array([-40.0 * 0.25])),
        "occlusion": (mouth.reshape(-1, 5), np.array([-9.0, -9.0, -9.0, -9.0, -80.0 * 0.95])),
        "pose": (np.zeros((SIZE**2, 3)), np.array(ANGLES)),
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


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "judge")


@pytest.fixture(scope="module")
def dark(face):
    """The same face in bad light."""
    return np.asarray(face * 0.3, np.uint8)


@pytest.fixture(scope="module")
def masked(face):
    """The same face with something white over its mouth."""
    points = found(face).points
    picture = face.copy()
    eyes = np.linalg.norm(points[1] - points[0])
    x, y = points[3:].mean(axis=0)
    top, bottom = round(y - 0.35 * eyes), round(y + 0.35 * eyes)
    picture[top:bottom, round(x - eyes / 2) : round(x + eyes / 2)] = 255
    return picture


def found(face):
    return load_detector().find(face)[0]


# --- what the judge says ---


def test_a_row_holds_what_the_judge_says_and_what_is_measured(face, judge):
    [row] = mien.analyze(face, quality=judge).table.to_dict("records")
    assert [name for name in row if name in QUALITY_COLUMNS] == QUALITY_COLUMNS
    [reading] = mien.analyze(face, quality=judge, stream=True)
    at = reading.face
    weight, bias = layers()["quality"]
    crop = mien.load(judge).cut(face, at)[0]
    luma = crop @ np.array([0.299, 0.587, 0.114]) / 255
    assert row["quality"] == pytest.approx(
        1 / (1 + np.exp(-(luma.ravel() @ weight + bias)[0])), abs=1e-3
    )
    assert row["occlusion"] == pytest.approx(
        np.mean([row[name] for name in QUALITY_COLUMNS[2:7]]), abs=1e-6
    )
    assert row["face_size"] == pytest.approx(np.hypot(*(at.points[1] - at.points[0])), rel=1e-6)
    assert row["status"] == "ok"
    assert row["expression"] == "happiness"


def test_without_a_judge_the_table_is_as_before(face):
    table = mien.analyze(face, quality="none").table
    assert not set(QUALITY_COLUMNS) & set(table)


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS[1:], KEYS[2:]])
def test_a_bundle_may_lack_tasks(face, keys, tmp_path):
    table = mien.analyze(face, quality=make_bundle(tmp_path / "some", keys)).table
    expected = [column for key in keys for column in TASKS[key].columns]
    if "occlusion.regions5" in keys:
        expected.append("occlusion")
    assert set(table) & set(QUALITY_COLUMNS[:10]) == set(expected)
    assert {"face_size", "sharpness", "light"} <= set(table)


@pytest.mark.parametrize("turn", [-50.0, 0.0, 25.0])
def test_the_roll_is_that_of_the_frame(face, judge, turn):
    """Turning the picture clockwise turns the head as far; yaw and pitch stay with the head."""
    height, width = face.shape[:2]
    # OpenCV counts degrees counter-clockwise.
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -turn, 1.0)
    at = found(face)
    points = at.points @ matrix[:, :2].T + matrix[:, 2]
    turned = dataclasses.replace(at, points=points)
    picture = cv2.warpAffine(face, matrix, (width, height))
    both = mien.Reader(quality=judge).networks.judge
    upright, tilted = both.judge([both.cut(face, at), both.cut(picture, turned)])
    difference = (tilted.scores["pose"] - upright.scores["pose"] + 180) % 360 - 180
    assert difference == pytest.approx([0, 0, turn], abs=1e-6)
    c, s = crop_matrix(at, PIXELS)[:, 0]
    assert upright.scores["pose"] == pytest.approx(
        [*ANGLES[:2], ANGLES[2] - np.degrees(np.arctan2(s, c))]
    )


def test_faces_are_judged_alike_alone_together_and_live(face, dark, judge):
    reader = mien.Reader(quality=judge)
    pictures = [face, dark, face]
    ways = [
        reader.analyze(pictures, photos=True).table,
        reader.analyze([(i / 10, picture) for i, picture in enumerate(pictures)]).table,
        pd.concat([reader.analyze(iter([p]), live=True).table for p in pictures]),
    ]
    for table in ways:
        assert table["status"].tolist() == ["ok", "doubtful", "ok"]
        assert table["expression"].tolist() == ["happiness", "uncertain", "happiness"]
        np.testing.assert_allclose(table["quality"], ways[0]["quality"], atol=0.02)


# --- measures ---


def falls(values):
    return all(after < before for before, after in pairwise(values))


def sharpness_of(picture, at):
    return sharpness(luma_of(picture, at))


def test_sharpness_falls_with_blur(face):
    at = found(face)
    values = [sharpness_of(face, at)]
    for sigma in (0.5, 1, 1.5, 2, 3, 4, 6):
        values.append(sharpness_of(cv2.GaussianBlur(face, (0, 0), sigma), at))
    assert falls(values)
    assert 0 < values[-1] < values[0] / 4 < 1


def test_sharpness_falls_for_smaller_faces(face):
    at = found(face)
    values = []
    for factor in (1, 1.5, 2, 3, 4, 6, 8):
        small = cv2.resize(face, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        values.append(sharpness_of(small, Face(at.box, at.points / factor, 1.0)))
    assert falls(values)


@pytest.mark.parametrize("contrast", [0.7, 0.5, 0.3])
def test_sharpness_hardly_moves_with_contrast(face, contrast):
    at = found(face)
    for middle in (0, 128):
        flat = np.clip(middle + (face - float(middle)) * contrast, 0, 255).astype(np.uint8)
        assert sharpness_of(flat, at) == pytest.approx(sharpness_of(face, at), abs=0.01)


def test_a_plain_area_is_not_sharp():
    assert sharpness(np.full((112, 112), 90, np.uint8)) == 0


# --- cards ---


def test_thresholds_stand_in_the_card_only_where_they_are_set(judge):
    card = open_bundle(judge).card
    assert json.loads(card_json(card))["doubtful_below"] == 0.5
    assert parse_card(card_json(card), "card.json") == card
    plain = json.loads(
        card_json(open_bundle("mien-s").card.model_copy(update={"uncertain_below": None}))
    )
    assert not {"doubtful_below", "uncertain_below"} & set(plain)


@pytest.mark.parametrize("key", ["doubtful_below", "uncertain_below"])
def test_a_threshold_without_its_task_is_refused(key, judge):
    name = {"doubtful_below": "mien-s", "uncertain_below": judge}[key]
    content = json.loads(card_json(open_bundle(name).card)) | {key: 0.5}
    with pytest.raises(BundleError, match=f"{key}: .*task"):
        parse_card(json.dumps(content).encode(), "card.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": "mien-s"}, "gives expr.ferplus8.*or none"),
        ({"bundle": "judge"}, "reads no affect"),
    ],
)
def test_bundles_in_each_other_s_place_are_refused(options, words, judge):
    options = {name: judge if bundle == "judge" else bundle for name, bundle in options.items()}
    with pytest.raises(BundleError, match=words):
        mien.Reader(**options)


def test_an_unknown_judge_is_named():
    with pytest.raises(UnknownNameError, match="mien-qualty"):
        mien.Reader(quality="mien-qualty")

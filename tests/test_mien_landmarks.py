"""The recipe of `mien-landmarks` in miniature: a table of faces with the points of a teacher, and the card."""

import shutil

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.analysis.landmarks import LANDMARKS
from mien.bundles.store import FACES, embedded, load_detector, open_bundle
from mien.data.drawn.damage import KINDS
from mien.data.images import read_picture
from mien.data.sets.ferplus import FERPLUS_TEMPLATE
from mien.demo import portrait
from mien.faces.landmarks import COUNT
from mien.tasks import TASKS
from mien.train.builtin import mien_landmarks
from mien.train.builtin.landmark_table import LandmarkTeacher, make_table
from mien.train.builtin.quality_table import PIXELS
from mien.train.settings.training import read_settings, write_settings

COLUMNS = list(TASKS["landmarks.ibug68"].columns)
TEMPLATE = np.array(FERPLUS_TEMPLATE)
# Which points of the teacher lie at eyes, nose tip and mouth corners.
PLACES = ((36, 42), (42, 48), (30, 31), (48, 49), (54, 55))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A network that says of every crop that eyes, nose and mouth lie as in its mean crop."""
    points = np.random.default_rng(0).uniform(0.2, 0.8, (COUNT, 2))
    for place, (start, end) in zip(TEMPLATE, PLACES, strict=True):
        # Spread about the middle of an eye, so that the teacher's eyes have a width.
        offsets = np.linspace(-0.06, 0.06, end - start) if end - start > 1 else np.zeros(1)
        points[start:end] = place + np.column_stack([offsets, 0 * offsets])
    # Its crops are .85 and 1.05 of the template's wide, and their middles lie at .54 and .62.
    points = (points - (0.5, 0.58)) / 0.95 + 0.5
    values = {
        "weight": np.zeros((64 * 64, 2 * COUNT), np.float32),
        "points": points.ravel().astype(np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", *values], ["output"]),
    ]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2 * COUNT])
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "teacher", [image], [output], constants)
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A table of portraits: one face, a little lighter or darker for each of six people."""
    face = portrait()
    surest, *_ = load_detector(FACES).find(face)
    rows = []
    for number in range(6):
        image = np.clip(face.astype(int) + number, 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        split = "train" if number < 2 else "val"
        row = {"image": encoded, "points": surest.points.ravel(), "split": split}
        shapes = np.full(52, 20 * number, np.uint8)
        rows.append(row | {"subject": f"s{number}", "blendshapes": shapes})
    path = tmp_path_factory.mktemp("portraits") / "portraits.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def tables(faces, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    made = {}
    for split in ("train", "val"):
        path = folder / f"{split}.parquet"
        made[split] = make_table(faces, split, path, teacher=teacher, workers=1)
        # What was made before is read.
        again = make_table(faces, split, path, teacher=teacher)
        pd.testing.assert_frame_equal(again[COLUMNS], made[split][COLUMNS])
    return made


def test_a_teacher_sees_faces_upright(faces, teacher):
    row = pd.read_parquet(faces).iloc[0]
    five = np.asarray(row["points"], float).reshape(5, 2)
    points = LandmarkTeacher(teacher)(read_picture(row["image"]), five)
    middle = np.array([points[start:end].mean(axis=0) for start, end in PLACES])
    # The five points of a face lie about as in the template.
    eyes = np.hypot(*(five[1] - five[0]))
    assert np.linalg.norm(middle - five, axis=1).max() < 0.25 * eyes
    # Its points and those by mirror images are averaged, so the nose lies in the middle of both.
    assert middle[[0, 1]].mean(axis=0)[0] == pytest.approx(middle[2, 0], abs=0.1 * eyes)


def nose_among(row, corners):
    """The tip of the nose as a weighted mean of three of the five points, the same under affine maps."""
    five = np.column_stack([np.reshape(row["five"], (5, 2)), np.ones(5)])
    nose = row[["landmarks_30_x", "landmarks_30_y"]].to_numpy(float)
    return np.linalg.solve(five[corners].T, [*nose, 1.0])


def test_points_move_with_the_faces(tables):
    """Whatever is done to a face, each point stays where it was among the five of the face."""
    places = [nose_among(row, [0, 1, 3]) for _, row in tables["val"].iterrows()]
    np.testing.assert_allclose(places, np.broadcast_to(places[0], (len(places), 3)), atol=1e-3)
    for _, row in tables["train"].iterrows():
        # Of a mirror image, left and right have changed places.
        ways = [nose_among(row, [0, 1, 3]), nose_among(row, [1, 0, 4])]
        assert min(np.abs(way - places[0]).max() for way in ways) < 1e-3


def test_training_faces_are_moved_and_others_damaged(tables):
    train, val = tables["train"], tables["val"]
    assert len(train) == 2 * 6
    assert train["kind"].value_counts().to_dict() == {"": 10, "squeeze": 2}
    assert len(val) == 4 * 5
    assert (val["kind"] == "").sum() == 4
    assert set("+".join(val["kind"]).split("+")) - {""} <= set(KINDS)
    assert read_picture(train["image"].iloc[0]).shape == (PIXELS.size, PIXELS.size, 3)
    # No two crops of a face are alike.
    assert len(train.groupby(COLUMNS[:2])) == len(train)


def test_faces_on_which_the_teacher_fails_are_left_out(faces, teacher, tmp_path):
    moved = pd.read_parquet(faces)
    # One eye and a mouth corner of one face are said to lie elsewhere.
    five = np.asarray(moved["points"].iloc[2], float).reshape(5, 2)
    moved.at[2, "points"] = (five + np.array([[0, 0], [90, 0], [0, 0], [0, 60], [0, 0]])).ravel()
    moved.to_parquet(tmp_path / "moved.parquet")
    table = make_table(
        tmp_path / "moved.parquet", "val", tmp_path / "out.parquet", teacher=teacher, workers=1
    )
    assert set(table["subject"]) == {"s3", "s4", "s5"}


def test_the_card_says_what_was_measured(tables, faces, tmp_path):
    folder = tmp_path / LANDMARKS
    shutil.copytree(embedded()[LANDMARKS], folder)
    mien_landmarks.complete_card(folder, tables["val"], faces)
    card = open_bundle(folder).card
    own = {score.metric: score for score in card.scores}
    assert card.version == mien_landmarks.VERSION
    # Of a teacher that says the same of every face.
    assert own[next(name for name in own if "all points" in name)].faces == 4
    regions = ("jaw", "brows", "nose", "left eye", "right eye", "mouth")
    for region in regions:
        assert any(f"against the teacher, {region}" in name for name in own)
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {LANDMARKS}\n")


def test_the_shipped_card_has_all_figures():
    card = open_bundle(LANDMARKS).card
    metrics = [score.metric for score in card.scores if not score.condition]
    for start in ("mean error against the teacher", "mean error against MediaPipe", "correlation"):
        assert [metric for metric in metrics if metric.startswith(start)]
    conditions = {score.condition.partition(":")[0] for score in card.scores if score.condition}
    assert conditions == {"occlusion", "geometry", "light", "detail"}
    # No figure for each of 136 numbers.
    assert not [metric for metric in metrics if metric.endswith(("_x", "_y"))]
    assert any("its package has an MIT licence" in terms.terms for terms in card.trained_on)


def test_settings_can_be_written_and_read(tmp_path):
    settings = mien_landmarks.settings(tmp_path / "table.parquet")
    (tmp_path / "settings.yaml").write_text(write_settings(settings), encoding="utf-8")
    assert read_settings(tmp_path / "settings.yaml") == settings
    # Points of mirrored or moved crops would be wrong.
    augment = settings.augment
    assert (augment.flip, augment.turn, augment.grow, augment.shift, augment.squeeze) == (0,) * 5

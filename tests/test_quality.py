"""How far readings can be trusted: the judge of a tiny network, measures, and what labels are left out."""

import dataclasses
import json
import shutil
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_judge import ANGLES, GAZE, KEYS, PIXELS, layers, make_bundle
from typer.testing import CliRunner

import mien
from mien.bundles.card import card_json, parse_card
from mien.bundles.store import embedded, load_detector, open_bundle
from mien.cli import app
from mien.errors import BundleError, UnknownNameError
from mien.faces.prepare import crop_matrix
from mien.faces.sharpness import luma_of, sharpness
from mien.outputs.painter import Painter
from mien.records import Face, Quality, Reading, Status
from mien.tasks import TASKS
from mien.temporal.gaps import fill_gaps

QUALITY_COLUMNS = [
    "quality", "occlusion", "occlusion_left_eye", "occlusion_right_eye", "occlusion_brows", "occlusion_nose",
    "occlusion_mouth", "pose_yaw", "pose_pitch", "pose_roll", "face_size", "sharpness", "light",
]  # fmt: skip
MOUTH_UNITS = {f"AU{number}" for number in (10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 28)}


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
    top, bottom = round(y - 0.45 * eyes), round(y + 0.6 * eyes)
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
    upright, tilted = both.judge([both.cut(face, at), both.cut(picture, turned)], {})
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


# --- what is left out ---


def test_units_of_covered_regions_are_missing(face, masked, judge):
    [open_row, covered] = mien.analyze([face, masked], photos=True, quality=judge).table.to_dict(
        "records"
    )
    units = {name for name in covered if name.startswith("AU")}
    assert {name for name in units if np.isnan(covered[name])} == units & MOUTH_UNITS
    assert not any(np.isnan(open_row[name]) for name in units)
    kept = mien.analyze(masked, quality=judge, abstain=False).table
    plain = mien.analyze(masked, quality="none").table
    pd.testing.assert_frame_equal(kept[list(plain)], plain)


def test_gaze_is_missing_where_both_eyes_are_covered(face, tmp_path):
    judge = make_bundle(tmp_path / "judge", (*KEYS, "gaze.eyes"))
    at = found(face)
    for covered, expected in ((0, GAZE), (1, GAZE), (2, (np.nan, np.nan))):
        picture = face.copy()
        for x, y in at.points[:covered].astype(int):
            side = int(at.box[2] / 5)
            picture[y - side : y + side, x - side : x + side] = 255
        judged = mien.Reader(quality=judge).networks.judge
        [quality] = judged.judge([judged.cut(picture, at)], {})
        np.testing.assert_allclose(quality.scores["gaze"], expected, rtol=1e-6)


def test_smoothing_neither_spreads_nor_fills_covered_units(face, masked, judge):
    film = [(i / 25, picture) for i, picture in enumerate([face, masked, face, face])]
    smoothing = mien.Smoothing(0.04)
    table = mien.analyze(film, quality=judge, smoothing=smoothing).table
    assert np.isnan(table["AU12"][1])
    assert np.isnan(table["AU12_raw"][1])
    raw = table["AU12_raw"].to_numpy(np.float64)
    times = np.arange(4) / 25
    seen = [0, 2, 3]
    for row in seen:
        weights = np.exp(-((times[seen] - times[row]) ** 2) / 2 / smoothing.seconds**2)
        assert table["AU12"][row] == pytest.approx(weights @ raw[seen] / weights.sum(), abs=1e-6)
    # Brows are not covered: all four frames count.
    assert table[["AU01", "AU01_raw"]].notna().all(axis=None)


def test_smoothing_does_not_spread_doubtful_readings(face, dark, judge):
    smoothing = mien.Smoothing(0.04)
    blurred = cv2.GaussianBlur(face, (0, 0), 2)
    film = [(i / 25, picture) for i, picture in enumerate([face, dark, face, blurred])]
    table = mien.analyze(film, quality=judge, smoothing=smoothing).table
    assert table["status"].tolist() == ["ok", "doubtful", "ok", "ok"]
    times = np.arange(4) / 25
    sound = [0, 2, 3]
    for name in ("valence", "arousal", "expr_happiness", "AU12"):
        raw = table[f"{name}_raw"].to_numpy(np.float64)
        assert table[name][1] == raw[1]
        for row in sound:
            weights = np.exp(-((times[sound] - times[row]) ** 2) / 2 / smoothing.seconds**2)
            expected = weights @ raw[sound] / weights.sum()
            assert table[name][row] == pytest.approx(expected, abs=1e-6)


def reading(frame, units, status=Status.ok, track=1, quality=None):
    at = Face((0.0, 0.0, 9.0, 9.0), np.zeros((5, 2)), 1.0, track)
    return Reading("a", frame, frame / 25, status, at, {"au": np.array(units)}, {}, quality)


def test_rows_of_gaps_are_not_judged_and_fill_nothing_that_is_covered():
    judged = Quality(40.0, 0.5, 0.5, {"quality": np.array([0.1])})
    rows = [
        reading(0, [0.2, np.nan], quality=judged),
        reading(1, [0.5, 0.5], track=2, quality=judged),
        reading(2, [0.4, 0.9], quality=judged),
    ]
    [gap] = [row for row in fill_gaps(rows, 0.5) if row.status is Status.gap]
    assert gap.quality is None
    np.testing.assert_allclose(gap.scores["au"], [0.3, np.nan])


def test_a_low_probability_is_uncertain(face, judge, tmp_path):
    folder = tmp_path / "unsure"
    shutil.copytree(embedded()["mien-s"], folder)
    card = json.loads((folder / "card.json").read_text()) | {"uncertain_below": 0.9999}
    (folder / "card.json").write_text(json.dumps(card))
    for quality in (judge, "none"):
        analysis = mien.analyze(face, bundle=folder, quality=quality)
        assert analysis.table["expression"].tolist() == ["uncertain"]
        assert analysis.table["status"].tolist() == ["ok"]
    kept = mien.analyze(face, bundle=folder, quality=judge, abstain=False).table
    assert kept["expression"].tolist() == ["happiness"]


def test_labels_of_doubtful_rows_stay_where_they_are_asked_for(dark, judge):
    left_out = mien.analyze(dark, quality=judge).table
    kept = mien.analyze(dark, quality=judge, abstain=False).table
    assert left_out["status"].tolist() == kept["status"].tolist() == ["doubtful"]
    assert (left_out["expression"][0], kept["expression"][0]) == ("uncertain", "happiness")
    # Nothing but the label is left out.
    same = [name for name in left_out if name != "expression"]
    pd.testing.assert_frame_equal(left_out[same], kept[same])


def test_points_are_those_of_the_face(face, judge):
    [found_reading] = mien.analyze(face, quality="none", stream=True)
    table = mien.analyze(face, quality="none", points=True).table
    names = [name for name in table if name.endswith(("_x", "_y")) and not name.startswith("box")]
    assert names[:4] == ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
    expected = found_reading.face.points.ravel()
    np.testing.assert_allclose(table[names].to_numpy()[0], expected, rtol=1e-6)


# --- tables, films, photos ---


def test_tables_hold_what_the_dictionary_says(face, dark, judge, tmp_path):
    film = [(i / 25, picture) for i, picture in enumerate([face, dark, dark])]
    analysis = mien.analyze(film, quality=judge, points=True)
    for suffix in ("csv", "jsonl", "parquet"):
        analysis.save(tmp_path / f"a.{suffix}")
        table = mien.read_table(tmp_path / f"a.{suffix}")
        assert table["status"].tolist() == ["ok", "doubtful", "doubtful"]
        pd.testing.assert_frame_equal(table, analysis.table, atol=0.01, check_flags=False)
    dictionary = table.attrs["dictionary"]
    assert dictionary["quality"]["name"] == "judge"
    assert dictionary["quality"]["sha256"] == open_bundle(judge).card.sha256
    assert dictionary["quality"]["doubtful_below"] == 0.5
    assert "doubtful" in dictionary["statuses"]
    tasks = {column["name"]: column["task"] for column in dictionary["columns"]}
    assert tasks["pose_roll"] == "pose.angles"
    assert tasks["sharpness"] is None


def test_a_run_counts_doubtful_rows_and_reads_again_for_another_judge(face, dark, judge, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, picture in {"a": face, "b": dark, "c": dark}.items():
        Image.fromarray(picture).save(photos / f"{name}.png")
    command = ["analyze", str(photos), "--out", str(tmp_path / "out"), "--overlay"]
    first = CliRunner().invoke(app, [*command, "--quality", str(judge)])
    assert first.exit_code == 0, first.output
    assert "3 faces, 2 rows doubtful" in " ".join(first.output.split())
    # A further photo costs only itself, and the rows that are copied count as before.
    Image.fromarray(face).save(photos / "d.png")
    more = CliRunner().invoke(app, [*command, "--quality", str(judge)])
    assert "4 faces, 2 rows doubtful" in " ".join(more.output.split())
    assert "done before" in CliRunner().invoke(app, [*command, "--quality", str(judge)]).output
    stricter = make_bundle(tmp_path / "stricter", doubtful_below=0.999)
    again = CliRunner().invoke(
        app, [*command, "--quality", str(stricter), "--no-abstain", "--points"]
    )
    assert "4 rows doubtful" in " ".join(again.output.split())
    table = mien.read_table(tmp_path / "out" / "photos.csv")
    assert table["expression"].tolist() == ["happiness"] * 4
    assert "nose_x" in table


def test_doubtful_faces_are_drawn_in_grey_with_the_word():
    expressions = {"expr": np.array([0.05, 0.9, 0.05, 0, 0, 0, 0, 0])}
    at = Face((60.0, 60.0, 120.0, 150.0), np.zeros((5, 2)), 0.9, None)

    def painted(status, uncertain_below):
        picture = np.full((360, 640, 3), 128, np.uint8)
        row = Reading("a", 0, 0.0, status, at, expressions, {})
        Painter([TASKS["expr.ferplus8"]], uncertain_below).paint(picture, [row])
        return picture

    sure, doubtful = painted(Status.ok, 0.0), painted(Status.doubtful, 0.0)
    assert np.ptp(sure.astype(int), axis=2).max() > 60
    assert np.ptp(doubtful.astype(int), axis=2).max() < 40
    # The same word whatever the expression; with the expression where labels are kept.
    kept = painted(Status.doubtful, None)
    expressions["expr"] = np.roll(expressions["expr"], 1)
    assert (painted(Status.doubtful, 0.0) == doubtful).all()
    assert (painted(Status.doubtful, None) != kept).any()
    unsure = painted(Status.ok, 0.95)
    expressions["expr"] = np.roll(expressions["expr"], 1)
    assert (painted(Status.ok, 0.95) == unsure).all()


def test_a_painter_takes_faces_whose_units_are_all_covered():
    at = Face((20.0, 20.0, 60.0, 60.0), np.zeros((5, 2)), 0.9, 0)
    row = Reading("a", 0, 0.0, Status.ok, at, {"au": np.full(12, np.nan)}, {})
    for size in ((100, 110, 3), (360, 640, 3)):
        Painter([TASKS["au.abaw12"]]).paint(np.full(size, 128, np.uint8), [row])

"""The 68 points of faces: where they lie, what is measured between them, and who writes them."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mien
from mien import demo
from mien.analysis.landmarks import LANDMARKS, leave_out_covered_points
from mien.bundles.store import load_detector, open_bundle
from mien.cli import app
from mien.errors import BundleError
from mien.faces.landmarks import COUNT, COVERED_WITH, MEASURES, MIRRORED, REGIONS, eye_span, measure
from mien.outputs.columns import columns, landmark_columns
from mien.outputs.painter import Painter
from mien.records import Face, Quality, Reading, Status
from mien.tasks import TASKS
from mien.temporal.gaps import fill_gaps

X = [f"landmark_{number}_x" for number in range(COUNT)]
Y = [f"landmark_{number}_y" for number in range(COUNT)]
NAMES = [column.name for column in landmark_columns()]


@pytest.fixture(scope="module")
def table():
    """The portrait's table."""
    return mien.analyze(demo.portrait(), landmarks=True, points=True).table


@pytest.fixture(scope="module")
def points(table):
    """The portrait's 68 points."""
    return points_of(table.iloc[0])


def points_of(row):
    return np.column_stack([row[X].to_numpy(float), row[Y].to_numpy(float)])


# --- where they lie ---


def test_eyes_nose_and_mouth_lie_where_the_detector_finds_them(points):
    face, *_ = load_detector().find(demo.portrait())
    five = [
        points[36:42].mean(axis=0),
        points[42:48].mean(axis=0),
        points[30],
        points[48],
        points[54],
    ]
    errors = np.linalg.norm(np.array(five) - face.points, axis=1) / eye_span(points)
    assert errors[:2].max() < 0.05
    # The two put the tip of the nose, and the corners of a smiling mouth, at other places.
    assert errors[3:].max() < 0.13
    assert errors[2] < 0.2


def test_the_face_is_in_order(points):
    middle = {region: points[list(numbers)].mean(axis=0) for region, numbers in REGIONS.items()}
    assert middle["brows"][1] < middle["left_eye"][1] < middle["nose"][1] < middle["mouth"][1]
    assert middle["left_eye"][0] < middle["nose"][0] < middle["right_eye"][0]
    # Along the jaw from left to right, and the chin lowest.
    assert (np.diff(points[:17, 0]) > 0).all()
    assert points[7:10, 1].min() > points[48:60, 1].max()


@pytest.mark.parametrize("turn", [-70.0, 20.0, 180.0])
def test_points_turn_with_the_picture(points, turn):
    picture = demo.portrait()
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -turn, 0.8)
    turned = cv2.warpAffine(picture, matrix, (width, height))
    [row] = mien.analyze(turned, landmarks=True, faces="largest").table.to_dict("records")
    expected = points @ matrix[:, :2].T + matrix[:, 2]
    errors = np.linalg.norm(points_of(pd.Series(row)) - expected, axis=1) / eye_span(expected)
    assert np.median(errors) < 0.03


def test_a_mirror_image_has_the_points_of_its_face_mirrored(points):
    picture = np.ascontiguousarray(demo.portrait()[:, ::-1])
    mirrored = points_of(mien.analyze(picture, landmarks=True).table.iloc[0])
    expected = points[list(MIRRORED)] * (-1, 1) + (picture.shape[1] - 1, 0)
    errors = np.linalg.norm(mirrored - expected, axis=1) / eye_span(expected)
    assert np.median(errors) < 0.04
    assert sorted(MIRRORED) == list(range(COUNT))
    assert [MIRRORED[number] for number in MIRRORED] == list(range(COUNT))


def test_ways_of_reading_agree(points):
    picture = demo.portrait()
    ways = [
        mien.analyze([(i / 10, picture) for i in range(3)], landmarks=True).table.iloc[0],
        mien.analyze(iter([picture]), live=True, landmarks=True).table.iloc[0],
        # Alone, the network's crop is cut out for it; else it shares that of mien-quality.
        mien.analyze(picture, landmarks=True, quality="none").table.iloc[0],
    ]
    for row in ways:
        np.testing.assert_allclose(points_of(row), points, atol=0.05)


# --- what is measured between them ---


def test_measures_are_their_formulas(table, points):
    def apart(first, second):
        return np.hypot(*(points[first] - points[second]))

    row = table.iloc[0]
    span = apart(36, 45)
    expected = {
        "eye_opening_left": (apart(37, 41) + apart(38, 40)) / (2 * apart(36, 39)),
        "eye_opening_right": (apart(43, 47) + apart(44, 46)) / (2 * apart(42, 45)),
        "mouth_opening": (apart(61, 67) + apart(62, 66) + apart(63, 65)) / (3 * span),
        "mouth_width": apart(48, 54) / span,
    }
    assert list(expected) == list(MEASURES)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-4)


def test_measures_do_not_change_with_size_place_and_turn(points):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = 3 * points @ turn + (100, -20)
    np.testing.assert_allclose(measure(moved), measure(points))
    np.testing.assert_allclose(measure(np.stack([points, moved]))[1], measure(points))


def test_unknown_points_measure_nothing(points):
    unknown = points.copy()
    unknown[37] = np.nan
    assert np.isnan(measure(unknown)).tolist() == [True, False, False, False]
    assert np.isnan(measure(np.zeros((COUNT, 2)))).all()


# --- what is left out ---


@pytest.mark.parametrize("region", TASKS["occlusion.regions5"].names)
def test_points_of_covered_regions_are_missing(region, points):
    reading = judged(points, **{region: 0.5})
    [kept] = leave_out_covered_points([reading])
    missing = np.flatnonzero(np.isnan(kept.landmarks).all(axis=1))
    assert missing.tolist() == sorted(COVERED_WITH[region])
    # The reading itself is not changed.
    assert np.isfinite(reading.landmarks).all()


def judged(points, **covered):
    names = TASKS["occlusion.regions5"].names
    occlusion = np.array([covered.get(name, 0.49) for name in names])
    quality = Quality(40.0, 0.5, 0.5, {"quality": np.ones(1), "occlusion": occlusion})
    face = Face((0.0, 0.0, 90.0, 90.0), points[:5], 1.0, 0)
    return Reading("x", 0, 0.0, Status.ok, face, {}, {}, quality, landmarks=points)


def test_a_mask_takes_the_mouth_away():
    picture = demo.portrait().copy()
    face, *_ = load_detector().find(picture)
    eyes = np.linalg.norm(face.points[1] - face.points[0])
    x, y = face.points[3:].mean(axis=0)
    top, bottom = round(y - 0.55 * eyes), round(y + 0.7 * eyes)
    picture[top:bottom, round(x - 0.9 * eyes) : round(x + 0.9 * eyes)] = (235, 240, 240)
    row = mien.analyze(picture, landmarks=True).table.iloc[0]
    assert row["occlusion_mouth"] >= 0.5
    assert row[["mouth_opening", "mouth_width", "landmark_8_x", "landmark_57_y"]].isna().all()
    assert np.isfinite(row["eye_opening_left"])
    whole = mien.analyze(picture, landmarks=True, abstain=False).table.iloc[0]
    assert whole[NAMES].notna().all()


def test_gaps_have_no_points(points):
    first = dataclasses.replace(judged(points), scores={"va": np.zeros(2)})
    nobody = Reading("x", 1, 0.1, Status.no_face, None, {}, {})
    last = dataclasses.replace(first, frame=2, time_s=0.2)
    gap = list(fill_gaps([first, nobody, last], 1.0))[1]
    assert gap.status is Status.gap
    assert gap.landmarks is None


def test_without_the_option_nothing_changes():
    analysis = mien.analyze(demo.portrait())
    assert not set(NAMES) & set(analysis.table)
    facts = mien.Reader().facts()
    assert "landmarks" not in facts
    assert "landmarks" not in facts["options"]


# --- who writes them ---


def test_the_command_writes_columns_dictionary_and_overlay(tmp_path, table):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), demo.portrait()[..., ::-1])
    words = ["analyze", str(photo), "--landmarks", "--overlay", "--format", "csv,openface,fex"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    written = mien.read_table(next((tmp_path / "out").glob("photo*.csv")))
    assert [name for name in written if name in NAMES] == NAMES
    np.testing.assert_allclose(written[NAMES], table[NAMES], atol=0.01)
    [path] = (tmp_path / "out").glob("*.dictionary.json")
    dictionary = json.loads(path.read_text(encoding="utf-8"))
    card = open_bundle(LANDMARKS).card
    assert dictionary["landmarks"]["sha256"] == card.sha256
    assert dictionary["landmarks"]["limits"] == list(card.limits)
    assert dictionary["options"]["landmarks"] is True
    entries = {entry["name"]: entry for entry in dictionary["columns"]}
    assert "d(48,54) / d(36,45)" in entries["mouth_width"]["meaning"]
    assert "Missing where" in entries["landmark_0_x"]["meaning"]
    assert entries["landmark_67_y"]["unit"] == "pixels"


@pytest.mark.parametrize("suffix", ["openface", "fex"])
def test_other_programs_get_their_own_names(tmp_path, suffix, table):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), demo.portrait()[..., ::-1])
    words = ["analyze", str(photo), "--landmarks", "--format", suffix, "--out", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    [path] = tmp_path.glob(f"*.{suffix}.csv")
    with path.open(newline="") as file:
        [row] = csv.DictReader(file)
    names = [name for name in row if name.startswith(("x_", "y_"))]
    assert names == [f"{axis}_{number}" for axis in "xy" for number in range(COUNT)]
    found = np.array([float(row[name]) for name in names])
    np.testing.assert_allclose(found, table.iloc[0][X + Y].to_numpy(float), atol=0.011)


def test_py_feat_finds_no_action_units_among_them():
    assert not [name for name in NAMES if "AU" in name]


def test_overlays_draw_the_points_that_are_known(points):
    def picture_of(landmarks):
        reading = dataclasses.replace(judged(points), landmarks=landmarks)
        picture = np.zeros((512, 512, 3), np.uint8)
        Painter(()).paint(picture, [reading])
        return picture

    plain, drawn = picture_of(None), picture_of(points)
    changed = (plain != drawn).any(axis=2)
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < 512) & (y < 512)
    assert changed[y[inside], x[inside]].all()
    assert np.array_equal(plain, picture_of(np.full((COUNT, 2), np.nan)))


def test_hidden_faces_show_no_points(tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), demo.portrait()[..., ::-1])
    pictures = []
    for name, more in {"with": ["--landmarks"], "without": []}.items():
        words = ["analyze", str(photo), "--overlay", "--anonymise", "blur", *more]
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        [overlay] = (tmp_path / name).glob("*overlay*")
        pictures.append(overlay.read_bytes())
    assert pictures[0] == pictures[1]


# --- bad input ---


def test_the_bundle_is_no_reader_and_no_judge():
    with pytest.raises(BundleError, match=r"finds points.*ask for them with `landmarks`"):
        mien.Reader(bundle=LANDMARKS)
    with pytest.raises(BundleError, match="a bundle for `quality` gives some of"):
        mien.Reader(quality=LANDMARKS)


def test_the_option_is_true_or_false():
    with pytest.raises(ValueError, match="landmarks must be True or False, got 'ibug'"):
        mien.Options(landmarks="ibug")


def test_a_picture_without_a_face_has_empty_cells():
    [row] = mien.analyze(np.zeros((90, 90, 3), np.uint8), landmarks=True).table.to_dict("records")
    assert row["status"] == "no_face"
    assert pd.isna([row[name] for name in NAMES]).all()


def test_columns_say_that_points_may_be_missing_only_where_they_may():
    judges = [TASKS["occlusion.regions5"]]

    def meaning(**options):
        [column] = [c for c in columns([], landmarks=True, **options) if c.name == "mouth_width"]
        return column.meaning

    assert "Missing" in meaning(quality=judges, uncertain_below=0.0)
    assert "Missing" not in meaning(quality=judges)
    assert "Missing" not in meaning(uncertain_below=0.0)

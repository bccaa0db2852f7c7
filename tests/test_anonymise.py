"""Anonymised overlays hold no face: not of frames in which it was lost, nor in what remains of it."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien import batch
from mien.analysis.options import Options
from mien.analysis.reader import Reader
from mien.bundles.identity import load_identity
from mien.cli import app
from mien.demo import portrait
from mien.errors import UnknownNameError
from mien.faces.people import describe
from mien.faces.prepare import prepare
from mien.outputs.anonymise.blur import CELLS, blur
from mien.outputs.anonymise.drawn_face import activity_of, draw_face
from mien.outputs.anonymise.hiding import hide
from mien.outputs.anonymise.regions import MARGIN, REACH_S, HiddenFace, HiddenFaces, region_of
from mien.outputs.canvas import Box, Canvas
from mien.outputs.overlay import Overlay
from mien.records import Face, Reading, Status
from mien.sources import open_source
from mien.tasks import TASKS, Task

EXPR, AU = TASKS["expr.ferplus8"], TASKS["au.abaw12"]
POINTS = np.array([[-0.2, -0.1], [0.2, -0.1], [0, 0.1], [-0.15, 0.25], [0.15, 0.25]])
RATE = 10


def reading(frame, box=None, track=0, **units):
    """A reading at `frame` / RATE s, with a face of these units where there is a box."""
    if box is None:
        return Reading("a", frame, frame / RATE, Status.no_face, None, {}, {})
    x, y, w, h = box
    points = POINTS * (w, h) + (x + w / 2, y + h / 2)
    values = np.array([units.get(name, 0.0) for name in AU.names])
    scores = {"expr": np.eye(8)[0], "au": values}
    face = Face(box, points, 0.9, track)
    return Reading("a", frame, frame / RATE, Status.ok, face, scores, {})


def hidden_by_frame(rows):
    """What is hidden in each frame, with the frames in the order in which they come back."""
    faces = HiddenFaces()
    hidden = {}
    for row in rows:
        for group, found in faces.add([row]):
            hidden[group[0].frame] = found
    for group, found in faces.rest():
        hidden[group[0].frame] = found
    return hidden


def holds(outer, inner):
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and outer.right >= inner.right
        and outer.bottom >= inner.bottom
    )


def test_a_face_is_hidden_before_it_is_found_while_it_is_lost_and_after_it():
    seen = {30: (100, 50, 40, 50), 31: (104, 50, 40, 50), 40: (300, 90, 40, 50)}
    hidden = hidden_by_frame([reading(n, seen.get(n)) for n in range(100)])
    assert list(hidden) == list(range(100))
    near = {n for n in range(100) if min(abs(n - s) for s in seen) <= REACH_S * RATE}
    assert {n for n, faces in hidden.items() if faces} == near
    for n in near:
        (face,) = hidden[n]
        where = face.box.grown(face.margin * max(face.box.w, face.box.h))
        # On the straight way from the sight before to the next, and wherever else it may have gone.
        x = float(np.interp(n, list(seen), [box[0] for box in seen.values()]))
        y = float(np.interp(n, list(seen), [box[1] for box in seen.values()]))
        assert holds(where, Box(x, y, 40, 50).grown(MARGIN * 50 - 1e-6))
        assert (face.reading is not None) == (n in seen)
    assert holds(hidden[35][0].box, Box(*seen[31]))
    assert holds(hidden[35][0].box, Box(*seen[40]))


def test_frames_far_apart_hide_a_face_in_the_frame_between():
    times = (0.0, 5.0, 10.0, 15.0)
    rows = []
    for n, time_s in enumerate(times):
        face = Face((50, 50, 40, 50), np.zeros((5, 2)), 0.9, 0) if n in (0, 1, 3) else None
        status = Status.no_face if face is None else Status.ok
        rows.append(Reading("a", n, time_s, status, face, {}, {}))
    assert len(hidden_by_frame(rows)[2]) == 1


def test_points_beyond_the_box_are_hidden_too():
    face = Face((100, 100, 20, 20), np.array([[60.0, 70], [150, 70], [0, 0], [0, 0], [90, 190]]), 1)
    row = Reading("a", 0, 0.0, Status.ok, face, {}, {})
    ((_, (hidden,)),) = [*HiddenFaces().add([row]), *_rest_of(row)]
    assert holds(hidden.box, Box(0, 0, 150, 190))


def _rest_of(row):
    faces = HiddenFaces()
    assert not list(faces.add([row]))
    return faces.rest()


def test_a_region_ends_with_the_picture():
    face = HiddenFace(Box(-50, -60, 100, 100), 0.4, None)
    assert region_of(face, 640, 360) == (slice(0, 80), slice(0, 90))
    outside = np.zeros((360, 640, 3), np.uint8)[
        region_of(face._replace(box=Box(900, 0, 9, 9)), 640, 360)
    ]
    assert outside.size == 0


def test_blur_keeps_nothing_but_rounded_means_of_few_cells():
    """Pixels that change places within their cell change nothing."""
    random = np.random.default_rng(0)
    cell = 10
    region = random.integers(0, 256, (CELLS * cell, CELLS * cell, 3), np.uint8)
    cells = region.reshape(CELLS, cell, CELLS, cell, 3).swapaxes(1, 2)
    pixels = cells.reshape(CELLS, CELLS, cell * cell, 3)
    mixed = random.permuted(pixels.reshape(-1, cell * cell, 3), axis=1)
    mixed = mixed.reshape(CELLS, CELLS, cell, cell, 3).swapaxes(1, 2).reshape(region.shape).copy()
    assert (mixed != region).mean() > 0.9
    blur(region, CELLS * cell)
    blur(mixed, CELLS * cell)
    assert (mixed == region).all()


def test_a_part_of_a_face_at_the_edge_is_blurred_as_coarsely():
    region = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    blur(region, 20 * CELLS)
    assert len(np.unique(region.reshape(-1, 3), axis=0)) == 1


def portrait_reading():
    with Reader(Options()) as reader:
        (row,) = reader.read(reader.open(portrait()))
        return row, reader.tasks


@pytest.mark.parametrize("anonymise", ["blur", "drawn"])
def test_nobody_is_recognised(anonymise):
    row, tasks = portrait_reading()
    original = portrait()
    ((_, hidden),) = _rest_of(row)
    picture = original.copy()
    hide(picture, hidden, anonymise, tasks)
    height, width = original.shape[:2]
    region = region_of(hidden[0], width, height)
    same = (picture[region] == original[region]).all(axis=2)
    # By chance a few pixels have the colour that they had.
    assert same.mean() < 0.02
    outside = np.ones((height, width), bool)
    outside[region] = False
    assert (picture[outside] == original[outside]).all()
    identity = load_identity()
    crops = [prepare(image, row.face, identity.card.pixels) for image in (original, picture)]
    was, is_now = (describe(identity.describe, [crop]) for crop in crops)
    assert np.linalg.norm(was - is_now) > 1.2 * identity.card.same_person


def test_a_drawn_face_keeps_no_pixel_of_the_face():
    """Whatever lies within the region's outermost pixels, the picture is the same."""
    row, tasks = portrait_reading()
    ((_, hidden),) = _rest_of(row)
    pictures = []
    for change in (False, True):
        picture = portrait()
        rows, columns = region_of(hidden[0], picture.shape[1], picture.shape[0])
        inner = picture[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1]
        if change:
            inner[:] = np.random.default_rng(0).integers(0, 256, inner.shape)
        hide(picture, hidden, "drawn", tasks)
        pictures.append(picture)
    assert (pictures[0] == pictures[1]).all()


def drawn(**units):
    """A drawn face on red, (200, 200, 3)."""
    return drawn_reading(reading(0, (40, 20, 120, 160), **units), AU)


def drawn_reading(row, units):
    picture = np.full((200, 200, 3), (255, 0, 0), np.uint8)
    draw_face(Canvas(picture), row, [EXPR, units], (86, 180, 233))
    return picture


def dark_rows(picture, columns):
    """Rows of dark pixels within the head, in the lower half of the face."""
    part = picture[110:175, columns].max(axis=2)
    return 110 + np.flatnonzero((part < 60).any(axis=1))


MIDDLE = slice(98, 103)


def curl(picture):
    """How much higher the left corner of the mouth is than its middle, pixels."""
    mouth = picture[110:175].max(axis=2) < 60
    left = int(np.flatnonzero(mouth.any(axis=0)).min())
    return dark_rows(picture, MIDDLE).mean() - dark_rows(picture, slice(left, left + 4)).mean()


def test_mouth_corners_rise_with_a_smile_and_fall_with_a_frown():
    assert abs(curl(drawn())) < 1
    assert curl(drawn(AU12=1.0)) > 8
    assert curl(drawn(AU15=1.0)) < -8


def test_lips_part_with_the_jaw():
    assert len(dark_rows(drawn(AU26=1.0), MIDDLE)) > 2 * len(dark_rows(drawn(), MIDDLE))


def test_brows_rise_and_eyes_close():
    blinks = Task("au.blinks", ("AU45", "AU01", "AU02"), "any_of")
    white = {}
    top = {}
    for name, values in {"open": (0, 0, 0), "closed": (1, 0, 0), "raised": (0, 1, 1)}.items():
        row = reading(0, (40, 20, 120, 160))
        row.scores["au"] = np.array(values, float)
        picture = drawn_reading(row, blinks)
        white[name] = (picture.min(axis=2) > 200).sum()
        is_dark = picture[:, 70:76].max(axis=2) < 60
        top[name] = np.flatnonzero(is_dark.any(axis=1)).min()
    assert white["open"] > 100
    assert white["closed"] == 0
    assert top["raised"] < top["open"] - 5


def test_covered_parts_are_not_drawn():
    covered = {name: float("nan") for name in ("AU12", "AU15", "AU25", "AU26")}
    assert not len(dark_rows(drawn(**covered), MIDDLE))
    assert (drawn(**covered)[:100] == drawn()[:100]).all()


def test_without_action_units_expressions_are_drawn():
    scores = {"expr": np.array([0.2, 0.8, 0, 0, 0, 0, 0, 0])}
    row = Reading("a", 0, 0.0, Status.ok, None, scores, {})
    assert activity_of(row, [EXPR])["AU12"] == pytest.approx(0.8)


def test_a_tilted_head_is_drawn_tilted():
    row = reading(0, (40, 20, 120, 160), AU12=1.0)
    middle = np.array([100, 100])
    points = (row.face.points - middle) @ np.array([[0, 1], [-1, 0]]) + middle
    turned = Face(row.face.box, points, 0.9, 0)
    tilted = Reading("a", 0, 0.0, Status.ok, turned, row.scores, {})
    upright = drawn(AU12=1.0)
    assert np.abs(np.rot90(upright, -1).astype(int) - drawn_reading(tilted, AU)).mean() < 3


def test_no_frame_of_a_film_leaks(tmp_path):
    """The face is known in some frames; its texture is in all of them and in none of the overlay."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 256, (90, 160, 3), np.uint8), (640, 360))
    known = [n for n in range(30) if n % 10 in (3, 4, 8)]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        for n in range(30):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 4 * n, axis=1), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    source = open_source(tmp_path / "a.mp4")
    with Overlay(tmp_path / "b.mp4", source, [EXPR], anonymise="blur") as overlay:
        for n in range(30):
            overlay.write([reading(n, (100 + 4 * n, 120, 80, 100) if n in known else None)])
    frames = list(open_source(tmp_path / "b.mp4").frames())
    assert len(frames) == 30
    for n, frame in enumerate(frames):
        face = frame.pixels[125:215, 105 + 4 * n : 175 + 4 * n].astype(float)
        # What is left of the texture is far smoother than it was: labels and boxes lie outside.
        assert np.abs(np.diff(face, axis=1)).mean() < 2, n
        beside = frame.pixels[125:215, 500:600].astype(float)
        assert np.abs(np.diff(beside, axis=1)).mean() > 10


def test_only_overlays_of_all_faces_are_anonymised(tmp_path):
    with pytest.raises(ValueError, match="ask for an overlay"):
        batch.run(["x.jpg"], tmp_path, anonymise="blur")
    with pytest.raises(ValueError, match="read all faces"):
        batch.run(
            ["x.jpg"], tmp_path, overlay=True, anonymise="blur", options=Options(faces="largest")
        )
    with pytest.raises(UnknownNameError, match="did you mean blur"):
        batch.run(["x.jpg"], tmp_path, overlay=True, anonymise="blurr")
    command = ["analyze", "x.jpg", "--out", str(tmp_path), "--anonymise", "blur"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "ask for an overlay" in result.output


def test_an_overlay_that_shows_faces_is_replaced(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), portrait()[..., ::-1])
    states = []
    for anonymise in (None, "drawn", "drawn", None):
        (outcome,) = batch.run(
            [tmp_path / "p.png"], tmp_path / "out", overlay=True, anonymise=anonymise
        )
        states.append(outcome.state)
    assert states == ["done", "done", "skipped", "done"]

"""Which way up: faces are found at any angle and read upright; film that is turned is told or turned."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import mien
from mien.analysis.options import Options
from mien.bundles.store import FACES, load_detector
from mien.cli import app
from mien.faces.lookback import look_back
from mien.faces.orientation import SAMPLES, TurnSampler, best_views
from mien.faces.prepare import Pixels, prepare
from mien.faces.track import Tracker
from mien.faces.turns import lean_deg, quarter_turn, turn_back
from mien.records import Face, Frame

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@pytest.fixture(scope="module")
def detector():
    return load_detector(FACES, engine="onnxruntime")


@pytest.fixture(scope="module")
def films(tmp_path_factory, face):
    """The portrait for a second, as stored by a camera that was turned; by the degrees that put it right."""
    folder = tmp_path_factory.mktemp("turned")
    for degrees in (0, 90, 180, 270):
        with av.open(str(folder / f"{degrees}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=10)
            stream.width = stream.height = 512
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 10)
            for index in range(10):
                shifted = np.roll(face, 2 * index, axis=1)
                picture = shifted if not degrees else cv2.rotate(shifted, TURNS[360 - degrees])
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts = index
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return folder


def leaning(face, degrees):
    """The portrait turned clockwise about its face."""
    matrix = cv2.getRotationMatrix2D((224, 130), -degrees, 1.0)
    return cv2.warpAffine(face, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)


def is_near(one, degrees, points):
    """Whether a face lies as the portrait does after a clockwise turn about (224, 130)."""
    matrix = cv2.getRotationMatrix2D((224, 130), -degrees, 1.0)
    expected = points @ matrix[:, :2].T + matrix[:, 2]
    return float(np.hypot(*(one.points - expected).T).mean()) < 12


def largest(faces):
    """The portrait's face: a detector may take a fold of cloth for another, small one."""
    return max(faces, key=lambda face: face.box[2] * face.box[3])


@pytest.fixture(scope="module")
def points(detector, face):
    (first, *_) = detector.find(face)
    return first.points


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_face_is_found_at_any_angle_with_its_points_turned(detector, face, points, degrees):
    found = largest(Tracker(detector).update(leaning(face, degrees), 0.0))
    assert is_near(found, degrees, points)


@pytest.mark.parametrize("degrees", TURNS)
def test_a_face_that_lies_is_followed(detector, face, points, degrees):
    tracker, numbers = Tracker(detector), set()
    for number in range(30):
        lean = degrees + 12 * np.sin(number / 3)
        found = largest(tracker.update(leaning(face, lean), number / 25))
        numbers.add(found.track)
        assert is_near(found, lean, points)
    assert len(numbers) == 1


@pytest.mark.parametrize("degrees", TURNS)
def test_the_crop_of_a_turned_picture_is_that_of_the_upright_one(face, degrees):
    scores = []
    for picture in (face, cv2.rotate(face, TURNS[degrees])):
        table = mien.analyze(picture, faces="largest").table
        assert (table.status == "ok").all()
        scores.append(table.select_dtypes("float32").filter(regex="^(AU|expr|valence|arousal)"))
    assert scores[0].shape[1] > 10
    assert float((scores[0] - scores[1]).abs().to_numpy().mean()) < 0.03


@pytest.mark.parametrize("degrees", TURNS)
def test_the_square_around_a_box_is_turned_with_the_face(detector, face, degrees):
    pixels = Pixels(size=64, colour="rgb", alignment="box", mean=(0,) * 3, std=(1,) * 3)
    (upright, *_) = detector.find(face)
    picture = cv2.rotate(face, TURNS[degrees])
    # A box and points in the turned picture are turned back by the turn that remains to a circle.
    points = turn_back(upright.points, 360 - degrees, picture.shape[:2])
    x, y, w, h = upright.box
    corners = turn_back(np.array([(x, y), (x + w, y + h)]), 360 - degrees, picture.shape[:2])
    low, high = corners.min(axis=0), corners.max(axis=0)
    turned = Face((*low, *(high - low)), points, 1.0)
    difference = prepare(face, upright, pixels).astype(float) - prepare(picture, turned, pixels)
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("degrees", TURNS)
@pytest.mark.parametrize("size", [128, 256, 512])
def test_no_face_of_a_turned_picture_is_read_as_upright(detector, face, degrees, size):
    small = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    faces = Tracker(detector).update(cv2.rotate(small, TURNS[degrees]), 0.0)
    assert not faces or quarter_turn(largest(faces).points) == 360 - degrees


def test_faces_that_were_found_upside_down_in_real_film(detector, shared):
    source = mien.sources.open_source(shared / "media" / "odd" / "upside_down.mp4")
    for frame in source.frames(0.5):
        found = detector.find(frame.pixels)
        assert found  # so sure is the search of a face that is not there
        for view in best_views(detector, frame.pixels, found):
            assert abs(lean_deg(view.points)) > 150


def test_a_neighbour_is_no_view_of_a_face(detector, face):
    """Two faces side by side, one of them upside down: both stay where they are."""
    piece = face[20:240, 130:320]
    pair = np.hstack([piece, piece[::-1, ::-1]])
    faces = Tracker(detector).update(np.ascontiguousarray(pair), 0.0)
    assert {face.box[0] + face.box[2] / 2 < 190 for face in faces} == {True, False} or len(
        faces
    ) == 1
    for one in faces:
        is_left = one.box[0] + one.box[2] / 2 < 190
        assert quarter_turn(one.points) == (0 if is_left else 180)


def test_a_newcomer_who_lies_is_found_in_the_frames_before_too(detector, face):
    """Frames without a face wait for the next thorough search."""
    empty, lying = np.full_like(face, 90), cv2.rotate(face, TURNS[90])
    pictures = [empty] * 3 + [lying] * 30
    frames = (Frame(picture, index / 25, index, "film") for index, picture in enumerate(pictures))
    faces = [found for _, found in look_back(frames, Tracker(detector))]
    assert [len(found) for found in faces] == [0] * 3 + [1] * 30
    assert {found[0].track for found in faces[3:]} == {0}


def test_frames_without_a_face_are_turned_every_half_second_only(face):
    turned = []

    class Counting:
        least = 0.5

        def quick_scale(self, image):
            return 1.0

        def scale_for(self, image, min_face):
            return 1.0

        def find(self, image, *, scale, turns):
            if turns != (0,):
                turned.append(scale)
            return []

        def follow(self, image, boxes, turns):
            return [None] * len(boxes)

    tracker = Tracker(Counting())
    for index in range(100):
        tracker.update(face, index / 25)
    # The first frame at its full size as well, as a photo would be.
    assert turned == [0.5, 1.0] + [0.5] * 7


def test_film_that_is_upright_needs_nothing(films):
    analysis = mien.analyze(films / "0.mp4")
    assert (analysis.table.status == "ok").all()
    assert analysis.notes == []
    assert mien.analyze(films / "0.mp4", rotate="auto").table.equals(analysis.table)


@pytest.mark.parametrize("degrees", TURNS)
def test_turned_film_is_told_and_turned(films, degrees):
    path = films / f"{degrees}.mp4"
    plain = mien.analyze(path, faces="largest")
    assert (plain.table.status == "ok").all()
    assert len(plain.notes) == 1
    assert f"--rotate {degrees}" in plain.notes[0]
    auto = mien.analyze(path, rotate="auto")
    assert (auto.table.status == "ok").all()
    assert auto.media[0]["turned"] == degrees
    assert f"turned clockwise by {degrees} degrees" in auto.notes[0]
    given = mien.analyze(path, rotate=degrees)
    assert given.notes == []
    assert given.table.drop(columns="source").equals(auto.table.drop(columns="source"))
    upright = mien.analyze(films / "0.mp4").table
    # Those in pixels and degrees are larger.
    large = ["box_x", "box_y", "box_w", "box_h", "face_size", "pose_yaw", "pose_pitch", "pose_roll"]
    numbers = upright.select_dtypes("float32").columns.drop([*large, "confidence"])
    assert (
        float((upright[numbers] - auto.table[numbers]).abs().to_numpy().mean()) < 0.03
    )  # coded again, turned


def test_a_turned_film_on_the_command_line(films, tmp_path):
    run = ["analyze", str(films / "180.mp4"), "--out", str(tmp_path)]
    told = CliRunner().invoke(app, run)
    assert told.exit_code == 0
    assert "--rotate 180" in told.output
    turned = CliRunner().invoke(app, [*run, "--rotate", "auto", "--overlay"])
    assert turned.exit_code == 0
    assert "1 face;" in turned.output
    with av.open(str(tmp_path / "180.overlay.mp4")) as container:  # the overlay is turned as well
        last = list(container.decode(video=0))[-1].to_ndarray(format="rgb24")
    detector = load_detector(FACES, engine="onnxruntime")
    (found,) = detector.find(last)
    assert quarter_turn(found.points) == 0


@pytest.mark.parametrize("wrong", ["left", "45", "-90"])
def test_other_turns_are_refused(films, tmp_path, wrong):
    told = CliRunner().invoke(
        app, ["analyze", str(films / "0.mp4"), "--out", str(tmp_path), "--rotate", wrong]
    )
    assert told.exit_code == 2
    assert "rotate must be auto, 0, 90, 180" in told.output


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotate": True},
        {"rotate": 45},
        {"rotate": "left"},
        {"video_stream": -1},
        {"video_stream": "1"},
        {"min_face": 0},
        {"min_face": 20.5},
        {"min_face": True},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


def test_samples_are_few_and_ever_further_apart():
    sampler = TurnSampler()
    taken = []

    class Nobody(list):
        def __bool__(self):
            taken.append(time_s)
            return False

    for time_s in (index / 25 for index in range(25 * 600)):
        sampler.add(Nobody(), time_s)
    assert len(taken) == SAMPLES
    assert sampler.done
    assert sampler.turn == 0
    assert np.all(np.diff(taken)[1:] > 1.9 * np.diff(taken)[:-1])


def test_the_surest_face_of_most_frames_says_how_a_film_is_turned(points):
    sampler = TurnSampler()
    for number in range(5):
        turned = turn_back(points, 90, (512, 512)) if number else points
        sampler.add([Face((0, 0, 9, 9), turned, 0.9), Face((9, 0, 9, 9), points, 0.5)], number)
    assert sampler.turn == 90

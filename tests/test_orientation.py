"""Which way up: faces that are turned are no readings, film that is turned is told or turned, faces that lean are kept."""

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
from mien.faces.orientation import SAMPLES, TurnSampler, upright_only

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
    matrix = cv2.getRotationMatrix2D((224, 130), degrees, 1.0)
    return cv2.warpAffine(face, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("degrees", [-45, -30, -15, 0, 15, 30, 45])
def test_a_face_that_leans_is_kept(detector, face, degrees):
    image = leaning(face, degrees)
    found = [one for one in detector.find(image) if one.confidence >= detector.least]
    assert found or abs(degrees) > 30
    assert upright_only(detector, image, found) == found


@pytest.mark.parametrize("degrees", TURNS)
@pytest.mark.parametrize("size", [128, 256, 512])
def test_no_face_of_a_turned_picture_is_a_reading(detector, face, degrees, size):
    image = cv2.rotate(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), TURNS[degrees])
    assert upright_only(detector, image, detector.find(image)) == []
    seen = mien.analyze(image).table
    assert (seen.status == "no_face").all()


def test_faces_that_were_found_upside_down_in_real_film(detector, shared):
    source = mien.sources.open_source(shared / "media" / "odd" / "upside_down.mp4")
    for frame in source.frames(0.5):
        found = detector.find(frame.pixels)
        assert found  # so sure is the search of a face that is not there
        assert upright_only(detector, frame.pixels, found) == []


def test_film_that_is_upright_needs_nothing(films):
    analysis = mien.analyze(films / "0.mp4")
    assert (analysis.table.status == "ok").all()
    assert analysis.notes == []
    assert mien.analyze(films / "0.mp4", rotate="auto").table.equals(analysis.table)


@pytest.mark.parametrize("degrees", TURNS)
def test_turned_film_is_told_and_turned(films, degrees):
    path = films / f"{degrees}.mp4"
    plain = mien.analyze(path)
    assert not (plain.table.status == "ok").any()
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
    numbers = upright.select_dtypes("float32").columns.drop(
        ["box_x", "box_y", "box_w", "box_h", "confidence"]
    )
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
    assert upright_only(detector, last, detector.find(last))


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
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


def test_samples_are_few_and_ever_further_apart(detector):
    searched = []

    class Counting:
        least = detector.least

        def find(self, image):
            searched.append(image.shape)
            return []

        def follow(self, image, boxes):
            return [None] * len(boxes)

    sampler = TurnSampler(Counting())
    times = [index / 25 for index in range(25 * 600)]
    taken = []
    for time_s in times:
        before = len(searched)
        sampler.add(np.zeros((40, 60, 3), np.uint8), time_s, upright=False)
        if len(searched) > before:
            taken.append(time_s)
    assert len(taken) == SAMPLES
    assert sampler.done
    assert sampler.turn == 0
    assert np.all(np.diff(taken)[1:] > 1.9 * np.diff(taken)[:-1])

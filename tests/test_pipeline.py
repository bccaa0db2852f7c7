"""Reading in threads and batches, against frames that are read one after another."""

import cv2
import numpy as np
import pytest

import mien
from mien.analysis.cutting import Cutting, batches
from mien.analysis.options import QUALITY
from mien.analysis.quality import load_judge
from mien.bundles.store import load_detector
from mien.faces.lookback import look_back
from mien.faces.sharpness import MEASURED, luma_of
from mien.faces.track import Tracker
from mien.records import Face
from mien.sources import open_source


@pytest.fixture(scope="module")
def pictures(face):
    """16 frames of 320x160: two faces side by side that move; the frame in the middle is blank."""
    portrait = cv2.resize(face, (160, 160), interpolation=cv2.INTER_AREA)
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    frames = [np.roll(pair, (step, 2 * step), axis=(0, 1)) for step in range(16)]
    frames[8] = np.full_like(pair, 90)
    return [(step / 25, frame) for step, frame in enumerate(frames)]


def one_after_another(pictures):
    """Frame, box, scores and quality of each face, each network called once per face."""
    model, judge = mien.load(), load_judge(QUALITY, "auto")
    frames = open_source(pictures).frames()
    for frame, faces in look_back(frames, Tracker(load_detector())):
        for at in faces:
            scores = model.score_cuts([model.cut(frame.pixels, at)])
            [quality] = judge.judge([judge.cut(frame.pixels, at)], scores)
            yield frame.index, at, scores, quality


def test_threads_and_batches_change_no_number(pictures):
    readings = list(mien.analyze(pictures, stream=True, abstain=False))
    assert [reading.frame for reading in readings] == sorted(reading.frame for reading in readings)
    read = [reading for reading in readings if reading.face is not None]
    plain = list(one_after_another(pictures))
    assert len(read) == len(plain) > 16
    assert {8} == set(range(16)) - {reading.frame for reading in read}
    for reading, (frame, at, scores, quality) in zip(read, plain, strict=True):
        assert (reading.frame, reading.face.box, reading.face.track) == (frame, at.box, at.track)
        for family, values in scores.items():
            np.testing.assert_allclose(reading.scores[family], values[0], atol=1e-3)
        for family, values in quality.scores.items():
            np.testing.assert_allclose(reading.quality.scores[family], values, atol=1e-2)
        measures = (reading.quality.sharpness, reading.quality.light)
        assert measures == (quality.sharpness, quality.light)


def test_batches_hold_enough_faces_and_not_too_many_frames():
    counts = [3, 0, 9, 5, *[0] * 70, 40, 1]
    found = [Cutting(count, None) for count in counts]
    parts = list(batches(iter(found), 16))
    assert [cutting.faces for part in parts for cutting in part] == counts
    assert [len(part) for part in parts] == [4, 64, 7, 1]


def test_a_crop_that_is_measured_as_a_network_sees_it_is_made_once(face):
    points = np.array([[200.0, 110], [245, 112], [222, 140], [205, 160], [243, 161]])
    at = Face((180.0, 70.0, 90.0, 110.0), points, 0.9)
    model = mien.load()
    assert model.pixels[0].geometry == MEASURED.geometry
    [crop] = model.cut(face, at)
    np.testing.assert_array_equal(luma_of(face, at, crop), luma_of(face, at))

"""What objects say of themselves: short, on one line, and about what matters."""

from pathlib import Path

import numpy as np
import pytest

import mien
from mien.batch.inputs import Job
from mien.batch.outcome import Outcome
from mien.bundles.store import open_bundle
from mien.records import Face, Frame, Reading, Status

FACE = Face((10.123, 20, 30, 40), np.zeros((5, 2)), 0.987, 3)
SCORES = {"va": np.array([0.5, -0.25]), "au": np.linspace(0, 1, 16, dtype="f4")}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            Frame(np.zeros((36, 64, 3), np.uint8), 0.4, 10, "a.mp4"),
            "Frame(pixels=(36, 64, 3), time_s=0.4, index=10, source='a.mp4')",
        ),
        (Frame(None, 0.4, 10, "a.mp4"), "Frame(pixels=None, time_s=0.4, index=10, source='a.mp4')"),
        (FACE, "Face(box=(10.1, 20.0, 30.0, 40.0), points=(5, 2), confidence=0.99, track=3)"),
        (
            Reading("a.mp4", 10, 0.4, Status.ok, FACE, SCORES, {}),
            "Reading('a.mp4', frame=10, time_s=0.4, status=ok, "
            "face=Face(box=(10.1, 20.0, 30.0, 40.0), points=(5, 2), confidence=0.99, track=3), "
            "scores={'va': [0.50, -0.25], 'au': [0.00, 0.07, 0.13, … 16]})",
        ),
        (
            Reading("a", 0, 0.0, Status.no_face, None, {}, {}),
            "Reading('a', frame=0, time_s=0, status=no_face, face=None, scores={})",
        ),
        (mien.Options(), "Options()"),
        (mien.Options(faces=2, compounds=True), "Options(faces=2, compounds=True)"),
        (
            mien.Smoothing(0.1),
            "Smoothing(seconds=0.1, kernel='gaussian', causal=False, longest_gap_s=0.5, keep=('AU45',); 0.235 s wide at half maximum)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_records_and_options(value, said):
    assert repr(value) == said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            Outcome(
                Job("sub-01/clip", ("a.mp4",)),
                files=[Path("out/sub-01/clip.csv")],
                tracks={("a.mp4", 0), ("a.mp4", 1)},
                frames=24,
            ),
            "Outcome('sub-01/clip', done: 24 frames, 2 faces, clip.csv)",
        ),
        (
            Outcome(Job("a", ("a.mp4",)), "failed", problems=["a: x", "b"]),
            "Outcome('a', failed: a: x, 1 more problem)",
        ),
        (Outcome(Job("a", ("a.mp4",)), "skipped"), "Outcome('a', skipped)"),
        (
            Outcome(Job("a", ("a.mp4",)), "left", left_to="a is written by 7"),
            "Outcome('a', left: a is written by 7)",
        ),
    ],
    ids=lambda value: getattr(value, "state", None),
)
def test_outcomes(outcome, said):
    assert repr(outcome) == said


def test_networks():
    bundle, model = open_bundle("mien-s"), mien.load("mien-s", "onnxruntime")
    assert (
        repr(model)
        == "Model('mien-s': expr.ferplus8 (8), va (2), au.blendshapes (16); onnxruntime)"
    )
    for told in (
        repr(bundle),
        repr(bundle.card),
        str(bundle.card),
        repr(open_bundle("mien-face").card),
    ):
        assert bundle.card.sha256[:12] in told or "mien-face" in told
        assert len(told) < 400
        assert "\n" not in told


def test_an_analysis_before_and_after_it_is_read(face, tmp_path):
    analysis = mien.analyze(face)
    assert "by mien-s: not kept in memory" in repr(analysis)
    assert ".table" in analysis._repr_html_()
    assert len(analysis.table) == 1
    assert repr(analysis).endswith("by mien-s: 1 row)")
    assert "<table" in analysis._repr_html_()
    assert "happiness" in analysis._repr_html_()

"""Values that could mislead, as people meet them on the command line and in the dictionary."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.data.images import read_picture
from mien.data.label_table import labels
from mien.data.sets.ferplus import EXPR, load_ferplus
from mien.temporal.widths import BEARABLE_S, OTHER_S


def run(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


def dictionary(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_too_wide_a_smoothing_is_noted_once_and_fails_nothing(photo, clip, tmp_path):
    code, said = run("analyze", photo, clip, "--out", tmp_path, "--smooth", "0.3", "--every", "0.2")
    assert code == 0
    told = "short events lose more than half of their height above 0.15 s in AU25, AU26, above 0.2 s in AU07"
    assert said.count(f"smoothing is 0.3 s wide at half maximum; {told}") == 1
    for name in ("eileen", "clip"):
        (note,) = [
            note
            for note in dictionary(tmp_path / f"{name}.dictionary.json")["notes"]
            if "smoothing" in note
        ]
        assert "AU45" not in note


def test_the_advised_smoothing_is_no_more_than_any_column_bears(photo, tmp_path):
    advised = re.search(
        r"--smooth (0\.\d+)",
        (ROOT / "docs" / "start" / "quickstart.md").read_text(encoding="utf-8"),
    )[1]
    assert float(advised) <= min(*BEARABLE_S.values(), OTHER_S, 0.15)
    code, said = run("analyze", photo, "--out", tmp_path, "--smooth", advised)
    assert code == 0
    assert "note" not in said


def test_help_says_how_smoothing_is_measured():
    text = " ".join(run("analyze", "--help")[1].replace("│", " ").split())
    assert "full width at half maximum" in text
    assert "AU45 stays as it is" in text


def test_compounds_on_the_command_line(photo, tmp_path):
    for flags, count in (((), 0), (("--compounds",), 7)):
        run("analyze", photo, "--out", tmp_path / str(count), *flags)
        table = mien.read_table(tmp_path / str(count) / "eileen.csv")
        assert sum(name.startswith("ce_") for name in table) == count
    assert table.loc[0, "expr_happiness"] > 0.95
    assert table.loc[0, "ce_happily_surprised"] < 0.05
    (entry,) = [
        c for c in table.attrs["dictionary"]["columns"] if c["name"] == "ce_happily_surprised"
    ]
    assert (entry["unit"], entry["range"]) == ("score", [0.0, 0.5])


def test_a_photo_whose_name_is_a_formula(face, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(face).save("=cmd.png")
    code, _ = run("analyze", "=cmd.png", "--out", "out")
    assert code == 0
    assert (
        (tmp_path / "out" / "=cmd.csv")
        .read_text(encoding="utf-8")
        .splitlines()[1]
        .startswith("'=cmd.png,")
    )
    assert mien.read_table("out/=cmd.csv")["source"].tolist() == ["=cmd.png"]


def test_live_smoothing_is_said_to_be_half_as_wide(face, tmp_path):
    frames = ((k / 25, face) for k in range(3))
    path = mien.analyze(frames, live=True, smoothing=0.3).save(tmp_path / "live.csv")
    by_name = {c["name"]: c for c in dictionary(path.with_suffix(".dictionary.json"))["columns"]}
    assert by_name["AU12"]["fwhm_s"] == pytest.approx(0.15)


def test_shares_of_real_faces_are_nearer_by_probabilities_than_by_labels(shared):
    table = load_ferplus(shared / "data", "valid").iloc[::6]
    scores = mien.load("mien-s", "onnxruntime").score(
        [read_picture(content) for content in table["image"]]
    )["expr"]
    votes = labels(table, EXPR).mean(axis=0)
    called = np.eye(8)[scores.argmax(axis=1)].mean(axis=0)
    assert np.abs(scores.mean(axis=0) - votes).sum() < np.abs(called - votes).sum()
    assert called[EXPR.names.index("contempt")] < 0.001


def test_the_form_in_use_is_the_one_that_was_measured_best():
    measured = json.loads((ROOT / "bench" / "results" / "values.json").read_text(encoding="utf-8"))[
        "compounds"
    ]
    assert measured["chosen"].startswith("harmonic mean")
    assert "harmonic mean" in mien.Reader(compounds=True).columns()[-1].meaning

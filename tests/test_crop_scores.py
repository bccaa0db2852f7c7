"""`mien score`: faces of a Parquet table, cut out already."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.demo import portrait
from mien.errors import BundleError, DataError
from mien.evaluation import crop_scores
from mien.evaluation.crop_scores import CropScorer, score_crops


def crops(folder, count, points=True):
    """A table of pictures that differ in brightness, and those pictures."""
    picture = portrait()
    [face] = mien.analyze(picture).readings()
    pictures = [np.clip(picture * (1 - row / 20), 0, 255).astype(np.uint8) for row in range(count)]
    encoded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in pictures]
    table = {"name": [f"face {row}" for row in range(count)], "image": encoded}
    if points:
        table["points"] = [face.face.points.ravel().tolist()] * count
    path = folder / "crops.parquet"
    pq.write_table(pa.table(table), path)
    return path, pictures, face.face.points


@pytest.mark.parametrize("points", [True, False], ids=["points", "whole"])
def test_scores_are_those_of_the_bundle_in_the_order_of_the_rows(tmp_path, monkeypatch, points):
    monkeypatch.setattr(crop_scores, "_BATCH", 2)
    path, pictures, five = crops(tmp_path, 5, points)
    seen = []
    out = tmp_path / "scores.parquet"
    counts = score_crops(path, out, "mien-xs", progress=lambda *done: seen.append(done))
    assert (counts.rows, counts.unreadable) == (5, 0)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    scores = pq.read_table(out).to_pandas()
    expected = mien.load("mien-xs").score(pictures, np.array([five] * 5) if points else None)
    assert scores["name"].tolist() == [f"face {row}" for row in range(5)]
    assert "image" not in scores
    np.testing.assert_allclose(scores[["valence", "arousal"]], expected["va"], atol=1e-6)
    for task in mien.load("mien-xs").tasks:
        np.testing.assert_allclose(scores[list(task.columns)], expected[task.family], atol=1e-6)
    facts = json.loads((tmp_path / "scores.dictionary.json").read_text())
    assert [entry["name"] for entry in facts["columns"]] == list(scores.columns)[1:]


def test_a_picture_that_cannot_be_read_keeps_its_row(tmp_path):
    path, _, _ = crops(tmp_path, 2)
    table = pq.read_table(path).to_pydict()
    table["image"][0] = b"no picture"
    pq.write_table(pa.table(table), path)
    out = tmp_path / "scores.parquet"
    assert score_crops(path, out, "mien-xs").unreadable == 1
    scores = pq.read_table(out).to_pandas()
    assert scores["status"].tolist() == ["unreadable", "ok"]
    assert scores["valence"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"picture": [b""]}, "has no column image; it has picture"),
        ({"image": [b""], "valence": [0.5]}, "columns that the scores have, too: valence"),
        ({"image": pa.array([], pa.binary())}, "has no rows"),
        ({"image": [b""], "points": [[1.0, 2.0]]}, "10 finite numbers"),
    ],
)
def test_tables_that_cannot_be_scored_leave_nothing(tmp_path, table, message):
    path = tmp_path / "crops.parquet"
    if table["image" if "image" in table else "picture"] == [b""] and "points" in table:
        table["image"] = [cv2.imencode(".png", portrait())[1].tobytes()]
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=message):
        score_crops(path, tmp_path / "scores.parquet", "mien-xs")
    assert [entry.name for entry in tmp_path.iterdir()] == ["crops.parquet"]


def test_the_row_of_wrong_points_is_that_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(crop_scores, "_BATCH", 2)
    path, _, _ = crops(tmp_path, 4)
    table = pq.read_table(path).to_pydict()
    table["points"][3] = [1.0]
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match="row 3 of the label table"):
        score_crops(path, tmp_path / "scores.parquet", "mien-xs")


def test_scores_never_replace_the_pictures(tmp_path):
    path, _, _ = crops(tmp_path, 1)
    before = path.read_bytes()
    with pytest.raises(DataError, match="is the table of pictures"):
        score_crops(path, path, "mien-xs")
    assert path.read_bytes() == before


def test_another_version_of_the_bundle_is_refused():
    with pytest.raises(BundleError, match="this worker has another version"):
        CropScorer("mien-xs", "auto", "0" * 64)


# Ray Data warns of what it uses itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_on_a_ray_cluster_the_scores_are_the_same(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(crop_scores, "_BATCH", 2)
    path, _, _ = crops(tmp_path, 7)
    score_crops(path, tmp_path / "here.parquet", "mien-xs")
    score_crops(path, tmp_path / "ray.parquet", "mien-xs", ray="local")
    here, there = pq.read_table(tmp_path / "here.parquet"), pq.read_table(tmp_path / "ray.parquet")
    assert here.equals(there)


def test_the_command_says_what_it_did(tmp_path):
    path, _, _ = crops(tmp_path, 1)
    out = tmp_path / "scores.parquet"
    result = CliRunner().invoke(app, ["score", str(path), "--out", str(out), "--bundle", "mien-xs"])
    assert result.exit_code == 0
    assert result.stdout.endswith("scores.parquet: 1 rows\n")
    result = CliRunner().invoke(app, ["score", str(tmp_path / "none.parquet"), "--out", str(out)])
    assert result.exit_code == 1
    assert "cannot be read as Parquet" in result.stderr

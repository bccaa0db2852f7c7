"""Formats of other programs beside the tables of `mien analyze`: with them, or not at all."""

import json
import shutil

import av
import pandas as pd
import pytest
from noise import film, photo
from typer.testing import CliRunner

import mien
from mien import batch
from mien.cli import app
from mien.demo import portrait
from mien.errors import MissingExtraError, UnknownNameError
from mien.exports import beside
from mien.exports.beside import Exports
from mien.exports.convert import TARGETS, convert
from mien.outputs.tables import FOREIGN, FORMATS

WHOLE = [name for name in TARGETS if name not in FORMATS and name not in FOREIGN]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four frames of a face."""
    path = tmp_path_factory.mktemp("films") / "sub-7" / "task-rest.mp4"
    path.parent.mkdir()
    face = portrait()
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 512
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(face, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory):
    """All formats, in one run."""
    pytest.importorskip("pympi")
    pytest.importorskip("openpyxl")
    pytest.importorskip("pyreadstat")
    out = tmp_path_factory.mktemp("made")
    formats, exporter = Exports.split(["parquet", *WHOLE], out)
    (outcome,) = batch.run([clip.parent.parent], out, formats=formats, exporter=exporter)
    assert outcome.state == "done", outcome.problems
    return out, outcome


def by_name(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name: path for path in files}


def test_files_are_those_that_convert_makes(made, tmp_path):
    out, outcome = made
    table = out / "sub-7" / "task-rest.parquet"
    convert(table, WHOLE, tmp_path)
    ours = by_name(out)
    for name, expected in by_name(tmp_path).items():
        path = ours.pop(name)
        assert path in outcome.files
        # The others write down when they were made.
        if path.suffix in (".TextGrid", ".txt", ".json", ".tsv"):
            assert path.read_bytes() == expected.read_bytes(), name
        elif path.suffix == ".eaf":
            parts = [file.read_text().partition("<TIME_ORDER")[2] for file in (path, expected)]
            assert parts[0] == parts[1]
        elif path.suffix == ".xlsx":
            pd.testing.assert_frame_equal(pd.read_excel(path), pd.read_excel(expected))
        elif path.suffix in (".sav", ".dta"):
            read = pd.read_stata if path.suffix == ".dta" else pd.read_spss
            pd.testing.assert_frame_equal(read(path), read(expected))
    assert set(ours) == {"task-rest.parquet", "task-rest.dictionary.json"}
    page = json.loads(ours["task-rest.dictionary.json"].read_text())
    assert page["formats"] == ["parquet", *WHOLE]
    assert mien.read_table(table).shape[0] == sum(outcome.rows.values())


def test_they_are_made_again_where_one_is_missing_and_removed_where_none_is_asked_for(
    clip, tmp_path
):
    def analyze(*names):
        formats, exporter = Exports.split(names, tmp_path)
        (outcome,) = batch.run([clip], tmp_path, formats=formats, exporter=exporter)
        return outcome

    praat = tmp_path / "task-rest.TextGrid"
    assert analyze("textgrid", "mne").state == "done"
    # What is read back is a table of mien's own.
    assert (tmp_path / "task-rest.csv").is_file()
    assert analyze("textgrid", "mne").state == "skipped"
    praat.unlink()
    assert analyze("textgrid", "mne").state == "done"
    assert praat.is_file()
    assert analyze("csv").state == "done"
    assert not praat.exists()
    praat.write_text("somebody's own")
    outcome = analyze("csv", "textgrid")
    assert outcome.state == "failed"
    assert "may hold somebody's work" in outcome.problems[0]
    assert praat.read_text() == "somebody's own"


def test_what_bids_cannot_name_is_told_before_it_is_read(tmp_path):
    path = film(tmp_path / "films" / "clip.mp4")
    out = tmp_path / "out"
    formats, exporter = Exports.split(["csv", "bids"], out)
    (outcome,) = batch.run([path], out, formats=formats, exporter=exporter)
    assert outcome.state == "failed"
    assert "convert --to bids --subject" in outcome.problems[0]
    assert not list(out.rglob("*.csv"))


def test_films_with_the_labels_of_another_do_not_replace_its_bids_files(clip, tmp_path):
    folder = tmp_path / "in" / "sub-7"
    folder.mkdir(parents=True)
    for run in (1, 2):
        shutil.copy(clip, folder / f"task-rest_run-{run}.mp4")
    for names in (["csv", "bids"], ["parquet", "bids"]):
        formats, exporter = Exports.split(names, tmp_path / "out")
        first, second = batch.run(
            [folder.parent], tmp_path / "out", formats=formats, exporter=exporter
        )
        assert (first.state, second.state) == ("done", "failed"), first.problems
        assert "_events.tsv: is there already" in second.problems[0]


def test_photos_beside_films_keep_their_table(tmp_path):
    photo(tmp_path / "album" / "a.png")
    photo(tmp_path / "album" / "b.png", 1)
    out = tmp_path / "out"
    formats, exporter = Exports.split(["csv", "textgrid", "xlsx"], out)
    (outcome,) = batch.run([tmp_path / "album"], out, formats=formats, exporter=exporter)
    assert outcome.state == "done"
    assert "not written as textgrid" in "".join(outcome.notes)
    assert set(by_name(out)) == {"album.csv", "album.xlsx", "album.dictionary.json"}


def test_a_film_with_nobody_in_it_keeps_its_table(tmp_path):
    film(tmp_path / "films" / "sub-1" / "task-rest.mp4")
    out = tmp_path / "out"
    formats, exporter = Exports.split(["csv", "bids", "mne"], out)
    (outcome,) = batch.run([tmp_path / "films"], out, formats=formats, exporter=exporter)
    assert outcome.state == "done", outcome.problems
    assert "not written as bids" in "".join(outcome.notes)
    assert set(by_name(out)) >= {"task-rest.csv", "task-rest.annotations.txt"}
    page = json.loads(by_name(out)["task-rest.dictionary.json"].read_text())
    assert page["notes"] == outcome.notes


def test_formats_that_do_not_exist_or_lack_their_library_are_named(clip, tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="xlsx"):
        Exports.split(["xlsxx"], tmp_path)
    assert Exports.split(["csv:de", "csv"], tmp_path) == (("csv:de", "csv"), None)
    monkeypatch.setattr(beside, "find_spec", lambda name: None)
    for name in ("eaf", "textgrid", "bids"):
        with pytest.raises(MissingExtraError, match="exports"):
            Exports.split([name], tmp_path)
    result = CliRunner().invoke(
        app, ["analyze", str(clip), "--out", str(tmp_path), "--format", "elan"]
    )
    assert result.exit_code == 2
    assert "eaf" in result.output

"""Exports: every format is read back with a reader of its own program and compared with the table."""

import csv
import gzip
import json
import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import MissingExtraError, OutputError, TableError, UnknownNameError
from mien.exports import convert as convert_module
from mien.exports import statistics, workbook
from mien.exports.bids import Entities, resampled
from mien.exports.convert import TARGETS, convert
from mien.exports.intervals import intervals
from mien.exports.recording import Recording
from mien.exports.study_folder import with_participants
from mien.outputs.columns import Column, columns
from mien.outputs.dictionary import write_dictionary
from mien.outputs.tables import FOREIGN, TableWriter
from mien.records import Face, Quality, Reading, Status
from mien.study.episodes.segments import find_segments
from mien.study.project.run import run_study
from mien.study.rows.people import People, participant_rows
from mien.tasks import TASKS, Task
from mien.temporal.readings import Smoothing

RATE = 25.0
UNITS = Task("au.test", ("AU01", "AU02", "AU12", "AU18", "AU25", "AU28", "AU45"), "any_of")
TASKS_USED = (TASKS["expr.ferplus8"], TASKS["va"], UNITS)
COLUMNS = columns(TASKS_USED, Smoothing(0.1))
SCORES = ["valence", "arousal", "AU12", "AU45"]
OPTIONAL = {
    "xlsx": "openpyxl", "boris": "openpyxl", "sav": "pyreadstat", "dta": "pyreadstat",
    "eaf": "pympi", "textgrid": "pympi", "mne": "mne",
}  # fmt: skip


def readings(source, frames=60, faces=2):
    """A film: two people, the second comes late and is lost for a while; frames without anybody."""
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.normal(0, 0.06, (frames, faces, 40)), axis=0)
    for frame in range(frames):
        time_s = frame / RATE
        if frame in (20, 21, 40):
            status = Status.unreadable if frame == 40 else Status.no_face
            yield Reading(source, frame, time_s, status, None, {}, {})
            continue
        for face in range(faces):
            if face == 1 and (frame < 10 or 30 <= frame < 35):
                continue
            values = smooth[frame, face]
            expr = np.exp(values[:8] * 6)
            scores = {
                "expr": (expr / expr.sum()).astype("f4"),
                "va": np.tanh(values[8:10]).astype("f4"),
                "au": (1 / (1 + np.exp(-6 * values[10:17]))).astype("f4"),
            }
            box = (10.0 + face, 20.5, 100.0, 120.0)
            status = Status.gap if frame in (25, 26) else Status.ok
            confidence = 0.5 if face and 50 <= frame < 54 else 0.9
            box_face = Face(box, np.zeros((5, 2)), confidence, face)
            yield Reading(source, frame, time_s, status, box_face, scores, scores)


def write(folder, rows, table=COLUMNS, name="clip", path=None):
    folder.mkdir(parents=True, exist_ok=True)
    with TableWriter(folder / name, ["csv", "parquet"], table) as writer:
        writer.write(rows)
    facts = {
        "bundle": {"name": "mien-s", "sha256": "0" * 64},
        "options": {},
        "sources": [{"name": "clip.mp4", "path": path}],
        "tables": writer.facts(),
    }
    write_dictionary(folder / f"{name}.dictionary.json", table, facts)
    return folder / f"{name}.parquet"


@pytest.fixture
def film(tmp_path):
    return write(tmp_path / "made", readings("clip.mp4"), path=str(tmp_path / "films" / "clip.mp4"))


def only(folder, pattern):
    (path,) = folder.rglob(pattern)
    return path


def read_excel(folder):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(only(folder, "clip.xlsx"))
    rows = list(book["table"].values)
    described = {row[0]: row[-1] for row in book["dictionary"].values}
    assert described["AU12"] == next(c.meaning for c in COLUMNS if c.name == "AU12")
    return pd.DataFrame(rows[1:], columns=rows[0])


def read_statistics(folder, kind):
    pyreadstat = pytest.importorskip("pyreadstat")
    read = pyreadstat.read_sav if kind == "sav" else pyreadstat.read_dta
    table, meta = read(str(only(folder, f"clip.{kind}")))
    assert meta.column_names_to_labels["AU12"].startswith("Activation of action unit 12")
    texts = table.select_dtypes(exclude="number").columns
    return table.replace(dict.fromkeys(texts, ""), None)


# Formats that hold the whole table, and how their programs read it.
WHOLE = {
    "csv": lambda folder: mien.read_table(only(folder, "clip.csv")),
    "jsonl": lambda folder: mien.read_table(only(folder, "clip.jsonl")),
    "parquet": lambda folder: mien.read_table(only(folder, "clip.parquet")),
    "csv:de": lambda folder: pd.read_csv(
        only(folder, "clip.de.csv"), sep=";", decimal=",", encoding="utf-8-sig"
    ),
    "xlsx": read_excel,
    "sav": lambda folder: read_statistics(folder, "sav"),
    "dta": lambda folder: read_statistics(folder, "dta"),
}


def needs(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])


@pytest.mark.parametrize("name", WHOLE)
def test_whole_tables_come_back(tmp_path, film, name):
    needs(name)
    convert(film, name, tmp_path / "out")
    back, table = WHOLE[name](tmp_path / "out"), mien.read_table(film)
    assert list(back.columns) == list(table.columns)
    assert (back.isna().to_numpy() == table.isna().to_numpy()).all()
    for column in COLUMNS:
        values, expected = back[column.name].dropna(), table[column.name].dropna()
        if column.dtype == "str":
            assert values.tolist() == expected.tolist()
        else:
            np.testing.assert_allclose(values.astype(float), expected.astype(float), atol=0.00501)


def test_openface(tmp_path, film):
    convert(film, "openface", tmp_path, intensities=True)
    back, table = pd.read_csv(tmp_path / "clip.openface.csv"), mien.read_table(film)
    # OpenFace's own order, however many columns are left out.
    names = list(back.columns)
    assert names[:5] == ["frame", "face_id", "timestamp", "confidence", "success"]
    intensities = [name for name in names if name.endswith("_r")]
    presences = [name for name in names if name.endswith("_c")]
    assert names[5:] == intensities + presences
    assert intensities == sorted(intensities)
    assert presences[-2:] == ["AU28_c", "AU45_c"]
    assert "AU28_r" not in names
    # Frames count from 1; a frame without a face stays, with empty fields rather than zeros.
    assert (back["frame"] == table["frame"] + 1).all()
    np.testing.assert_allclose(back["timestamp"], table["time_s"], atol=1e-6)
    assert (back["success"] == (table["status"] == "ok")).all()
    empty = back[table["face"].isna()]
    assert len(empty) == 3
    assert empty.drop(columns=["frame", "timestamp", "success"]).isna().all(axis=None)
    np.testing.assert_allclose(back["AU12_r"], 5 * table["AU12"], atol=6e-4)
    known = table["AU12"].notna()
    assert (back["AU12_c"][known] == (table["AU12"][known] >= 0.5)).all()
    described = json.loads((tmp_path / "clip.openface.dictionary.json").read_text())
    meaning = next(entry["meaning"] for entry in described["columns"] if entry["name"] == "AU12_r")
    assert "no FACS intensity" in meaning
    convert(film, "openface", tmp_path / "plain")
    plain = pd.read_csv(tmp_path / "plain" / "clip.openface.csv")
    assert not [name for name in plain if name.endswith("_r")]


def test_openface_has_the_pose_in_radians_with_its_own_signs(tmp_path):
    """Its axes point right, down and away: a face (the axis towards us) that looks up or right turns against them."""
    judged = Quality(40.0, 0.5, 0.5, {"pose": np.array([30.0, 10.0, -20.0])})
    rows = [replace(row, quality=judged if row.face else None) for row in readings("a.mp4", 4)]
    rows[1] = replace(rows[1], status=Status.doubtful)
    stem = tmp_path / "a"
    with TableWriter(
        stem, ["openface"], columns(TASKS_USED, quality=[TASKS["pose.angles"]])
    ) as writer:
        writer.write(rows)
    back = pd.read_csv(tmp_path / "a.openface.csv")
    assert list(back)[5:8] == ["pose_Rx", "pose_Ry", "pose_Rz"]
    pitch, yaw, roll = back.loc[0, ["pose_Rx", "pose_Ry", "pose_Rz"]]
    towards_us = rotation(0, pitch) @ rotation(1, yaw) @ rotation(2, roll) @ (0, 0, -1)
    assert towards_us[0] > 0.3  # to the right of the picture
    assert towards_us[1] < 0  # and up
    assert np.degrees(roll) == pytest.approx(-20, abs=0.1)
    assert back["success"].tolist() == [int(row.status is Status.ok) for row in rows]


def rotation(axis, angle):
    """The rotation matrix of `Utilities::Euler2RotationMatrix` for one axis."""
    c, s = np.cos(angle), np.sin(angle)
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    sign = -1 if axis == 1 else 1
    matrix[first, second], matrix[second, first] = -sign * s, sign * s
    return matrix


def test_openface_refuses_several_recordings(tmp_path):
    rows = [*readings("a.mp4", 30), *readings("b.mp4", 30)]
    film = write(tmp_path / "made", rows)
    with pytest.raises(OutputError, match=r"one recording, not 'a.mp4' and 'b.mp4'"):
        convert(film, ["fex", "openface"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


FEX_EMOTIONS = ["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger"]


def test_fex(tmp_path, film):
    convert(film, "fex", tmp_path)
    path = tmp_path / "clip.fex.csv"
    back, table = pd.read_csv(path), mien.read_table(film)
    # Py-Feat takes every column with these letters for an action unit.
    units = [name for name in back if "AU" in name]
    assert units == [name for name in table if name.startswith("AU") and "raw" not in name]
    assert [name for name in back if name in FEX_EMOTIONS] == FEX_EMOTIONS
    assert not [name for name in back if "ontempt" in name]
    np.testing.assert_allclose(back["Happy"], table["expr_happiness"], atol=1e-5)
    np.testing.assert_allclose(back["AU12"], table["AU12"], atol=1e-5)
    np.testing.assert_allclose(back["FaceRectWidth"], table["box_w"], atol=0.01)
    assert back["Identity"].dropna().unique().tolist() == ["Person_0", "Person_1"]
    feat = pytest.importorskip("feat.utils.io", reason="py-feat is not installed")
    read = feat.read_feat(str(path))
    assert list(read.aus.columns) == units
    assert list(read.emotions.columns) == FEX_EMOTIONS


def runs_by_hand(rows, times, holds):
    """Spans of frames that follow one another, by a plain loop."""
    spans, last = [], None
    for time_s, label in zip(rows["time_s"], holds, strict=True):
        position = times.index(time_s)
        end = times[position + 1] if position + 1 < len(times) else time_s + 1 / RATE
        if label is not None and last == (position - 1, label):
            spans[-1][2] = end
        elif label is not None:
            spans.append([label, time_s, end])
        last = (position, label)
    return spans


def expected_tiers(film):
    """What every annotation program should show, by tier: segments as a study finds them, and unusable time."""
    table = mien.read_table(film)
    times = sorted(table["time_s"].unique())
    tiers = {}
    for face in (0, 1):
        who = {"participant": "x", "recording": "clip"}
        rows = participant_rows(table, who, People(faces="map", map={face: "x"}))
        for entry in find_segments(rows).itertuples():
            name = entry.name.removeprefix("expr_")
            spans = tiers.setdefault(f"face {face} {name}", [])
            spans.append([name, entry.onset_s, entry.offset_s])
        seen = table[(table["face"] == face).fillna(False)]
        unsure = ["low_confidence" if value < 0.6 else None for value in seen["confidence"]]
        tiers[f"face {face} unusable"] = runs_by_hand(seen, times, unsure)
    assert len(tiers) > 8
    nobody = table[table["face"].isna()]
    tiers["unusable"] = runs_by_hand(nobody, times, nobody["status"])
    return {name: spans for name, spans in tiers.items() if spans}


def same_spans(read, expected, tolerance):
    assert sorted(read) == sorted(expected)
    for name, spans in expected.items():
        assert [label for label, _, _ in read[name]] == [label for label, _, _ in spans]
        ours = [span[1:] for span in spans]
        theirs = [span[1:] for span in read[name]]
        np.testing.assert_allclose(theirs, ours, atol=tolerance, rtol=0)


def test_elan(tmp_path, film):
    pympi = pytest.importorskip("pympi")
    convert(film, "eaf", tmp_path / "elan")
    document = pympi.Elan.Eaf(str(tmp_path / "elan" / "clip.eaf"))
    read = {}
    for tier in document.get_tier_names():
        spans = sorted(document.get_annotation_data_for_tier(tier))
        read[tier] = [(label, start / 1000, end / 1000) for start, end, label, *_ in spans]
    same_spans(read, expected_tiers(film), 5e-4)
    (linked,) = document.get_linked_files()
    assert linked["MEDIA_URL"] == (tmp_path / "films" / "clip.mp4").as_uri()
    assert linked["RELATIVE_MEDIA_URL"] == "./../films/clip.mp4"
    assert linked["MIME_TYPE"] == "video/mp4"


def test_praat(tmp_path, film):
    pympi = pytest.importorskip("pympi")
    convert(film, "textgrid", tmp_path)
    grid = pympi.Praat.TextGrid(str(tmp_path / "clip.TextGrid"))
    read = {}
    for tier in grid.get_tiers():
        spans = sorted(tier.get_intervals())
        # Praat's tiers are filled from end to end.
        assert [spans[0][0], spans[-1][1]] == [0, pytest.approx(60 / RATE)]
        assert all(before[1] == after[0] for before, after in pairwise(spans))
        read[tier.name] = [(label, start, end) for start, end, label in spans if label]
    same_spans(read, expected_tiers(film), 1e-6)


def test_boris(tmp_path, film):
    openpyxl = pytest.importorskip("openpyxl")
    convert(film, "boris", tmp_path)
    rows = list(openpyxl.load_workbook(tmp_path / "clip.boris.xlsx").worksheets[0].values)
    assert rows[0] == ("time", "subject", "code", "modifier", "comment")
    times = [row[0] for row in rows[1:]]
    assert times == sorted(times)
    # State events come in pairs: of one subject and code, in turn begin and end.
    total = 0
    for spans in expected_tiers(film).values():
        total += sum(end - start for _, start, end in spans)
    events = pd.DataFrame(rows[1:], columns=rows[0])
    pairs = events.fillna("").groupby(["subject", "code"])["time"].agg(list)
    assert all(len(times) % 2 == 0 for times in pairs)
    assert sum(np.diff(times)[::2].sum() for times in pairs) == pytest.approx(total, abs=1e-4)


def test_mne(tmp_path, film):
    convert(film, "mne", tmp_path)
    lines = (tmp_path / "clip.annotations.txt").read_text().splitlines()
    assert lines[1] == "# onset, duration, description"
    expected = [span for spans in expected_tiers(film).values() for span in spans]
    assert len(lines) == 2 + len(expected)
    mne = pytest.importorskip("mne", reason="mne is not installed")
    read = mne.read_annotations(tmp_path / "clip.annotations.txt")
    np.testing.assert_allclose(read.onset, sorted(start for _, start, _ in expected), atol=1e-6)
    bad = [note for note in read.description if note.startswith("BAD")]
    assert bad == ["BAD_no_face", "BAD_unreadable"]
    assert {"face0/AU12", "face1/unusable/low_confidence"} <= set(read.description)


def read_physio(path):
    facts = json.loads(path.with_name(path.name.replace(".tsv.gz", ".json")).read_text())
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    cells = [row.split("\t") for row in rows]
    values = np.array([[np.nan if cell == "n/a" else float(cell) for cell in row] for row in cells])
    return facts, pd.DataFrame(values, columns=facts["Columns"])


def test_bids(tmp_path, film):
    convert(film, "bids", tmp_path, subject="01", task="talk")
    root = tmp_path / "derivatives" / "mien"
    described = json.loads((root / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0] == {"Name": "mien", "Version": mien.__version__}
    table = mien.read_table(film)
    for face in (0, 1):
        name = f"sub-01_task-talk_recording-face{face}_desc-affect_physio.tsv.gz"
        facts, back = read_physio(root / "sub-01" / "beh" / name)
        assert facts["SamplingFrequency"] == pytest.approx(RATE)
        assert facts["StartTime"] == 0
        assert facts["PhysioType"] == "generic"
        assert all("Description" in facts[column] for column in facts["Columns"])
        # The film's clock is even: samples are its frames.
        assert len(back) == 60
        rows = table[(table["face"] == face).fillna(False)].set_index("frame")[SCORES]
        expected = rows.reindex(range(60)).astype(float)
        np.testing.assert_allclose(back[SCORES], expected, atol=1e-5)
    events = pd.read_csv(
        only(root, "*_events.tsv"), sep="\t", na_values="n/a", keep_default_na=False
    )
    assert list(events.columns[:3]) == ["onset", "duration", "trial_type"]
    assert len(events) == sum(map(len, expected_tiers(film).values()))
    convert(film, "bids", tmp_path, subject="02", task="talk")
    with pytest.raises(OutputError, match="is there already"):
        convert(film, "bids", tmp_path, subject="02", task="talk")


def test_people_are_the_participants_of_the_study(tmp_path):
    pytest.importorskip("scipy")
    out = tmp_path / "out"
    table = write(out / "tables" / "sub-7", readings("clip.mp4"), name="rest")
    dictionary = table.with_suffix(".dictionary.json")
    content = json.loads(dictionary.read_text())
    dictionary.write_text(json.dumps(content | {"mien": mien.__version__}))
    settings = {
        "study": 1,
        "recordings": {"pattern": "out/tables/sub-{participant}/{condition}.parquet"},
        "people": {"faces": "seats", "seats": ["anna", "{participant}"]},
        "segments": {"on": 0.3, "least_s": 0.0},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(settings))
    assert not with_participants(Recording.open(table)).participants
    run_study(tmp_path / "study.yaml", out)
    named = with_participants(Recording.open(table))
    # Names are in natural order; face 0 is at the left.
    assert [participant.name for participant in named.participants] == ["7", "anna"]
    for number, face in ((0, 1), (1, 0)):
        assert (named.rows_of(number)["face"] == face).all()
        assert len(named.rows_of(number)) == (named.table["face"] == face).sum()
    stretches = intervals(named, "this")
    assert {stretch.who for stretch in stretches} == {"", "7", "anna"}
    # By the study's rules, not by those of a table that belongs to none.
    segments = pd.read_parquet(out / "segments.parquet")
    expected = {
        (row.participant, row.name.removeprefix("expr_"), row.onset_s, row.offset_s)
        for row in segments.itertuples(index=False)
    }
    shown = [stretch for stretch in stretches if stretch.who and stretch.tier != "unusable"]
    assert {(s.who, s.tier, s.start_s, s.end_s) for s in shown} == expected
    assert expected
    convert(table, ["bids", "parquet"], tmp_path / "converted", subject="7", task="rest")
    only(tmp_path / "converted", "*recording-person0*.tsv.gz")
    events = pd.read_csv(only(tmp_path / "converted", "*events.tsv"), sep="\t", dtype="str")
    assert set(events["who"].dropna()) == {"7", "anna"}
    assert "person" not in mien.read_table(tmp_path / "converted" / "rest.parquet")
    (out / "study.json").write_text("{}")
    with pytest.raises(TableError, match="run the study again"):
        convert(table, "bids", tmp_path / "more", subject="7", task="rest")
    assert not (tmp_path / "more").exists()


def test_bids_names_are_derivatives_only(tmp_path, film):
    validator = pytest.importorskip("bids_validator", reason="bids-validator is not installed")
    files = convert(film, "bids", tmp_path, subject="01", task="talk")
    root = tmp_path / "derivatives" / "mien"
    names = [f"/{path.relative_to(root).as_posix()}" for path in files]
    names = [name for name in names if name not in ("/README", "/.bidsignore")]
    checks = validator.BIDSValidator()
    # Raw names are not allowed in a derivative; without what makes them derived they are raw.
    assert [name for name in names if checks.is_bids(name)] == ["/dataset_description.json"]
    raw = [name.replace("_desc-affect", "") for name in names]
    assert all(map(checks.is_bids, raw))


def test_uneven_clocks_are_resampled(tmp_path):
    """A straight line stays one, at the mean rate of a clock in whole milliseconds."""
    rows = []
    for number, reading in enumerate(readings("clip.mp4", 90, faces=1)):
        time_s = round(number / 30, 3) + (2.0 if number >= 60 else 0.0)
        line = np.float32(time_s / 10)
        scores = {**reading.scores, "va": np.array([line, -line])}
        rows.append(replace(reading, time_s=time_s, scores=scores if reading.face else {}))
    recording = Recording.open(write(tmp_path, rows))
    chosen = [column for column in recording.columns if column.name == "valence"]
    rate, values = resampled(recording, 0, chosen, recording.film("test"))
    assert rate == pytest.approx(30, rel=1e-3)
    times = np.arange(len(values)) / rate
    known = ~np.isnan(values[:, 0])
    np.testing.assert_allclose(values[known, 0], times[known] / 10, atol=1e-4)
    # Nothing is made up in the two seconds without frames.
    assert not known[(times > 2.0) & (times < 3.98)].any()
    assert known.mean() > 0.5


def test_a_session_and_labels_come_from_the_path():
    path = Path("/study/sub-07/ses-b/sub-07_ses-b_task-rest.csv")
    entities = Entities.of(path, None, None)
    assert entities.name("events.tsv") == "sub-07_ses-b_task-rest_events.tsv"
    assert entities.folder == Path("sub-07/ses-b/beh")
    with pytest.raises(ValueError, match="names none; give --task"):
        Entities.of(Path("/study/sub-07/clip.csv"), None, None)
    with pytest.raises(ValueError, match="not 'p-1'; give --subject"):
        Entities.of(path, "p-1", None)


def test_parquet_is_complete_by_itself(tmp_path, film):
    convert(film.with_suffix(".csv"), "parquet", tmp_path / "out")
    (alone,) = (tmp_path / "out").iterdir()
    back = mien.read_table(alone)
    dictionary = back.attrs["dictionary"]
    assert dictionary["bundle"]["name"] == "mien-s"
    assert "tables" not in dictionary
    for path in (alone, film):
        field = pq.read_schema(path).field("box_x")
        assert field.metadata[b"unit"] == b"pixels"
        assert field.metadata[b"meaning"].startswith(b"Left edge")


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_formats_are_streamed_too(tmp_path, film, name):
    convert(film, name, tmp_path / "converted")
    with TableWriter(tmp_path / "clip", [name], COLUMNS) as writer:
        writer.write(readings("clip.mp4"))
    path = tmp_path / f"clip.{FOREIGN[name].suffix}"
    assert path.read_bytes() == (tmp_path / "converted" / path.name).read_bytes()


def test_photos_have_no_timeline(tmp_path, photo):
    table = mien.analyze(photo).save(tmp_path / "photo.csv")
    for name in ("eaf", "textgrid", "boris", "mne", "bids"):
        with pytest.raises(TableError, match="holds no film"):
            convert(table, name, tmp_path / "out", subject="1", task="x")
    assert not any((tmp_path / "out").rglob("*.*"))
    assert convert(table, "openface", tmp_path / "out")


def test_analyze_writes_foreign_formats_and_knows_them(tmp_path, photo):
    for state in ("done", "skipped"):
        (outcome,) = mien.analyze_many([photo], tmp_path, formats=["csv:de", "fex"])
        assert outcome.state == state
    assert (tmp_path / "eileen.de.csv").is_file()
    assert (tmp_path / "eileen.fex.csv").is_file()
    with pytest.raises(UnknownNameError, match="no format named 'fex'; did you mean"):
        mien.analyze(photo).save(tmp_path / "x.fex")


def test_nothing_is_replaced_unasked(tmp_path, film):
    folder = film.parent
    (folder / "clip.TextGrid").write_text("somebody's work")
    with pytest.raises(OutputError, match=r"clip.TextGrid: is there already.*--overwrite"):
        convert(film, ["fex", "textgrid"])
    assert (folder / "clip.TextGrid").read_text() == "somebody's work"
    assert not (folder / "clip.fex.csv").exists()
    convert(film, "textgrid", overwrite=True)
    assert "ooTextFile" in (folder / "clip.TextGrid").read_text()
    for name in ("csv", "parquet"):
        with pytest.raises(OutputError, match=r"is the table itself.*--out"):
            convert(film, name, overwrite=True)


def test_limits_are_refused_before_anything_is_written(tmp_path, film, monkeypatch):
    monkeypatch.setattr(workbook, "_MOST_ROWS", 100)
    with pytest.raises(TableError, match=r"an Excel sheet takes 99 and .*; choose parquet"):
        convert(film, ["csv", "xlsx"], tmp_path / "out" / "deep")
    assert not (tmp_path / "out" / "deep").exists()


@pytest.mark.parametrize(
    ("name", "sav", "dta"),
    [
        ("AU12", None, None),
        ("with", "no name of a variable", "no name of a variable"),
        ("if", None, "no name of a variable"),
        ("str8", None, "no name of a variable"),
        ("2nd", "no name of a variable", "no name of a variable"),
        ("two words", "no name of a variable", "no name of a variable"),
        ("a" * 33, None, "longer than 32 bytes"),
        ("ü" * 33, "longer than 64 bytes", "longer than 32 bytes"),
        ("VALENCE", "by capitals only", None),
    ],
)
def test_names_of_variables(name, sav, dta):
    named = (Column("valence", "float32", ""), Column(name, "float32", ""))
    recording = Recording(Path("t.csv"), pd.DataFrame(), {}, named)
    for kind, problem in (("sav", sav), ("dta", dta)):
        if problem is None:
            statistics.check_statistics(recording, kind)
        else:
            with pytest.raises(TableError, match=rf"{problem}.*; choose parquet or csv"):
                statistics.check_statistics(recording, kind)


def test_no_text_is_a_formula(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    film = write(tmp_path / "made", readings("=1+1", 30))
    convert(film, ["xlsx", "csv:de", "fex"], tmp_path)
    cell = openpyxl.load_workbook(tmp_path / "clip.xlsx")["table"]["A2"]
    assert (cell.value, cell.data_type) == ("=1+1", "s")
    for name, delimiter in (("clip.de.csv", ";"), ("clip.fex.csv", ",")):
        with (tmp_path / name).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        assert {row.get("source") or row.get("input") for row in rows} == {"'=1+1"}


@pytest.mark.parametrize("name", ["xlsx", "sav", "eaf", "textgrid"])
def test_a_missing_library_is_one_line(tmp_path, film, monkeypatch, name):
    for module in ("openpyxl", "pyreadstat", "pympi", "mien.study.episodes.segments"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "mien\[exports\]"'):
        convert(film, name, tmp_path / "out")


def test_command_line(tmp_path, film):
    out = tmp_path / "out"
    run = CliRunner().invoke(app, ["convert", str(film), "--to", "fex, mne", "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert sorted(os.listdir(out)) == [
        "clip.annotations.txt", "clip.fex.csv", "clip.fex.dictionary.json",
    ]  # fmt: skip
    for arguments, message in (
        ([str(film), "--to", "exel"], "no format named 'exel'"),
        ([str(film), "--to", " , "], "name at least one format"),
        ([str(film), "--to", "bids"], "BIDS needs a subject"),
        ([str(film), str(film), "--to", "fex"], "two tables are called clip"),
    ):
        run = CliRunner().invoke(app, ["convert", *arguments])
        assert (run.exit_code, message in run.output) == (2, True), run.output


def test_films_of_one_name_go_into_bids_together(tmp_path):
    tables = []
    for subject in ("1", "2"):
        folder = tmp_path / f"sub-{subject}"
        tables.append(str(write(folder, readings("clip.mp4", 20, 1), name="rest")))
    command = ["convert", *tables, "--to", "bids", "--out", str(tmp_path / "shared")]
    run = CliRunner().invoke(app, [*command, "--task", "rest"])
    assert run.exit_code == 0, run.output
    assert len(list((tmp_path / "shared").rglob("sub-*_task-rest_*events.tsv"))) == 2
    run = CliRunner().invoke(app, [*command, "--task", "talk", "--subject", "3"])
    assert (run.exit_code, run.output.count("\n")) == (2, 1)
    assert "would both be sub-3_task-talk" in run.output
    assert not list((tmp_path / "shared").rglob("sub-3*"))


def test_the_help_names_every_target():
    text = CliRunner().invoke(app, ["convert", "--help"], terminal_width=200).output
    assert all(name in text for name in TARGETS)
    assert set(WHOLE) | {"openface", "fex", "eaf", "textgrid", "boris", "mne", "bids"} == set(
        convert_module.TARGETS
    )


def test_intervals_of_a_tier_never_overlap(film):
    spans = {}
    for stretch in intervals(Recording.open(film), "test"):
        assert stretch.duration_s > 0
        spans.setdefault((stretch.who, stretch.tier), []).append(stretch)
    for tier in spans.values():
        assert all(before.end_s <= after.start_s for before, after in pairwise(tier))


def test_units_are_present_as_the_card_says(tmp_path, film):
    """From the table's dictionary and from the columns of the reader alike."""
    beside = film.with_suffix(".dictionary.json")
    content = json.loads(beside.read_text())
    content["bundle"]["presence"] = {"AU12": 0.2, "AU45": "odd"}
    beside.write_text(json.dumps(content))
    convert(film, "openface", tmp_path / "converted")
    back, table = pd.read_csv(tmp_path / "converted" / "clip.openface.csv"), mien.read_table(film)
    known = table["AU12"].notna()
    for name, threshold in (("AU12", 0.2), ("AU45", 0.5)):
        assert (back[f"{name}_c"][known] == (table[name][known] >= threshold)).all()
    with_presence = columns(TASKS_USED, Smoothing(0.1), presence={"AU12": 0.2})
    with TableWriter(tmp_path / "clip", ["openface"], with_presence) as writer:
        writer.write(readings("clip.mp4"))
    streamed = (tmp_path / "clip.openface.csv").read_bytes()
    assert streamed == (tmp_path / "converted" / "clip.openface.csv").read_bytes()

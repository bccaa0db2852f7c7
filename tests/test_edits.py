"""Edits by hand: what they do to a table, to studies, exports and reports, and the file that keeps them."""

import json

import numpy as np
import pandas as pd
import pytest
from film_tables import EVIL, readings, write
from study_tables import keys
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import OutputError, StudyError
from mien.exports.convert import convert
from mien.exports.recording import Recording
from mien.exports.study_folder import with_participants
from mien.report.pages import report
from mien.study.edits.apply import apply_edits, edits_of
from mien.study.edits.beside import EditHistory, edits_note, edits_path, read_edited_table
from mien.study.edits.operations import (
    Code,
    Edits,
    Exclude,
    Include,
    Merge,
    Name,
    Split,
    Uncode,
)
from mien.study.episodes.segments import find_segments
from mien.study.project.run import run_study
from mien.study.rows.people import People, participant_rows
from mien.study.statistics.summaries import summarize


@pytest.fixture
def film(tmp_path):
    """Face 0 is seen throughout; face 1 for 70 of 90 frames."""
    return write(tmp_path / "made", readings())


def edit(path, *operations):
    table = mien.read_table(path)
    for operation in operations:
        EditHistory.open(path, table).add(table, operation)
    return read_edited_table(path)


def start_of(table):
    return table["time_s"] - table["time_s"].min()


def test_without_edits_a_table_is_as_it_was_written(film):
    pd.testing.assert_frame_equal(read_edited_table(film), mien.read_table(film))
    assert edits_note(film, read_edited_table(film)) == ""


def test_names_are_people(film):
    table = edit(film, Name(track=0, name=" Anna "), Name(track=1, name="Ben"))
    assert table.groupby("face")["person"].unique().map(list).tolist() == [["Anna"], ["Ben"]]
    entries = [entry["name"] for entry in table.attrs["dictionary"]["columns"]]
    assert entries == list(table.columns)
    assert "person" not in edit(film, Name(track=0, name=""), Name(track=1, name=""))


def test_a_name_goes_to_all_tracks_of_a_recognized_person(film):
    table = mien.read_table(film).assign(person=pd.array([4] * 160, dtype="Int64"))
    named = apply_edits(table, Edits(names={0: "Anna"}))
    assert named["person"].unique().tolist() == ["Anna"]
    both = table.assign(face=table["face"].where(table["frame"] < 80, 2))
    unsure = apply_edits(both, Edits(names={0: "Anna", 1: "Ben"}))
    assert unsure["person"][both["face"] == 2].isna().all()


def test_splits_and_merges_number_tracks_anew(film):
    raw = mien.read_table(film)
    at = float(start_of(raw)[raw["frame"] == 40].iloc[0])
    table = edit(film, Split(track=0, at=at))
    later = start_of(raw) >= at
    expected = raw["face"].mask((raw["face"] == 0) & later, 2)
    assert table["face"].tolist() == expected.tolist()
    # Two of the parts are one after another, and so may be one person.
    table = edit(film, Merge(track=2, into=0))
    assert table["face"].tolist() == raw["face"].tolist()


def test_names_spans_and_codes_follow_merges_and_splits():
    edits = Edits.of(
        [
            Name(track=7, name="Ben"),
            Exclude(start=1, end=9, track=3),
            Code(start=6, end=7, code="laughs", track=3),
            Split(track=3, at=5, into=8),
            Merge(track=7, into=3),
        ]
    )
    assert edits.names == {3: "Ben"}
    assert [(span.track, round(span.start, 3), round(span.end, 3)) for span in edits.excluded] == [
        (3, 1, 5),
        (8, 5, 9),
    ]
    assert [code.track for code in edits.codes] == [8]
    assert Edits.model_validate(json.loads(json.dumps(edits.to_json()))) == edits


@pytest.mark.parametrize("start", [5.0, 4.99999, 4.99998, 4.99997])
def test_a_span_that_begins_just_before_a_split_is_no_span_backwards(start):
    edits = Edits.of([Exclude(start=start, end=9, track=3), Split(track=3, at=5, into=8)])
    assert Edits.model_validate(edits.to_json()) == edits
    assert edits.excluded[-1].track == 8


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Name(track=9, name="Anna"), "no track 9; there are 0, 1"),
        (Merge(track=0, into=1), "both seen at 0.00 s"),
        (Merge(track=1, into=1), "one already"),
        (Split(track=0, at=0.0), "all on one side"),
        (Split(track=0, at=99.0), "all on one side"),
        (Exclude(start=99, end=100), "lies after the film"),
        (Exclude(start=0, end=1, track=5), "no track 5"),
        (Include(index=0), "no excluded span 0, only 0"),
        (Uncode(index=3), "no code 3"),
    ],
)
def test_edits_that_make_no_sense_are_refused_and_not_kept(film, operation, message):
    table = mien.read_table(film)
    with pytest.raises(StudyError, match=message):
        EditHistory.open(film, table).add(table, operation)
    assert not edits_path(film).exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Exclude(start=2, end=1),
        lambda: Exclude(start=-1, end=1),
        lambda: Exclude(start=0, end=float("nan")),
        lambda: Code(start=0, end=1, code="a; b"),
        lambda: Code(start=0, end=1, code=" "),
        lambda: Name(track=0, name="A\nB"),
        lambda: Name(track=0, name="A" * 101),
        lambda: Name(track=-1, name="A"),
    ],
)
def test_operations_are_checked_when_they_are_made(make):
    with pytest.raises(ValueError, match="validation error"):
        make()


def test_undo_and_redo_survive_a_restart(film):
    table = mien.read_table(film)
    edit(film, Name(track=0, name="Anna"), Exclude(start=0, end=0.5, note="test <b>"))
    EditHistory.open(film, table).undo()
    history = EditHistory.open(film, table)
    assert (history.version, history.can_undo, history.can_redo) == (3, True, True)
    assert history.edits == Edits(names={0: "Anna"})
    assert len(EditHistory.open(film, table).redo().edits.excluded) == 1
    # What was undone is forgotten with the next edit.
    EditHistory.open(film, table).undo()
    edit(film, Name(track=0, name="Eve"))
    history = EditHistory.open(film, table)
    assert not history.can_redo
    with pytest.raises(StudyError, match="nothing to redo"):
        history.redo()
    with pytest.raises(StudyError, match="nothing to undo"):
        history.undo().undo().undo()


def test_all_formats_of_a_table_share_its_edits(film):
    edit(film, Name(track=0, name="Anna"))
    assert "Anna" in read_edited_table(film.with_suffix(".csv"))["person"].to_list()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no edits that this mien knows"),
        ("[]", "no edits that this mien knows"),
        ('{"edits": 2, "operations": []}', "edition 2"),
        ('{"edits": 1, "operations": [{"op": "erase"}]}', "damaged"),
        ('{"edits": 1, "operations": [], "cursor": 4, "version": 1}', "cursor 4"),
        ('{"edits": 1, "operations": [], "cursor": 0, "version": 1, "table": "0"}', "another read"),
        ('{"edits": 1, "operations": [], "cursor": Infinity, "version": 1}', "no number of JSON"),
    ],
)
def test_damaged_edits_and_those_of_another_table_are_refused(film, content, message):
    edits_path(film).write_text(content)
    with pytest.raises(StudyError, match=message):
        read_edited_table(film)
    # The way out that the message names.
    edits_path(film).rename(film.with_name("old.json"))
    assert len(read_edited_table(film)) == 160


def test_photos_have_no_edits(tmp_path):
    rows = [*readings(2, source="a.jpg"), *readings(2, source="b.jpg")]
    path = write(tmp_path, rows)
    with pytest.raises(StudyError, match="2 inputs"):
        edit(path, Name(track=0, name="Anna"))


def test_excluded_time_is_not_usable(film):
    raw = mien.read_table(film)
    last = float(start_of(raw)[raw["frame"] == 59].iloc[0])
    table = edit(film, Exclude(start=0.0, end=last))
    made = participant_rows(table, keys("Anna"), People(faces="map", map={1: "Anna"}))
    assert made["unusable_because"].iloc[:60].eq("excluded").all()
    assert not made["unusable_because"].iloc[60:].eq("excluded").any()
    assert "excluded" not in made
    summary = summarize(made, find_segments(made))
    seconds = made["duration_s"].iloc[:60].sum()
    assert summary["excluded_s"].iloc[0] == pytest.approx(seconds)


def test_time_is_excluded_for_one_face_or_for_everybody(film):
    table = edit(film, Exclude(start=0.0, end=0.5, track=1))
    excluded = table[table["excluded"] == 1]
    assert excluded["face"].unique().tolist() == [1]
    assert start_of(table)[excluded.index].max() <= 0.5
    table = edit(film, Exclude(start=0.0, end=0.5))
    assert sorted(table["face"][table["excluded"] == 1].unique()) == [0, 1]


def test_codes_are_segments_of_their_own(film):
    table = edit(
        film,
        Code(start=0.4, end=1.0, code="laughs"),
        Code(start=0.8, end=1.4, code="asks"),
        Code(start=2.9, end=3.3, code="laughs", track=1),
    )
    assert set(table["code"].dropna()) == {"laughs", "asks", "asks; laughs"}
    made = participant_rows(table, keys("Ben"), People(faces="map", map={0: "Ben"}))
    found = find_segments(made)
    codes = found[found["kind"] == "code"].set_index("name")
    assert list(codes.index) == ["code_laughs", "code_asks"]
    frames = made[made["time_from_start_s"].between(0.4, 1.0)]
    assert codes.loc["code_laughs", "onset_s"] == frames["time_s"].iloc[0]
    assert codes.loc["code_laughs", "duration_s"] == pytest.approx(frames["duration_s"].sum())
    summary = summarize(made, found)
    assert summary[["code_laughs_count", "code_asks_count"]].to_numpy().tolist() == [[1, 1]]


def study_of(folder, **extra):
    (folder / "study.yaml").write_text(
        json.dumps({"recordings": {"pattern": "made/{condition}.parquet"}, **extra})
    )
    return folder / "study.yaml"


def test_a_study_takes_names_exclusions_and_codes(tmp_path):
    first = write(tmp_path / "made", readings(), "rest")
    write(tmp_path / "made", readings(60), "task")
    second = first.with_name("task.parquet")
    edit(first, Name(track=0, name="Anna"), Name(track=1, name="Ben"), Exclude(start=0, end=0.5))
    edit(second, Name(track=0, name="Ben"), Name(track=1, name="Anna"))
    edit(second, Code(start=0, end=1, code="laughs"))
    path = study_of(tmp_path, people={"faces": "person"})
    result = run_study(path, tmp_path / "out")
    assert sum("edited by hand" in note for note in result.notes) == 2
    rows = mien.read_table(tmp_path / "out" / "rows.parquet")
    assert sorted(rows["participant"].unique()) == ["Anna", "Ben"]
    excluded = rows[rows["unusable_because"] == "excluded"]
    assert excluded["recording"].unique().tolist() == ["rest"]
    summaries = mien.read_table(tmp_path / "out" / "summaries.parquet")
    counts = summaries.set_index(["participant", "condition"])["code_laughs_count"]
    assert counts.to_dict() == {
        ("Anna", "rest"): 0,
        ("Anna", "task"): 1,
        ("Ben", "rest"): 0,
        ("Ben", "task"): 1,
    }
    # Nothing is done again unless the edits change.
    assert run_study(path, tmp_path / "out").is_old
    edit(second, Uncode(index=0))
    assert not run_study(path, tmp_path / "out").is_old


def test_a_study_may_leave_edits_out(tmp_path):
    film = write(tmp_path / "made", readings(faces=1), "rest")
    edit(film, Exclude(start=0, end=99))
    people = {"faces": "map", "map": "map.csv"}
    (tmp_path / "map.csv").write_text("recording,face,participant\nrest,0,Anna\n")
    run_study(study_of(tmp_path, people=people), tmp_path / "out")
    assert not mien.read_table(tmp_path / "out" / "rows.parquet")["usable"].any()
    run_study(study_of(tmp_path, people=people, edits=False), tmp_path / "out")
    assert mien.read_table(tmp_path / "out" / "rows.parquet")["usable"].any()


def test_exports_have_the_edits_and_say_so(film, tmp_path):
    edit(
        film, Name(track=0, name="Anna"), Exclude(start=0, end=0.5), Code(start=1, end=2, code="x")
    )
    out = tmp_path / "out"
    convert(film, ["csv", "parquet", "xlsx", "sav", "dta", "openface", "eaf"], out)
    again = mien.read_table(out / "clip.csv")
    assert again["person"].dropna().unique().tolist() == ["Anna"]
    assert again["excluded"].sum() > 0
    assert edits_of(again.attrs).names == {0: "Anna"}
    text = (out / "clip.eaf").read_text(encoding="utf-8")
    assert "Anna" in text
    assert "face 1" in text
    assert "code_x" in text
    plain = tmp_path / "plain"
    convert(film, "csv", plain, edits=False)
    assert "person" not in mien.read_table(plain / "clip.csv")
    # Beside the table it would be a second table with one dictionary.
    film.with_suffix(".csv").unlink()
    with pytest.raises(OutputError, match="--without-edits"):
        convert(film, "csv")


def test_reports_name_people_and_shade_what_is_excluded(film):
    edit(film, Name(track=0, name=EVIL), Exclude(start=0, end=0.5))
    written = report(film)
    assert "1 name, 1 excluded span" in written.edits[0]
    text = written.pages[0].read_text(encoding="utf-8")
    assert EVIL not in text
    assert "&lt;script&gt;alert" in text
    assert "excluded" in text
    assert EVIL not in report(film, edits=False).pages[0].read_text(encoding="utf-8")


def test_people_are_numbered_by_their_names(film):
    edit(film, Name(track=1, name="Zoe"))
    recording = with_participants(Recording.open(film))
    assert [recording.label(number) for number in recording.people] == ["Zoe", "face 0"]
    assert len(recording.rows_of(0)) == 70


def test_the_command_line_tells_of_edits(film, tmp_path):
    edit(film, Name(track=0, name="Anna"))
    runner = CliRunner()
    for command in (
        ["convert", str(film), "--to", "csv", "--out", str(tmp_path / "out")],
        ["report", str(film)],
        ["study", "rows", str(film), "--out", str(tmp_path / "rows.parquet"), "--participant",
         "Anna", "--faces", "person"],
    ):  # fmt: skip
        result = runner.invoke(app, command)
        assert result.exit_code == 0, result.output
        told = " ".join(result.stderr.split())
        assert "clip.parquet: edited by hand (clip.edits.json): 1 name" in told
    plain = runner.invoke(app, ["report", str(film), "--without-edits"])
    assert "edited" not in plain.stderr
    rows = mien.read_table(tmp_path / "rows.parquet")
    assert np.isclose(rows["usable"].mean(), 1)


def test_an_hour_of_edits_applies_fast(tmp_path):
    import time

    film = write(tmp_path, readings(1500, 2))
    raw = mien.read_table(film)
    raw = pd.concat([raw] * 40, ignore_index=True)
    raw["time_s"] = np.arange(len(raw)) / 25
    edits = Edits(
        excluded=[{"start": at, "end": at + 5} for at in range(0, 3000, 30)],
        codes=[{"start": at, "end": at + 5, "code": f"c{at % 7}"} for at in range(0, 3000, 30)],
        names={0: "Anna"},
    )
    began = time.perf_counter()
    apply_edits(raw, edits)
    assert time.perf_counter() - began < 3

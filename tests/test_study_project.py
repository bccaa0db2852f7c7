"""The study file: recordings, people, and the run from tables to all that a paper reports."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from study_tables import film
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.errors import DataError, OutputError, StudyError, TableError
from mien.outputs.claims import Claim
from mien.study.project.begin import begin_study
from mien.study.project.recordings import Pattern, filled, find_recordings
from mien.study.project.run import run_study
from mien.study.project.settings import Recordings, read_study
from mien.study.tables import describe, save

TIMES = np.arange(0, 30, 0.1)


def table_of(level=0.0, seconds=30.0, step=0.1, **scores):
    """A film whose valence is at a level, with a smile every ten seconds."""
    times = np.arange(0, seconds, step)
    values = {
        "valence": level + 0.1 * np.sin(times),
        "AU12": np.where(times % 10 > 8, 0.9, 0.1),
        "expr_happiness": 0.3,
        "expr_neutral": 0.7,
    }
    table = film(times, **(values | scores))
    table["expression"] = pd.Series(["neutral"] * len(table)).mask(table["valence"].isna())
    return table


def write_film(path, table, **bundle):
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"bundle": {"name": "mien-s", "sha256": "a" * 64} | bundle}
    return save(table, path, "film", facts)


@pytest.fixture
def study(tmp_path):
    """Two people, at rest and with a film, as tables."""
    for person, resting in (("01", -0.3), ("02", 0.2)):
        for condition, effect in (("rest", 0.0), ("film", 0.5)):
            path = tmp_path / f"sub-{person}" / f"{condition}_1.csv"
            write_film(path, table_of(resting + effect))
    return tmp_path


def write(folder, text="", **settings):
    """A study file of the pattern above and further settings."""
    content = {
        "study": 1,
        "recordings": {"pattern": "sub-{participant}/{condition}_{session}.csv"},
        "summaries": {"draws": 100},
        **settings,
    }
    path = folder / "study.yaml"
    # JSON is YAML.
    path.write_text(text or json.dumps(content), encoding="utf-8")
    return path


def read(out, name):
    return mien.read_table(out / f"{name}.parquet")


def test_a_study_gives_all_tables(study, tmp_path):
    (study / "events.csv").write_text("onset,duration,trial_type\n5,1,joke\n15,1,joke\n")
    (study / "participants.tsv").write_text(
        "participant_id\tage\tgroup\nsub-01\t20\ta\nsub-02\t\tb\n"
    )
    path = write(
        study,
        baseline={"of": "condition", "condition": "rest"},
        events="events.csv",
        epochs={"before_s": 1, "after_s": 5, "baseline": [-1, 0]},
        participants="participants.tsv",
        contrasts={"pairs": [["rest", "film"]]},
        groups={"by": ["condition"]},
    )
    out = tmp_path / "out"
    result = run_study(path, out)
    names = ["rows", "segments", "summaries", "epochs", "epoch_summaries", "groups", "contrasts"]
    assert [file.stem for file in result.files] == names
    rows = read(out, "rows")
    assert len(rows) == 4 * len(TIMES)
    # At rest everybody is 0; the film moves both by the same.
    means = rows.groupby(["participant", "condition"])["valence_corrected"].mean()
    assert means.loc[:, "rest"].to_numpy() == pytest.approx(0, abs=0.03)
    assert means.loc[:, "film"].to_numpy() == pytest.approx(0.5, abs=0.03)
    summaries = read(out, "summaries")
    assert summaries["smile_count"].tolist() == [3, 3, 3, 3]
    assert summaries["group"].tolist() == ["a", "a", "b", "b"]
    assert summaries["age"].tolist() == pytest.approx([20, 20, np.nan, np.nan], nan_ok=True)
    contrasts = read(out, "contrasts").set_index("measure")
    assert contrasts.loc["valence_corrected_mean", "difference"] == pytest.approx(0.5)
    assert contrasts.loc["valence_mean", "people"] == 2
    epochs = read(out, "epoch_summaries")
    assert len(epochs) == 8
    assert epochs["smile_latency_s"].to_numpy() == pytest.approx(3.1, abs=0.11)
    assert (read(out, "groups")["measure"] == "valence_mean").sum() == 2


def test_every_column_of_every_table_is_explained(study, tmp_path):
    path = write(study, contrasts={"pairs": [["rest", "film"]]})
    unknown = describe("no such column", {})["meaning"]
    for file in run_study(path, tmp_path / "out").files:
        dictionary = json.loads(file.with_suffix(".dictionary.json").read_text())
        assert dictionary["table"] == file.stem
        assert dictionary["bundle"]["name"] == "mien-s"
        for entry in dictionary["columns"]:
            assert entry["meaning"] != unknown, entry["name"]


def test_the_dictionary_holds_what_was_taken_off(study, tmp_path):
    path = write(study, baseline={"of": "condition", "condition": "rest"})
    run_study(path, tmp_path / "out")
    baseline = json.loads((tmp_path / "out" / "rows.dictionary.json").read_text())["baseline"]
    centres = {
        entry["participant"]: entry["centre"]
        for entry in baseline["measured"]
        if entry["column"] == "valence"
    }
    assert centres == pytest.approx({"01": -0.3, "02": 0.2}, abs=0.03)


def test_a_second_run_does_nothing_until_something_changes(study, tmp_path):
    out = tmp_path / "out"
    first = run_study(write(study), out)
    before = (out / "rows.parquet").stat().st_mtime_ns
    again = run_study(write(study), out)
    assert (first.is_old, again.is_old) == (False, True)
    assert again.files == first.files
    assert again.recordings == first.recordings
    assert (out / "rows.parquet").stat().st_mtime_ns == before
    assert not run_study(write(study, usable={"confidence": 0.95}), out).is_old
    write_film(study / "sub-01" / "rest_1.csv", table_of(0.9))
    assert not run_study(write(study, usable={"confidence": 0.95}), out).is_old
    (out / "segments.parquet").write_bytes(b"")
    assert not run_study(write(study, usable={"confidence": 0.95}), out).is_old


def test_what_fails_leaves_the_earlier_tables(study, tmp_path):
    out = tmp_path / "out"
    run_study(write(study), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_film(study / "sub-02" / "rest_1.csv", table_of(valence=np.nan))
    path = write(study, baseline={"of": "condition", "condition": "rest"})
    with pytest.raises(StudyError, match="participant 02: no usable frame in the baseline"):
        run_study(path, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_hour_with_nobody_in_it_is_a_note_not_an_end(study, tmp_path):
    write_film(study / "sub-02" / "rest_1.csv", table_of(seconds=3600, step=1.0, **nobody()))
    result = run_study(write(study), tmp_path / "out")
    assert result.notes == [
        "participant 02, condition rest, session 1, recording sub-02_rest_1: "
        "0 % of 3600.0 s usable; no_face 100 %; it has no statistics"
    ]
    assert np.isnan(read(tmp_path / "out", "summaries")["valence_mean"].iloc[3])


def nobody():
    return dict.fromkeys(("valence", "AU12", "expr_happiness", "expr_neutral"), np.nan)


def pair(folder, name="call"):
    """Two people side by side, the right one following the left by half a second."""
    rng = np.random.default_rng(0)
    times = np.arange(0, 100, 0.1)
    left = np.interp(times, np.arange(0, 101, 0.5)[:201], rng.normal(0, 0.3, 201)[:201])
    tables = []
    for face, (x, values) in enumerate(((300.0, np.roll(left, 5)), (50.0, left))):
        table = film(times, face=face, box=(x, 50.0, 80.0, 90.0), valence=values, AU12=0.1)
        table["person"] = ("ben", "anna")[face]
        tables.append(table)
    both = pd.concat(tables).sort_values(["frame", "face"], ignore_index=True)
    both.attrs = tables[0].attrs
    return write_film(folder / f"pair-7_{name}.parquet", both)


@pytest.mark.parametrize("faces", ["seats", "map", "person"])
def test_people_of_one_film_are_told_apart(tmp_path, faces):
    pair(tmp_path)
    people = {"faces": faces}
    names = ("anna", "ben")
    if faces == "seats":
        people["seats"] = ["{pair}-left", "{pair}-right"]
        names = ("7-left", "7-right")
    elif faces == "map":
        people["map"] = "faces.csv"
        lines = "recording,face,participant\npair-7_call,0,ben\npair-7_call,1,anna\n"
        (tmp_path / "faces.csv").write_text(lines)
    recordings = {"pattern": "pair-{pair}_{condition}.parquet"}
    path = write(tmp_path, recordings=recordings, people=people, synchrony={"columns": ["valence"]})
    run_study(path, tmp_path / "out")
    (row,) = read(tmp_path / "out", "synchrony").to_dict("records")
    assert (row["participant_a"], row["participant_b"]) == names
    assert row["lag_s"] == pytest.approx(0.5)
    assert (row["p"], row["condition"]) == (0.001, "call")


def test_numbers_of_people_are_those_of_one_film(tmp_path):
    for name in ("call", "talk"):
        path = pair(tmp_path, name)
        table = mien.read_table(path)
        numbers = table["person"].map({"ben": 0, "anna": 1}).astype("Int64")
        write_film(path, table.assign(person=numbers))
    recordings = {"pattern": "pair-{pair}_{condition}.parquet"}
    run_study(write(tmp_path, recordings=recordings, people={"faces": "person"}), tmp_path / "out")
    participants = read(tmp_path / "out", "summaries")["participant"].tolist()
    assert participants == ["pair-7_call_0", "pair-7_call_1", "pair-7_talk_0", "pair-7_talk_1"]
    lines = "recording,person,participant\npair-7_call,0,ben\npair-7_talk,1,ben\n"
    (tmp_path / "people.csv").write_text(lines)
    people = {"faces": "person", "map": "people.csv"}
    run_study(write(tmp_path, recordings=recordings, people=people), tmp_path / "out")
    summaries = read(tmp_path / "out", "summaries")
    assert summaries["participant"].tolist() == ["ben", "ben"]
    assert summaries["usable_share"].tolist() == pytest.approx([1, 1])


def test_the_baseline_can_be_another_file(study, tmp_path):
    for person, resting in (("01", -0.3), ("02", 0.2)):
        write_film(study / "base" / f"{person}.csv", table_of(resting))
    baseline = {"of": "file", "file": "base/{participant}.csv"}
    run_study(write(study, baseline=baseline), tmp_path / "out")
    rows = read(tmp_path / "out", "rows")
    means = rows.groupby("condition")["valence_corrected"].mean()
    assert means.to_dict() == pytest.approx({"rest": 0.0, "film": 0.5}, abs=0.03)
    (study / "base" / "02.csv").unlink()
    with pytest.raises(StudyError, match="no file of participant 02"):
        run_study(write(study, baseline=baseline), tmp_path / "out")


def test_recordings_can_be_listed(study, tmp_path):
    (study / "list.csv").write_text("file,participant,condition,run\nsub-01/rest_1.csv,x,rest,1\n")
    run_study(write(study, recordings={"list": "list.csv"}), tmp_path / "out")
    assert read(tmp_path / "out", "summaries")["participant"].tolist() == ["x"]
    (study / "list.csv").write_text("file,participant\nsub-01/none.csv,x\n")
    with pytest.raises(StudyError, match=r"line 2: there is no file sub-01/none\.csv"):
        run_study(write(study, recordings={"list": "list.csv"}), tmp_path / "out")


def test_a_film_is_read_first(tmp_path, clip):
    (tmp_path / "sub-01").mkdir()
    shutil.copy(clip, tmp_path / "sub-01" / "rest.mp4")
    recordings = {"pattern": "sub-{participant}/{condition}.mp4"}
    path = write(tmp_path, recordings=recordings, people={"faces": "largest"})
    result = CliRunner().invoke(app, ["study", "run", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "sub-01_rest, participant 01: " in result.output
    # Tables mirror the folders of the films, whose names say whose they are.
    assert (tmp_path / "out" / "tables" / "sub-01" / "rest.parquet").is_file()
    again = CliRunner().invoke(app, ["study", "run", str(path), "--out", str(tmp_path / "out")])
    assert "done before" in again.output


# What can be wrong with a study.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recordings": {"pattern": "x-{participant}.mp4"}}, r"matches x-.*; there is sub-01/"),
        ({"recordings": {"pattern": "rest.csv"}}, "has no words"),
        ({"recordings": {"pattern": "{participant}/*_1.csv"}}, "are both participant 01"),
        ({"recordings": {}}, "give either pattern or list"),
        ({"recordings": {"pattern": "sub-{p}/{condition}_*.csv"}}, "has no participant"),
        ({"recordngs": 1}, r"recordngs: there is no such key"),
        ({"usable": {"confidence": 2}}, r"usable\.confidence: .*less than or equal to 1"),
        ({"baseline": {"of": "span"}}, "span and `of: span` belong together"),
        ({"baseline": {"of": "condition", "condition": "calm"}}, "participant 01 has no recording of calm"),
        ({"epochs": {}}, "need events"),
        ({"events": "none.csv"}, "No such file"),
        ({"events": "{nobody}.csv"}, r"\{nobody\} is no word .* they have condition, participant"),
        ({"contrasts": {"pairs": [["rest", "flim"]]}}, "there is no condition flim; there is film, rest"),
        ({"synchrony": {}}, "no recording has two participants"),
        ({"people": {"faces": "map", "map": "none.csv"}}, "people.map: .* cannot be read"),
        ({"people": {"faces": "person"}}, "has no column person"),
        ({"participants": "study.yaml"}, r"neither \.tsv nor \.csv"),
        ({"groups": {"by": ["conditon"]}},
         r"groups\.by: there is no column conditon; there are participant, condition, session$"),
        ({"contrasts": {"pairs": [["rest", "film"]], "measures": ["valence_corected_mean"]},
          "baseline": {"of": "condition", "condition": "rest"}},
         r"contrasts\.measures: .* no column valence_corected_mean .* valence_corrected_mean"),
        ({"contrasts": {"pairs": [["rest", "film"]], "measures": ["unusable_because"]}},
         "no column unusable_because of numbers"),
        ({"segments": {"thresholds": {"AU21": 0.3}}}, "segments: the table has no column AU21"),
        ({"baseline": {"of": "quantile", "quantile": 0.1, "columns": ["AU21"]}},
         r"baseline\.columns: the table has no column AU21"),
    ],
)  # fmt: skip
def test_studies_that_cannot_be_run(study, tmp_path, settings, message):
    with pytest.raises(StudyError, match=message):
        run_study(write(study, **settings), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": {"by": ["age"]}}, r"groups\.by: there is no column age"),
        ({"contrasts": {"pairs": [["rest", "film"]], "measures": ["smile_per_mni"]}},
         r"contrasts\.measures: .* smile_per_mni of numbers; there are, .* smile_per_min"),
    ],
)  # fmt: skip
def test_names_are_checked_before_films_are_read(tmp_path, settings, message):
    for condition in ("rest", "film"):
        # Neither is a film, which would be said first if they were read first.
        (tmp_path / f"01_{condition}.mp4").write_bytes(b"")
    path = write(tmp_path, recordings={"pattern": "{participant}_{condition}.mp4"}, **settings)
    with pytest.raises(StudyError, match=message):
        run_study(path, tmp_path / "out")


def test_every_number_of_the_summaries_can_be_compared(study, tmp_path):
    """The names that are allowed are those of the table that is written in the end."""
    baseline = {"of": "span", "span": [0, 5], "method": "z", "columns": ["valence"]}
    settings = {"baseline": baseline}
    run_study(write(study, **settings), tmp_path / "out")
    numbers = read(tmp_path / "out", "summaries").select_dtypes("number").columns
    contrasts = {"pairs": [["rest", "film"]], "measures": list(numbers)}
    run_study(write(study, contrasts=contrasts, **settings), tmp_path / "out")
    assert read(tmp_path / "out", "contrasts")["measure"].tolist() == list(numbers)


def test_one_run_at_a_time_writes_into_a_folder(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    message = r"out: being written by .*, process \d+, since .*; .* choose another --out"
    with Claim(out / "study", "elsewhere.yaml"), pytest.raises(StudyError, match=message):
        run_study(write(study), out)
    assert not list(out.iterdir())
    run_study(write(study), out)
    assert not list(out.glob(".*"))


STOPPED = """
import sys
from mien.study.project.run import run_study

def wait(line):
    print(line, flush=True)
    sys.stdin.read()

run_study(sys.argv[1], sys.argv[2], say=wait)
"""


def test_a_second_command_is_refused_while_one_runs_and_takes_over_once_it_is_dead(study, tmp_path):
    path, out = write(study), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, path, out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        try:
            # It is in the middle of its tables, and goes no further.
            assert "participant 01" in first.stdout.readline()
            refused = CliRunner().invoke(app, ["study", "run", str(path), "--out", str(out)])
            assert refused.exit_code == 1
            (line,) = refused.stderr.splitlines()
            assert f"process {first.pid}" in line
            assert "run the study again once that is done" in line
            assert not list(out.glob("*.parquet"))
        finally:
            first.kill()
    assert (out / ".study.claim").exists()
    run_study(path, out)
    assert len(read(out, "summaries")) == 4
    assert not list(out.glob(".*"))


def test_a_run_says_how_many_recordings_are_read_and_summarised(study, tmp_path):
    heard = []
    run_study(write(study), tmp_path / "out", progress=lambda *step: heard.append(step))
    assert [step for step in heard if step[0] == "read"] == [("read", n, 4) for n in range(5)]
    # Of a participant after the other, who has two recordings each.
    assert [step[1:] for step in heard if step[0] == "summarised"] == [(0, 4), (2, 4), (4, 4)]
    assert heard.index(("summarised", 2, 4)) < heard.index(("read", 3, 4))


def test_a_recording_of_two_people_is_done_when_both_are(tmp_path):
    pair(tmp_path)
    path = write(
        tmp_path,
        recordings={"pattern": "pair-{pair}_{condition}.parquet"},
        people={"faces": "seats", "seats": ["{pair}-left", "{pair}-right"]},
    )
    heard = []
    run_study(path, tmp_path / "out", progress=lambda *step: heard.append(step))
    counts = [step[1:] for step in heard if step[0] == "summarised"]
    assert counts == [(0, 1), (0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("onset,participant\n5,01\n", "there are none of participants 02"),
        ("onset,participant\n5,01\n5,02\n5,03\n", "name participant 03, of whom"),
        ("onset\n500\n", "at 500 s lies outside the recording"),
        ("onset\n5\n6\n", "at 5 and 6 s overlap"),
    ],
)
def test_events_that_do_not_fit(study, tmp_path, events, message):
    (study / "events.csv").write_text(events)
    with pytest.raises(StudyError, match=message):
        run_study(write(study, events="events.csv"), tmp_path / "out")


def test_epochs_are_checked_before_films_are_read(tmp_path):
    # No film, which would be said first if it was read first.
    (tmp_path / "01_film.mp4").write_bytes(b"")
    (tmp_path / "events.csv").write_text("onset,trial_type\n5,joke\n6,pause\n")
    settings = {"recordings": {"pattern": "{participant}_{condition}.mp4"}, "events": "events.csv"}
    message = r"participant 01, .*: the epochs of the events at 5 and 6 s overlap"
    with pytest.raises(StudyError, match=message):
        run_study(write(tmp_path, **settings), tmp_path / "out")
    epochs = {"trial_types": ["jokes"]}
    with pytest.raises(StudyError, match="no events of type jokes; there are joke, pause"):
        run_study(write(tmp_path, epochs=epochs, **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_events_can_have_a_file_for_each_recording(study, tmp_path):
    for person in ("01", "02"):
        (study / f"sub-{person}" / "film_events.tsv").write_text("onset\tduration\n3\t1\n")
    path = write(study, events="sub-{participant}/{condition}_events.tsv")
    run_study(path, tmp_path / "out")
    assert read(tmp_path / "out", "epoch_summaries")["condition"].tolist() == ["film", "film"]
    path = write(study, events="sub-{participant}/{condition}_none.tsv")
    with pytest.raises(StudyError, match="no file matches"):
        run_study(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ({"name": "mien-xs"}, r"read with bundle mien-xs .*, sub-01_film_1 with mien-s"),
        ({"sha256": "b" * 64}, r"mien-s \(bbbbbbbbbbbb\)"),
    ],
)
def test_numbers_of_different_networks_are_not_mixed(study, tmp_path, bundle, message):
    write_film(study / "sub-02" / "rest_1.csv", table_of(), **bundle)
    with pytest.raises(StudyError, match=message):
        run_study(write(study), tmp_path / "out")
    left_out = {
        "pattern": "sub-{participant}/{condition}_{session}.csv",
        "exclude": ["sub-02/rest*"],
    }
    assert len(run_study(write(study, recordings=left_out), tmp_path / "out").recordings) == 3


def test_numbers_of_different_versions_are_not_mixed(study, tmp_path):
    path = study / "sub-02" / "rest_1.dictionary.json"
    path.write_text(path.read_text().replace(f'"mien": "{mien.__version__}"', '"mien": "0.1.0"'))
    with pytest.raises(StudyError, match=r"read with mien 0\.1\.0"):
        run_study(write(study), tmp_path / "out")


def test_a_table_needs_its_dictionary(study, tmp_path):
    path = study / "sub-02" / "rest_1.dictionary.json"
    path.rename(study / "kept.json")
    with pytest.raises(
        StudyError, match=r"its dictionary rest_1\.dictionary\.json is not beside it"
    ):
        run_study(write(study), tmp_path / "out")
    path.write_text("{}")
    with pytest.raises(StudyError, match="is no data dictionary"):
        run_study(write(study), tmp_path / "out")
    (study / "kept.json").rename(path)
    with (study / "sub-02" / "rest_1.csv").open("a") as file:
        file.write("more\n")
    with pytest.raises(TableError, match="was changed or cut off"):
        run_study(write(study), tmp_path / "out")


def test_tables_of_other_columns_are_not_mixed(study, tmp_path):
    path = study / "sub-02" / "rest_1.csv"
    write_film(path, table_of().drop(columns="AU12"))
    with pytest.raises((StudyError, OutputError), match="AU12"):
        run_study(write(study), tmp_path / "out")


def test_time_that_runs_backwards_is_told(study, tmp_path):
    table = table_of()
    table.loc[7, "time_s"] = 0.1
    write_film(study / "sub-02" / "rest_1.csv", table)
    with pytest.raises(
        StudyError, match=r"sub-02_rest_1: time runs backwards, 0\.1 s after 0\.6 s"
    ):
        run_study(write(study), tmp_path / "out")


def test_the_study_file_is_read_strictly(tmp_path):
    with pytest.raises(DataError, match="given twice"):
        read_study(write(tmp_path, "name: a\nname: b\n"))
    with pytest.raises(StudyError, match="no list of settings"):
        read_study(write(tmp_path, "- a\n"))
    with pytest.raises(DataError, match="study: 2"):
        read_study(write(tmp_path, "study: 2\n"))
    with pytest.raises(StudyError, match="recordings: Field required"):
        read_study(write(tmp_path, "study: 1\n"))


def test_the_study_in_the_docs_reads(tmp_path):
    text = (ROOT / "docs" / "howto" / "study.md").read_text(encoding="utf-8")
    settings = read_study(write(tmp_path, re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]))
    assert settings.contrasts.pairs == (("rest", "film"),)
    assert settings.epochs.baseline == (-0.5, 0)


# Patterns.


def test_patterns_read_words():
    pattern = Pattern("sub-{participant}/sub-{participant}_{task}_*.mp4", "here")
    assert pattern.match("sub-01/sub-01_rest_x.mp4") == {"participant": "01", "task": "rest"}
    assert pattern.match("sub-01/sub-02_rest.mp4") is None
    assert Pattern("{participant}_{condition}.mp4", "").match("01_rest.mp4") == {
        "participant": "01",
        "condition": "rest",
    }
    assert Pattern("{participant}.mp4", "").match("a/b.mp4") is None


def test_paths_that_can_be_read_in_two_ways_are_refused():
    with pytest.raises(
        StudyError, match="in two ways, participant 01, condition a_b or participant 01_a"
    ):
        Pattern("{participant}_{condition}.mp4", "x").match("01_a_b.mp4")


def test_patterns_are_matched_in_bounded_time():
    with pytest.raises(StudyError, match="more than 4 words"):
        Pattern("{participant}_{a}_{b}_{c}_*.mp4", "x")
    pattern = Pattern("{participant}{a}{b}{c}.mp4", "x")
    assert pattern.match("_" * 250) is None


def test_words_fill_other_patterns():
    assert filled("{a}-{b}", {"a": "1", "b": "2"}, "x") == "1-2"
    with pytest.raises(StudyError, match=r"x: \{c\} is no word"):
        filled("{c}", {"a": "1"}, "x")


def test_people_have_the_names_of_bids_everywhere(study):
    recordings = {"pattern": "{participant}/{condition}_{session}.csv"}
    (study / "events.csv").write_text("onset,participant_id\n5,sub-01\n5,sub-02\n")
    path = write(study, recordings=recordings, events="events.csv")
    result = run_study(path, study / "out")
    assert {entry["participant"] for entry in result.recordings} == {"01", "02"}


def test_odd_names_stand_for_themselves(tmp_path):
    for name in ("p[1].csv", "p1.csv"):
        write_film(tmp_path / "t[a]" / name, table_of(seconds=1))
    found = find_recordings(Recordings(pattern="t[a]/p[{participant}].csv"), tmp_path)
    assert [recording.words["participant"] for recording in found] == ["1"]


# A first study file.


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["sub-01/rest_1", "sub-01/film_1", "sub-02/rest_2"],
         "sub-{participant}/{condition}_{session}.csv"),
        (["sub-01/ses-1/sub-01_ses-1_task-a", "sub-02/ses-1/sub-02_ses-1_task-b"],
         "sub-{participant}/ses-{session}/sub-{participant}_ses-{session}_task-{condition}.csv"),
        (["anna_rest", "ben_rest"], "{participant}_rest.csv"),
        (["P1", "P2"], "{participant}.csv"),
    ],
)  # fmt: skip
def test_a_first_study_is_written_from_what_is_there(tmp_path, names, pattern):
    for name in names:
        write_film(tmp_path / f"{name}.csv", table_of(seconds=2))
    (path,) = begin_study(tmp_path)
    assert read_study(path).recordings.pattern == pattern
    if "{condition}" in pattern:
        # The contrast that is suggested is one of this study: without the comment's marks it reads.
        text = (
            path.read_text().replace("# contrasts:", "contrasts:").replace("#   pairs", "  pairs")
        )
        path.write_text(text)
        (pair,) = read_study(path).contrasts.pairs
        assert all(any(condition in name for name in names) for condition in pair)
        path.write_text(text.replace("contrasts:", "# contrasts:").replace("  pairs", "#   pairs"))
    result = run_study(path, tmp_path / "out")
    assert len(result.recordings) == len(names)
    # The tables of a study are no recordings of another one.
    path.unlink()
    assert begin_study(tmp_path) == [path]
    assert read_study(path).recordings.pattern == pattern
    with pytest.raises(OutputError, match="is there already"):
        begin_study(tmp_path)


def test_names_without_a_pattern_are_listed(tmp_path):
    for name in ("anna", "ben_at_rest"):
        write_film(tmp_path / f"{name}.csv", table_of(seconds=2))
    (tmp_path / "events.tsv").write_text("onset\tduration\n0.5\t1\n")
    assert [path.name for path in begin_study(tmp_path)] == ["study.yaml", "recordings.csv"]
    result = run_study(tmp_path / "study.yaml", tmp_path / "out")
    assert {entry["participant"] for entry in result.recordings} == {"anna", "ben_at_rest"}
    assert (tmp_path / "out" / "epochs.parquet").is_file()


def test_an_empty_folder_has_no_study(tmp_path):
    with pytest.raises(StudyError, match="no films and no tables"):
        begin_study(tmp_path)


# Each step by itself.


def run(*arguments):
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    return result.exit_code, result.output


def test_each_step_is_a_command(tmp_path):
    pieces = {}
    for condition, level in (("rest", 0.0), ("film", 0.5)):
        source = write_film(tmp_path / f"{condition}.csv", table_of(level))
        rows = tmp_path / f"{condition}-rows.parquet"
        assert run("rows", source, "--out", rows, "--participant", "01", "--condition", condition) == (
            0, f"{rows}: 300 rows\n100 % of 30.0 s usable\n")  # fmt: skip
        fixed = tmp_path / "fixed.parquet"
        assert run("baseline", rows, "--out", fixed, "--span", 0, 5)[0] == 0
        assert "valence_corrected" in mien.read_table(fixed)
        segments = tmp_path / "segments.csv"
        assert run("segments", rows, "--out", segments)[0] == 0
        pieces[condition] = tmp_path / f"{condition}-summary.csv"
        command = ("summaries", rows, "--segments", segments, "--out", pieces[condition])
        assert run(*command)[0] == 0
    (tmp_path / "events.csv").write_text("onset\n5\n15\n")
    epochs = tmp_path / "epochs.parquet"
    assert run("epochs", rows, tmp_path / "events.csv", "--out", epochs)[0] == 0
    per_event = tmp_path / "per_event.csv"
    assert run("summaries", epochs, "--segments", segments, "--out", per_event)[0] == 0
    assert mien.read_table(per_event)["trial"].tolist() == [1, 2]
    assert run("resample", rows, "--rate", 2, "--out", tmp_path / "slow.csv")[0] == 0
    assert len(mien.read_table(tmp_path / "slow.csv")) == 60
    assert mien.read_table(pieces["film"])["expr_happiness_count"].tolist() == [0]
    both = pd.concat([mien.read_table(path) for path in pieces.values()], ignore_index=True)
    save(both, tmp_path / "both.csv", "summaries")
    groups = tmp_path / "groups.csv"
    assert run("groups", tmp_path / "both.csv", "--by", "condition", "--out", groups)[0] == 0
    assert mien.read_table(groups)["people"].eq(1).any()
    contrasts = tmp_path / "contrasts.csv"
    assert (
        run("contrasts", tmp_path / "both.csv", "--pair", "rest,film", "--out", contrasts)[0] == 0
    )
    table = mien.read_table(contrasts).set_index("measure")
    assert table.loc["valence_mean", "difference"] == pytest.approx(0.5, abs=1e-4)
    assert run("synchrony", rows, rows, "--out", tmp_path / "synchrony.csv")[0] == 0


def test_commands_take_settings_from_a_study(study, tmp_path):
    settings = write(study, usable={"confidence": 0.95}, segments={"columns": ["AU12"], "on": 0.95})
    rows, segments = tmp_path / "rows.csv", tmp_path / "segments.csv"
    source = study / "sub-01" / "rest_1.csv"
    run("rows", source, "--out", rows, "--participant", "1", "--study", settings)
    assert not mien.read_table(rows)["usable"].any()
    run("segments", rows, "--out", segments, "--study", settings)
    assert mien.read_table(segments).empty


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "none.yaml", "--out", "out"), 1, "No such file"),
        (("rows", "none.csv", "--out", "rows.csv", "--participant", "1"), 1, "no such table"),
        (("baseline", "rows.csv", "--out", "x.csv"), 2, "give one of --span"),
        (("baseline", "rows.csv", "--out", "x.csv", "--span", "5", "1"), 2, "is no span"),
        (("contrasts", "rows.csv", "--out", "x.csv", "--pair", "a"), 2, "a comma between"),
        (("init", "nowhere"), 1, "no films and no tables"),
    ],
)
def test_commands_say_what_is_wrong_in_one_line(monkeypatch, tmp_path, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    exit_code, output = run(*arguments)
    assert (exit_code, output.count("\n")) == (code, 1), output
    assert message in output
    assert not Path("x.csv").exists()

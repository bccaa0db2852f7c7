"""A study whose truth is known: films that are drawn, read and summarized must give back what was drawn."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mien
from mien.cli import app
from mien.demo.study import RECORDINGS, draw_study
from mien.errors import OutputError
from mien.study.episodes.segments import find_segments
from mien.study.project.run import run_study
from mien.study.rows.people import People, participant_rows

KEYS = ["participant", "condition", "session"]
SECONDS = 4.0


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Twelve small films of four seconds, and the folder of their tables."""
    folder = tmp_path_factory.mktemp("study")
    path = draw_study(folder / "films", seconds=SECONDS, height=160)
    run_study(path, folder / "out")
    return folder


@pytest.fixture(scope="module")
def truth(study):
    table = pd.read_csv(study / "films" / "truth.csv", dtype={"participant": "str"})
    return table.assign(length_s=table["offset_s"] - table["onset_s"])


@pytest.fixture(scope="module")
def read(study):
    return lambda name: mien.read_table(study / "out" / f"{name}.parquet")


def lengths(truth, *kinds):
    """Seconds of these kinds in each film."""
    films = [(film.participant, film.condition, film.session) for film in RECORDINGS]
    chosen = truth[truth["kind"].isin(kinds)]
    return (
        chosen.groupby(KEYS)["length_s"]
        .sum()
        .reindex(pd.MultiIndex.from_tuples(films, names=KEYS), fill_value=0.0)
    )


def smile_shares(truth):
    """Share of the time in which a face can be seen that it smiles, of each film."""
    return lengths(truth, "smile") / (SECONDS - lengths(truth, "mask", "dark"))


def frame_s(read):
    return read("rows").groupby(KEYS)["duration_s"].median()


def test_the_effect_of_the_condition_has_its_sign_and_size(truth, read):
    table = read("contrasts").set_index("measure")
    cells = smile_shares(truth).groupby(level=[1, 0]).mean()
    difference = (cells["jokes"] - cells["rest"]).mean()
    smiles = table.loc["smile_present_share"]
    assert smiles["people"] == 5
    assert smiles["difference"] == pytest.approx(difference, abs=0.02)
    assert 0 < smiles["low"] < difference < smiles["high"]
    # What mien-s makes of a smile is not known beforehand, but that it is pleasant.
    assert (table.loc[["valence_corrected_mean", "expr_happiness_share"], "low"] > 0).all()


def test_every_smile_begins_and_ends_within_a_frame(truth, read):
    segments = read("segments")
    smiles = segments[segments["name"] == "smile"].set_index(KEYS)
    known = truth[truth["kind"] == "smile"].set_index(KEYS)
    # One smile in each film, so that films tell which is which.
    assert sorted(smiles.index) == sorted(known.index)
    begun = smiles["onset_from_start_s"] - known["onset_s"]
    ended = smiles["onset_from_start_s"] + smiles["duration_s"] - known["offset_s"]
    frames = frame_s(read)
    assert (begun.abs() <= frames + 1e-6).all()
    assert (ended.abs() <= frames + 1e-6).all()


def test_latencies_are_those_from_the_joke(truth, read):
    trials = read("epoch_summaries").set_index(KEYS)
    jokes = truth[(truth["condition"] == "jokes") & (truth["kind"] == "smile")].set_index(KEYS)
    late = trials["smile_latency_s"] - (jokes["onset_s"] - trials["event_onset_s"])
    assert len(late) == 7
    assert (late.abs() <= frame_s(read).reindex(late.index) + 1e-6).all()


def test_shares_of_time_are_those_that_were_shown(truth, read):
    summaries = read("summaries").set_index(KEYS)
    expected = smile_shares(truth)
    assert (summaries["smile_present_share"] - expected).abs().max() < 0.03
    assert (summaries["expr_happiness_share"] - expected).abs().max() < 0.05
    assert (summaries["expr_happiness_label_share"] - expected).abs().max() < 0.03


def test_masks_and_darkness_are_not_usable_and_the_rest_is(truth, read):
    summaries = read("summaries").set_index(KEYS)
    hidden = lengths(truth, "mask", "dark").reindex(summaries.index)
    lost = summaries["seconds"] - summaries["usable_s"]
    assert lost[hidden > 0].tolist() == pytest.approx(hidden[hidden > 0].tolist(), abs=0.1)
    assert lost[hidden == 0].sum() < 0.03 * summaries["seconds"].sum()
    rows = read("rows")
    for span in truth[truth["kind"].isin(["mask", "dark"])].itertuples():
        film = f"sub-{span.participant}_ses-{span.session}_task-{span.condition}"
        theirs = rows[rows["recording"] == film]
        inside = theirs["time_from_start_s"].between(span.onset_s, span.offset_s)
        assert not theirs.loc[inside, "usable"].any()


def test_numbers_do_not_depend_on_the_frame_rate(read):
    table = read("summaries")
    cameras = table[(table["participant"] == "01") & (table["condition"] == "jokes")]
    assert cameras["session"].tolist() == ["15fps", "25fps", "50fps"]
    assert cameras["smile_count"].tolist() == [1, 1, 1]
    # A frame more or less of a smile is 1/15 s, of 4 s; and each film is compressed by itself.
    tolerances = {
        "smile_present_share": 0.02,
        "smile_segment_s": 0.07,
        "smile_latency_s": 0.07,
        "expr_happiness_share": 0.03,
        "valence_mean": 0.06,
        "AU12_mean": 0.03,
    }
    for name, tolerance in tolerances.items():
        assert np.ptp(cameras[name]) < tolerance, name


def test_who_is_beside_is_somebody_else(study, truth, read):
    theirs = truth[(truth["participant"] == "02") & (truth["condition"] == "jokes")]
    film = mien.read_table(study / "out" / "tables" / "sub-02_ses-25fps_task-jokes.parquet")
    assert (film["frame"].value_counts() == 2).all()
    onsets = {}
    for person in ("02", "beside"):
        keys = {"participant": person, "recording": "both"}
        rows = participant_rows(film, keys, People(faces="seats", seats=("02", "beside")))
        segments = find_segments(rows)
        (onsets[person],) = segments.loc[segments["name"] == "smile", "onset_s"]
    expected = theirs.set_index("kind")["onset_s"]
    assert onsets["02"] == pytest.approx(expected["smile"], abs=0.04)
    assert onsets["beside"] == pytest.approx(expected["bystander"], abs=0.04)


def test_a_study_that_is_there_is_not_drawn_over(study):
    with pytest.raises(OutputError, match=r"study\.yaml: is there already"):
        draw_study(study / "films")
    result = CliRunner().invoke(app, ["study", "demo", str(study / "films")])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    with pytest.raises(ValueError, match="at least 4, for one joke"):
        draw_study(study / "other", seconds=3)
    assert not (study / "other").exists()

"""Events, epochs around them, and scores at a fixed rate."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import resample_poly
from study_tables import film, keys

from mien.errors import StudyError
from mien.study.episodes.epochs import Epochs, cut_epochs
from mien.study.episodes.events import read_events
from mien.study.episodes.segments import find_segments
from mien.study.rows.baseline import Baseline, correct_baseline
from mien.study.rows.people import participant_rows
from mien.study.rows.resample import resample
from mien.study.statistics.summaries import summarize_epochs


def rows_of(times, names=None, **scores):
    return participant_rows(film(times, **scores), names or keys())


def events_at(*onsets, **columns):
    return pd.DataFrame({"onset": onsets, "duration": 1.0, "trial_type": "picture"} | columns)


def written(tmp_path, text, name="events.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_events_are_read_from_tsv_and_csv(tmp_path):
    tsv = "onset\tduration\ttrial_type\tparticipant_id\tword\n1.5\tn/a\tsad\tsub-01\tA\n0.5\t2\t\t02\tn/a\n"
    events = read_events(written(tmp_path, tsv))
    assert list(events) == ["onset", "duration", "trial_type", "participant", "word"]
    assert events["onset"].tolist() == [1.5, 0.5]
    assert events["participant"].tolist() == ["01", "02"]
    assert events["trial_type"].tolist() == ["sad", "n/a"]
    assert np.isnan(events["duration"][0])
    plain = read_events(written(tmp_path, "onset\n3\n", "events.csv"))
    assert plain["trial_type"].tolist() == ["event"]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("time\n1\n", "e.tsv", "no column onset"),
        ("onset\tduration\n1:30\t0\n", "e.tsv", r"line 2: onset is '1:30', no number"),
        ("onset\tduration\n1\t0\nn/a\t0\n", "e.tsv", "line 3: the event has no onset"),
        ("", "e.tsv", "cannot be read"),
        ("onset\n1\n", "e.xlsx", r"come as \.tsv or \.csv"),
    ],
)
def test_events_that_cannot_be_read(tmp_path, text, name, message):
    with pytest.raises(StudyError, match=message):
        read_events(written(tmp_path, text, name))
    with pytest.raises(StudyError, match="No such file"):
        read_events(tmp_path / "none.tsv")


def test_epochs_are_the_rows_around_each_event():
    times = np.arange(0, 20, 0.1)
    rows = rows_of(times + 7, valence=times)  # the container's clock begins at 7 s
    epochs = cut_epochs(rows, events_at(12.0, 5.0), Epochs(before_s=1, after_s=2))
    assert list(epochs)[:4] == list(keys())
    first = epochs[epochs["trial"] == 1]
    assert first["event_onset_s"].eq(5).all()
    assert first["time_from_onset_s"].iloc[0] == pytest.approx(-1)
    assert len(first) == 30
    assert first["valence"].to_numpy() == pytest.approx(5 + first["time_from_onset_s"].to_numpy())
    assert first["time_s"].iloc[0] == pytest.approx(11)
    by_container = cut_epochs(rows, events_at(12.0), Epochs(clock="container"))
    assert by_container["event_onset_s"].eq(5).all()


def test_the_change_is_from_the_epochs_own_baseline():
    times = np.arange(0, 20, 0.1)
    level = np.where(times < 10, 0.3, -0.3)
    valence = (
        level + np.where((times >= 5 - 1e-9) & (times < 7), 0.4, 0) - (times >= 15 - 1e-9) * 0.2
    )
    settings = Epochs(before_s=1, after_s=2, baseline=(-0.5, 0))
    epochs = cut_epochs(rows_of(times, valence=valence), events_at(5.0, 15.0), settings)
    after = epochs[epochs["time_from_onset_s"] >= 0].groupby("trial")["valence_change"].mean()
    assert after.tolist() == pytest.approx([0.4, -0.2], abs=1e-6)


def test_an_unusable_baseline_leaves_no_change():
    times = np.arange(0, 5, 0.1)
    valence = np.where(times < 2 - 1e-9, np.nan, 0.5)
    settings = Epochs(baseline=(-0.5, 0))
    epochs = cut_epochs(rows_of(times, valence=valence), events_at(2.0), settings)
    assert epochs["valence_change"].isna().all()
    assert epochs["valence"].notna().any()


def test_events_belong_to_whom_they_name():
    times = np.arange(0, 10, 0.1)
    parts = [
        rows_of(times, keys(participant=name, recording=name), valence=0.1) for name in ("01", "02")
    ]
    rows = pd.concat(parts, ignore_index=True)
    events = events_at(2.0, 6.0, 5.0, participant=["01", "01", "02"], word=["a", "b", "c"])
    epochs = cut_epochs(rows, events)
    trials = epochs.groupby(["participant", "trial"], sort=False)["word"].first()
    assert trials.to_dict() == {("01", 1): "a", ("01", 2): "b", ("02", 1): "c"}
    with pytest.raises(StudyError, match="participants 02: there are no events of theirs"):
        cut_epochs(rows, events.iloc[:2])
    with pytest.raises(StudyError, match="no events of these types"):
        cut_epochs(rows, events, Epochs(trial_types=("face",)))


@pytest.mark.parametrize(
    ("onsets", "message"),
    [((2.0, 4.0), "events at 2 and 4 s overlap"), ((2.0, 30.0), "30 s lies outside .* has 10 s")],
)
def test_epochs_that_cannot_be_cut(onsets, message):
    rows = rows_of(np.arange(0, 10, 0.1), valence=0.1)
    with pytest.raises(StudyError, match=message):
        cut_epochs(rows, events_at(*onsets))


def test_epochs_may_overlap_if_asked():
    rows = rows_of(np.arange(0, 10, 0.1), valence=0.1)
    epochs = cut_epochs(rows, events_at(2.0, 3.0), Epochs(overlap=True))
    assert epochs.groupby("trial").size().tolist() == [25, 25]


def test_a_baseline_lies_within_its_epoch():
    with pytest.raises(ValueError, match="not within the epoch"):
        Epochs(before_s=0.2, baseline=(-0.5, 0))


def test_each_epoch_is_summarized_from_its_onset_on():
    times = np.arange(0, 30, 0.1)
    smiles = (times >= 5.6) & (times < 7) | (times >= 15.3) & (times < 17)
    rows = rows_of(times, AU12=np.where(smiles, 0.9, 0.1), valence=times)
    events = events_at(5.0, 15.0, 25.0, word=["a", "b", "c"])
    epochs = cut_epochs(rows, events, Epochs(before_s=1, after_s=4))
    table = summarize_epochs(epochs, find_segments(rows))
    assert table["trial"].tolist() == [1, 2, 3]
    assert table["word"].tolist() == ["a", "b", "c"]
    assert table["smile_count"].tolist() == [1, 1, 0]
    assert table["smile_latency_s"].tolist() == pytest.approx([0.6, 0.3, np.nan], nan_ok=True)
    assert table["valence_mean"].tolist() == pytest.approx([6.95, 16.95, 26.95])
    assert table["seconds"].tolist() == pytest.approx([4, 4, 4])
    assert not [name for name in table if name.endswith(("_low", "_high"))]


def test_wide_tables_are_no_reason_for_warnings():
    """pandas warns of columns that are added one by one, and warnings are errors in tests."""
    times = np.arange(0, 20, 0.1)
    scores = {f"AU{number:02}": 0.1 * number % 1 for number in range(1, 70)}
    table = film(times, valence=np.sin(times), **scores)
    extra = pd.DataFrame({f"point_{number}": times for number in range(80)})
    wide = pd.concat([table, *(extra[[name]] for name in extra)], axis=1)
    wide.attrs = table.attrs
    rows = correct_baseline(participant_rows(wide, keys()), Baseline(of="span", span=(0, 5)))
    epochs = cut_epochs(rows, events_at(8.0), Epochs(baseline=(-0.5, 0)))
    summary = summarize_epochs(epochs, find_segments(rows))
    assert "AU69_change_mean" in summary
    assert "AU69_corrected_change_mean" not in summary
    assert len(resample(rows, 2)) == 40


@pytest.mark.parametrize("frequency", [0.2, 1.0, 2.0])
def test_what_the_new_rate_can_hold_stays(frequency):
    times = np.arange(0, 60, 1 / 30)
    rows = rows_of(times, valence=np.sin(2 * np.pi * frequency * times))
    result = resample(rows, 10)
    middle = result[result["time_from_start_s"].between(5, 55)]
    expected = np.sin(2 * np.pi * frequency * middle["time_from_start_s"])
    assert middle["valence"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0.03)


@pytest.mark.parametrize("frequency", [5.5, 7.0, 9.7])
def test_what_the_new_rate_cannot_hold_does_not_come_back_as_something_else(frequency):
    times = np.arange(0, 60, 1 / 30)
    rows = rows_of(times, valence=np.sin(2 * np.pi * frequency * times))
    middle = resample(rows, 10)["valence"].to_numpy()[50:-50]
    assert np.abs(middle).max() < 0.03


def test_resampling_is_that_of_scipy_where_frames_are_even():
    rng = np.random.default_rng(0)
    times = np.arange(0, 120, 0.05)
    slow = np.interp(times, np.arange(0, 121, 1.0), rng.uniform(-1, 1, 121))
    ours = resample(rows_of(times, valence=slow), 5)["valence"].to_numpy()
    assert ours[25:-25] == pytest.approx(resample_poly(slow, 1, 4)[25:-25], abs=0.03)


def test_uneven_frames_and_finer_rates_follow_the_signal():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.02, 0.06, 1000))
    rows = rows_of(times, valence=np.sin(times))
    for rate in (2, 20, 100):
        result = resample(rows, rate)
        now = result["time_s"].to_numpy()
        inside = (now > 4) & (now < times[-1] - 4)
        assert result["valence"].to_numpy()[inside] == pytest.approx(np.sin(now[inside]), abs=0.02)
        assert np.diff(now) == pytest.approx(1 / rate)


def test_gaps_stay_gaps_and_nothing_leaks_from_them():
    times = np.arange(0, 20, 0.04)
    away = (times >= 8) & (times < 12)
    table = film(times, valence=np.where(away, np.nan, 0.7))
    blurred = (times >= 4) & (times < 5)
    table.loc[blurred, "valence"] = -1.0
    table.loc[blurred, "confidence"] = 0.1
    result = resample(participant_rows(table, keys()), 5)
    now = result["time_from_start_s"]
    inside = now.between(8, 11.9) | now.between(4, 4.9)
    assert result.loc[inside, "valence"].isna().all()
    assert not result.loc[inside, "usable"].any()
    assert result.loc[~inside, "valence"].to_numpy() == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_rates_are_positive(rate):
    with pytest.raises(ValueError, match="rate_hz must be positive"):
        resample(rows_of([0, 1], valence=0.0), rate)

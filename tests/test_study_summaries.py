"""Summaries over time and their intervals, against independent formulas."""

import numpy as np
import pandas as pd
import pytest
from study_tables import film, keys

from mien import metrics
from mien.errors import StudyError
from mien.study.episodes.segments import find_segments
from mien.study.rows.people import participant_rows
from mien.study.rows.usable import REASONS
from mien.study.statistics.bootstrap import _block_counts, block_interval, people_interval
from mien.study.statistics.summaries import Summaries, summarize


def summary_of(table, settings=None, **names):
    rows = participant_rows(table, keys(**names))
    (row,) = summarize(rows, find_segments(rows), settings).to_dict("records")
    return row


def scores_at(times):
    """Scores that are functions of time, of a face that smiles every ten seconds and goes away once."""
    wave = np.sin(2 * np.pi * times / 10)
    happy = np.clip(wave, 0, 1)
    away = (times >= 42) & (times < 48)
    values = {
        "valence": 0.5 * wave + 0.1 * np.cos(times),
        "AU12": happy,
        "expr_happiness": happy,
        "expr_neutral": 1 - happy,
    }
    return {name: np.where(away, np.nan, value) for name, value in values.items()}


def film_at(times):
    table = film(times, **scores_at(times))
    label = np.where(table["expr_happiness"] > 0.5, "happiness", "neutral")
    table["expression"] = pd.Series(label).mask(table["valence"].isna())
    return table


def test_15_and_50_frames_a_second_agree():
    slow = summary_of(film_at(np.arange(0, 120, 1 / 15)))
    fast = summary_of(film_at(np.arange(0, 120, 1 / 50)))
    assert slow.keys() == fast.keys()
    for name in slow.keys() - {*keys(), "unusable_because"}:
        if not name.endswith(("_low", "_high")):
            assert slow[name] == pytest.approx(fast[name], abs=0.07, nan_ok=True), name
    assert fast["usable_s"] == pytest.approx(114, abs=0.1)
    assert fast["unusable_because"] == "no_face 5 %"


def test_a_changing_frame_rate_does_not_shift_means():
    # Calm at 50 frames a second for a minute, pleasant at 10 for another.
    times = np.concatenate([np.arange(0, 60, 0.02), np.arange(60, 120, 0.1)])
    row = summary_of(film(times, valence=np.where(times < 60 - 1e-9, 0.0, 1.0)))
    assert row["valence_mean"] == pytest.approx(0.5, abs=0.001)
    assert row["valence_sd"] == pytest.approx(0.5, abs=0.001)
    assert row["seconds"] == pytest.approx(120, abs=0.1)


def test_statistics_are_those_of_plain_formulas_where_frames_are_even():
    rng = np.random.default_rng(0)
    values = rng.normal(size=900).astype(np.float32)
    row = summary_of(film(np.arange(900) / 30, valence=values))
    assert row["valence_mean"] == pytest.approx(values.mean(), abs=1e-6)
    assert row["valence_sd"] == pytest.approx(values.std(), abs=1e-6)
    for share in (10, 50, 90):
        expected = np.quantile(values, share / 100, method="inverted_cdf")
        assert row[f"valence_q{share}"] == pytest.approx(expected)


def test_shares_by_probability_and_by_label():
    times = np.arange(0, 20, 0.1)
    table = film(times, expr_happiness=0.4, expr_neutral=0.6)
    table["expression"] = np.where(times < 5 - 1e-9, "happiness", "neutral")
    row = summary_of(table)
    assert row["expr_happiness_share"] == pytest.approx(0.4)
    assert row["expr_happiness_label_share"] == pytest.approx(0.25)
    assert "expr_happiness_mean" not in row


def test_segments_are_counted_and_timed():
    row = summary_of(film_at(np.arange(0, 120, 0.04)))
    assert row["smile_count"] == 12
    assert row["smile_per_min"] == pytest.approx(60 * 12 / row["usable_s"])
    assert row["smile_latency_s"] == pytest.approx(10 * np.arcsin(0.35) / (2 * np.pi), abs=0.05)
    whole = 10 * (np.pi - 2 * np.arcsin(0.35)) / (2 * np.pi)  # but the one that is cut off at 42 s
    assert row["smile_segment_s"] == pytest.approx((11 * whole + 42 - 40.57) / 12, abs=0.06)
    covered = row["smile_count"] * row["smile_segment_s"]
    assert row["AU12_present_share"] == pytest.approx(covered / row["usable_s"], abs=0.01)


def test_who_is_never_seen_has_seconds_and_no_statistics():
    row = summary_of(film(np.arange(0, 3600, 1.0), valence=np.nan, AU12=np.nan, AU45=np.nan))
    assert (row["seconds"], row["usable_s"], row["no_face_s"]) == (3600, 0, 3600)
    assert row["unusable_because"] == "no_face 100 %"
    missing = [row[name] for name in ("valence_mean", "smile_per_min", "blink_count", "AU12_q50")]
    assert np.isnan(missing).all()


def test_blinks_of_slow_films_are_missing_not_zero():
    row = summary_of(film(np.arange(0, 60, 0.2), AU45=0.1, AU12=0.1))
    assert np.isnan(row["blink_count"])
    assert row["smile_count"] == 0


def test_reasons_add_up():
    table = film_at(np.arange(0, 60, 0.1))
    table.loc[table["time_s"] < 9.95, "confidence"] = 0.1
    row = summary_of(table)
    lost = sum(row[f"{reason}_s"] for reason in REASONS)
    assert row["usable_s"] + lost == pytest.approx(row["seconds"])
    assert row["low_confidence_s"] == pytest.approx(10, abs=0.11)


def test_one_row_per_person_condition_and_session():
    times = np.arange(0, 10, 0.1)
    parts = []
    for person in ("b", "a"):
        for condition in ("rest", "task"):
            for session in ("1", "2"):
                names = {"participant": person, "condition": condition, "session": session}
                recording = f"{person}-{condition}-{session}"
                parts.append(
                    participant_rows(film(times, valence=0.1), keys(**names, recording=recording))
                )
    rows = pd.concat(parts, ignore_index=True)
    segments = find_segments(rows.assign(AU12=0.0))
    table = summarize(rows, segments)
    assert list(zip(table["participant"], table["condition"], table["session"], strict=True)) == [
        (person, condition, session)
        for person in ("b", "a")
        for condition in ("rest", "task")
        for session in ("1", "2")
    ]
    both = summarize(rows, segments, by=("participant",))
    assert both["recordings"].tolist() == [4, 4]


@pytest.mark.parametrize(("length", "block"), [(7, 3), (12, 4), (5, 9), (1, 1)])
def test_block_counts_are_those_of_blocks_drawn_one_by_one(length, block):
    drawn = np.concatenate(list(_block_counts(length, block, 50, np.random.default_rng(4))))
    size = min(block, length)
    rng = np.random.default_rng(4)
    starts = rng.integers(length, size=(50, -(-length // size)))
    for counts, row in zip(drawn, starts, strict=True):
        picked = [(start + step) % length for start in row for step in range(size)]
        assert counts.tolist() == np.bincount(picked, minlength=length).tolist()


def test_independent_seconds_give_the_interval_of_the_normal_distribution():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(600, 1))
    low, high = block_interval(values, np.ones((600, 1)), 1, 2000, 0)
    half = 1.96 * values.std() / np.sqrt(600)
    assert high[0] - low[0] == pytest.approx(2 * half, rel=0.1)
    assert (low[0] + high[0]) / 2 == pytest.approx(values.mean(), abs=0.2 * half)


def test_blocks_make_up_for_seconds_that_are_alike():
    # AR(1): the mean's variance is (1 + r) / (1 - r) times that of independent seconds.
    rng = np.random.default_rng(6)
    values = np.zeros(4000)
    for step in range(1, 4000):
        values[step] = 0.8 * values[step - 1] + rng.normal()
    weights = np.ones((4000, 1))
    widths = []
    for block in (1, 40):
        low, high = block_interval(values[:, None], weights, block, 1000, 0)
        widths.append(high[0] - low[0])
    assert widths[1] / widths[0] == pytest.approx(3.0, rel=0.2)


def test_little_time_has_no_interval():
    low, high = block_interval(np.ones((19, 1)), np.ones((19, 1)), 5, 100, 0)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert not np.isnan(block_interval(np.ones((20, 1)), np.ones((20, 1)), 5, 100, 0)).any()


def test_people_are_drawn_whole():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(30, 2))
    values[:28, 1] = np.nan
    values[29, 1] = np.nan
    low, high = people_interval(values, 4000, 0)
    reference = metrics.bootstrap(
        lambda x: float(x.mean()), values[:, 0], groups=np.arange(30), rounds=4000, seed=1
    )
    assert (low[0], high[0]) == pytest.approx(reference, abs=0.03)
    assert np.isnan([low[1], high[1]]).all()


def test_the_same_seed_gives_the_same_summary():
    table = film_at(np.arange(0, 60, 0.1))
    assert summary_of(table) == pytest.approx(summary_of(table), nan_ok=True)
    other = summary_of(table, Summaries(seed=1))
    assert other["valence_mean_low"] != summary_of(table)["valence_mean_low"]
    assert other["valence_mean_low"] < other["valence_mean"] < other["valence_mean_high"]


def test_what_cannot_be_summarized():
    rows = participant_rows(film_at(np.arange(0, 5, 0.1)), keys())
    segments = find_segments(rows)
    with pytest.raises(StudyError, match="no column usable"):
        summarize(rows.drop(columns="usable"), segments)
    with pytest.raises(StudyError, match="no rows"):
        summarize(rows.iloc[:0], segments.iloc[:0])

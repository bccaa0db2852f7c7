"""Segments of scores, smiles and blinks, against state machines and known truth."""

import numpy as np
import pandas as pd
import pytest
from study_tables import film, keys

from mien.errors import StudyError
from mien.study.episodes.blinks import Blinks
from mien.study.episodes.segments import SEGMENT_COLUMNS, Segments, Smiles, find_segments
from mien.study.episodes.spans import Track, spans_above
from mien.study.rows.people import participant_rows


def rows_of(times, **scores):
    return participant_rows(film(times, **scores), keys())


def track_of(values, step=0.1):
    values = np.asarray(values, float)
    times = np.arange(len(values)) * step
    return Track(times, np.full(len(values), step), values, ~np.isnan(values))


def by_state_machine(values, on, off, least, join):
    """(first, last) of spans, frame by frame; lengths in frames."""
    spans, start, reached = [], None, False
    for number, value in enumerate([*values, float("nan")]):
        if value >= off:
            start = number if start is None else start
            reached = reached or value >= on
            continue
        if start is not None and reached:
            spans.append([start, number - 1])
        start, reached = None, False
    joined = []
    for first, last in spans:
        if joined and first - joined[-1][1] - 1 <= join:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return [(first, last) for first, last in joined if last - first + 1 >= least]


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_those_of_a_state_machine(seed):
    rng = np.random.default_rng(seed)
    values = np.clip(np.cumsum(rng.normal(0, 0.15, 300)) % 1.2, 0, 1)
    values[rng.random(300) < 0.05] = np.nan
    spans = spans_above(track_of(values), 0.6, 0.5, least_s=0.4, join_s=0.2)
    assert [(span.first, span.last) for span in spans] == by_state_machine(
        values, 0.6, 0.3, least=4, join=2
    )


def test_a_segment_has_onset_apex_offset_peak_and_area():
    times = np.arange(0, 10, 0.05)
    shown = np.interp(times, [0, 2, 3, 4, 10], [0, 0, 1, 0, 0])  # a triangle of area 1
    segments = find_segments(rows_of(times, AU04=shown), Segments(on=0.9, off=0.01 / 0.9))
    (row,) = segments.to_dict("records")
    assert (row["kind"], row["name"], row["cut_off"]) == ("action_unit", "AU04", False)
    assert row["onset_s"] == pytest.approx(2.0, abs=0.051)
    assert row["apex_s"] == pytest.approx(3.0)
    assert row["offset_s"] == pytest.approx(4.0, abs=0.051)
    assert row["peak"] == pytest.approx(1.0)
    assert row["area"] == pytest.approx(1.0, abs=0.01)
    assert row["mean"] == pytest.approx(row["area"] / row["usable_s"])
    assert row["confidence"] == pytest.approx(0.9)


def test_segments_do_not_depend_on_the_frame_rate():
    def shown(times):
        return 0.5 + 0.45 * np.sin(2 * np.pi * times / 4)

    both = []
    for rate in (15, 50):
        times = np.arange(0, 40, 1 / rate)
        segments = find_segments(rows_of(times, AU04=shown(times)))
        both.append(segments[["onset_s", "apex_s", "offset_s", "area"]].to_numpy())
    assert np.abs(both[0] - both[1]).max() < 0.1


def test_what_is_not_usable_cuts_off_unless_it_is_short():
    times = np.arange(0, 4, 0.1)
    shown = np.full(40, 0.9)
    shown[10] = np.nan  # one frame: joined
    shown[25:32] = np.nan
    segments = find_segments(rows_of(times, AU04=shown))
    assert segments["onset_s"].tolist() == pytest.approx([0, 3.2])
    assert segments["duration_s"].tolist() == pytest.approx([2.5, 0.8])
    assert segments["usable_s"].tolist() == pytest.approx([2.4, 0.8])
    assert segments["cut_off"].all()


def test_a_pause_of_the_recording_ends_a_segment():
    times = np.concatenate([np.arange(0, 2, 0.1), np.arange(60, 62, 0.1)])
    segments = find_segments(rows_of(times, AU04=0.9))
    assert segments["duration_s"].tolist() == pytest.approx([2, 2])


def test_thresholds_come_from_settings_then_the_card():
    times = np.arange(0, 2, 0.1)
    rows = rows_of(times, AU04=0.4, AU12=0.4, AU15=0.4)
    rows.attrs["dictionary"]["bundle"]["presence"] = {"AU12": 0.3, "AU15": 0.3}
    segments = find_segments(rows, Segments(thresholds={"AU15": 0.45}))
    assert segments["name"].tolist() == ["AU12"]
    assert find_segments(rows, Segments(columns=("AU04",))).empty
    pleasant = find_segments(rows.assign(valence=0.9), Segments(columns=("valence",)))
    assert pleasant["kind"].tolist() == ["score"]


@pytest.mark.parametrize("rate", [15, 25, 30, 60])
@pytest.mark.parametrize(("open_eyes", "height"), [(0.05, 0.3), (0.3, 0.5)])
def test_blinks_are_found_at_every_rate(rate, open_eyes, height):
    """Gaussian rises 0.15 s wide at half height, at random times, on eyes that are never quite open."""
    rng = np.random.default_rng(rate)
    times = np.arange(0, 60, 1 / rate)
    when = np.arange(2, 58, 2) + rng.uniform(-0.5, 0.5, 28)
    width = 0.15 / np.sqrt(8 * np.log(2))
    values = open_eyes + rng.normal(0, 0.01, len(times)) + 0.1 * np.sin(times / 5)
    for moment in when:
        values += height * np.exp(-((times - moment) ** 2) / (2 * width**2))
    segments = find_segments(rows_of(times, AU45=values))
    assert segments["kind"].eq("blink").all()
    assert segments["apex_s"].to_numpy() == pytest.approx(when, abs=0.05)
    assert segments["duration_s"].median() == pytest.approx(0.15, abs=0.03)


def test_closed_eyes_are_no_blink_and_slow_films_have_none():
    times = np.arange(0, 10, 0.04)
    closed = np.where((times > 3) & (times < 5), 0.8, 0.1)
    assert find_segments(rows_of(times, AU45=closed)).empty
    longest = Segments(blinks=Blinks(longest_s=3))
    assert len(find_segments(rows_of(times, AU45=closed), longest)) == 1
    slow = np.arange(0, 60, 0.2)
    assert find_segments(rows_of(slow, AU45=slow % 1)).empty


def test_blinks_are_read_before_smoothing():
    times = np.arange(0, 4, 0.04)
    raw = np.where(np.isclose(times % 2, 1, atol=0.05), 0.6, 0.0)
    table = film(times, AU45=0.0, AU45_raw=raw)
    assert len(find_segments(participant_rows(table, keys()))) == 2


def test_smiles_have_a_rule_of_their_own():
    times = np.arange(0, 10, 0.1)
    shown = np.where(
        (times > 4) & (times < 4.35), 0.9, 0.0
    )  # long enough for AU12, not for a smile
    shown += np.where(times > 7, 0.6, 0.0)
    segments = find_segments(rows_of(times + 100, AU12=shown))
    assert segments["kind"].tolist() == ["action_unit", "action_unit", "smile"]
    smile = segments.iloc[2]
    assert smile["onset_from_start_s"] == pytest.approx(7.1)
    assert smile["onset_s"] == pytest.approx(107.1)
    quick = Segments(smiles=Smiles(least_s=0.1))
    assert find_segments(rows_of(times, AU12=shown), quick)["kind"].eq("smile").sum() == 2


def test_nobody_in_the_film_gives_a_table_without_rows():
    segments = find_segments(rows_of(np.arange(0, 3600, 1.0), AU12=np.nan, AU45=np.nan))
    assert segments.empty
    assert {name: str(dtype) for name, dtype in segments.dtypes.items()} == dict(SEGMENT_COLUMNS)


def test_several_participants_are_kept_apart():
    times = np.arange(0, 3, 0.1)
    parts = [
        participant_rows(film(times, AU04=value), keys(participant=name, recording=name))
        for name, value in (("b", 0.9), ("a", 0.8))
    ]
    segments = find_segments(pd.concat(parts, ignore_index=True))
    assert segments["participant"].tolist() == ["b", "a"]
    assert segments["peak"].tolist() == pytest.approx([0.9, 0.8])


def test_what_cannot_be_segmented():
    times = np.arange(0, 2, 0.1)
    assert find_segments(rows_of(times, valence=0.5)).empty
    with pytest.raises(StudyError, match="no column AU99"):
        find_segments(rows_of(times, AU04=0.5), Segments(columns=("AU99",)))
    with pytest.raises(StudyError, match="no column participant"):
        find_segments(film(times, AU04=0.5))
    rows = rows_of(times, AU04=0.5)
    with pytest.raises(StudyError, match="time runs backwards; sort"):
        find_segments(rows.iloc[::-1])

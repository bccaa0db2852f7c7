"""Rows of a study: who is who, how long a frame stands, what is usable, what is normal for a person."""

import json

import numpy as np
import pandas as pd
import pytest
from study_tables import film, keys

import mien
from mien.errors import OutputError, StudyError
from mien.study.rows.baseline import Baseline, correct_baseline, measure_baselines
from mien.study.rows.clock import frame_durations
from mien.study.rows.people import People, participant_rows
from mien.study.rows.resample import resample
from mien.study.rows.usable import Usable, usable_line
from mien.study.rows.weighted import weighted_mean, weighted_quantile, weighted_sd
from mien.study.tables import describe, save


def rows_of(table, people=None, usable=None, **names):
    return participant_rows(table, keys(**names), people, usable)


def two_faces(left=(0, 100.0), right=(1, 300.0), frames=4):
    """Two people side by side, as (face number, left edge)."""
    times = np.arange(frames) / 10
    tables = [
        film(times, face=face, box=(x, 50.0, size, 90.0), valence=x / 1000)
        for (face, x), size in ((left, 80.0), (right, 60.0))
    ]
    both = pd.concat(tables).sort_values(["frame", "face"], ignore_index=True)
    both.attrs = tables[0].attrs
    return both


def test_durations_add_up_to_the_clock_but_for_pauses():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.1, 200))
    durations = frame_durations(times, "a")
    assert durations[:-1] == pytest.approx(np.diff(times))
    assert durations[-1] == pytest.approx(np.median(np.diff(times)))
    paused = np.concatenate([times, times + times[-1] + 60])
    assert frame_durations(paused, "a").sum() < 2 * durations.sum() + 0.1


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.2, 0.1], "time runs backwards, 0.1 s after 0.2 s"),
        ([0.0, np.nan, 0.1], "row 1 has no time"),
        ([0.0], "one time only"),
        ([0.0, 0.0], "one time only"),
    ],
)
def test_clocks_that_cannot_be_used(times, message):
    with pytest.raises(StudyError, match=f"^a: .*{message}"):
        frame_durations(times, "a")


def test_weights_count_as_copies_do():
    rng = np.random.default_rng(1)
    values = rng.normal(size=50)
    copies = rng.integers(1, 5, 50)
    repeated = np.repeat(values, copies)
    assert weighted_mean(values, copies) == pytest.approx(repeated.mean())
    assert weighted_sd(values, copies) == pytest.approx(repeated.std())
    shares = [0.1, 0.5, 0.9]
    assert weighted_quantile(values, copies, shares) == pytest.approx(
        np.quantile(repeated, shares, method="inverted_cdf")
    )


def test_every_frame_has_a_row_also_where_nobody_is_seen():
    valence = np.array([0.1, np.nan, 0.3, np.nan])
    rows = rows_of(film([5.0, 5.1, 5.2, 5.3], valence=valence))
    assert rows["time_from_start_s"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rows["status"].tolist() == ["ok", "no_face", "ok", "no_face"]
    assert rows["usable"].tolist() == [True, False, True, False]
    assert rows["duration_s"].sum() == pytest.approx(0.4)
    assert rows["participant"].eq("01").all()
    assert usable_line(rows) == "50 % of 0.4 s usable; no_face 50 %"


@pytest.mark.parametrize(
    ("created", "began_s"),
    [
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("2026-01-01T10:00:00", np.nan),
        ("2026", np.nan),
        (None, np.nan),
    ],
)
def test_frames_have_the_time_of_day_where_the_film_states_when_it_began(created, began_s):
    table = film([5.0, 5.1, 5.2], valence=0.1)
    table.attrs["dictionary"] = {
        **table.attrs.get("dictionary", {}),
        "media": [{"created": created}],
    }
    rows = rows_of(table)
    expected = began_s + np.array([0, 0.1, 0.2])
    assert rows["unix_time_s"].to_numpy() == pytest.approx(expected, nan_ok=True)
    assert resample(rows, 20)["unix_time_s"].diff().iloc[1:].to_numpy() == pytest.approx(
        np.full(5, 0.05 if np.isfinite(began_s) else np.nan), nan_ok=True
    )


def test_of_two_people_each_has_the_whole_clock():
    table = two_faces()
    table = table.drop(index=table.index[[1, 2]])  # ben is away in frame 0, anna in frame 1
    people = People(faces="map", map={0: "anna", 1: "ben"})
    for name, away in (("anna", 1), ("ben", 0)):
        rows = rows_of(table, people, participant=name)
        assert rows["frame"].tolist() == [0, 1, 2, 3]
        assert rows["usable"].tolist() == [number != away for number in range(4)]
        assert rows.loc[away, "unusable_because"] == "no_face"


def test_seats_go_from_left_to_right_whatever_the_numbers():
    table = two_faces(left=(7, 100.0), right=(3, 300.0), frames=6)
    table.loc[table["face"].eq(7) & table["frame"].ge(3), "face"] = 9  # the track broke
    table = table.drop(index=table.index[table["face"].eq(3) & table["frame"].eq(5)])
    people = People(faces="seats", seats=("anna", "ben"))
    left = rows_of(table, people, participant="anna")
    right = rows_of(table, people, participant="ben")
    assert left["face"].tolist() == [7, 7, 7, 9, 9, 9]
    assert right["face"].dropna().tolist() == [3] * 5


def test_the_largest_face_is_the_participant():
    rows = rows_of(two_faces(), People(faces="largest"))
    assert rows["face"].tolist() == [0, 0, 0, 0]


def test_a_column_of_people_names_them():
    table = two_faces()
    table["person"] = table["face"].map({0: "p", 1: "q"})
    assert rows_of(table, People(faces="person"), participant="q")["face"].eq(1).all()


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (People(), r"frame 0 \(0.00 s\) shows more than one face"),
        (People(faces="seats", seats=("a", "b", "c")), "no frame shows 3 faces"),
        (People(faces="map", map={5: "a"}), "has no face 5, .* it has 0, 1"),
        (People(faces="person"), "no column person"),
    ],
)
def test_who_is_who_cannot_always_be_told(people, message):
    with pytest.raises(StudyError, match=message):
        rows_of(two_faces(), people)


def test_tables_of_many_inputs_are_refused():
    table = pd.concat([film([0, 0.1], valence=0.0), film([0, 0.1], source="b.mp4", valence=0.0)])
    with pytest.raises(StudyError, match="2 inputs"):
        rows_of(table)


@pytest.mark.parametrize("options", [{"faces": "seats"}, {"map": {0: "a"}}, {"seats": ("a", "a")}])
def test_rules_for_faces_need_what_they_are_about(options):
    with pytest.raises(ValueError, match=r"belong|two seats"):
        People(**options)


def test_each_threshold_has_its_reason():
    table = film(np.arange(7) / 10, valence=np.array([0.1, 0.1, 0.1, 0.1, 0.1, np.nan, 0.1]))
    table["quality"] = np.float32(0.9)
    table.loc[1, "confidence"] = 0.59
    table.loc[2, "box_w"] = 31.0
    table.loc[3, "quality"] = 0.1
    table.loc[4, "status"] = "doubtful"
    table.loc[6, "status"] = "gap"
    rows = rows_of(table, usable=Usable(quality=0.5))
    assert rows["unusable_because"].fillna("").tolist() == [
        "",
        "low_confidence",
        "small_face",
        "low_quality",
        "doubtful",
        "no_face",
        "",
    ]
    with pytest.raises(StudyError, match="no column quality"):
        rows_of(film([0, 1], valence=0.0), usable=Usable(quality=0.5))


def smiling_after_rest(resting=-0.32, smile=0.9, quiet_s=2.0):
    """25 frames a second: rest, then a smile of a known size."""
    times = np.arange(0, 4, 0.04)
    return film(times, valence=np.where(times < quiet_s, resting, resting + smile), AU12=0.1)


def test_a_resting_face_is_0_and_keeps_the_size_of_a_smile():
    rows = rows_of(smiling_after_rest())
    fixed = correct_baseline(rows, Baseline(of="span", span=(0, 1.9)))
    assert fixed["valence_corrected"].iloc[0] == pytest.approx(0, abs=1e-6)
    assert fixed["valence_corrected"].max() == pytest.approx(0.9, abs=1e-6)
    # Raw scores stay, and what was measured undoes the step.
    assert fixed["valence"].equals(rows["valence"])
    (measured,) = [
        entry for entry in fixed.attrs["baseline"]["measured"] if entry["column"] == "valence"
    ]
    assert measured["centre"] == pytest.approx(-0.32)
    undone = fixed["valence_corrected"] + measured["centre"]
    assert undone.to_numpy() == pytest.approx(fixed["valence"].to_numpy())


def test_a_condition_is_the_baseline_of_all_recordings_of_its_person():
    rest = [film(np.arange(20) / 10, valence=value, AU12=0.0) for value in (-0.3, 0.2)]
    task = [film(np.arange(20) / 10, valence=value, AU12=0.5) for value in (0.0, 0.5)]
    parts = []
    for person, tables in enumerate(zip(rest, task, strict=True)):
        for condition, table in zip(("rest", "task"), tables, strict=True):
            names = {"participant": str(person), "recording": f"{person}-{condition}"}
            parts.append(rows_of(table, condition=condition, **names))
    rows = pd.concat(parts, ignore_index=True)
    fixed = correct_baseline(rows, Baseline(of="condition", condition="rest"))
    by = fixed.groupby(["participant", "condition"])["valence_corrected"].mean()
    assert by.round(6).tolist() == pytest.approx([0, 0.3, 0, 0.3])


def test_baselines_weigh_frames_by_how_long_they_stand():
    # Three seconds of 0 in 30 frames, two seconds of 1 in 200.
    times = np.concatenate([np.arange(0, 3, 0.1), np.arange(3, 5, 0.01)])
    rows = rows_of(film(times, valence=np.where(times < 3 - 1e-9, 0.0, 1.0)))
    measured = measure_baselines(rows, Baseline(of="span", span=(0, 5)))
    assert measured["centre"].tolist() == [0.0]


def test_quantiles_are_of_action_units_only():
    rng = np.random.default_rng(2)
    rows = rows_of(film(np.arange(500) / 25, valence=rng.normal(size=500), AU12=rng.random(500)))
    measured = measure_baselines(rows, Baseline(of="quantile", quantile=0.05))
    centre = measured.set_index("column")["centre"]
    assert centre["AU12"] == pytest.approx(np.quantile(rows["AU12"], 0.05), abs=0.01)
    assert centre["valence"] == pytest.approx(np.median(rows["valence"]), abs=0.05)


def test_z_is_in_robust_deviations():
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 0.1, 2000)
    values[:50] = 40  # a burst that a mean would not survive
    rows = rows_of(film(np.arange(2000) / 25, valence=values))
    fixed = correct_baseline(rows, Baseline(of="span", span=(0, 80), method="z"))
    assert fixed["valence_z"][50:].std() == pytest.approx(1, abs=0.1)
    assert fixed["valence_z"][50:].mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (Baseline(of="span", span=(0, 1)), r"no usable frame in the baseline \(0 % of .* no_face"),
        (Baseline(of="span", span=(50, 60)), "does not reach the baseline's span"),
        (
            Baseline(of="condition", condition="rest"),
            "no recording of condition rest, only of film",
        ),
        (Baseline(of="quantile", quantile=0.1, columns=("AU99",)), "no column AU99"),
        (Baseline(of="span", span=(1.2, 1.9), method="z"), "AU12 does not vary"),
    ],
)
def test_baselines_that_cannot_be_measured(baseline, message):
    table = smiling_after_rest()
    table.loc[table["time_s"] < 1.1, "status"] = "no_face"
    table.loc[table["time_s"] < 1.1, "face"] = pd.NA
    table["valence"] += np.sin(np.arange(len(table)))
    with pytest.raises(StudyError, match=message):
        correct_baseline(rows_of(table), baseline)


def test_who_has_no_reference_is_named():
    rows = rows_of(smiling_after_rest(), participant="02", recording="x")
    rest = rows_of(smiling_after_rest(), participant="01")
    with pytest.raises(StudyError, match="participant 02: has no baseline"):
        correct_baseline(rows, Baseline(of="file", file="x.csv"), rest)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_tables_come_back_as_they_were(tmp_path, suffix):
    rows = correct_baseline(
        rows_of(smiling_after_rest(resting=0.25, smile=0.5)), Baseline(of="span", span=(0, 1))
    )
    path = save(rows, tmp_path / f"rows.{suffix}", "rows")
    back = mien.read_table(path)
    pd.testing.assert_frame_equal(back, rows, check_exact=False, atol=1e-5)
    dictionary = json.loads((tmp_path / "rows.dictionary.json").read_text())
    assert dictionary["table"] == "rows"
    assert dictionary["baseline"]["measured"][0]["column"] == "valence"
    entries = {entry["name"]: entry for entry in dictionary["columns"]}
    assert entries["valence_corrected"]["unit"] == "score"


def test_nothing_half_written_stays(tmp_path):
    rows = rows_of(smiling_after_rest())
    save(rows, tmp_path / "rows.csv", "rows")
    rows["odd"] = pd.Series([{1}] * len(rows))
    with pytest.raises(Exception, match="set"):
        save(rows, tmp_path / "rows.csv", "rows")
    with pytest.raises(OutputError):
        save(rows, tmp_path / "none" / "rows.csv", "rows")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "rows.dictionary.json"}
    assert "odd" not in mien.read_table(tmp_path / "rows.csv")


def test_meanings_follow_from_names():
    sources = {"valence": {"name": "valence", "unit": "score", "meaning": "How pleasant."}}
    entry = describe("valence_corrected_mean_low", sources)
    assert entry["meaning"] == "Lower end of the 95 % interval of valence_corrected_mean."
    assert entry["unit"] == "score"
    assert describe("no_face_s", {})["unit"] == "seconds"

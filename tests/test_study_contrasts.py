"""Contrasts within people and synchrony of two, against scipy, brute force and known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_tables import film, keys

from mien.errors import StudyError
from mien.study.rows.people import participant_rows
from mien.study.statistics.contrasts import contrast, group_means, measures
from mien.study.statistics.summaries import Summaries
from mien.study.statistics.synchrony import Synchrony, _correlations, measure_synchrony


def summaries(people=20, effect=0.3, seed=0):
    """Rest and film of people who differ, with one effect, in two sessions."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 1, people)
    rows = []
    for condition, shift in (("rest", 0.0), ("film", effect)):
        for session in ("1", "2"):
            values = own + shift + rng.normal(0, 0.2, people)
            rows.append(
                pd.DataFrame(
                    {
                        "participant": [f"{number:02}" for number in range(people)],
                        "condition": condition,
                        "session": session,
                        "valence_mean": values,
                        "valence_mean_low": values - 1,
                        "valence_sd": 1.0,
                        "smile_per_min": rng.poisson(3, people).astype(float),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def test_only_statistics_are_compared():
    assert measures(summaries()) == ["valence_mean", "smile_per_min"]


def test_groups_have_the_interval_of_the_mean():
    table = summaries(people=200)
    groups = group_means(table, settings=Summaries(draws=4000))
    assert len(groups) == 2 * 2 * 2
    row = groups.iloc[0]
    part = table[(table["condition"] == "rest") & (table["session"] == "1")]["valence_mean"]
    assert (row["mean"], row["sd"]) == pytest.approx((part.mean(), part.std()))
    expected = stats.norm.interval(0.95, part.mean(), part.sem())
    assert (row["low"], row["high"]) == pytest.approx(expected, abs=0.02)
    both = group_means(table, by=("condition",))
    assert both["people"].eq(200).all()


def test_groups_are_also_those_of_the_participants():
    table = summaries(people=4).assign(diagnosis=["a", "b"] * 8)
    groups = group_means(table, by=("diagnosis",))
    assert groups["people"].eq(2).all()
    with pytest.raises(StudyError, match="no column age"):
        group_means(table, by=("age",))


def test_a_contrast_is_that_of_paired_differences():
    table = summaries(people=80)
    result = contrast(table, [("rest", "film")], settings=Summaries(draws=4000))
    row = result.iloc[0]
    means = table.groupby(["condition", "participant"])["valence_mean"].mean()
    differences = (means.loc["film"] - means.loc["rest"]).to_numpy()
    t_test = stats.ttest_1samp(differences, 0)
    assert row["difference"] == pytest.approx(differences.mean())
    assert row["difference"] == pytest.approx(row["mean_b"] - row["mean_a"])
    # d_z is t over the root of the number of people.
    assert row["effect_size"] == pytest.approx(t_test.statistic / np.sqrt(80))
    interval = t_test.confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=0.005)
    back = contrast(table, [("film", "rest")], ["valence_mean"]).iloc[0]
    assert back["difference"] == pytest.approx(-row["difference"])


def test_who_has_no_value_in_both_is_not_counted():
    table = summaries(people=5)
    table.loc[(table["participant"] == "00") & (table["condition"] == "film"), "valence_mean"] = (
        np.nan
    )
    table = table[~((table["participant"] == "01") & (table["condition"] == "rest"))]
    result = contrast(table, [("rest", "film")]).set_index("measure")
    assert result["people"].to_dict() == {"valence_mean": 3, "smile_per_min": 4}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("rest", "flim")], "no condition 'flim'; there are 'rest', 'film'"),
        ([("rest", "other")], "nobody is in both conditions rest and other"),
    ],
)
def test_conditions_that_cannot_be_compared(pairs, message):
    table = pd.concat([summaries(3), summaries(1).assign(participant="x", condition="other")])
    with pytest.raises(StudyError, match=message):
        contrast(table, pairs)


def moving(seconds=200, seed=0):
    """Smooth noise at 10 samples a second."""
    rng = np.random.default_rng(seed)
    times = np.arange(0, seconds, 0.1)
    knots = np.arange(0, seconds + 1, 0.5)
    return times, np.interp(times, knots, rng.normal(0, 0.3, len(knots)))


def rows_of(times, values, name):
    return participant_rows(film(times, valence=values), keys(participant=name))


def test_who_follows_is_synchronous_at_the_lag():
    times, leader = moving()
    _, noise = moving(seed=1)
    follower = np.roll(leader, 7) + 0.3 * noise
    result = measure_synchrony(rows_of(times, leader, "a"), rows_of(times, follower, "b"))
    (row,) = result.to_dict("records")
    assert (row["participant_a"], row["participant_b"], row["column"]) == ("a", "b", "valence")
    assert row["lag_s"] == pytest.approx(0.7)
    assert row["correlation"] > 0.8
    assert row["p"] == pytest.approx(1 / 1000)
    assert row["synchrony"] > row["surrogate_mean"]
    back = measure_synchrony(rows_of(times, follower, "b"), rows_of(times, leader, "a"))
    assert back["lag_s"][0] == pytest.approx(-0.7)


def test_strangers_are_as_synchronous_as_surrogates():
    values = []
    for seed in range(40):
        times, first = moving(100, seed=2 * seed)
        _, second = moving(100, seed=2 * seed + 1)
        settings = Synchrony(surrogates=99, window_s=5, lag_s=1)
        pair = measure_synchrony(rows_of(times, first, "a"), rows_of(times, second, "b"), settings)
        values.append(pair["p"][0])
    # Under chance p is uniform.
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_correlations_are_those_of_numpy_over_what_both_have():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 50))
    y = rng.normal(size=(3, 50))
    x[rng.random(x.shape) < 0.1] = np.nan
    y[rng.random(y.shape) < 0.1] = np.nan
    result = _correlations(x, y)
    for i in range(4):
        for j in range(3):
            both = ~np.isnan(x[i]) & ~np.isnan(y[j])
            assert result[i, j] == pytest.approx(np.corrcoef(x[i, both], y[j, both])[0, 1])
    assert np.isnan(_correlations(np.full((1, 50), 0.3), y)).all()


def test_little_common_time_has_no_statistics():
    times, values = moving(100)
    away = values.copy()
    away[300:] = np.nan
    row = measure_synchrony(rows_of(times, values, "a"), rows_of(times, away, "b")).iloc[0]
    assert (row["windows"], row["seconds"]) == (3, 30)
    assert np.isnan(row["p"])
    still = measure_synchrony(rows_of(times, values, "a"), rows_of(times, 0.2, "b")).iloc[0]
    assert np.isnan(still["synchrony"])


def test_the_same_seed_gives_the_same_surrogates():
    times, values = moving(60)
    a, b = rows_of(times, values, "a"), rows_of(times, np.roll(values, 9), "b")
    first, second = (measure_synchrony(a, b, Synchrony(seed=seed)) for seed in (5, 5))
    pd.testing.assert_frame_equal(first, second)


def test_what_cannot_be_measured():
    times, values = moving(20)
    rows = participant_rows(film(times, arousal=values), keys())
    with pytest.raises(StudyError, match="neither valence nor AU12"):
        measure_synchrony(rows, rows)
    with pytest.raises(StudyError, match="no column AU99"):
        measure_synchrony(rows, rows, Synchrony(columns=("AU99",)))
    with pytest.raises(ValueError, match="more than half a window"):
        Synchrony(window_s=2, lag_s=1.5)

"""People as a group: means of conditions, and differences between two, within people."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mien.errors import StudyError
from mien.study.rows.layout import require_columns, without_attributes
from mien.study.statistics.bootstrap import people_interval
from mien.study.statistics.summaries import Summaries
from mien.tasks import Floats

__all__ = ["contrast", "group_means", "measures"]

# Ends of the names of columns of summaries that are compared.
_MEASURES: Final = ("_mean", "_share", "_per_min", "_segment_s", "_latency_s")
_THEN: Final = "make summaries with `mien study summaries` first"


def measures(summaries: pd.DataFrame) -> list[str]:
    """The columns of summaries that are compared between people and conditions.

    Args:
        summaries: The summaries.

    Returns:
        Names of means, shares, rates, lengths and latencies, in the order of the table.
    """
    return [str(name) for name in summaries if str(name).endswith(_MEASURES)]


def group_means(
    summaries: pd.DataFrame,
    by: Sequence[str] = ("condition", "session"),
    settings: Summaries | None = None,
) -> pd.DataFrame:
    """Means over people, in each condition and session.

    Args:
        summaries: Summaries of people, and whatever columns of the participants are in `by`.
        by: The columns that tell groups apart.
        settings: How often to draw people, and the seed; None for the defaults.

    Returns:
        One row per group and measure: `by`, ``measure``, ``people`` with a value, ``mean``, ``sd``
        (of a sample), and ``low`` and ``high``, the 95 % interval by drawing people. A person with
        several rows in a group counts once, by their mean.

    Raises:
        StudyError: A column is missing.
    """
    settings = settings or Summaries()
    require_columns(summaries, ["participant", *by], "the summaries", _THEN)
    names = measures(summaries)
    table = without_attributes(summaries)
    groups: list[dict[str, Any]] = []
    for values, part in table.groupby(list(by), sort=False, dropna=False):
        people = part.groupby("participant")[names].mean().to_numpy(np.float64)
        low, high = people_interval(people, settings.draws, settings.seed)
        for position, name in enumerate(names):
            present = people[~np.isnan(people[:, position]), position]
            group = dict(zip(by, values, strict=True)) | {"measure": name}
            group |= {"people": len(present), **_mean_and_sd(present)}
            groups.append({**group, "low": low[position], "high": high[position]})
    columns = [*by, "measure", "people", "mean", "sd", "low", "high"]
    result = pd.DataFrame(groups, columns=columns)
    result.attrs = dict(summaries.attrs)
    return result


def _mean_and_sd(values: Floats) -> dict[str, float]:
    nan = float("nan")
    mean = float(values.mean()) if len(values) else nan
    return {"mean": mean, "sd": float(values.std(ddof=1)) if len(values) > 1 else nan}


def contrast(
    summaries: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    names: Sequence[str] = (),
    settings: Summaries | None = None,
) -> pd.DataFrame:
    """Compare conditions within people.

    Args:
        summaries: Summaries of people; of several sessions a person's mean counts.
        pairs: Pairs of conditions a, b.
        names: The measures to compare; without any, all of `measures`.
        settings: How often to draw people, and the seed; None for the defaults.

    Returns:
        One row per pair and measure: ``condition_a``, ``condition_b``, ``measure``, ``people`` with
        a value in both, ``mean_a``, ``mean_b``, ``difference`` (the mean of b minus a), ``low`` and
        ``high``, its 95 % interval by drawing people, and ``effect_size``, the difference over the
        standard deviation of the differences (d_z, Lakens 2013). With many measures some intervals
        leave 0 out by chance: decide beforehand which to report.

    Raises:
        StudyError: A condition or a column is missing, or nobody is in both conditions.
    """
    settings = settings or Summaries()
    require_columns(summaries, ["participant", "condition", *names], "the summaries", _THEN)
    names = list(names) or measures(summaries)
    table = without_attributes(summaries)
    people = table.groupby(["condition", "participant"])[names].mean()
    known = list(dict.fromkeys(table["condition"]))
    contrasts: list[dict[str, Any]] = []
    for pair in pairs:
        for condition in pair:
            if condition not in known:
                shown = ", ".join(map(repr, known))
                raise StudyError(f"there is no condition {condition!r}; there are {shown}")
        a, b = people.loc[pair[0]].align(people.loc[pair[1]], join="inner", axis=0)
        if not len(a):
            raise StudyError(
                f"nobody is in both conditions {pair[0]} and {pair[1]}; "
                "contrasts are within people, compare groups with another program"
            )
        both = [a.to_numpy(np.float64), b.to_numpy(np.float64)]
        for name, entry in zip(names, _compared(both[0], both[1], settings), strict=True):
            conditions = {"condition_a": pair[0], "condition_b": pair[1]}
            contrasts.append({**conditions, "measure": name, **entry})
    result = pd.DataFrame(contrasts)
    result.attrs = dict(summaries.attrs)
    return result


def _compared(a: Floats, b: Floats, settings: Summaries) -> list[dict[str, Any]]:
    """Each measure of the same people (N, K) in two conditions."""
    differences = b - a
    low, high = people_interval(differences, settings.draws, settings.seed)
    entries = []
    for position in range(differences.shape[1]):
        both = ~np.isnan(differences[:, position])
        difference = _mean_and_sd(differences[both, position])
        entry: dict[str, Any] = {"people": int(both.sum())}
        entry["mean_a"] = _mean_and_sd(a[both, position])["mean"]
        entry["mean_b"] = _mean_and_sd(b[both, position])["mean"]
        entry["difference"] = difference["mean"]
        entry |= {"low": low[position], "high": high[position]}
        # Without spread there is no size to compare the difference with.
        spread = difference["sd"] if difference["sd"] else float("nan")
        entry["effect_size"] = difference["mean"] / spread
        entries.append(entry)
    return entries

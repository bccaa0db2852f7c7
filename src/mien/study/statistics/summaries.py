"""One row per person, condition and session: what a paper reports, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from mien.errors import StudyError
from mien.study.episodes.blinks import SLOWEST_S
from mien.study.episodes.epochs import epoch_segments
from mien.study.rows.layout import KEYS, require_columns, score_columns, without_attributes
from mien.study.rows.usable import REASONS, usable_line
from mien.study.rows.weighted import weighted_mean, weighted_quantile, weighted_sd
from mien.study.statistics.bootstrap import block_interval
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = ["CELL", "Summaries", "segment_names", "summarize", "summarize_epochs"]

CELL: Final = ("participant", "condition", "session")
"""What a summary is over."""
# Stretches of time that the bootstrap adds frames up in, s.
_STRETCH_S: Final = 1.0


class Summaries(StrictSettings):
    """What summaries hold.

    Attributes:
        quantiles: Of every score, as shares of usable time.
        block_s: Length of the blocks of time that the bootstrap draws, s: longer than what is
            seen of an expression, shorter than a quarter of the usable time.
        draws: How many times to draw, for intervals over time and over people.
        seed: The same seed gives the same intervals.
    """

    quantiles: tuple[Annotated[float, Field(ge=0.01, le=0.99)], ...] = (0.1, 0.5, 0.9)
    block_s: Annotated[float, Field(ge=1)] = 5.0
    draws: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


def summarize(
    rows: pd.DataFrame,
    segments: pd.DataFrame,
    settings: Summaries | None = None,
    *,
    by: Sequence[str] = CELL,
    intervals: bool = True,
) -> pd.DataFrame:
    """Summarize rows and segments.

    All means, deviations, quantiles and shares are over usable time: frames weigh as long as they
    stand. Intervals are of one person's time, of 95 %, by a block bootstrap.

    Args:
        rows: Rows of a study.
        segments: Their segments, from `mien.study.episodes.segments.find_segments`.
        settings: What summaries hold; None for the defaults.
        by: The columns that tell summaries apart.
        intervals: Whether to give intervals.

    Returns:
        One row per combination of `by` that occurs, in the order of the rows; the columns are
        listed in docs/howto/study.md. Counts and rates of blinks are missing for films whose frames
        are more than 0.1 s apart, and all statistics are for who is never usable.

    Raises:
        StudyError: A column is missing.
    """
    settings = settings or Summaries()
    then = "make rows with `mien study rows` first"
    needed = [*by, "recording", "time_from_start_s", "duration_s", "usable", "unusable_because"]
    require_columns(rows, needed, "the table", then)
    require_columns(segments, [*by, "name"], "the segments", "find them in these rows")
    names = segment_names(segments)
    table = without_attributes(rows)
    events = without_attributes(segments)
    events_of = dict(list(events.groupby(list(by), sort=False)))
    summaries: list[dict[str, Any]] = []
    for values, part in table.groupby(list(by), sort=False):
        cell = _Cell(part, events_of.get(values, events.iloc[:0]), settings)
        summary = dict(zip(by, values, strict=True)) | cell.time()
        summary |= cell.scores(intervals) | cell.segments(names, intervals)
        summaries.append(summary)
    if not summaries:
        raise StudyError(
            "the table has no rows, so there is nothing to summarize; read films first"
        )
    result = pd.DataFrame(summaries)
    result.attrs = {**rows.attrs, "summaries": settings.model_dump(mode="json")}
    return result


def summarize_epochs(
    epochs: pd.DataFrame, segments: pd.DataFrame, settings: Summaries | None = None
) -> pd.DataFrame:
    """Summarize epochs, from the onset of their events on.

    Args:
        epochs: Epochs, from `mien.study.episodes.epochs.cut_epochs`.
        segments: The segments of the rows they were cut from.
        settings: What summaries hold; None for the defaults.

    Returns:
        One row per participant and event: the keys, ``trial``, ``trial_type``, ``event_onset_s``,
        ``event_duration_s``, the events' other columns, then as `summarize` gives them, without
        intervals. ``smile_latency_s`` is from the onset.

    Raises:
        StudyError: A column is missing.
    """
    table = without_attributes(epochs)
    by = [*KEYS, "trial"]
    after = table[table["time_from_onset_s"] >= 0]
    inside = epoch_segments(segments, epochs)
    statistics = summarize(after, inside, settings, by=by, intervals=False)
    facts = epochs.attrs.get("epochs", {})
    described = [*by, *facts.get("columns", ("trial_type", "event_onset_s", "event_duration_s"))]
    result = table[described].drop_duplicates(by).merge(statistics, on=by)
    result.attrs = {**epochs.attrs, "summaries": statistics.attrs["summaries"]}
    return result.drop(columns="recordings")


def segment_names(segments: pd.DataFrame) -> list[str]:
    """Names of what was looked for, whether or not there is any.

    Args:
        segments: The table of segments.

    Returns:
        The names as its ``.attrs`` have them, else those that occur.
    """
    known = segments.attrs.get("segments", {}).get("names")
    return sorted(segments["name"].unique()) if known is None else list(known)


@dataclass(frozen=True, slots=True)
class _Cell:
    """The rows and segments of one summary."""

    rows: pd.DataFrame
    events: pd.DataFrame
    settings: Summaries

    def time(self) -> dict[str, Any]:
        """How much was recorded, how much is usable, and why the rest is not."""
        seconds = float(self.rows["duration_s"].sum())
        usable = self.usable_s
        summary: dict[str, Any] = {
            "recordings": int(self.rows["recording"].nunique()),
            "seconds": seconds,
            "usable_s": usable,
            "usable_share": usable / seconds if seconds else float("nan"),
        }
        lost = self.rows.groupby("unusable_because")["duration_s"].sum()
        for reason in REASONS:
            summary[f"{reason}_s"] = float(lost.get(reason, 0.0))
        summary["unusable_because"] = usable_line(self.rows).partition("; ")[2]
        return summary

    @property
    def usable_s(self) -> float:
        return float(self.rows.loc[self.rows["usable"], "duration_s"].sum())

    def scores(self, intervals: bool) -> dict[str, float]:
        """Mean, spread and quantiles of scores, and shares of expressions."""
        columns = score_columns(self.rows.columns)
        usable = self.rows[self.rows["usable"]]
        weights = usable["duration_s"].to_numpy(np.float64)
        low, high = self._intervals_of_means(columns) if intervals else ({}, {})
        # What was computed from probabilities is no probability.
        shares = set(score_columns(columns, computed=False))
        shares = {column for column in shares if column.startswith("expr_")}
        summary: dict[str, float] = {}
        for column in columns:
            values = usable[column].to_numpy(np.float64)
            # The mean of an expression's probabilities is its share of the time.
            is_share = column in shares
            name = f"{column}_share" if is_share else f"{column}_mean"
            summary[name] = weighted_mean(values, weights)
            if intervals:
                summary |= {f"{name}_low": low[column], f"{name}_high": high[column]}
            if is_share:
                summary[f"{column}_label_share"] = _label_share(usable, column, weights)
                continue
            summary[f"{column}_sd"] = weighted_sd(values, weights)
            quantiles = weighted_quantile(values, weights, self.settings.quantiles)
            for share, quantile in zip(self.settings.quantiles, quantiles, strict=True):
                summary[f"{column}_q{round(100 * share):02d}"] = float(quantile)
        return summary

    def _intervals_of_means(
        self, columns: Sequence[str]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        weights = self.rows["duration_s"].to_numpy(np.float64) * self.rows["usable"]
        stretches = self._stretches()
        number = int(stretches.max()) + 1
        sums = np.zeros((number, len(columns)))
        totals = np.zeros((number, len(columns)))
        for position, column in enumerate(columns):
            values = self.rows[column].to_numpy(np.float64)
            present = np.where(np.isnan(values), 0.0, weights)
            sums[:, position] = np.bincount(stretches, present * np.nan_to_num(values), number)
            totals[:, position] = np.bincount(stretches, present, number)
        low, high = self._intervals(sums, totals)
        return dict(zip(columns, low, strict=True)), dict(zip(columns, high, strict=True))

    def _intervals(self, sums: Floats, weights: Floats) -> tuple[Floats, Floats]:
        block = max(1, round(self.settings.block_s / _STRETCH_S))
        return block_interval(sums, weights, block, self.settings.draws, self.settings.seed)

    def _stretches(self) -> NDArray[np.intp]:
        """Number of the stretch of time that each row begins in, over all recordings."""
        return _numbers(self.rows["recording"], self.rows["time_from_start_s"])[0]

    def segments(self, names: Sequence[str], intervals: bool) -> dict[str, float]:
        """How often, how long, and how much of the time there is a segment of each name."""
        usable = self.usable_s
        summary: dict[str, float] = {}
        low, high = self._intervals_of_rates(names) if intervals else ({}, {})
        for name in names:
            events = self.events[self.events["name"] == name]
            # Blinks fall between frames that are far apart: then none is not zero.
            missing = not usable or (name == "blink" and self._is_slow())
            count = float("nan") if missing else float(len(events))
            summary[f"{name}_count"] = count
            summary[f"{name}_per_min"] = 60 * count / usable if usable else float("nan")
            if intervals:
                summary[f"{name}_per_min_low"] = float("nan") if missing else low[name]
                summary[f"{name}_per_min_high"] = float("nan") if missing else high[name]
            summary[f"{name}_segment_s"] = float(events["duration_s"].mean())
            covered = float(events["usable_s"].sum())
            summary[f"{name}_present_share"] = float("nan") if missing else covered / usable
        if "smile" in names:
            smiles = self.events[self.events["name"] == "smile"]
            first = smiles.groupby("recording")[self._onset].min()
            summary["smile_latency_s"] = float(first.mean())
        return summary

    @property
    def _onset(self) -> str:
        """What the onsets of segments are counted from."""
        is_epoch = "time_from_onset_s" in self.events
        return "time_from_onset_s" if is_epoch else "onset_from_start_s"

    def _is_slow(self) -> bool:
        return float(self.rows["duration_s"].median()) > SLOWEST_S

    def _intervals_of_rates(
        self, names: Sequence[str]
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        numbers, codes = _numbers(self.rows["recording"], self.rows["time_from_start_s"])
        number = int(numbers.max()) + 1
        weights = self.rows["duration_s"].to_numpy(np.float64) * self.rows["usable"]
        minutes = np.bincount(numbers, weights, number)[:, None] / 60
        counts = np.zeros((number, len(names)))
        for position, name in enumerate(names):
            events = self.events[self.events["name"] == name]
            stretch = np.floor(events["onset_from_start_s"] / _STRETCH_S).astype(int)
            for key in zip(events["recording"], stretch, strict=True):
                # A blink may begin between two frames, in a stretch without any.
                counts[codes.get(key, 0), position] += 1
        low, high = self._intervals(counts, np.broadcast_to(minutes, counts.shape))
        return dict(zip(names, low, strict=True)), dict(zip(names, high, strict=True))


def _numbers(
    recording: "pd.Series[str]", from_start: "pd.Series[float]"
) -> tuple[NDArray[np.intp], Mapping[tuple[str, int], int]]:
    """Number of each row's stretch of time, and of each (recording, stretch)."""
    stretch = np.floor(from_start / _STRETCH_S).astype(int)
    pairs = pd.MultiIndex.from_arrays([recording, stretch])
    numbers, unique = pd.factorize(pairs)
    return numbers, {(str(name), int(at)): number for number, (name, at) in enumerate(unique)}


def _label_share(usable: pd.DataFrame, column: str, weights: Floats) -> float:
    """Share of the time in which an expression is the label."""
    if "expression" not in usable:
        return float("nan")
    label = usable["expression"]
    is_label = (label == column.removeprefix("expr_")).astype(float).mask(label.isna())
    return weighted_mean(is_label, weights)

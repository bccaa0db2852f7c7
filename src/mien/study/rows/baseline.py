"""What is normal for a person, taken off their scores.

Faces at rest read as something: some as sad, some as stern. The scores of a person are comparable
over time and between conditions as they are; between people, what each looks like at rest is taken
off first.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from mien.errors import StudyError
from mien.study.rows.layout import (
    KEYS,
    label,
    require_columns,
    score_columns,
    without_attributes,
)
from mien.study.rows.usable import usable_line
from mien.study.rows.weighted import weighted_quantile
from mien.study.strict import StrictSettings

__all__ = ["Baseline", "correct_baseline", "measure_baselines"]

# Makes the median absolute deviation of normally distributed values their standard deviation.
_NORMAL: Final = 1.4826


class Baseline(StrictSettings):
    """Where the baseline of a person is, and what becomes of the scores.

    Attributes:
        of: ``span``: the seconds `span` of each recording, for that recording; ``condition``: all
            recordings of the person in `condition`; ``file``: recordings of the person beside
            those of the study, named by `file`; ``quantile``: the person's own `quantile` of each
            action unit over all recordings. Valence and arousal, which go both ways, then get the
            median.
        span: First and last second, from the start of each recording.
        condition: Name of a condition, such as ``rest``.
        file: Pattern of the files, as of recordings.
        quantile: Share of the time, 0..1.
        method: ``subtract``: score minus the median (or quantile) of the baseline, in the column
            ``<score>_corrected``; ``z``: that, over the baseline's median absolute deviation times
            1.4826, in ``<score>_z``.
        columns: The scores that are corrected; without any, valence, arousal and action units.
    """

    of: Literal["span", "condition", "file", "quantile"]
    span: tuple[float, float] | None = None
    condition: str | None = None
    file: str | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    method: Literal["subtract", "z"] = "subtract"
    columns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "Baseline":
        for name in ("span", "condition", "file", "quantile"):
            if (getattr(self, name) is not None) != (self.of == name):
                raise ValueError(f"{name} and `of: {name}` belong together; give both or none")
        if self.span is not None and not 0 <= self.span[0] < self.span[1]:
            raise ValueError(f"span: from {self.span[0]} to {self.span[1]} s is no span; turn it")
        return self


def correct_baseline(
    rows: pd.DataFrame, baseline: Baseline, reference: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Take each person's baseline off their scores.

    Args:
        rows: Rows of a study, of any number of participants.
        baseline: Where the baseline is.
        reference: Of ``file``: the rows of the baseline's recordings.

    Returns:
        The rows with the columns ``<score>_corrected`` or ``<score>_z``; scores as they were stay.
        ``.attrs["baseline"]`` holds the settings and what was measured.

    Raises:
        StudyError: See `measure_baselines`; or a score does not vary in a baseline, of which there
            is no z.
    """
    measured = measure_baselines(rows if reference is None else reference, baseline)
    table = without_attributes(rows)
    by = ["participant", "recording"] if baseline.of == "span" else ["participant"]
    centres = _by_row(table, measured, by, "centre")
    scales = _by_row(table, measured, by, "scale")
    columns = list(measured["column"].unique())
    values = table[columns].to_numpy(np.float64) - centres[columns].to_numpy()
    suffix = "_corrected"
    if baseline.method == "z":
        values = values / scales[columns].to_numpy()
        suffix = "_z"
    names = [f"{column}{suffix}" for column in columns]
    # A live reading may have brought its own, over another span.
    table = table.drop(columns=names, errors="ignore")
    # All at once: pandas copies a table that many columns are added to one by one.
    corrected = pd.DataFrame(values.astype(np.float32), table.index, names)
    table = pd.concat([table, corrected], axis=1)
    facts = baseline.model_dump(mode="json", exclude_none=True)
    table.attrs = {**rows.attrs, "baseline": {**facts, "measured": measured.to_dict("records")}}
    return table


def _by_row(table: pd.DataFrame, measured: pd.DataFrame, by: list[str], what: str) -> pd.DataFrame:
    """What was measured, ``centre`` or ``scale``, for each row: one column per score."""
    wide = measured.pivot(index=by, columns="column", values=what).reset_index()
    joined = table[by].merge(wide, how="left", on=by)
    without = joined[wide.columns[-1]].isna()
    if without.any():
        row = joined.loc[without, by].iloc[0]
        keys = {name: str(row[name]) for name in by}
        raise StudyError(
            f"{label(keys)}: has no baseline; "
            "add a recording to take it from, or take quantiles instead"
        )
    return joined


def measure_baselines(rows: pd.DataFrame, baseline: Baseline) -> pd.DataFrame:
    """Measure what is normal for each participant.

    Args:
        rows: Rows that hold the baseline: of the study, or of ``file`` the baseline's own.
        baseline: Where it is.

    Returns:
        One row per participant (of ``span``: and recording) and score: ``participant``,
        ``recording``, ``column``, ``centre``, ``scale`` (median absolute deviation times 1.4826)
        and ``seconds``, the usable time it was measured over. Frames weigh as long as they stand.

    Raises:
        StudyError: A participant has no usable frame in the baseline, a column is missing, or the
            rows hold no scores.
    """
    table = without_attributes(rows)
    require_columns(
        table,
        [*KEYS, "time_from_start_s", "duration_s", "usable"],
        "the table",
        "make rows with `mien study rows` first",
    )
    columns = _columns(table, baseline)
    measured = []
    for keys, part, everything in _parts(table, baseline):
        usable = part[part["usable"]]
        weights = usable["duration_s"].to_numpy()
        if not weights.sum() > 0:
            raise StudyError(_without_frames(keys, part, everything, baseline))
        for column in columns:
            values = usable[column].to_numpy(np.float64)
            centre, scale = _centre_and_scale(values, weights, column, baseline)
            if baseline.method == "z" and not scale > 0:
                raise StudyError(
                    f"{label(keys)}: {column} does not vary in the baseline, so it has no z; "
                    "subtract instead, or leave it out of baseline.columns"
                )
            entry = {"column": column, "centre": centre, "scale": scale}
            measured.append({**keys, **entry, "seconds": float(weights.sum())})
    return pd.DataFrame(measured)


def _columns(table: pd.DataFrame, baseline: Baseline) -> list[str]:
    if baseline.columns:
        columns = list(baseline.columns)
        then = "name scores that the table has"
        require_columns(table, columns, "baseline.columns: the table", then)
        return columns
    columns = []
    for column in score_columns(table.columns, computed=False):
        if not column.startswith(("expr_", "ce_")):
            columns.append(column)
    if not columns:
        raise StudyError(
            "the table has neither valence, arousal nor action units; "
            "name the scores to correct in baseline.columns"
        )
    return columns


def _parts(
    table: pd.DataFrame, baseline: Baseline
) -> Iterator[tuple[dict[str, str], pd.DataFrame, pd.DataFrame]]:
    """Keys of each baseline, the rows it is measured on, and all rows of its participant."""
    by = ["participant", "recording"] if baseline.of == "span" else ["participant"]
    for values, everything in table.groupby(by, sort=False):
        keys = {"participant": "", "recording": ""}
        keys |= {name: str(value) for name, value in zip(by, values, strict=True)}
        part = everything
        if baseline.span is not None:
            first, last = baseline.span
            part = everything[everything["time_from_start_s"].between(first, last)]
        elif baseline.condition is not None:
            part = everything[everything["condition"] == baseline.condition]
        yield keys, part, everything


def _centre_and_scale(
    values: np.ndarray, weights: np.ndarray, column: str, baseline: Baseline
) -> tuple[float, float]:
    share = 0.5
    if baseline.quantile is not None and column.startswith("AU"):
        share = baseline.quantile
    median, centre = weighted_quantile(values, weights, [0.5, share])
    (deviation,) = weighted_quantile(np.abs(values - median), weights, [0.5])
    return float(centre), float(_NORMAL * deviation)


def _without_frames(
    keys: dict[str, str], part: pd.DataFrame, everything: pd.DataFrame, baseline: Baseline
) -> str:
    """The message for a baseline without a usable frame."""
    if len(part):
        return (
            f"{label(keys)}: no usable frame in the baseline ({usable_line(part)}); "
            "choose another one, or lower the thresholds of usable"
        )
    if baseline.condition is not None:
        known = ", ".join(sorted(everything["condition"].unique()))
        return (
            f"{label(keys)}: has no recording of condition {baseline.condition}, "
            f"only of {known or 'none'}; add it, or choose another baseline"
        )
    return f"{label(keys)}: its recording does not reach the baseline's span; choose an earlier one"

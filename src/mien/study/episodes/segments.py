"""Segments: when an expression, an action unit, a smile or a blink begins, peaks and ends."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import Field

from mien.study.episodes.blinks import Blinks, blink_spans
from mien.study.episodes.codes import code_names, code_segments
from mien.study.episodes.spans import Span, Track, spans_above
from mien.study.rows.layout import (
    KEYS,
    require_columns,
    score_columns,
    streams,
    without_attributes,
)
from mien.study.rows.weighted import weighted_mean
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = ["SEGMENT_COLUMNS", "Segments", "Smiles", "find_segments"]

SEGMENT_COLUMNS: Final[Mapping[str, str]] = {
    **dict.fromkeys((*KEYS, "kind", "name"), "str"),
    "onset_s": "float64",
    "apex_s": "float64",
    "offset_s": "float64",
    "onset_from_start_s": "float64",
    "duration_s": "float64",
    "usable_s": "float64",
    "peak": "float64",
    "mean": "float64",
    "area": "float64",
    "confidence": "float64",
    "cut_off": "bool",
}
"""Columns of a table of segments, with their types."""
# Blinks are found by their shape, not by a level.
_BLINK: Final = "AU45"


class Smiles(StrictSettings):
    """What counts as a smile: a segment of AU12, the lip corner puller.

    Attributes:
        on: Activation at which it begins to count.
        off: As a share of `on`: it lasts as long as AU12 stays at that.
        least_s: Least duration, s; spontaneous smiles last half a second and more (Ekman 2003).
        join_s: Smiles that are no further apart are one, s.
    """

    on: Annotated[float, Field(gt=0)] = 0.5
    off: Annotated[float, Field(gt=0, le=1)] = 0.7
    least_s: Annotated[float, Field(ge=0)] = 0.5
    join_s: Annotated[float, Field(ge=0)] = 0.3


class Segments(StrictSettings):
    """When a score counts as shown, with hysteresis.

    Attributes:
        on: A segment reaches at least this score. The bundle may say otherwise for its action units
            (`presence` on its card), and `thresholds` for any column.
        off: As a share of the former: a segment lasts as long as the score stays at that.
        least_s: Least duration, s.
        join_s: Segments of a score that are no further apart are one, s.
        thresholds: `on` of single columns.
        columns: The scores; without any, expressions and action units but AU45.
        smiles: What counts as a smile.
        blinks: What counts as a blink.
    """

    on: Annotated[float, Field(gt=0)] = 0.5
    off: Annotated[float, Field(gt=0, le=1)] = 0.7
    least_s: Annotated[float, Field(ge=0)] = 0.2
    join_s: Annotated[float, Field(ge=0)] = 0.2
    thresholds: dict[str, float] = Field(default_factory=dict)
    columns: tuple[str, ...] = ()
    smiles: Smiles = Smiles()
    blinks: Blinks = Blinks()


def find_segments(rows: pd.DataFrame, settings: Segments | None = None) -> pd.DataFrame:
    """Find the segments of all scores, smiles (of AU12), blinks (of AU45), and codes given by hand.

    Rows that are not usable belong to no segment; one goes on over them, as over rows below the
    threshold, if they last no longer than `join_s`.

    Args:
        rows: Rows of a study, of any number of participants and recordings.
        settings: What counts; None for the defaults.

    Returns:
        One row per segment (`SEGMENT_COLUMNS`), by participant and recording in the order of the
        rows, then by onset. ``offset_s`` is when its last frame ends; ``peak``, ``mean``, ``area``
        and ``confidence`` are over its usable time, ``usable_s``.

    Raises:
        StudyError: A column is missing, or time runs backwards.
    """
    settings = settings or Segments()
    presence = _presence(rows.attrs)
    table = without_attributes(rows)
    columns = _columns(table, settings)
    segments: list[dict[str, Any]] = []
    for keys, part in streams(table):
        entries: list[dict[str, Any]] = []
        for column in columns:
            on = settings.thresholds.get(column, presence.get(column, settings.on))
            track = Track.of(part, column)
            spans = spans_above(track, on, settings.off, settings.least_s, settings.join_s)
            entries += _entries(part, track, spans, _kind(column), column)
        entries += _smiles(part, settings.smiles) + _blinks(part, settings.blinks)
        entries += code_segments(part)
        entries.sort(key=lambda entry: (entry["onset_s"], entry["kind"], entry["name"]))
        segments += [{**keys, **entry} for entry in entries]
    result = pd.DataFrame(segments, columns=list(SEGMENT_COLUMNS))
    # Also where there is none, so that tables of all participants have the same types.
    result = result.astype(dict(SEGMENT_COLUMNS))
    names = [*columns, *_shapes(table), *code_names(rows)]
    facts = {**settings.model_dump(mode="json"), "names": names}
    result.attrs = {**rows.attrs, "segments": facts}
    return result


def _kind(column: str) -> str:
    """What kind of score a column holds."""
    kinds = {"expr_": "expression", "AU": "action_unit"}
    for start, kind in kinds.items():
        if column.startswith(start):
            return kind
    return "score"


def _presence(attrs: Mapping[Any, Any]) -> Mapping[str, float]:
    """Thresholds of presence that the bundle's card gives, as the rows' dictionary has them."""
    presence = attrs.get("dictionary", {}).get("bundle", {}).get("presence", {})
    return presence if isinstance(presence, dict) else {}


def _columns(table: pd.DataFrame, settings: Segments) -> list[str]:
    named = [*settings.columns, *settings.thresholds]
    require_columns(table, named, "segments: the table", "name scores that the table has")
    if settings.columns:
        return list(settings.columns)
    columns = []
    for column in score_columns(table.columns, computed=False):
        if column.startswith(("expr_", "AU")) and column != _BLINK:
            columns.append(column)
    return columns


def _shapes(table: pd.DataFrame) -> list[str]:
    """Names of what is looked for besides scores."""
    names = {"smile": "AU12", "blink": _BLINK}
    return [name for name, column in names.items() if column in table]


def _smiles(part: pd.DataFrame, smiles: Smiles) -> list[dict[str, Any]]:
    if "AU12" not in part:
        return []
    track = Track.of(part, "AU12")
    spans = spans_above(track, smiles.on, smiles.off, smiles.least_s, smiles.join_s)
    return _entries(part, track, spans, "smile", "smile")


def _blinks(part: pd.DataFrame, blinks: Blinks) -> list[dict[str, Any]]:
    # Smoothing flattens blinks; mien leaves AU45 as it is unless told otherwise.
    column = "AU45_raw" if "AU45_raw" in part else "AU45"
    if column not in part:
        return []
    track = Track.of(part, column)
    return _entries(part, track, blink_spans(track, blinks), "blink", "blink")


def _entries(
    part: pd.DataFrame, track: Track, spans: list[Span], kind: str, name: str
) -> list[dict[str, Any]]:
    """The rows of a table of segments, without keys."""
    confidence = part["confidence"].to_numpy(np.float64)
    from_start = part["time_from_start_s"].to_numpy() - track.time_s
    entries = []
    for span in spans:
        entry: dict[str, Any] = {"kind": kind, "name": name, "cut_off": span.cut_off}
        entry["onset_s"] = span.onset_s
        entry["offset_s"] = span.offset_s
        entry["duration_s"] = span.offset_s - span.onset_s
        entry["onset_from_start_s"] = span.onset_s + float(from_start[span.first])
        entries.append(entry | _shape(track, span, confidence))
    return entries


def _shape(track: Track, span: Span, confidence: Floats) -> dict[str, float]:
    """What a segment looks like over its usable time."""
    inside = np.arange(span.first, span.last + 1)
    inside = inside[track.usable[inside]]
    weights = track.duration_s[inside]
    values = track.values[inside]
    apex_s = track.time_s[inside][values.argmax()]
    sure = confidence[inside]
    return {
        "apex_s": float(apex_s),
        "usable_s": float(weights.sum()),
        "peak": float(values.max()),
        "mean": weighted_mean(values, weights),
        "area": float(values @ weights),
        "confidence": weighted_mean(sure, weights),
    }

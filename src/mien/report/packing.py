"""Scores of a film small enough to lie inside a page: hundredths in a byte, deltas, deflated."""

import base64
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.report.people import Person, expressions_of, units_of
from mien.tasks import Floats

__all__ = ["MISSING", "hundredths", "pack_columns", "pack_times", "page_data"]

MISSING: Final = -128
"""The byte that stands for a missing value."""
_TICKS_PER_S: Final = 10_000


def hundredths(values: Floats) -> NDArray[np.int8]:
    """Scores as whole hundredths.

    Args:
        values: Scores from -1 to 1 (N,); NaN is missing.

    Returns:
        Bytes from -100 to 100, or `MISSING` (N,).

    Examples:
        >>> hundredths(np.array([0.123, -1.0, np.nan])).tolist()
        [12, -100, -128]
    """
    whole = np.round(np.clip(values, -1, 1) * 100)
    return np.where(np.isnan(values), MISSING, whole).astype(np.int8)


def pack_columns(columns: list[NDArray[np.int8]]) -> str:
    """Columns of bytes as text, one after another.

    Args:
        columns: Columns of one length.

    Returns:
        Base64 of the deflated differences between neighbours, modulo 256: scores change slowly.
    """
    if not columns:
        return ""
    table = np.stack(columns).view(np.uint8)
    deltas = np.diff(table, axis=1, prepend=np.zeros((len(table), 1), np.uint8))
    return _text(deltas.astype(np.uint8).tobytes())


def pack_times(times: Floats) -> str:
    """Times as text.

    Args:
        times: Seconds, ascending (N,).

    Returns:
        Base64 of the deflated differences in ticks of 0.1 ms, as little-endian int32.
    """
    ticks = np.round(times * _TICKS_PER_S).astype(np.int64)
    return _text(np.diff(ticks, prepend=0).astype("<i4").tobytes())


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def page_data(people: list[Person], events: list[tuple[float, float, str]]) -> dict[str, Any]:
    """All that the page's script draws.

    Args:
        people: The people of a film, of whom there is at least one.
        events: When events begin and end, seconds, and what kind they are.

    Returns:
        A dict that JSON can hold.
    """
    rows = people[0].rows
    times = rows["time_s"].to_numpy(np.float64)
    ends = times + rows["duration_s"].to_numpy(np.float64)
    affect = [name for name in ("valence", "arousal") if name in rows]
    expressions = expressions_of(rows)
    units = units_of(rows)
    sure = "quality" if "quality" in rows else "confidence"
    names = [*affect, *(f"expr_{name}" for name in expressions), *units, sure]
    data: dict[str, Any] = {"times": pack_times(times), "count": len(times)}
    data |= {"start": float(times[0]), "end": float(ends.max())}
    data |= {"affect": affect, "expressions": expressions, "units": units, "sure": sure}
    data["people"] = [_person(person, names) for person in people]
    data["events"] = [[_short(start), _short(end), kind] for start, end, kind in events]
    return data


def _person(person: Person, names: list[str]) -> dict[str, Any]:
    columns = []
    for name in names:
        columns.append(hundredths(person.rows[name].to_numpy(np.float64, na_value=np.nan)))
    segments = []
    for row in person.segments.itertuples():
        name = str(row.name).removeprefix("expr_")
        segments.append([str(row.kind), name, _short(row.onset_s), _short(row.offset_s)])
    spans = [[_short(start), _short(end), reason] for start, end, reason in person.spans()]
    return {
        "name": person.name,
        "packed": pack_columns(columns),
        "segments": segments,
        "spans": spans,
    }


def _short(time_s: Any) -> float:
    return round(float(time_s), 3)

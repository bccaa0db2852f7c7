"""Codes that were given by hand, as segments."""

from typing import Any, Final

import numpy as np
import pandas as pd

from mien.study.edits.operations import CODE_SEPARATOR
from mien.study.rows.weighted import weighted_mean

__all__ = ["CODES", "code_names", "code_segments"]

CODES: Final = "codes"
"""Key of ``.attrs`` under which the rows of a study have the codes of all of its recordings."""
_NAN: Final = float("nan")


def code_names(rows: pd.DataFrame) -> list[str]:
    """Names of the segments of codes.

    Args:
        rows: Rows of a study.

    Returns:
        ``code_`` and each code that occurs in the rows, or in another recording of the study.
    """
    codes = set(rows.attrs.get(CODES, ()))
    if "code" in rows:
        for text in rows["code"].dropna().unique():
            codes |= set(str(text).split(CODE_SEPARATOR))
    return [f"code_{code}" for code in sorted(codes)]


def code_segments(part: pd.DataFrame) -> list[dict[str, Any]]:
    """The segments of codes in the rows of a participant in a recording.

    Args:
        part: The rows, in order of time.

    Returns:
        Rows of a table of segments, without keys; a code has no score, so no peak, mean and area.
    """
    if "code" not in part:
        return []
    entries = []
    texts = part["code"].fillna("").astype(object)
    for name in code_names(part):
        code = name.removeprefix("code_")
        shows = np.array([code in text.split(CODE_SEPARATOR) for text in texts], bool)
        edges = np.flatnonzero(np.diff(shows, prepend=False, append=False))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            entries.append({"kind": "code", "name": name, **_segment(part.iloc[first:end])})
    return entries


def _segment(rows: pd.DataFrame) -> dict[str, Any]:
    durations = rows["duration_s"].to_numpy(np.float64)
    usable_s = durations[rows["usable"].to_numpy()].sum()
    from_start_s = rows["time_from_start_s"].iloc[0]
    onset_s = float(rows["time_s"].iloc[0])
    offset_s = float(rows["time_s"].iloc[-1]) + float(durations[-1])
    confidence = rows["confidence"].to_numpy(np.float64)
    return {
        "onset_s": onset_s,
        "apex_s": onset_s,
        "offset_s": offset_s,
        "onset_from_start_s": float(from_start_s),
        "duration_s": offset_s - onset_s,
        "usable_s": float(usable_s),
        "peak": _NAN,
        "mean": _NAN,
        "area": _NAN,
        "confidence": weighted_mean(confidence, durations),
        "cut_off": False,
    }

"""Which rows are usable, and why the others are not."""

from collections.abc import Mapping
from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import Field

from mien.errors import StudyError
from mien.study.rows.layout import MEASURED, require_columns, score_columns, without_attributes
from mien.study.strict import StrictSettings

__all__ = ["REASONS", "Usable", "mark_usable", "usable_line"]

REASONS: Final[Mapping[str, str]] = {
    "excluded": "the time was excluded by hand",
    "no_face": "the participant was not seen in the frame",
    "unreadable": "the frame could not be decoded",
    "doubtful": "the table's own quality network says that the reading is not to be trusted",
    "no_scores": "the row has no scores",
    "low_confidence": "the detector's confidence is below the threshold",
    "small_face": "the shorter side of the face box is below the threshold",
    "low_quality": "the quality of the reading is below the threshold",
}
"""Why a row is not usable, in words; where several hold, the first of them is given."""


class Usable(StrictSettings):
    """What counts as usable.

    Attributes:
        confidence: Least confidence of the detector, 0..1. A new face is followed from 0.6 on, and
            as long as it stays above 0.4: below 0.6 is a face that would not have been found anew.
        face_px: Least length of the shorter side of the face box, pixels of the frame.
        quality: Least ``quality``, 0..1, of tables that have this column; 0 asks for none.
    """

    confidence: Annotated[float, Field(ge=0, le=1)] = 0.6
    face_px: Annotated[float, Field(ge=0)] = 32.0
    quality: Annotated[float, Field(ge=0, le=1)] = 0.0


def mark_usable(rows: pd.DataFrame, rule: Usable | None = None) -> pd.DataFrame:
    """Say of each row whether it is usable.

    Rows of status ``gap``, whose scores are interpolated over a short absence, are usable if what
    they were interpolated from is.

    Args:
        rows: Rows with ``status``, ``confidence``, ``box_w``, ``box_h`` and scores; those of which
            ``excluded`` is 1, if they have that column, are not usable.
        rule: What counts as usable; None for the defaults.

    Returns:
        The rows with the columns ``usable`` and ``unusable_because``, one of `REASONS` and missing
        on usable rows.

    Raises:
        StudyError: A column is missing.

    >>> rows = pd.DataFrame({"status": ["ok", "ok", "no_face"], "confidence": [0.9, 0.5, None],
    ...     "box_w": [80.0, 80.0, None], "box_h": [90.0, 90.0, None], "valence": [0.1, 0.2, None]})
    >>> mark_usable(rows)["unusable_because"].tolist()
    [nan, 'low_confidence', 'no_face']
    """
    rule = rule or Usable()
    then = "give a table that mien wrote"
    require_columns(rows, ["status", "confidence", "box_w", "box_h"], "the table", then)
    if rule.quality and "quality" not in rows:
        raise StudyError(
            "usable.quality: the table has no column quality; "
            "read the films again with a bundle that measures it, or leave usable.quality out"
        )
    table = without_attributes(rows)
    tests = _tests(table, rule)
    reasons = np.select([test.to_numpy() for test in tests.values()], list(tests), "")
    because = pd.Series(reasons, index=table.index, dtype=pd.Series(["text"]).dtype)
    table["usable"] = reasons == ""
    table["unusable_because"] = because.mask(table["usable"])
    table.attrs = rows.attrs
    return table


def _tests(table: pd.DataFrame, rule: Usable) -> "dict[str, pd.Series[bool]]":
    """Which rows each reason holds of, in the order of `REASONS`."""
    status = table["status"]
    scores = table[score_columns(table.columns, computed=False)]
    # Turned round, as nothing is at least a threshold where it is missing.
    is_sure = table["confidence"] >= rule.confidence
    is_large = table[["box_w", "box_h"]].min(axis=1) >= rule.face_px
    tests = {"excluded": table["excluded"] == 1} if "excluded" in table else {}
    tests |= {
        "no_face": status == "no_face",
        "unreadable": status == "unreadable",
        "doubtful": status == "doubtful",
        "no_scores": ~status.isin(MEASURED) | scores.isna().all(axis=1),
        "low_confidence": ~is_sure,
        "small_face": ~is_large,
    }
    if rule.quality:
        tests["low_quality"] = ~(table["quality"] >= rule.quality)
    return tests


def usable_line(rows: pd.DataFrame) -> str:
    """How much of the time is usable, and why the rest is not.

    Args:
        rows: Rows with ``usable``, ``unusable_because`` and ``duration_s``.

    Returns:
        Such as ``93 % of 120.0 s usable; no_face 5 %, small_face 2 %``.

    >>> usable_line(pd.DataFrame({"duration_s": [3.0, 1.0], "usable": [True, False],
    ...     "unusable_because": [None, "no_face"]}))
    '75 % of 4.0 s usable; no_face 25 %'
    """
    total = float(rows["duration_s"].sum())
    if not total:
        return "0 % of 0.0 s usable"
    seconds = rows.groupby("unusable_because")["duration_s"].sum()
    reasons = []
    for reason in REASONS:
        lost = float(seconds.get(reason, 0.0))
        if lost:
            reasons.append(f"{reason} {100 * lost / total:.0f} %")
    share = 100 * float(rows.loc[rows["usable"], "duration_s"].sum()) / total
    line = f"{share:.0f} % of {total:.1f} s usable"
    return f"{line}; {', '.join(reasons)}" if reasons else line

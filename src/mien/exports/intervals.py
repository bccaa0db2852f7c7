"""Stretches of time read off a table: expressions, active units, time that cannot be used."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.exports.recording import Recording, Timeline
from mien.outputs.writers.openface import THRESHOLD
from mien.records import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ABSENT", "EXPRESSION", "Interval", "intervals", "is_unit"]

EXPRESSION = "expression"
"""The tier of expressions; action units have tiers of their own, called as their columns."""
ABSENT = "unusable"
"""The tier of frames without a usable face."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time, from its first frame to the end of its last one.

    Attributes:
        face: The face; None for what holds for the whole recording.
        tier: What kind of stretch it is.
        label: What holds in it.
        start_s: Presentation time of its first frame, seconds.
        end_s: When its last frame ends, seconds; later than `start_s`.
    """

    face: int | None
    tier: str
    label: str
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.end_s - self.start_s


def is_unit(name: str) -> bool:
    """Whether a column holds the activation of an action unit, as it is to be used.

    Args:
        name: The column's name.

    Returns:
        False also for scores before smoothing.

    Examples:
        >>> is_unit("AU12"), is_unit("AU12_raw"), is_unit("valence")
        (True, False, False)
    """
    return name.startswith("AU") and name[2:].isdigit()


def intervals(recording: Recording, purpose: str) -> list[Interval]:
    """All stretches of a film.

    Args:
        recording: The table of one film.
        purpose: What needs them, for the message.

    Returns:
        For each face the stretches of its likeliest expression, those in which a unit's activation
        is at least `THRESHOLD`, and those of its rows that are not ``ok``; then the frames in which
        nobody was read, by status. Sorted by start within a tier; a tier's never overlap.

    Raises:
        TableError: The table is not that of one film.
    """
    timeline = recording.film(purpose)
    stretches: list[Interval] = []
    for face in recording.faces:
        rows = recording.of_face(face)
        stretches += _of_face(face, rows, timeline)
    table = recording.table
    empty = table[table["face"].isna() & (table["status"] != Status.ok)]
    stretches += _runs(None, ABSENT, empty, timeline, "status")
    return stretches


def _of_face(face: int, rows: "pd.DataFrame", timeline: Timeline) -> Iterator[Interval]:
    # A face has one row per frame, except in tables that were put together by hand.
    rows = rows.drop_duplicates("time_s").sort_values("time_s")
    if "expression" in rows:
        labelled = rows[rows["expression"].notna()]
        yield from _runs(face, EXPRESSION, labelled, timeline, "expression")
    for name in filter(is_unit, rows.columns):
        active = rows[rows[name] >= THRESHOLD]
        yield from _runs(face, name, active, timeline)
    doubtful = rows[rows["status"] != Status.ok]
    yield from _runs(face, ABSENT, doubtful, timeline, "status")


def _runs(
    face: int | None, tier: str, rows: "pd.DataFrame", timeline: Timeline, column: str | None = None
) -> Iterator[Interval]:
    """Stretches of one label, that of a column or the tier, over frames that follow another."""
    if rows.empty:
        return
    texts = np.full(len(rows), tier, object)
    if column is not None:
        texts = rows[column].to_numpy(object)
    positions = timeline.positions(rows)
    breaks = (np.diff(positions) != 1) | (texts[1:] != texts[:-1])
    firsts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    lasts = np.concatenate((firsts[1:] - 1, [len(texts) - 1]))
    for first, last in zip(firsts, lasts, strict=True):
        start_s = float(timeline.times[positions[first]])
        yield Interval(face, tier, str(texts[first]), start_s, timeline.end_of(positions[last]))

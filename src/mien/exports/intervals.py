"""Stretches of time in one film: a study's segments of each person, and time without use."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.errors import MissingExtraError
from mien.exports.recording import Recording, Timeline
from mien.study.rows.people import People, participant_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNUSABLE", "Interval", "intervals", "is_unit", "person_rows", "segments_of"]

UNUSABLE = "unusable"
"""The tier of time without a usable face; the others are called by what is shown in them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time, from its first frame to the end of its last one.

    Attributes:
        who: The person, as `Recording.label` names them; empty for the whole recording.
        tier: What is shown: an expression, an action unit, ``smile``, ``blink``; or `UNUSABLE`.
        label: The same, or why the time is not usable.
        start_s: Presentation time of its first frame, seconds.
        end_s: When its last frame ends, seconds; later than `start_s`.
    """

    who: str
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


def person_rows(recording: Recording, number: int) -> "pd.DataFrame":
    """The rows of one person as a study has them: one for every frame of the film.

    Args:
        recording: The table of one film.
        number: One of `Recording.people`.

    Returns:
        Rows of the participant `Recording.label`, as the study has them, or with its usual rules
        where there is none; see `mien.study.rows.people.participant_rows`.

    Raises:
        StudyError: The table is not that of one film.
    """
    if recording.participants:
        return recording.participants[number].rows
    name = recording.label(number)
    keys = {"participant": name, "recording": recording.stem}
    table = recording.table
    # A study's map is of faces.
    if recording.who != "face":
        table = table.assign(face=table[recording.who])
    return participant_rows(table, keys, People(faces="map", map={number: name}))


def segments_of(recording: Recording, number: int, rows: "pd.DataFrame") -> "pd.DataFrame":
    """The segments of one person: those of the study, or found with its usual settings.

    Args:
        recording: The table of one film.
        number: One of `Recording.people`.
        rows: What `person_rows` gives.

    Returns:
        A row per segment; see `mien.study.episodes.segments.find_segments`. None where the table
        has neither expressions nor action units.

    Raises:
        MissingExtraError: scipy, which finds blinks, is not installed.
    """
    if recording.participants:
        return recording.participants[number].segments
    try:
        from mien.study.episodes.segments import find_segments
    except ImportError as error:
        raise MissingExtraError("exports", "finding segments") from error
    shown = [name for name in rows if str(name).startswith("expr_") or is_unit(str(name))]
    # Of valence and arousal alone there are no segments, which is no error here.
    return find_segments(rows if shown else rows.assign(AU45=np.nan))


def intervals(recording: Recording, purpose: str) -> list[Interval]:
    """All stretches of a film.

    Args:
        recording: The table of one film.
        purpose: What needs them, for the message.

    Returns:
        For each person the segments, and the time in which they were seen and are not usable; then
        the frames in which nobody was read, by status. A tier's stretches never overlap, and follow
        one another in time.

    Raises:
        TableError: The table is not that of one film.
    """
    timeline = recording.film(purpose)
    stretches: list[Interval] = []
    for number in recording.people:
        who = recording.label(number)
        rows = person_rows(recording, number)
        stretches += _segments(who, segments_of(recording, number, rows))
        # Where somebody is simply not there, nothing is said of them.
        seen = rows[~rows["usable"] & rows["face"].notna()]
        stretches += _runs(who, seen, timeline, "unusable_because")
    table = recording.table
    stretches += _runs("", table[table["face"].isna()], timeline, "status")
    return stretches


def _segments(who: str, segments: "pd.DataFrame") -> list[Interval]:
    stretches = []
    for name in dict.fromkeys(segments["name"]):
        tier = str(name).removeprefix("expr_")
        chosen = segments[segments["name"] == name]
        for start_s, end_s in zip(chosen["onset_s"], chosen["offset_s"], strict=True):
            stretches.append(Interval(who, tier, tier, float(start_s), float(end_s)))
    return stretches


def _runs(who: str, rows: "pd.DataFrame", timeline: Timeline, column: str) -> Iterator[Interval]:
    """Stretches of one reason over frames that follow one another."""
    if rows.empty:
        return
    texts = rows[column].to_numpy(object)
    positions = timeline.positions(rows)
    breaks = (np.diff(positions) != 1) | (texts[1:] != texts[:-1])
    firsts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    lasts = np.concatenate((firsts[1:] - 1, [len(texts) - 1]))
    for first, last in zip(firsts, lasts, strict=True):
        start_s = float(timeline.times[positions[first]])
        end_s = timeline.end_of(positions[last])
        yield Interval(who, UNUSABLE, str(texts[first]), start_s, end_s)

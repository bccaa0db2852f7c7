"""Spans of time in which a score is high, with hysteresis."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mien.tasks import Floats
from mien.temporal.tracks import TICK_S

__all__ = ["Span", "Track", "runs", "spans_above"]

# A frame that lasts so much longer than it stands is followed by a pause of the recording.
_PAUSE: Final = 1.01


@dataclass(frozen=True, slots=True)
class Track:
    """One score of one participant in one recording.

    Attributes:
        time_s: When each frame begins (N,), s.
        duration_s: How long it stands (N,), s.
        values: The scores (N,); NaN where there is none.
        usable: Whether there is a usable score (N,).
    """

    time_s: Floats
    duration_s: Floats
    values: Floats
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, part: pd.DataFrame, column: str) -> Self:
        """Take a column from rows.

        Args:
            part: The rows of one participant in one recording.
            column: The name of the score.

        Returns:
            The track.
        """
        values = part[column].to_numpy(np.float64)
        usable = part["usable"].to_numpy(bool) & ~np.isnan(values)
        times = part["time_s"].to_numpy(np.float64)
        return cls(times, part["duration_s"].to_numpy(np.float64), values, usable)

    def pauses(self) -> NDArray[np.bool_]:
        """Whether the recording pauses after each frame.

        Returns:
            (N,); false for the last frame.
        """
        steps = np.diff(self.time_s)
        return np.append(steps > _PAUSE * self.duration_s[:-1] + TICK_S, False)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of rows.

    Attributes:
        first: Its first row.
        last: Its last row.
        onset_s: When it begins, s.
        offset_s: When it ends, s.
        cut_off: Whether the row before or after it is missing or not usable.
    """

    first: int
    last: int
    onset_s: float
    offset_s: float
    cut_off: bool


def runs(active: NDArray[np.bool_], breaks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of consecutive true values.

    Args:
        active: The values (N,).
        breaks: Whether what follows each value is apart from it (N,).

    Returns:
        First and last index of each.

    >>> runs(np.array([1, 1, 0, 1, 1], bool), np.array([0, 0, 0, 1, 0], bool))
    [(0, 1), (3, 3), (4, 4)]
    """
    before = np.append(False, active[:-1] & ~breaks[:-1])
    after = np.append(active[1:] & ~breaks[:-1], False)
    firsts = np.flatnonzero(active & ~before)
    lasts = np.flatnonzero(active & ~after)
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def spans_above(track: Track, on: float, off: float, least_s: float, join_s: float) -> list[Span]:
    """Where a score reaches one threshold and stays at or above a lower one.

    Spans are joined first, and those that are too short left out then.

    Args:
        track: The score.
        on: The threshold that a span reaches.
        off: The lower one, as a share of `on`.
        least_s: Least duration of a span, s.
        join_s: Spans that are no further apart are one, s.

    Returns:
        The spans, in order.
    """
    ends = track.time_s + track.duration_s
    pauses = track.pauses()
    joined: list[tuple[int, int]] = []
    for first, last in runs(track.usable & (track.values >= off * on), pauses):
        if not track.values[first : last + 1].max() >= on:
            continue
        if joined and track.time_s[first] - ends[joined[-1][1]] <= join_s + TICK_S:
            first = joined.pop()[0]  # noqa: PLW2901
        joined.append((first, last))
    spans = []
    for first, last in joined:
        onset = float(track.time_s[first])
        offset = float(ends[last])
        if offset - onset >= least_s - TICK_S:
            cut_off = is_cut_off(track, pauses, first, last)
            spans.append(Span(first, last, onset, offset, cut_off))
    return spans


def is_cut_off(track: Track, pauses: NDArray[np.bool_], first: int, last: int) -> bool:
    """Whether nothing usable comes right before or after a stretch of rows.

    Args:
        track: The score.
        pauses: What `Track.pauses` gives.
        first: The first row.
        last: The last row.

    Returns:
        True also at the ends of the recording.
    """
    begins = first > 0 and track.usable[first - 1] and not pauses[first - 1]
    ends = last + 1 < len(track.usable) and track.usable[last + 1] and not pauses[last]
    return not (begins and ends)

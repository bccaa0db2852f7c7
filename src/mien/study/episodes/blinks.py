"""Blinks: short peaks of AU45, found by their shape.

How far AU45 rises in a blink differs between people and cameras, and so does what it is with open
eyes; so a blink is a rise above both sides, not a level.
"""

from typing import Annotated, Final

import numpy as np
from pydantic import Field
from scipy.signal import find_peaks, peak_widths

from mien.study.episodes.spans import Span, Track, runs
from mien.study.strict import StrictSettings
from mien.tasks import Floats

__all__ = ["SLOWEST_S", "Blinks", "blink_spans"]

SLOWEST_S: Final = 0.1
"""Frames must come at least as often, s, or blinks fall between them: at half of their height they
are 0.11 s wide (see docs/reference/columns.md)."""


class Blinks(StrictSettings):
    """What counts as a blink.

    Attributes:
        rise: How far AU45 rises above both sides, at least.
        longest_s: Longest duration at half of that height, s; eyes that stay closed longer are no
            blink.
    """

    rise: Annotated[float, Field(gt=0, le=1)] = 0.15
    longest_s: Annotated[float, Field(gt=0)] = 0.5


def blink_spans(track: Track, blinks: Blinks) -> list[Span]:
    """Find blinks in AU45.

    Args:
        track: AU45, unsmoothed.
        blinks: What counts as one.

    Returns:
        The blinks in order; onset and offset are where AU45 crosses half of the rise, on straight
        lines between frames. None where frames are too far apart to see them (`SLOWEST_S`).
    """
    if np.median(track.duration_s) > SLOWEST_S:
        return []
    spans: list[Span] = []
    for first, last in runs(track.usable, track.pauses()):
        values = track.values[first : last + 1]
        peaks, facts = find_peaks(values, prominence=blinks.rise)
        if not len(peaks):
            continue
        bases = (facts["prominences"], facts["left_bases"], facts["right_bases"])
        _, _, left, right = peak_widths(values, peaks, 0.5, bases)
        times = track.time_s[first : last + 1]
        onsets = _time_at(left, times)
        offsets = _time_at(right, times)
        for peak, onset, offset in zip(peaks, onsets, offsets, strict=True):
            if offset - onset <= blinks.longest_s:
                spans.append(_span(track, first + int(peak), float(onset), float(offset)))
    return spans


def _time_at(positions: Floats, times: Floats) -> Floats:
    """Times of positions between frames."""
    return np.interp(positions, np.arange(len(times)), times)


def _span(track: Track, peak: int, onset: float, offset: float) -> Span:
    """The rows from onset to offset; the one of the peak always among them."""
    inside = np.flatnonzero((track.time_s >= onset) & (track.time_s <= offset))
    first = min(peak, int(inside[0])) if inside.size else peak
    last = max(peak, int(inside[-1])) if inside.size else peak
    return Span(first, last, onset, offset, cut_off=False)

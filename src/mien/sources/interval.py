"""How far apart the frames of a source are, as it goes: measured, for neither options nor headers know."""

from collections import deque
from itertools import pairwise
from statistics import median
from typing import Final

__all__ = ["GAP_FRAMES", "FrameInterval"]

GAP_FRAMES: Final = 2.5
"""What is away for so many frame intervals is not away for long, however slow the source is: one frame may miss it."""
_RECENT: Final = 5
"""Intervals looked at: a pause is an exception among them, and a new rate counts after three frames."""


class FrameInterval:
    """The typical recent interval between frames: the median of the last few.

    >>> interval = FrameInterval()
    >>> for time_s in (0.0, 0.04, 0.08, 0.12, 1.12):
    ...     interval.add(time_s)
    >>> round(interval.typical_s, 3)
    0.04
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_RECENT + 1)
        self.typical_s = 0.0

    def add(self, time_s: float) -> None:
        """A frame came at this time, seconds; the time of the frame before again changes nothing."""
        if self._times and time_s <= self._times[-1]:
            return
        self._times.append(time_s)
        times = list(self._times)
        if len(times) > 1:
            self.typical_s = median(later - earlier for earlier, later in pairwise(times))

    def longest_gap_s(self, least_s: float) -> float:
        """How long something may be away and is still taken up again: `least_s`, more where frames are far apart."""
        return max(least_s, GAP_FRAMES * self.typical_s)

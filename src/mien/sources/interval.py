"""How far apart the frames of a source are, measured as they come: no option or header knows."""

from collections import deque
from itertools import pairwise
from statistics import median
from typing import Final

__all__ = ["GAP_FRAMES", "FrameInterval"]

GAP_FRAMES: Final = 2.5
"""An absence of so many frame intervals is short, however slow the source is: a single frame may
miss a face."""
# Intervals looked at: a pause is an outlier, and a new rate counts after three frames.
_RECENT: Final = 5


class FrameInterval:
    """The typical recent interval between frames: the median of the last few.

    Attributes:
        typical_s: The interval, seconds; 0 before the second frame.

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
        """Count one more frame; the same time again changes nothing.

        Args:
            time_s: Time of the frame, seconds.
        """
        if self._times and time_s <= self._times[-1]:
            return
        self._times.append(time_s)
        if len(self._times) > 1:
            self.typical_s = median(later - earlier for earlier, later in pairwise(self._times))

    def longest_gap_s(self, least_s: float) -> float:
        """How long something may be away and still be taken up again.

        Args:
            least_s: The answer where frames are close together, seconds.

        Returns:
            `least_s`, or more where frames are far apart, seconds.
        """
        return max(least_s, GAP_FRAMES * self.typical_s)

"""Pictures from Python that are made while they are read, and the clock for what is live."""

import math
import time
from collections.abc import Iterable
from typing import Any

from mien.sources.arrays import check_rgb, check_time
from mien.sources.base import TICK_S, Kind, Source, TimedReads, reader_of

__all__ = ["LiveArrays", "LiveClock"]


class LiveClock:
    """Seconds of the monotonic clock since it was first asked."""

    def __init__(self) -> None:
        self._start_s: float | None = None

    def seconds(self) -> float:
        """Read the clock.

        Returns:
            Seconds since the first call, at which it is 0.
        """
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        return now_s - self._start_s


class LiveArrays(Source):
    """An iterable of pictures, each asked for only when the one before has been read.

    Nothing is left out: an iterable that is faster than the reader is simply asked later, so one
    that must keep up with the world has to give its newest picture, as `Camera` does.
    """

    kind: Kind = "arrays"
    live = True

    def __init__(self, items: Iterable[Any], name: str = "live") -> None:
        """Open it.

        Args:
            items: RGB uint8 (H, W, 3), or pairs of seconds and such a picture. Pictures without a
                time get the clock's: seconds since the first came.
            name: Name of the source.
        """
        super().__init__(name)
        self._items = items

    def _timed_reads(self) -> TimedReads:
        clock = LiveClock()
        last_s = -math.inf
        for index, item in enumerate(self._items):
            clock_s = clock.seconds()
            if isinstance(item, tuple):
                time_s, array = item
                check_time(self.name, index, time_s, last_s)
            else:
                time_s = max(clock_s, last_s + TICK_S)
                array = item
            last_s = time_s
            pixels = check_rgb(array, f"{self.name}: item {index}")
            yield float(time_s), reader_of(pixels)

"""Pictures from Python that are made while they are read, and the clock for what is live."""

import math
import time
from collections.abc import Iterable
from typing import Any

from mien.sources.arrays import check_rgb, check_time
from mien.sources.base import TICK_S, Kind, Source, TimedReads, reader_of

__all__ = ["LiveArrays", "LiveClock"]


class LiveClock:
    """Seconds of the monotonic clock since it was first asked.

    Attributes:
        start_s: What ``time.monotonic()`` showed when it was first asked; None before.
    """

    def __init__(self) -> None:
        self.start_s: float | None = None

    def seconds(self) -> float:
        """Read the clock.

        Returns:
            Seconds since the first call, at which it is 0.
        """
        now_s = time.monotonic()
        if self.start_s is None:
            self.start_s = now_s
        return now_s - self.start_s


class LiveArrays(Source):
    """An iterable of pictures that are made while they are read."""

    kind: Kind = "arrays"
    live = True

    def __init__(self, items: Iterable[Any], name: str = "live", *, newest: bool = False) -> None:
        """Open it.

        Args:
            items: RGB uint8 (H, W, 3), or pairs of seconds and such a picture. Pictures without a
                time get the clock's: seconds since the first came.
            name: Name of the source.
            newest: Take pictures in a thread of their own as soon as they are there, and leave out
                those that come while another is read. The seconds of pairs are then those of
                ``time.monotonic()`` at capture, and frames count from the first. Otherwise each is
                asked for only when the one before has been read, and none is left out.
        """
        super().__init__(name)
        self.newest = newest
        self._items = items

    def _timed_reads(self) -> TimedReads:
        clock = LiveClock()
        last_s = -math.inf
        for index, item in enumerate(self._items):
            clock_s = clock.seconds()
            if isinstance(item, tuple):
                time_s, array = item
                if self.newest:
                    time_s = self._since_first(time_s)
                check_time(self.name, index, time_s, last_s)
            else:
                time_s = max(clock_s, last_s + TICK_S)
                array = item
                self.started_s = clock.start_s
            last_s = time_s
            pixels = check_rgb(array, f"{self.name}: item {index}")
            yield float(time_s), reader_of(pixels)

    def _since_first(self, captured_s: float) -> float:
        if self.started_s is None:
            self.started_s = captured_s
        return captured_s - self.started_s

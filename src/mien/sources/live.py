"""Pictures from Python that are made while they are read."""

import math
import time
from collections.abc import Iterable
from typing import Any

from mien.errors import SourceError
from mien.sources.arrays import check_rgb
from mien.sources.base import TICK_S, Kind, Source, TimedReads

__all__ = ["LiveArrays"]


class LiveArrays(Source):
    """An iterable of pictures that is taken one by one, each only when the one before has been read.

    Items are RGB uint8 (H, W, 3), or pairs of seconds and such a picture. Pictures without a time get the clock's: seconds since
    the first came. Nothing is left out: an iterable that is faster than the reader is simply asked later, so one that must
    keep up with the world has to give its newest picture, as `Camera` does.
    """

    kind: Kind = "arrays"
    live = True

    def __init__(self, items: Iterable[Any], name: str = "live") -> None:
        super().__init__(name)
        self._items = items

    def _timed_reads(self) -> TimedReads:
        last, start = -math.inf, 0.0
        for index, item in enumerate(self._items):
            if isinstance(item, tuple):
                time_s, array = item
                if not (time_s > last and math.isfinite(time_s)):
                    raise SourceError(
                        f"{self.name}: item {index} is at {time_s} s, not after the one before; sort them by time"
                    )
            else:
                start = start if index else time.monotonic()
                time_s, array = max(time.monotonic() - start if index else 0.0, last + TICK_S), item
            last, pixels = time_s, check_rgb(array, f"{self.name}: item {index}")
            yield float(time_s), lambda pixels=pixels: pixels  # type: ignore[misc]

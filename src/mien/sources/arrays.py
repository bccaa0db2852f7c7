"""Arrays from Python: the frames of one film, or separate pictures."""

import math
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, cast

import numpy as np

from mien.errors import SourceError
from mien.sources.base import Kind, Pixels, Source, TimedReads, reader_of, refuse_huge

__all__ = ["Arrays", "Pictures", "check_rgb", "check_time"]


class Arrays(Source):
    """Arrays that are the frames of one film, with or without times."""

    kind: Kind = "arrays"

    def __init__(self, items: Iterable[Any], name: str = "arrays") -> None:
        """Open them.

        Args:
            items: RGB uint8 (H, W, 3), or pairs of seconds and such an array. Arrays without a time
                are one second apart.
            name: Name of the source.
        """
        super().__init__(name)
        self._items = items
        self.frame_hint = _length_of(items)

    def _timed_reads(self) -> TimedReads:
        last_s = -math.inf
        # Checked one by one as they are read, so that an iterator may be endless.
        for index, item in enumerate(self._items):
            if isinstance(item, tuple):
                time_s, array = item
            else:
                time_s = float(index)
                array = item
            check_time(self.name, index, time_s, last_s)
            last_s = time_s
            pixels = check_rgb(array, f"{self.name}: item {index}")
            yield float(time_s), reader_of(pixels)


class Pictures(Source):
    """Arrays that are separate pictures: each is searched by itself, and all are at time 0.

    `Frame.index` is the position in the list.
    """

    kind: Kind = "image"

    def __init__(self, items: Iterable[Any], name: str = "pictures") -> None:
        """Open them.

        Args:
            items: RGB uint8 (H, W, 3).
            name: Name of the source.
        """
        super().__init__(name)
        self._items = items
        self.length_s = 0.0
        self.frame_hint = _length_of(items)

    def _timed_reads(self) -> TimedReads:
        for index, item in enumerate(self._items):
            pixels = check_rgb(item, f"{self.name}: item {index}")
            yield 0.0, reader_of(pixels)


def _length_of(items: Iterable[Any]) -> int | None:
    return len(items) if isinstance(items, Sequence | np.ndarray) else None


def check_time(name: str, index: int, time_s: float, last_s: float) -> None:
    """Refuse a time that is not after the one before.

    Args:
        name: Name of the source.
        index: Position of the item.
        time_s: Its time, seconds.
        last_s: Time of the item before, seconds; -inf for the first.

    Raises:
        SourceError: The time does not rise, or is not finite.
    """
    if not (time_s > last_s and math.isfinite(time_s)):
        raise SourceError(
            f"{name}: item {index} is at {time_s} s, not after the one before; sort them by time"
        )


def check_rgb(array: object, where: str) -> Pixels:
    """Check that something is a picture.

    Args:
        array: What should be RGB uint8 (H, W, 3).
        where: What the error names.

    Returns:
        The array itself.

    Raises:
        SourceError: It is anything else, or too large.
    """
    if not isinstance(array, np.ndarray):
        raise _not_rgb(array, where, type(array).__name__)
    is_rgb = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    if not (is_rgb and array.size):
        raise _not_rgb(array, where, f"{array.dtype} {array.shape}")
    refuse_huge(where, array.shape[1], array.shape[0])
    return cast(Pixels, array)


def _not_rgb(item: object, where: str, what: str) -> SourceError:
    advice = _how_to_convert(item)
    return SourceError(f"{where}: expected RGB uint8 (H, W, 3), got {what}; {advice}")


def _how_to_convert(item: object) -> str:
    if isinstance(item, str | bytes | PathLike):
        return "with photos=True each item is a photo of its own, also as a path or bytes"
    # Pillow's pictures have this attribute.
    if hasattr(item, "__array_interface__") and not isinstance(item, np.ndarray):
        return 'give numpy.asarray(picture.convert("RGB"))'
    return "convert it first"

"""Arrays from Python: one film, or separate pictures."""

import math
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, cast

import numpy as np

from mien.errors import SourceError
from mien.sources.base import Kind, Pixels, Source, TimedReads, refuse_huge

__all__ = ["Arrays", "Pictures", "check_rgb"]


class Arrays(Source):
    """Arrays that are the frames of one film, with or without times."""

    kind: Kind = "arrays"

    def __init__(self, items: Iterable[Any], name: str = "arrays") -> None:
        super().__init__(name)
        self._items = items
        self.frame_hint = len(items) if isinstance(items, Sequence | np.ndarray) else None

    def _timed_reads(self) -> TimedReads:
        last = -math.inf
        for index, item in enumerate(self._items):
            time_s, array = (float(index), item) if not isinstance(item, tuple) else item
            if not (time_s > last and math.isfinite(time_s)):
                raise SourceError(
                    f"{self.name}: item {index} is at {time_s} s, not after the one before; sort them by time"
                )
            last, pixels = time_s, check_rgb(array, f"{self.name}: item {index}")
            yield float(time_s), lambda pixels=pixels: pixels  # type: ignore[misc]


class Pictures(Source):
    """Arrays that are separate pictures: each is searched anew, all are at time 0, `Frame.index` is the place in the list."""

    kind: Kind = "image"

    def __init__(self, items: Iterable[Any], name: str = "pictures") -> None:
        super().__init__(name)
        self._items = items
        self.length_s = 0.0
        self.frame_hint = len(items) if isinstance(items, Sequence | np.ndarray) else None

    def _timed_reads(self) -> TimedReads:
        for index, item in enumerate(self._items):
            pixels = check_rgb(item, f"{self.name}: item {index}")
            yield 0.0, lambda pixels=pixels: pixels  # type: ignore[misc]


def check_rgb(array: object, where: str) -> Pixels:
    """The array itself if it is RGB uint8 (H, W, 3); else SourceError, naming `where`."""
    if (
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and array.ndim == 3
        and array.shape[2] == 3
        and array.size
    ):
        refuse_huge(where, array.shape[1], array.shape[0])
        return cast(Pixels, array)
    found = (
        f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    )
    raise SourceError(
        f"{where}: expected RGB uint8 (H, W, 3), got {found}; {_way_to_convert(array)}"
    )


def _way_to_convert(item: object) -> str:
    if isinstance(item, str | bytes | PathLike):
        return "with photos=True each item is a photo of its own, also as a path or bytes"
    if hasattr(item, "__array_interface__") and not isinstance(
        item, np.ndarray
    ):  # as pictures of Pillow's have
        return 'give numpy.asarray(picture.convert("RGB"))'
    return "convert it first"

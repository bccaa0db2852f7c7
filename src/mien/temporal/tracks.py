"""The memory of tracks that all stages over readings share."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import numpy as np

from mien.errors import SourceError
from mien.records import Reading

__all__ = ["TICK_S", "Recent", "forget", "in_time_order", "remember", "track_of"]

T = TypeVar("T")
# Track -> (time last seen in s, what is kept for it), the longest unseen first.
Recent = OrderedDict[int, tuple[float, T]]

# Times closer than this (s) are one time: above rounding error, below every container's clock.
TICK_S: Final = 1e-6


def track_of(reading: Reading) -> int | None:
    """The track of a reading.

    Args:
        reading: A reading.

    Returns:
        The number of its face's track; None without a face, or for a face without a track.
    """
    return reading.face.track if reading.face else None


def remember(tracks: Recent[T], track: int, time_s: float, state: T) -> None:
    """Note that a track is seen, and make it the one seen last.

    Args:
        tracks: The memory.
        track: The number of the track.
        time_s: When it is seen, s.
        state: What to keep for it.
    """
    tracks[track] = (time_s, state)
    tracks.move_to_end(track)


def forget(tracks: Recent[T], before_s: float) -> None:
    """Drop the tracks last seen before a time.

    Args:
        tracks: The memory.
        before_s: The time, s.
    """
    while tracks:
        last_seen_s, _ = next(iter(tracks.values()))
        if last_seen_s >= before_s - TICK_S:
            return
        tracks.popitem(last=False)


def in_time_order(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Check that readings come in order of time.

    Args:
        readings: The readings of one source.

    Yields:
        The same readings.

    Raises:
        SourceError: Time runs backwards.
    """
    latest = -np.inf
    for reading in readings:
        if reading.time_s < latest:
            raise SourceError(
                f"{reading.source}, frame {reading.frame}: time runs backwards, "
                f"{reading.time_s} s after {latest} s; re-encode the video"
            )
        latest = reading.time_s
        yield reading

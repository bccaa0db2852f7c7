"""Where faces may be in each frame of a film, also in frames in which they were not found.

Readings are looked at ahead and back in time, so that a face is hidden before it is first found,
while it is lost, and after it was last seen. Frames themselves are never kept.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, floor
from typing import Final, NamedTuple

from mien.outputs.canvas import Box
from mien.records import Face, Reading
from mien.sources.interval import FrameInterval

__all__ = ["REACH_S", "HiddenFace", "HiddenFaces", "region_of"]

REACH_S: Final = 2.0
"""For how long a face is hidden before it is first found, and after it was last seen, seconds."""
MARGIN: Final = 0.4
"""What a hidden region adds to each side of the face's box, in longer sides of the box. Boxes reach
from the brows to the chin; hair and ears identify people, too."""
DRIFT_PER_S: Final = 0.5
"""What it adds further for each second since the face was seen, in the same unit."""


class HiddenFace(NamedTuple):
    """One face, seen or not, that a frame must not show.

    Attributes:
        box: Where it is, or where it was and will be; pixels of the frame.
        margin: What is hidden around the box on each side, in longer sides of the box.
        reading: What was read of it in this frame; None where it was not found.
    """

    box: Box
    margin: float
    reading: Reading | None


@dataclass(slots=True)
class _FrameRows:
    """The readings of one frame."""

    time_s: float
    rows: Sequence[Reading]


class HiddenFaces:
    """Finds what must be hidden in each frame, from the readings of all frames near it in time.

    Frames are given in order and come back in order, `REACH_S` later, or 2.5 frame intervals where
    that is longer.
    """

    def __init__(self) -> None:
        # The first `_finished` frames have come back; they stay as long as they are within reach.
        self._frames: deque[_FrameRows] = deque()
        self._finished = 0
        self._interval = FrameInterval()

    def add(self, rows: Sequence[Reading]) -> Iterator[tuple[Sequence[Reading], list[HiddenFace]]]:
        """Take the readings of the next frame.

        Args:
            rows: All of its readings, at least one.

        Yields:
            The readings of each frame whose future is now known, with what must be hidden in it.
        """
        time_s = rows[0].time_s
        self._interval.add(time_s)
        self._frames.append(_FrameRows(time_s, rows))
        while self._frames[self._finished].time_s + self._reach_s < time_s:
            yield self._next()

    def rest(self) -> Iterator[tuple[Sequence[Reading], list[HiddenFace]]]:
        """End the film.

        Yields:
            The same of the frames that still waited for their future.
        """
        while self._finished < len(self._frames):
            yield self._next()

    @property
    def _reach_s(self) -> float:
        return self._interval.longest_gap_s(REACH_S)

    def _next(self) -> tuple[Sequence[Reading], list[HiddenFace]]:
        frame = self._frames[self._finished]
        while self._frames[0].time_s < frame.time_s - self._reach_s:
            self._frames.popleft()
            self._finished -= 1
        hidden = self._hidden_in(frame)
        self._finished += 1
        return frame.rows, hidden

    def _hidden_in(self, frame: _FrameRows) -> list[HiddenFace]:
        hidden = []
        seen = set()
        for row in frame.rows:
            if row.face is not None:
                hidden.append(HiddenFace(_whole_box(row.face), MARGIN, row))
                seen.add(row.face.track)
        before: dict[int, tuple[float, Box]] = {}
        after: dict[int, tuple[float, Box]] = {}
        for other in islice(self._frames, self._finished):
            before.update(_boxes_by_track(other))
        for other in islice(self._frames, self._finished + 1, None):
            if other.time_s > frame.time_s + self._reach_s:
                break
            # The first sight of each track, not the last.
            after = {**_boxes_by_track(other), **after}
        for track in sorted((before.keys() | after.keys()) - seen):
            hidden.append(_unseen(frame.time_s, before.get(track), after.get(track)))
        return hidden


def _boxes_by_track(frame: _FrameRows) -> dict[int, tuple[float, Box]]:
    """Time and box of each tracked face of a frame."""
    boxes = {}
    for row in frame.rows:
        if row.face is not None and row.face.track is not None:
            boxes[row.face.track] = (frame.time_s, _whole_box(row.face))
    return boxes


def _unseen(
    time_s: float, before: tuple[float, Box] | None, after: tuple[float, Box] | None
) -> HiddenFace:
    """A face that was not found, from its last sight and its next; one of them may be missing."""
    sights = [sight for sight in (before, after) if sight is not None]
    box = sights[0][1]
    if before and after:
        # Whichever way it took from one to the other.
        box = _around(before[1], after[1])
    away_s = min(abs(time_s - seen_s) for seen_s, _ in sights)
    return HiddenFace(box, MARGIN + DRIFT_PER_S * away_s, None)


def _whole_box(face: Face) -> Box:
    """The box of a face, with all its points in it."""
    box = Box(*map(float, face.box))
    left, top = face.points.min(axis=0)
    right, bottom = face.points.max(axis=0)
    # Readings made by hand may have no points.
    if left == right or top == bottom:
        return box
    return _around(box, Box(float(left), float(top), float(right - left), float(bottom - top)))


def _around(first: Box, second: Box) -> Box:
    """The smallest box that holds two others."""
    left = min(first.x, second.x)
    top = min(first.y, second.y)
    right = max(first.right, second.right)
    bottom = max(first.bottom, second.bottom)
    return Box(left, top, right - left, bottom - top)


def region_of(face: HiddenFace, width: int, height: int) -> tuple[slice, slice]:
    """The pixels of a picture that hide a face.

    Args:
        face: The face, in pixels of the picture.
        width: Width of the picture.
        height: Its height.

    Returns:
        Rows and columns, as slices of the picture; empty where the face lies outside of it.
    """
    grown = face.box.grown(face.margin * max(face.box.w, face.box.h))
    rows = slice(max(floor(grown.y), 0), min(max(ceil(grown.bottom), 0), height))
    columns = slice(max(floor(grown.x), 0), min(max(ceil(grown.right), 0), width))
    return rows, columns

"""Search backwards: a face that a search finds was often in view before, and has rows there, too.

For that the frames since the last search are kept, and given on when the next one is done. Not for live use: frames are
up to `SEARCH_S` late.
"""

from collections.abc import Iterator
from typing import Final

from mien.faces.track import Newcomer, Tracker, overlap
from mien.records import Face, Frame

__all__ = ["HELD_BYTES", "look_back"]

HELD_BYTES: Final = 96 << 20
"""Frames kept between two searches, bytes; where frames are so large that they would take more, searches come sooner."""
_SAME: Final = 0.3
"""A face that shares this much (IoU) with one already known in that frame is that one."""
Seen = tuple[Frame, list[Face]]


def look_back(frames: Iterator[Frame], tracker: Tracker) -> Iterator[Seen]:
    """Each frame with its faces, in order; a face is there from the first frame on in which it can be seen.

    frames: of one source, in order; those without pixels are given on without faces.
    """
    held: list[Seen] = []
    size = 0
    for frame in frames:
        if frame.pixels is None:
            held.append((frame, []))
            continue
        size += frame.pixels.nbytes
        held.append(_seen(frame, held, tracker, size + frame.pixels.nbytes > HELD_BYTES))
        if tracker.searched:
            yield from held
            held, size = [], 0
    # Who came in after the last search is in view at the end, and would be missed.
    last = next((at for at in reversed(range(len(held))) if held[at][0].pixels is not None), None)
    if last is not None:
        held[last] = _seen(held[last][0], held[:last], tracker, search=True)
    yield from held


def _seen(frame: Frame, held: list[Seen], tracker: Tracker, search: bool) -> Seen:
    """The frame with its faces. Those that are new are added to the frames kept before, as far back as they can be seen."""
    assert frame.pixels is not None
    faces = tracker.update(frame.pixels, frame.time_s, search)
    for newcomer in tracker.newcomers:
        _trace(newcomer, held, tracker)
    return frame, faces


def _trace(newcomer: Newcomer, held: list[Seen], tracker: Tracker) -> None:
    for frame, faces in reversed(held):
        if frame.pixels is None:
            continue
        earlier = tracker.before(frame.pixels, frame.time_s, newcomer)
        if earlier is None or any(overlap(earlier.face.box, face.box) >= _SAME for face in faces):
            return
        faces.append(earlier.face)
        faces.sort(key=lambda face: -1 if face.track is None else face.track)
        newcomer = earlier

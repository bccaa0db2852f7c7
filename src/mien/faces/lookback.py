"""Look back: a face that a search finds was often in view before, and gets rows there, too.

The frames since the last search are buffered and passed on when the next search is done. Frames are
therefore up to `SEARCH_S` late, which rules out live use.
"""

from collections.abc import Iterator
from typing import Final

from mien.faces.detect import overlap
from mien.faces.track import NewFace, Tracker
from mien.records import Face, Frame

__all__ = ["BUFFER_BYTES", "look_back"]

BUFFER_BYTES: Final = 96 << 20
"""Frames buffered between two searches, bytes; where frames are large, searches come sooner."""
# A face that overlaps this much with one already known in the same frame is that one.
_SAME_FACE_IOU: Final = 0.3

FrameFaces = tuple[Frame, list[Face]]


def look_back(frames: Iterator[Frame], tracker: Tracker) -> Iterator[FrameFaces]:
    """Track the faces of a source from the first frame on in which each can be seen.

    Args:
        frames: Frames of one source, in order.
        tracker: Finds and follows the faces.

    Yields:
        Each frame with its faces, in order; no faces where a frame has no pixels.
    """
    buffer: list[FrameFaces] = []
    size = 0
    for frame in frames:
        if frame.pixels is None:
            buffer.append((frame, []))
            continue
        size += frame.pixels.nbytes
        # Search now if one more such frame would not fit.
        is_full = size + frame.pixels.nbytes > BUFFER_BYTES
        buffer.append(_track(frame, buffer, tracker, is_full))
        if tracker.searched:
            yield from buffer
            buffer = []
            size = 0
    # Whoever came in after the last search is in view at the end, and would be missed.
    last = _last_readable(buffer)
    if last is not None:
        buffer[last] = _track(buffer[last][0], buffer[:last], tracker, search=True)
    yield from buffer


def _last_readable(buffer: list[FrameFaces]) -> int | None:
    """Position of the last frame that has pixels."""
    for position in reversed(range(len(buffer))):
        frame, _ = buffer[position]
        if frame.pixels is not None:
            return position
    return None


def _track(frame: Frame, buffer: list[FrameFaces], tracker: Tracker, search: bool) -> FrameFaces:
    """The frame with its faces; new ones are also added to the buffered frames before it."""
    assert frame.pixels is not None
    faces = tracker.update(frame.pixels, frame.time_s, search)
    for new_face in tracker.new_faces:
        _trace_back(new_face, buffer, tracker)
    return frame, faces


def _trace_back(new_face: NewFace, buffer: list[FrameFaces], tracker: Tracker) -> None:
    """Add a face to the buffered frames, backwards, until it is no longer to be seen."""
    for frame, faces in reversed(buffer):
        if frame.pixels is None:
            continue
        earlier = tracker.find_earlier(frame.pixels, frame.time_s, new_face)
        if earlier is None or _is_known(earlier.face, faces):
            return
        faces.append(earlier.face)
        faces.sort(key=_track_number)
        new_face = earlier


def _is_known(face: Face, faces: list[Face]) -> bool:
    return any(overlap(face.box, other.box) >= _SAME_FACE_IOU for other in faces)


def _track_number(face: Face) -> int:
    return -1 if face.track is None else face.track

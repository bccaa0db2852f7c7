"""Frames decoded in a thread of their own, while the caller works on earlier ones."""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final

import numpy as np

from mien.records import Frame
from mien.sources import Source

__all__ = ["frames_ahead", "newest", "read_ahead"]

# Decoded frames that may wait for the face detector, bytes.
AHEAD_BYTES: Final = 16 << 20

# How long the end of the reading waits for a source to give its next frame or none, seconds.
_PATIENCE_S: Final = 5.0

# What a thread hands over: a frame, the error that ended it, or None at the end.
_Message = Frame | BaseException | None
_Frames = Queue[_Message]


def read_ahead(frames: Generator[Frame, None, None]) -> Iterator[Frame]:
    """Decode frames in a thread of their own while the caller works on earlier ones.

    Args:
        frames: The frames of a source.

    Yields:
        The same frames.
    """
    first = next(frames, None)
    if first is None:
        return
    queue: _Frames = Queue(frames_ahead(first, AHEAD_BYTES))
    queue.put(first)
    yield from _from_thread(frames, queue, _put)


def frames_ahead(like: Frame, limit: int) -> int:
    """How many frames may wait between two threads.

    Args:
        like: A frame of their size; may be without pixels.
        limit: Of their pixels together, bytes.

    Returns:
        At least 2, or the threads would take turns; at most 32, however small the frames are.
    """
    if like.pixels is None:
        return 2
    return int(np.clip(limit // max(like.pixels.nbytes, 1), 2, 32))


def newest(frames: Generator[Frame, None, None], source: Source) -> Iterator[Frame]:
    """Take the newest frame each time, and leave out those that came while the caller was busy.

    So a frame is never older than the time that one reading takes, however slow that is.

    Args:
        frames: The frames of a live source.
        source: The source, which counts those that are left out, and gets a note on them at the
            end.

    Yields:
        The frames that were not left out.
    """

    def replace_waiting(queue: _Frames, message: _Message, stop: Event) -> None:
        # An error or the end must not push out the last frame.
        if isinstance(message, Frame):
            with suppress(Empty):
                queue.get_nowait()
                source.dropped += 1
        _put(queue, message, stop)

    try:
        yield from _from_thread(frames, Queue(1), replace_waiting)
    finally:
        if source.dropped:
            source.note(
                f"{source.dropped} frames came while others were read, and were left out; "
                "frame numbers count them"
            )


def _from_thread(
    frames: Generator[Frame, None, None],
    queue: _Frames,
    put: Callable[[_Frames, _Message, Event], None],
) -> Iterator[Frame]:
    """Frames that a thread takes from their source and hands over through a queue."""
    # Also when the caller stops early: a thread that waits for room notices within 0.1 s.
    stop = Event()
    thread = Thread(target=_fill, args=(frames, queue, stop, put), name="mien-decode", daemon=True)
    thread.start()
    try:
        while (message := queue.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message
    finally:
        stop.set()
        # Not for ever: the next picture of a live source may never come.
        thread.join(_PATIENCE_S)


def _put(queue: _Frames, message: _Message, stop: Event) -> None:
    """Wait until there is room, or nobody takes anything any more."""
    while not stop.is_set():
        try:
            queue.put(message, timeout=0.1)
        except Full:
            continue
        return


def _fill(
    frames: Generator[Frame, None, None],
    queue: _Frames,
    stop: Event,
    put: Callable[[_Frames, _Message, Event], None],
) -> None:
    """The work of the decoding thread."""
    try:
        for frame in frames:
            put(queue, frame, stop)
            if stop.is_set():
                return
        put(queue, None, stop)
    # Of whatever kind: it is raised in the caller's thread.
    except BaseException as error:
        put(queue, error, stop)
    finally:
        frames.close()

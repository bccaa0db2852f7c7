"""The film of a live reading, encoded in a thread of its own so that no frame is read later."""

from collections.abc import Callable
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Final

from mien.files import Transaction
from mien.outputs.video_writer import VideoWriter
from mien.records import Frame

__all__ = ["LiveFilm"]

# Frames that may wait for the encoder.
_WAITING: Final = 16
# Pictures a second that the file states; each picture has a time of its own.
_RATE: Final = 30.0


class LiveFilm:
    """Writes frames as an mp4 file, at their own times.

    Args:
        path: Where it appears once it is finished.

    Attributes:
        dropped: Frames that came faster than they could be encoded, and are not in it.
    """

    def __init__(self, path: Path) -> None:
        self.dropped = 0
        self._path = path
        # Its own, since a table is whole without its film.
        self._files = Transaction()
        self._queue: Queue[Frame | None] = Queue(_WAITING)
        self._writer: VideoWriter | None = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="mien-film", daemon=True)
        self._thread.start()

    def add(self, frame: Frame) -> None:
        """Append a frame; one that is unreadable is left out.

        Args:
            frame: The frame.

        Raises:
            OutputError: An earlier one could not be written.
        """
        if self._error is not None:
            raise self._error
        if frame.pixels is None:
            return
        try:
            self._queue.put_nowait(frame)
        except Full:
            self.dropped += 1

    def finish(self) -> list[Path]:
        """Complete the film and put it in place.

        Returns:
            Its file; none without frames.

        Raises:
            OutputError: It cannot be written.
        """
        self._end()
        if self._error is not None:
            raise self._error
        if self._writer is not None:
            self._writer.finish()
        self._files.commit()
        return self._files.paths

    def drop(self) -> None:
        """Close what is open, and remove what is not finished."""
        self._end()
        if self._writer is not None:
            self._writer.drop()
        self._files.drop()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        """The work of the thread: encode until there is no more."""
        add: Callable[[Frame], None] = self._encode
        while (frame := self._queue.get()) is not None:
            try:
                add(frame)
            # Of whatever kind: it is raised in the thread that films.
            except BaseException as error:
                self._error = error
                # What still comes is taken and dropped, so that nobody waits for room.
                add = _ignore

    def _encode(self, frame: Frame) -> None:
        assert frame.pixels is not None
        if self._writer is None:
            height, width = frame.pixels.shape[:2]
            self._writer = VideoWriter(self._path, None, (width, height), _RATE, self._files)
            self._writer.begin()
        self._writer.add(frame.pixels, frame.time_s)


def _ignore(_frame: Frame) -> None:
    """Drop a frame."""

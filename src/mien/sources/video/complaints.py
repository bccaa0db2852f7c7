"""Damage that FFmpeg's older decoders conceal in the picture and report in their log alone."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final, TypeVar

import av.logging
from av.video.stream import VideoStream

from mien.text import printable

__all__ = ["Complaints", "conceals"]

T = TypeVar("T")

# Decoders that mark no picture as damaged. Those of H.264 and later do, and they complain of intact
# files that were cut.
_CONCEALING: Final = frozenset(
    {
        "flv",
        "h263",
        "mjpeg",
        "mpeg4",
        "msmpeg4",
        "msmpeg4v1",
        "msmpeg4v2",
        "vc1",
        "wmv1",
        "wmv2",
        "wmv3",
    }
)


def conceals(stream: VideoStream) -> bool:
    """Whether damage in a stream shows in the decoder's log alone.

    Such a stream must be decoded in the calling thread: a log line from a thread of FFmpeg's own
    would wait for Python's lock.

    Args:
        stream: A video stream.

    Returns:
        Whether its decoder conceals damage.
    """
    return stream.codec_context is not None and stream.codec_context.name in _CONCEALING


class Complaints:
    """The errors that FFmpeg logs, in the calling thread, while a step of the reading runs."""

    def __init__(self) -> None:
        self._lines: Counter[str] = Counter()

    def listen(self, steps: Iterator[T]) -> Generator[T, None, None]:
        """Keep what FFmpeg logs while each item is made; each may be asked for in another thread.

        Args:
            steps: The items.

        Yields:
            The same items.
        """
        while True:
            with self.hear():
                step = next(steps, None)
            if step is None:
                return
            yield step

    @contextmanager
    def hear(self) -> Iterator[None]:
        """Keep what FFmpeg logs while the block runs.

        Yields:
            Nothing.
        """
        with _LOG.on(), av.logging.Capture(local=True) as lines:
            try:
                yield
            finally:
                for level, _, text in lines:
                    if level <= av.logging.ERROR:
                        self._lines[text.strip()] += 1

    def add(self, line: str | None) -> None:
        """Keep what another decoder than FFmpeg's reports.

        Args:
            line: The message; None if there is none.
        """
        if line:
            self._lines[line] += 1

    @property
    def summary(self) -> str | None:
        """The first complaint and how many there were, in one line; None if there were none."""
        if not self._lines:
            return None
        count = self._lines.total()
        more = f", and {count - 1} more" if count > 1 else ""
        first = printable(next(iter(self._lines)))
        return f'damaged: its decoder says "{first}"{more}'


class _Log:
    """FFmpeg's log, on while somebody listens.

    It is off otherwise, as by PyAV's default: other users of PyAV in the same program see no line.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners = 0
        self._before: tuple[int | None, bool] = (None, True)

    @contextmanager
    def on(self) -> Iterator[None]:
        with self._lock:
            if not self._listeners:
                self._before = av.logging.get_level(), av.logging.get_skip_repeated()
                av.logging.set_level(av.logging.ERROR)
                # Else a repeated line would be reported later, as one of another file.
                av.logging.set_skip_repeated(False)
            self._listeners += 1
        try:
            yield
        finally:
            with self._lock:
                self._listeners -= 1
                if not self._listeners:
                    level, skips = self._before
                    av.logging.set_level(level)
                    av.logging.set_skip_repeated(skips)


_LOG: Final = _Log()

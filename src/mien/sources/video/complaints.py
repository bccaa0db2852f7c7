"""What FFmpeg's older decoders say of damage: they conceal it in the picture and tell their log alone."""

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
"""Decoders that mark no picture as damaged. Those of H.264 and later do, and complain of sound files that were cut."""


def conceals(stream: VideoStream) -> bool:
    """Whether damage in this stream shows in the decoder's log alone.

    Such a stream must be decoded in the calling thread: a log line from a thread of FFmpeg's own would wait for Python's lock.
    """
    return stream.codec_context is not None and stream.codec_context.name in _CONCEALING


class Complaints:
    """The errors that FFmpeg logs, in the calling thread, while a step of the reading runs."""

    def __init__(self) -> None:
        self._said: Counter[str] = Counter()

    def listen(self, steps: Iterator[T]) -> Generator[T, None, None]:
        """The same items; what FFmpeg logs while each is made is kept. Each may be asked for in another thread."""
        while True:
            with self.hear():
                step = next(steps, None)
            if step is None:
                return
            yield step

    @contextmanager
    def hear(self) -> Iterator[None]:
        """Keep what FFmpeg logs while the block runs."""
        with _LOG.on(), av.logging.Capture(local=True) as lines:
            try:
                yield
            finally:
                self._said.update(
                    text.strip() for level, _, text in lines if level <= av.logging.ERROR
                )

    def add(self, line: str | None) -> None:
        """Keep what another decoder than FFmpeg's says, if anything."""
        if line:
            self._said[line] += 1

    @property
    def summary(self) -> str | None:
        """The first complaint and how many there were, in one line; None where there were none."""
        if not self._said:
            return None
        count = self._said.total()
        times = f", and {count - 1} more" if count > 1 else ""
        return f'damaged: its decoder says "{printable(next(iter(self._said)))}"{times}'


class _Log:
    """FFmpeg's log, on while somebody listens. It is off otherwise, as PyAV has it: who uses PyAV beside mien sees no line."""

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
                av.logging.set_skip_repeated(
                    False
                )  # else a line would be told later, of another file
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

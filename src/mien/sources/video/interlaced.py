"""Interlaced film made progressive: one frame for one frame, at the frame's own time."""

from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from mien.sources.video.packets import Stamped

__all__ = ["Deinterlacer"]


class Deinterlacer:
    """Passes frames on; from the first interlaced one they go through FFmpeg's bwdif, which leaves progressive ones as they are.

    met: whether there was an interlaced frame. failed: whether the filter could not be used, so that they stayed as they were.
    """

    def __init__(self) -> None:
        self.met = self.failed = False
        self._graph: Graph | None = None
        self._like: tuple[int, int, str] | None = None
        self._waiting: deque[Stamped] = deque()  # for the filter, which looks one frame ahead

    def pass_on(self, frames: Iterator[Stamped]) -> Generator[Stamped, None, None]:
        """The same frames in the same order, deinterlaced."""
        for frame in frames:
            picture = frame.picture
            self.met |= picture is not None and picture.interlaced_frame
            if not self.met or self.failed:
                yield frame
                continue
            if picture is not None:
                if self._like != (picture.width, picture.height, picture.format.name):
                    yield from self._emptied()
                    self._begin(picture)
                self._push(picture)
            self._waiting.append(frame)
            yield from self._ready()
        yield from self._emptied()

    def _begin(self, like: VideoFrame) -> None:
        self._like = (like.width, like.height, like.format.name)
        try:
            self._graph = graph = Graph()
            start = graph.add_buffer(
                width=like.width,
                height=like.height,
                format=like.format,
                time_base=like.time_base or Fraction(1, 25),
            )
            graph.link_nodes(
                start,
                graph.add("bwdif", mode="send_frame", deint="interlaced"),
                graph.add("buffersink"),
            ).configure()
        except (av.FFmpegError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            raise error
        self._graph, self.failed = None, True

    def _push(self, picture: VideoFrame | None) -> None:
        if self._graph is not None:
            try:
                self._graph.vpush(picture)
            except (av.FFmpegError, ValueError) as error:
                self._give_up(error)

    def _ready(self) -> Iterator[Stamped]:
        """What the filter has finished, and frames without a picture in between."""
        while self._waiting:
            frame = self._waiting[0]
            if frame.picture is not None:
                if (done := self._pulled()) is None:
                    break
                done.colorspace, done.color_range = (
                    frame.picture.colorspace,
                    frame.picture.color_range,
                )
                frame = frame._replace(picture=done)
            self._waiting.popleft()
            yield frame
        if self.failed:
            yield from self._rest()

    def _pulled(self) -> VideoFrame | None:
        if self._graph is None:
            return None
        try:
            return self._graph.vpull()
        except (BlockingIOError, EOFError):  # it wants more, or is empty
            return None

    def _emptied(self) -> Iterator[Stamped]:
        self._push(None)
        yield from self._ready()
        yield from self._rest()
        self._graph = self._like = None

    def _rest(self) -> Iterator[Stamped]:
        """What the filter did not give back, as it was."""
        while self._waiting:
            yield self._waiting.popleft()

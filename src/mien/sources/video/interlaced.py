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
    """Passes frames on; from the first interlaced one on they go through FFmpeg's filter bwdif.

    The filter leaves progressive frames as they are.

    Attributes:
        met: Whether there was an interlaced frame.
        failed: Whether the filter could not be used, so that frames stayed as they were.
    """

    def __init__(self) -> None:
        self.met = self.failed = False
        self._graph: Graph | None = None
        self._like: tuple[int, int, str] | None = None
        # For the filter, which looks one frame ahead.
        self._waiting: deque[Stamped] = deque()

    def pass_on(self, frames: Iterator[Stamped]) -> Generator[Stamped, None, None]:
        """Deinterlace frames.

        Args:
            frames: Frames in order of presentation.

        Yields:
            The same frames in the same order.
        """
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
            # One frame for one frame, and progressive ones unchanged.
            bwdif = graph.add("bwdif", mode="send_frame", deint="interlaced")
            graph.link_nodes(start, bwdif, graph.add("buffersink")).configure()
        except (av.FFmpegError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            raise error
        self._graph = None
        self.failed = True

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
                filtered = self._pulled()
                if filtered is None:
                    break
                # The filter does not pass these on.
                filtered.colorspace = frame.picture.colorspace
                filtered.color_range = frame.picture.color_range
                frame = frame._replace(picture=filtered)
            self._waiting.popleft()
            yield frame
        if self.failed:
            yield from self._rest()

    def _pulled(self) -> VideoFrame | None:
        if self._graph is None:
            return None
        try:
            return self._graph.vpull()
        except (BlockingIOError, EOFError):
            # It waits for another frame, or is empty.
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

"""Videos through PyAV: FFmpeg's own times, no frame lost silently, square pixels, right colours."""

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any, Final, cast

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mien.errors import SourceError
from mien.sources.base import (
    Kind,
    PixelReader,
    Pixels,
    Source,
    TimedReads,
    Turn,
    apply_turn,
    out_of_memory,
    refuse_huge,
)
from mien.sources.integrity import Flaw, find_flaw, is_joint
from mien.sources.still.jpeg import packet_damage
from mien.sources.stored import Stored, open_stored
from mien.sources.video.clock import Timestamps, frame_rate
from mien.sources.video.colour import SQUARE, ToRgb, display_size, sane_aspect
from mien.sources.video.complaints import Complaints, conceals
from mien.sources.video.interlaced import Deinterlacer
from mien.sources.video.packets import AnyPacket, PacketLedger, Stamped, pictures

__all__ = ["Video"]

# Text that FFmpeg would follow to other files, or draw.
_NOT_RECORDINGS: Final = frozenset({"concat", "dash", "hls", "imf", "rtsp", "sdp", "tty"})
# A file must not make FFmpeg go to the network.
_LOCAL_ONLY: Final = {"protocol_whitelist": "file"}
_QUARTERS: Final = {
    1: Turn(swap=True, flip_rows=True),
    2: Turn(flip_columns=True, flip_rows=True),
    3: Turn(swap=True, flip_columns=True),
}
_DEGREES: Final = {Turn(): 0, _QUARTERS[3]: 90, _QUARTERS[2]: 180, _QUARTERS[1]: 270}
# This decoder conceals damage silently by default.
_STRICT: Final = {"mjpeg": {"err_detect": "explode"}}


class Video(Source):
    """A video file. Opening decodes up to its first readable frame, to know that there is one.

    Attributes:
        stream: Number of the video stream to read, from 0; None takes the one that players take.
    """

    kind: Kind = "video"

    def __init__(self, name: str, stored: Stored, stream: int | None = None) -> None:
        super().__init__(name)
        self._stored = self.sound = stored
        self.stream = stream
        try:
            self._open()
        except MemoryError as error:
            raise out_of_memory(name) from error

    def _open(self) -> None:
        """Find out what there is to read."""
        with self._container() as container:
            stream = self._choose_stream(container)
            length = _stated_length(container, stream)
            self.length_s = float(length) or None
            rate = frame_rate(stream)
            self.frame_hint = stream.frames or None
            if self.frame_hint is None and length and rate:
                self.frame_hint = round(length * rate)
            first = _first_picture(container, stream)
            if first is None:
                raise SourceError(
                    f"{self.name}: not one of its frames can be decoded; "
                    "check that it plays elsewhere"
                )
            self._describe(container, stream, first)

    def _container(self) -> InputContainer:
        try:
            file = self._stored if isinstance(self._stored, str) else open_stored(self._stored)
            return av.open(file, "r", options=_LOCAL_ONLY, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            raise SourceError(
                f"{self.name}: no picture or video of a known format, "
                "or cut off before its index was written; "
                "check that it plays elsewhere, or export it again"
            ) from error

    def _choose_stream(self, container: InputContainer) -> VideoStream:
        """The stream to read, set up to deliver damaged frames marked as such."""
        streams = _video_streams(container)
        if not streams:
            raise SourceError(
                f"{self.name}: holds no moving picture (sound or text only); "
                "give a picture or a video"
            )
        if self.stream is not None and not 0 <= self.stream < len(streams):
            raise SourceError(
                f"{self.name}: has no video stream {self.stream}; it holds {_listed(streams)}"
            )
        number = self.stream
        if number is None:
            number = _best_stream(container, streams)
        stream = streams[number]
        self._set_up(stream)
        if len(streams) > 1 and self.stream is None:
            other = 1 - number if len(streams) == 2 else "N"
            self.note(
                f"holds {len(streams)} video streams ({_listed(streams)}); "
                f"stream {number} was read, choose with --stream {other}"
            )
        self.media |= {"stream": number, "video_streams": len(streams)}
        return stream

    def _set_up(self, stream: VideoStream) -> None:
        context = stream.codec_context
        if context is None:
            raise SourceError(f"{self.name}: its video codec is not supported; convert it to H.264")
        refuse_huge(self.name, context.width, context.height)
        context.flags |= Flags.output_corrupt
        context.options = _STRICT.get(context.name, {})
        # Threads by slices cause no delay before the first frame.
        stream.thread_type = "SLICE"
        if conceals(stream):
            context.thread_count = 1

    def _describe(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> None:
        """Fill `media` and `size` from the header and the first picture."""
        shape = _PixelShape(stream).of(0, stream)
        turn = _display_turn(first)
        width, height = display_size(first.width, first.height, shape)
        refuse_huge(self.name, width, height)
        self.size = (height, width) if turn.swap else (width, height)
        is_mirrored = turn not in _DEGREES
        # Of a mirrored picture the rotation is what remains once it is flipped back.
        rotation = turn._replace(flip_columns=not turn.flip_columns) if is_mirrored else turn
        rate = frame_rate(stream)
        start_s = None
        if stream.start_time is not None and stream.time_base:
            start_s = float(stream.start_time * stream.time_base)
        self.media |= {
            "width": first.width,
            "height": first.height,
            "pixel_aspect": f"{shape.numerator}:{shape.denominator}",
            "frame_width": self.size[0],
            "frame_height": self.size[1],
            "rotation": _DEGREES.get(rotation, 0),
            "mirrored": is_mirrored,
        }
        self.media |= {
            "frame_rate": float(rate) if rate else None,
            "duration_s": self.length_s,
            "start_s": start_s,
        }
        self.media |= {
            "codec": stream.codec_context.codec.canonical_name,
            "container": container.format.name,
            "created": _creation_time(container, stream),
            "interlaced": first.interlaced_frame,
        }

    def _timed_reads(self) -> TimedReads:
        complaints = Complaints()
        with complaints.hear():
            opened = self._container()
        with opened as container:
            stream = self._choose_stream(container)
            ledger = PacketLedger(container, stream, self._is_joint)
            clock = Timestamps(stream)
            shape = _PixelShape(stream)
            to_rgb = ToRgb()
            deinterlacer = Deinterlacer()
            is_jpeg = stream.codec_context.name == "mjpeg"

            def watch(number: int, packet: AnyPacket, stream: VideoStream) -> None:
                shape.watch(number, stream)
                if is_jpeg:
                    complaints.add(packet_damage(bytes(packet)))

            frames: Iterator[Stamped] = pictures(container, stream, ledger, watch)
            if conceals(stream):
                frames = complaints.listen(frames)
            for frame in deinterlacer.pass_on(frames):
                time_s = clock.seconds(frame.stamp)
                yield time_s, self._reader(frame, shape.of(frame.packet, stream), to_rgb)
            line = ledger.early_end(self._flaw(container.format.name))
            if line:
                self._problems.append(line)
            if conceals(stream) and complaints.summary:
                self._problems.append(complaints.summary)
            self.media |= {
                "interlaced": deinterlacer.met,
                "deinterlaced": deinterlacer.met and not deinterlacer.failed,
            }
            if deinterlacer.failed:
                self.note(
                    "the film is interlaced and was read as it is: "
                    "its pixel format cannot be deinterlaced"
                )
            for line in (clock.note, shape.note, to_rgb.note, ledger.note):
                if line:
                    self.note(line)

    def _is_joint(self, position: int) -> bool:
        with open_stored(self._stored) as file:
            return is_joint(file, position)

    def _flaw(self, container: str) -> Flaw | None:
        with open_stored(self._stored) as file:
            return find_flaw(file, container)

    @staticmethod
    def _reader(frame: Stamped, shape: Fraction, to_rgb: ToRgb) -> PixelReader | None:
        """What reads the frame's pixels: RGB uint8 (H, W, 3), upright, in square pixels."""
        picture = frame.picture
        if picture is None:
            return None

        def read() -> Pixels | None:
            pixels = to_rgb(picture, shape)
            return None if pixels is None else apply_turn(pixels, _display_turn(picture))

        return read


class _PixelShape:
    """Width over height of a pixel, per packet.

    The container decides if it states one of its own, else the codec, whose answer may change.

    Attributes:
        note: What was peculiar, one line, or None.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.note: str | None = None
        self._fixed = stream.sample_aspect_ratio != stream.codec_context.sample_aspect_ratio
        self._changes = [(0, self._checked(stream.sample_aspect_ratio))]
        self._last = stream.codec_context.sample_aspect_ratio

    def watch(self, packet: int, stream: VideoStream) -> None:
        """Note what the codec states after it has taken a packet of this number."""
        now = stream.codec_context.sample_aspect_ratio
        if now != self._last and not self._fixed:
            self._changes.append((packet, self._checked(now)))
        self._last = now

    def of(self, packet: int | None, stream: VideoStream) -> Fraction:
        """The shape that holds for the picture of a packet."""
        if len(self._changes) == 1 or packet is None:
            return self._changes[-1][1]
        return next(shape for start, shape in reversed(self._changes) if start <= packet)

    def _checked(self, shape: Fraction | None) -> Fraction:
        sane = sane_aspect(shape)
        if sane is None:
            self.note = (
                f"the file says that a pixel is {shape} times as wide as high; "
                "pixels were taken as square"
            )
        return sane or SQUARE


def _stated_length(container: InputContainer, stream: VideoStream) -> Fraction | float:
    """Length in seconds, as the file states it; 0 if it does not."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return (container.duration or 0) / av.time_base


def _first_picture(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """The first frame that can be decoded."""
    with closing(pictures(container, stream, PacketLedger(container, stream))) as frames:
        for frame in frames:
            if frame.picture is not None:
                return frame.picture
    return None


def _creation_time(container: InputContainer, stream: VideoStream) -> str | None:
    """When the film was recorded, as the file states it; the container's tags take precedence."""
    tags: dict[str, str] = {}
    for key, value in (stream.metadata | container.metadata).items():
        tags[key.lower()] = value
    return tags.get("creation_time") or tags.get("date")


def _video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams of a recording, without cover pictures; none of other formats."""
    if container.format.name in _NOT_RECORDINGS:
        return []
    streams: list[VideoStream] = []
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            streams.append(stream)
    return streams


def _best_stream(container: InputContainer, streams: list[VideoStream]) -> int:
    """Number of the stream that players take."""
    best = container.streams.best("video")
    for number, stream in enumerate(streams):
        if stream is best:
            return number
    return 0


def _listed(streams: list[VideoStream]) -> str:
    """Number, codec and size of each stream, in one line."""
    parts: list[str] = []
    for number, stream in enumerate(streams):
        context = stream.codec_context
        if context is None:
            parts.append(f"{number}: unknown codec")
        else:
            parts.append(f"{number}: {context.name} {context.width}x{context.height}")
    return ", ".join(parts)


def _display_turn(picture: VideoFrame) -> Turn:
    """Read the display matrix: x' = a x + c y and y' = b x + d y, to the nearest quarter turn."""
    try:
        matrix = cast(Any, picture.side_data.get("DISPLAYMATRIX"))
    except ValueError:
        # PyAV stumbles over kinds of side data newer than itself; the angle is still there.
        return _QUARTERS.get(round(picture.rotation / 90) % 4, Turn())
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(swap=True, flip_columns=c < 0, flip_rows=b < 0)
    return Turn(flip_columns=a < 0, flip_rows=d < 0)

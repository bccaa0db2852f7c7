"""Videos through PyAV: FFmpeg's own times, every frame accounted for, square pixels, colours by the stream's own flags."""

from collections.abc import Callable, Iterator
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

_NOT_RECORDINGS: Final = frozenset(
    {"concat", "dash", "hls", "imf", "rtsp", "sdp", "tty"}
)  # text FFmpeg would follow or draw
_LOCAL_ONLY: Final = {"protocol_whitelist": "file"}  # a file may not send us to the network
_QUARTERS: Final = {
    1: Turn(swap=True, flip_rows=True),
    2: Turn(flip_columns=True, flip_rows=True),
    3: Turn(swap=True, flip_columns=True),
}
_DEGREES: Final = {Turn(): 0, _QUARTERS[3]: 90, _QUARTERS[2]: 180, _QUARTERS[1]: 270}
_STRICT: Final = {
    "mjpeg": {"err_detect": "explode"}
}  # this decoder conceals damage without a word unless told not to


class Video(Source):
    """A video file. Opening decodes up to its first readable frame, which settles that there is one, and the size.

    stream: number of the video stream to read, from 0; None takes the one that players take.
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
        """Settle what there is to read."""
        with self._container() as container:
            chosen = self._chosen(container)
            length = (
                chosen.duration * chosen.time_base
                if chosen.duration and chosen.time_base
                else (container.duration or 0) / av.time_base
            )
            self.length_s = float(length) or None
            rate = frame_rate(chosen)
            self.frame_hint = chosen.frames or (round(length * rate) if length and rate else None)
            found = (
                frame
                for frame in pictures(container, chosen, PacketLedger(container, chosen))
                if frame.picture is not None
            )
            with closing(found):
                if (first := next(found, None)) is None or first.picture is None:
                    raise SourceError(
                        f"{self.name}: not one of its frames can be decoded; check that it plays elsewhere"
                    )
            self._describe(container, chosen, first.picture)

    def _container(self) -> InputContainer:
        try:
            place = self._stored if isinstance(self._stored, str) else open_stored(self._stored)
            return av.open(place, "r", options=_LOCAL_ONLY, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            why = "no picture or video of a known format, or cut off before its index was written"
            raise SourceError(
                f"{self.name}: {why}; check that it plays elsewhere, or export it again"
            ) from error

    def _chosen(self, container: InputContainer) -> VideoStream:
        """The moving picture to read, set up to hand out damaged frames marked as such."""
        streams = _moving_pictures(container)
        if not streams:
            raise SourceError(
                f"{self.name}: holds no moving picture (sound or text only); give a picture or a video"
            )
        if self.stream is not None and not 0 <= self.stream < len(streams):
            raise SourceError(
                f"{self.name}: has no video stream {self.stream}; it holds {_listed(streams)}"
            )
        best = container.streams.best("video")
        number = (
            next((number for number, each in enumerate(streams) if each is best), 0)
            if self.stream is None
            else self.stream
        )
        stream = streams[number]
        if stream.codec_context is None:
            raise SourceError(f"{self.name}: its video codec is not supported; convert it to H.264")
        refuse_huge(self.name, stream.codec_context.width, stream.codec_context.height)
        context = stream.codec_context
        context.flags |= Flags.output_corrupt
        context.options = _STRICT.get(context.name, {})
        stream.thread_type = "SLICE"  # no delay before the first frame
        if conceals(stream):
            context.thread_count = 1
        if len(streams) > 1 and self.stream is None:
            other = 1 - number if len(streams) == 2 else "N"
            self.note(
                f"holds {len(streams)} video streams ({_listed(streams)}); stream {number} was read, choose with --stream {other}"
            )
        self.media |= {"stream": number, "video_streams": len(streams)}
        return stream

    def _describe(self, container: InputContainer, stream: VideoStream, first: VideoFrame) -> None:
        """Fill `media` and `size` from the header and the first picture."""
        shape, turn = _PixelShape(stream).of(0, stream), _display_turn(first)
        width, height = display_size(first.width, first.height, shape)
        refuse_huge(self.name, width, height)
        self.size = (height, width) if turn.swap else (width, height)
        rate, unit = frame_rate(stream), stream.time_base
        starts = float(stream.start_time * unit) if stream.start_time is not None and unit else None
        tags = {key.lower(): value for key, value in (stream.metadata | container.metadata).items()}
        self.media |= {
            "width": first.width, "height": first.height, "pixel_aspect": f"{shape.numerator}:{shape.denominator}",
            "frame_width": self.size[0], "frame_height": self.size[1],
            "rotation": _DEGREES.get(turn, _DEGREES.get(turn._replace(flip_columns=not turn.flip_columns), 0)),
            "mirrored": turn not in _DEGREES, "frame_rate": float(rate) if rate else None, "duration_s": self.length_s,
            "start_s": starts, "codec": stream.codec_context.codec.canonical_name, "container": container.format.name,
            "created": tags.get("creation_time") or tags.get("date"), "interlaced": first.interlaced_frame,
        }  # fmt: skip

    def _timed_reads(self) -> TimedReads:
        complaints = Complaints()
        with complaints.hear():
            opened = self._container()
        with opened as container:
            stream = self._chosen(container)
            ledger, clock = PacketLedger(container, stream, self._is_joint), Timestamps(stream)
            shape, to_rgb, fields = _PixelShape(stream), ToRgb(), Deinterlacer()
            is_jpeg = stream.codec_context.name == "mjpeg"

            def watch(number: int, packet: AnyPacket, stream: VideoStream) -> None:
                shape.watch(number, stream)
                if is_jpeg:
                    complaints.add(packet_damage(bytes(packet)))

            frames: Iterator[Stamped] = pictures(container, stream, ledger, watch)
            if conceals(stream):
                frames = complaints.listen(frames)
            for frame in fields.pass_on(frames):
                yield (
                    clock.seconds(frame.stamp),
                    self._reading(frame, shape.of(frame.packet, stream), to_rgb),
                )
            self._close_books(ledger, container)
            if conceals(stream) and complaints.summary:
                self._problems.append(complaints.summary)
            self.media |= {
                "interlaced": fields.met,
                "deinterlaced": fields.met and not fields.failed,
            }
            if fields.failed:
                self.note(
                    "the film is interlaced and was read as it lies: its pixel format cannot be deinterlaced"
                )
            for line in (clock.note, shape.note, to_rgb.note, ledger.note):
                if line:
                    self.note(line)

    def _is_joint(self, place: int) -> bool:
        with open_stored(self._stored) as file:
            return is_joint(file, place)

    def _flaw(self, container: str) -> Flaw | None:
        with open_stored(self._stored) as file:
            return find_flaw(file, container)

    def _close_books(self, ledger: PacketLedger, container: InputContainer) -> None:
        line = ledger.early_end(self._flaw(container.format.name))
        self._problems += [line] if line else []

    def _reading(
        self, frame: Stamped, shape: Fraction, to_rgb: ToRgb
    ) -> Callable[[], Pixels | None] | None:
        """What reads the frame's pixels: RGB uint8 (H, W, 3), upright, in square pixels."""
        picture = frame.picture
        if picture is None:
            return None

        def read() -> Pixels | None:
            pixels = to_rgb(picture, shape)
            return None if pixels is None else apply_turn(pixels, _display_turn(picture))

        return read


class _PixelShape:
    """Width over height of a pixel, per packet: the container's word if it has one of its own, else what the coder says, which may change.

    note: what was peculiar, one line, or None.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.note: str | None = None
        self._fixed = stream.sample_aspect_ratio != stream.codec_context.sample_aspect_ratio
        self._changes = [(0, self._checked(stream.sample_aspect_ratio))]
        self._last = stream.codec_context.sample_aspect_ratio

    def watch(self, packet: int, stream: VideoStream) -> None:
        """Look at what the coder says after it has taken a packet of this number."""
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
            self.note = f"the file says that a pixel is {shape} times as wide as high; pixels were taken as square"
        return sane or SQUARE


def _moving_pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams of a recording, cover pictures left out; none of a format that is no recording."""
    if container.format.name in _NOT_RECORDINGS:
        return []
    return [
        each for each in container.streams.video if not each.disposition & Disposition.attached_pic
    ]


def _listed(streams: list[VideoStream]) -> str:
    """The streams in one line.  Number, codec and size of each."""
    contexts = [each.codec_context for each in streams]
    told = (
        f"{each.name} {each.width}x{each.height}" if each is not None else "unknown codec"
        for each in contexts
    )
    return ", ".join(f"{number}: {one}" for number, one in enumerate(told))


def _display_turn(picture: VideoFrame) -> Turn:
    """Read the display matrix: x' = a x + c y and y' = b x + d y, to the nearest quarter turn."""
    try:
        matrix = cast(Any, picture.side_data.get("DISPLAYMATRIX"))
    except (
        ValueError
    ):  # PyAV stumbles over kinds of side data newer than itself; the angle is still there
        return _QUARTERS.get(round(picture.rotation / 90) % 4, Turn())
    if matrix is None:
        return Turn()
    a, b, _, c, d = (int(each) for each in np.frombuffer(matrix, np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(swap=True, flip_columns=c < 0, flip_rows=b < 0)
    return Turn(flip_columns=a < 0, flip_rows=d < 0)

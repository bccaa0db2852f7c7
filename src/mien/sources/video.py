"""Videos through PyAV: FFmpeg's own times, every frame accounted for, colours by the stream's own flags."""

import math
from collections.abc import Generator
from contextlib import closing
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias, cast

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from mien.errors import SourceError
from mien.sources.base import TICK_S, Kind, Moments, Pixels, Source, Turn, refuse_huge, turned
from mien.sources.stored import Stored, open_stored

__all__ = ["Video"]

AnyPacket: TypeAlias = "Packet[Any]"  # generic for the type checker only
Stamped = tuple[int | None, VideoFrame | None]

_NOT_RECORDINGS: Final = frozenset({"concat", "dash", "hls", "imf", "rtsp", "sdp", "tty"})  # text FFmpeg would follow or draw
_LOCAL_ONLY: Final = {"protocol_whitelist": "file"}  # a file may not send us to the network
_ONE_PICTURE_A_PACKET: Final = frozenset({"av1", "h264", "hevc", "libdav1d", "mjpeg"})
_QUARTERS: Final = {1: Turn(swap=True, flip_rows=True), 2: Turn(flip_columns=True, flip_rows=True), 3: Turn(swap=True, flip_columns=True)}
_SLACK_S: Final = 0.25  # how far a whole file's length may differ from its last packet's end: writers round and estimate
_JUMP_S: Final = 1.0  # a step back larger than this is a clock that was set back, not a disorder of frames


class Video(Source):
    """A video file. Opening decodes up to its first readable frame, which settles that there is one, and the size."""

    kind: Kind = "video"

    def __init__(self, name: str, stored: Stored) -> None:
        super().__init__(name)
        self._stored = stored
        self._to_rgb = VideoReformatter()
        with self._container() as container:
            stream = _picture_stream(name, container)
            stream.thread_type = "SLICE"  # no delay before the first frame
            length = (
                stream.duration * stream.time_base if stream.duration and stream.time_base else (container.duration or 0) / av.time_base
            )
            self.length_s = float(length) or None
            rate = stream.average_rate or stream.guessed_rate
            self.frame_hint = stream.frames or (round(length * rate) if length and rate else None)
            found = (picture for _, picture in _pictures(container, stream, _Books(container, stream)) if picture is not None)
            with closing(found):
                if (first := next(found, None)) is None:
                    raise SourceError(f"{name}: not one of its frames can be decoded; check that it plays elsewhere")
            self.size = (first.height, first.width) if _display_turn(first).swap else (first.width, first.height)

    def _container(self) -> InputContainer:
        try:
            place = self._stored if isinstance(self._stored, str) else open_stored(self._stored)
            return av.open(place, "r", options=_LOCAL_ONLY)
        except (av.FFmpegError, OSError, ValueError) as error:
            why = "no picture or video of a known format, or cut off before its index was written"
            raise SourceError(f"{self.name}: {why}; check that it plays elsewhere, or export it again") from error

    def _moments(self) -> Moments:
        with self._container() as container:
            stream = _picture_stream(self.name, container)
            stream.thread_type = "SLICE"
            books, clock = _Books(container, stream), _Clock(stream)
            for pts, picture in _pictures(container, stream, books):
                yield clock.seconds(pts), None if picture is None else lambda picture=picture: self._pixels(picture)  # type: ignore[misc]
            self._problems += [line for line in (books.early_end(),) if line]
            if clock.note:
                self.note(clock.note)

    def _pixels(self, picture: VideoFrame) -> Pixels | None:
        """RGB uint8 (H, W, 3), upright, by the matrix and range the stream names.

        A stream that names no matrix is taken as players take it: BT.709 from 1280 columns or 577 rows up, else BT.601.
        """
        untold = picture.colorspace == 2 and not picture.format.is_rgb and (picture.width >= 1280 or picture.height > 576)
        try:
            rgb = self._to_rgb.reformat(picture, format="rgb24", src_colorspace=Colorspace.ITU709 if untold else None, threads=1)
        except (av.FFmpegError, ValueError):
            return None
        return turned(cast(Pixels, rgb.to_ndarray()), _display_turn(picture))


def _picture_stream(name: str, container: InputContainer) -> VideoStream:
    """The main moving picture, set up to hand out damaged frames marked as such."""
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams or container.format.name in _NOT_RECORDINGS:
        raise SourceError(f"{name}: holds no moving picture (sound or text only); give a picture or a video")
    best = container.streams.best("video")
    stream = next((each for each in streams if each is best), streams[0])
    if stream.codec_context is None:
        raise SourceError(f"{name}: its video codec is not supported; convert it to H.264")
    refuse_huge(name, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.flags |= Flags.output_corrupt
    return stream


def _display_turn(picture: VideoFrame) -> Turn:
    """Read the display matrix: x' = a x + c y and y' = b x + d y, to the nearest quarter turn."""
    try:
        matrix = cast(Any, picture.side_data.get("DISPLAYMATRIX"))
    except ValueError:  # PyAV stumbles over kinds of side data newer than itself; the angle is still there
        return _QUARTERS.get(round(picture.rotation / 90) % 4, Turn())
    if matrix is None:
        return Turn()
    a, b, _, c, d = (int(each) for each in np.frombuffer(matrix, np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(swap=True, flip_columns=c < 0, flip_rows=b < 0)
    return Turn(flip_columns=a < 0, flip_rows=d < 0)


class _Books:
    """Which packets still owe a picture, so that a frame lost in decoding becomes a row and not a gap.

    A packet passed over by later pictures was lost where a decoding error or a damaged packet was seen near it. In a
    codec that puts exactly one picture in each packet it was lost in any case. Elsewhere (hidden reference frames of
    VP8, field pairs, frames a coder left out) a packet without a picture is in order, and nothing is said.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        # AVI has no presentation times: FFmpeg's guess is wrong where frames are reordered, the decoder's order is right.
        self.by_decoding = container.format.name == "avi"
        self.certain = stream.codec_context.name in _ONE_PICTURE_A_PACKET and not self.by_decoding
        self.spoiled: set[int] = set()
        self.newest: int | None = None
        self._owed: list[int] = []  # a heap of presentation times
        self._hurt_until: int | None = None
        self._packets, self._end_s = 0, -math.inf

    def seen(self, packet: AnyPacket) -> None:
        """Note how far in time the file reaches, whatever the packet holds."""
        if (at := packet.pts if packet.pts is not None else packet.dts) is not None and packet.time_base:
            self._end_s = max(self._end_s, float((at + (packet.duration or 0)) * packet.time_base))

    def stamp(self, item: "AnyPacket | VideoFrame") -> int | None:
        """The time stamp of a packet or picture: presentation time, else decoding time."""
        return item.dts if item.pts is None or self.by_decoding else item.pts

    def sent(self, packet: AnyPacket) -> None:
        """A packet of the stream goes to the decoder."""
        self._packets += 1
        self.certain = self.certain and packet.pts is not None
        key = self.stamp(packet)
        if key is None or packet.is_discard:
            return
        if self.newest is not None and (self.newest - key) * float(packet.time_base) > 10 * _JUMP_S:
            self.certain, self._owed, self._hurt_until = False, [], None  # the clock was set back: start afresh
            self.newest = key
        self.newest = key if self.newest is None else max(self.newest, key)
        heappush(self._owed, key)
        if packet.is_corrupt:
            self.spoiled.add(key)
            self.failed()

    def failed(self) -> None:
        """The decoder gave up on one of the packets sent so far."""
        self._hurt_until = self.newest

    def lost_before(self, key: int | None) -> list[int]:
        """Times of the packets before key (all, if None) that will give no picture any more."""
        passed = []
        while self._owed and (key is None or self._owed[0] <= key):
            passed.append(heappop(self._owed))
        if key is not None and passed and passed[-1] == key:
            passed.pop()
        told = passed if self.certain or self._hurt_until is not None else [each for each in passed if each in self.spoiled]
        if key is not None and self._hurt_until is not None and key > self._hurt_until:
            self._hurt_until = None
        return told

    def early_end(self) -> str | None:
        """Say that the file stops before what its header promises; trimmed files (edit lists) do not count."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base and stream.start_time is not None:
            promised_s = float((stream.start_time + stream.duration) * stream.time_base)
            slack_s = 1.5 / float(stream.average_rate or 25)
        else:
            promised_s = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
            slack_s = _SLACK_S
        short = promised_s - self._end_s > slack_s
        if stream.frames > self._packets and short:
            return f"ends early: {self._packets} of {stream.frames} frames"
        if stream.frames > self._packets and container.format.name == "avi":  # it has no edit lists
            return f"only {self._packets} of the {stream.frames} frames in its header are there"
        if short and not stream.frames:
            return f"ends early: at {max(self._end_s, 0):.1f} s of {promised_s:.1f} s"
        return None


def _pictures(container: InputContainer, stream: VideoStream, books: _Books) -> Generator[Stamped, None, None]:
    """Time stamp and picture of every frame, in order of presentation; None for a picture that was lost or is damaged."""
    for packet in _packets(container, stream, books):
        try:
            decoded = stream.codec_context.decode(packet)
        except av.FFmpegError:
            books.failed()
            if books.newest is None:
                yield None, None
            continue
        for picture in decoded:
            pts = books.stamp(picture)
            if pts is not None:
                if picture.interlaced_frame:
                    books.certain = False  # each field may have been a packet of its own
                yield from ((lost, None) for lost in books.lost_before(pts))
            yield pts, None if picture.is_corrupt or pts in books.spoiled else picture
    yield from ((lost, None) for lost in books.lost_before(None))


def _packets(container: InputContainer, stream: VideoStream, books: _Books) -> "Generator[AnyPacket | None, None, None]":
    """The packets of the stream, then None to empty the decoder. An error in the file ends it, as it does in FFmpeg."""
    held: AnyPacket | None = None
    try:
        for packet in container.demux():  # all streams: sound tells how far the file reaches
            if not packet.size:
                continue
            books.seen(packet)
            if packet.stream_index != stream.index:
                continue
            if held is not None:
                yield held
                held = None
            books.sent(packet)
            if packet.is_corrupt:
                held = packet  # a torn last packet is kept from the decoder: it would take good pictures with it
            else:
                yield packet
    except av.FFmpegError:
        books.failed()
    yield None


class _Clock:
    """Turns time stamps into seconds that never stand still or go back."""

    def __init__(self, stream: VideoStream) -> None:
        self.note: str | None = None
        self._unit_s = float(stream.time_base or 1 / 25)
        self._step_s = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self._shift_s = 0.0
        self._last_s = -math.inf

    def seconds(self, pts: int | None) -> float:
        """Container time of the stamp; without one, a frame's length after the last."""
        if pts is None:
            now = self._last_s + self._step_s
            if math.isinf(now):
                now, self.note = 0.0, f"frames without a time in the file, placed at {1 / self._step_s:g} per second"
        else:
            now = pts * self._unit_s + self._shift_s
        if self._last_s - now > _JUMP_S:
            self._shift_s += self._last_s + self._step_s - now
            self.note = f"the file's clock goes back at {self._last_s:.3f} s; later times go on from there"
            now = self._last_s + self._step_s
        self._last_s = max(now, self._last_s + TICK_S)
        return self._last_s

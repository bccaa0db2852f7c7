"""An mp4 film with the times of the original's frames and its sound: H.264 pictures, sound copied where mp4 takes it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from mien.errors import OutputError
from mien.files import AtomicFile, Transaction, wrap_os_errors
from mien.outputs.canvas import Pixels
from mien.sources.stored import Stored, open_stored

__all__ = ["VideoWriter"]

AnyPacket: TypeAlias = "Packet[Any]"  # generic for the type checker only

_TICKS: Final = 90_000  # per second; every common frame rate fits
_LATE_S: Final = 10.0  # recordings of broadcasts start hours into their clock; a film must not begin with hours of nothing
_QUALITY: Final = {"crf": "20", "preset": "veryfast"}
_LEGAL_IN_MP4: Final = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
_AAC_RATES: Final = frozenset(
    {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
)
_BT709: Final = 1


class VideoWriter:
    """An mp4 file under way.

    path: where it appears once `files` is committed. original: the file whose sound it takes, if any.
    size: width and height in pixels; an odd one grows by a pixel. rate: pictures per second, about.
    All methods raise OutputError when the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        original: Stored | None,
        size: tuple[int, int],
        rate: float,
        files: Transaction,
    ) -> None:
        self._path, self._original, self._files = path, original, files
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._rate = Fraction(rate).limit_denominator(1001)
        self._to_yuv = VideoReformatter()
        self._container: OutputContainer | None = None
        self._last, self._step = -1, round(_TICKS / rate)

    def begin(self) -> None:
        """Make the temporary file."""
        self._aside: AtomicFile = self._files.add(self._path)

    def add(self, picture: Pixels, time_s: float) -> None:
        """Append a picture, RGB uint8 (H, W, 3), shown from `time_s` on. One of another size is scaled to the film's."""
        with self._explained():
            if self._container is None:
                self._open(time_s if not 0 <= time_s <= _LATE_S else 0.0)
            pts = max(round((time_s - self._shift_s) * _TICKS), self._last + 1)
            if self._last >= 0:
                self._step = pts - self._last
            self._last = pts
            if self._sound:
                self._sound.until(pts / _TICKS)
            self._encode(self._frame(picture, pts))

    def finish(self) -> None:
        """Complete the film with the rest of the sound; without pictures there is none."""
        if self._container is None:
            self._files.leave_out(self._aside)
            return
        with self._explained():
            self._encode(None)
            if self._sound:
                self._sound.until(float("inf"))
            self._container.close()

    def drop(self) -> None:
        """Let go of what is open."""
        with suppress(Exception):
            if self._container is not None:
                self._container.close()

    def _open(self, shift_s: float) -> None:
        self._shift_s = shift_s
        self._container = av.open(
            str(self._aside.part.absolute()), "w", format="mp4", options={"movflags": "+faststart"}
        )
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options=_QUALITY, time_base=Fraction(1, _TICKS)
        )
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = int(ColorRange.MPEG)
        self._stream = stream
        self._sound = (
            None if self._original is None else _Sound(self._original, self._container, shift_s)
        )

    def _frame(self, picture: Pixels, pts: int) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(_fit(picture, self._size), format="rgb24")
        frame = self._to_yuv.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base, frame.duration = pts, Fraction(1, _TICKS), self._step
        return frame

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        self._container.mux(self._stream.encode(frame))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with wrap_os_errors(self._path):
            try:
                yield
            except av.FFmpegError as error:
                if isinstance(error, OSError):
                    raise
                why = f"the encoder said: {error.strerror}"
                raise OutputError(
                    f"{self._path}: cannot be written ({why}); leave the overlay out for this input"
                ) from error


def _opened(original: Stored) -> InputContainer:
    place = original if isinstance(original, str) else open_stored(original)
    return av.open(place, "r", options={"protocol_whitelist": "file"}, metadata_errors="replace")


def _fit(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at the film's size; a missing last row or column repeats the one before."""
    height, width = picture.shape[:2]
    right, low = size[0] - width, size[1] - height
    if right in (0, 1) and low in (0, 1):
        return (
            picture
            if not (right or low)
            else np.pad(picture, ((0, low), (0, right), (0, 0)), mode="edge")
        )
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


class _Sound:
    """The sound of a file, carried into a film in step with its pictures; nothing for a file without."""

    def __init__(self, original: Stored, film: OutputContainer, shift_s: float) -> None:
        self._film, self._shift_s = film, shift_s
        self._packets: Iterator[AnyPacket] = iter(())
        self._next: AnyPacket | None = None
        self._container = container = _opened(original)
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            container.close()
        elif stream.codec_context.codec.canonical_name in _LEGAL_IN_MP4:
            self._packets = self._copied(stream, film.add_stream_from_template(stream))
        else:
            rate = stream.rate if stream.rate in _AAC_RATES else 48_000
            self._packets = self._coded(
                stream,
                film.add_stream(
                    "aac", rate=rate, layout="mono" if stream.channels == 1 else "stereo"
                ),
            )

    def until(self, time_s: float) -> None:
        """Write what is to be heard up to this time of the film."""
        if self._next is None:
            self._next = next(self._packets, None)
        while self._next is not None and _start_s(self._next) <= time_s:
            self._film.mux(self._next)
            self._next = next(self._packets, None)

    def _copied(self, stream: AudioStream, target: AudioStream) -> "Iterator[AnyPacket]":
        for packet in _demuxed(self._container, stream):
            if packet.dts is None:
                continue
            shift = round(self._shift_s / packet.time_base)
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = target
            yield packet

    def _coded(self, stream: AudioStream, target: AudioStream) -> "Iterator[AnyPacket]":
        for packet in _demuxed(self._container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:  # a damaged stretch is silent, as it is in the original
                continue
            for frame in cast(list[AudioFrame], frames):
                if frame.pts is not None and frame.time_base:
                    frame.pts -= round(self._shift_s / frame.time_base)
                yield from target.encode(frame)
        yield from target.encode(None)


def _demuxed(container: InputContainer, stream: AudioStream) -> "Iterator[AnyPacket]":
    """Packets of the stream and the empty one that ends it; an error in the file ends it too."""
    with container, suppress(av.FFmpegError):
        yield from container.demux(stream)


def _start_s(packet: "AnyPacket") -> float:
    return float((packet.pts or 0) * packet.time_base)

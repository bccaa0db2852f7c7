"""An mp4 video with the frame times and the sound of the original.

Pictures are H.264; sound is copied where mp4 takes it, and encoded as AAC otherwise.
"""

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

# Generic for the type checker only.
AnyPacket: TypeAlias = "Packet[Any]"

# Per second; every common frame rate fits.
_TICKS: Final = 90_000
_TIME_BASE: Final = Fraction(1, _TICKS)
# Recordings of broadcasts start hours into their clock; a video must not begin with hours of
# nothing.
_LATE_S: Final = 10.0
_QUALITY: Final = {"crf": "20", "preset": "veryfast"}
_LEGAL_IN_MP4: Final = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
_AAC_RATES: Final = frozenset(
    {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
)
_BT709: Final = 1


class VideoWriter:
    """Writes an mp4 file.

    Args:
        path: Where it appears once `files` is committed.
        original: The file whose sound it takes, if any.
        size: Width and height in pixels; an odd one grows by a pixel, as H.264 asks for.
        rate: Pictures per second, about.
        files: The transaction that the file belongs to.
        start_s: Time of the original that becomes 0, s; None for the original's own clock, unless
            it begins late.

    Raises:
        OutputError: The file cannot be written; all methods may raise it.
    """

    def __init__(
        self,
        path: Path,
        original: Stored | None,
        size: tuple[int, int],
        rate: float,
        files: Transaction,
        *,
        start_s: float | None = None,
    ) -> None:
        self._start_s = start_s
        self._path = path
        self._original = original
        self._files = files
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._rate = Fraction(rate).limit_denominator(1001)
        self._to_yuv = VideoReformatter()
        self._container: OutputContainer | None = None
        # Time of the last picture and how long it was shown, in ticks.
        self._last = -1
        self._step = round(_TICKS / rate)

    def begin(self) -> None:
        """Make the temporary file."""
        self._file: AtomicFile = self._files.add(self._path)

    def add(self, picture: Pixels, time_s: float) -> None:
        """Append a picture.

        Args:
            picture: RGB uint8 (H, W, 3); one of another size is scaled to the video's.
            time_s: When it is first shown, s.
        """
        with self._encoder_errors_explained():
            if self._container is None:
                late_s = 0.0 if 0 <= time_s <= _LATE_S else time_s
                self._open(late_s if self._start_s is None else self._start_s)
            # Times must rise, also where the original's do not.
            pts = max(round((time_s - self._shift_s) * _TICKS), self._last + 1)
            if self._last >= 0:
                self._step = pts - self._last
            self._last = pts
            if self._sound:
                self._sound.write_until(pts / _TICKS)
            self._encode(self._frame(picture, pts))

    def finish(self) -> None:
        """Complete the video with the rest of the sound; without pictures there is no file."""
        if self._container is None:
            self._files.leave_out(self._file)
            return
        with self._encoder_errors_explained():
            self._encode(None)
            if self._sound:
                self._sound.write_until(float("inf"))
            self._container.close()

    def drop(self) -> None:
        """Close what is open."""
        with suppress(Exception):
            if self._container is not None:
                self._container.close()

    def _open(self, shift_s: float) -> None:
        """Begin the video with the original's time `shift_s`."""
        self._shift_s = shift_s
        # The index at the start, so that browsers can play it while it loads.
        options = {"movflags": "+faststart"}
        path = str(self._file.part.absolute())
        self._container = av.open(path, "w", format="mp4", options=options)
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options=_QUALITY, time_base=_TIME_BASE
        )
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = _TIME_BASE
        context.colorspace = _BT709
        context.color_primaries = _BT709
        context.color_trc = _BT709
        context.color_range = int(ColorRange.MPEG)
        self._stream = stream
        self._sound: _Sound | None = None
        if self._original is not None:
            self._sound = _Sound(self._original, self._container, shift_s)

    def _frame(self, picture: Pixels, pts: int) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(_fit(picture, self._size), format="rgb24")
        frame = self._to_yuv.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts = pts
        frame.time_base = _TIME_BASE
        frame.duration = self._step
        return frame

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame; None writes what the encoder still holds."""
        assert self._container is not None
        packets = self._stream.encode(frame)
        self._container.mux(packets)

    @contextmanager
    def _encoder_errors_explained(self) -> Iterator[None]:
        with wrap_os_errors(self._path):
            try:
                yield
            except av.FFmpegError as error:
                # A full disk is both, and explained as the system's error.
                if isinstance(error, OSError):
                    raise
                reason = f"the encoder said: {error.strerror}"
                raise OutputError(
                    f"{self._path}: cannot be written ({reason}); "
                    "leave the overlay out for this input"
                ) from error


def _open_original(original: Stored) -> InputContainer:
    file = original if isinstance(original, str) else open_stored(original)
    # A playlist must not make FFmpeg open addresses on the network.
    return av.open(file, "r", options={"protocol_whitelist": "file"}, metadata_errors="replace")


def _fit(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture at the video's size; a missing last row or column repeats the one before."""
    height, width = picture.shape[:2]
    right = size[0] - width
    below = size[1] - height
    if right == below == 0:
        return picture
    if right in (0, 1) and below in (0, 1):
        return np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge")
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


class _Sound:
    """The sound of a file, if any, written into a video in step with its pictures."""

    def __init__(self, original: Stored, video: OutputContainer, shift_s: float) -> None:
        self._video = video
        self._shift_s = shift_s
        self._packets: Iterator[AnyPacket] = iter(())
        self._next: AnyPacket | None = None
        self._container = _open_original(original)
        stream = self._container.streams.best("audio")
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            self._container.close()
        elif stream.codec_context.codec.canonical_name in _LEGAL_IN_MP4:
            self._packets = self._copied(stream, video.add_stream_from_template(stream))
        else:
            rate = stream.rate if stream.rate in _AAC_RATES else 48_000
            layout = "mono" if stream.channels == 1 else "stereo"
            target = video.add_stream("aac", rate=rate, layout=layout)
            self._packets = self._encoded(stream, target)

    def write_until(self, time_s: float) -> None:
        """Write what is to be heard up to this time of the video."""
        # One packet is read ahead: only its time shows whether it is due.
        if self._next is None:
            self._next = next(self._packets, None)
        while self._next is not None and _start_s(self._next) <= time_s:
            self._video.mux(self._next)
            self._next = next(self._packets, None)

    def _copied(self, stream: AudioStream, target: AudioStream) -> "Iterator[AnyPacket]":
        for packet in _demuxed(self._container, stream):
            # The empty packet at the end has no time.
            if packet.dts is None:
                continue
            shift = round(self._shift_s / packet.time_base)
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = target
            yield packet

    def _encoded(self, stream: AudioStream, target: AudioStream) -> "Iterator[AnyPacket]":
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

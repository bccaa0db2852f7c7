"""Overlays: the original video or picture with the results drawn over it.

The original is decoded a second time, in step with the readings, however late they come; memory
does not grow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import cv2
import numpy as np

from mien.errors import OutputError, SourceError
from mien.files import Transaction
from mien.outputs.anonymise.hiding import Anonymise, hide
from mien.outputs.anonymise.regions import HiddenFace, HiddenFaces
from mien.outputs.canvas import Box, Pixels
from mien.outputs.painter import Painter, note
from mien.outputs.video_writer import VideoWriter
from mien.records import Frame, Reading
from mien.sources import Source, open_source
from mien.tasks import Task

__all__ = ["Overlay"]

_SUFFIXES: Final = {"image": (".jpg", ".jpeg", ".png"), "video": (".mp4",)}
# Pixels of the shorter side below which labels cannot be read; smaller pictures are enlarged.
_LEAST_SIDE: Final = 360
# Pixels of the longer side to which they are enlarged at most.
_MOST_SIDE: Final = 1920
# Of a video that does not say how large its pictures are.
_DEFAULT_SIZE: Final = (640, 360)
# Frames a second of a video that does not say how many it has.
_DEFAULT_RATE: Final = 25.0
# How bright the last picture is while frames are unreadable.
_DIMMED: Final = 0.4
_JPEG_QUALITY: Final = 93


class Overlay:
    """Writes an annotated copy of a source.

    It is an mp4 with the original's sound for a video, and a JPEG or PNG for a picture. It holds
    the frames that have readings, each at its own time. As a context manager it makes the file
    appear when the block ends, and never after an exception.

    Args:
        path: The file to write.
        source: What the readings were read from.
        tasks: The tasks of the readings.
        files: A transaction with which the file appears; None for one of its own.
        uncertain_below: As of `Painter`.
        anonymise: How faces are hidden; None shows them. What is hidden are the faces of the
            readings, so these must be of all faces.

    Raises:
        OutputError: The source is a camera or arrays, the suffix is another one, or the file cannot
            be written; any method may raise it.
    """

    def __init__(
        self,
        path: str | Path,
        source: Source,
        tasks: Sequence[Task],
        files: Transaction | None = None,
        *,
        uncertain_below: float | None = None,
        anonymise: Anonymise | None = None,
    ) -> None:
        self._path = Path(path)
        self._source = source
        self._owns_files = files is None
        self._files = Transaction() if files is None else files
        if source.kind not in _SUFFIXES:
            raise OutputError(
                f"{source.name}: an overlay needs a file to draw over; give a picture or video, "
                "or leave the overlay out"
            )
        suffixes = _SUFFIXES[source.kind]
        if self._path.suffix.lower() not in suffixes:
            raise OutputError(
                f"{path}: an overlay of {source.kind} {source.name} cannot have this suffix; "
                f"use {' or '.join(suffixes)}"
            )
        self._painter = Painter(tasks, uncertain_below)
        self._tasks = tasks
        self._anonymise = anonymise
        # Knows only once later readings have come what a frame must not show.
        self._hidden = HiddenFaces()
        self._group: list[Reading] = []
        self._last: Pixels | None = None

    def __enter__(self) -> Self:
        # A source of its own: iterating a source changes what it reports.
        original = self._source.reopen() if self._source.reopen else open_source(self._source.name)
        original.turn(self._source.rotate)
        self._frames = original.frames()
        self._scale = _scale(*original.size) if original.size else 1
        self._source.media["overlay_scale"] = self._scale
        width, height = original.size or _DEFAULT_SIZE
        self._size = (self._scale * width, self._scale * height)
        self._writer: _Writer
        if original.kind == "image":
            self._writer = _PictureWriter(self._path, self._files)
        else:
            rate = _frame_rate(original)
            self._writer = VideoWriter(self._path, original.sound, self._size, rate, self._files)
        self._writer.begin()
        return self

    def write(self, readings: Iterable[Reading]) -> None:
        """Draw the next readings.

        Args:
            readings: The readings in order, those of a frame one after the other.

        Raises:
            SourceError: A frame is missing when the source is decoded again.
        """
        for reading in readings:
            # The faces of a frame are drawn together, so that labels can avoid them all.
            if self._group and reading.frame != self._group[0].frame:
                self._flush()
            self._group.append(reading)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
                for rows, hidden in self._hidden.rest():
                    self._draw(rows, hidden)
                self._writer.finish()
                if self._owns_files:
                    self._files.commit()
        finally:
            self._writer.drop()
            self._frames.close()
            if self._owns_files:
                self._files.drop()

    def _flush(self) -> None:
        """Draw and write the frame whose readings are complete, or those whose future now is."""
        group = self._group
        self._group = []
        if not group:
            return
        if self._source.kind == "image" and group[0].frame:
            self._source.note("holds several pictures; the overlay shows the first")
            return
        if self._anonymise is None:
            self._draw(group, [])
            return
        for rows, hidden in self._hidden.add(group):
            self._draw(rows, hidden)

    def _draw(self, rows: Sequence[Reading], hidden: Sequence[HiddenFace]) -> None:
        """Draw and write a frame."""
        frame = self._frame(rows[0].frame)
        if frame.pixels is None:
            picture = self._dimmed()
            note(picture, "unreadable")
        else:
            self._last = frame.pixels
            picture = self._enlarged(frame.pixels)
            if self._anonymise is not None:
                larger = [_enlarged_face(face, self._scale) for face in hidden]
                hide(picture, larger, self._anonymise, self._tasks)
            drawn = [_enlarged(reading, self._scale) for reading in rows]
            if self._anonymise is not None:
                # The shape of a face is not to be seen either.
                drawn = [replace(reading, landmarks=None) for reading in drawn]
            self._painter.paint(picture, drawn)
        self._writer.add(picture, frame.time_s)

    def _frame(self, index: int) -> Frame:
        """The frame of that number; those before it have no readings."""
        for frame in self._frames:
            if frame.index == index:
                return frame
            if frame.pixels is not None:
                self._last = frame.pixels
        raise SourceError(
            f"{self._source.name}: frame {index} is not there when read again; "
            "leave the file alone while it is analysed"
        )

    def _dimmed(self) -> Pixels:
        """The last picture, darker; black before the first, and where faces are hidden."""
        if self._last is None or self._anonymise is not None:
            return np.zeros((self._size[1], self._size[0], 3), np.uint8)
        return np.asarray(cv2.convertScaleAbs(self._enlarged(self._last), alpha=_DIMMED), np.uint8)

    def _enlarged(self, pixels: Pixels) -> Pixels:
        """A copy to draw on."""
        # The decoded frame itself may be wanted again.
        if self._scale == 1:
            return pixels.copy()
        scale = self._scale
        larger = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return np.asarray(larger, np.uint8)


def _scale(width: int, height: int) -> int:
    """How many times as large a picture of this size is drawn."""
    needed = -(-_LEAST_SIDE // min(width, height))
    allowed = _MOST_SIDE // max(width, height)
    return max(min(needed, allowed), 1)


def _enlarged(reading: Reading, scale: int) -> Reading:
    """The reading in pixels of the enlarged picture."""
    if reading.face is None or scale == 1:
        return reading
    face = reading.face
    x, y, width, height = face.box
    box = (scale * x, scale * y, scale * width, scale * height)
    landmarks = None if reading.landmarks is None else scale * reading.landmarks
    larger = replace(face, box=box, points=scale * face.points)
    return replace(reading, face=larger, landmarks=landmarks)


def _enlarged_face(face: HiddenFace, scale: int) -> HiddenFace:
    """A hidden face in pixels of the enlarged picture."""
    box = Box(*(scale * side for side in face.box))
    reading = None if face.reading is None else _enlarged(face.reading, scale)
    return face._replace(box=box, reading=reading)


def _frame_rate(source: Source) -> float:
    """The average frames a second, within what encoders take."""
    if not source.frame_hint or not source.length_s:
        return _DEFAULT_RATE
    rate = source.frame_hint / source.length_s
    return min(max(rate, 1.0), 240.0)


class _Writer(Protocol):
    """Writes annotated pictures into a file."""

    def begin(self) -> None: ...
    def add(self, picture: Pixels, time_s: float) -> None: ...
    def finish(self) -> None: ...
    def drop(self) -> None: ...


class _PictureWriter:
    """Writes one picture."""

    def __init__(self, path: Path, files: Transaction) -> None:
        self._path = path
        self._files = files
        self._data = b""

    def begin(self) -> None:
        pass

    def add(self, picture: Pixels, time_s: float) -> None:
        suffix = self._path.suffix
        options: list[int] = []
        if suffix.lower() != ".png":
            options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        # OpenCV takes BGR.
        _, encoded = cv2.imencode(suffix, picture[..., ::-1], options)
        self._data = encoded.tobytes()

    def finish(self) -> None:
        if self._data:
            self._files.write(self._path, self._data)

    def drop(self) -> None:
        pass

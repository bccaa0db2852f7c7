"""Overlays: the original film or picture again, with what was read drawn into it.

The original is decoded a second time, in step with the readings, however late they come; memory does not grow.
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
from mien.outputs.canvas import Pixels
from mien.outputs.painter import Painter, note
from mien.outputs.video_writer import VideoWriter
from mien.records import Frame, Reading
from mien.sources import Source, open_source
from mien.tasks import Task

__all__ = ["Overlay"]

_SUFFIXES: Final = {"image": (".jpg", ".jpeg", ".png"), "video": (".mp4",)}
_LEAST_SIDE: Final = 360  # pixels of the shorter side below which labels cannot be read; smaller pictures are drawn enlarged
_MOST_SIDE: Final = 1920  # pixels of the longer side to which they are enlarged at most
_DIMMED: Final = 0.4
_JPEG_QUALITY: Final = 93


class Overlay:
    """Writes an annotated copy of a source: mp4 for a video, sound included; JPEG or PNG for a picture.

    It holds the frames that have readings, each at its own time. As a context manager it makes the file appear when
    the block ends, and never after an exception; with `files`, it appears with the others of that transaction.
    Raises OutputError for a camera or arrays, for another suffix, and when the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        source: Source,
        tasks: Sequence[Task],
        files: Transaction | None = None,
    ) -> None:
        self._path, self._source = Path(path), source
        self._own = files is None
        self._files = Transaction() if files is None else files
        if source.kind not in _SUFFIXES:
            raise OutputError(
                f"{source.name}: an overlay needs a file to draw over; give a picture or video, or leave the overlay out"
            )
        suffixes = _SUFFIXES[source.kind]
        if self._path.suffix.lower() not in suffixes:
            raise OutputError(
                f"{path}: an overlay of {source.kind} {source.name} cannot have this suffix; use {' or '.join(suffixes)}"
            )
        self._painter = Painter(tasks)
        self._group: list[Reading] = []
        self._last: Pixels | None = None

    def __enter__(self) -> Self:
        # Of its own: iterating a source changes what it reports.
        again = self._source.reopen() if self._source.reopen else open_source(self._source.name)
        again.turn(self._source.rotate)
        self._frames = again.frames()
        self._scale = _scale(*again.size) if again.size else 1
        self._source.media["overlay_scale"] = self._scale
        is_still = again.kind == "image"
        self._sheet: _Sheet = (
            _Still(self._path, self._files)
            if is_still
            else _film(self._path, again, self._scale, self._files)
        )
        width, height = again.size or (640, 360)
        self._size = (self._scale * width, self._scale * height)
        self._sheet.begin()
        return self

    def write(self, readings: Iterable[Reading]) -> None:
        """Take the next readings, those of a frame one after the other."""
        for reading in readings:
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
                self._sheet.finish()
                if self._own:
                    self._files.commit()
        finally:
            self._sheet.drop()
            self._frames.close()
            if self._own:
                self._files.drop()

    def _flush(self) -> None:
        """Draw and write the frame whose readings are complete."""
        group, self._group = self._group, []
        if not group:
            return
        if self._source.kind == "image" and group[0].frame:
            self._source.note("holds several pictures; the overlay shows the first")
            return
        frame = self._frame(group[0].frame)
        if frame.pixels is None:
            picture = self._dimmed()
            note(picture, "unreadable")
        else:
            self._last = frame.pixels
            picture = self._enlarged(frame.pixels)
            self._painter.paint(picture, [_enlarged(reading, self._scale) for reading in group])
        self._sheet.add(picture, frame.time_s)

    def _frame(self, index: int) -> Frame:
        for frame in self._frames:
            if frame.index == index:
                return frame
            self._last = frame.pixels if frame.pixels is not None else self._last
        raise SourceError(
            f"{self._source.name}: frame {index} is not there when read again; leave the file alone while it is analysed"
        )

    def _dimmed(self) -> Pixels:
        """The last picture, darker; black before the first."""
        if self._last is None:
            return np.zeros((self._size[1], self._size[0], 3), np.uint8)
        return np.asarray(cv2.convertScaleAbs(self._enlarged(self._last), alpha=_DIMMED), np.uint8)

    def _enlarged(self, pixels: Pixels) -> Pixels:
        """A copy to draw on."""
        if self._scale == 1:
            return pixels.copy()
        return np.asarray(
            cv2.resize(pixels, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_CUBIC),
            np.uint8,
        )


def _scale(width: int, height: int) -> int:
    """How many times as large a picture of this size is drawn."""
    return max(min(-(-_LEAST_SIDE // min(width, height)), _MOST_SIDE // max(width, height)), 1)


def _enlarged(reading: Reading, scale: int) -> Reading:
    """The reading in the pixels of the enlarged picture."""
    if reading.face is None or scale == 1:
        return reading
    face = reading.face
    x, y, width, height = (scale * each for each in face.box)
    return replace(
        reading, face=replace(face, box=(x, y, width, height), points=scale * face.points)
    )


class _Sheet(Protocol):
    """What annotated pictures are written on."""

    def begin(self) -> None: ...
    def add(self, picture: Pixels, time_s: float) -> None: ...
    def finish(self) -> None: ...
    def drop(self) -> None: ...


def _film(path: Path, source: Source, scale: int, files: Transaction) -> VideoWriter:
    rate = source.frame_hint / source.length_s if source.frame_hint and source.length_s else 25.0
    width, height = source.size or (640, 360)
    return VideoWriter(
        path, source.sound, (scale * width, scale * height), min(max(rate, 1.0), 240.0), files
    )


class _Still:
    """A picture file."""

    def __init__(self, path: Path, files: Transaction) -> None:
        self._path, self._files = path, files
        self._data = b""

    def begin(self) -> None:
        pass

    def add(self, picture: Pixels, time_s: float) -> None:
        options = (
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if self._path.suffix.lower() != ".png" else []
        )
        self._data = cv2.imencode(self._path.suffix, picture[..., ::-1], options)[1].tobytes()

    def finish(self) -> None:
        if self._data:
            self._files.write(self._path, self._data)

    def drop(self) -> None:
        pass

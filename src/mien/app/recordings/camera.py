"""A camera of a page, read while it films: pictures come in, readings go out."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from simplejpeg import decode_jpeg, decode_jpeg_header

from mien.errors import MienError, OutputError, SourceError
from mien.files import wrap_os_errors
from mien.outputs.columns import Column
from mien.realtime.baseline import LiveBaseline
from mien.realtime.moments import Slots
from mien.realtime.session import Live, live
from mien.records import Reading
from mien.tasks import QUALITY_FAMILIES
from mien.temporal.one_euro import OneEuro

__all__ = ["LiveEnd", "LiveFace", "LiveFrame", "LiveStart", "PageCamera"]

# Pictures that wait to be decoded; older ones make room for newer ones.
_WAITING: Final = 2
_MOST_PIXELS: Final = 4096 * 4096
# How far apart the clocks of the page and of this program may be, as they are of one computer.
_SAME_CLOCK_S: Final = 5.0
Say = Callable[[BaseModel], None]


class LiveStart(BaseModel):
    """How a camera is read.

    Attributes:
        baseline_s: Seconds at the start that say what is normal for who is there; None for none.
        table: Whether the readings are kept as a recording.
        record: Whether the film is kept, too; needs the table.
        smoothing: Seconds at half maximum, ``one_euro``, or None for none.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    baseline_s: Annotated[float, Field(gt=0, le=600)] | None = None
    table: bool = False
    record: bool = False
    smoothing: Annotated[float, Field(gt=0, le=10)] | Literal["one_euro"] | None = None


class LiveFace(BaseModel):
    """A face in a picture, and its reading; what is not known is None."""

    track: int
    box: list[float]
    points: list[list[float]]
    expression: str | None
    probability: float | None
    valence: float | None
    arousal: float | None
    status: str
    scores: dict[str, float]
    corrected: dict[str, float]


class LiveFrame(BaseModel):
    """The readings of a picture.

    Attributes:
        time: When it was captured, by the page's clock, seconds.
        lag_ms: How long after that its readings were there.
        faces: The faces.
        dropped: How many pictures were left out so far.
    """

    time: float
    lag_ms: float
    faces: list[LiveFace]
    dropped: int


class LiveNote(BaseModel):
    """Something to tell, such as what went wrong without ending the reading."""

    note: str


class LiveEnd(BaseModel):
    """How a reading went.

    Attributes:
        saved: Id of the recording that was kept; None where none was.
        frames: Pictures that were read.
        dropped: Pictures that were left out.
        lag_p50_ms: Median time from capture to reading; None without a reading.
        lag_p99_ms: What 99 of 100 pictures stayed below.
        problem: Why the reading ended by itself; None where it did not.
    """

    saved: str | None
    frames: int
    dropped: int
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    problem: str | None = None


@dataclass
class _Clock:
    """The page's clock beside the monotonic one."""

    offset_s: float | None = None

    def monotonic(self, page_s: float) -> float:
        """A time of the page's clock by the monotonic one."""
        if self.offset_s is None:
            now_s = time.monotonic()
            wall_s = time.time()
            # A page that sends seconds since 1970 has this computer's clock. Of another clock, the
            # first picture is taken to have come at once.
            is_wall = abs(page_s - wall_s) < _SAME_CLOCK_S
            self.offset_s = now_s - (wall_s if is_wall else page_s)
        return page_s + self.offset_s


@dataclass
class PageCamera:
    """Reads the pictures of a page in threads of its own.

    Attributes:
        start: How they are read.
        folder: Where a table goes; None where none may be kept.
        say: Takes what is to be sent to the page, in the reading thread.
        table: The table that was kept; None while there is none.
    """

    start: LiveStart
    folder: Path | None
    say: Say
    table: Path | None = None
    _pictures: "Queue[tuple[float, bytes] | None]" = field(default_factory=lambda: Queue(_WAITING))
    _clock: _Clock = field(default_factory=_Clock)
    _dropped: int = 0
    _session: Live | None = None
    _thread: Thread | None = None
    _problem: str | None = None
    _baseline: LiveBaseline | None = None
    _slots: Slots = field(default_factory=Slots)

    def begin(self) -> None:
        """Load the networks and open the table; takes a second or two.

        Raises:
            OutputError: The table cannot be written, or may not be kept here.
            ValueError: The film is to be kept without a table.
        """
        if self.start.record and not self.start.table:
            raise ValueError("record keeps the film beside the table; ask for the table, too")
        if self.start.table and self.folder is None:
            raise OutputError("nothing is kept here; start without table and record")
        out = self._free_path() if self.start.table else None
        smoothing = OneEuro() if self.start.smoothing == "one_euro" else self.start.smoothing
        self._session = live(
            self._captured(),
            name="camera",
            out=out,
            record=self.start.record,
            baseline=self.start.baseline_s,
            smoothing=smoothing,
        )
        self._thread = Thread(target=self._work, name="mien-page-camera", daemon=True)
        self._thread.start()

    def _free_path(self) -> Path:
        assert self.folder is not None
        with wrap_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        name = time.strftime("live-%Y%m%d-%H%M%S")
        path = self.folder / f"{name}.parquet"
        number = 1
        while path.exists() or path.with_suffix(".dictionary.json").exists():
            number += 1
            path = self.folder / f"{name}-{number}.parquet"
        return path

    def put(self, page_s: float, jpeg: bytes) -> None:
        """Take a picture; the oldest that waits makes room for it.

        Args:
            page_s: When it was captured, by the page's clock, seconds.
            jpeg: The picture.
        """
        item = (self._clock.monotonic(page_s), jpeg)
        while True:
            try:
                self._pictures.put_nowait(item)
                return
            except Full:
                with suppress(Empty):
                    self._pictures.get_nowait()
                    self._dropped += 1

    def mark(self, text: str) -> None:
        """Note that something happened.

        Args:
            text: What happened.
        """
        if self._session is not None:
            self._session.mark(text, origin="page")

    def measure_baseline(self, seconds: float) -> None:
        """Measure anew what is normal for who is there, for the page; the table stays as begun.

        Args:
            seconds: How long.

        Raises:
            ValueError: The length makes no sense.
        """
        self._baseline = LiveBaseline(seconds)

    def finish(self) -> LiveEnd:
        """End the reading, and put its table in place.

        Returns:
            How it went.
        """
        # Room is made, if need be, so that the end is heard.
        while True:
            try:
                self._pictures.put_nowait(None)
                break
            except Full:
                # The reading thread may have been quicker.
                with suppress(Empty):
                    self._pictures.get_nowait()
                    self._dropped += 1
        if self._thread is not None:
            self._thread.join()
        assert self._session is not None
        try:
            self._session.close()
        except MienError as error:
            self._problem = str(error)
        for path in self._session.files:
            if path.suffix == ".parquet":
                self.table = path
        summary = self._session.summary
        lags = [_milliseconds(summary.lag_p50_s), _milliseconds(summary.lag_p99_s)]
        return LiveEnd(
            saved=None,
            frames=summary.frames,
            dropped=summary.dropped + self._dropped,
            lag_p50_ms=lags[0],
            lag_p99_ms=lags[1],
            problem=self._problem,
        )

    def _captured(self) -> Iterator[tuple[float, Any]]:
        """The pictures as they come, until the end."""
        last_s = -np.inf
        while (item := self._pictures.get()) is not None:
            captured_s, jpeg = item
            pixels = self._decoded(jpeg)
            # A page whose clock was set back must not end the reading.
            if pixels is None or captured_s <= last_s:
                self._dropped += 1
                continue
            last_s = captured_s
            yield captured_s, pixels

    def _decoded(self, jpeg: bytes) -> Any:
        try:
            height, width, _, _ = decode_jpeg_header(jpeg)
            if height * width > _MOST_PIXELS:
                raise ValueError(f"{width}×{height} pixels are too many")
            return decode_jpeg(jpeg, colorspace="RGB")
        except ValueError as error:
            self.say(LiveNote(note=f"a picture was left out: {error}; send JPEG"))
            return None

    def _work(self) -> None:
        assert self._session is not None
        frame: list[Reading] = []
        try:
            with self._session as session:
                scores = _score_places(session.columns)
                for reading in session:
                    frame.append(reading)
                    if not reading.remaining:
                        self._tell(frame, scores)
                        frame = []
        except MienError as error:
            # Pictures that still come are taken and dropped.
            self._problem = str(error)
            self.say(LiveNote(note=str(error)))

    def _tell(self, readings: list[Reading], scores: Mapping[str, tuple[str, int]]) -> None:
        """Send the readings of a frame to the page."""
        assert self._session is not None
        readings = self._corrected(readings)
        started_s = self._session.started_s or 0.0
        captured_s = started_s + readings[0].time_s
        faces = []
        for reading in readings:
            if reading.face is not None:
                faces.append(_face(reading, scores))
        self.say(
            LiveFrame(
                time=round(captured_s - (self._clock.offset_s or 0.0), 6),
                lag_ms=round(1000 * (time.monotonic() - captured_s), 1),
                faces=faces,
                dropped=self._session.dropped + self._dropped,
            )
        )

    def _corrected(self, readings: list[Reading]) -> list[Reading]:
        baseline = self._baseline
        if baseline is None:
            return readings
        tracks = [None if reading.face is None else reading.face.track for reading in readings]
        try:
            return baseline.correct(readings, self._slots.place(tracks))
        except SourceError as error:
            self._baseline = None
            self.say(LiveNote(note=str(error)))
            return readings


def _score_places(columns: tuple[Column, ...]) -> dict[str, tuple[str, int]]:
    """Family and position of each score, by column."""
    places = {}
    for column in columns:
        task = column.task
        is_score = task is not None and column.dtype != "str"
        if task is None or not is_score or column.raw or column.corrected:
            continue
        if task.family not in QUALITY_FAMILIES and column.name in task.columns:
            places[column.name] = (task.family, list(task.columns).index(column.name))
    return places


def _face(reading: Reading, places: Mapping[str, tuple[str, int]]) -> LiveFace:
    assert reading.face is not None
    scores = _scores(reading.scores, places)
    expressions = {name: value for name, value in scores.items() if name.startswith("expr_")}
    likeliest = max(expressions, key=lambda name: expressions[name]) if expressions else None
    label = likeliest.removeprefix("expr_") if likeliest else None
    probability = expressions.get(likeliest or "")
    face = reading.face
    points = np.round(np.asarray(face.points, np.float64), 2)
    track = -1 if face.track is None else face.track
    box = np.round(face.box, 2)
    corrected = _scores(reading.corrected, places)
    return LiveFace(
        track=track,
        box=box.tolist(),
        points=points.tolist(),
        expression=label,
        probability=probability,
        **{name: scores.get(name) for name in ("valence", "arousal")},
        status=reading.status.value,
        scores=scores,
        corrected=corrected,
    )


def _scores(
    by_family: Mapping[str, Any], places: Mapping[str, tuple[str, int]]
) -> dict[str, float]:
    scores = {}
    for name, (family, place) in places.items():
        if family in by_family:
            value = float(by_family[family][place])
            if np.isfinite(value):
                scores[name] = round(value, 4)
    return scores


def _milliseconds(seconds: float) -> float | None:
    return round(1000 * seconds, 1) if np.isfinite(seconds) else None

"""`mien.live`: readings while they happen, in Python and to other programs."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, get_ident
from types import TracebackType
from typing import Final, Self, TextIO, Unpack

from mien.analysis.options import OptionFields, Options, options_of, spelled_out
from mien.analysis.reader import Reader
from mien.errors import SourceError
from mien.outputs.arrays import batch_of
from mien.outputs.columns import Column, column_notes
from mien.outputs.recorded import file_fingerprint
from mien.realtime.baseline import LiveBaseline, with_corrected
from mien.realtime.lags import LagCounter, LiveSummary
from mien.realtime.lines import JsonLinesOutput
from mien.realtime.lsl import LslMarkers, LslOutlets
from mien.realtime.moments import Marker, Moment, Output, Slots
from mien.realtime.opening import LiveInput, open_live
from mien.realtime.osc import OscOutput
from mien.realtime.table import LiveTable, StartTime
from mien.realtime.websocket import WebSocketOutput
from mien.records import Reading
from mien.sources import Kind
from mien.temporal.readings import Smoothing

__all__ = ["Live", "live"]

# The arguments of `live` besides the fields of `Options`.
_ARGUMENTS: Final = (
    "options",
    "name",
    "out",
    "record",
    "lines",
    "websocket",
    "osc",
    "lsl",
    "markers_from",
    "baseline",
)

# How long the end waits for a loop in another thread, seconds.
_PATIENCE_S: Final = 10.0


class Live:
    """A live reading: an iterator over its readings, once, which ends with the source.

    As a context manager it ends when the block does, however that happens; what was read by then is
    on the disk. `mien.live` makes it.

    Attributes:
        columns: The columns of its rows.
        files: What was written, once it has ended.
        where: Where others find the outputs, a line each.
    """

    def __init__(
        self,
        reader: Reader,
        source: LiveInput,
        name: str | None,
        baseline: LiveBaseline | None,
    ) -> None:
        self._reader = reader
        self._source = open_live(source, reader, name)
        self._baseline = baseline
        self.columns: tuple[Column, ...] = reader.columns(live=True)
        # A film that is played keeps the times of its container.
        if self._source.kind != "video":
            self.columns = tuple(map(_on_live_clock, self.columns))
        if baseline is not None:
            self.columns = with_corrected(self.columns, baseline.seconds)
        self.files: list[Path] = []
        self.where: list[str] = []
        self._start = StartTime()
        self._lags = LagCounter()
        self._slots = Slots()
        self._markers: SimpleQueue[tuple[str, str, float]] = SimpleQueue()
        self._outputs: list[Output] = []
        self._inputs: list[LslMarkers] = []
        self._table: LiveTable | None = None
        self._cleanup = ExitStack()
        self._was_read = self._is_closed = False
        self._readings: Generator[Reading, None, None] | None = None
        self._thread: int | None = None
        self._stop = Event()
        self._ended = Event()

    @property
    def kind(self) -> Kind:
        """What is read: ``camera``, ``video`` or ``arrays``."""
        return self._source.kind

    @property
    def name(self) -> str:
        """The name of the source."""
        return self._source.name

    @property
    def started_s(self) -> float | None:
        """What ``time.monotonic()`` showed at time 0; None before the first frame."""
        return self._source.started_s

    @property
    def dropped(self) -> int:
        """Frames that were left out so far."""
        return self._source.dropped

    def _listen_to(self, markers: LslMarkers) -> None:
        self._cleanup.callback(markers.close)
        self._inputs.append(markers)

    def _add(self, output: Output) -> None:
        self._cleanup.callback(output.close)
        self._outputs.append(output)
        if output.where:
            self.where.append(output.where)

    def _add_table(self, table: LiveTable) -> None:
        self._add(table)
        self._table = table
        if table.film is not None:
            self._source.tap = table.film.add

    def mark(self, text: str, at_s: float | None = None, *, origin: str = "python") -> None:
        """Note that something happened; any thread may call it.

        Args:
            text: What happened. Line breaks and tabs become spaces.
            at_s: When, by ``time.monotonic()``; None for now.
            origin: Who says so.
        """
        when_s = time.monotonic() if at_s is None else at_s
        self._markers.put((" ".join(text.split()), origin, when_s))

    def __iter__(self) -> Generator[Reading, None, None]:
        """Read the source.

        Yields:
            The readings of each frame, after they have been sent to all outputs.

        Raises:
            SourceError: The source cannot be read, or a camera stopped.
            OutputError: An output cannot be written.
            ValueError: It was read already.
        """
        if self._was_read or self._is_closed:
            raise ValueError("a live reading can be read only once; begin another one")
        self._was_read = True
        self._thread = get_ident()
        try:
            with self, closing(self._reader.read(self._source)) as self._readings:
                for frame in _by_frame(self._readings):
                    yield from self._take(frame)
                    if self._stop.is_set():
                        return
        finally:
            self._thread = None
            self._ended.set()
        # A film ends, and so may an iterable; a camera does not by itself.
        if self._source.kind == "camera" and self._source.problem:
            raise SourceError(f"{self._source.name}: {self._source.problem}")

    def _take(self, readings: list[Reading]) -> list[Reading]:
        """Count the readings of a frame, correct them, and send them to all outputs."""
        read_s = time.monotonic()
        assert self._source.started_s is not None
        captured_s = self._source.started_s + readings[0].time_s
        self._lags.add(readings[0].frame, captured_s, read_s)
        tracks = [None if reading.face is None else reading.face.track for reading in readings]
        slots = self._slots.place(tracks)
        if self._baseline is not None:
            readings = self._baseline.correct(readings, slots)
        if self._outputs:
            rows = batch_of(readings, self.columns)
            moment = Moment(readings, slots, captured_s, rows)
            for output in self._outputs:
                output.send(moment)
        self._send_markers(self._source.started_s)
        return readings

    def _send_markers(self, started_s: float) -> None:
        """Send the markers that came since the last frame."""
        for stream in self._inputs:
            for text, at_s in stream.poll():
                self.mark(text, at_s, origin="lsl")
        while True:
            try:
                text, origin, at_s = self._markers.get_nowait()
            except Empty:
                return
            marker = Marker(text, origin, at_s - started_s, at_s)
            for output in self._outputs:
                output.mark(marker)

    @property
    def summary(self) -> LiveSummary:
        """How many frames were read and left out so far, and how late the readings were."""
        return self._lags.summary(self._source.dropped)

    @property
    def problem(self) -> str | None:
        """Damage to the source that did not stop the reading, in one line; None where none."""
        return self._source.problem

    @property
    def notes(self) -> list[str]:
        """Harmless facts about how the source is read, one line each."""
        notes = self._source.notes + column_notes(self.columns, self._reader.options.every)
        notes += [output.note for output in self._outputs if output.note]
        if self._is_closed and self._baseline is not None and not self._baseline.centres:
            notes.append("the reading ended before the baseline was over; nothing is corrected")
        return notes

    def close(self) -> None:
        """End the reading, and put its table in place; nothing happens the second time.

        Another thread that loops over the readings is told to end, and waited for.

        Raises:
            OutputError: The table cannot be written.
        """
        if self._thread not in (None, get_ident()):
            self._stop.set()
            self._ended.wait(_PATIENCE_S)
        if self._is_closed:
            return
        self._is_closed = True
        with self._cleanup:
            # Of a loop that was left in the middle: the camera goes off before files are closed.
            if self._readings is not None and self._thread in (None, get_ident()):
                self._readings.close()
            # Without a frame there is nothing that a table could hold.
            if self._source.started_s is None:
                return
            # Whatever becomes of the last markers, the rows are kept.
            try:
                self._send_markers(self._source.started_s)
            finally:
                if self._table is not None:
                    self.files = self._table.finish(self._facts())

    def _facts(self) -> dict[str, object]:
        """The data dictionary without the columns and the files."""
        source = self._source
        clocks = self._start.facts(source.started_s)
        media = dict(source.media)
        # The name of the time at which files say that they were recorded.
        if source.kind != "video":
            media["created"] = clocks["started"]
        facts = {**clocks, **self.summary.to_json(), "baseline": self._baseline_facts()}
        return self._reader.facts() | {
            "sources": [file_fingerprint(source.name).with_content().to_json()],
            "problems": [source.problem] if source.problem else [],
            "notes": self.notes,
            "media": [media],
            "live": facts,
        }

    def _baseline_facts(self) -> dict[str, object] | None:
        """What was measured, by slot and column; None without a baseline."""
        if self._baseline is None:
            return None
        medians: dict[str, dict[str, float]] = {}
        for slot, by_family in self._baseline.centres.items():
            medians[str(slot)] = {}
            for task in self._reader.tasks:
                if task.family in by_family:
                    values = map(float, by_family[task.family])
                    medians[str(slot)] |= dict(zip(task.columns, values, strict=True))
        return {"seconds": self._baseline.seconds, "medians": medians}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Live({self._source.name!r}: {self.summary})"


def _on_live_clock(column: Column) -> Column:
    """A column of a live table; that of the times says what they are."""
    if column.name != "time_s":
        return column
    meaning = "Seconds from the capture of the first frame, of which `live` says when it was."
    return replace(column, meaning=meaning)


def _by_frame(readings: Iterator[Reading]) -> Iterator[list[Reading]]:
    """The readings of each frame, without waiting for the next frame."""
    frame: list[Reading] = []
    for reading in readings:
        frame.append(reading)
        if not reading.remaining:
            yield frame
            frame = []


@spelled_out
def live(
    source: LiveInput,
    *,
    name: str | None = None,
    out: str | Path | None = None,
    record: bool = False,
    lines: TextIO | None = None,
    websocket: int | None = None,
    osc: str | None = None,
    lsl: str | None = None,
    markers_from: str | None = None,
    baseline: float | None = None,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> Live:
    """Read faces while they happen; frames that come too fast are left out, and counted.

    Nothing is read before the first reading is asked for, and outputs hear of readings as they are
    asked for: loop over them, if need be in a thread of its own.

    Args:
        source: ``camera:0``; a camera's address, ``rtsp://…``; a film, which is played at its own
            speed; or an iterable of pictures, RGB uint8 (H, W, 3), which is asked for the next one
            in a thread of its own, and must wait until there is one; each an array of its own, as
            the one before may still be read. Pairs are the ``time.monotonic()`` of the capture and
            a picture.
        name: What pictures from Python are called in the rows.
        out: A table (.csv, .parquet, .jsonl) that is written as by `analyze`, with a dictionary
            that names the clocks, and markers in ``.events.tsv``.
        record: Keep the film, too, as ``.mp4`` beside the table.
        lines: An open text file that gets the rows as JSON lines, such as ``sys.stdout``.
        websocket: A port on 127.0.0.1, or 0 for a free one, on which pages and programs of this
            computer get the rows; the address with its token is in `Live.where`.
        osc: An address, ``HOST:PORT``, that gets the numbers as Open Sound Control, by UDP.
        lsl: What the names of streams of Lab Streaming Layer begin with, one for each face and one
            for markers. LSL announces them in the local network, as its settings say.
        markers_from: The name of an LSL stream of markers that are kept with those of `Live.mark`.
        baseline: Measure for so many seconds what is normal for who is before the camera, and give
            scores without it from then on (`Reading.corrected`, columns ``_corrected``).
        options: All options of `analyze` at once. Smoothing looks back only, and so a number is the
            full width at half maximum of a kernel that has its past half alone.
        **named: Single fields of `Options`, which override `options`.

    Returns:
        An iterator over the readings, and a context manager.

    Raises:
        SourceError: The source cannot be opened.
        OutputError: An output cannot be opened.
        UnknownOptionError: There is no such option (also a TypeError); names the nearest.
        ValueError: A value makes no sense.
        UnknownNameError: There is no such bundle, engine or format.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: An engine or an output is not installed.

    Examples:
        >>> from mien.demo import portrait
        >>> with live(iter([portrait()]), name="booth") as readings:
        ...     for reading in readings:
        ...         print(reading.source, reading.status)
        booth ok
    """
    if record and out is None:
        raise ValueError("record keeps the film beside the table; give out, too")
    measured = None if baseline is None else LiveBaseline(baseline)
    reader = Reader(_looking_back(options_of(options, named, _ARGUMENTS)))
    if reader.options.people is not None:
        raise ValueError(
            "people are known once a film has been read, not while it is; leave people out"
        )
    session = Live(reader, source, name, measured)
    with ExitStack() as stack:
        stack.callback(session.close)
        if record and session.kind == "video":
            raise ValueError(f"{source}: is a film already; leave record out")
        if out is not None:
            session._add_table(LiveTable(Path(out), session.columns, record=record))
        if lines is not None:
            session._add(JsonLinesOutput(lines, session.columns))
        if websocket is not None:
            session._add(WebSocketOutput(websocket, session.columns))
        if osc is not None:
            session._add(OscOutput(osc, session.columns))
        if lsl is not None:
            session._add(LslOutlets(lsl, session.name, session.columns, _slots_of(reader.options)))
        if markers_from is not None:
            session._listen_to(LslMarkers(markers_from))
        stack.pop_all()
    return session


def _slots_of(options: Options) -> int:
    """How many faces there are at most."""
    if options.faces == "all":
        raise ValueError("lsl has a stream for each face; say how many, as in faces=1 (--faces 1)")
    return 1 if options.faces == "largest" else options.faces


def _looking_back(options: Options) -> Options:
    """The options with a smoothing that is causal and still as wide as was asked for."""
    smoothing = options.smoothing
    if not isinstance(smoothing, Smoothing) or smoothing.causal:
        return options
    causal = Smoothing.of_width(smoothing.fwhm_s, smoothing.kernel, causal=True)
    causal = replace(smoothing, seconds=causal.seconds, causal=True)
    return replace(options, smoothing=causal)

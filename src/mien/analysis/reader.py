"""The front door: `analyze`, and a `Reader` that loads its networks once."""

import time
from collections.abc import Callable, Generator, Iterable, Sequence, Sized
from contextlib import closing
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, Unpack, overload

from mien.analysis.inputs import Image, Input, Item, Names, items_of
from mien.analysis.networks import load_networks
from mien.analysis.options import NO_QUALITY, OptionFields, Options, options_of, spelled_out
from mien.analysis.pipeline import Pipeline
from mien.errors import UnknownNameError
from mien.files import Transaction
from mien.outputs.claims import Claim
from mien.outputs.columns import column_notes
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.recorded import Stamp, file_fingerprint
from mien.outputs.tables import FORMATS, TableWriter, frame_of, table_path
from mien.progress import Tell, shown
from mien.records import Reading
from mien.sources import Source
from mien.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analysis", "Image", "Input", "Options", "Reader", "analyze"]

# The arguments of `analyze` besides the fields of `Options`.
_ARGUMENTS: Final = ("options", "stream", "name", "photos", "live", "progress")


class Reader(Pipeline):
    """Networks that are verified and loaded once, and read any number of inputs.

    Several threads may use it at once, each input in one thread: the state of a recording belongs
    to the call that reads it. It can be pickled, so that `multiprocessing` and
    `concurrent.futures` can carry it: only its options travel, and the other process verifies and
    loads the networks itself.

    Args:
        options: All options at once.
        **named: Single fields of `Options`, which override `options`.

    Attributes:
        options: The options, checked and complete.
        networks: The face detector, the network that reads affect, and the judge of readings.

    Raises:
        UnknownOptionError: There is no such option (also a TypeError); names the nearest.
        ValueError: A value of an option makes no sense.
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.

    Examples:
        >>> from mien.demo import portrait
        >>> with Reader(faces="largest") as reader:
        ...     table = reader.analyze(portrait(), name="Eileen Collins").table
        >>> table[["source", "expression"]].values.tolist()
        [['Eileen Collins', 'happiness']]
    """

    @spelled_out
    def __init__(self, options: Options | None = None, **named: Unpack[OptionFields]) -> None:
        chosen = options_of(options, named, ("options",))
        quality = None if chosen.quality == NO_QUALITY else chosen.quality
        networks = load_networks(
            chosen.bundle, chosen.detector, chosen.engine, quality, landmarks=chosen.landmarks
        )
        super().__init__(networks, chosen)
        self._closed = False

    def analyze(
        self,
        source: Input,
        *,
        name: Names | None = None,
        photos: bool = False,
        live: bool = False,
        progress: bool | Tell = False,
    ) -> "Analysis":
        """Read an input with this reader's networks and options, as `mien.analyze` does.

        Args:
            source: See `mien.analyze`.
            name: See `mien.analyze`.
            photos: See `mien.analyze`.
            live: See `mien.analyze`.
            progress: See `mien.analyze`.

        Returns:
            An `Analysis`, which reads when its table or its readings are asked for.

        Raises:
            SourceError: The source does not exist or cannot be read.
            ValueError: An argument does not fit the source, or the reader is closed.
        """
        self._check_open()
        items = items_of(source, self.open, name=name, photos=photos, live=live)
        return Analysis(items, self, progress)

    def read(
        self,
        source: Input,
        *,
        name: Names | None = None,
        photos: bool = False,
        live: bool = False,
        progress: bool | Tell = False,
    ) -> Generator[Reading, None, None]:
        """Read an input in constant memory, one reading at a time.

        Args:
            source: See `mien.analyze`.
            name: See `mien.analyze`.
            photos: See `mien.analyze`.
            live: See `mien.analyze`.
            progress: See `mien.analyze`.

        Returns:
            An iterator over the readings, in order of input and time.

        Raises:
            SourceError: The source does not exist or cannot be read.
            ValueError: An argument does not fit the source, the reader is closed, or people are
                asked for, who are known only once a film has been read.

        Examples:
            >>> from mien.demo import portrait
            >>> [str(reading.status) for reading in Reader().read([portrait()], live=True)]
            ['ok']
        """
        self._check_open()
        if isinstance(source, Source) and name is None and not progress:
            # An open source needs none of what an `Analysis` collects.
            return super().read(source)
        self._refuse_stream()
        analysis = self.analyze(source, name=name, photos=photos, live=live, progress=progress)
        return analysis.readings()

    def close(self) -> None:
        """Close the reader; reading with it afterwards is a ValueError."""
        self._closed = True

    def _refuse_stream(self) -> None:
        if self.options.people is not None:
            raise ValueError(
                "people are known once a film has been read, not while it is; leave stream out, or "
                "take `people` of the Analysis after its readings"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(
                "this reader is closed; make another one, or read inside its `with` block"
            )

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.options).replace("Options", "Reader", 1)

    def __reduce__(self) -> tuple[Callable[..., "Reader"], tuple[Options]]:
        """Pickle the options alone: networks are verified and loaded where they arrive."""
        self._check_open()
        return type(self), (self.options,)


class Analysis:
    """The result of `analyze`: readings of one or several inputs, made when first asked for.

    Inputs are opened one at a time. Every loop over `readings()` reads them again, until `table`
    has been asked for; from then on its readings are reused.

    Args:
        items: The inputs, in order.
        reader: What reads them.
        progress: True for a bar, or a function that hears of the progress.

    Attributes:
        problems: One line for each damage met so far that did not stop the reading.
        notes: One line for each harmless fact about how an input was read.
        media: The properties of each input read so far (`Source.media`), in order.
        people: By the name of each input read so far, person by face; only with the option
            `people`. Faces that no person could be told of are missing.
    """

    def __init__(
        self, items: Iterable[Item], reader: Reader, progress: bool | Tell = False
    ) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.media: list[dict[str, object]] = []
        self.people: dict[str, dict[int, int]] = {}
        self._items = items
        self._reader = reader
        self._progress = progress
        self._stamps: list[Stamp] = []
        self._live = False
        self._kept: list[Reading] | None = None

    def __repr__(self) -> str:
        return f"Analysis({self._summary()})"

    def _repr_html_(self) -> str:
        """For notebooks: the table once it has been read, else how to read it."""
        summary = escape(self._summary())
        if self._kept is None:
            return (
                f"<p>{summary}; <code>.table</code> reads it into a table, "
                "<code>.readings()</code> row by row</p>"
            )
        return f"<p>{summary}</p>{self.table._repr_html_()}"  # type: ignore[operator]

    def _summary(self) -> str:
        """Inputs, bundle, rows and problems in one line."""
        # Photos of an iterator have no names, and no number, before they are read.
        inputs = "photos"
        if isinstance(self._items, list):
            inputs = _summarize_inputs(self._items)
        rows = "not kept in memory"
        if self._kept is not None:
            rows = f"{len(self._kept)} row{'s' * (len(self._kept) != 1)}"
        damaged = f", {len(self.problems)} with problems" if self.problems else ""
        return f"{inputs}, by {self._reader.networks.model.card.name}: {rows}{damaged}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the readings, in column order."""
        return self._reader.tasks

    def readings(self) -> Generator[Reading, None, None]:
        """Read the inputs in constant memory.

        Yields:
            The readings, in order of input and time.

        Raises:
            SourceError: An input cannot be read; raised when its turn comes.
        """
        if self._kept is not None:
            yield from self._kept
            return
        # New lists: those of the reading before may still be in the caller's hands.
        self.problems, self.notes, self.media, self._stamps = [], [], [], []
        self.people = {}
        count = len(self._items) if isinstance(self._items, Sized) else None
        with shown("reading", self._progress) as tell:
            progress = _Progress(tell, count)
            for item in self._items:
                yield from self._readings_of(item, progress)

    def _readings_of(self, item: Item, progress: "_Progress") -> Generator[Reading, None, None]:
        source = item.open()
        self._live = source.live
        if item.path:
            stamp = file_fingerprint(item.path)
        else:
            # Data has no file whose time could be taken.
            stamp = Stamp(source.name, modified=time.time())
        self._stamps.append(stamp)
        with closing(self._reader.read(source)) as readings:
            for reading in readings:
                progress.advance(reading, source)
                yield reading
        progress.inputs += 1
        # Only now: sources note damage while they are read.
        if source.problem:
            self.problems.append(f"{source.name}: {source.problem}")
        self.notes += [f"{source.name}: {note}" for note in source.notes]
        self.media.append(source.media)
        if self._reader.options.people is not None:
            self.people[source.name] = source.people

    # `for reading in analyze(...)` reads in constant memory as well.
    __iter__ = readings

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The output table: one row per face per frame (columns: see the data dictionary)."""
        self._kept = list(self.readings())
        return frame_of(self._kept, self._reader.columns(), self.people)

    @property
    def frame(self) -> "pd.DataFrame":
        """The former name of `table`, kept because many scripts have it."""
        return self.table

    def save(self, path: str | Path) -> Path:
        """Write the table to a file, and its data dictionary beside it.

        Args:
            path: The file; its suffix (.csv, .parquet, .jsonl) names the format.

        Returns:
            The path of the table.

        Raises:
            UnknownNameError: The suffix names no format.
            OutputError: The files cannot be written.
            SourceError: An input cannot be read.
        """
        path = Path(path)
        stem = path.with_suffix("")
        formats = [path.suffix.removeprefix(".")]
        # Formats of other programs end in .csv, which means mien's own table here.
        if table_path(stem, formats[0]) != path:
            raise UnknownNameError("format", formats[0], FORMATS)
        # One process at a time, or one's table would end up beside another's dictionary.
        with Transaction() as files, Claim(stem, "") as claim:
            hold = self._reader.options.people is not None
            with TableWriter(stem, formats, self._reader.columns(), files, hold=hold) as writer:
                writer.write(self.readings())
                writer.set_people(self.people)
            files.write(
                path.with_suffix(".dictionary.json"),
                self._dictionary(path.name, writer.facts()),
            )
            claim.announce(files.paths)
            files.commit()
        return path

    def _dictionary(self, file_name: str, table_facts: object) -> bytes:
        """The data dictionary of a table that has just been written."""
        # A live source is always the only one; it is smoothed by its past alone.
        table_columns = self._reader.columns(self._live)
        facts = {
            "sources": [stamp.with_content().to_json() for stamp in self._stamps],
            "files": [file_name],
            "tables": table_facts,
            "problems": self.problems,
            "notes": self.notes + column_notes(table_columns, self._reader.options.every),
            "media": self.media,
        }
        return dictionary_bytes(table_columns, self._reader.facts() | facts)


def _summarize_inputs(items: Sequence[Item]) -> str:
    if not items:
        return "no input"
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{items[0].label}{more}"


class _Progress:
    """Counts frames and inputs, and reports how far the work is.

    Attributes:
        inputs: How many inputs are done.
        frames: How many frames have been read.
    """

    def __init__(self, tell: Tell, count: int | None) -> None:
        self._tell = tell
        self._count = count
        self._last: tuple[int, int] | None = None
        self.inputs = 0
        self.frames = 0

    def advance(self, reading: Reading, source: Source) -> None:
        """Take a reading into account; only a new frame is reported."""
        # A frame with several faces gives several readings.
        if (self.inputs, reading.frame) == self._last:
            return
        self._last = (self.inputs, reading.frame)
        self.frames += 1
        self._tell(self.frames, self._share(reading, source))

    def _share(self, reading: Reading, source: Source) -> float | None:
        """The share of the work that is done, 0..1; None where that is unknown."""
        if source.live or self._count is None:
            return None
        if source.length_s:
            part = reading.time_s / source.length_s
        elif source.frame_hint:
            part = (reading.frame + 1) / source.frame_hint
        elif self._count == 1:
            return None
        else:
            return self.inputs / self._count
        # What a file says of its length may be too short.
        return min((self.inputs + min(part, 1.0)) / self._count, 1.0)


@overload
def analyze(
    source: Input,
    *,
    stream: Literal[True],
    name: Names | None = None,
    photos: bool = False,
    live: bool = False,
    progress: bool | Tell = False,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> Generator[Reading, None, None]: ...
@overload
def analyze(
    source: Input,
    *,
    stream: Literal[False] = False,
    name: Names | None = None,
    photos: bool = False,
    live: bool = False,
    progress: bool | Tell = False,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> Analysis: ...
@spelled_out
def analyze(
    source: Input,
    *,
    stream: bool = False,
    name: Names | None = None,
    photos: bool = False,
    live: bool = False,
    progress: bool | Tell = False,
    options: Options | None = None,
    **named: Unpack[OptionFields],
) -> Analysis | Generator[Reading, None, None]:
    """Read faces from photos, videos, folders, a camera, bytes, open files or arrays.

    Networks are loaded once and kept, so calling this in a loop is cheap; a bundle that is replaced
    on disk is noticed.

    Args:
        source: A path, folder, pattern or ``camera:0``; a list of those; the bytes of a file; an
            open binary file; one RGB uint8 picture (H, W, 3); or an iterable of pictures or of
            (seconds, picture) pairs, which is read as one video.
        stream: Return an iterator over the readings in constant memory instead of an `Analysis`.
        name: The name in the rows of a source that has no path; with `photos` one name per photo,
            or what the numbered names begin with.
        photos: The items of `source` (pictures, bytes, open files, paths) are separate photos.
        live: `source` makes its pictures while it is read. Each is read as soon as it is there,
            before the next one is taken; smoothing looks back only; pictures without a time get the
            clock's. No picture is left out: an iterable that is faster than mien waits. A camera,
            which is always live, gives its newest frame, and those that came meanwhile are left
            out.
        progress: True for a bar (in a log one line a minute), or a function that is called with the
            number of frames read and the share of the work done, 0..1 or None.
        options: All options at once.
        **named: Single fields of `Options`, which override `options`.

    Returns:
        An `Analysis`, which reads when its table or its readings are asked for; with `stream` an
        iterator over the readings.

    Raises:
        SourceError: The source does not exist or cannot be read. Of several inputs each is opened
            when its turn comes; `mien.analyze_many` carries on after a bad one.
        UnknownOptionError: There is no such option (also a TypeError); names the nearest.
        ValueError: A value of an option makes no sense, or does not fit the source.
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is incomplete or altered, or of another kind.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for and cannot be computed from the
            bundle's expressions.

    Examples:
        >>> from mien.demo import portrait
        >>> table = analyze(portrait()).table
        >>> table[["status", "expression"]].values.tolist()
        [['ok', 'happiness']]
    """
    # Names are checked here: "did you mean" may suggest this function's other arguments too.
    reader = Reader(options_of(options, named, _ARGUMENTS))
    if stream:
        reader._refuse_stream()
    analysis = reader.analyze(source, name=name, photos=photos, live=live, progress=progress)
    return analysis.readings() if stream else analysis

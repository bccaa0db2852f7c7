"""The front door: a `Reader` that is loaded once, and `analyze`, which needs nothing else."""

import time
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import closing
from functools import cached_property
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, Unpack, overload

from mien.analysis.inputs import Image, Input, Item, Names, items_of
from mien.analysis.networks import load_networks
from mien.analysis.options import OptionFields, Options, options_of, spelled_out
from mien.analysis.pipeline import Pipeline
from mien.claims import Claim
from mien.files import Transaction
from mien.outputs.columns import Column, column_notes, columns
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.recorded import Stamp, file_fingerprint
from mien.outputs.tables import TableWriter, frame_of
from mien.progress import Tell, shown
from mien.records import Reading
from mien.sources import Source
from mien.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analysis", "Image", "Input", "Options", "Reader", "analyze"]

_ARGUMENTS: Final = ("options", "stream", "name", "photos", "live", "progress")
"""What `analyze` understands besides the fields of `Options`."""


class Reader(Pipeline):
    """Networks that are verified and loaded once, and read any number of inputs.

    It may be used by several threads at once, each input from one thread: whatever follows a recording is kept with the call.
    It can be pickled, so that `multiprocessing` and `concurrent.futures` can carry it: only its options travel, and the other
    process verifies and loads the networks itself.

    Args:
        options: All options at once.
        **named: The fields of `Options`, one by one; they go before `options`.

    Raises:
        UnknownOptionError: There is no such option (also a TypeError); the nearest is named.
        ValueError: An option has a value that makes no sense.
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is not whole, or not of the kind that is asked for.
        MissingExtraError: The engine is not installed.
        LabelMismatchError: Compound expressions are asked for that the bundle's expressions do not allow.

    >>> from mien.demo import portrait
    >>> with Reader(faces="largest") as reader:
    ...     table = reader.analyze(portrait(), name="Eileen Collins").table
    >>> table[["source", "expression"]].values.tolist()
    [['Eileen Collins', 'happiness']]
    """

    @spelled_out
    def __init__(self, options: Options | None = None, **named: Unpack[OptionFields]) -> None:
        chosen = options_of(options, named, ("options",))
        super().__init__(load_networks(chosen.bundle, chosen.detector, chosen.engine), chosen)
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
        """Read an input; the same as `mien.analyze` with this reader's options, with the same arguments and errors."""
        self._check_open()
        return Analysis(
            items_of(source, self.open, name=name, photos=photos, live=live), self, progress
        )

    def read(
        self,
        source: Input,
        *,
        name: Names | None = None,
        photos: bool = False,
        live: bool = False,
        progress: bool | Tell = False,
    ) -> Generator[Reading, None, None]:
        """Readings one by one, in memory that does not grow; arguments and errors as for `mien.analyze`.

        >>> from mien.demo import portrait
        >>> [str(reading.status) for reading in Reader().read([portrait()], live=True)]
        ['ok']
        """
        self._check_open()
        if isinstance(source, Source) and name is None and not progress:
            return super().read(source)
        return self.analyze(
            source, name=name, photos=photos, live=live, progress=progress
        ).readings()

    def columns(self, live: bool = False) -> tuple[Column, ...]:
        """The columns of its tables; live: of a source whose future is not there yet."""
        return columns(self.tasks, self.smoothing(live))

    def close(self) -> None:
        """Let go of the networks; reading with it afterwards is an error."""
        self._closed = True

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
        """Travel as options alone: networks are verified and loaded where they arrive."""
        self._check_open()
        return type(self), (self.options,)


class Analysis:
    """What `analyze` returns: readings of one or several inputs, made when they are first asked for.

    Inputs are opened one at a time, and read anew for every loop over `readings()` until `frame` has been asked for; the rest reuses it.
    problems: one line for each damage met so far that did not stop the reading.
    notes: one line for each harmless fact about how an input was read.
    media: what each input read so far is (`Source.media`), in order.
    """

    def __init__(
        self, items: Iterable[Item], reader: Reader, progress: bool | Tell = False
    ) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.media: list[dict[str, object]] = []
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
            return f"<p>{summary}; <code>.table</code> reads it into a table, <code>.readings()</code> row by row</p>"
        return f"<p>{summary}</p>{self.table._repr_html_()}"  # type: ignore[operator]

    def _summary(self) -> str:
        names = (
            [item.label for item in self._items] if isinstance(self._items, list) else ["photos"]
        )
        inputs = (
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
            if names
            else "no input"
        )
        rows = (
            "not kept in memory"
            if self._kept is None
            else f"{len(self._kept)} row{'s' * (len(self._kept) != 1)}"
        )
        damaged = f", {len(self.problems)} with problems" if self.problems else ""
        return f"{inputs}, by {self._reader.networks.model.card.name}: {rows}{damaged}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the readings hold, in column order."""
        return self._reader.tasks

    def readings(self) -> Generator[Reading, None, None]:
        """Readings in order of input and time; memory does not grow with their number. Raises SourceError as it meets it."""
        if self._kept is not None:
            yield from self._kept
            return
        self.problems, self.notes, self.media, self._stamps = [], [], [], []
        count = len(self._items) if isinstance(self._items, Sized) else None
        with shown("reading", self._progress) as tell:
            told = _Told(tell, count)
            for item in self._items:
                yield from self._readings_of(item, told)

    def _readings_of(self, item: Item, told: "_Told") -> Generator[Reading, None, None]:
        source = item.open()
        self._live = source.live
        self._stamps.append(
            file_fingerprint(item.path) if item.path else Stamp(source.name, modified=time.time())
        )
        with closing(self._reader.read(source)) as readings:
            for reading in readings:
                told.advance(reading, source)
                yield reading
        told.inputs += 1
        if source.problem:
            self.problems.append(f"{source.name}: {source.problem}")
        self.notes += [f"{source.name}: {note}" for note in source.notes]
        self.media.append(source.media)

    __iter__ = readings

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The output table: one row per face per frame (columns: see the data dictionary)."""
        self._kept = list(self.readings())
        return frame_of(self._kept, self._reader.columns())

    @property
    def frame(self) -> "pd.DataFrame":
        """The former name of `table`, kept because many scripts have it."""
        return self.table

    def save(self, path: str | Path) -> Path:
        """Write the table to `path`; its suffix (.csv, .parquet, .jsonl) names the format. A data dictionary goes beside it.

        Raises UnknownNameError for another suffix, OutputError when it cannot be written.
        """
        path = Path(path)
        stem, table = path.with_suffix(""), self._reader.columns()
        # One process at a time, or one's table would lie beside the other's dictionary.
        with Transaction() as files, Claim(stem, "") as claim:
            with TableWriter(stem, [path.suffix.removeprefix(".")], table, files) as writer:
                writer.write(self.readings())
            table = self._reader.columns(
                self._live
            )  # of one live source alone: it is smoothed by its past only
            told = {
                "sources": [one.with_content().to_json() for one in self._stamps],
                "files": [path.name],
                "tables": writer.facts(),
                "problems": self.problems,
                "notes": self.notes + column_notes(table, self._reader.options.every),
                "media": self.media,
            }
            files.write(
                path.with_suffix(".dictionary.json"),
                dictionary_bytes(table, self._reader.facts() | told),
            )
            claim.announce(files.paths)
            files.commit()
        return path


class _Told:
    """Counts what was read and tells how far it is. inputs: how many are done."""

    def __init__(self, tell: Tell, count: int | None) -> None:
        self._tell, self._count = tell, count
        self._last: tuple[int, int] | None = None
        self.inputs = self.frames = 0

    def advance(self, reading: Reading, source: Source) -> None:
        """Take a reading into account; only a new frame is told."""
        if (self.inputs, reading.frame) == self._last:
            return
        self._last = (self.inputs, reading.frame)
        self.frames += 1
        self._tell(self.frames, self._share(reading, source))

    def _share(self, reading: Reading, source: Source) -> float | None:
        if source.live or self._count is None:
            return None
        if source.length_s:
            part = reading.time_s / source.length_s
        elif source.frame_hint:
            part = (reading.frame + 1) / source.frame_hint
        else:
            return None if self._count == 1 else self.inputs / self._count
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

    Networks are loaded once and kept, so that calling this in a loop is cheap; a bundle that is replaced is noticed.

    Args:
        source: A path, folder, pattern or ``camera:0``, a list of those, the bytes of a file, an open binary file, one RGB
            uint8 picture (H, W, 3), or an iterable of such or of (seconds, picture) pairs, which is read as one film.
        stream: Return an iterator of `Reading` in constant memory instead of an `Analysis`.
        name: What rows call a source that has no path; with `photos` one name each, or what the numbered names begin with.
        photos: The items of `source` (pictures, bytes, open files, paths) are photos, each read for itself.
        live: `source` makes its pictures while it is read. Each is read as soon as it is there and before the next one is
            taken, smoothing looks back only, and pictures without a time get the clock's. Nothing is left out: an iterable
            that is faster than mien is asked later. Of a camera, which is always live, the newest frame is taken and what
            came meanwhile is left out.
        progress: True for a bar (in a log a line a minute), or a function that is called with the number of frames so far
            and the share of the work that is done, 0..1 or None.
        options: All options at once.
        **named: The fields of `Options`, one by one; they go before `options`.

    Returns:
        An `Analysis`, which reads when it is asked for its table or its readings; with `stream` the readings themselves.

    Raises:
        SourceError: The source is not there or cannot be read; of several inputs each when its turn comes, where
            `mien.analyze_many` goes on instead.
        UnknownOptionError: There is no such option (also a TypeError); the nearest is named.
        ValueError: An option has a value that makes no sense, or does not go with the source.
        UnknownNameError: There is no such bundle or engine.
        BundleError: A bundle is not whole, or not of the kind that is asked for.
        MissingExtraError: The engine is not installed.

    >>> from mien.demo import portrait
    >>> table = analyze(portrait()).table
    >>> table[["status", "expression"]].values.tolist()
    [['ok', 'happiness']]
    """
    reader = Reader(options_of(options, named, _ARGUMENTS))
    analysis = reader.analyze(source, name=name, photos=photos, live=live, progress=progress)
    return analysis.readings() if stream else analysis

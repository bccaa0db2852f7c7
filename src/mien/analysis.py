"""The front door: a `Reader` that is loaded once, and `analyze`, which needs nothing else."""

from collections.abc import Generator, Iterable, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from mien.claims import Claim
from mien.files import Transaction
from mien.options import Options
from mien.outputs.columns import Column, column_notes, columns
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.recorded import stamp
from mien.outputs.tables import TableWriter, frame_of
from mien.pipeline import Networks, Pipeline
from mien.records import Reading
from mien.sources import Source, expand
from mien.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Analysis", "Options", "Reader", "analyze"]

Image = NDArray[np.uint8]


class Reader(Pipeline):
    """Bundles, verified and loaded once, that read any number of sources, one at a time.

    Raises UnknownNameError, BundleError or MissingExtraError when a bundle or engine is not to be had.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(Networks(options.bundle, options.detector, options.engine), options)

    def columns(self, live: bool = False) -> tuple[Column, ...]:
        """The columns of its tables; live: of a source whose future is not there yet."""
        return columns(self.tasks, self.smoothing(live))


class Analysis:
    """What `analyze` returns: readings of one or several inputs, made when they are first asked for.

    Inputs are opened one at a time, and read anew for every loop over `readings()` until `frame` has been asked for; the rest reuses it.
    problems: one line for each damage met so far that did not stop the reading.
    notes: one line for each harmless fact about how an input was read.
    media: what each input read so far is (`Source.media`), in order.
    """

    def __init__(self, inputs: Sequence[str | Source], reader: Reader) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.media: list[dict[str, object]] = []
        self._inputs = inputs
        self._reader = reader
        self._kept: list[Reading] | None = None

    def __repr__(self) -> str:
        return f"Analysis({self._summary()})"

    def _repr_html_(self) -> str:
        """For notebooks: the table once it has been read, else how to read it."""
        summary = escape(self._summary())
        if self._kept is None:
            return f"<p>{summary}; <code>.frame</code> reads it into a table, <code>.readings()</code> row by row</p>"
        return f"<p>{summary}</p>{self.frame._repr_html_()}"  # type: ignore[operator]

    def _summary(self) -> str:
        names = [one if isinstance(one, str) else one.name for one in self._inputs]
        inputs = f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}" if names else "no input"
        rows = "not kept in memory" if self._kept is None else f"{len(self._kept)} row{'s' * (len(self._kept) != 1)}"
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
        self.problems, self.notes, self.media = [], [], []
        for one in self._inputs:
            source = self._reader.open(one) if isinstance(one, str) else one
            yield from self._reader.read(source)
            if source.problem:
                self.problems.append(f"{source.name}: {source.problem}")
            self.notes += [f"{source.name}: {note}" for note in source.notes]
            self.media.append(source.media)

    __iter__ = readings

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """The output table: one row per face per frame (columns: see the data dictionary)."""
        self._kept = list(self.readings())
        return frame_of(self._kept, self._reader.columns())

    def save(self, path: str | Path) -> Path:
        """Write the table to `path`; its suffix (.csv, .parquet, .jsonl) names the format. A data dictionary goes beside it.

        Raises UnknownNameError for another suffix, OutputError when it cannot be written.
        """
        path = Path(path)
        stem, table = path.with_suffix(""), self._reader.columns()
        sources = [stamp(one if isinstance(one, str) else one.name).with_content() for one in self._inputs]
        # One process at a time, or one's table would lie beside the other's dictionary.
        with Transaction() as files, Claim(stem, "") as claim:
            with TableWriter(stem, [path.suffix.removeprefix(".")], table, files) as writer:
                writer.write(self.readings())
            told = {
                "sources": [source.to_json() for source in sources],
                "files": [path.name],
                "tables": writer.facts(),
                "problems": self.problems,
                "notes": self.notes + column_notes(table),
                "media": self.media,
            }
            files.write(path.with_suffix(".dictionary.json"), dictionary_bytes(table, self._reader.facts() | told))
            claim.announce(files.paths)
            files.commit()
        return path


Input = str | Path | Image | Iterable[Image]


@overload
def analyze(inputs: Input | Sequence[str | Path], *, stream: Literal[True], **options: Any) -> Generator[Reading, None, None]: ...
@overload
def analyze(inputs: Input | Sequence[str | Path], *, stream: Literal[False] = False, **options: Any) -> Analysis: ...
def analyze(inputs: Input | Sequence[str | Path], *, stream: bool = False, **options: Any) -> Analysis | Generator[Reading, None, None]:
    """Read faces from photos, videos, folders, a camera or arrays.

    inputs: a path, folder, glob or ``camera:0``, a list of those, one RGB uint8 picture (H, W, 3), or an iterable of such.
    stream: return an iterator of `Reading` in constant memory, for live use, instead of an `Analysis`.
    options: the fields of `Options`.
    Raises SourceError for what is not there, UnknownNameError, BundleError or MissingExtraError at once, ValueError or TypeError for a
    wrong option. With several inputs, one that cannot be read raises SourceError when its turn comes; `mien.batch.run` goes on instead.

    >>> from mien.demo import portrait
    >>> table = analyze(portrait()).frame
    >>> table[["status", "expression"]].values.tolist()
    [['ok', 'happiness']]
    """
    reader = Reader(Options(**options))
    if isinstance(inputs, (str, Path)):
        inputs = [inputs]
    if isinstance(inputs, Sequence) and inputs and all(isinstance(one, (str, Path)) for one in inputs):
        names = expand(inputs)
        analysis = Analysis([reader.open(names[0])] if len(names) == 1 else names, reader)
    else:
        analysis = Analysis([reader.open(inputs)], reader)
    return analysis.readings() if stream else analysis

"""Many inputs to many files: names, what is done already, what failed. One bad input never stops the others.

A video becomes a table of its own; all pictures of a run share one table. The data dictionary is written last, so its
presence says that the tables beside it are whole; a later run with the same inputs and options skips them.
"""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import mien
from mien.analysis import Options, Reader
from mien.errors import MienError, OutputError, SourceError, UnknownNameError
from mien.outputs.dictionary import write_dictionary
from mien.outputs.overlay import Overlay
from mien.outputs.tables import FORMATS, Column, TableWriter, columns
from mien.records import Reading, Status
from mien.sources import IMAGE_SUFFIXES, Source, expand, open_source

__all__ = ["Job", "Outcome", "Progress", "plan", "run"]

ROWS: Final = 64
"""Readings handed to the writers together."""


@dataclass(frozen=True, slots=True)
class Job:
    """Inputs that share one table: one video or camera, or all the pictures of a run."""

    name: str
    inputs: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What became of a job. seconds: time it took; problems: one line each; tracks: different faces, by source."""

    job: Job
    state: Literal["done", "skipped", "failed"] = "done"
    files: list[Path] = field(default_factory=list)
    rows: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    tracks: set[tuple[str, int | None]] = field(default_factory=set)
    frames: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    _last: tuple[str, int] = ("", -1)

    def count(self, readings: Sequence[Reading]) -> None:
        """Take rows, in order, into the counts."""
        for reading in readings:
            self.rows[reading.status] += 1
            if reading.face is not None:
                self.tracks.add((reading.source, reading.face.track))
            if (reading.source, reading.frame) != self._last:
                self._last = (reading.source, reading.frame)
                self.frames += 1


class Progress:
    """Hears how a run goes; this one keeps quiet."""

    def begin(self, job: Job, number: int, count: int) -> None:
        """Job `number` of `count` begins, counted from 1."""

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come as far as `frames` frames, the `share` (0..1) of all its work where that is known."""

    def end(self, outcome: Outcome) -> None:
        """A job ended, in whatever way."""


def plan(inputs: Sequence[str | Path]) -> tuple[list[Job], list[str]]:
    """Jobs with unique names, and one line for each input that is not there."""
    found, missing = [], []
    for one in inputs:
        try:
            found += expand([one])
        except SourceError as error:
            missing.append(str(error))
    found = list(dict.fromkeys(found))
    pictures = tuple(path for path in found if _is_picture(path))
    names = _names([path for path in found if path not in pictures])
    jobs = [Job(name, (path,)) for path, name in names.items()]
    if pictures:
        name = Path(pictures[0]).stem if len(pictures) == 1 else "photos"
        jobs.append(Job(name if name not in names.values() else f"{name}-photos", pictures))
    return jobs, missing


def _is_picture(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A file name for each path: its stem, or as much of the path as tells it from the others."""
    names = {path: path.replace(":", "") if path.startswith("camera:") else Path(path).stem for path in paths}
    if len(set(names.values())) == len(names):
        return names
    parts = {path: Path(path).parts for path in paths}
    shared = 0
    while len({p[: shared + 1] for p in parts.values()}) == 1 and all(len(p) > shared + 1 for p in parts.values()):
        shared += 1
    doubled = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {path: "_".join(parts[path][shared:]) if name in doubled else name for path, name in names.items()}


def run(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    options: Options | None = None,
    formats: Sequence[str] = ("csv",),
    overlay: bool = False,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Analyse all inputs and write tables, dictionaries and, if asked for, overlays into the folder `out`.

    Jobs that an earlier run finished with the same input and options are skipped. An input that cannot be read is an
    outcome with state ``failed``, not an exception.
    Raises OutputError when `out` cannot be written at all, UnknownNameError for a format, and what `Reader` raises.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
    work = _Work(Reader(options or Options()), Path(out), tuple(dict.fromkeys(formats)), overlay, progress or Progress())
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; choose another folder") from error
    jobs, missing = plan(inputs)
    outcomes = [Outcome(Job(line.partition(": ")[0], ()), "failed", problems=[line]) for line in missing]
    for outcome in outcomes:
        work.progress.end(outcome)
    for number, job in enumerate(jobs, 1):
        work.progress.begin(job, number, len(jobs))
        outcomes.append(work.do(job))
        work.progress.end(outcomes[-1])
    return outcomes


@dataclass(frozen=True, slots=True)
class _Work:
    """What all jobs of a run share."""

    reader: Reader
    folder: Path
    formats: tuple[str, ...]
    overlay: bool
    progress: Progress

    def do(self, job: Job) -> Outcome:
        """One job, from its inputs to its files."""
        outcome, started = Outcome(job), time.monotonic()
        dictionary = self.folder / f"{job.name}.dictionary.json"
        try:
            facts = self.reader.facts() | {"sources": [_stamp(path) for path in job.inputs], "files": self._files(job)}
            if _says(dictionary, facts):
                outcome.state = "skipped"
            else:
                dictionary.unlink(missing_ok=True)
                self._write(job, outcome)
                counts = {status.value: count for status, count in outcome.rows.items()}
                write_dictionary(dictionary, self._columns(), facts | {"rows": counts, "problems": outcome.problems})
            outcome.files = [*(self.folder / name for name in self._files(job)), dictionary]
        except MienError as error:
            outcome.state = "failed"
            outcome.problems.append(str(error))
        outcome.seconds = time.monotonic() - started
        return outcome

    def _columns(self) -> tuple[Column, ...]:
        return columns(self.reader.tasks, self.reader.options.smoothing is not None)

    def _files(self, job: Job) -> list[str]:
        """Names of the files this job makes, besides the dictionary."""
        tables = [f"{job.name}.{name}" for name in self.formats]
        return tables + [path.name for path in self._overlays(job).values()]

    def _overlays(self, job: Job) -> dict[str, Path]:
        """Where the overlay of each input goes."""
        if not self.overlay:
            return {}
        pictures = _names([path for path in job.inputs if _is_picture(path)])
        stems = {path: pictures.get(path, job.name) for path in job.inputs}
        return {path: self.folder / f"{stem}.overlay{'.jpg' if path in pictures else '.mp4'}" for path, stem in stems.items()}

    def _write(self, job: Job, outcome: Outcome) -> None:
        """All tables of a job, appearing together at the end or not at all."""
        overlays = self._overlays(job)
        with TableWriter(self.folder / job.name, self.formats, self._columns()) as tables:
            for path in job.inputs:
                try:
                    self._read(open_source(path), tables, overlays.get(path), outcome)
                except SourceError as error:
                    if len(job.inputs) == 1:
                        raise
                    outcome.problems.append(str(error))
                    rows = [Reading(path, 0, 0.0, Status.unreadable, None, {}, {})]
                    tables.write(rows)
                    outcome.count(rows)

    def _read(self, source: Source, tables: TableWriter, overlay: Path | None, outcome: Outcome) -> None:
        with ExitStack() as stack:
            drawing = stack.enter_context(Overlay(overlay, source, self.reader.tasks)) if overlay else None
            readings = stack.enter_context(closing(self.reader.read(source)))
            try:
                while rows := list(islice(readings, 1 if source.kind == "camera" else ROWS)):
                    tables.write(rows)
                    if drawing:
                        drawing.write(rows)
                    outcome.count(rows)
                    self.progress.advance(outcome.frames, _share(outcome, source, rows[-1].time_s))
            except KeyboardInterrupt:
                if source.kind != "camera":  # a camera has no end of its own: stopping it is how a recording is finished
                    raise
        if source.problem:
            outcome.problems.append(f"{source.name}: {source.problem}")


def _share(outcome: Outcome, source: Source, time_s: float) -> float | None:
    """How much of a job is done: of a video by time, of pictures by number."""
    if len(outcome.job.inputs) > 1:
        return outcome.frames / len(outcome.job.inputs)
    return time_s / source.length_s if source.length_s else None


def _stamp(path: str) -> dict[str, object]:
    """What tells whether an input is still the same: size in bytes and time of the last change."""
    if path.startswith("camera:"):
        return {"name": path, "bytes": None, "modified": time.time()}
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; check the path") from error
    return {"name": path, "bytes": stat.st_size, "modified": stat.st_mtime}


def _says(dictionary: Path, facts: dict[str, object]) -> bool:
    """Whether a dictionary records just these facts and no problem, and the files it speaks of are all there."""
    try:
        found = json.loads(dictionary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = all(found.get(key) == json.loads(json.dumps(value)) for key, value in facts.items())
    return same and found.get("mien") == mien.__version__ and all((dictionary.parent / name).exists() for name in found["files"])

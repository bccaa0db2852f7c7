"""Many inputs to many files: names, what is done already, what failed. One bad input never stops the others.

A video becomes a table of its own; all pictures of a run share one table. The data dictionary is written last, so its
presence says that the tables beside it are whole; a later run with the same inputs and options skips them.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Final, Literal

import mien
from mien.analysis import Reader, stamp
from mien.errors import MienError, OutputError, SourceError, UnknownNameError
from mien.options import Options
from mien.outputs.columns import Column, column_notes
from mien.outputs.dictionary import write_dictionary
from mien.outputs.overlay import Overlay
from mien.outputs.tables import FORMATS, TableWriter
from mien.records import Reading, Status
from mien.sources import Source, expand, media_kind

__all__ = ["Job", "Outcome", "Progress", "plan", "run"]

_DRAWN: Final = {"image": ".overlay.jpg", "video": ".overlay.mp4"}
ROWS: Final = 64
"""Readings handed to the writers together."""


@dataclass(frozen=True, slots=True)
class Job:
    """Inputs that share one table: one video or camera, or all the pictures of a run."""

    name: str
    inputs: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What became of a job. seconds: time it took; problems: one line for each damage; tracks: different faces, by source.

    notes: one line for each harmless fact about how an input was read. media: what each input is (`Source.media`), in order.
    """

    job: Job
    state: Literal["done", "skipped", "failed"] = "done"
    files: list[Path] = field(default_factory=list)
    rows: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    tracks: set[tuple[str, int | None]] = field(default_factory=set)
    frames: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    media: list[dict[str, object]] = field(default_factory=list)
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


def plan(inputs: Sequence[str | Path], out: Path | None = None) -> tuple[list[Job], list[tuple[str, str]]]:
    """Jobs with unique names, and each input that is not there with one line on why.

    Overlays that lie in `out` are what an earlier run drew; they are inputs only where they are named one by one.
    """
    found: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    for one in inputs:
        try:
            for path in expand([one]):
                if path == str(one) or not _is_drawn(path, out):
                    found.setdefault(path if path.startswith("camera:") else os.path.abspath(path), path)
        except SourceError as error:
            missing.append((str(one), str(error)))
    paths = list(found.values())
    pictures = tuple(path for path in paths if _is_picture(path))
    names = _names([path for path in paths if path not in pictures])
    jobs = [Job(name, (path,)) for path, name in names.items()]
    if pictures:
        name = Path(pictures[0]).stem if len(pictures) == 1 else "photos"
        jobs.append(Job(name if name not in names.values() else f"{name}-photos", pictures))
    return jobs, missing


def _is_picture(path: str) -> bool:
    return media_kind(path) == "image"


def _is_drawn(path: str, out: Path | None) -> bool:
    return out is not None and Path(path).resolve().parent == out.resolve() and path.endswith(tuple(_DRAWN.values()))


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A file name for each path: its stem, or as much of the path as tells it from the others, on any file system."""
    stems = {path: path.replace(":", "") if path.startswith("camera:") else Path(path).stem for path in paths}
    count = Counter(stem.casefold() for stem in stems.values())
    doubled = {path: Path(os.path.abspath(path)).parts for path, stem in stems.items() if count[stem.casefold()] > 1}
    levels = zip(*(parts[:-1] for parts in doubled.values()), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    taken = {stem.casefold() for path, stem in stems.items() if path not in doubled}
    names: dict[str, str] = {}
    for path, stem in stems.items():
        name = base = "_".join(doubled[path][shared:]) if path in doubled else stem
        number = 2
        while path in doubled and name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        names[path] = name
    return names


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
    if not formats:
        raise ValueError(f"formats must name at least one of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
    reader, folder = Reader(options or Options()), Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}; choose another folder") from error
    jobs, missing = plan(inputs, folder)
    originals = frozenset(Path(path).resolve() for job in jobs for path in job.inputs)
    work = _Work(reader, folder, tuple(dict.fromkeys(formats)), overlay, progress or Progress(), originals)
    outcomes = [Outcome(Job(name, ()), "failed", problems=[line]) for name, line in missing]
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
    originals: frozenset[Path]

    def do(self, job: Job) -> Outcome:
        """One job, from its inputs to its files."""
        outcome, started = Outcome(job), time.monotonic()
        page = self.folder / f"{job.name}.dictionary.json"
        try:
            self._check(job)
            asked = self.reader.facts() | {
                "sources": [stamp(path) for path in job.inputs], "formats": list(self.formats), "overlay": self.overlay,
            }  # fmt: skip
            before = _recorded(page)
            if before is not None and _is_done(before, asked, self.folder):
                outcome.state, outcome.problems = "skipped", list(before["problems"])
                outcome.notes = list(before.get("notes", []))
            else:
                self._write(job, outcome, before)
                counts = {status.value: count for status, count in outcome.rows.items()}
                files = [name for name in self._files(job) if (self.folder / name).exists()]
                told = {"files": files, "rows": counts, "problems": outcome.problems, "notes": outcome.notes, "media": outcome.media}
                write_dictionary(page, self._columns(job), asked | told)
            outcome.files = [*(self.folder / name for name in self._files(job) if (self.folder / name).exists()), page]
        except MienError as error:
            outcome.state = "failed"
            outcome.problems.append(str(error))
        outcome.seconds = time.monotonic() - started
        return outcome

    def _check(self, job: Job) -> None:
        """Raise OutputError where a result would replace an input, or what was read from another input."""
        for name in self._files(job):
            if (self.folder / name).resolve() in self.originals:
                raise OutputError(f"{self.folder / name}: is an input that the results of {job.name} would replace; choose another folder")
        page = self.folder / f"{job.name}.dictionary.json"
        before = (_recorded(page) or {"sources": []})["sources"]
        if len(job.inputs) == len(before) == 1 and not job.inputs[0].startswith("camera:"):
            new, old = stamp(job.inputs[0]), before[0]
            if os.path.abspath(str(old["name"])) != os.path.abspath(job.inputs[0]) and old["bytes"] != new["bytes"]:
                raise OutputError(f"{page}: is about another input, {old['name']}; choose another folder, or remove it first")

    def _forget(self, job: Job, before: dict[str, Any] | None) -> None:
        """Take away what an earlier run said of this job, and those of its files that will not be made again."""
        (self.folder / f"{job.name}.dictionary.json").unlink(missing_ok=True)
        for name in set((before or {"files": []})["files"]) - set(self._files(job)):
            if Path(name).name == name:
                (self.folder / name).unlink(missing_ok=True)

    def _columns(self, job: Job) -> tuple[Column, ...]:
        return self.reader.columns(live=job.inputs[0].startswith("camera:"))

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
        return {path: self.folder / f"{stem}{_DRAWN['image' if path in pictures else 'video']}" for path, stem in stems.items()}

    def _write(self, job: Job, outcome: Outcome, before: dict[str, Any] | None) -> None:
        """All tables of a job, appearing together at the end or not at all."""
        overlays = self._overlays(job)
        outcome.notes += column_notes(self._columns(job))
        with TableWriter(self.folder / job.name, self.formats, self._columns(job)) as tables:
            for path in job.inputs:
                try:
                    source = self.reader.open(path)
                    self._forget(job, before)
                    self._read(source, tables, overlays.get(path), outcome)
                except SourceError as error:
                    if len(job.inputs) == 1:
                        raise
                    outcome.problems.append(str(error))
                    outcome.media.append({})
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
        outcome.notes += [f"{source.name}: {note}" for note in source.notes]
        outcome.media.append(source.media)


def _share(outcome: Outcome, source: Source, time_s: float) -> float | None:
    """How much of a job is done: of a video by time, of pictures by number."""
    if len(outcome.job.inputs) > 1:
        return outcome.frames / len(outcome.job.inputs)
    return time_s / source.length_s if source.length_s else None


def _recorded(page: Path) -> dict[str, Any] | None:
    """What a dictionary of an earlier run says; None where there is none that this version understands."""
    try:
        found = json.loads(page.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(found, dict) and {"mien", "sources", "files", "problems"} <= set(found)
    return found if known else None


def _is_done(before: dict[str, Any], asked: dict[str, object], folder: Path) -> bool:
    """Whether an earlier run read the same inputs in the same way, and its files are all there."""
    same = before["mien"] == mien.__version__ and all(before.get(key) == json.loads(json.dumps(value)) for key, value in asked.items())
    return same and all((folder / name).exists() for name in before["files"])

"""The files of one job, which appear together or not at all."""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mien.batch.inputs import OVERLAY_SUFFIXES, Job
from mien.batch.outcome import Outcome, Progress
from mien.batch.photo_shards import ReadPhoto
from mien.batch.photos import RecordedPhoto, reusable_photos, with_recorded_photos
from mien.batch.target import Target, dictionary_path
from mien.errors import OutputError, SourceError
from mien.files import Transaction
from mien.outputs.claims import Claim
from mien.outputs.columns import column_notes
from mien.outputs.dictionary import dictionary_bytes
from mien.outputs.overlay import Overlay
from mien.outputs.recorded import Recorded, Stamp, file_fingerprint, read_dictionary
from mien.outputs.tables import TableWriter, finished_rows, table_path
from mien.records import Reading, Status
from mien.sources import Source

__all__ = ["JobWriter"]

# Readings handed to the writers together.
ROWS: Final = 64
# Photos of a folder that are read before their rows are put in place.
PHOTOS: Final = 500


@dataclass(frozen=True, slots=True)
class JobWriter:
    """Reads the inputs of one job and writes its files.

    Attributes:
        target: What the run writes, and where.
        progress: Hears how the job is getting on.
        originals: The inputs of all jobs, which no result may replace.
        reading: The claim on the job's input.
        writing: The claim on the job's table.
    """

    target: Target
    progress: Progress
    originals: frozenset[str]
    reading: Claim
    writing: Claim

    def write(self, outcome: Outcome, record: Recorded | None) -> None:
        """Write the files of a job.

        Those of many photos are written again and again, so that being killed costs few of them.

        Args:
            outcome: The outcome of the job, which is filled in.
            record: The dictionary of its earlier table, if any.

        Raises:
            SourceError: The input cannot be read.
            OutputError: The files cannot be written, or would replace others.
        """
        job = outcome.job
        if job.folder is not None and record is not None:
            job = with_recorded_photos(job, record)
        self._refuse_to_replace(job, record)
        done: set[str] = set()
        while True:
            current = self._current(job, record)
            reused: dict[str, RecordedPhoto] = {}
            if current is not None and job.folder is not None:
                reused = reusable_photos(current, done)
            new = [path for path in job.inputs if path not in reused]
            # A table that is replaced is complete at once: it must never have fewer rows than
            # before.
            is_replaced = record is not None and current is None
            batch = set(new if is_replaced else new[:PHOTOS])
            inputs = [path for path in job.inputs if path in reused or path in batch]
            part = Outcome(replace(job, inputs=tuple(inputs)), inputs=len(job.inputs))
            self._write_part(part, record, reused)
            if len(batch) == len(new):
                _copy_results(part, outcome)
                return
            done |= batch
            record = read_dictionary(dictionary_path(self.target.folder / job.name))

    def _current(self, job: Job, record: Recorded | None) -> Recorded | None:
        """The record of the earlier table, where its rows can be used as they are."""
        if record is None:
            return None
        stem = self.target.folder / job.name
        return record if self.target.is_current(record, stem) else None

    def _write_part(
        self, part: Outcome, record: Recorded | None, reused: Mapping[str, RecordedPhoto]
    ) -> None:
        """Write all files of a job or of a part of it, the dictionary last."""
        stem = self.target.folder / part.job.name
        columns = self.target.columns(part.job)
        part.notes += column_notes(columns, self.target.reader.options.every)
        _note_missing_photos(part)
        # Photos show no film, so no people of theirs are waited for.
        hold = part.job.folder is None and self.target.reader.options.people is not None
        with Transaction() as files:
            with TableWriter(stem, self.target.formats, columns, files, hold=hold) as tables:
                stamps = self._fill(tables, files, part, reused)
            facts = self._facts(part, stamps, tables)
            # Those of BIDS may have been written by another film of the same labels meanwhile.
            self._refuse_to_replace_exports(part.job, record)
            self._export(part, tables, json.loads(dictionary_bytes(columns, facts)), files)
            overlays = [stem.parent / stamp.overlay for stamp in stamps if stamp.overlay]
            # Overlays last, and those of photos that were read earlier with them.
            results = _without(files.paths, overlays) + overlays
            facts["files"] = [_relative(path, stem.parent) for path in results]
            files.write(dictionary_path(stem), dictionary_bytes(columns, facts))
            former = record.files_within(stem.parent, stem.name) if record else []
            # The input may have been taken over while this process was asleep.
            self.reading.check()
            self.writing.announce(files.paths)
            obsolete = _without(former, results)
            files.commit(obsolete)
            self.target.store.publish(files.paths, obsolete)
        written = [*results, dictionary_path(stem)]
        part.files = [self.target.store.result(path) for path in written]

    def _fill(
        self,
        tables: TableWriter,
        files: Transaction,
        part: Outcome,
        reused: Mapping[str, RecordedPhoto],
    ) -> list[Stamp]:
        """Write the rows of all inputs, copying those that are reused; gives their stamps."""
        stem = self.target.folder / part.job.name
        if reused:
            self.target.store.bring(table_path(stem, name) for name in self.target.formats)
        earlier_rows = finished_rows(stem, self.target.formats) if reused else {}
        stamps: list[Stamp] = []
        if self.target.photos is not None and part.job.folder is not None:
            self.target.photos.begin([path for path in part.job.inputs if path not in reused])
        for path in part.job.inputs:
            photo = reused.get(path)
            if photo is None:
                stamps.append(self._read(path, tables, files, part))
                continue
            tables.copy(earlier_rows, photo.row, sum(photo.stamp.rows.values()))
            part.keep(photo)
            stamps.append(photo.stamp)
        return stamps

    def _export(
        self, part: Outcome, tables: TableWriter, dictionary: dict[str, Any], files: Transaction
    ) -> None:
        """Write the table in the formats of other programs, once it is complete."""
        exporter = self.target.exporter
        if exporter is not None and len(part.job.inputs) == max(part.inputs, 1):
            table = self.target.table(part.job)
            file = tables.part(table.suffix.removeprefix("."))
            part.notes += exporter.write(table, file, dictionary, files)

    def _facts(self, part: Outcome, stamps: Sequence[Stamp], tables: TableWriter) -> dict[str, Any]:
        """The data dictionary without the columns; its files are filled in later."""
        sources = [stamp.to_json() for stamp in stamps]
        rows = {status.value: count for status, count in part.rows.items()}
        return self.target.facts() | {
            "folder": part.job.folder,
            "sources": sources,
            "files": [],
            "tables": tables.facts(),
            "rows": rows,
            "problems": part.problems,
            "notes": part.notes,
            "media": part.media,
        }

    def _read(self, path: str, tables: TableWriter, files: Transaction, part: Outcome) -> Stamp:
        """Read one input into the tables, and draw its overlay.

        Of several photos, one that cannot be read is a row that says so.
        """
        before = file_fingerprint(path).with_content()
        rows_before = dict(part.rows)
        overlay: Path | None = None
        try:
            source = self._open(path, part.job)
            overlay = self.target.overlay_path(part.job, path, source.kind)
            self._read_source(source, tables, overlay, files, part)
        except SourceError as error:
            if part.job.folder is None:
                raise
            overlay = None
            part.problems.append(str(error))
            part.media.append({})
            unreadable = [Reading(path, 0, 0.0, Status.unreadable, None, {}, {})]
            tables.write(unreadable)
            part.count(unreadable)
        _check_unchanged(before, path)
        rows = _difference(part.rows, rows_before)
        # No overlay is left where no frame of its source could be drawn.
        if overlay is None or overlay not in files.paths:
            return replace(before, rows=rows)
        folder = (self.target.folder / part.job.name).parent
        return replace(before, rows=rows, overlay=_relative(overlay, folder))

    def _open(self, path: str, job: Job) -> Source:
        if self.target.photos is not None and job.folder is not None:
            return self.target.photos.open(path)
        return self.target.reader.open(path)

    def _readings(self, source: Source) -> Generator[Reading, None, None]:
        if isinstance(source, ReadPhoto):
            yield from source.readings
        else:
            yield from self.target.reader.read(source)

    def _read_source(
        self,
        source: Source,
        tables: TableWriter,
        overlay: Path | None,
        files: Transaction,
        part: Outcome,
    ) -> None:
        # One frame at a time from a camera, so that an interrupt loses none that was read.
        count = 1 if source.kind == "camera" else ROWS
        with ExitStack() as stack:
            drawing: Overlay | None = None
            if overlay is not None:
                self.target.make_folder(overlay.parent)
                reader = self.target.reader
                drawing = Overlay(
                    overlay,
                    source,
                    reader.tasks,
                    files,
                    uncertain_below=reader.uncertain_below,
                    anonymise=self.target.anonymise,
                )
                stack.enter_context(drawing)
            readings = stack.enter_context(closing(self._readings(source)))
            try:
                while rows := list(islice(readings, count)):
                    tables.write(rows)
                    if drawing is not None:
                        drawing.write(rows)
                    part.count(rows)
                    self.progress.advance(part.frames, _share(part, source, rows[-1].time_s))
            except KeyboardInterrupt:
                # A camera has no end of its own: an interrupt is how a recording is finished.
                if source.kind != "camera":
                    raise
        tables.set_people({source.name: source.people})
        part.people = len(set(source.people.values()))
        if source.problem:
            part.problems.append(f"{source.name}: {source.problem}")
        part.notes += [f"{source.name}: {note}" for note in source.notes]
        part.media.append(source.media)

    def _refuse_to_replace(self, job: Job, record: Recorded | None) -> None:
        """Refuse to replace an input, or a file that is not known to be an earlier result.

        Raises:
            OutputError: A result would do so.
        """
        stem = self.target.folder / job.name
        tables = [table_path(stem, name) for name in self.target.formats]
        for result in [*tables, *self._exports(job), *self._possible_overlays(job)]:
            if self.target.store.key(result) in self.originals:
                raise OutputError(
                    f"{result}: is an input that the results of {job.name} would replace; "
                    "choose another folder"
                )
        for table in tables:
            if record is None and self.target.store.exists(table):
                raise OutputError(
                    f"{table}: no dictionary beside it says whose rows it holds; move it away or "
                    "choose another folder"
                )
        self._refuse_to_replace_exports(job, record)

    def _refuse_to_replace_exports(self, job: Job, record: Recorded | None) -> None:
        """Refuse to replace another program's file unless the earlier table was written with it."""
        folder = (self.target.folder / job.name).parent
        names = record.texts("files") if record else []
        former = {os.path.abspath(folder / name) for name in names}
        for export in self._exports(job):
            if os.path.abspath(export) not in former and self.target.store.exists(export):
                raise OutputError(
                    f"{export}: is there already, and may hold somebody's work; move it away or "
                    "choose another folder"
                )

    def _exports(self, job: Job) -> list[Path]:
        """The files of other programs that are known beforehand."""
        if self.target.exporter is None:
            return []
        return self.target.exporter.paths(self.target.table(job))

    def _possible_overlays(self, job: Job) -> list[Path]:
        """The overlays of all inputs, of every kind: a kind is known only once it is opened."""
        overlays: list[Path] = []
        for path in job.inputs:
            for kind in OVERLAY_SUFFIXES:
                overlay = self.target.overlay_path(job, path, kind)
                if overlay is not None:
                    overlays.append(overlay)
        return overlays


def _note_missing_photos(part: Outcome) -> None:
    count = len(part.job.inputs)
    if count < part.inputs:
        # It stays in the dictionary only if the run is killed before the next part is written.
        part.notes.append(
            f"{part.job.folder}: {count} of {part.inputs} photos; run this again for the rest"
        )


def _check_unchanged(before: Stamp, path: str) -> None:
    """Refuse a file that changed while it was read, such as one that is still being copied."""
    after = file_fingerprint(path)
    is_other = (before.bytes, before.modified) != (after.bytes, after.modified)
    # What a store says of a file elsewhere is known at once.
    if after.fingerprint is not None:
        is_other = is_other or before.fingerprint != after.fingerprint
    if before.path and is_other:
        raise SourceError(f"{path}: changed while it was read; run this again when it is complete")


def _difference(after: Mapping[Status, int], before: Mapping[Status, int]) -> dict[str, int]:
    """The rows that were added, by status; only those of which there are any."""
    rows: dict[str, int] = {}
    for status in Status:
        added = after[status] - before[status]
        if added:
            rows[status.value] = added
    return rows


def _without(paths: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    left_out = set(others)
    return [path for path in paths if path not in left_out]


def _copy_results(part: Outcome, outcome: Outcome) -> None:
    """Make the last part, which has the rows of all the others, the outcome of the whole job."""
    outcome.job = part.job
    outcome.files = part.files
    outcome.rows = part.rows
    outcome.tracks = part.tracks
    outcome.people = part.people
    outcome.frames = part.frames
    outcome.problems = part.problems
    outcome.notes = part.notes
    outcome.media = part.media


def _relative(path: Path, folder: Path) -> str:
    # Data sets of BIDS lie beside the folders of tables.
    return Path(os.path.relpath(path, folder)).as_posix()


def _share(part: Outcome, source: Source, time_s: float) -> float | None:
    """The share of a job that is done, 0..1: of a video by time, of pictures by number."""
    if part.job.folder is not None:
        return part.frames / max(part.inputs, len(part.job.inputs))
    # The length of a recording may be unknown, and cameras have none.
    return time_s / source.length_s if source.length_s else None

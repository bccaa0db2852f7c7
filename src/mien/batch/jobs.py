"""One job: from its inputs to its files, which appear together or not at all."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import mien
from mien.analysis.reader import Reader
from mien.batch.names import DRAWN, Job, Taken, kept_name, name_for, owns, portable
from mien.batch.outcome import Outcome, Progress
from mien.batch.photos import Kept, kept, unchanged, with_earlier
from mien.claims import Claim, ClaimedError
from mien.errors import MienError, OutputError, SourceError
from mien.files import Transaction, wrap_os_errors
from mien.outputs.columns import Column, column_notes
from mien.outputs.dictionary import EDITION, dictionary_bytes
from mien.outputs.overlay import Overlay
from mien.outputs.recorded import Recorded, Stamp, file_fingerprint, read_dictionary
from mien.outputs.tables import TableWriter, finished_rows
from mien.records import Reading, Status
from mien.sources import Source
from mien.sources.still.heif import now_readable

__all__ = ["Work"]

ROWS: Final = 64
"""Readings handed to the writers together."""
PHOTOS: Final = 500
"""Photos of a folder that are read before their rows are put in place."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Work:
    """What all jobs of a run share."""

    reader: Reader
    folder: Path
    formats: tuple[str, ...]
    overlay: bool
    progress: Progress
    originals: frozenset[Path]
    taken: Taken
    made: set[Path] = field(default_factory=set)

    def do(self, job: Job) -> Outcome:
        """One job, whatever happens to it; only bugs and being stopped get through."""
        outcome, started = Outcome(job), time.monotonic()
        try:
            with _foreseen(job.source):
                self._do(outcome)
        except ClaimedError as error:
            outcome.state, outcome.left_to = "left", str(error)
        except MienError as error:
            outcome.state = "failed"
            outcome.problems.append(str(error))
        outcome.seconds = time.monotonic() - started
        return outcome

    def _do(self, outcome: Outcome) -> None:
        job = outcome.job
        if self._is_mine(job) and self._was_done(outcome):
            return
        # Runs that were given other inputs may have planned another name for this one: one of them at a time looks for it.
        mark = hashlib.sha256(job.source.encode(errors="surrogateescape")).hexdigest()[:16]
        with Claim(
            self.folder / f"input-{mark}", job.source, shown=str(self.folder / job.name)
        ) as reading:
            if name := kept_name(job, Taken(self.folder, listed=False)):
                outcome.job = replace(job, name=name)
            self._do_alone(outcome, reading)

    def _do_alone(self, outcome: Outcome, reading: Claim) -> None:
        """A job whose input nobody else reads into this folder."""
        for _ in range(_TRIES):
            job = outcome.job
            if not self._is_mine(job):
                self._rename(outcome)
                continue
            if self._was_done(outcome):
                return
            stem = self.folder / job.name
            self._make_folder(stem.parent)
            try:
                with Claim(stem, job.source) as claim:
                    if self._is_mine(job):  # still, now that nobody else can change it
                        if not self._was_done(outcome):
                            self._write(outcome, read_dictionary(_page(stem)), reading, claim)
                        return
            except ClaimedError as error:
                if error.holder is None or error.holder.source == job.source:
                    raise
                self.taken.give(job.name, error.holder.source)
                self._rename(outcome)
        raise OutputError(
            f"{self.folder / outcome.job.name}: other runs keep taking the names of its table; run this again"
        )

    def _is_mine(self, job: Job) -> bool:
        """Whether the job's name is free or its own. Raises OutputError where its input is another one at the same place."""
        stem = self.folder / job.name
        before = read_dictionary(_page(stem))
        if before is None:
            return True
        state = owns(job, before)
        if state == "changed":
            what = (
                "the photos that were in" if job.folder else "what was read from another content of"
            )
            raise OutputError(
                f"{_page(stem)}: is about another input, {what} {job.source}; move it and its table away to read this one, "
                "or choose another folder"
            )
        return state == "same"

    def _rename(self, outcome: Outcome) -> None:
        """Give the job the next name that belongs to nobody else."""
        self.taken.forget_listing()
        outcome.job = replace(outcome.job, name=name_for(outcome.job, self.taken))
        self.taken.give(outcome.job.name, outcome.job.source)

    def _make_folder(self, folder: Path) -> None:
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.made.update(new)

    def leave_no_empty_folder(self) -> None:
        """Remove the folders that this run made and put nothing in."""
        for folder in sorted(self.made, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()

    # what was done before

    def _asked(self) -> dict[str, Any]:
        """What decides about the numbers and files besides the inputs, as a dictionary says it."""
        facts = self.reader.facts() | {"formats": list(self.formats), "overlay": self.overlay}
        return {"dictionary": EDITION, "mien": mien.__version__, **json.loads(json.dumps(facts))}

    def _was_done(self, outcome: Outcome) -> bool:
        """Whether an earlier run read the same inputs in the same way, and its files are all as they were written."""
        job, stem = outcome.job, self.folder / outcome.job.name
        before = read_dictionary(_page(stem))
        if before is None or not self._fits(before, stem):
            return False
        if job.folder is not None:
            same = unchanged(before)
            if len(same) < len(before.sources) or not {
                os.path.abspath(path) for path in job.inputs
            } <= set(same):
                return False
            if any(map(now_readable, before.texts("problems"))):
                return False
        outcome.state = "skipped"
        outcome.problems, outcome.notes = before.texts("problems"), before.texts("notes")
        outcome.files = [*before.files_within(stem.parent, stem.name), _page(stem)]
        return True

    def _fits(self, before: Recorded, stem: Path) -> bool:
        """Whether a table was made as is asked for now, and is whole."""
        same = all(before.page.get(key) == value for key, value in self._asked().items())
        return same and before.is_whole(stem.parent, self.formats, stem.name)

    # writing

    def _write(
        self, outcome: Outcome, before: Recorded | None, reading: Claim, writing: Claim
    ) -> None:
        """The files of a job; those of many photos again and again, so that being killed costs few of them."""
        stem, job = self.folder / outcome.job.name, outcome.job
        if job.folder is not None and before is not None:
            job = with_earlier(job, before)
        self._refuse_to_replace(job, before)
        done: set[str] = set()
        while True:
            fits = before is not None and self._fits(before, stem)
            earlier = (
                kept(before, done) if before is not None and fits and job.folder is not None else {}
            )
            new = [path for path in job.inputs if path not in earlier]
            # Where a table is replaced, it is whole at once: its rows must not be fewer than they were.
            now = set(new if before is not None and not fits else new[:PHOTOS])
            part = Outcome(
                replace(
                    job, inputs=tuple(path for path in job.inputs if path in earlier or path in now)
                ),
                inputs=len(job.inputs),
            )
            self._put_in_place(part, before, earlier, reading, writing)
            if len(now) == len(new):
                for name in (
                    "job",
                    "files",
                    "rows",
                    "tracks",
                    "frames",
                    "problems",
                    "notes",
                    "media",
                ):
                    setattr(outcome, name, getattr(part, name))
                return
            done |= now
            before = read_dictionary(_page(stem))

    def _put_in_place(
        self,
        outcome: Outcome,
        before: Recorded | None,
        earlier: Mapping[str, Kept],
        reading: Claim,
        writing: Claim,
    ) -> None:
        """All files of a job or of a part of it, the dictionary last."""
        stem = self.folder / outcome.job.name
        rows = finished_rows(stem, self.formats) if earlier else {}
        outcome.notes += column_notes(self._columns(outcome.job), self.reader.options.every)
        if len(outcome.job.inputs) < outcome.inputs:
            outcome.notes.append(
                f"{outcome.job.folder}: {len(outcome.job.inputs)} of {outcome.inputs} photos; run this again for the rest"
            )
        stamps: list[Stamp] = []
        with Transaction() as files:
            with TableWriter(stem, self.formats, self._columns(outcome.job), files) as tables:
                for path in outcome.job.inputs:
                    if photo := earlier.get(path):
                        tables.copy(rows, photo.row, sum(photo.stamp.rows.values()))
                        outcome.keep(photo)
                        stamps.append(photo.stamp)
                    else:
                        stamps.append(self._read(path, tables, files, outcome))
            overlays = [stem.parent / source.overlay for source in stamps if source.overlay]
            results = [*(path for path in files.paths if path not in set(overlays)), *overlays]
            files.write(
                _page(stem),
                dictionary_bytes(
                    self._columns(outcome.job), self._facts(outcome, stem, stamps, results, tables)
                ),
            )
            obsolete = (
                [
                    path
                    for path in before.files_within(stem.parent, stem.name)
                    if path not in results
                ]
                if before
                else []
            )
            reading.check()
            writing.announce(files.paths)
            files.commit(obsolete)
        outcome.files = [*results, _page(stem)]

    def _facts(
        self,
        outcome: Outcome,
        stem: Path,
        stamps: Sequence[Stamp],
        results: Sequence[Path],
        tables: TableWriter,
    ) -> dict[str, Any]:
        """What the dictionary says besides the columns."""
        return self._asked() | {
            "folder": outcome.job.folder,
            "sources": [source.to_json() for source in stamps],
            "files": [_relative(path, stem.parent) for path in results],
            "tables": tables.facts(),
            "rows": {status.value: count for status, count in outcome.rows.items()},
            "problems": outcome.problems,
            "notes": outcome.notes,
            "media": outcome.media,
        }

    def _read(self, path: str, tables: TableWriter, files: Transaction, outcome: Outcome) -> Stamp:
        """Read one input into the tables, and its overlay; of several, one that cannot be read is a row that says so."""
        before, rows = file_fingerprint(path).with_content(), dict(outcome.rows)
        overlay: Path | None = None
        try:
            source = self.reader.open(path)
            overlay = self._overlay(outcome.job, path, source.kind)
            self._read_source(source, tables, overlay, files, outcome)
        except SourceError as error:
            if outcome.job.folder is None:
                raise
            outcome.problems.append(str(error))
            outcome.media.append({})
            overlay = None
            unreadable = [Reading(path, 0, 0.0, Status.unreadable, None, {}, {})]
            tables.write(unreadable)
            outcome.count(unreadable)
        after = file_fingerprint(path)
        if (before.bytes, before.modified) != (after.bytes, after.modified) and before.path:
            raise SourceError(
                f"{path}: changed while it was read; run this again when it is complete"
            )
        counts = {
            status.value: outcome.rows[status] - rows[status]
            for status in Status
            if outcome.rows[status] > rows[status]
        }
        there = overlay if overlay in files.paths else None
        return replace(
            before,
            rows=counts,
            overlay=_relative(there, (self.folder / outcome.job.name).parent) if there else None,
        )

    def _read_source(
        self,
        source: Source,
        tables: TableWriter,
        overlay: Path | None,
        files: Transaction,
        outcome: Outcome,
    ) -> None:
        with ExitStack() as stack:
            drawing = (
                stack.enter_context(Overlay(overlay, source, self.reader.tasks, files))
                if overlay
                else None
            )
            readings = stack.enter_context(closing(self.reader.read(source)))
            try:
                while rows := list(islice(readings, 1 if source.kind == "camera" else ROWS)):
                    tables.write(rows)
                    if drawing:
                        drawing.write(rows)
                    outcome.count(rows)
                    self.progress.advance(outcome.frames, _share(outcome, source, rows[-1].time_s))
            except KeyboardInterrupt:
                if (
                    source.kind != "camera"
                ):  # a camera has no end of its own: stopping it is how a recording is finished
                    raise
        if source.problem:
            outcome.problems.append(f"{source.name}: {source.problem}")
        outcome.notes += [f"{source.name}: {note}" for note in source.notes]
        outcome.media.append(source.media)

    def _columns(self, job: Job) -> tuple[Column, ...]:
        return self.reader.columns(live=job.inputs[0].startswith("camera:"))

    def _overlay(self, job: Job, path: str, kind: str) -> Path | None:
        """Where the overlay of an input goes: beside its table, or for photos of a folder in a folder of the table's name."""
        if not self.overlay:
            return None
        stem = self.folder / job.name
        suffix = DRAWN.get(kind, DRAWN["video"])
        if job.folder is None:
            return stem.with_name(stem.name + suffix)
        self._make_folder(stem)
        return stem / (portable(os.path.basename(path)) + suffix)

    def _refuse_to_replace(self, job: Job, before: Recorded | None) -> None:
        """Raise OutputError where a result would replace an input, or a file that is not known to be an earlier result."""
        stem = self.folder / job.name
        tables = [stem.with_name(f"{stem.name}.{name}") for name in self.formats]
        overlays = (
            [self._overlay(job, path, kind) for path in job.inputs for kind in DRAWN]
            if self.overlay
            else []
        )
        for path in [*tables, *filter(None, overlays)]:
            if path.resolve() in self.originals:
                raise OutputError(
                    f"{path}: is an input that the results of {job.name} would replace; choose another folder"
                )
        for path in tables:
            if before is None and os.path.lexists(path):
                raise OutputError(
                    f"{path}: no dictionary beside it says whose rows it holds; move it away or choose another folder"
                )


def _page(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.dictionary.json")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


@contextmanager
def _foreseen(source: str) -> Iterator[None]:
    """Turn what the system may refuse anywhere into one line."""
    try:
        yield
    except MemoryError as error:  # pyarrow's is one too
        raise OutputError(
            f"{source}: there was not enough memory; close other programs, or read it on a larger machine"
        ) from error
    except OSError as error:
        why = error.strerror or str(error).partition("\n")[0]
        raise OutputError(
            f"{error.filename or source}: {why}; check the file, its folder and the disk"
        ) from error


def _share(outcome: Outcome, source: Source, time_s: float) -> float | None:
    """How much of a job is done: of a video by time, of pictures by number."""
    if outcome.job.folder is not None:
        return outcome.frames / max(outcome.inputs, len(outcome.job.inputs))
    return time_s / source.length_s if source.length_s else None

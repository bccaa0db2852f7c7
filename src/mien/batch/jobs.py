"""One job, from its inputs to its files: who may write them, and whether they exist already."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from mien.batch.inputs import Job
from mien.batch.names import NameRegistry, compare_record, free_name, recorded_name
from mien.batch.outcome import Outcome, Progress
from mien.batch.photo_shards import LOST_READER
from mien.batch.photos import unchanged_photos
from mien.batch.target import Target, dictionary_path
from mien.batch.writing import JobWriter
from mien.errors import MienError, OutputError
from mien.outputs.claims import Claim, ClaimedError
from mien.outputs.recorded import read_dictionary
from mien.remote.address import absolute
from mien.sources.still.heif import now_readable

__all__ = ["Work"]

# How often a job looks for another name when other runs keep taking the one it found.
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Work:
    """Does the jobs of a run.

    Attributes:
        target: What the run writes, and where.
        progress: Hears how the jobs are getting on.
        originals: The inputs of all jobs, which no result may replace.
        names: Which names belong to which input.
    """

    target: Target
    progress: Progress
    originals: frozenset[str]
    names: NameRegistry

    def do(self, job: Job) -> Outcome:
        """Do one job; only bugs and interrupts are raised.

        Args:
            job: The job.

        Returns:
            What became of it.
        """
        outcome = Outcome(job)
        started = time.monotonic()
        try:
            with _system_errors_explained(job.source):
                self._do(outcome)
        except ClaimedError as error:
            outcome.state, outcome.left_to = "left", str(error)
        except MienError as error:
            outcome.state = "failed"
            outcome.problems.append(str(error))
        store = self.target.store
        outcome.left_to = store.named(outcome.left_to)
        outcome.problems = [store.named(problem) for problem in outcome.problems]
        outcome.notes = [store.named(note) for note in outcome.notes]
        outcome.seconds = time.monotonic() - started
        return outcome

    def _do(self, outcome: Outcome) -> None:
        job = outcome.job
        # Without a claim first: most jobs of a run that is repeated need none.
        if self._is_own_name(job) and self._was_done(outcome):
            return
        # A run that was given other inputs may have planned another name for this one, so the input
        # is claimed as well: one run at a time looks for its name.
        store = self.target.store
        shown = str(self.target.folder / job.name)
        with store.claim(f"input-{job.key}", job.source, shown) as reading:
            registry = NameRegistry(self.target.folder, listed=False, look=store.look)
            name = recorded_name(job, registry)
            if name:
                outcome.job = replace(job, name=name)
            self._do_claimed(outcome, reading)

    def _do_claimed(self, outcome: Outcome, reading: Claim) -> None:
        """Do a job whose input no other run reads into this folder."""
        for _ in range(_TRIES):
            job = outcome.job
            if not self._is_own_name(job):
                self._rename(outcome)
                continue
            if self._was_done(outcome):
                return
            self.target.make_folder((self.target.folder / job.name).parent)
            try:
                with self.target.store.claim(job.name, job.source) as writing:
                    # Looked at again, now that no other run can change it.
                    if self._is_own_name(job):
                        if not self._was_done(outcome):
                            self._write(outcome, reading, writing)
                        return
            except ClaimedError as error:
                if error.holder is None or error.holder.source == job.source:
                    raise
                self.names.reserve(job.name, error.holder.source)
                self._rename(outcome)
        raise OutputError(
            f"{self.target.folder / outcome.job.name}: other runs keep taking the names of its "
            "table; run this again"
        )

    def _write(self, outcome: Outcome, reading: Claim, writing: Claim) -> None:
        # Read again under the claim: until then another run may have replaced it.
        writer = JobWriter(self.target, self.progress, self.originals, reading, writing)
        stem = self.target.folder / outcome.job.name
        writer.write(outcome, read_dictionary(dictionary_path(stem)))

    def _is_own_name(self, job: Job) -> bool:
        """Whether the job's name is free or belongs to its input.

        Raises:
            OutputError: It belongs to other content at the same path.
        """
        path = dictionary_path(self.target.folder / job.name)
        self.target.store.look(job.name)
        record = read_dictionary(path)
        if record is None:
            return True
        match = compare_record(job, record)
        if match == "changed":
            former = "what was read from another content of"
            if job.folder:
                former = "the photos that were in"
            raise OutputError(
                f"{path}: is about another input, {former} {job.source}; move it and its table "
                "away to read this one, or choose another folder"
            )
        return match == "same"

    def _rename(self, outcome: Outcome) -> None:
        """Give the job the next name that belongs to no other input."""
        # Another run has written a table since the folder was listed.
        self.names.refresh()
        outcome.job = replace(outcome.job, name=free_name(outcome.job, self.names))
        self.names.reserve(outcome.job.name, outcome.job.source)

    def _was_done(self, outcome: Outcome) -> bool:
        """Whether an earlier run read the same inputs in the same way, and its files are intact."""
        job = outcome.job
        stem = self.target.folder / job.name
        record = read_dictionary(dictionary_path(stem))
        if record is None or not self.target.is_current(record, stem):
            return False
        # Of a single input the name is its own, so it is the same; of a folder each photo counts.
        if job.folder is not None:
            unchanged = set(unchanged_photos(record))
            inputs = {absolute(path) for path in job.inputs}
            if len(unchanged) < len(record.sources) or not inputs <= unchanged:
                return False
            # HEIC photos that failed for lack of a decoder are read once it is installed, and
            # photos whose process was killed are tried again.
            for problem in record.texts("problems"):
                if now_readable(problem) or LOST_READER in problem:
                    return False
        outcome.state = "skipped"
        outcome.problems, outcome.notes = record.texts("problems"), record.texts("notes")
        files = [*record.files_within(stem.parent, stem.name), dictionary_path(stem)]
        outcome.files = [self.target.store.result(path) for path in files]
        return True


@contextmanager
def _system_errors_explained(source: str) -> Iterator[None]:
    """Turn errors of the system, which may come from anywhere, into one line."""
    try:
        yield
    except MemoryError as error:  # pyarrow's is one too
        raise OutputError(
            f"{source}: there was not enough memory; close other programs, or read it on a larger "
            "machine"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise OutputError(
            f"{error.filename or source}: {reason}; check the file, its folder and the disk"
        ) from error

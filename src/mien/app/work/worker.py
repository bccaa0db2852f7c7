"""The process that does a job: `mien.batch.run`, which tells how far it is, and can be paused.

A process of its own, so that a job can be cancelled at once, and a decoder that crashes ends the
job and not the server. It ends with the server, however that ends.
"""

import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from mien import batch
from mien.app.work.presets import ReadingOptions
from mien.batch.outcome import Outcome
from mien.batch.target import dictionary_path
from mien.errors import MienError
from mien.outputs.recorded import read_dictionary
from mien.outputs.tables import table_path
from mien.processes import serve
from mien.progress import STOP_REQUESTED
from mien.sources import open_source

__all__ = ["FORMAT", "PAUSE", "RESUME", "Assignment", "JobProgress", "Planned", "work"]

FORMAT: Final = "parquet"
"""The format of all tables of a workspace."""
PAUSE: Final = "pause"
RESUME: Final = "resume"
# Time between two messages on how far the job is, s.
_TELL_S: Final = 0.2
# A server that was killed a moment ago may still have a process that holds an input.
_TRIES: Final = 8
_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a process is to do.

    Attributes:
        inputs: Paths.
        options: How they are read.
        out: The folder for tables.
    """

    inputs: list[str]
    options: dict[str, Any]
    out: Path


@dataclass(frozen=True, slots=True)
class Planned:
    """What a job reads.

    Attributes:
        inputs: Paths of films and photos, also of those that it finds in folders.
    """

    inputs: list[str]


@dataclass(slots=True)
class JobProgress:
    """How far a job is, as its process tells.

    Attributes:
        done: Tables and inputs that have ended, well or not.
        total: How many there are.
        seconds_done: Seconds of film that are read.
        seconds_total: How many there are; None where not all inputs are films.
        rows: Rows of the tables so far.
        tables: The tables that are there.
        problems: A line for each input that failed or is damaged.
        eta_s: How long it will still take, s; None where that is unknown.
        has_ended: Whether that is all.
    """

    done: int = 0
    total: int = 0
    seconds_done: float = 0.0
    seconds_total: float | None = None
    rows: int = 0
    tables: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    eta_s: float | None = None
    has_ended: bool = False


def work(connection: Connection) -> None:
    """Do jobs, and tell of them.

    Args:
        connection: Gives each `Assignment`, and `PAUSE` and `RESUME` in between; takes what is
            `Planned`, a `JobProgress` now and then, and one that says so at the end of each.
    """
    # Ctrl-C reaches all processes of a terminal; the server ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(partial(_do_all, connection), ("SIGTERM",))


def _do_all(connection: Connection) -> None:
    while True:
        assignment = connection.recv()
        # A word to a job that had just ended is of no interest any more.
        if isinstance(assignment, Assignment):
            _do(assignment, connection)


def _do(assignment: Assignment, connection: Connection) -> None:
    sender = _ProgressSender(connection, assignment.out)
    try:
        _run(assignment, sender)
    except MienError as error:
        sender.fail(str(error))
    except Exception as error:
        traceback.print_exc()
        sender.fail(f"a mistake in mien itself ({type(error).__name__}: {error}); please report it")
    sender.tell(has_ended=True)


def _run(assignment: Assignment, sender: "_ProgressSender") -> None:
    options = ReadingOptions.model_validate(assignment.options).options()
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_RETRY_S)
            sender.begin_again()
        outcomes = batch.run(
            assignment.inputs,
            assignment.out,
            options=options,
            formats=(FORMAT,),
            progress=sender,
        )
        left = [outcome for outcome in outcomes if outcome.state == "left"]
        if not left:
            return
    for outcome in left:
        sender.fail(outcome.left_to)


class _ProgressSender(batch.Progress):
    """Adds up how far a job is, and tells the server a few times a second.

    Args:
        connection: The way to the server.
        out: The folder for tables.
    """

    def __init__(self, connection: Connection, out: Path) -> None:
        self._connection = connection
        self._out = out
        self._due_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._progress = JobProgress()
        # Seconds by the key of a job; None where it is no film.
        self._lengths: dict[str, float | None] = {}
        self._seconds_ended = 0.0
        self._began_s = time.monotonic()
        # Work that was read in this run, and how much of all work is over, both in shares of it.
        self._read = 0.0
        self._over = 0.0
        self._current: batch.Job | None = None
        self._share = 0.0

    def begin_again(self) -> None:
        """The same job is done once more; what is there is found."""
        self._reset()

    def plan(self, plan: batch.Plan) -> None:
        """The run is about to begin.

        Args:
            plan: The jobs of the run, and the inputs that failed already.
        """
        self._progress.total = len(plan.jobs) + len(plan.failures)
        for job in plan.jobs:
            self._lengths[job.key] = _length_of(job)
        lengths = list(self._lengths.values())
        if lengths and None not in lengths:
            self._progress.seconds_total = sum(length or 0.0 for length in lengths)
        self._began_s = time.monotonic()
        inputs = [path for job in plan.jobs for path in job.inputs]
        self._connection.send(Planned(inputs + [path for path, _problem in plan.failures]))
        self.tell()

    def begin(self, job: batch.Job, number: int, count: int) -> None:
        """A job begins.

        Args:
            job: The job.
            number: Its number, from 1.
            count: How many jobs there are.
        """
        self._current, self._share = job, 0.0

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come this far.

        Args:
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.

        Raises:
            KeyboardInterrupt: When the process has been told to end, or the server has ended.
        """
        # Libraries may have swallowed the one of the signal's handler.
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        self._share = share or 0.0
        try:
            self._wait_while_paused()
            now = time.monotonic()
            if now >= self._due_s:
                self._due_s = now + _TELL_S
                self.tell()
        except (EOFError, OSError):
            # The server has ended, which is no failure of the input.
            raise KeyboardInterrupt from None

    def _wait_while_paused(self) -> None:
        """Hold the reading where it is, with all that is in memory."""
        is_paused = False
        while is_paused or self._connection.poll():
            asked_s = time.monotonic()
            is_paused = self._connection.recv() == PAUSE
            # As if the time in between had not been.
            self._began_s += time.monotonic() - asked_s

    def end(self, outcome: Outcome) -> None:
        """A job has ended.

        Args:
            outcome: What became of it.
        """
        self._current, self._share = None, 0.0
        if outcome.state == "left":
            # It is tried again.
            return
        progress = self._progress
        key = outcome.job.key
        weight = self._weight(key)
        self._over += weight
        if outcome.state == "done":
            self._read += weight
        self._seconds_ended += self._lengths.get(key) or 0.0
        progress.done += 1
        if outcome.state != "failed":
            progress.tables.append(table_path(self._out / outcome.job.name, FORMAT))
            progress.rows += self._rows_of(outcome)
        progress.problems += outcome.problems
        with suppress(OSError):
            self.tell()

    def _weight(self, key: str) -> float:
        """The share of an input in the work of all."""
        total = self._progress.seconds_total
        if total:
            return (self._lengths.get(key) or 0.0) / total
        return 1 / max(self._progress.total, 1)

    def _rows_of(self, outcome: Outcome) -> int:
        if outcome.state == "done":
            return sum(outcome.rows.values())
        # Of what an earlier run finished, the dictionary tells.
        record = read_dictionary(dictionary_path(self._out / outcome.job.name))
        rows = 0
        for stamp in record.sources if record else ():
            rows += sum(stamp.rows.values())
        return rows

    def fail(self, problem: str) -> None:
        """The whole job has failed.

        Args:
            problem: Why, in one line.
        """
        self._progress.problems.append(problem)

    def tell(self, has_ended: bool = False) -> None:
        """Tell the server.

        Args:
            has_ended: Whether that is all.

        Raises:
            OSError: The server has ended.
        """
        progress = self._progress
        progress.has_ended = has_ended
        progress.seconds_done = self._seconds_ended
        part = 0.0
        if self._current is not None:
            key = self._current.key
            progress.seconds_done += self._share * (self._lengths.get(key) or 0.0)
            part = self._share * self._weight(key)
        left = max(1 - self._over - part, 0.0)
        read = self._read + part
        passed_s = time.monotonic() - self._began_s
        progress.eta_s = round(left / read * passed_s, 1) if read > 0 else None
        self._connection.send(progress)


def _length_of(job: batch.Job) -> float | None:
    """The seconds of a job's film; None for photos, and where it cannot be known."""
    if job.folder is not None:
        return None
    try:
        source = open_source(job.inputs[0])
    except MienError:
        # Reading it says what is wrong; it takes no time.
        return 0.0
    return source.length_s

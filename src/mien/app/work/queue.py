"""The queue of analyses: one job at a time, in a process of its own, and kept in a file.

Whatever happens to the server, nothing is lost: the file has every job, tables are complete or
absent, and a job that begins anew finds the tables that it has already made.
"""

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import RLock, Thread
from typing import Final

from pydantic import BaseModel, ValidationError

from mien.app.errors import ConflictError, InvalidError, NotFoundError
from mien.app.recordings.identity import recording_id
from mien.app.work.events import RECORDINGS, Events
from mien.app.work.jobs import ENDED, Job, State
from mien.app.work.worker import PAUSE, RESUME, Assignment, JobProgress, Planned, work
from mien.app.work.workspace import Workspace
from mien.errors import OutputError
from mien.files import atomic_write, wrap_os_errors
from mien.outputs.claims import sweep
from mien.processes import PATIENCE_S

__all__ = ["JOB", "JOBS", "Queue"]

JOB: Final = "job"
"""The name of the event that a job has changed; its data is the job."""
JOBS: Final = "jobs"
"""The name of the event that a job was removed."""
# From which states a request leads where.
_STEPS: Final[dict[str, tuple[frozenset[State], State]]] = {
    "pause": (frozenset({"waiting", "running"}), "paused"),
    "resume": (frozenset({"paused"}), "waiting"),
    "cancel": (frozenset({"waiting", "running", "paused"}), "cancelled"),
    # Also of a job that is done, of which some inputs may have failed.
    "retry": (frozenset({"done", "failed", "cancelled"}), "waiting"),
}


class _File(BaseModel):
    """What the queue's file holds.

    Attributes:
        queue: The version of its form.
        jobs: The jobs, in order.
    """

    queue: int = 1
    jobs: list[Job] = []


@dataclass(slots=True, eq=False)
class _Child:
    """A process that does jobs, as the server sees it."""

    process: SpawnProcess
    connection: Connection
    # The job it does; None while it waits for one.
    job_id: str | None = None
    # It has been told to end.
    is_ending: bool = False

    def end(self) -> None:
        self.is_ending = True
        self.process.terminate()

    def tell(self, word: object) -> None:
        # One that has just ended does not hear it, which is noticed elsewhere.
        with suppress(OSError):
            self.connection.send(word)


class Queue:
    """Does jobs one after another; any thread may use it.

    Args:
        workspace: Where films come from, and tables go.
        events: Hears of each job that changes.
        when_read: Is called with each file that an ended job has read, or should have, and no
            other job waits for; such as to delete what was uploaded.

    Raises:
        InvalidError: The workspace's file of the queue cannot be read.
    """

    def __init__(
        self,
        workspace: Workspace,
        events: Events,
        when_read: Callable[[Path], object] | None = None,
    ) -> None:
        self._workspace = workspace
        self._events = events
        self._when_read = when_read
        # What the jobs read, by their ids, where folders among their inputs are of interest.
        self._plans: dict[str, list[str]] = {}
        # A fork would copy locks that threads of this process hold.
        self._context = multiprocessing.get_context("spawn")
        self._lock = RLock()
        self._jobs = self._load()
        self._children: list[_Child] = []
        self._is_open = False

    def _load(self) -> dict[str, Job]:
        path = self._workspace.queue
        try:
            with wrap_os_errors(path):
                file = _File.model_validate_json(path.read_bytes()) if path.exists() else _File()
        except ValidationError as error:
            raise InvalidError(
                f"{path}: is no queue that this version of mien wrote, or damaged; move it "
                "away, and begin with an empty one"
            ) from error
        for job in file.jobs:
            # The server was ended while it was being read.
            if job.state == "running":
                job.state = "waiting"
        return {job.id: job for job in file.jobs}

    def _save(self) -> None:
        file = _File(jobs=list(self._jobs.values()))
        atomic_write(self._workspace.queue, file.model_dump_json(indent=1).encode())

    def open(self) -> None:
        """Begin with the first job that waits."""
        # What processes of a server that was killed have left behind.
        sweep(self._workspace.results)
        with self._lock:
            self._is_open = True
            self._start_next()

    def close(self) -> None:
        """End what is being read; it goes on when the queue is opened again."""
        with self._lock:
            self._is_open = False
            children = list(self._children)
        for child in children:
            child.end()
        for child in children:
            _join(child.process)

    def jobs(self) -> list[Job]:
        """All jobs, in order.

        Returns:
            Copies of them.
        """
        with self._lock:
            return [job.model_copy(deep=True) for job in self._jobs.values()]

    def add(self, job: Job) -> Job:
        """Put a job at the end of the queue.

        Args:
            job: The job.

        Returns:
            A copy of it as it is now.

        Raises:
            OutputError: The queue's file cannot be written.
        """
        with self._lock:
            self._jobs[job.id] = job
            try:
                self._save()
            except OutputError:
                # Whoever asked is told; a job that a restart would lose is not begun.
                del self._jobs[job.id]
                raise
            self._events.publish(JOB, job)
            self._start_next()
            return job.model_copy(deep=True)

    def step(self, job_id: str, name: str) -> Job:
        """Pause, resume, cancel or retry a job.

        Args:
            job_id: The job.
            name: ``pause``, ``resume``, ``cancel`` or ``retry``.

        Returns:
            A copy of it as it is now.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It is in a state in which that makes no sense.
        """
        sources, target = _STEPS[name]
        with self._lock:
            job = self._job(job_id)
            if job.state not in sources:
                raise ConflictError(
                    f"job {job_id}: is {job.state}, so there is nothing to {name}; load the queue "
                    "again"
                )
            child = self._child_of(job_id)
            if name == "retry":
                if child is not None:
                    raise ConflictError(f"job {job_id}: is still ending; try again in a moment")
                job.reset()
            job.state = target
            job.eta_s = None
            if child is not None and name == "cancel":
                child.end()
            elif child is not None and name == "pause":
                child.tell(PAUSE)
            self._changed(job)
            if name == "cancel":
                self._ended(job)
            self._start_next()
            return job.model_copy(deep=True)

    def remove(self, job_id: str) -> None:
        """Take a job off the queue; its tables stay.

        Args:
            job_id: The job; one that is being read is ended.

        Raises:
            NotFoundError: There is no such job.
        """
        with self._lock:
            job = self._job(job_id)
            if job.state not in ENDED:
                self.step(job_id, "cancel")
            del self._jobs[job_id]
            with suppress(OutputError):
                self._save()
        self._events.publish(JOBS)

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise NotFoundError(f"there is no job {job_id}; load the queue again")
        return self._jobs[job_id]

    def _child_of(self, job_id: str | None) -> _Child | None:
        """The process that does a job; of None, one that waits for one."""
        for child in self._children:
            if child.job_id == job_id and not (job_id is None and child.is_ending):
                return child
        return None

    def _changed(self, job: Job) -> None:
        # A full disk does not end what goes on; the next change is kept again.
        with suppress(OutputError):
            self._save()
        self._events.publish(JOB, job)

    def _start_next(self) -> None:
        """Begin the first job that waits, or go on with it, unless one is being read."""
        if not self._is_open:
            return
        for child in self._children:
            job = self._jobs.get(child.job_id or "")
            # Also one whose process has been told to end: the next may need the same input.
            is_held = job is not None and job.state in ("paused", "waiting")
            if child.job_id is not None and not is_held:
                return
        for job in self._jobs.values():
            if job.state == "waiting":
                self._start(job)
                return

    def _start(self, job: Job) -> None:
        child = self._child_of(job.id)
        if child is not None:
            # It waits where it was paused.
            child.tell(RESUME)
        else:
            job.reset()
            # Networks are loaded already in a process that has done a job before.
            child = self._child_of(None) or self._new_child()
            child.job_id = job.id
            child.tell(Assignment(job.inputs, job.options, self._workspace.results))
        job.state = "running"
        self._changed(job)

    def _new_child(self) -> _Child:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs,), name="mien-jobs", daemon=True)
        process.start()
        # Else the end of the process would not be the end of the connection.
        theirs.close()
        child = _Child(process, mine)
        self._children.append(child)
        Thread(target=self._hear, args=(child,), name="mien-jobs-heard", daemon=True).start()
        return child

    def _hear(self, child: _Child) -> None:
        """Follow a process until it has ended."""
        while True:
            try:
                news: Planned | JobProgress = child.connection.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                if isinstance(news, Planned):
                    self._take_plan(child, news)
                else:
                    self._follow(child, news)
        _join(child.process)
        child.connection.close()
        with self._lock:
            self._children.remove(child)
            job = self._jobs.get(child.job_id or "")
            # A job that a closing server ended is still running, as far as its file says.
            if self._is_open and job is not None and job.state not in ENDED:
                job.state = "failed"
                lines = [job.problem] if job.problem else []
                lines.append(_how_it_ended(job, child.process.exitcode))
                self._conclude(job, "\n".join(lines))
            sweep(self._workspace.results)
            self._start_next()

    def _take_plan(self, child: _Child, plan: Planned) -> None:
        job = self._jobs.get(child.job_id or "")
        if job is not None and job.state not in ENDED and self._when_read is not None:
            self._plans[job.id] = plan.inputs

    def _follow(self, child: _Child, progress: JobProgress) -> None:
        """Take over what a process has told."""
        job = self._jobs.get(child.job_id or "")
        # One that was cancelled may tell a last word.
        if job is not None and job.state not in ENDED:
            self._take_over(job, progress)
        if progress.has_ended and not child.is_ending:
            if self._child_of(None) is not None:
                # A job was done while another was paused; one process is enough to wait.
                child.end()
            child.job_id = None
            self._start_next()

    def _take_over(self, job: Job, progress: JobProgress) -> None:
        root = self._workspace.root
        made = [recording_id(root, table) for table in progress.tables]
        is_new = made != job.recordings
        has_more = progress.done != job.done
        job.done, job.total, job.rows = progress.done, progress.total, progress.rows
        job.seconds_done = round(progress.seconds_done, 2)
        job.seconds_total = progress.seconds_total
        job.eta_s = progress.eta_s if job.state == "running" else None
        job.problem = "\n".join(progress.problems) or None
        job.recordings = made
        if is_new:
            self._events.publish(RECORDINGS)
        if progress.has_ended:
            job.state = "done" if job.recordings else "failed"
            self._conclude(job, job.problem)
        elif has_more:
            self._changed(job)
        else:
            self._events.publish(JOB, job)

    def _conclude(self, job: Job, problem: str | None) -> None:
        """Tell of a job that has ended."""
        job.eta_s = None
        job.problem = problem
        self._changed(job)
        self._ended(job)

    def _ended(self, job: Job) -> None:
        if self._when_read is None:
            return
        read = {*job.inputs, *self._plans.pop(job.id, ())}
        needed: set[str] = set()
        for other in self._jobs.values():
            if other.state not in ENDED:
                needed |= {*other.inputs, *self._plans.get(other.id, ())}
        for path in map(Path, sorted(read - needed)):
            # A folder that waits has not been looked into yet.
            if str(path.parent) not in needed:
                self._when_read(path)


def _join(process: SpawnProcess) -> None:
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _how_it_ended(job: Job, code: int | None) -> str:
    how = f"ended by itself (exit code {code})"
    if code is not None and code < 0:
        how = f"was killed (signal {-code}), perhaps for lack of memory"
    return f"{job.name}: the process that read it {how}; retry goes on with what is not done"

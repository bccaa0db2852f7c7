"""Processes that stay up and read one input after another, each with networks of its own.

Which process has which input is known at any time. One that is killed costs that input, which is
named, and another process takes its place.
"""

import multiprocessing
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Final, Self

import cv2

from mien.batch.assignment import Settings, do_job
from mien.batch.inputs import Job
from mien.batch.outcome import Progress
from mien.batch.photo_shards import Photos, read_photos
from mien.batch.stores.remote_store import open_store
from mien.batch.target import Target
from mien.errors import OutputError
from mien.files import LOST_WORKER
from mien.processes import PATIENCE_S, children_ignore_interrupts, serve
from mien.progress import STOP_REQUESTED

__all__ = ["Hear", "Lost", "Pool", "Request"]

Request = Job | Photos
"""What a process can be asked for: a whole job, or the readings of a few photos."""
Hear = Callable[[Job, int, float | None], None]
"""Hears of a job how many frames were read, and the share of the work that is done."""

# Time between two messages of a process on how far it is, s.
_TELL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Lost:
    """The answer of a process that ended before it had one.

    Attributes:
        how: How it ended, in words.
    """

    how: str


@dataclass(slots=True)
class _Worker:
    """A process as its parent sees it."""

    process: SpawnProcess
    connection: Connection
    # It has loaded its networks.
    is_ready: bool = False
    request: Request | None = None


class Pool:
    """Processes that answer requests; a context manager, which ends them.

    Args:
        settings: What all jobs of the run share.
        count: How many processes.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.count = count
        self._settings = settings
        # A fork would copy locks that threads of this process hold.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self.count):
                self._workers.append(self._start())
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(at_once=kind is not None)

    def next(self, waiting: deque[Request], hear: Hear | None = None) -> tuple[Request, Any]:
        """Hand out requests, and wait for one answer.

        Args:
            waiting: The requests that no process has yet, the next one first; some are taken off.
            hear: Hears meanwhile how far jobs are.

        Returns:
            A request and its answer, `Lost` where its process ended.

        Raises:
            OutputError: A process ended before it could take any request.
        """
        while True:
            self._hand_out(waiting)
            by_connection = {worker.connection: worker for worker in self._workers}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]  # type: ignore[index]
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    kind, value = "lost", None
                request = worker.request
                if kind == "ready":
                    worker.is_ready = True
                elif kind == "advance" and hear and isinstance(request, Job):
                    hear(request, *value)
                elif kind == "answer" and request is not None:
                    worker.request = None
                    return request, value
                elif kind == "lost":
                    how = self._replace(worker)
                    if request is not None:
                        return request, Lost(how)

    def _hand_out(self, waiting: deque[Request]) -> None:
        for worker in self._workers:
            if worker.is_ready and worker.request is None and waiting:
                # One that has died meanwhile does not take it; its end is noticed next.
                with suppress(OSError):
                    worker.connection.send(waiting[0])
                    worker.request = waiting.popleft()

    def _start(self) -> _Worker:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._settings), name="mien-reader", daemon=True
        )
        with children_ignore_interrupts():
            process.start()
        # Else the end of the process would not be the end of the connection.
        theirs.close()
        return _Worker(process, mine)

    def _replace(self, worker: _Worker) -> str:
        """Start another process in place of one that has ended; gives how it ended, in words."""
        worker.connection.close()
        worker.process.join(PATIENCE_S)
        if not worker.is_ready:
            # The next one would end as well.
            raise OutputError(LOST_WORKER)
        self._workers[self._workers.index(worker)] = self._start()
        code = worker.process.exitcode
        if code is not None and code < 0:
            return f"was killed (signal {-code}), perhaps for lack of memory"
        return f"ended by itself (exit code {code})"

    def _end(self, at_once: bool) -> None:
        """End all processes; `at_once` those that are busy as well, which clean up after them."""
        for worker in self._workers:
            worker.connection.close()
            if at_once:
                worker.process.terminate()
        deadline = time.monotonic() + PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


class _Teller(Progress):
    """Tells the parent how far a job is, a few times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._due_s = 0.0

    def advance(self, frames: int, share: float | None) -> None:
        """The job has come this far.

        Args:
            frames: Frames read so far.
            share: The share of the job's work that is done, 0..1, where it is known.

        Raises:
            KeyboardInterrupt: When the process has been told to end, or its parent has ended.
        """
        # Libraries may have swallowed the one of the signal's handler.
        if STOP_REQUESTED.is_set():
            raise KeyboardInterrupt
        now = time.monotonic()
        if now >= self._due_s:
            self._due_s = now + _TELL_S
            try:
                self._connection.send(("advance", (frames, share)))
            except OSError:
                # The parent has ended, which is no failure of the input.
                raise KeyboardInterrupt from None


def _serve(connection: Connection, settings: Settings) -> None:
    """What a process does: answer requests until the connection is closed."""
    # There is a process for every core.
    cv2.setNumThreads(1)
    serve(partial(_answer_all, connection, settings), ("SIGTERM", "SIGHUP"))


def _answer_all(connection: Connection, settings: Settings) -> None:
    with open_store(settings.folder) as store:
        target = settings.open(store)
        connection.send(("ready", None))
        while True:
            request = connection.recv()
            connection.send(("answer", _answer(request, settings, target, connection)))


def _answer(request: Request, settings: Settings, target: Target, connection: Connection) -> Any:
    if isinstance(request, Job):
        return do_job(request, settings, target, _Teller(connection))
    return read_photos(request, target.reader)

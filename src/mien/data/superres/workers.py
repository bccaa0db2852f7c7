"""The processes that super-resolve: each has its own network, and writes what it makes."""

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import cv2
from PIL import Image as Pillow

from mien.data.images import read_picture
from mien.data.superres.manifest import Fingerprint
from mien.data.superres.upscale import Engine, Image, upscaler
from mien.errors import DataError, OutputError
from mien.files import LOST_WORKER, atomic_write
from mien.processes import children_ignore_interrupts, end_with_parent
from mien.progress import ItemProgress

__all__ = ["QUALITY", "Job", "work"]


QUALITY: Final = 95
"""Of the JPEGs."""
# Longest side that a JPEG can hold, px.
_LONGEST: Final = 65_500


@dataclass(frozen=True, slots=True)
class Job:
    """One picture.

    Attributes:
        name: Its path below the source, with slashes.
        source: Its whole path.
        target: The file to write.
        fingerprint: Of the source when the job was made.
    """

    name: str
    source: str
    target: Path
    fingerprint: Fingerprint


def work(
    jobs: Sequence[Job],
    take: Callable[[Job, int | str], None],
    progress: ItemProgress | None,
    *,
    engine: Engine,
    scale: int,
    count: int,
) -> None:
    """Do all jobs in several processes.

    When `take` or `progress` raises, or a KeyboardInterrupt comes, the jobs in hand stop at their
    next tile; those that end first are still taken.

    Args:
        jobs: The pictures.
        take: Called in this process with every job as it ends, and the size in bytes of the file
            made, or why the picture cannot be read.
        progress: Called in this process with jobs taken and all jobs.
        engine: Where each process gets its network.
        scale: As of `upscaler`.
        count: Number of processes.

    Raises:
        OutputError: Where a file cannot be written, or a process died.
        ValueError: For the scale. What the engine raises is raised too.
    """
    # A fork would copy locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(count, context, _start, (engine, scale, stop))
    waiting = iter(jobs)
    running: dict[Future[int | str], Job] = {}
    taken = 0

    def fill() -> None:
        # Two jobs a process: no process waits, and few are in hand when it all has to stop.
        for job in islice(waiting, 2 * count - len(running)):
            running[pool.submit(_make, job)] = job

    try:
        # The first jobs start the processes.
        with children_ignore_interrupts():
            fill()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                take(running.pop(future), future.result())
                taken += 1
                if progress:
                    progress(taken, len(jobs))
            fill()
    except BrokenProcessPool as error:
        raise OutputError(LOST_WORKER) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        _take_finished(running, take)


def _take_finished(
    running: Mapping[Future[int | str], Job], take: Callable[[Job, int | str], None]
) -> None:
    """Take the jobs in hand that made their file before they were told to stop."""
    for future, job in running.items():
        # Asking a job that failed for its result would hide the error that ended the work.
        if future.cancelled() or future.exception():
            continue
        result = future.result()
        if isinstance(result, int):
            take(job, result)


@dataclass(slots=True)
class _Worker:
    """What a worker process holds."""

    engine: Engine
    scale: int
    stop: Event
    upscale: Callable[[Image], Image] | None = None

    def make(self, job: Job) -> int | str:
        """Write one picture; returns its size in bytes, or why it cannot be made."""
        try:
            image = read_picture(job.source)
        except DataError as error:
            return str(error)
        height, width = image.shape[:2]
        if max(height, width) * self.scale > _LONGEST:
            return (
                f"{job.source}: {self.scale} times {width}x{height} px is more than a JPEG can "
                "hold; make it smaller"
            )
        # Not when the process starts: what is raised there is lost.
        if self.upscale is None:
            self.upscale = upscaler(self.engine, self.scale, before_tile=self._check_stop)
        content = BytesIO()
        picture = Pillow.fromarray(self.upscale(image))
        picture.save(content, "JPEG", quality=QUALITY, subsampling=0)
        atomic_write(job.target, content.getvalue())
        return len(content.getvalue())

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise InterruptedError("stopped")


_worker: _Worker | None = None


def _start(engine: Engine, scale: int, stop: Event) -> None:
    global _worker  # noqa: PLW0603  # a process has one network, for all the pictures it gets
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There is a process for every core.
    cv2.setNumThreads(1)
    end_with_parent()
    _worker = _Worker(engine, scale, stop)


def _make(job: Job) -> int | str:
    assert _worker is not None
    return _worker.make(job)

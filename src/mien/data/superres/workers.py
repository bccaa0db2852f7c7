"""The processes that super-resolve: each has its own network, and writes what it makes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import cv2
from PIL import Image as Pillow

from mien.data.images import read_picture
from mien.data.superres.manifest import Stamp
from mien.data.superres.upscale import Engine, Image, upscaler
from mien.errors import DataError, OutputError
from mien.files import LOST_WORKER, atomic_write

__all__ = ["QUALITY", "Job", "Progress", "work"]

Progress = Callable[[int, int], None]

QUALITY: Final = 95
"""Of the JPEGs."""
_LONGEST: Final = 65_500  # px, what a JPEG can hold


@dataclass(frozen=True, slots=True)
class Job:
    """One picture; `name` is its path below the source, with slashes; `stamp` is of the source when the job was made."""

    name: str
    source: str
    target: Path
    stamp: Stamp


def work(
    jobs: Sequence[Job],
    take: Callable[[Job, int | str], None],
    progress: Progress | None,
    *,
    engine: Engine,
    scale: int,
    count: int,
) -> None:
    """Do all jobs in `count` processes.

    take: called here with every job as it ends, and the size in bytes of the file made, or why the picture cannot be read.
    progress: called here with jobs taken and all jobs.
    When one of them raises, or a KeyboardInterrupt comes, the jobs in hand stop at their next tile; those that end first are still taken.
    Raises OutputError, also for a process that died, ValueError for the scale, and what the engine raises.
    """
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork would copy locks that threads of this process hold
    stop = context.Event()
    pool = ProcessPoolExecutor(count, context, _start, (engine, scale, stop))
    left, taken = iter(jobs), 0
    running: dict[Future[int | str], Job] = {}
    try:
        with _interrupts_are_ours():  # the first jobs start the processes
            running |= {pool.submit(_make, job): job for job in islice(left, 2 * count)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                take(running.pop(future), future.result())
                taken += 1
                if progress:
                    progress(taken, len(jobs))
            running |= {
                pool.submit(_make, job): job for job in islice(left, 2 * count - len(running))
            }
    except BrokenProcessPool as error:
        raise OutputError(LOST_WORKER) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future, job in running.items():
            if (
                not future.cancelled()
                and not future.exception()
                and isinstance(made := future.result(), int)
            ):
                take(job, made)


@contextmanager
def _interrupts_are_ours() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, not even while they import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(slots=True)
class _Worker:
    """What a worker process holds."""

    engine: Engine
    scale: int
    stop: Event
    upscale: Callable[[Image], Image] | None = None

    def make(self, job: Job) -> int | str:
        try:
            image = read_picture(job.source)
        except DataError as error:
            return str(error)
        if max(image.shape[:2]) * self.scale > _LONGEST:
            return f"{job.source}: {self.scale} times {image.shape[1]}x{image.shape[0]} px is more than a JPEG can hold; make it smaller"
        if self.upscale is None:  # not when the process starts: what is raised there is lost
            self.upscale = upscaler(self.engine, self.scale, before_tile=self._check)
        content = BytesIO()
        Pillow.fromarray(self.upscale(image)).save(content, "JPEG", quality=QUALITY, subsampling=0)
        atomic_write(job.target, content.getvalue())
        return len(content.getvalue())

    def _check(self) -> None:
        if self.stop.is_set():
            raise InterruptedError("stopped")


_worker: _Worker | None = None


def _start(engine: Engine, scale: int, stop: Event) -> None:
    global _worker  # noqa: PLW0603  # a process has one network, for all the pictures it gets
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_follow, daemon=True).start()
    _worker = _Worker(engine, scale, stop)


def _follow() -> None:
    """End with the process that started this one, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(job: Job) -> int | str:
    assert _worker is not None
    return _worker.make(job)

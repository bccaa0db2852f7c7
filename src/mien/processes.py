"""Worker processes: how many, how they start, and how they end with the process that has them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal

from mien.progress import STOP_REQUESTED

__all__ = [
    "PATIENCE_S",
    "children_ignore_interrupts",
    "end_with_parent",
    "process_count",
    "serve",
    "usable_cores",
]

PATIENCE_S: Final = 10.0
"""Time in which a process that is told to end must have ended, s."""


def usable_cores() -> int:
    """Count the processor cores that this process may use.

    Returns:
        Their number; a container or a scheduler may give it fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_count(jobs: int | Literal["auto"]) -> int:
    """Turn a number of jobs, as a user gives it, into a number of processes.

    Args:
        jobs: A number, or ``auto``.

    Returns:
        The number; for ``auto`` one process per core.

    Raises:
        ValueError: It is neither ``auto`` nor a whole number from 1 up.
    """
    if jobs == "auto":
        return usable_cores()
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ValueError(f"jobs must be auto or a number from 1 up, got {jobs!r}")
    return jobs


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, not even while they import.

    Yields:
        Nothing.
    """
    # Only the main thread may set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def serve(work: Callable[[], None], stop_signals: tuple[str, ...]) -> None:
    """Do the work of a worker process until it ends, or the process is told to end.

    It is told so, too, when its parent has ended.

    Args:
        work: Reads what it has to do from a connection to the parent.
        stop_signals: Names of the signals that tell the process to end. The first one raises
            KeyboardInterrupt in `work` and sets `STOP_REQUESTED`.

    Raises:
        SystemExit: The process was told to end.
    """
    numbers = [getattr(signal, name) for name in stop_signals if hasattr(signal, name)]
    try:
        # A signal may come at any time from here on.
        for number in numbers:
            signal.signal(number, _stop)
        end_with_parent()
        # Of the connection: the parent needs no more answers, or has ended.
        with suppress(EOFError, OSError):
            work()
        # Nothing is left that a signal could stop.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def _stop(_number: int, _frame: object) -> None:
    # Once: a second one would disturb the cleaning up.
    if not STOP_REQUESTED.is_set():
        STOP_REQUESTED.set()
        raise KeyboardInterrupt


def end_with_parent() -> None:
    """Make this process end with the one that started it, however that ends."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    if os.name != "nt":
        # A handler of this process's own may remove what is half-written.
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE_S)
    os._exit(1)

